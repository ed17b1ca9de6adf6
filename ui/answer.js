// One answer on the page: its weights, its text (by tokens or plain), and what came of it.

import {announce, h, signed} from './dom.js';
import {markdown} from './markdown.js';
import {runsOf} from './run.js';
import {mean} from './scale.js';
import {colourArm} from './server.js';
import {state} from './store.js';
import {TokenView, weightsAt} from './tokens.js';

const REASONS = {length: 'cut off at the limit', stopped: 'stopped', interrupted: 'interrupted', error: ''};
const views = new WeakMap();

/** The view of an answer, the same one however often the page is drawn. `grown` is called when its height may have changed. */
export function viewOf(answer, grown) {
    if (!views.has(answer)) views.set(answer, new AnswerView(answer, grown));
    return views.get(answer);
}

class AnswerView {
    constructor(answer, grown) {
        this.answer = answer;
        this.grown = grown;
        this.tokens = null;
        this.frame = 0;
        this.note = '';
        this.weights = h('span', {class: 'weights'});
        this.body = h('div', {class: 'body'});
        this.stats = h('p', {class: 'stats'});
        this.error = h('p', {class: 'error', role: 'alert', hidden: true});
        this.element = h('div', {
            class: answer.guided ? 'answer guided' : 'answer unguided', role: 'group',
            'aria-label': answer.guided ? 'Guided answer' : 'Unguided answer',
        },
            h('header', {}, h('span', {class: 'who'}, answer.guided ? 'Guided' : 'Unguided'), this.weights),
            this.body, this.error, this.stats);
        this.draw();
    }

    // ---- what a run tells ----

    queued() {
        this.note = 'waiting for its turn\u2026';
        this.soon();
    }

    start() {
        this.element.classList.add('running');
        this.note = 'waiting for the first token\u2026';
        this.soon();
    }

    waiting(why) {
        this.note = `the server says: ${why} \u2013 trying again\u2026`;
        this.soon();
    }

    /** There is more of the answer, or its weights have changed. */
    progress() {
        if (this.answer.text !== '') this.note = '';
        this.soon();
    }

    trouble(message) {
        this.note = message;
        this.soon();
    }

    end() {
        cancelAnimationFrame(this.frame);
        this.frame = 0;
        this.note = '';
        this.element.classList.remove('running');
        this.draw();
        this.grown();
        const {answer} = this;
        const what = answer.guided ? 'Answer' : 'Unguided answer';
        announce(answer.error ? `${what} ended: ${answer.error}` : `${what} ended. ${answer.text}`);
    }

    // ---- drawing ----

    /** Once a frame at most. */
    soon() {
        if (this.frame !== 0) return;
        const draw = () => {
            this.frame = 0;
            this.draw();
            this.grown();
        };
        this.frame = document.hidden ? setTimeout(draw, 250) : requestAnimationFrame(draw);
    }

    draw() {
        const {answer} = this;
        const arm = colourArm();
        if (state.view.coloured && (answer.tokens.length > 0 || runsOf(answer))) {
            if (this.tokens === null) {
                this.tokens = new TokenView(answer);
                this.body.replaceChildren(this.tokens.element);
            }
            this.tokens.update(arm, state.view.measure);
        } else {
            this.tokens = null;
            this.body.replaceChildren(h('div', {class: 'plain'}, ...markdown(answer.text)));
        }
        this.drawWeights();
        this.drawStats(arm);
        this.error.hidden = answer.error === '';
        this.error.textContent = answer.error;
    }

    drawWeights() {
        const {answer} = this;
        const drawn = answer.tokens.length;
        const last = Object.entries(weightsAt(answer, drawn - 1));
        const changed = answer.changes.some((change) => change.at < drawn) ? ', changed while it ran' : '';
        const list = last.map(([name, x]) => `${name} ${signed(x)}`).join(' \u00b7 ');
        this.weights.textContent = answer.guided ? list + changed : 'all weights 0';
    }

    drawStats(arm) {
        const {answer} = this;
        const {measure} = state.view;
        const reward = mean(answer.tokens, arm, measure);
        const parts = [
            answer.tokens.length > 0 ? `${answer.tokens.length} tokens` : '',
            answer.speed ? `${answer.speed.toFixed(answer.speed < 10 ? 1 : 0)}/s` : '',
            answer.seed === null ? '' : `seed ${answer.seed}`,
            reward === null ? '' : `mean ${arm === '' ? 'log-prob. base' : arm} ${signed(reward, 2, measure === 'difference')}`,
            REASONS[answer.finish] ?? '',
            this.note,
        ];
        this.stats.replaceChildren(...parts.filter((part) => part !== '').map((part) => h('span', {}, part)));
    }

    /** After the choice of colours has changed. */
    recolour() {
        if (state.view.coloured && this.tokens !== null) this.tokens.recolour(colourArm(), state.view.measure);
        this.draw();
    }
}
