// What each part thought of a token: a table of the likeliest alternatives with their probabilities under the mixture, the base
// and every ARM. It follows the pointer or the focus; a click or a tap pins it.

import {byId, h, signed} from './dom.js';
import {percent, reward} from './scale.js';
import {colourArm} from './server.js';
import {tokenOf, weightsAt} from './tokens.js';

let current = null; // the element that it is about
let pinned = false;
let timer = 0;

/** A token's text with what cannot be seen made visible. */
function visible(text) {
    return text.replace(/ /g, '\u2423').replace(/\n/g, '\u21b5').replace(/\t/g, '\u21e5') || '\u2205';
}

function cell(logprob) {
    if (typeof logprob !== 'number') return h('td', {class: 'none'}, '\u2013');
    const bar = h('span', {class: 'bar', 'aria-hidden': 'true'});
    bar.style.setProperty('--p', Math.exp(logprob));
    return h('td', {}, bar, h('span', {class: 'p'}, percent(logprob)));
}

function row(part, names, drawn) {
    return h('tr', {class: drawn ? 'drawn' : null},
        h('th', {scope: 'row'}, h('span', {class: 'piece'}, visible(part.text)),
            drawn ? h('span', {class: 'sr'}, ' (drawn)') : null),
        cell(part.logprob), cell(part.base), ...names.map((name) => cell(part.arms[name])));
}

function table(token, names) {
    const same = (part) => part.text === token.text && part.logprob === token.logprob;
    const rows = token.top.map((part) => row(part, names, same(part)));
    if (!token.top.some(same)) rows.push(row(token, names, true));
    const heads = ['mixture', 'base', ...names].map((name) => h('th', {scope: 'col', title: name}, name));
    return h('div', {class: 'scroll'}, h('table', {}, h('thead', {}, h('tr', {}, h('th', {scope: 'col'}, 'token'), ...heads)),
        h('tbody', {}, ...rows)));
}

function fill(pop, {answer, i, token}) {
    const names = Object.keys(token.arms);
    const arm = colourArm();
    const rewards = names.map((name) => {
        const value = reward(token, name, 'difference');
        return h('span', {class: name === arm ? 'chip on' : 'chip'}, `${name} `,
            h('b', {}, value === null ? '\u2013' : signed(value, 2, true)));
    });
    const weights = Object.entries(weightsAt(answer, i)).map(([name, weight]) => `${name} ${signed(weight)}`).join(', ');
    pop.replaceChildren(
        h('p', {class: 'head'}, h('span', {class: 'piece big'}, visible(token.text)),
            h('span', {class: 'dim'}, `token ${i + 1}`)),
        names.length > 0 ? h('p', {class: 'chips'}, h('span', {class: 'dim'}, 'minus base, nats: '), ...rewards) : '',
        table(token, names),
        weights === '' ? '' : h('p', {class: 'dim'}, `Weights here: ${weights}`));
}

function place(pop) {
    const at = current.getClientRects()[0] ?? current.getBoundingClientRect();
    const box = pop.getBoundingClientRect();
    const gap = 8;
    const left = Math.min(Math.max(gap, at.left), Math.max(gap, innerWidth - box.width - gap));
    const below = at.bottom + gap + box.height <= innerHeight || at.top < box.height + gap;
    pop.style.left = `${left}px`;
    pop.style.top = `${below ? Math.min(at.bottom + gap, innerHeight - box.height - gap) : at.top - box.height - gap}px`;
}

function show(element) {
    clearTimeout(timer);
    const what = tokenOf(element);
    if (!what) return;
    const pop = byId('pop');
    if (current !== element) {
        current?.removeAttribute('aria-describedby');
        current = element;
        element.setAttribute('aria-describedby', 'pop');
        fill(pop, what);
    }
    pop.showPopover();
    place(pop);
}

/** Is there one to hide? */
export function hidePopover() {
    clearTimeout(timer);
    if (current === null) return false;
    current.removeAttribute('aria-describedby');
    current.classList.remove('pinned');
    current = null;
    pinned = false;
    byId('pop').hidePopover();
    return true;
}

const later = (what, milliseconds) => {
    clearTimeout(timer);
    timer = setTimeout(what, milliseconds);
};

function clicked(event) {
    const element = event.target.closest('.t');
    if (element === null) {
        if (!event.target.closest('#pop')) hidePopover();
    } else if (pinned && element === current) {
        hidePopover();
    } else {
        hidePopover();
        show(element);
        element.classList.add('pinned');
        pinned = true;
    }
}

/** For all tokens, present and future. */
export function watchTokens() {
    const pop = byId('pop');
    document.addEventListener('pointerover', (event) => {
        if (event.pointerType !== 'mouse' || pinned) return;
        const element = event.target.closest('.t');
        if (element) later(() => show(element), 90);
        else if (event.target.closest('#pop')) clearTimeout(timer);
        else if (current) later(hidePopover, 180);
    });
    document.addEventListener('click', clicked);
    document.addEventListener('focusin', (event) => {
        if (event.target.matches('.t:focus-visible')) {
            hidePopover();
            show(event.target);
        }
    });
    document.addEventListener('focusout', (event) => {
        if (event.target === current && !pinned) hidePopover();
    });
    document.addEventListener('scroll', (event) => {
        if (current === null || pop.contains(event.target)) return;
        const at = current.getBoundingClientRect();
        if (!current.isConnected || at.bottom < 0 || at.top > innerHeight) hidePopover();
        else place(pop);
    }, {capture: true, passive: true});
    addEventListener('resize', hidePopover);
}
