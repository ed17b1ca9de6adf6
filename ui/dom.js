// Elements without markup: what a model, an ARM or a person wrote only ever becomes text.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, props, children) {
    for (const [name, value] of Object.entries(props)) {
        if (value === null || value === undefined || value === false) continue;
        if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
        else element.setAttribute(name, value === true ? '' : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
}

/** h('button', {class: 'small', onclick: f}, 'Copy'): strings become text nodes. */
export function h(tag, props = {}, ...children) {
    return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function svg(tag, props = {}, ...children) {
    return fill(document.createElementNS(SVG, tag), props, children);
}

/** A symbol of index.html. */
export function icon(name) {
    return svg('svg', {class: 'icon', 'aria-hidden': 'true'}, svg('use', {href: `#i-${name}`}));
}

/** `label`: a text, an icon, or several of these. */
export function button(label, onclick, props = {}) {
    return h('button', {type: 'button', class: 'quiet', onclick, ...props}, ...[label].flat());
}

export const byId = (id) => document.getElementById(id);

/** A polite word to screen readers. */
export function announce(text) {
    byId('live').textContent = text;
}

let toastTimer = 0;

/** A short note that goes away by itself; `undo` takes back what it tells of. */
export function toast(text, undo = null) {
    const note = byId('toast');
    const hide = () => { note.hidden = true; };
    note.replaceChildren(text, undo ? button('Undo', () => { hide(); undo(); }) : '');
    note.hidden = false;
    clearTimeout(toastTimer);
    toastTimer = setTimeout(hide, undo ? 10000 : 3500);
}

/** The clipboard is only there on secure origins and localhost; elsewhere the old way still works. */
export async function copy(text) {
    try {
        await navigator.clipboard.writeText(text);
    } catch {
        const area = h('textarea', {class: 'offscreen', 'aria-hidden': 'true'});
        area.value = text;
        document.body.append(area);
        area.select();
        document.execCommand('copy');
        area.remove();
    }
    toast('Copied');
}

export function download(name, value) {
    const url = URL.createObjectURL(new Blob([JSON.stringify(value, null, 1)], {type: 'application/json'}));
    h('a', {href: url, download: name}).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** 1.2 as "1.20", with a true minus sign. */
export function signed(x, digits = 2, plus = false) {
    const text = Math.abs(x).toFixed(digits);
    if (Number(text) === 0) return text;
    return x < 0 ? `\u2212${text}` : plus ? `+${text}` : text;
}
