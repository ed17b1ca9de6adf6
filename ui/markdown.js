// The little of Markdown that models write, as elements: headings, lists, quotes, code, bold, italics. Links and pictures stay
// text: nothing of an answer may make the page load or lead anywhere.

import {h} from './dom.js';

const INLINE = /(`+)(.+?)\1|\*\*(?=\S)(.+?)\*\*|\*(?=\S)([^*]+?)\*/gs;

function inline(text) {
    const out = [];
    let from = 0;
    for (const match of text.matchAll(INLINE)) {
        out.push(text.slice(from, match.index));
        if (match[2] !== undefined) out.push(h('code', {}, match[2].trim()));
        else if (match[3] !== undefined) out.push(h('strong', {}, ...inline(match[3])));
        else out.push(h('em', {}, ...inline(match[4])));
        from = match.index + match[0].length;
    }
    out.push(text.slice(from));
    return out.filter((part) => part !== '');
}

const RULE = /^\s*([-*_])(?:\s*\1){2,}\s*$/;
const BLOCKS = [
    {start: /^(#{1,6})\s+(.*)$/, make: ([, marks, text]) => h(`h${Math.min(marks.length + 2, 6)}`, {}, ...inline(text))},
    {start: RULE, make: () => h('hr')},
];
const ITEM = /^(\s*)(?:[-*+]|(\d{1,9})[.)])\s+(.*)$/;
const DEPTH = 8; // of lists and quotes in one another

/** Lines of a list from `i` on: one level; what is indented below an item belongs to it. */
function list(lines, i, depth) {
    const [, indent, number] = lines[i].match(ITEM);
    const element = number === undefined ? h('ul') : h('ol', {start: Number(number)});
    while (i < lines.length) {
        const item = RULE.test(lines[i]) ? null : lines[i].match(ITEM);
        if (!item || item[1].length < indent.length || (item[2] === undefined) !== (number === undefined)) break;
        const own = [item[3]];
        for (i++; i < lines.length && /^\s+\S/.test(lines[i]) && !(ITEM.test(lines[i])
            && lines[i].match(ITEM)[1].length <= indent.length); i++) own.push(lines[i].slice(indent.length + 2));
        element.append(h('li', {}, ...blocks(own, depth + 1)));
        if (lines[i] === '' && ITEM.test(lines[i + 1] ?? '')) i++;
    }
    return [element, i];
}

function code(lines, i) {
    const fence = lines[i].trim().match(/^(`{3,}|~{3,})/)[1];
    let end = i + 1;
    while (end < lines.length && !lines[end].trim().startsWith(fence)) end++;
    return [h('pre', {tabindex: 0}, h('code', {}, lines.slice(i + 1, end).join('\n'))), end + 1];
}

function quote(lines, i, depth) {
    let end = i;
    while (end < lines.length && lines[end].startsWith('>')) end++;
    const own = lines.slice(i, end).map((line) => line.replace(/^> ?/, ''));
    return [h('blockquote', {}, ...blocks(own, depth + 1)), end];
}

const fenced = (line) => /^\s*(`{3,}|~{3,})/.test(line);
const special = (line) => fenced(line) || line.startsWith('>') || ITEM.test(line) || BLOCKS.some(({start}) => start.test(line));

/** What is deeper than any person writes is a paragraph: marks without end would take the stack, and the page with it. */
function blocks(lines, depth) {
    if (depth > DEPTH) return [h('p', {}, ...inline(lines.join('\n')))];
    const out = [];
    for (let i = 0; i < lines.length;) {
        const block = BLOCKS.find(({start}) => start.test(lines[i]));
        let element = null;
        if (lines[i].trim() === '') i++;
        else if (block) element = block.make(lines[i++].match(block.start));
        else if (fenced(lines[i])) [element, i] = code(lines, i);
        else if (lines[i].startsWith('>')) [element, i] = quote(lines, i, depth);
        else if (ITEM.test(lines[i])) [element, i] = list(lines, i, depth);
        else {
            const from = i;
            for (i++; i < lines.length && lines[i].trim() !== '' && !special(lines[i]);) i++;
            element = h('p', {}, ...inline(lines.slice(from, i).join('\n')));
        }
        if (element) out.push(element);
    }
    return out;
}

/** Elements for a text. */
export const markdown = (text) => blocks(text.split('\n'), 0);
