#include "guide/gbnf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/strset.h"
#include "base/utf8.h"

enum { DEPTH_MAX = 200, REPEAT_MAX = 10000, ELEMENTS_MAX = 1 << 20, NAME_MAX_BYTES = 200 };

/* A rule while it is read. */
struct draft {
    struct element *elements;
    int32_t n, max;
};

struct name {
    const char *text;
    size_t n;
    const char *first_use;
    bool defined;
};

struct parser {
    const char *text, *at;
    struct gbnf g;
    int32_t max_elements, max_rules, max_classes, max_ranges, max_named;
    struct name *names; /* [g.n_rules]; without a text: of a rule that was made */
    struct strset by_name;
    int32_t *named; /* [by_name.n] their rules */
    struct genarm_error *err;
    int depth;
};

/* ---- errors and room ---- */

static int fail_at(const struct parser *p, const char *at, const char *what) {
    int line = 1, column = 1;
    for (const char *c = p->text; c < at; c++) {
        const bool newline = *c == '\n';
        line += newline;
        column = newline ? 1 : column + (((unsigned char)*c & 0xC0) != 0x80);
    }
    const int rc = error_set(p->err, GENARM_EFORMAT, "line %d, column %d of the grammar: %s", line, column, what);
    return error_hint(p->err, rc,
                      "a rule is NAME ::= ALTERNATIVE | ALTERNATIVE of \"literals\", [classes], names and (groups)");
}

static int fail(const struct parser *p, const char *what) { return fail_at(p, p->at, what); }

/* The array with room for one more item; as it was, and *rc set, without memory. */
static void *room(void *items, int32_t n, int32_t *max, size_t size, int *rc, const struct parser *p) {
    if (*rc != GENARM_OK || n < *max) {
        return items;
    }
    const int32_t wanted = *max ? 2 * *max : 16;
    void *bigger = realloc(items, (size_t)wanted * size);
    if (!bigger) {
        *rc = error_nomem(p->err, "a grammar");
        return items;
    }
    *max = wanted;
    return bigger;
}

static int add_element(struct parser *p, struct draft *d, enum element_kind kind, int32_t value) {
    if (d->n == ELEMENTS_MAX) {
        return fail(p, "the rule is too long");
    }
    int rc = GENARM_OK;
    d->elements = room(d->elements, d->n, &d->max, sizeof *d->elements, &rc, p);
    if (rc == GENARM_OK) {
        d->elements[d->n++] = (struct element){kind, value};
    }
    return rc;
}

/* A rule that has no alternatives yet. Its index, or a negative code. */
static int new_rule(struct parser *p, const char *name, size_t n) {
    int32_t max_names = p->max_rules;
    int rc = GENARM_OK;
    p->names = room(p->names, p->g.n_rules, &max_names, sizeof *p->names, &rc, p);
    p->g.starts = room(p->g.starts, p->g.n_rules, &p->max_rules, sizeof *p->g.starts, &rc, p);
    if (rc != GENARM_OK) {
        return rc;
    }
    p->names[p->g.n_rules] = (struct name){name, n, p->at, false};
    return p->g.n_rules++;
}

/* Gives a rule its alternatives and frees the draft. */
static int define(struct parser *p, int32_t rule, struct draft *d, int rc) {
    rc = rc == GENARM_OK ? add_element(p, d, ELEMENT_END, 0) : rc;
    p->names[rule].defined = true;
    p->g.starts[rule] = p->g.n_elements;
    for (int32_t i = 0; i < d->n && rc == GENARM_OK; i++) {
        rc = p->g.n_elements < ELEMENTS_MAX ? GENARM_OK : fail(p, "the grammar is too large");
        p->g.elements = room(p->g.elements, p->g.n_elements, &p->max_elements, sizeof *p->g.elements, &rc, p);
        if (rc == GENARM_OK) {
            p->g.elements[p->g.n_elements++] = d->elements[i];
        }
    }
    free(d->elements);
    *d = (struct draft){0};
    return rc;
}

/* ---- characters ---- */

static void skip_space(struct parser *p, bool newlines) {
    for (;; p->at++) {
        if (*p->at == '#') {
            p->at += strcspn(p->at, "\r\n");
        }
        if (!*p->at || !strchr(newlines ? " \t\r\n" : " \t", *p->at)) {
            return;
        }
    }
}

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static int hex(struct parser *p, int n, uint32_t *c) {
    static const char digits[] = "0123456789abcdefABCDEF";
    *c = 0;
    for (int i = 0; i < n; i++) {
        const char *digit = *p->at ? strchr(digits, *p->at) : NULL;
        if (!digit) {
            return fail(p, n == 2 ? "\\x needs two hexadecimal digits" : n == 4 ? "\\u needs four" : "\\U needs eight");
        }
        *c = *c << 4 | (uint32_t)(digit - digits - (digit - digits > 15 ? 6 : 0));
        p->at++;
    }
    return *c > 0x10FFFF || (*c >= 0xD800 && *c <= 0xDFFF) ? fail(p, "that is no character") : GENARM_OK;
}

/* What follows a backslash. */
static int escape(struct parser *p, uint32_t *c) {
    static const char kinds[] = "nrt\\\"[]-", meanings[] = "\n\r\t\\\"[]-";
    const char kind = *p->at;
    const char *known = kind ? strchr(kinds, kind) : NULL;
    if (known) {
        p->at++;
        *c = (uint32_t)meanings[known - kinds];
        return GENARM_OK;
    }
    if (kind != 'x' && kind != 'u' && kind != 'U') {
        return fail(p, "unknown escape; known are \\n \\r \\t \\\\ \\\" \\[ \\] \\- \\x \\u \\U");
    }
    p->at++;
    return hex(p, kind == 'x' ? 2 : kind == 'u' ? 4 : 8, c);
}

/* One character of a literal or class; the text is UTF-8. */
static int character(struct parser *p, uint32_t *c) {
    if (*p->at == '\\') {
        p->at++;
        return escape(p, c);
    }
    const size_t n = utf8_char(p->at, strnlen(p->at, 4));
    *c = (unsigned char)*p->at & (n == 1 ? 0x7Fu : 0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        *c = *c << 6 | ((unsigned char)p->at[i] & 0x3Fu);
    }
    p->at += n;
    return GENARM_OK;
}

static int add_range(struct parser *p, uint32_t low, uint32_t high) {
    int rc = GENARM_OK;
    p->g.ranges = room(p->g.ranges, p->g.n_ranges, &p->max_ranges, sizeof *p->g.ranges, &rc, p);
    if (rc == GENARM_OK) {
        p->g.ranges[p->g.n_ranges++] = (struct char_range){low, high};
    }
    return rc;
}

/* A class of the ranges from `first` on. */
static int add_class(struct parser *p, struct draft *d, int32_t first, bool negated) {
    int rc = GENARM_OK;
    p->g.classes = room(p->g.classes, p->g.n_classes, &p->max_classes, sizeof *p->g.classes, &rc, p);
    if (rc != GENARM_OK) {
        return rc;
    }
    p->g.classes[p->g.n_classes++] = (struct char_class){first, p->g.n_ranges - first, negated};
    return add_element(p, d, ELEMENT_CLASS, p->g.n_classes - 1);
}

/* ---- items ---- */

static int literal(struct parser *p, struct draft *d) {
    const char *start = p->at++;
    int rc = GENARM_OK;
    while (rc == GENARM_OK && *p->at != '"') {
        uint32_t c = 0;
        if (!*p->at || *p->at == '\n') {
            return fail_at(p, start, "the literal has no end");
        }
        rc = character(p, &c);
        rc = rc == GENARM_OK ? add_range(p, c, c) : rc;
        rc = rc == GENARM_OK ? add_class(p, d, p->g.n_ranges - 1, false) : rc;
    }
    p->at += rc == GENARM_OK;
    return rc;
}

static int class_range(struct parser *p) {
    uint32_t low = 0, high;
    const char *start = p->at;
    int rc = character(p, &low);
    high = low;
    if (rc == GENARM_OK && p->at[0] == '-' && p->at[1] && p->at[1] != ']') {
        p->at++;
        rc = character(p, &high);
    }
    if (rc == GENARM_OK && high < low) {
        rc = fail_at(p, start, "the range ends before it begins");
    }
    return rc == GENARM_OK ? add_range(p, low, high) : rc;
}

static int class_item(struct parser *p, struct draft *d) {
    const char *start = p->at++;
    const bool negated = *p->at == '^';
    const int32_t first = p->g.n_ranges;
    int rc = GENARM_OK;
    p->at += negated;
    while (rc == GENARM_OK && *p->at != ']') {
        rc = !*p->at || *p->at == '\n' ? fail_at(p, start, "the class has no end") : class_range(p);
    }
    if (rc == GENARM_OK && first == p->g.n_ranges && !negated) {
        rc = fail_at(p, start, "the class has no character");
    }
    p->at += rc == GENARM_OK;
    return rc == GENARM_OK ? add_class(p, d, first, negated) : rc;
}

/* The rule of a name, which may be defined later. */
static int named_rule(struct parser *p) {
    const char *start = p->at;
    while (is_word(*p->at)) {
        p->at++;
    }
    const size_t n = (size_t)(p->at - start);
    if (n > NAME_MAX_BYTES) {
        return fail_at(p, start, "the name is too long");
    }
    size_t known;
    int rc = strset_add(&p->by_name, start, n, &known, p->err);
    if (rc <= 0) {
        return rc < 0 ? rc : p->named[known];
    }
    rc = GENARM_OK;
    const int32_t i = (int32_t)p->by_name.n - 1;
    p->named = room(p->named, i, &p->max_named, sizeof *p->named, &rc, p);
    if (rc != GENARM_OK) {
        return rc;
    }
    p->at = start;
    const int rule = new_rule(p, start, n);
    p->at = start + n;
    p->named[i] = rule;
    return rule;
}

static int alternatives(struct parser *p, struct draft *d, bool nested);

static int group(struct parser *p, struct draft *d) {
    const char *start = p->at++;
    struct draft inner = {0};
    const int rule = new_rule(p, NULL, 0);
    if (rule < 0) {
        return rule;
    }
    if (++p->depth > DEPTH_MAX) {
        return fail_at(p, start, "groups are nested too deeply");
    }
    skip_space(p, true);
    int rc = alternatives(p, &inner, true);
    p->depth--;
    if (rc == GENARM_OK && *p->at != ')') {
        rc = *p->at ? fail(p, "expected ')' or an item") : fail_at(p, start, "the group has no end");
    }
    p->at += rc == GENARM_OK;
    rc = define(p, rule, &inner, rc);
    return rc == GENARM_OK ? add_element(p, d, ELEMENT_RULE, rule) : rc;
}

/* ---- repetitions ---- */

/* R ::= item next | nothing, where next is an optional rule. A negative `next` means none, `self` R itself. */
static int optional_rule(struct parser *p, struct element item, int32_t next, bool self) {
    struct draft d = {0};
    const int rule = new_rule(p, NULL, 0);
    if (rule < 0) {
        return rule;
    }
    int rc = add_element(p, &d, item.kind, item.value);
    if (rc == GENARM_OK && (self || next >= 0)) {
        rc = add_element(p, &d, ELEMENT_RULE, self ? rule : next);
    }
    rc = rc == GENARM_OK ? add_element(p, &d, ELEMENT_OR, 0) : rc;
    rc = define(p, rule, &d, rc);
    return rc == GENARM_OK ? rule : rc;
}

/* Makes the elements from `first` on one element. */
static int as_one(struct parser *p, struct draft *d, int32_t first, struct element *item) {
    *item = d->elements[first];
    if (d->n == first + 1) {
        d->n = first;
        return GENARM_OK;
    }
    struct draft inner = {0};
    const int rule = new_rule(p, NULL, 0);
    int rc = rule < 0 ? rule : GENARM_OK;
    for (int32_t i = first; i < d->n && rc == GENARM_OK; i++) {
        rc = add_element(p, &inner, d->elements[i].kind, d->elements[i].value);
    }
    d->n = first;
    *item = (struct element){ELEMENT_RULE, rule};
    if (rule < 0) {
        return rule;
    }
    return define(p, rule, &inner, rc);
}

/* least copies of an item, then up to most - least more; most -1: any number. */
static int repeat(struct parser *p, struct draft *d, int32_t first, int32_t least, int32_t most) {
    struct element item;
    if (first < 0 || first == d->n) {
        return fail(p, "there is nothing to repeat");
    }
    int rc = as_one(p, d, first, &item);
    for (int32_t i = 0; i < least && rc == GENARM_OK; i++) {
        rc = add_element(p, d, item.kind, item.value);
    }
    int32_t rule = -1;
    for (int32_t i = least; i < most && rc == GENARM_OK; i++) {
        rule = optional_rule(p, item, rule, false);
        rc = rule < 0 ? rule : GENARM_OK;
    }
    if (most < 0 && rc == GENARM_OK) {
        rule = optional_rule(p, item, -1, true);
        rc = rule < 0 ? rule : GENARM_OK;
    }
    return rc == GENARM_OK && rule >= 0 ? add_element(p, d, ELEMENT_RULE, rule) : rc;
}

/* A number up to REPEAT_MAX. */
static int count(struct parser *p, int32_t *n, bool nested) {
    const char *start = p->at;
    int32_t x = 0;
    while (*p->at >= '0' && *p->at <= '9' && x <= REPEAT_MAX) {
        x = 10 * x + (*p->at++ - '0');
    }
    if (p->at == start || x > REPEAT_MAX) {
        return fail_at(p, start, p->at == start ? "expected a number of repetitions" : "more than 10000 repetitions");
    }
    *n = x;
    skip_space(p, nested);
    return GENARM_OK;
}

/* {m}, {m,} or {m,n} */
static int braces(struct parser *p, int32_t *least, int32_t *most, bool nested) {
    const char *start = p->at++;
    skip_space(p, nested);
    int rc = count(p, least, nested);
    *most = *least;
    if (rc == GENARM_OK && *p->at == ',') {
        p->at++;
        *most = -1;
        skip_space(p, nested);
        rc = *p->at == '}' ? GENARM_OK : count(p, most, nested);
    }
    if (rc == GENARM_OK && *p->at != '}') {
        rc = fail(p, "expected '}': repetitions are {m}, {m,} or {m,n}");
    }
    if (rc == GENARM_OK && *most >= 0 && *most < *least) {
        rc = fail_at(p, start, "more repetitions at least than at most");
    }
    p->at += rc == GENARM_OK;
    return rc;
}

/* Whether the text goes on with a repetition, which is read. */
static int repetition(struct parser *p, struct draft *d, int32_t first, bool nested) {
    int32_t least = *p->at == '+', most = *p->at == '?' ? 1 : -1;
    if (*p->at == '{') {
        const int rc = braces(p, &least, &most, nested);
        return rc == GENARM_OK ? repeat(p, d, first, least, most) : rc;
    }
    const int rc = repeat(p, d, first, least, most);
    p->at += rc == GENARM_OK;
    return rc;
}

/* ---- sequences and rules ---- */

static int item(struct parser *p, struct draft *d) {
    if (*p->at == '"') {
        return literal(p, d);
    }
    if (*p->at == '[') {
        return class_item(p, d);
    }
    if (*p->at == '(') {
        return group(p, d);
    }
    if (*p->at == '.') {
        p->at++;
        return add_class(p, d, p->g.n_ranges, true);
    }
    const int rule = named_rule(p);
    return rule < 0 ? rule : add_element(p, d, ELEMENT_RULE, rule);
}

static int sequence(struct parser *p, struct draft *d, bool nested) {
    int32_t first = -1; /* of the last item */
    int rc = GENARM_OK;
    while (rc == GENARM_OK && *p->at) {
        if (strchr("*+?{", *p->at)) {
            rc = repetition(p, d, first, nested);
        } else if (strchr("\"[(.", *p->at) || is_word(*p->at)) {
            first = d->n;
            rc = item(p, d);
        } else if (*p->at == '<' || *p->at == '!') {
            rc = fail(p, "tokens as items, <name>, are not supported: write the text");
        } else {
            break;
        }
        skip_space(p, nested);
    }
    return rc;
}

static int alternatives(struct parser *p, struct draft *d, bool nested) {
    int rc = sequence(p, d, nested);
    while (rc == GENARM_OK && *p->at == '|') {
        p->at++;
        skip_space(p, true);
        rc = add_element(p, d, ELEMENT_OR, 0);
        rc = rc == GENARM_OK ? sequence(p, d, nested) : rc;
    }
    return rc;
}

static int rule_line(struct parser *p) {
    const char *start = p->at;
    struct draft d = {0};
    if (!is_word(*p->at)) {
        return fail(p, "expected the name of a rule");
    }
    const int rule = named_rule(p);
    if (rule < 0) {
        return rule;
    }
    if (p->names[rule].defined) {
        return fail_at(p, start, "the rule is defined twice");
    }
    skip_space(p, false);
    if (strncmp(p->at, "::=", 3) != 0) {
        return fail(p, "expected ::=");
    }
    p->at += 3;
    skip_space(p, true);
    int rc = define(p, rule, &d, alternatives(p, &d, false));
    if (rc == GENARM_OK && *p->at && *p->at != '\n' && *p->at != '\r') {
        rc = fail(p, "expected an item, '|' or the end of the line");
    }
    skip_space(p, true);
    return rc;
}

/* ---- the whole ---- */

static int check_names(struct parser *p) {
    p->g.root = -1;
    for (int32_t i = 0; i < p->g.n_rules; i++) {
        const struct name *name = &p->names[i];
        if (!name->defined) {
            char what[NAME_MAX_BYTES + 40];
            snprintf(what, sizeof what, "no rule is called \"%.*s\"", (int)name->n, name->text);
            return fail_at(p, name->first_use, what);
        }
        if (name->n == 4 && memcmp(name->text, "root", 4) == 0) {
            p->g.root = i;
        }
    }
    return p->g.root >= 0 ? GENARM_OK : fail_at(p, p->text, "no rule is called \"root\", which stands for the whole answer");
}

static int check_recursion(const struct parser *p) {
    int32_t rule = -1;
    const int rc = gbnf_left_recursive(&p->g, &rule, p->err);
    return rc != GENARM_OK || rule < 0 ? rc
                                       : fail_at(p, p->names[rule].first_use,
                                                 "a rule calls itself before any character (left recursion)");
}

int gbnf_parse(struct gbnf *out, const char *text, struct genarm_error *err) {
    struct parser p = {.text = text, .at = text, .err = err};
    int rc = utf8_valid(text, strlen(text)) ? GENARM_OK : error_set(err, GENARM_EFORMAT, "the grammar is not UTF-8");
    if (rc == GENARM_OK) {
        skip_space(&p, true);
    }
    while (rc == GENARM_OK && *p.at) {
        rc = rule_line(&p);
    }
    rc = rc == GENARM_OK ? check_names(&p) : rc;
    rc = rc == GENARM_OK ? check_recursion(&p) : rc;
    strset_deinit(&p.by_name);
    free(p.named);
    free(p.names);
    if (rc != GENARM_OK) {
        gbnf_deinit(&p.g);
        return rc;
    }
    *out = p.g;
    return GENARM_OK;
}

void gbnf_deinit(struct gbnf *g) {
    free(g->elements);
    free(g->starts);
    free(g->classes);
    free(g->ranges);
    *g = (struct gbnf){0};
}

static bool ranges_meet(const struct gbnf *g, const struct char_class *c, uint32_t low, uint32_t high) {
    for (int32_t i = c->first; i < c->first + c->n; i++) {
        if (g->ranges[i].low <= high && g->ranges[i].high >= low) {
            return true;
        }
    }
    return false;
}

static bool ranges_cover(const struct gbnf *g, const struct char_class *c, uint32_t low, uint32_t high) {
    uint32_t free_from = low; /* nothing before it in [low, high] is outside the ranges */
    for (bool moved = true; moved && free_from <= high;) {
        moved = false;
        for (int32_t i = c->first; i < c->first + c->n; i++) {
            if (g->ranges[i].low <= free_from && g->ranges[i].high >= free_from) {
                free_from = g->ranges[i].high + 1;
                moved = true;
            }
        }
    }
    return free_from > high;
}

bool class_meets(const struct gbnf *g, int32_t class_index, uint32_t low, uint32_t high) {
    const struct char_class *c = &g->classes[class_index];
    return c->negated ? !ranges_cover(g, c, low, high) : ranges_meet(g, c, low, high);
}

bool class_covers(const struct gbnf *g, int32_t class_index, uint32_t low, uint32_t high) {
    const struct char_class *c = &g->classes[class_index];
    return c->negated ? !ranges_meet(g, c, low, high) : ranges_cover(g, c, low, high);
}
