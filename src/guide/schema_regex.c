/* pattern: regular expressions of ECMA-262 as text of a grammar, over the characters that a JSON string stands for.
 *
 * A pattern may match anywhere, so without ^ or $ any characters go before or after. Characters that a string must escape are
 * written with their escape. Groups, classes, alternatives, the usual escapes and all quantifiers are known; what looks ahead,
 * behind or back is refused. */
#include <stdlib.h>
#include <string.h>

#include "guide/schema_compiler.h"

enum { RANGES_MAX = 400, GROUPS_MAX = 60, REPEAT_MAX = 10000, TEXT_MAX = 1 << 20 };
static const int64_t length_top = (int64_t)1 << 40; /* lengths are cut here */

struct range {
    uint32_t low, high;
};

/* Characters, not in order until `normalise`. */
struct set {
    struct range ranges[RANGES_MAX];
    size_t n;
    unsigned kinds; /* that were added, a bit each in the order of `kind_letters` */
};

static const char kind_letters[] = "dDwWsS";

/* The one part of a pattern whose length varies, so that it can be given another. */
struct varying {
    int n;              /* how many there are; one is of use */
    bool of_characters; /* each repetition is one character */
    size_t begin, end;  /* where it is in the text */
    char *item;         /* of the arena */
    int64_t least, most;
};

struct regex {
    struct compiler *c;
    const struct shape *s;
    const char *at;
    int groups;
    struct varying varying;
};

static void fail(struct regex *r, int code, const char *what) {
    refuse(r->c, code, r->s->pattern_at, "pattern", "character %d: %s", (int)(r->at - r->s->pattern) + 1, what);
    r->at += strlen(r->at);
}

/* ---- sets of characters ---- */

static void add(struct regex *r, struct set *set, uint32_t low, uint32_t high) {
    if (set->n == RANGES_MAX) {
        fail(r, GENARM_EUNSUPPORTED, "the class has too many characters");
        return;
    }
    set->ranges[set->n++] = (struct range){low, high};
}

static int compare(const void *a, const void *b) {
    const struct range *x = a, *y = b;
    return (x->low > y->low) - (x->low < y->low);
}

/* Sorted, apart from each other. */
static void normalise(struct set *set) {
    size_t n = 0;
    qsort(set->ranges, set->n, sizeof *set->ranges, compare);
    for (size_t i = 0; i < set->n; i++) {
        if (n > 0 && set->ranges[i].low <= set->ranges[n - 1].high + 1) {
            const uint32_t high = set->ranges[i].high;
            set->ranges[n - 1].high = high > set->ranges[n - 1].high ? high : set->ranges[n - 1].high;
        } else {
            set->ranges[n++] = set->ranges[i];
        }
    }
    set->n = n;
}

static void invert(struct regex *r, struct set *set) {
    struct set *out = calloc(1, sizeof *out);
    uint32_t from = 0;
    if (!out) {
        r->c->rc = r->c->rc ? r->c->rc : error_nomem(r->c->err, "a schema");
        return;
    }
    normalise(set);
    for (size_t i = 0; i < set->n; i++) {
        if (set->ranges[i].low > from) {
            add(r, out, from, set->ranges[i].low - 1);
        }
        from = set->ranges[i].high + 1;
    }
    if (from <= 0x10FFFF) {
        add(r, out, from, 0x10FFFF);
    }
    *set = *out;
    free(out);
}

static bool has(const struct set *set, uint32_t code) {
    for (size_t i = 0; i < set->n; i++) {
        if (set->ranges[i].low <= code && code <= set->ranges[i].high) {
            return true;
        }
    }
    return false;
}

/* \d \w \s \D \W \S: characters that both ECMA-262 and Python, whose \d, \w and \s know other scripts, take for those; in a
 * negated class, all that one of them does. */
static void add_kind(struct regex *r, struct set *set, char kind, bool all) {
    static const struct kind {
        char kind, opposite;
        int n;
        struct range ranges[11];
    } kinds[] = {
        {'d', 'D', 1, {{'0', '9'}}},
        {'D', 'd', 4, {{0, '/'}, {':', 0x65F}, {0x2E80, 0xA61F}, {0xAC00, 0xD7A3}}},
        {'w', 'W', 4, {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}},
        {'W', 'w', 5, {{0, '/'}, {':', '@'}, {'[', '^'}, {'`', '`'}, {'{', 0x7F}}},
        {'s',
         'S',
         9,
         {{9, 13},
          {' ', ' '},
          {0xA0, 0xA0},
          {0x1680, 0x1680},
          {0x2000, 0x200A},
          {0x2028, 0x2029},
          {0x202F, 0x202F},
          {0x205F, 0x205F},
          {0x3000, 0x3000}}},
        {'S',
         's',
         11,
         {{0, 8},
          {14, 27},
          {'!', 0x84},
          {0x86, 0x9F},
          {0xA1, 0x167F},
          {0x1681, 0x1FFF},
          {0x200B, 0x2027},
          {0x202A, 0x202E},
          {0x2030, 0x205E},
          {0x2060, 0x2FFF},
          {0x3001, 0xFEFE}}},
    };
    struct set *one = calloc(1, sizeof *one);
    if (!one) {
        r->c->rc = r->c->rc ? r->c->rc : error_nomem(r->c->err, "a schema");
        return;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        for (int k = 0; k < kinds[i].n && (all ? kinds[i].opposite : kinds[i].kind) == kind; k++) {
            add(r, one, kinds[i].ranges[k].low, kinds[i].ranges[k].high);
        }
    }
    if (kind == (all ? 's' : 'S')) {
        add(r, one, 0xFF00, 0x10FFFF);
    }
    if (all) {
        invert(r, one);
    }
    for (size_t i = 0; i < one->n; i++) {
        add(r, set, one->ranges[i].low, one->ranges[i].high);
    }
    set->kinds |= 1u << (strchr(kind_letters, kind) - kind_letters);
    free(one);
}

/* One range of a GBNF class, without what a string must escape and without surrogates. */
static bool put_plain_range(struct compiler *c, struct buf *b, struct range x) {
    static const struct range plain[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0xD7FF}, {0xE000, 0x10FFFF}};
    bool some = false;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        const uint32_t low = x.low > plain[i].low ? x.low : plain[i].low;
        const uint32_t high = x.high < plain[i].high ? x.high : plain[i].high;
        if (low > high) {
            continue;
        }
        put_class_char(c, b, low);
        if (high > low) {
            PUT(c, b, "-");
            put_class_char(c, b, high);
        }
        some = true;
    }
    return some;
}

/* A set as one GBNF item. Of control characters those that have a short escape, others only where there is nothing else. */
static void put_set(struct regex *r, struct buf *b, struct set *set) {
    static const uint32_t escaped[] = {'"', '\\', '\b', '\f', '\n', '\r', '\t'};
    struct buf plain;
    int n = 0;
    buf_init(&plain, TEXT_MAX);
    normalise(set);
    for (size_t i = 0; i < set->n; i++) {
        n = put_plain_range(r->c, &plain, set->ranges[i]) || n;
    }
    PUT(r->c, b, n ? "([%s]" : "(", plain.data);
    for (size_t i = 0; i < sizeof escaped / sizeof *escaped; i++) {
        if (has(set, escaped[i])) {
            PUT(r->c, b, "%s\"", n++ ? " | " : "");
            put_json_char(r->c, b, escaped[i]);
            PUT(r->c, b, "\"");
        }
    }
    for (uint32_t code = 1; code < 0x20 && n == 0; code++) {
        if (has(set, code)) {
            PUT(r->c, b, "\"");
            put_json_char(r->c, b, code);
            PUT(r->c, b, "\"");
            n++;
        }
    }
    PUT(r->c, b, ")");
    buf_deinit(&plain);
    if (n == 0) {
        fail(r, GENARM_EUNSUPPORTED, "no character that an answer can have belongs to the class");
    }
}

/* ---- escapes and classes ---- */

static uint32_t hex(struct regex *r, int digits) {
    uint32_t code = 0;
    for (int i = 0; i < digits; i++) {
        const char *all = "0123456789abcdef0123456789ABCDEF", *digit = *r->at ? strchr(all, *r->at) : NULL;
        if (!digit) {
            fail(r, GENARM_EFORMAT, "expected hexadecimal digits");
            return 0;
        }
        code = code << 4 | (uint32_t)((digit - all) % 16);
        r->at++;
    }
    return code;
}

static uint32_t braced_hex(struct regex *r) {
    uint32_t code = 0;
    for (r->at++; *r->at && *r->at != '}' && code <= 0x10FFFF;) {
        code = code << 4 | hex(r, 1);
    }
    if (*r->at != '}' || code > 0x10FFFF) {
        fail(r, GENARM_EFORMAT, "that is no character");
        return 0;
    }
    r->at++;
    return code;
}

/* \u and what follows; two halves of a surrogate pair are one character. */
static uint32_t unicode(struct regex *r) {
    if (*r->at == '{') {
        return braced_hex(r);
    }
    const uint32_t code = hex(r, 4);
    if (code >= 0xD800 && code <= 0xDBFF && r->at[0] == '\\' && r->at[1] == 'u') {
        r->at += 2;
        const uint32_t low = hex(r, 4);
        return 0x10000 + ((code - 0xD800) << 10) + ((low - 0xDC00) & 0x3FF);
    }
    return code;
}

enum place { PLACE_OUTSIDE, PLACE_CLASS, PLACE_NEGATED };

/* What follows a backslash: a character, or a kind of characters, which is added to the set and for which -1 is returned. */
static int64_t escape(struct regex *r, struct set *set, enum place place) {
    static const char letters[] = "tnrfv", meanings[] = "\t\n\r\f\v";
    const char kind = *r->at;
    const char *known = kind ? strchr(letters, kind) : NULL;
    if (kind && strchr(kind_letters, kind)) {
        r->at++;
        add_kind(r, set, kind, place == PLACE_NEGATED);
        return -1;
    }
    if (known) {
        r->at++;
        return meanings[known - letters];
    }
    if (kind == 'x' || kind == 'u') {
        r->at++;
        return kind == 'x' ? hex(r, 2) : unicode(r);
    }
    if (kind == 'b' && place != PLACE_OUTSIDE) {
        r->at++;
        return '\b';
    }
    if ((kind >= 'a' && kind <= 'z') || (kind >= 'A' && kind <= 'Z') || (kind >= '0' && kind <= '9')) {
        fail(r, GENARM_EUNSUPPORTED, "this escape cannot be enforced");
        return 0;
    }
    if (!kind) {
        fail(r, GENARM_EFORMAT, "the pattern ends in a backslash");
        return 0;
    }
    size_t n;
    const uint32_t code = code_point(r->at, strlen(r->at), &n);
    r->at += n;
    return code;
}

static int64_t character(struct regex *r, struct set *set, enum place place) {
    if (*r->at == '\\') {
        r->at++;
        return escape(r, set, place);
    }
    size_t n;
    const uint32_t code = code_point(r->at, strlen(r->at), &n);
    r->at += n;
    return code;
}

static void class_item(struct regex *r, struct set *set) {
    const bool negated = *r->at == '^';
    const enum place place = negated ? PLACE_NEGATED : PLACE_CLASS;
    r->at += negated;
    while (*r->at && *r->at != ']') {
        const int64_t low = character(r, set, place);
        int64_t high = low;
        if (low >= 0 && r->at[0] == '-' && r->at[1] && r->at[1] != ']') {
            r->at++;
            high = character(r, set, place);
            if (high < 0) { /* as in [a-\d]: three things */
                add(r, set, '-', '-');
                high = low;
            } else if (high < low) {
                fail(r, GENARM_EFORMAT, "the range ends before it begins");
                return;
            }
        }
        if (low >= 0) {
            add(r, set, (uint32_t)low, (uint32_t)high);
        }
    }
    if (*r->at != ']') {
        fail(r, GENARM_EFORMAT, "the class has no end");
        return;
    }
    r->at++;
    if (negated) {
        invert(r, set);
    } else if (set->kinds & set->kinds >> 1 & 0x15) { /* a kind and its opposite, which are less than all each */
        add(r, set, 0, 0x10FFFF);
    }
}

/* ---- items ---- */

static struct regex_lengths alternatives(struct regex *r, struct buf *b, bool top);

static struct regex_lengths group(struct regex *r, struct buf *b) {
    struct regex_lengths lengths = {0, 0};
    if (++r->groups > GROUPS_MAX) {
        fail(r, GENARM_EUNSUPPORTED, "groups are nested too deeply");
    }
    if (r->at[0] == '?') {
        const char *name = r->at[1] == 'P' ? r->at + 2 : r->at + 1;
        if (r->at[1] == ':') {
            r->at += 2;
        } else if (name[0] == '<' && name[1] != '=' && name[1] != '!' && strchr(name, '>')) {
            r->at = strchr(name, '>') + 1;
        } else {
            const char kind = r->at[1] == '<' ? r->at[2] : r->at[1];
            fail(r, GENARM_EUNSUPPORTED, kind == '=' || kind == '!' ? "what looks ahead or behind cannot be enforced"
                                                                 : "this kind of group cannot be enforced");
        }
    }
    PUT(r->c, b, "(");
    lengths = alternatives(r, b, false);
    PUT(r->c, b, ")");
    if (*r->at == ')') {
        r->at++;
    } else {
        fail(r, GENARM_EFORMAT, "the group has no end");
    }
    r->groups--;
    return lengths;
}

/* Whether {m}, {m,} or {m,n} follows; other braces are characters. */
static bool is_braced(const char *at) {
    const size_t least = strspn(at + 1, "0123456789");
    const char *end = at + 1 + least;
    if (*end == ',') {
        end += 1 + strspn(end + 1, "0123456789");
    }
    return least > 0 && *end == '}';
}

/* One item as one of GBNF. */
static struct regex_lengths item(struct regex *r, struct buf *b) {
    struct set *set = calloc(1, sizeof *set);
    struct regex_lengths lengths = {1, 1};
    if (!set) {
        r->c->rc = r->c->rc ? r->c->rc : error_nomem(r->c->err, "a schema");
        r->at += strlen(r->at);
        return lengths;
    }
    const char first = *r->at;
    if (first == '(') {
        r->at++;
        lengths = group(r, b);
    } else if (first == '*' || first == '+' || first == '?' || (first == '{' && is_braced(r->at))) {
        fail(r, GENARM_EFORMAT, "there is nothing to repeat");
    } else if (first == '^' || first == '$') {
        fail(r, GENARM_EUNSUPPORTED, "^ and $ can only stand at the ends of the pattern or of its alternatives");
    } else {
        if (first == '.') {
            r->at++;
            add(r, set, '\n', '\n');
            add(r, set, '\r', '\r');
            add(r, set, 0x2028, 0x2029);
            invert(r, set);
        } else if (first == '[') {
            r->at++;
            class_item(r, set);
        } else {
            const int64_t code = character(r, set, PLACE_OUTSIDE);
            if (code >= 0) {
                add(r, set, (uint32_t)code, (uint32_t)code);
            }
        }
        if (r->c->rc == GENARM_OK) {
            put_set(r, b, set);
        }
    }
    free(set);
    return lengths;
}

/* ---- quantifiers ---- */

static int64_t number(struct regex *r) {
    int64_t n = 0;
    while (*r->at >= '0' && *r->at <= '9') {
        n = n > REPEAT_MAX ? n : 10 * n + (*r->at - '0');
        r->at++;
    }
    if (n > REPEAT_MAX) {
        fail(r, GENARM_EUNSUPPORTED, "more than 10000 repetitions");
    }
    return n;
}

static void quantifier(struct regex *r, int64_t *least, int64_t *most) {
    *least = *most = 1;
    if (*r->at == '{' && is_braced(r->at)) {
        r->at++;
        *least = *most = number(r);
        if (*r->at == ',') {
            r->at++;
            *most = *r->at == '}' ? UNBOUNDED : number(r);
        }
        r->at += *r->at == '}';
        if (*most >= 0 && *most < *least) {
            fail(r, GENARM_EFORMAT, "more repetitions at least than at most");
        }
    } else if (*r->at && strchr("*+?", *r->at)) {
        *least = *r->at == '+';
        *most = *r->at == '?' ? 1 : UNBOUNDED;
        r->at++;
    } else {
        return;
    }
    r->at += *r->at == '?'; /* as few as will do: the same texts */
}

static int64_t times(int64_t a, int64_t b) {
    if (a < 0 || b < 0) {
        return a == 0 || b == 0 ? 0 : UNBOUNDED;
    }
    return a > 0 && b > length_top / a ? length_top : a * b;
}

static int64_t plus(int64_t a, int64_t b) { return a < 0 || b < 0 ? UNBOUNDED : a + b > length_top ? length_top : a + b; }

/* Writes an item so many times, and adds its lengths to those of the sequence. */
static void put_times(struct regex *r, struct buf *b, const char *text, struct regex_lengths one, int64_t least, int64_t most,
                      struct regex_lengths *all) {
    const size_t begin = b->len;
    PUT(r->c, b, " ");
    if (most != 0) {
        put_repeat(r->c, b, text, least, most);
    }
    const struct regex_lengths lengths = {times(one.least, least), times(one.most, most)};
    if (lengths.least != lengths.most && r->groups == 0) {
        const bool unit = one.least == 1 && one.most == 1;
        char *copy = arena_new(r->c, strlen(text) + 1);
        if (copy) {
            strcpy(copy, text);
        }
        r->varying = (struct varying){r->varying.n + 1, unit, begin, b->len, copy, least, most};
    }
    *all = (struct regex_lengths){plus(all->least, lengths.least), plus(all->most, lengths.most)};
}

static struct regex_lengths sequence(struct regex *r, struct buf *b, bool top) {
    struct regex_lengths all = {0, 0};
    const struct regex_lengths one = {1, 1};
    bool ended = false;
    if (top && *r->at == '^') {
        r->at++;
    } else if (top) {
        put_times(r, b, ready(r->c, READY_CHAR), one, 0, UNBOUNDED, &all);
    }
    while (*r->at && *r->at != '|' && *r->at != ')' && r->c->rc == GENARM_OK) {
        struct buf text;
        int64_t least = 1, most = 1;
        if (top && r->at[0] == '$' && (!r->at[1] || r->at[1] == '|')) {
            r->at++;
            ended = true;
            break;
        }
        buf_init(&text, TEXT_MAX);
        const struct regex_lengths lengths = item(r, &text);
        quantifier(r, &least, &most);
        put_times(r, b, text.data ? text.data : "", lengths, least, most, &all);
        buf_deinit(&text);
    }
    if (top && !ended) {
        put_times(r, b, ready(r->c, READY_CHAR), one, 0, UNBOUNDED, &all);
    }
    return all;
}

static struct regex_lengths alternatives(struct regex *r, struct buf *b, bool top) {
    struct regex_lengths all = sequence(r, b, top);
    while (*r->at == '|' && r->c->rc == GENARM_OK) {
        r->at++;
        PUT(r->c, b, " |");
        const struct regex_lengths next = sequence(r, b, top);
        r->varying.n += top ? 2 : 0; /* no single varying part any more */
        all.least = next.least < all.least ? next.least : all.least;
        all.most = next.most < 0 || all.most < 0 ? UNBOUNDED : next.most > all.most ? next.most : all.most;
    }
    return all;
}

/* Gives the part that varies the repetitions that the lengths leave it. False: there are none. */
static bool fit_lengths(struct regex *r, struct buf *b, struct regex_lengths all) {
    const struct shape *s = r->s;
    const struct varying *v = &r->varying;
    const int64_t fixed = all.least - v->least;
    if (all.least >= s->min_length && (s->max_length < 0 || (all.most >= 0 && all.most <= s->max_length))) {
        return true;
    }
    if ((s->max_length >= 0 && all.least > s->max_length) || (all.most >= 0 && all.most < s->min_length)) {
        return false;
    }
    if (v->n != 1 || !v->of_characters) {
        refuse(r->c, GENARM_EUNSUPPORTED, s->lengths_at, json_object_get(s->lengths_at, "maxLength") ? "maxLength" : "minLength",
               "a length beside this pattern cannot be enforced: put it into the pattern");
        return false;
    }
    const int64_t least = s->min_length - fixed > v->least ? s->min_length - fixed : v->least;
    int64_t most = s->max_length < 0 ? UNBOUNDED : s->max_length - fixed;
    most = most < 0 || (v->most >= 0 && v->most < most) ? v->most : most;
    struct buf text;
    buf_init(&text, b->max);
    PUT(r->c, &text, "%.*s ", (int)v->begin, b->data);
    if (most != 0) {
        put_repeat(r->c, &text, v->item, least, most);
    }
    PUT(r->c, &text, "%s", b->data + v->end);
    buf_clear(b);
    PUT(r->c, b, "%s", text.data);
    buf_deinit(&text);
    return true;
}

bool put_regex(struct compiler *c, struct buf *b, const struct shape *s) {
    struct regex r = {.c = c, .s = s, .at = s->pattern};
    struct buf text;
    buf_init(&text, TEXT_MAX);
    const struct regex_lengths all = alternatives(&r, &text, true);
    if (*r.at == ')') {
        fail(&r, GENARM_EFORMAT, "there is no group to end");
    }
    const bool some = c->rc == GENARM_OK && fit_lengths(&r, &text, all);
    PUT(c, b, "(%s)", text.data ? text.data : "");
    buf_deinit(&text);
    return some;
}
