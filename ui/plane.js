// The plane of two ARMs: a click is a pair of weights and an answer there; the dots show how the rewards trade off.

import {viewOf} from './answer.js';
import {announce, button, byId, copy, download, h, signed} from './dom.js';
import {Points} from './points.js';
import {describe, rank} from './scale.js';
import {colourArm, server, weightOf} from './server.js';
import {setWeights} from './sliders.js';
import {choice, Square} from './square.js';
import {messagesOf, state} from './store.js';

const RANGES = {'-1 3': '\u22121 \u2026 3', '0 2': '0 \u2026 2', '0 1': '0 \u2026 1'};

let pair = []; // names of the two ARMs
let range = '-1 3';
let cursor = [0, 0];
let selected = null; // a point
let before = []; // turns of the chat that the prompt comes after
let given = ''; // the prompt that came from the chat

const weights = new Square({
    tabindex: 0, role: 'application', 'aria-roledescription': 'plane of weights', class: 'square weights', id: 'plane-square',
});
const outcomes = new Square({role: 'img', class: 'square outcomes'});
const points = new Points((answer) => viewOf(answer, () => {}), () => draw());

const snap = (x) => Math.round(x * 20) / 20;
const limits = () => range.split(' ').map(Number);
const nameOf = (point) => `${pair[0]} ${signed(point.x)}, ${pair[1]} ${signed(point.y)}`;

// ---- what happens ----

function visit(x, y) {
    const text = byId('plane-prompt').value.trim();
    if (text === '') {
        byId('plane-prompt').focus();
        return;
    }
    const messages = messagesOf(before).concat({role: 'user', content: text});
    const limit = Math.max(1, Math.round(byId('plane-limit').valueAsNumber || 96));
    selected = points.visit({x, y, pair, messages, limit});
    draw();
}

/** Nine points: a first look at the whole. */
function sweep() {
    const [lo, hi] = limits();
    const from = Math.max(lo, 0);
    for (const y of [from, (from + hi) / 2, hi]) {
        for (const x of [from, (from + hi) / 2, hi]) visit(snap(x), snap(y));
    }
}

function moveCursor(x, y) {
    const [lo, hi] = limits();
    cursor = [x, y].map((value) => Math.min(Math.max(Math.round(value * 100) / 100, lo), hi));
    weights.drawCross(...cursor);
    byId('plane-at').textContent = nameOf({x: cursor[0], y: cursor[1]});
}

function clicked(event) {
    const [lo, hi] = limits();
    const at = weights.at(event);
    const near = weights.near(points.list.map((point) => [point.x, point.y]), at);
    const [x, y] = near >= 0 ? [points.list[near].x, points.list[near].y] : at.map(snap);
    if (x < lo || x > hi || y < lo || y > hi) return;
    moveCursor(x, y);
    visit(x, y);
}

function key(event) {
    const by = event.shiftKey ? 0.01 : 0.1;
    const move = {ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, by], ArrowDown: [0, -by]}[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (move) {
        event.preventDefault();
        moveCursor(cursor[0] + move[0], cursor[1] + move[1]);
        announce(byId('plane-at').textContent);
    } else if (event.key === 'Enter' || event.key === ' ') {
        event.preventDefault();
        visit(...cursor);
    }
}

function exportPoints() {
    download('genarm-plane.json', {
        format: 'genarm plane', version: 2, model: server.model, pair, messages: points.messages, seed: points.seed,
        points: points.list.map(({x, y, answer}) => ({weights: {[pair[0]]: x, [pair[1]]: y}, answer})),
    });
}

// ---- how it looks ----

function meanOf(point) {
    return points.mean(point, colourArm(), state.view.measure);
}

/** Means differ by far less than tokens do: dots are coloured from the least of them to the most. */
function dot(point, x, y) {
    const value = meanOf(point);
    const all = points.list.map(meanOf).filter((mean) => mean !== null);
    const classes = [point === selected ? 'selected' : '', point.answer.finish === '' ? 'pending' : ''].join(' ');
    const title = value === null ? nameOf(point) : `${nameOf(point)}: mean ${signed(value, 3, true)}`;
    return {x, y, step: value === null ? 0 : rank(value, all), classes, title};
}

/** Where the answers came out: mean rewards under the two ARMs. Those that no other beats in both are joined. */
function drawOutcomes() {
    const known = points.list.filter((point) => point.answer.finish !== '' && point.answer.tokens.length > 0)
        .map((point) => ({point, at: pair.map((name) => points.mean(point, name, 'difference'))}))
        .filter(({at}) => at.every((value) => value !== null));
    byId('plane-outcomes').hidden = known.length < 2;
    if (known.length < 2) return;
    const span = (k) => {
        const values = known.map(({at}) => at[k]);
        const pad = Math.max(0.05, 0.12 * (Math.max(...values) - Math.min(...values)));
        return [Math.min(...values) - pad, Math.max(...values) + pad];
    };
    const best = known.filter(({at}) => !known.some(({at: other}) => other[0] >= at[0] && other[1] >= at[1]
        && (other[0] > at[0] || other[1] > at[1])));
    outcomes.drawAxes([...span(0), ...span(1)], pair.map((name) => `mean ${name} minus base`));
    outcomes.drawDots(known.map(({point, at}) => dot(point, ...at)), best.map(({at}) => at).sort((a, b) => a[0] - b[0]));
    const label = `Mean rewards of ${known.length} answers; ${best.length} are beaten by none in both.`;
    outcomes.element.setAttribute('aria-label', label);
}

function card(point) {
    const actions = h('div', {class: 'actions'},
        button('Use these weights', () => setWeights({[pair[0]]: point.x, [pair[1]]: point.y})),
        button('Copy', () => copy(point.answer.text)));
    return h('article', {
        class: point === selected ? 'card selected' : 'card', 'aria-label': nameOf(point),
        onclick: () => {
            if (selected === point) return;
            selected = point;
            moveCursor(point.x, point.y);
            drawDots();
            for (const one of byId('cards').children) one.classList.toggle('selected', one.contains(point.view.element));
        },
    }, point.view.element, actions);
}

function drawDots() {
    const means = points.list.map(meanOf).filter((mean) => mean !== null);
    byId('plane-scale').textContent = means.length < 2 ? '' : `Dots: mean ${describe(colourArm(), state.view.measure)}, from `
        + `${signed(Math.min(...means), 3, true)} (orange) to ${signed(Math.max(...means), 3, true)} (blue)`;
    weights.drawDots(points.list.map((point) => dot(point, point.x, point.y)));
    drawOutcomes();
}

function draw() {
    if (pair.length < 2) return;
    if (selected && !points.list.includes(selected)) selected = null;
    drawDots();
    const cards = [...points.list].reverse().sort((a, b) => (b === selected) - (a === selected));
    byId('cards').replaceChildren(...cards.map(card));
    byId('cards-empty').hidden = cards.length > 0;
    byId('plane-stop').hidden = !points.isBusy();
    byId('plane-export').disabled = points.list.length === 0;
}

function drawControls() {
    const names = server.arms.map((arm) => [arm.name, arm.name]);
    const choose = (k) => (name) => {
        if (pair[1 - k] === name) pair[1 - k] = pair[k];
        pair[k] = name;
        points.clear();
        setUp();
    };
    byId('plane-choices').replaceChildren(
        choice('Across', names, pair[0], choose(0)), choice('Up', names, pair[1], choose(1)),
        choice('Range', Object.entries(RANGES), range, (value) => { range = value; setUp(); }));
}

function setUp() {
    drawControls();
    const [lo, hi] = limits();
    weights.drawAxes([lo, hi, lo, hi], pair.map((name) => `weight of ${name}`));
    weights.element.setAttribute('aria-label', `Weights of ${pair[0]} and ${pair[1]}: arrow keys move, Enter answers there`);
    const standing = pair.map((name) => weightOf(server.arms.find((arm) => arm.name === name)));
    moveCursor(...standing);
    draw();
}

/** The prompt is what is being written in the chat, else its last question; one that was written here stays. */
function takePrompt() {
    const box = byId('plane-prompt');
    if (box.value.trim() !== '' && box.value !== given) {
        before = before.filter((turn) => state.turns.includes(turn));
        return;
    }
    const draft = byId('input').value.trim();
    const last = draft === '' ? state.turns.findLastIndex((turn) => turn.role === 'user') : -1;
    const prompt = last < 0 ? draft : state.turns[last].text;
    before = last < 0 ? state.turns.slice() : state.turns.slice(0, last);
    if (prompt === '') return;
    box.value = prompt;
    given = box.value;
}

/** When the view opens. */
export function openPlane() {
    const names = server.arms.map((arm) => arm.name);
    if (!pair.every((name) => names.includes(name)) || pair.length < 2) pair = names.slice(0, 2);
    const possible = pair.length === 2;
    byId('plane-none').hidden = possible;
    byId('plane-tools').hidden = !possible;
    if (!possible) return;
    takePrompt();
    byId('plane-before').textContent = before.length > 0 ? `after the ${before.length} earlier messages of the chat` : '';
    setUp();
}

export const stopPlane = () => points.stop();

export function recolourPlane() {
    for (const point of points.list) point.view.recolour();
    draw();
}

export function watchPlane() {
    byId('plane-map').append(weights.element);
    byId('plane-outcomes').append(outcomes.element);
    weights.element.addEventListener('click', clicked);
    weights.element.addEventListener('keydown', key);
    byId('plane-sweep').addEventListener('click', sweep);
    byId('plane-stop').addEventListener('click', stopPlane);
    byId('plane-export').addEventListener('click', exportPoints);
}
