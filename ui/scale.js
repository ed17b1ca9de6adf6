// Rewards of tokens as colours: nine steps from orange over none to blue, which all common kinds of colour vision tell apart.

// Where one step ends and the next begins, in nats.
const EDGES = {
    difference: [-2, -1, -0.5, -0.15, 0.15, 0.5, 1, 2],
    logprob: [0.005, 0.02, 0.06, 0.12, 0.25, 0.4, 0.6, 0.8].map(Math.log),
};
export const BASE = ''; // in place of an ARM's name: the base model

/** The reward of a token; null where the server did not tell. */
export function reward(token, arm, measure) {
    const own = arm === BASE ? token.base : token.arms?.[arm];
    if (typeof own !== 'number') return null;
    if (arm === BASE || measure === 'logprob') return own;
    return typeof token.base === 'number' ? own - token.base : null;
}

/** -4 ... 4 */
export function step(value, arm, measure) {
    const edges = EDGES[arm === BASE ? 'logprob' : measure];
    return edges.filter((edge) => value >= edge).length - edges.length / 2;
}

/** -4 ... 4 between the least and the most of several. */
export function rank(value, values) {
    const least = Math.min(...values);
    const most = Math.max(...values);
    return most > least ? Math.round((8 * (value - least)) / (most - least)) - 4 : 0;
}

/** Mean reward of an answer's tokens; null without any. */
export function mean(tokens, arm, measure) {
    const values = tokens.map((token) => reward(token, arm, measure)).filter((x) => x !== null);
    return values.length > 0 ? values.reduce((a, b) => a + b, 0) / values.length : null;
}

/** Of what the measure is, in words. */
export function describe(arm, measure) {
    if (arm === BASE) return 'log-probability under the base model';
    return measure === 'logprob' ? `log-probability under ${arm}` : `${arm} minus base, in nats`;
}

/** The two ends of the legend. */
export function ends(arm, measure) {
    if (arm === BASE || measure === 'logprob') return ['under 0.5 %', 'over 80 %'];
    return ['\u2212\u202f2 nats', '+\u202f2 nats'];
}

export function percent(logprob) {
    const p = 100 * Math.exp(logprob);
    if (p >= 9.95) return `${p.toFixed(0)}\u202f%`;
    if (p >= 0.095) return `${p.toFixed(1)}\u202f%`;
    return p > 0 ? '<\u202f0.1\u202f%' : '0\u202f%';
}
