/* Numbers between bounds, digit by digit. Integers have up to 16 digits where a bound does not ask for more, other numbers up to
 * 15 and no exponent: what is read back as a double is then on the same side of a bound as what was written. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guide/schema_compiler.h"

enum { DIGITS_MAX = 15, MULTIPLES_MAX = 1000 };
static const long double decimal_top = 1e15L;
static const int64_t integer_top = 9999999999999999;
static const long double whole_top = 0x1p63L; /* beyond an int64_t */

/* ---- digits ---- */

/* Strings of n digits between two others; of a fraction, also shorter ones, for which zeros are missing. */
struct span {
    const char *low, *high; /* [n] */
    int n;
    bool low_open, high_open; /* the bound itself is not meant */
    bool fraction;
};

static bool only(const char *digits, const char *digit) { return digits[strspn(digits, digit)] == '\0'; }
static bool only_zeros(const char *digits) { return only(digits, "0"); }

/* Whether a fraction may end before digit i, with bounds that it has followed so far or not. */
static bool may_stop(const struct span *s, int i, bool low, bool high) {
    return s->fraction && i > 0 && (!low || (only_zeros(s->low + i) && !s->low_open)) &&
           (!high || !only_zeros(s->high + i) || !s->high_open);
}

static bool put_digits(struct compiler *c, struct buf *b, const struct span *s, int i, bool low, bool high);

/* One of [from, to], and what follows it. False, and nothing written: nothing can. */
static bool put_digit(struct compiler *c, struct buf *b, const struct span *s, int i, char from, char to, bool low, bool high,
                      int *n) {
    struct buf rest;
    buf_init(&rest, 1 << 16);
    const bool some = from <= to && put_digits(c, &rest, s, i + 1, low, high);
    if (some) {
        PUT(c, b, "%s[%c", *n ? " | " : "", from);
        PUT(c, b, from == to ? "] " : "-%c] ", to);
        PUT(c, b, "%s", rest.data ? rest.data : "");
        ++*n;
    }
    buf_deinit(&rest);
    return some;
}

/* All digits from i on, given whether those before were those of the bounds. A bound that the rest cannot miss is none. */
static bool put_digits(struct compiler *c, struct buf *b, const struct span *s, int i, bool low, bool high) {
    const int left = s->n - i;
    int n = 0;
    if (!low && !high) {
        const int least = s->fraction ? i == 0 : left;
        if (left > 0) {
            PUT(c, b, least == left ? "[0-9]{%d}" : "[0-9]{%d,%d}", least, left);
        }
        return true;
    }
    if (left == 0) {
        return !(low && s->low_open) && !(high && s->high_open);
    }
    const char a = low ? s->low[i] : '0', z = high ? s->high[i] : '9';
    const bool at_low = low && (s->low_open || !only(s->low + i + 1, "0"));
    const bool at_high = high && (s->high_open || !only(s->high + i + 1, "9"));
    PUT(c, b, "(");
    if (low && high && a == z) {
        put_digit(c, b, s, i, a, z, at_low, at_high, &n);
    } else {
        if (at_low) {
            put_digit(c, b, s, i, a, a, true, false, &n);
        }
        put_digit(c, b, s, i, (char)(a + at_low), (char)(z - at_high), false, false, &n);
        if (at_high) {
            put_digit(c, b, s, i, z, z, false, true, &n);
        }
    }
    if (may_stop(s, i, low, high)) {
        PUT(c, b, n++ ? " |" : "");
    }
    PUT(c, b, ")");
    return n > 0;
}

/* ---- integers ---- */

static int digits_of(int64_t x) {
    int n = 1;
    for (; x >= 10; x /= 10) {
        n++;
    }
    return n;
}

/* Integers of [low, high], 0 <= low: by how many digits they have. */
static void put_integers(struct compiler *c, struct buf *b, int64_t low, int64_t high, int *n) {
    const int first = digits_of(low), last = digits_of(high);
    char from[24], to[24];
    snprintf(from, sizeof from, "%lld", (long long)low);
    for (int digits = first; digits <= last; digits++) {
        if (digits > first && digits + 1 < last) { /* all that have so many digits, and more */
            PUT(c, b, " | [1-9] [0-9]{%d,%d}", digits - 1, last - 2);
            digits = last - 1;
            continue;
        }
        snprintf(to, sizeof to, "%lld", (long long)high);
        if (digits > first) {
            memset(from, '0', (size_t)digits);
            from[0] = '1';
            from[digits] = '\0';
        }
        if (digits < last) {
            memset(to, '9', (size_t)digits);
            to[digits] = '\0';
        }
        const struct span span = {from, to, digits, false, false, false};
        PUT(c, b, "%s", (*n)++ ? " | " : "");
        put_digits(c, b, &span, 0, true, true);
    }
}

static int64_t whole_bound(const struct bound *b, bool low, int64_t fallback) {
    if (!b->set) {
        return fallback;
    }
    long double x = low ? ceill(b->value) : floorl(b->value);
    if (b->exclusive && x == b->value) {
        x += low ? 1 : -1;
    }
    return x >= whole_top ? INT64_MAX : x <= -whole_top ? -INT64_MAX : (int64_t)x;
}

static bool put_multiples(struct compiler *c, struct buf *b, const struct shape *s, int64_t low, int64_t high) {
    const int64_t k = s->multiple_of;
    int n = 0, zeros = 0;
    int64_t power = 1;
    for (; power < k && power <= INT64_MAX / 10; power *= 10) {
        zeros++;
    }
    if (!s->low.set && !s->high.set && power == k && zeros < DIGITS_MAX) {
        PUT(c, b, "\"0\" | \"-\"? [1-9] [0-9]{0,%d} \"0\"{%d}", DIGITS_MAX - zeros, zeros);
        return true;
    }
    const int64_t first = low / k + (low % k > 0), last = high / k - (high % k < 0); /* in units of k: nothing overflows */
    if (!s->low.set || !s->high.set || last - first > MULTIPLES_MAX) {
        refuse(c, GENARM_EUNSUPPORTED, s->multiple_at, "multipleOf",
               "multiples can be enforced between bounds with at most 1000 of them, and powers of ten without bounds");
        return false;
    }
    for (int64_t i = first; i <= last; i++) {
        PUT(c, b, "%s\"%lld\"", n++ ? " | " : "", (long long)(i * k));
    }
    return n > 0;
}

static bool put_integer(struct compiler *c, struct buf *b, const struct shape *s) {
    int n = 0;
    int64_t low = whole_bound(&s->low, true, -integer_top), high = whole_bound(&s->high, false, integer_top);
    high = !s->high.set && low > integer_top ? INT64_MAX : high;
    low = !s->low.set && high < -integer_top ? -INT64_MAX : low;
    if (low > high) {
        return false;
    }
    if (!bounds_admit(&s->low, &s->high, low) || !bounds_admit(&s->low, &s->high, high)) { /* no int64_t does */
        const bool above = low > 0;
        refuse(c, GENARM_EUNSUPPORTED, above ? s->low.at : s->high.at, above ? "minimum" : "maximum",
               "bounds of integers can be enforced up to 9.2e18");
        return false;
    }
    if (s->multiple_of > 1) {
        return put_multiples(c, b, s, low, high);
    }
    PUT(c, b, "(");
    if (low < 0) {
        PUT(c, b, "\"-\" (");
        put_integers(c, b, high < 0 ? -high : 1, -low, &n);
        PUT(c, b, ")");
    }
    if (high >= 0) {
        put_integers(c, b, low > 0 ? low : 0, high, &n);
    }
    PUT(c, b, ")");
    return true;
}

/* ---- decimals ---- */

/* A bound that is not negative, as digits. */
struct decimal {
    int64_t whole;
    char part[DIGITS_MAX + 1]; /* [n_part] */
    bool cut;                  /* digits other than 0 are missing */
};

static struct decimal decimal_of(long double value, int n_part) {
    struct decimal d = {.whole = (int64_t)value};
    char text[40] = "";
    int exponent = 0, n = 0;
    for (int precision = 14; precision <= 16; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, (double)value);
        if (strtod(text, NULL) == (double)value) {
            break;
        }
    }
    char digits[24] = "";
    for (const char *t = text; *t && *t != 'e'; t++) {
        if (*t >= '0' && *t <= '9') {
            digits[n++] = *t;
        }
    }
    digits[n] = '\0';
    exponent = atoi(strchr(text, 'e') + 1);
    for (int i = 0; i < n_part; i++) { /* digit i after the point is that of 10^-(i+1) */
        const int at = exponent + 1 + i;
        d.part[i] = at >= 0 && at < n ? digits[at] : '0';
    }
    const int after = exponent + 1 + n_part;
    d.cut = value > 0 && (after < 0 || (after < n && !only_zeros(digits + after)));
    return d;
}

/* What follows the whole part of a bound: its point and digits, or nothing. False: nothing can. */
static bool put_fraction(struct compiler *c, struct buf *b, const struct span *s, bool low, bool high) {
    const bool bare = (!low || (only_zeros(s->low) && !s->low_open)) && (!high || !only_zeros(s->high) || !s->high_open);
    struct buf digits;
    buf_init(&digits, 1 << 16);
    const bool some = put_digits(c, &digits, s, 0, low, high);
    if (some) {
        PUT(c, b, bare ? "(\".\" %s)?" : "\".\" %s", digits.data);
    }
    buf_deinit(&digits);
    return bare || some;
}

static void put_with_whole(struct compiler *c, struct buf *b, int64_t whole, const struct span *s, bool low, bool high, int *n) {
    struct buf fraction;
    buf_init(&fraction, 1 << 16);
    if (put_fraction(c, &fraction, s, low, high)) {
        PUT(c, b, "%s\"%lld\" %s", (*n)++ ? " | " : "", (long long)whole, fraction.data ? fraction.data : "");
    }
    buf_deinit(&fraction);
}

/* Decimals from `low` on, which is not negative; an infinite `high` is none. */
static bool put_decimals(struct compiler *c, struct buf *b, long double low, bool low_open, long double high, bool high_open) {
    const bool bounded = high < decimal_top;
    const int n_whole = digits_of((int64_t)(bounded ? high : low));
    const int n_part = n_whole < DIGITS_MAX ? DIGITS_MAX - n_whole : 1;
    const struct decimal a = decimal_of(low, n_part), z = decimal_of(bounded ? high : 0, n_part);
    const struct span s = {a.part, z.part, n_part, low_open || a.cut, high_open && !z.cut, true};
    int n = 0;
    PUT(c, b, "(");
    put_with_whole(c, b, a.whole, &s, true, bounded && a.whole == z.whole, &n);
    if (bounded && a.whole == z.whole) {
        PUT(c, b, ")");
        return n > 0;
    }
    const int64_t last = bounded ? z.whole - 1 : (int64_t)decimal_top - 1;
    if (a.whole + 1 <= last) {
        int inner = 0;
        PUT(c, b, "%s(", n++ ? " | " : "");
        put_integers(c, b, a.whole + 1, last, &inner);
        PUT(c, b, ") (\".\" [0-9]{1,%d})?", n_part);
    }
    if (bounded) {
        put_with_whole(c, b, z.whole, &s, false, true, &n);
    }
    PUT(c, b, ")");
    return n > 0;
}

static bool put_signed(struct compiler *c, struct buf *b, const struct shape *s) {
    const bool has_low = s->low.set && s->low.value > -decimal_top, has_high = s->high.set && s->high.value < decimal_top;
    const long double low = has_low ? s->low.value : -INFINITY, high = has_high ? s->high.value : INFINITY;
    const bool low_open = has_low && s->low.exclusive, high_open = has_high && s->high.exclusive;
    struct buf text;
    int n = 0;
    if (low >= decimal_top || high <= -decimal_top) {
        const bool at_low = low >= decimal_top;
        refuse(c, GENARM_EUNSUPPORTED, at_low ? s->low.at : s->high.at, at_low ? "minimum" : "maximum",
               "bounds of numbers that are no integers can be enforced up to 1e15");
        return false;
    }
    buf_init(&text, 1 << 20);
    if (low < 0 &&
        (high < 0 ? put_decimals(c, &text, -high, high_open, -low, low_open) : put_decimals(c, &text, 0, true, -low, low_open))) {
        PUT(c, b, "%s\"-\" %s", n++ ? " | " : "", text.data);
    }
    buf_clear(&text);
    if (high >= 0 && put_decimals(c, &text, low > 0 ? low : 0, low >= 0 && low_open, high, high_open)) {
        PUT(c, b, "%s%s", n++ ? " | " : "", text.data);
    }
    buf_deinit(&text);
    if (n == 0) { /* but there are numbers */
        refuse(c, GENARM_EUNSUPPORTED, s->low.set ? s->low.at : s->high.at, NULL,
               "no number of 15 digits without exponent lies between the bounds");
    }
    return n > 0;
}

bool put_number(struct compiler *c, struct buf *b, const struct shape *s) {
    const bool bounded = s->low.set || s->high.set;
    if (bounded && s->low.set && s->high.set &&
        (s->low.value > s->high.value || (s->low.value == s->high.value && (s->low.exclusive || s->high.exclusive)))) {
        note_unsatisfiable(c, s->all);
        return false;
    }
    if (!bounded && s->multiple_of <= 1) {
        PUT(c, b, "%s", ready(c, s->types & TYPE_FRACTION ? READY_NUMBER : READY_INTEGER));
        return true;
    }
    return s->types & TYPE_FRACTION ? put_signed(c, b, s) : put_integer(c, b, s);
}
