// The server: JSON, its errors, the key, and the event stream of an answer. URLs are relative, so that a proxy may serve the page
// below a path of its own.

export class ApiError extends Error {
    constructor(status, message, retryAfter = 0) {
        super(message);
        this.status = status;
        this.retryAfter = retryAfter;
    }
}

const KEY = 'genarm.key';
const LOST = 'The connection was lost before the answer ended.';
let askKey = async () => null;

/** `ask` shows a dialog and resolves to a key, or null if there will be none. */
export function onKeyNeeded(ask) {
    let asked = null; // several requests share one dialog
    askKey = () => {
        asked ??= ask().finally(() => { asked = null; });
        return asked;
    };
}

let currentKey = '';
try {
    currentKey = sessionStorage.getItem(KEY) ?? '';
} catch {
    // the browser keeps nothing for this site
}

export const getKey = () => currentKey;

function setKey(key) {
    currentKey = key;
    try {
        sessionStorage.setItem(KEY, key);
    } catch {
        // as above: until the page is left
    }
}

async function errorOf(response) {
    let message = `${response.status} ${response.statusText}`.trim();
    try {
        message = (await response.json()).error?.message ?? message;
    } catch {
        // not ours, a proxy's perhaps: the status says enough
    }
    return new ApiError(response.status, message, Number(response.headers.get('Retry-After')) || 0);
}

async function request(path, {body, signal} = {}) {
    for (;;) {
        const headers = {};
        const key = getKey();
        if (key) headers.Authorization = `Bearer ${key}`;
        if (body !== undefined) headers['Content-Type'] = 'application/json';
        let response;
        try {
            response = await fetch(path, {
                method: body === undefined ? 'GET' : 'POST', headers, signal, cache: 'no-store',
                body: body === undefined ? undefined : JSON.stringify(body),
            });
        } catch (error) {
            if (error.name === 'AbortError') throw error;
            throw new ApiError(0, 'The server cannot be reached.');
        }
        if (response.ok) return response;
        if (response.status !== 401) throw await errorOf(response);
        if (key === getKey()) { // else another request has been given a new one meanwhile
            const given = await askKey();
            if (given === null) throw await errorOf(response);
            setKey(given);
        }
    }
}

export const get = async (path) => (await request(path)).json();
export const post = async (path, body, signal) => (await request(path, {body, signal})).json();

/** The data of server-sent events, from a stream of bytes. */
export async function* events(stream) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    let data = [];
    try {
        for (;;) {
            const {value, done} = await reader.read().catch((error) => {
                throw error.name === 'AbortError' ? error : new ApiError(0, LOST);
            });
            if (done) return;
            const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
            rest = lines.pop();
            for (const line of lines) {
                if (line === '') {
                    if (data.length > 0) yield data.join('\n');
                    data = [];
                } else if (line.startsWith('data:')) {
                    data.push(line.slice(line[5] === ' ' ? 6 : 5));
                }
            }
        }
    } finally {
        reader.cancel().catch(() => {});
    }
}

const wait = (seconds, signal) => new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener('abort', () => {
        clearTimeout(timer);
        reject(new DOMException('stopped', 'AbortError'));
    }, {once: true});
});

/** The chunks of a chat completion. While the server is loading or its queue is full, waits and says so through `waiting`. */
export async function* chat(body, {signal, waiting}) {
    let response;
    for (let tries = 0; response === undefined; tries++) {
        try {
            response = await request('v1/chat/completions', {body, signal});
        } catch (error) {
            if (error.status !== 503 || tries === 60) throw error;
            waiting(error.message);
            await wait(Math.min(error.retryAfter || 1, 10), signal);
        }
    }
    let ended = false;
    for await (const text of events(response.body)) {
        if (text === '[DONE]') {
            ended = true;
            break;
        }
        const chunk = JSON.parse(text);
        if (chunk.error) throw new ApiError(chunk.error.code ?? 500, chunk.error.message ?? 'The server reports an error.');
        yield chunk;
    }
    if (!ended) throw new ApiError(0, LOST);
}

/** Resolves to what the server says about itself as soon as it answers; `say` hears why it does not yet, and may return a promise
 *  of when to try again. */
export async function connect(say) {
    for (;;) {
        try {
            await get('health');
            const [props, arms] = await Promise.all([get('props'), get('arms')]);
            return {props, arms};
        } catch (error) {
            await (say(error.status) ?? wait(1));
        }
    }
}
