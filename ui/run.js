// Answers that are being written: from a request to its last token, and weights that change meanwhile.

import {ApiError, chat, post} from './api.js';
import {server} from './server.js';

const running = new Set(); // {answer, view, steered, controller, id, wanted, sending}
const PAUSE = 60; // milliseconds between two changes of weights

let tellAll = () => {};

/** `tell` hears of every answer that starts or ends; {lost: true}: the server cannot be reached any more. */
export function onRuns(tell) {
    tellAll = tell;
}

export const isRunning = () => running.size > 0;
export const isSteered = () => [...running].some((one) => one.steered);
export const runsOf = (answer) => [...running].find((run) => run.answer === answer);

const round = (x) => (typeof x === 'number' ? Math.round(x * 1e4) / 1e4 : null);
const encoder = new TextEncoder();

const rounded = (arms) => Object.fromEntries(Object.entries(arms ?? {}).map(([name, value]) => [name, round(value)]));

function part(x) {
    return {text: x.token, logprob: round(x.logprob), base: round(x.parts?.base), arms: rounded(x.parts?.arms)};
}

/** A token of the API as it is kept. Bytes only where the text does not say them: in the midst of a character. */
function tokenOf(x) {
    const token = {...part(x), top: (x.top_logprobs ?? []).map(part)};
    const spelled = encoder.encode(x.token);
    if (x.bytes && (spelled.length !== x.bytes.length || spelled.some((byte, i) => byte !== x.bytes[i]))) token.bytes = x.bytes;
    return token;
}

export const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

export function newAnswer({guided, arms, preferences, seed, sampling}) {
    return {
        guided, arms, changes: [], preferences, seed, sampling, tokens: [], text: '', finish: '', error: '', speed: null,
    };
}

function take(run, chunk) {
    const {answer, view} = run;
    if (run.id === null) {
        run.id = chunk.id;
        sendWeights(run);
    }
    for (const choice of chunk.choices ?? []) {
        answer.text += choice.delta?.content ?? '';
        answer.tokens.push(...(choice.logprobs?.content ?? []).map(tokenOf));
        if (choice.finish_reason) answer.finish = choice.finish_reason;
        view.progress();
    }
    const rate = chunk.timings?.predicted_per_second;
    if (typeof rate === 'number') answer.speed = rate;
}

/** Fills `answer`, telling `view`, until it ends; what goes wrong is in answer.error. Sliders act on it if it is `steered`. */
export async function run(answer, messages, view, {steered}) {
    const one = {answer, view, steered, controller: new AbortController(), id: null, wanted: null, sending: false};
    running.add(one);
    const body = {
        messages, stream: true, logprobs: true, top_logprobs: 5, ...answer.sampling, seed: answer.seed, arms: answer.arms,
    };
    if (Object.keys(answer.preferences).length > 0) body.preferences = answer.preferences;
    let lost = false;
    view.start();
    tellAll();
    try {
        const stream = chat(body, {signal: one.controller.signal, waiting: (why) => view.waiting(why)});
        for await (const chunk of stream) take(one, chunk);
    } catch (error) {
        if (error.name === 'AbortError') {
            answer.finish = 'stopped';
        } else {
            answer.finish = 'error';
            lost = error.status === 0;
            answer.error = error instanceof ApiError ? error.message : `The page could not read the answer: ${error.message}`;
        }
    } finally {
        running.delete(one);
        view.end();
        tellAll({lost});
    }
}

export function stopAll() {
    for (const one of running) one.controller.abort();
}

/** New weights for the next tokens of the answers that are steered. Of many in a short time the latest is sent. */
export function steer(weights) {
    for (const one of running) {
        if (!one.steered) continue;
        one.wanted = weights;
        sendWeights(one);
    }
}

async function sendWeights(one) {
    if (one.sending || one.wanted === null || one.id === null) return;
    one.sending = true;
    while (one.wanted !== null && running.has(one)) {
        const wanted = one.wanted;
        one.wanted = null;
        try {
            const reply = await post(`v1/requests/${encodeURIComponent(one.id)}/arms`, wanted);
            const at = reply.n_tokens?.[0] ?? one.answer.tokens.length;
            one.answer.changes = one.answer.changes.filter((change) => change.at !== at).concat({at, arms: rounded(reply.arms)});
            one.view.progress();
        } catch (error) {
            if (error.status !== 404) one.view.trouble(error.message); // 404: it has just ended
        }
        await new Promise((resolve) => { setTimeout(resolve, PAUSE); });
    }
    one.sending = false;
}

const STREAMS = 3; // of the six connections that browsers keep to a server: two are for the chat, one for new weights

/** Runs tasks, as many at once as the server has slots, and leaves connections to the chat. */
export class Queue {
    waiting = [];
    busy = 0;

    add(task) {
        this.waiting.push(task);
        this.next();
    }

    clear() {
        this.waiting = [];
    }

    async next() {
        if (this.busy >= Math.min(server.slots, STREAMS) || this.waiting.length === 0) return;
        this.busy++;
        try {
            await this.waiting.shift()();
        } finally {
            this.busy--;
            this.next();
        }
    }
}
