/* Strings: lengths, formats, and keys that are none of some names. */
#include <string.h>

#include "guide/schema_compiler.h"

enum { PATHS_MAX = 20000 };

static bool within(int64_t least, int64_t most, const struct shape *s) {
    return least >= s->min_length && (s->max_length < 0 || (most >= 0 && most <= s->max_length));
}

/* Characters that each format has at least and at most, as it is written here. */
static const struct {
    const char *name;
    enum ready_rule rule;
    int64_t least, most;
} formats[] = {
    {"date", READY_DATE, 10, 10},        {"time", READY_TIME, 9, 21},    {"date-time", READY_DATE_TIME, 20, 32},
    {"duration", READY_DURATION, 3, 22}, {"email", READY_EMAIL, 6, 268}, {"hostname", READY_HOSTNAME, 4, 206},
    {"ipv4", READY_IPV4, 7, 15},         {"ipv6", READY_IPV6, 15, 39},   {"uuid", READY_UUID, 36, 36},
    {"uri", READY_URI, 8, 2038},
};

/* The version that uuid1 to uuid8 name (RFC 9562); 0: it is another format. */
static char uuid_version(const char *format) {
    const bool is = strncmp(format, "uuid", 4) == 0 && format[4] >= '1' && format[4] <= '8' && !format[5];
    return is ? format[4] : '\0';
}

static bool put_format(struct compiler *c, struct buf *b, const struct shape *s) {
    const char version = uuid_version(s->format), *format = version ? "uuid" : s->format;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(formats[i].name, format) != 0) {
            continue;
        }
        if (!within(formats[i].least, formats[i].most, s)) {
            refuse(c, GENARM_EUNSUPPORTED, s->lengths_at, s->min_length > formats[i].least ? "minLength" : "maxLength",
                   "a length beside a format cannot be enforced");
        }
        if (version) {
            const char *hex = ready(c, READY_HEX);
            PUT(c, b, "\"\\\"\" %s{8} \"-\" %s{4} \"-%c\" %s{3} \"-\" [89abAB] %s{3} \"-\" %s{12} \"\\\"\"", hex, hex, version,
                hex, hex, hex);
        } else {
            PUT(c, b, "\"\\\"\" %s \"\\\"\"", ready(c, formats[i].rule));
        }
        return true;
    }
    refuse(c, GENARM_EUNSUPPORTED, s->format_at, "format",
           "\"%.40s\" cannot be enforced; date, time, date-time, duration, email, hostname, ipv4, ipv6, uuid, uuid1 to uuid8 and "
           "uri can",
           s->format);
    return false;
}

bool put_string(struct compiler *c, struct buf *b, const struct shape *s) {
    if (s->max_length >= 0 && s->min_length > s->max_length) {
        note_unsatisfiable(c, s->all);
        return false;
    }
    if (s->format && s->pattern) {
        refuse(c, GENARM_EUNSUPPORTED, s->pattern_at, "pattern", "a pattern beside a format cannot be enforced");
        return false;
    }
    if (s->format) {
        return put_format(c, b, s);
    }
    if (s->pattern) {
        PUT(c, b, "\"\\\"\" ");
        const bool some = put_regex(c, b, s);
        PUT(c, b, " \"\\\"\"");
        return some;
    }
    if (s->min_length == 0 && s->max_length < 0) {
        PUT(c, b, "%s", ready(c, READY_STRING));
        return true;
    }
    PUT(c, b, "\"\\\"\" ");
    put_repeat(c, b, ready(c, READY_CHAR), s->min_length, s->max_length);
    PUT(c, b, " \"\\\"\"");
    return true;
}

/* ---- names that are excluded ---- */

struct names {
    const char *const *all;
    size_t n;
    int n_paths;
};

/* A rule of what may follow the first `at` bytes, which the names [first, last) of the sorted ones have in common. */
static struct rule_name rest_of_key(struct compiler *c, struct names *names, size_t first, size_t last, size_t at) {
    const struct rule_name rule = new_rule_name(c, 'k');
    const char *plain = ready(c, READY_PLAIN);
    struct buf text, others;
    buf_init(&text, 1 << 20);
    buf_init(&others, 1 << 20);
    if (++names->n_paths > PATHS_MAX) {
        refuse(c, GENARM_EUNSUPPORTED, c->root, NULL, "the schema has too many names of properties beside additional ones");
    }
    const bool is_name = first < last && strlen(names->all[first]) == at;
    PUT(c, &text, "%s", is_name ? "" : "| ");
    first += is_name;
    while (first < last && c->rc == GENARM_OK) {
        size_t n, end = first;
        const char *next = names->all[first] + at;
        const uint32_t code = code_point(next, strlen(next), &n);
        while (end < last && strncmp(names->all[end] + at, next, n) == 0) {
            end++;
        }
        if (code >= 0x20 && code != '"' && code != '\\') { /* others need an escape, which no additional key has */
            const struct rule_name rest = rest_of_key(c, names, first, end, at + n);
            PUT(c, &text, "[");
            put_class_char(c, &text, code);
            PUT(c, &text, "] %s | ", rest.text);
            put_class_char(c, &others, code);
        }
        first = end;
    }
    PUT(c, &text, "[^\"\\\\\\x00-\\x1F%s] %s*", others.len ? others.data : "", plain);
    put_rule(c, rule.text, &text);
    buf_deinit(&text);
    buf_deinit(&others);
    return rule;
}

struct rule_name other_keys(struct compiler *c, const char *const *names, size_t n) {
    const struct rule_name rule = new_rule_name(c, 'k');
    struct names all = {names, n, 0};
    struct buf text;
    buf_init(&text, 100);
    const struct rule_name rest = rest_of_key(c, &all, 0, n, 0);
    PUT(c, &text, "\"\\\"\" %s \"\\\"\"", rest.text);
    put_rule(c, rule.text, &text);
    buf_deinit(&text);
    return rule;
}
