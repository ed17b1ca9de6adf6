// The conversation: sending, answering, regenerating, editing, and its list on the page.

import {byId, button, copy, h, icon, toast} from './dom.js';
import {isRunning, newAnswer, randomSeed, run, stopAll} from './run.js';
import {currentPreferences, currentWeights, server, zeroWeights} from './server.js';
import {allAnswers, keptAnswer, messagesOf, saveTurns, state} from './store.js';
import {viewOf} from './answer.js';

let editing = null; // the user's turn that is being edited: {i, element}
let stick = true; // follows the end of the running answer

// ---- what happens ----

/** Settings as a request has them; the seed is always known, so that an answer can be had again. */
function chosenSampling() {
    const {seed, ...sampling} = state.sampling;
    return {sampling, seed: seed ?? randomSeed()};
}

async function answerLast() {
    const turn = state.turns.at(-1);
    const messages = messagesOf(state.turns.slice(0, -1));
    const common = {preferences: currentPreferences(), ...chosenSampling()};
    const answers = [newAnswer({guided: true, arms: currentWeights(), ...common})];
    if (state.view.compare && server.arms.length > 0) {
        answers.push(newAnswer({guided: false, arms: zeroWeights(), ...common, preferences: {}}));
    }
    turn.variants.push({answers, kept: 0});
    turn.shown = turn.variants.length - 1;
    stick = true;
    draw();
    await Promise.all(answers.map((answer) => run(answer, messages, viewOf(answer, follow), {steered: answer.guided})));
    saveTurns();
}

export function send(text) {
    if (text.trim() === '' || isRunning() || !server.ready) return false;
    state.turns.push({role: 'user', text: text.trim()}, {role: 'assistant', variants: [], shown: -1});
    answerLast();
    return true;
}

export function regenerate() {
    if (state.turns.length === 0 || isRunning() || !server.ready) return;
    answerLast();
}

/** Another text for the user's turn i; what followed it goes. */
function resend(i, text) {
    if (text.trim() === '' || isRunning() || !server.ready) return;
    editing = null;
    state.turns = state.turns.slice(0, i);
    send(text);
}

/** Another conversation in place of this one. */
export function replaceTurns(turns) {
    stopAll();
    editing = null;
    state.turns = turns;
    saveTurns();
    draw();
}

export function startOver() {
    const {turns} = state;
    replaceTurns([]);
    if (turns.length > 0) toast('A new conversation', () => replaceTurns(turns));
}

// ---- how it looks ----

/** Keeps the end in sight unless the reader has scrolled away from it. */
function follow() {
    const list = byId('chat');
    if (stick) list.scrollTop = list.scrollHeight;
}

function userTurn(turn, i) {
    const bubble = h('div', {class: 'bubble'}, turn.text);
    const actions = h('div', {class: 'actions'},
        button([icon('edit'), 'Edit'], () => edit(turn, i), {class: 'quiet edit'}),
        button([icon('copy'), 'Copy'], () => copy(turn.text)));
    return h('article', {class: 'turn user', 'aria-label': 'You'}, bubble, actions);
}

function edit(turn, i) {
    editing = {i, element: editor(turn, i)};
    draw();
    byId('edit').focus();
}

function editor(turn, i) {
    const area = h('textarea', {id: 'edit', rows: 3, 'aria-label': 'Your message', onkeydown: (event) => {
        if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            resend(i, area.value);
        } else if (event.key === 'Escape') {
            event.stopPropagation();
            editing = null;
            draw();
        }
    }});
    area.value = turn.text;
    return h('article', {class: 'turn user editing', 'aria-label': 'You'}, area, h('div', {class: 'actions'},
        h('span', {class: 'dim'}, 'What follows this message will be replaced.'),
        button('Cancel', () => { editing = null; draw(); }),
        button('Send again', () => resend(i, area.value), {class: 'primary small'})));
}

function pager(turn) {
    const n = turn.variants.length;
    if (n < 2) return null;
    const to = (k) => () => {
        turn.shown = k;
        saveTurns();
        draw();
    };
    return h('span', {class: 'pager'},
        button('\u2039', to(turn.shown - 1), {'aria-label': 'Previous version', disabled: turn.shown === 0}),
        h('span', {}, `${turn.shown + 1}/${n}`),
        button('\u203a', to(turn.shown + 1), {'aria-label': 'Next version', disabled: turn.shown === n - 1}));
}

function keepButton(variant, k) {
    const kept = variant.kept === k;
    return button(kept ? 'The conversation goes on from this one' : 'Go on from this one', () => {
        variant.kept = k;
        saveTurns();
        draw();
    }, {class: 'quiet keep', 'aria-pressed': String(kept)});
}

function assistantTurn(turn, isLast) {
    const variant = turn.variants[turn.shown];
    const columns = variant.answers.map((answer, k) => {
        const column = viewOf(answer, follow).element;
        return variant.answers.length === 1 ? column : h('div', {class: 'column'}, column, keepButton(variant, k));
    });
    const actions = h('div', {class: 'actions'}, pager(turn),
        isLast ? button([icon('again'), 'Regenerate'], regenerate, {class: 'quiet regenerate'}) : null,
        button([icon('copy'), 'Copy'], () => copy(keptAnswer(turn).text)));
    return h('article', {class: 'turn assistant', 'aria-label': 'Answer'},
        h('div', {class: columns.length > 1 ? 'columns' : 'single'}, ...columns), actions);
}

/** The whole list; answers and an open editor keep their elements. */
export function draw() {
    const list = byId('turns');
    const focused = editing?.element.contains(document.activeElement) ? document.activeElement : null;
    list.replaceChildren(...state.turns.map((turn, i) => {
        if (turn.role === 'assistant') return assistantTurn(turn, i === state.turns.length - 1);
        return editing?.i === i ? editing.element : userTurn(turn, i);
    }));
    focused?.focus({preventScroll: true});
    byId('welcome').hidden = state.turns.length > 0;
    follow();
}

export function recolourAll() {
    for (const answer of allAnswers(state.turns)) viewOf(answer, follow).recolour();
}

export function watchScroll() {
    const list = byId('chat');
    let top = 0;
    list.addEventListener('scroll', () => {
        const end = list.scrollHeight - list.clientHeight - list.scrollTop < 24;
        if (end) stick = true;
        else if (list.scrollTop < top) stick = false;
        top = list.scrollTop;
    }, {passive: true});
}
