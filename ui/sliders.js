// A slider for each ARM, and for each objective of those that have some. They act on the running answer from its next token, and
// on the answers after it.

import {button, byId, h, icon} from './dom.js';
import {isSteered, steer} from './run.js';
import {currentWeights, hasObjectives, preferenceOf, server, weightOf} from './server.js';
import {save, state, WEIGHT_LIMIT} from './store.js';

const RANGE = {min: -1, max: 3, step: 0.01};
const POINTER_STEP = 0.05; // a hand is coarser than the arrow keys

const setters = new Map(); // name of an ARM -> shows a weight set elsewhere
let pointerDown = false;

/** A range and a number that show the same value. `set` hears of changes by hand; returns {element, show}. */
function slider({label, value, min, max, limit, reset, set}) {
    const range = h('input', {type: 'range', min, max, step: RANGE.step, 'aria-label': label});
    const number = h('input', {type: 'number', step: 'any', min: limit[0], max: limit[1], 'aria-label': `${label}, value`});
    range.style.setProperty('--zero', -min / (max - min));
    const show = (x) => {
        range.value = x;
        range.setAttribute('aria-valuetext', x.toFixed(2));
        range.style.setProperty('--at', (Math.min(Math.max(x, min), max) - min) / (max - min));
        if (document.activeElement !== number) number.value = x.toFixed(2);
    };
    const change = (x) => {
        show(x);
        set(x);
    };
    range.addEventListener('pointerdown', () => { pointerDown = true; });
    range.addEventListener('input', () => {
        const x = Number(range.value);
        change(pointerDown ? Math.round(x / POINTER_STEP) * POINTER_STEP : x);
    });
    range.addEventListener('keydown', (event) => {
        const by = {PageUp: 0.1, PageDown: -0.1}[event.key];
        if (by === undefined) return;
        event.preventDefault();
        change(Math.min(Math.max(Math.round((Number(range.value) + by) * 100) / 100, min), max));
    });
    number.addEventListener('input', () => {
        const x = number.valueAsNumber;
        if (x >= limit[0] && x <= limit[1]) change(x);
    });
    number.addEventListener('change', () => {
        const typed = number.valueAsNumber;
        const x = Number.isNaN(typed) ? reset() : Math.min(Math.max(typed, limit[0]), limit[1]);
        change(x);
        number.value = x.toFixed(2);
    });
    show(value);
    const again = button(icon('reset'), () => change(reset()),
        {class: 'quiet reset', 'aria-label': `Reset ${label}`, title: 'Reset'});
    return {element: h('div', {class: 'slider'}, range, number, again), show};
}

function setWeight(name, x) {
    state.weights[name] = x;
    save();
    steer(currentWeights());
    tell();
}

/** From elsewhere, for instance the plane. */
export function setWeights(weights) {
    for (const [name, x] of Object.entries(weights)) {
        setters.get(name)?.(x);
        state.weights[name] = x;
    }
    save();
    steer(currentWeights());
}

function objectives(arm) {
    const preference = {...preferenceOf(arm)};
    const shares = new Map();
    const showShares = () => {
        const sum = Object.values(preference).reduce((a, b) => a + b, 0);
        for (const [name, element] of shares) {
            element.textContent = sum > 0 ? `${Math.round((100 * preference[name]) / sum)}\u202f%` : '\u2013';
        }
    };
    const rows = arm.objectives.map((name) => {
        shares.set(name, h('span', {class: 'share'}));
        const one = slider({
            label: `${arm.name}: ${name}`, value: preference[name] ?? 0, min: 0, max: 1, limit: [0, 1],
            reset: () => arm.preference?.[name] ?? 1 / arm.objectives.length,
            set: (x) => {
                preference[name] = x;
                state.preferences[arm.name] = {...preference};
                showShares();
                save();
            },
        });
        return h('div', {class: 'objective'}, h('div', {class: 'name'}, h('span', {}, name), shares.get(name)), one.element);
    });
    showShares();
    return h('div', {class: 'objectives', role: 'group', 'aria-label': `Preference of ${arm.name}`},
        h('p', {class: 'hint'}, 'Preference among its objectives, from the next answer on'), ...rows);
}

function row(arm) {
    const one = slider({
        label: `Weight of ${arm.name}`, value: weightOf(arm), min: RANGE.min, max: RANGE.max,
        limit: [-WEIGHT_LIMIT, WEIGHT_LIMIT], reset: () => arm.weight, set: (x) => setWeight(arm.name, x),
    });
    setters.set(arm.name, one.show);
    return h('div', {class: 'arm', role: 'group', 'aria-label': arm.name},
        h('div', {class: 'name'}, h('span', {title: arm.file}, arm.name),
            arm.minus_reference ? h('span', {class: 'dim'}, 'minus its reference') : null),
        one.element, hasObjectives(arm) ? objectives(arm) : null);
}

/** What a slider does at this moment. */
export function tell() {
    const hint = byId('arms-hint');
    if (server.arms.length === 0) {
        hint.textContent = server.ready ? 'The server has no ARMs: start it with --arm NAME=FILE:WEIGHT.' : '';
    } else {
        hint.textContent = isSteered() ? 'Acts on the running answer from its next token.'
            : '0 leaves an ARM out. Move a slider while an answer runs.';
    }
    hint.classList.toggle('live', isSteered() && server.arms.length > 0);
}

export function drawSliders() {
    setters.clear();
    byId('arms').replaceChildren(...server.arms.map(row));
    tell();
}

export function watchSliders() {
    for (const name of ['pointerup', 'pointercancel']) addEventListener(name, () => { pointerDown = false; });
}
