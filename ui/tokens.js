// The tokens of an answer as text: coloured by a reward, each reachable by pointer and by arrow keys, with what is known of it.

import {h, signed} from './dom.js';
import {reward, step} from './scale.js';

/** What an answer's weights were when token i was drawn. */
export function weightsAt(answer, i) {
    return answer.changes.filter((change) => change.at <= i).at(-1)?.arms ?? answer.arms;
}

const owners = new WeakMap(); // the element of a token -> its view

/** {answer, i, token} of an element that shows a token. */
export function tokenOf(element) {
    const view = owners.get(element?.parentElement);
    if (!view || element.dataset.i === undefined) return null;
    const i = Number(element.dataset.i);
    return {answer: view.answer, i, token: view.answer.tokens[i]};
}

export class TokenView {
    constructor(answer) {
        this.answer = answer;
        this.elements = [];
        this.decoder = new TextDecoder('utf-8', {ignoreBOM: true});
        this.marks = new Map(); // index of a token -> the mark before it
        this.element = h('div', {
            class: 'tokens', role: 'group', 'aria-label': 'Answer by tokens: arrow keys move from one to the next',
            onkeydown: (event) => this.key(event), onfocusin: (event) => this.focused(event.target),
        });
        owners.set(this.element, this);
    }

    /** Appends what has come since. */
    update(arm, measure) {
        const {tokens} = this.answer;
        const fresh = document.createDocumentFragment();
        for (let i = this.elements.length; i < tokens.length; i++) {
            const token = tokens[i];
            const bytes = token.bytes ? new Uint8Array(token.bytes) : new TextEncoder().encode(token.text);
            const text = this.decoder.decode(bytes, {stream: true});
            // A space before a word has no colour: at the end of a line it would be seen alone.
            const word = text.trimStart() === '' ? text : text.replace(/^ +/, '');
            const element = h('span', {
                class: 't', 'data-i': i, tabindex: i === 0 ? 0 : -1,
                'data-part': text === '' && bytes.length > 0, 'data-break': /^\s*\n/.test(text),
            }, word);
            this.colour(element, token, arm, measure);
            this.elements.push(element);
            fresh.append(text.slice(0, text.length - word.length), element);
        }
        this.element.append(fresh);
        this.mark();
    }

    colour(element, token, arm, measure) {
        const value = reward(token, arm, measure);
        if (value === null) element.removeAttribute('data-step');
        else element.dataset.step = step(value, arm, measure);
    }

    recolour(arm, measure) {
        this.elements.forEach((element, i) => this.colour(element, this.answer.tokens[i], arm, measure));
    }

    /** Thin lines where the weights changed. */
    mark() {
        for (const {at, arms} of this.answer.changes) {
            if (this.marks.has(at) || at >= this.elements.length) continue;
            const list = Object.entries(arms).map(([name, weight]) => `${name} ${signed(weight)}`).join(', ');
            const mark = h('span', {class: 'mark', 'data-at': at, title: `From here: ${list}`});
            this.marks.set(at, mark);
            this.elements[at].before(mark);
        }
    }

    /** One stop of the Tab key for all tokens. */
    focused(element) {
        if (!element.matches('.t')) return;
        for (const other of this.element.querySelectorAll('.t[tabindex="0"]')) other.tabIndex = -1;
        element.tabIndex = 0;
    }

    key(event) {
        const here = Number(event.target.dataset?.i);
        const last = this.elements.length - 1;
        const to = {ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: last}[event.key];
        if (Number.isNaN(here) || to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
        event.preventDefault();
        this.elements[Math.min(Math.max(to, 0), last)].focus();
    }
}
