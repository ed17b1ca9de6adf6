// What the server said about itself, and weights and preferences as they are set: those of the page, else the server's.

import {state} from './store.js';

export const server = {ready: false, model: '', slots: 1, context: 0, build: '', arms: [], defaults: {}};

export function learn({props, arms}) {
    const settings = props.default_generation_settings ?? {};
    Object.assign(server, {
        ready: true, arms, model: props.model_alias || 'model', slots: props.total_slots || 1, build: props.build_info ?? '',
        context: settings.n_ctx ?? 0, defaults: settings.params ?? {},
    });
}

export function weightOf(arm) {
    return Object.hasOwn(state.weights, arm.name) ? state.weights[arm.name] : arm.weight;
}

export const currentWeights = () => Object.fromEntries(server.arms.map((arm) => [arm.name, weightOf(arm)]));
export const zeroWeights = () => Object.fromEntries(server.arms.map((arm) => [arm.name, 0]));
export const hasObjectives = (arm) => (arm.objectives?.length ?? 0) > 1;

/** As the sliders stand: the server divides by the sum. Remembered may be objectives that the ARM no longer has. */
export function preferenceOf(arm) {
    const kept = Object.hasOwn(state.preferences, arm.name) ? state.preferences[arm.name] : {};
    if (!arm.objectives.some((name) => Object.hasOwn(kept, name))) return arm.preference;
    return Object.fromEntries(arm.objectives.map((name) => [name, Math.min(Math.max(kept[name] ?? 0, 0), 1)]));
}

/** Of a request: only what differs from the server's. All zeros prefer nothing and are left out. */
export function currentPreferences() {
    return Object.fromEntries(server.arms.filter((arm) => hasObjectives(arm) && Object.hasOwn(state.preferences, arm.name))
        .map((arm) => [arm.name, preferenceOf(arm)])
        .filter(([, preference]) => Object.values(preference).some((x) => x > 0)));
}

/** The ARM that tokens are coloured by. */
export function colourArm() {
    const {arm} = state.view;
    if (arm !== null && (arm === '' || server.arms.some((one) => one.name === arm))) return arm;
    return server.arms[0]?.name ?? '';
}
