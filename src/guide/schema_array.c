/* Arrays: a schema for each of the first elements, one for all others, and how many there are. */
#include <string.h>

#include "guide/schema_compiler.h"

enum { PREFIX_MAX = 1000, OPTIONAL_MAX = 100 };

/* The schemas of the first elements, and of those after them; draft 7 has other names for both. */
static const json_t *first_items(const json_t *schema) {
    const json_t *prefix = json_object_get(schema, "prefixItems"), *items = json_object_get(schema, "items");
    return prefix ? prefix : json_is_array(items) ? items : NULL;
}

static const json_t *other_items(const json_t *schema) {
    const json_t *items = json_object_get(schema, "items");
    return json_is_array(items) ? json_object_get(schema, "additionalItems") : items;
}

/* The rule of element i. */
static struct rule_name element(struct compiler *c, const struct conjunction *all, size_t i) {
    struct conjunction value = {0};
    for (size_t k = 0; k < all->n; k++) {
        const json_t *own = json_array_get(first_items(all->items[k].schema), i);
        const json_t *schema = own ? own : other_items(all->items[k].schema);
        if (schema) {
            conjoin(c, &value, schema);
        }
    }
    return compile(c, &value);
}

struct array {
    size_t n_first;
    struct rule_name *first; /* [n_first] */
    struct rule_name other;  /* "": there are none */
    int64_t least, most;
};

/* False: no array is so. */
static bool read(struct compiler *c, struct array *a, const struct shape *s) {
    bool described = false;
    for (size_t i = 0; i < s->all->n; i++) {
        const size_t n = json_array_size(first_items(s->all->items[i].schema));
        a->n_first = n > a->n_first ? n : a->n_first;
        described = described || other_items(s->all->items[i].schema);
    }
    if (a->n_first > PREFIX_MAX) {
        refuse(c, GENARM_EUNSUPPORTED, s->items_at, "prefixItems", "an array can have up to 1000 schemas for its first items");
    }
    a->most = s->max_items;
    a->least = s->has_min_items || (a->most >= 0 && a->most < (int64_t)a->n_first) ? s->min_items : (int64_t)a->n_first;
    if (a->n_first > 0 && !described && a->least <= (int64_t)a->n_first) { /* a tuple ends with its last item */
        a->most = a->most < 0 || a->most > (int64_t)a->n_first ? (int64_t)a->n_first : a->most;
    }
    a->first = arena_new(c, (a->n_first + 1) * sizeof *a->first);
    for (size_t i = 0; i < a->n_first && c->rc == GENARM_OK && (a->most < 0 || (int64_t)i < a->most); i++) {
        a->first[i] = element(c, s->all, i);
        if (!a->first[i].text[0]) {
            a->most = (int64_t)i;
        }
    }
    if (c->rc == GENARM_OK && (a->most < 0 || a->most > (int64_t)a->n_first)) {
        a->other = element(c, s->all, a->n_first);
        a->most = a->other.text[0] ? a->most : (int64_t)a->n_first;
    }
    return a->most < 0 || a->least <= a->most;
}

/* What follows element i - 1. */
static void put_elements(struct compiler *c, struct buf *b, const struct array *a, const struct shape *s) {
    const int64_t n_first = a->most >= 0 && a->most < (int64_t)a->n_first ? a->most : (int64_t)a->n_first;
    int64_t open = 0;
    for (int64_t i = 0; i < n_first; i++) {
        if (i > 0) {
            const bool optional = i >= a->least;
            PUT(c, b, optional ? " (%s " : " %s ", ready(c, READY_COMMA));
            open += optional;
        }
        PUT(c, b, "%s", a->first[i].text);
    }
    if (a->other.text[0]) {
        struct buf pair;
        buf_init(&pair, 200);
        PUT(c, b, "%s", n_first ? " " : a->other.text);
        PUT(c, &pair, "(%s %s)", ready(c, READY_COMMA), a->other.text);
        const int64_t written = n_first ? n_first : 1, least = a->least - written;
        const int64_t most = a->most < 0 ? UNBOUNDED : a->most - written;
        if (most != 0 && c->rc == GENARM_OK) {
            PUT(c, b, " ");
            put_repeat(c, b, pair.data, least > 0 ? least : 0, most);
        }
        buf_deinit(&pair);
    }
    if (open > OPTIONAL_MAX) {
        refuse(c, GENARM_EUNSUPPORTED, s->items_at, "minItems", "up to 100 of the first items can be optional");
    }
    for (; open > 0; open--) {
        PUT(c, b, ")?");
    }
}

bool put_array(struct compiler *c, struct buf *b, const struct shape *s) {
    struct array a = {0};
    if (!s->has_array) {
        PUT(c, b, "%s", ready(c, READY_ARRAY));
        return true;
    }
    if (!read(c, &a, s) || c->rc != GENARM_OK) {
        return false;
    }
    if (s->unique && (a.most < 0 || a.most > 1)) {
        refuse(c, GENARM_EUNSUPPORTED, s->unique_at, "uniqueItems", "a grammar cannot tell whether elements are different");
        return false;
    }
    const char *ws = ready(c, READY_WS);
    PUT(c, b, "\"[\" %s ", ws);
    if (a.most != 0) {
        PUT(c, b, "(");
        put_elements(c, b, &a, s);
        PUT(c, b, a.least == 0 ? " %s)? " : " %s) ", ws);
    }
    PUT(c, b, "\"]\"");
    return true;
}
