// A square chart of two quantities: axes, dots, a cross-hair, and which point the pointer means.

import {h, signed, svg} from './dom.js';

const SIZE = 400;
const LEFT = 66;
const BOTTOM = 46;
const TOP = 12;
const WIDTH = LEFT + SIZE + 14;
const HEIGHT = TOP + SIZE + BOTTOM;

/** About six round numbers from lo to hi, as [value, text]. */
function ticks(lo, hi) {
    const rough = (hi - lo) / 5;
    const power = 10 ** Math.floor(Math.log10(rough));
    const unit = power * ([1, 2, 5].find((k) => k * power >= rough) ?? 10);
    const out = [];
    const digits = Math.max(0, -Math.floor(Math.log10(unit) + 1e-9));
    for (let k = Math.ceil(lo / unit - 1e-9); k * unit <= hi + 1e-9; k++) out.push([k * unit, signed(k * unit, digits)]);
    return out;
}

export class Square {
    constructor(props) {
        this.axes = svg('g', {class: 'axes'});
        this.marks = svg('g');
        this.cross = svg('g', {class: 'cross', 'aria-hidden': 'true'});
        this.element = svg('svg', {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, ...props}, this.axes, this.marks, this.cross);
        this.range = [0, 1, 0, 1];
    }

    x(value) {
        return LEFT + (SIZE * (value - this.range[0])) / (this.range[1] - this.range[0]);
    }

    y(value) {
        return TOP + SIZE - (SIZE * (value - this.range[2])) / (this.range[3] - this.range[2]);
    }

    /** The pair of values under a pointer. */
    at(event) {
        const box = this.element.getBoundingClientRect();
        const [x0, x1, y0, y1] = this.range;
        const px = ((event.clientX - box.left) / box.width) * WIDTH;
        const py = ((event.clientY - box.top) / box.height) * HEIGHT;
        return [x0 + ((px - LEFT) / SIZE) * (x1 - x0), y0 + ((TOP + SIZE - py) / SIZE) * (y1 - y0)];
    }

    /** Of [x, y] pairs the index of the one that a finger would mean, or -1. */
    near(pairs, [x, y]) {
        const distances = pairs.map((pair) => Math.hypot(this.x(pair[0]) - this.x(x), this.y(pair[1]) - this.y(y)));
        const best = distances.indexOf(Math.min(...distances));
        return best >= 0 && distances[best] < 12 ? best : -1;
    }

    drawAxes(range, labels) {
        this.range = range;
        const [x0, x1, y0, y1] = range;
        const line = (from, to, value) => svg('line', {
            x1: from[0], y1: from[1], x2: to[0], y2: to[1], class: Math.abs(value) < 1e-9 ? 'zero' : null,
        });
        const parts = [svg('rect', {x: LEFT, y: TOP, width: SIZE, height: SIZE})];
        for (const [tick, text] of ticks(x0, x1)) {
            parts.push(line([this.x(tick), TOP], [this.x(tick), TOP + SIZE], tick),
                svg('text', {x: this.x(tick), y: TOP + SIZE + 17, 'text-anchor': 'middle'}, text));
        }
        for (const [tick, text] of ticks(y0, y1)) {
            parts.push(line([LEFT, this.y(tick)], [LEFT + SIZE, this.y(tick)], tick),
                svg('text', {x: LEFT - 8, y: this.y(tick) + 4, 'text-anchor': 'end'}, text));
        }
        const upright = `translate(13 ${TOP + SIZE / 2}) rotate(-90)`;
        parts.push(svg('text', {x: LEFT + SIZE / 2, y: HEIGHT - 8, class: 'label', 'text-anchor': 'middle'}, labels[0]),
            svg('text', {class: 'label', 'text-anchor': 'middle', transform: upright}, labels[1]));
        this.axes.replaceChildren(...parts);
    }

    /** dots: [{x, y, step, title, classes}]; `line`: pairs to be joined. */
    drawDots(dots, line = []) {
        const path = line.map((pair) => `${this.x(pair[0])},${this.y(pair[1])}`).join(' ');
        this.marks.replaceChildren(line.length > 1 ? svg('polyline', {points: path, class: 'front'}) : '',
            ...dots.map((dot) => svg('circle', {
                cx: this.x(dot.x), cy: this.y(dot.y), r: 8, class: `dot ${dot.classes}`, 'data-step': dot.step,
            }, svg('title', {}, dot.title))));
    }

    drawCross(x, y) {
        this.cross.replaceChildren(
            svg('line', {x1: this.x(x), y1: TOP, x2: this.x(x), y2: TOP + SIZE}),
            svg('line', {x1: LEFT, y1: this.y(y), x2: LEFT + SIZE, y2: this.y(y)}));
    }
}

/** A labelled choice: options are [value, text] pairs. */
export function choice(label, options, value, change) {
    const select = h('select', {onchange: () => change(select.value)},
        ...options.map(([key, text]) => h('option', {value: key, selected: key === value}, text)));
    return h('label', {class: 'choice'}, h('span', {}, label), select);
}
