// What the page remembers: the conversation, settings and weights, in localStorage as far as they fit, and as a file.
//
//   turns: [{role: 'user', text}, {role: 'assistant', variants: [{answers: [guided, unguided?], kept: 0}], shown: 0}, ...]
//   answer: {guided, arms, changes: [{at, arms}], preferences, seed, sampling, tokens, text, finish, error, speed}
//   token: {text, bytes?, logprob, base, arms: {NAME: x}, top: [{text, logprob, base, arms}]}, log-probabilities in nats

const SETTINGS = 'genarm.page';
const TURNS = 'genarm.turns'; // apart, for they are long and change less often
const LIMIT = 2_000_000; // characters; browsers keep about five million
const FILE_LIMIT = 64_000_000;

export const WEIGHT_LIMIT = 100; // of a weight, up and down

/** Settings of sampling: what the page remembers or reads has no others, and none that the server would refuse. */
export const SAMPLING = {
    temperature: {min: 0, max: 5, step: 0.05},
    top_p: {min: 0, max: 1, step: 0.01},
    top_k: {min: 0, max: 1000000, step: 1},
    min_p: {min: 0, max: 0.99, step: 0.01},
    max_tokens: {min: 1, max: 1000000, step: 1},
    seed: {min: 0, max: 4294967295, step: 1},
};

/** What has a step of 1 is whole. */
export function isSampling(name, x) {
    if (!Object.hasOwn(SAMPLING, name)) return false;
    const {min, max, step} = SAMPLING[name];
    return x >= min && x <= max && (step < 1 || Number.isInteger(x));
}

export const state = fresh();

function fresh() {
    return {
        system: '',
        sampling: {}, // what differs from the server's defaults
        weights: {},
        preferences: {},
        view: {coloured: true, arm: null, measure: 'difference', compare: false, panel: true},
        draft: '',
        turns: [],
    };
}

/** The answer that the conversation goes on from. */
export function keptAnswer(turn) {
    const variant = turn.variants[turn.shown];
    return variant.answers[variant.kept];
}

export function allAnswers(turns) {
    return turns.flatMap((turn) => (turn.variants ?? []).flatMap((variant) => variant.answers));
}

/** The messages of a request for an answer after `turns`. Answers that ended without a word are none: models go on with such. */
export function messagesOf(turns) {
    const system = state.system.trim() === '' ? [] : [{role: 'system', content: state.system}];
    return system.concat(turns.filter((turn) => turn.role === 'user' || keptAnswer(turn).text !== '')
        .map((turn) => ({role: turn.role, content: turn.role === 'user' ? turn.text : keptAnswer(turn).text})));
}

// ---- reading what may be anybody's ----

const isObject = (x) => typeof x === 'object' && x !== null && !Array.isArray(x);
const string = (x) => (typeof x === 'string' ? x : '');
const number = (x, otherwise = null) => (typeof x === 'number' && Number.isFinite(x) ? x : otherwise);
const list = (x, read) => (Array.isArray(x) ? x.filter(isObject).map(read) : []);

function numbers(x) {
    return Object.fromEntries(Object.entries(isObject(x) ? x : {}).filter(([, value]) => number(value) !== null));
}

function readSampling(x) {
    return Object.fromEntries(Object.entries(numbers(x)).filter(([name, value]) => isSampling(name, value)));
}

function readWeights(x) {
    return Object.fromEntries(Object.entries(numbers(x)).filter(([, value]) => Math.abs(value) <= WEIGHT_LIMIT));
}

function readPart(x) {
    return {text: string(x.text), logprob: number(x.logprob, 0), base: number(x.base), arms: numbers(x.arms)};
}

function readToken(x) {
    const token = {...readPart(x), top: list(x.top, readPart)};
    if (Array.isArray(x.bytes)) token.bytes = x.bytes.map((byte) => number(byte, 0) & 255);
    return token;
}

function readPreferences(x) {
    return Object.fromEntries(Object.entries(isObject(x) ? x : {}).map(([name, value]) => [name, numbers(value)]));
}

function readAnswer(x) {
    return {
        guided: x.guided !== false,
        arms: numbers(x.arms),
        changes: list(x.changes, (change) => ({at: number(change.at, 0), arms: numbers(change.arms)})),
        preferences: readPreferences(x.preferences),
        seed: number(x.seed),
        sampling: numbers(x.sampling),
        tokens: list(x.tokens, readToken),
        text: string(x.text),
        finish: string(x.finish) || 'interrupted',
        error: string(x.error),
        speed: number(x.speed),
    };
}

function readTurn(x) {
    if (x.role === 'user') return {role: 'user', text: string(x.text)};
    const variants = list(x.variants, (variant) => {
        const answers = list(variant.answers, readAnswer).slice(0, 2);
        return {answers, kept: variant.kept === 1 && answers.length === 2 ? 1 : 0};
    }).filter((variant) => variant.answers.length > 0);
    return {role: 'assistant', variants, shown: Math.min(Math.max(0, number(x.shown, 0) | 0), variants.length - 1)};
}

/** Questions with their answers: one without the other is left out. */
function readTurns(x) {
    return list(x, readTurn).filter((turn) => turn.role === 'user' || turn.variants.length > 0)
        .filter((turn, i, all) => (turn.role === 'user' ? all[i + 1]?.role === 'assistant' : all[i - 1]?.role === 'user'));
}

// ---- localStorage ----

function remembered(place) {
    try {
        return JSON.parse(localStorage.getItem(place));
    } catch {
        return null; // written by something else: begin anew
    }
}

export function load() {
    state.turns = readTurns(remembered(TURNS));
    const saved = remembered(SETTINGS);
    if (!isObject(saved)) return;
    const view = isObject(saved.view) ? saved.view : {};
    Object.assign(state, {
        system: string(saved.system), sampling: readSampling(saved.sampling), weights: readWeights(saved.weights),
        preferences: readPreferences(saved.preferences), draft: string(saved.draft),
        view: {
            coloured: view.coloured !== false, compare: view.compare === true, panel: view.panel !== false,
            arm: typeof view.arm === 'string' ? view.arm : null,
            measure: view.measure === 'logprob' ? 'logprob' : 'difference',
        },
    });
}

/** The turns as text, as much as fits: first old answers lose what is known of their tokens, then the oldest turns go. */
function bounded(limit) {
    const size = (value) => JSON.stringify(value).length;
    let {turns} = state;
    let text = JSON.stringify(turns);
    let excess = text.length - limit;
    if (excess <= 0) return text;
    const without = new Set();
    for (const answer of allAnswers(turns)) {
        if (excess <= 0) break;
        without.add(answer);
        excess -= size(answer.tokens);
    }
    const stringify = () => JSON.stringify(turns, (key, part) => (without.has(part) ? {...part, tokens: []} : part));
    text = stringify();
    while (text.length > limit && turns.length > 0) {
        turns = turns.slice(2);
        text = stringify();
    }
    return text;
}

export function saveTurns() {
    for (let limit = LIMIT; limit > 1000; limit /= 2) {
        try {
            localStorage.setItem(TURNS, bounded(limit));
            return;
        } catch {
            // the browser grants less than usual, or nothing at all
        }
    }
}

let saveTimer = 0;

/** Everything but the turns: soon, once for many changes. */
export function save() {
    clearTimeout(saveTimer);
    saveTimer = setTimeout(saveSettings, 300);
}

/** What is to be saved soon. */
export function saveSettingsNow() {
    if (saveTimer !== 0) saveSettings();
}

function saveSettings() {
    clearTimeout(saveTimer);
    saveTimer = 0;
    const {turns, ...settings} = state;
    try {
        localStorage.setItem(SETTINGS, JSON.stringify(settings));
    } catch {
        // as above
    }
}

// ---- files ----

export function exported(model) {
    return {
        format: 'genarm conversation', version: 1, model, exported: new Date().toISOString(),
        system: state.system, sampling: state.sampling, weights: state.weights, preferences: state.preferences,
        turns: state.turns,
    };
}

/** What a file says: the members of the state that belong to a conversation. Throws with a reason. */
export function imported(text) {
    if (text.length > FILE_LIMIT) throw new Error('The file is too large.');
    let file;
    try {
        file = JSON.parse(text);
    } catch {
        throw new Error('This is no JSON file.');
    }
    if (!isObject(file) || file.format !== 'genarm conversation') throw new Error('This is no conversation exported here.');
    if (file.version !== 1) throw new Error(`Version ${string(String(file.version))} of such files is not known here.`);
    return {
        system: string(file.system), sampling: readSampling(file.sampling), weights: readWeights(file.weights),
        preferences: readPreferences(file.preferences), turns: readTurns(file.turns),
    };
}
