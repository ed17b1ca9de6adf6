// The page as a whole: what is shown, the keyboard, and how it finds the server.

import {connect, getKey, onKeyNeeded} from './api.js';
import {draw, recolourAll, regenerate, replaceTurns, send, startOver, watchScroll} from './chat.js';
import {announce, byId, download, h, toast} from './dom.js';
import {openPlane, recolourPlane, stopPlane, watchPlane} from './plane.js';
import {hidePopover, watchTokens} from './popover.js';
import {isRunning, onRuns, runsOf, stopAll} from './run.js';
import {BASE, describe, ends} from './scale.js';
import {colourArm, learn, server} from './server.js';
import {drawSettings, watchSettings} from './settings.js';
import {drawSliders, tell, watchSliders} from './sliders.js';
import {allAnswers, exported, imported, load, save, saveSettingsNow, saveTurns, state} from './store.js';

const narrow = matchMedia('(max-width: 860px)');

// ---- the view ----

function showView(plane) {
    hidePopover();
    byId('plane').hidden = !plane;
    byId('chat').hidden = plane;
    byId('composer').hidden = plane;
    byId('to-plane').setAttribute('aria-pressed', String(plane));
    byId('to-chat').setAttribute('aria-pressed', String(!plane));
    if (plane) openPlane();
}

function toInput() {
    showView(false);
    byId('input').focus();
}

function showPanel(open) {
    state.view.panel = open;
    document.body.classList.toggle('panel-closed', !open);
    byId('toggle-panel').setAttribute('aria-expanded', String(open));
    save();
}

function switchTheme() {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    root.dataset.theme = dark ? 'light' : 'dark';
    try {
        localStorage.setItem('genarm.theme', root.dataset.theme);
    } catch {
        // until the page is left
    }
}

function drawColours() {
    const arm = colourArm();
    const {coloured, measure} = state.view;
    byId('coloured').checked = coloured;
    byId('colour-arm').replaceChildren(
        ...server.arms.map(({name}) => h('option', {value: name, selected: name === arm}, name)),
        h('option', {value: BASE, selected: arm === BASE}, 'base model'));
    byId('colour-measure').value = arm === BASE ? 'logprob' : measure;
    byId('colour-measure').disabled = arm === BASE;
    byId('colours').classList.toggle('off', !coloured);
    const [low, high] = ends(arm, measure);
    const swatches = [-4, -3, -2, -1, 0, 1, 2, 3, 4].map((k) => h('i', {'data-step': k}));
    byId('legend').replaceChildren(h('span', {}, low), ...swatches, h('span', {}, high));
    byId('legend').setAttribute('aria-label', `From orange, ${low}, to blue, ${high}: ${describe(arm, measure)}`);
}

function recolour() {
    save();
    drawColours();
    recolourAll();
    recolourPlane();
}

/** What depends on whether an answer is running. */
function drawRunning({lost = false} = {}) {
    if (lost && server.ready) reach();
    const busy = isRunning();
    document.body.classList.toggle('busy', busy);
    byId('send').textContent = busy ? 'Stop' : 'Send';
    byId('send').title = busy ? 'Esc' : 'Enter';
    byId('send').disabled = !busy && !server.ready;
    byId('compare').disabled = server.arms.length === 0;
    tell();
}

// ---- composing ----

function fitInput() {
    const input = byId('input');
    input.style.height = 'auto';
    input.style.height = `${Math.min(input.scrollHeight, innerHeight * 0.35)}px`;
}

function stop() {
    stopPlane(); // first, else its next point would begin
    stopAll();
}

function submit() {
    const input = byId('input');
    if (!send(input.value)) return;
    announce('Answer started');
    input.value = state.draft = '';
    fitInput();
}

function watchComposer() {
    const input = byId('input');
    input.value = state.draft;
    fitInput();
    input.addEventListener('input', () => {
        state.draft = input.value;
        fitInput();
        save();
    });
    input.addEventListener('keydown', (event) => {
        if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            submit();
        }
    });
    byId('send').addEventListener('click', () => (isRunning() ? stop() : submit()));
    byId('compare').checked = state.view.compare;
    byId('compare').addEventListener('change', (event) => {
        state.view.compare = event.target.checked;
        save();
    });
}

// ---- files ----

function exportConversation() {
    download(`genarm-${new Date().toISOString().slice(0, 16).replace(/[T:]/g, '-')}.json`, exported(server.model));
}

function putIn({turns, ...settings}) {
    replaceTurns(turns);
    Object.assign(state, settings);
    save();
    drawSliders();
    drawSettings();
}

async function importConversation(event) {
    const [file] = event.target.files;
    event.target.value = '';
    if (!file) return;
    try {
        const conversation = imported(await file.text());
        const {system, sampling, weights, preferences, turns} = state;
        putIn(conversation);
        toast('Conversation imported', () => putIn({system, sampling, weights, preferences, turns}));
    } catch (error) {
        toast(error.message);
    }
}

// ---- the keyboard ----

const SHORTCUTS = [
    ['Enter', 'send the message'],
    ['Shift+Enter', 'a new line'],
    ['Esc', 'close what is open, else stop the answer'],
    ['Alt+R', 'regenerate', 'KeyR', regenerate],
    ['Alt+M', 'to the message', 'KeyM', toInput],
    ['Alt+W', 'to the weights', 'KeyW', () => { showPanel(true); document.querySelector('#arms input')?.focus(); }],
    ['Alt+C', 'colours on or off', 'KeyC', () => byId('coloured').click()],
    ['Alt+B', 'unguided answer beside the guided one', 'KeyB', () => byId('compare').click()],
    ['Alt+P', 'chat or plane', 'KeyP', () => showView(byId('plane').hidden)],
    ['Alt+S', 'sliders and settings', 'KeyS', () => showPanel(!state.view.panel)],
    ['Alt+N', 'a new conversation', 'KeyN', () => { startOver(); toInput(); }],
    ['Alt+E', 'export', 'KeyE', exportConversation],
    ['Alt+T', 'light or dark', 'KeyT', switchTheme],
    ['Alt+K', 'this list', 'KeyK', () => byId('help-dialog').showModal()],
    ['\u2190 \u2192', 'on a slider: by 0.01; Page up, Page down: by 0.1'],
    ['\u2190 \u2192 Home End', 'on a token: from one to the next'],
    ['Arrows, Enter', 'on the plane: move by 0.1 (Shift: 0.01), answer there'],
];

/** On a Mac, Option and a letter write a character, or an accent for the next one: in a text field they are no shortcut. */
function writes({target, key, code}) {
    return /^(Mac|iP)/.test(navigator.platform) && target.matches('textarea, input:not([type=range], [type=checkbox])')
        && (key === 'Dead' || (key.length === 1 && `Key${key.toUpperCase()}` !== code));
}

function watchKeys() {
    byId('shortcuts').replaceChildren(...SHORTCUTS.flatMap(([keys, what]) => [
        h('dt', {}, ...keys.split(/(\+|, )/).map((part) => (part === '+' || part === ', ' ? part : h('kbd', {}, part)))),
        h('dd', {}, what),
    ]));
    addEventListener('keydown', (event) => {
        if (document.querySelector('dialog[open]')) return;
        if (event.key === 'Escape') {
            if (!hidePopover()) stop();
            return;
        }
        const found = event.altKey && !event.ctrlKey && !event.metaKey && SHORTCUTS.find(([, , code]) => code === event.code);
        if (!found || writes(event)) return;
        event.preventDefault();
        found[3]();
    });
}

function watchButtons() {
    const on = (id, what) => byId(id).addEventListener('click', what);
    on('to-chat', () => showView(false));
    on('to-plane', () => showView(true));
    on('new', startOver);
    on('export', exportConversation);
    on('import', () => byId('file').click());
    byId('file').addEventListener('change', importConversation);
    on('theme', switchTheme);
    on('help', () => byId('help-dialog').showModal());
    on('help-ok', () => byId('help-dialog').close());
    on('key-cancel', () => byId('key-dialog').close());
    on('toggle-panel', () => showPanel(!state.view.panel));
    byId('coloured').addEventListener('change', (event) => { state.view.coloured = event.target.checked; recolour(); });
    byId('colour-arm').addEventListener('change', (event) => { state.view.arm = event.target.value; recolour(); });
    byId('colour-measure').addEventListener('change', (event) => { state.view.measure = event.target.value; recolour(); });
}

// ---- the server ----

/** Resolves to a key, or null if the dialog is closed without. */
function askKey() {
    const dialog = byId('key-dialog');
    const input = byId('key');
    input.value = getKey();
    dialog.returnValue = '';
    dialog.showModal();
    input.select();
    return new Promise((resolve) => {
        dialog.addEventListener('close', () => resolve(dialog.returnValue === 'given' ? input.value.trim() : null), {once: true});
    });
}

function say(status) {
    const text = {
        0: 'The server cannot be reached. Trying again\u2026',
        401: 'The server asks for a key. ',
        503: 'The model is loading\u2026',
    };
    const banner = byId('banner');
    banner.hidden = false;
    banner.textContent = text[status] ?? `The server answers with status ${status}. Trying again\u2026`;
    byId('status').dataset.state = status === 503 ? 'loading' : 'down';
    byId('model-name').textContent = status === 503 ? 'loading\u2026' : 'no connection';
    if (status !== 401) return null;
    return new Promise((resolve) => {
        banner.append(h('button', {type: 'button', class: 'small', onclick: resolve}, 'Enter the key'));
    });
}

async function start() {
    load();
    onKeyNeeded(askKey);
    onRuns(drawRunning);
    watchComposer();
    watchKeys();
    watchButtons();
    watchScroll();
    watchSliders();
    watchSettings();
    watchTokens();
    watchPlane();
    showPanel(state.view.panel && !narrow.matches);
    byId('system-box').open = state.system !== '';
    drawColours();
    drawSettings();
    drawRunning();
    draw();
    addEventListener('pagehide', () => { // only what is not saved yet: other tabs may have saved since
        saveSettingsNow();
        if (allAnswers(state.turns).some(runsOf)) saveTurns();
    });

    await reach();
}

/** Now, or as soon as there is a server. */
async function reach() {
    server.ready = false;
    drawRunning();
    learn(await connect(say));
    byId('banner').hidden = true;
    byId('status').dataset.state = 'ready';
    byId('model-name').textContent = byId('model-name').title = server.model;
    byId('about').textContent = `${server.build} \u00b7 context ${server.context} tokens \u00b7 ${server.slots} slots`;
    document.title = `${server.model} \u00b7 genarm`;
    drawSliders();
    drawSettings();
    drawRunning();
    recolour();
}

start();
