/* See report_facts.h. */
#include "report_facts.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

enum {
    MAX_TEXT = 1 << 20,
    MAX_FACTS = 2000
};

static const char top_section[] = "Run";

/* ---- values as text ---- */

static int add_scalar(struct buf *b, const json_t *value, struct genarm_error *err) {
    char number[32];
    switch (json_typeof(value)) {
    case JSON_STRING:
        return buf_puts(b, json_string_length(value) ? json_string_value(value) : "none", err);
    case JSON_REAL:
        snprintf(number, sizeof number, "%.9g", json_real_value(value));
        return buf_puts(b, number, err);
    case JSON_TRUE:
        return buf_puts(b, "yes", err);
    case JSON_FALSE:
        return buf_puts(b, "no", err);
    case JSON_NULL:
        return buf_puts(b, "none", err);
    default:
        return json_dump(b, value, err);
    }
}

/* Objects in a cell: "mean 35.1, median 35, max 60". Without the member `but`. */
static int add_value(struct buf *b, const json_t *value, const char *but, struct genarm_error *err) {
    const char *key, *separator = "";
    json_t *member;
    int code = 0;
    if (!json_is_object(value)) {
        return add_scalar(b, value, err);
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, member) {
        if (code == 0 && (!but || strcmp(key, but) != 0)) {
            code = buf_printf(b, err, "%s%s ", separator, key);
            code = code ? code : add_scalar(b, member, err);
            separator = ", ";
        }
    }
    return code;
}

/* ---- rows ---- */

static bool is(const struct report_fact *f, const char *section, const char *key) {
    return strcmp(f->section, section) == 0 && strcmp(f->key, key) == 0;
}

static int new_fact(struct report_fact **out, struct report_facts *facts, const char *section, const char *key,
                    struct genarm_error *err) {
    struct report_fact *grown = realloc(facts->items, (facts->n + 1) * sizeof *grown);
    if (!grown) {
        return error_nomem(err, "a table");
    }
    facts->items = grown;
    const struct report_fact made = {
        .section = strdup(section), .key = strdup(key), .values = calloc(facts->n_runs, sizeof *made.values)};
    if (!made.section || !made.key || !made.values) {
        free(made.section);
        free(made.key);
        free(made.values);
        return error_nomem(err, "a table");
    }
    size_t at = facts->n;
    for (size_t i = 0; i < facts->n; i++) { /* behind the last one of its section */
        at = strcmp(facts->items[i].section, section) == 0 ? i + 1 : at;
    }
    memmove(grown + at + 1, grown + at, (facts->n - at) * sizeof *grown);
    grown[at] = made;
    facts->n++;
    *out = &grown[at];
    return 0;
}

static int add(struct report_facts *facts, size_t run, const char *section, const char *key, const json_t *value,
               const char *but, struct genarm_error *err) {
    struct report_fact *fact = NULL;
    struct buf text;
    for (size_t i = 0; i < facts->n && !fact; i++) {
        fact = is(&facts->items[i], section, key) ? &facts->items[i] : NULL;
    }
    if (!fact && facts->n == MAX_FACTS) {
        return 0; /* more than anybody reads */
    }
    buf_init(&text, MAX_TEXT);
    int code = add_value(&text, value, but, err);
    if (code == 0 && !fact) {
        code = new_fact(&fact, facts, section, key, err);
    }
    if (code) {
        buf_deinit(&text);
        return code;
    }
    free(fact->values[run]);
    fact->values[run] = text.data;
    return 0;
}

/* Elements of a list are called by their path or name. */
static int add_list(struct report_facts *facts, size_t run, const char *section, const json_t *list,
                    struct genarm_error *err) {
    static const char *const names[] = {"path", "name"};
    size_t i;
    json_t *element;
    int code = 0;
    json_array_foreach((json_t *)(uintptr_t)list, i, element) {
        char number[32];
        const char *key = NULL, *but = NULL;
        for (size_t k = 0; k < sizeof names / sizeof *names && !key; k++) {
            key = json_string_value(json_object_get(element, names[k]));
            but = key ? names[k] : NULL;
        }
        snprintf(number, sizeof number, "%zu", i + 1);
        code = code ? code : add(facts, run, section, key ? key : number, element, but, err);
    }
    return code;
}

static int add_member(struct report_facts *facts, size_t run, const char *key, const json_t *value,
                      struct genarm_error *err) {
    char section[64];
    const char *inner;
    json_t *member;
    int code = 0;
    snprintf(section, sizeof section, "%s", key);
    section[0] = (char)toupper((unsigned char)section[0]);
    if (json_is_array(value)) {
        return add_list(facts, run, section, value, err);
    }
    if (!json_is_object(value)) {
        return add(facts, run, top_section, key, value, NULL, err);
    }
    json_object_foreach((json_t *)(uintptr_t)value, inner, member) {
        code = code ? code : add(facts, run, section, inner, member, NULL, err);
    }
    return code;
}

static bool differs(const struct report_fact *f, size_t n_runs) {
    if (is(f, top_section, "started") || is(f, top_section, "output")) {
        return false;
    }
    for (size_t i = 1; i < n_runs; i++) {
        const char *a = f->values[0], *b = f->values[i];
        if ((!a) != (!b) || (a && strcmp(a, b) != 0)) {
            return true;
        }
    }
    return false;
}

int report_facts_make(struct report_facts *facts, const struct report_run *runs, size_t n_runs, struct genarm_error *err) {
    *facts = (struct report_facts){.n_runs = n_runs};
    int code = 0;
    for (size_t i = 0; i < n_runs; i++) {
        const char *key;
        json_t *value;
        json_object_foreach(runs[i].facts, key, value) {
            code = code ? code : add_member(facts, i, key, value, err);
        }
    }
    for (size_t i = 0; i < facts->n; i++) {
        facts->items[i].differs = differs(&facts->items[i], n_runs);
    }
    if (code) {
        report_facts_deinit(facts);
    }
    return code;
}

void report_facts_deinit(struct report_facts *facts) {
    for (size_t i = 0; i < facts->n; i++) {
        struct report_fact *f = &facts->items[i];
        for (size_t k = 0; k < facts->n_runs; k++) {
            free(f->values[k]);
        }
        free(f->values);
        free(f->section);
        free(f->key);
    }
    free(facts->items);
    *facts = (struct report_facts){0};
}
