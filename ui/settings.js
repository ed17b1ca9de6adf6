// How answers are drawn: an empty field leaves it to the server. And the system prompt.

import {byId, h} from './dom.js';
import {server} from './server.js';
import {isSampling, SAMPLING, save, state} from './store.js';

const FIELDS = [
    {name: 'temperature', label: 'Temperature'},
    {name: 'top_p', label: 'Top-p'},
    {name: 'top_k', label: 'Top-k'},
    {name: 'min_p', label: 'Min-p'},
    {name: 'max_tokens', inServer: 'n_predict', label: 'Max tokens', otherwise: 'no limit'},
    {name: 'seed', label: 'Seed', otherwise: 'random'},
];

/** The server's default as a field's placeholder; `otherwise` where that is none. */
function placeholder({name, inServer = name, otherwise}) {
    const value = server.defaults[inServer];
    if (otherwise && !(value >= 0)) return otherwise;
    return typeof value === 'number' ? String(Math.round(value * 1000) / 1000) : 'default';
}

function field(one) {
    const id = `set-${one.name}`;
    const input = h('input', {
        id, type: 'number', ...SAMPLING[one.name], placeholder: placeholder(one), inputmode: 'decimal',
        oninput: () => {
            const x = input.valueAsNumber;
            const fits = input.value === '' ? !input.validity.badInput : isSampling(one.name, x);
            input.setAttribute('aria-invalid', String(!fits));
            if (fits && input.value !== '') state.sampling[one.name] = x;
            else delete state.sampling[one.name];
            save();
        },
    });
    input.value = state.sampling[one.name] ?? '';
    return h('div', {class: 'field'}, h('label', {for: id}, one.label), input);
}

export function drawSettings() {
    byId('sampling').replaceChildren(...FIELDS.map(field));
    byId('system').value = state.system;
}

export function watchSettings() {
    byId('system').addEventListener('input', (event) => {
        state.system = event.target.value;
        save();
    });
}
