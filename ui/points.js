// Answers to one prompt at several pairs of weights, at one seed: what the plane shows. A change of the prompt, the pair or the
// settings begins a new set.

import {newAnswer, Queue, randomSeed, run, runsOf} from './run.js';
import {mean} from './scale.js';
import {currentPreferences, currentWeights} from './server.js';
import {state} from './store.js';

export class Points {
    list = []; // {x, y, answer, view}
    key = '';
    messages = []; // that the answers are to
    seed = 0;
    queue = new Queue();

    /** `draw` is called whenever something to be seen has changed; `viewOf` makes the view of an answer. */
    constructor(viewOf, draw) {
        this.viewOf = viewOf;
        this.draw = draw;
    }

    /** Answers at (x, y), unless there is an answer already; returns the point. */
    visit({x, y, pair, messages, limit}) {
        const {seed, max_tokens: _, ...sampling} = state.sampling;
        const preferences = currentPreferences();
        const others = {...currentWeights(), [pair[0]]: 0, [pair[1]]: 0};
        const key = JSON.stringify([pair, messages, limit, seed, sampling, preferences, others]);
        if (key !== this.key) {
            this.clear();
            this.key = key;
            this.messages = messages;
            this.seed = seed ?? randomSeed();
        }
        const known = this.list.find((point) => point.x === x && point.y === y);
        if (known && known.answer.finish !== 'error' && known.answer.finish !== 'stopped') return known;
        this.list = this.list.filter((point) => point !== known);
        const answer = newAnswer({
            guided: true, arms: {...others, [pair[0]]: x, [pair[1]]: y}, preferences, seed: this.seed,
            sampling: {...sampling, max_tokens: limit},
        });
        const point = {x, y, answer, view: this.viewOf(answer)};
        this.list.push(point);
        point.view.queued();
        this.queue.add(async () => {
            if (this.list.includes(point)) await run(answer, messages, point.view, {steered: false});
            this.draw();
        });
        this.draw();
        return point;
    }

    stop() {
        this.queue.clear();
        for (const point of this.list) runsOf(point.answer)?.controller.abort();
        this.list = this.list.filter((point) => point.answer.tokens.length > 0);
        this.draw();
    }

    clear() {
        this.stop();
        this.list = [];
        this.draw();
    }

    isBusy() {
        return this.list.some((point) => point.answer.finish === '');
    }

    mean(point, arm, measure) {
        return mean(point.answer.tokens, arm, measure);
    }
}
