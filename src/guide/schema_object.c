/* Objects: the properties that a schema names, in its order, any subset of the optional ones, and then others if it allows them.
 *
 * From property i on: `rest` is the pairs that follow where at least one does, `tail` what follows a pair. A comma is read
 * before it is clear which property comes next, so that properties cost a way each and not a way for each white space. */
#include <stdlib.h>
#include <string.h>

#include "guide/schema_compiler.h"

enum { PROPERTIES_MAX = 2000 };

struct property {
    const char *name;
    struct rule_name value;
    bool required;
};

struct object {
    struct property *all; /* [n] those that a value can have */
    size_t n;
    const char **names; /* [n_names] all that are named, also those that no value can have */
    size_t n_names;
    struct rule_name key, other; /* of additional properties; "": there are none */
    bool left_out;               /* because they are not described beside `properties`; the schema allows them */
    int64_t least_other, most_other;
    struct rule_name *rests, *tails; /* [n + 1] */
};

bool has_name(const json_t *array, const char *name) {
    const json_t *item;
    size_t i;
    json_array_foreach(array, i, item) {
        if (strcmp(json_string_value(item), name) == 0) {
            return true;
        }
    }
    return false;
}

bool property_of(struct compiler *c, const struct conjunction *all, const char *name, struct conjunction *out) {
    bool named = false;
    for (size_t i = 0; i < all->n; i++) {
        const json_t *schema = all->items[i].schema;
        const json_t *own = json_object_get(json_object_get(schema, "properties"), name);
        const json_t *others = json_object_get(schema, "additionalProperties");
        named = named || own;
        if (own || others) {
            conjoin(c, out, own ? own : others);
        }
    }
    return named;
}

/* ---- which properties there are ---- */

static void add_name(struct compiler *c, struct object *o, const char *name, size_t max) {
    for (size_t i = 0; i < o->n_names; i++) {
        if (strcmp(o->names[i], name) == 0) {
            return;
        }
    }
    if (c->rc == GENARM_OK && o->n_names < max) {
        o->names[o->n_names++] = name;
    }
}

static void find_names(struct compiler *c, struct object *o, const struct conjunction *all) {
    size_t max = 0, j;
    const char *name;
    json_t *value;
    for (size_t i = 0; i < all->n; i++) {
        max += json_object_size(json_object_get(all->items[i].schema, "properties")) +
               json_array_size(json_object_get(all->items[i].schema, "required"));
    }
    if (max > PROPERTIES_MAX) {
        refuse(c, GENARM_EUNSUPPORTED, all->items[0].schema, NULL, "an object can have up to 2000 properties");
    }
    o->names = arena_new(c, (max + 1) * sizeof *o->names);
    o->all = arena_new(c, (max + 1) * sizeof *o->all);
    o->rests = arena_new(c, (max + 1) * sizeof *o->rests);
    o->tails = arena_new(c, (max + 1) * sizeof *o->tails);
    for (size_t i = 0; i < all->n && c->rc == GENARM_OK; i++) {
        json_object_foreach(json_object_get(all->items[i].schema, "properties"), name, value) { add_name(c, o, name, max); }
    }
    for (size_t i = 0; i < all->n && c->rc == GENARM_OK; i++) {
        json_array_foreach(json_object_get(all->items[i].schema, "required"), j, value) {
            add_name(c, o, json_string_value(value), max);
        }
    }
}

static bool is_required(const struct conjunction *all, const char *name) {
    for (size_t i = 0; i < all->n; i++) {
        if (has_name(json_object_get(all->items[i].schema, "required"), name)) {
            return true;
        }
    }
    return false;
}

/* Compiles the values. False: one that is required can have none. */
static bool compile_values(struct compiler *c, struct object *o, const struct shape *s) {
    const struct conjunction *all = s->all;
    for (size_t i = 0; i < o->n_names && take_steps(c, all->n); i++) {
        struct conjunction value = {0};
        struct property *p = &o->all[o->n];
        property_of(c, all, o->names[i], &value);
        value.never = value.never || (s->closed && value.n_roots == 0); /* unevaluated: nothing describes it */
        p->name = o->names[i];
        p->required = is_required(all, p->name);
        p->value = compile(c, &value);
        if (p->value.text[0]) {
            o->n++;
        } else if (p->required) {
            return false;
        }
    }
    return true;
}

static int compare_names(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* Properties that are not named: those that additionalProperties describes; any, where nothing is said of properties. */
static void compile_others(struct compiler *c, struct object *o, const struct shape *s) {
    struct conjunction other = {0};
    bool described = false, open = !s->closed;
    for (size_t i = 0; i < s->all->n; i++) {
        const json_t *schema = s->all->items[i].schema, *additional = json_object_get(schema, "additionalProperties");
        described = described || additional;
        open = open && !json_object_get(schema, "properties");
        if (additional) {
            conjoin(c, &other, additional);
        }
    }
    o->most_other = UNBOUNDED;
    o->left_out = !described && !open && !s->closed;
    if (described || open) {
        o->other = compile(c, &other);
    }
    if (o->other.text[0] && o->n_names == 0) {
        strcpy(o->key.text, ready(c, READY_STRING));
    } else if (o->other.text[0]) {
        qsort(o->names, o->n_names, sizeof *o->names, compare_names);
        o->key = other_keys(c, o->names, o->n_names);
    }
}

/* ---- how many ---- */

static size_t count_required(const struct object *o) {
    size_t n = 0;
    for (size_t i = 0; i < o->n; i++) {
        n += o->all[i].required;
    }
    return n;
}

/* maxProperties. False: no object is so small. */
static bool limit_most(struct compiler *c, struct object *o, const struct shape *s) {
    const int64_t n_required = (int64_t)count_required(o), n = (int64_t)o->n;
    if (s->max_properties < 0 || (s->max_properties >= n && !o->other.text[0])) {
        return true;
    }
    if (s->max_properties < n_required) {
        return false;
    }
    if (s->max_properties == n_required) {
        size_t kept = 0;
        for (size_t i = 0; i < o->n; i++) {
            if (o->all[i].required) {
                o->all[kept++] = o->all[i];
            }
        }
        o->n = kept;
        o->other.text[0] = '\0';
    } else if (n == n_required) {
        o->most_other = s->max_properties - n;
    } else {
        refuse(c, GENARM_EUNSUPPORTED, s->properties_at, "maxProperties", "it cannot be enforced beside optional properties");
    }
    return true;
}

/* minProperties; *some: an object has a property at least. False: none is so large. Keys that are not named might be equal, so
 * only one of them counts. */
static bool limit_least(struct compiler *c, struct object *o, const struct shape *s, bool *some) {
    const int64_t n_required = (int64_t)count_required(o), n = (int64_t)o->n, least = s->min_properties;
    *some = least > 0 || n_required > 0;
    if (least <= n_required || (least == 1 && n_required == 0 && (n > 0 || o->other.text[0]))) {
        return true;
    }
    if (o->left_out && least > n && (s->max_properties < 0 || least <= s->max_properties)) {
        refuse(c, GENARM_EUNSUPPORTED, s->properties_at, "minProperties",
               "fewer properties are named, and others need additionalProperties");
    }
    if (!o->other.text[0] && least >= n) {
        for (size_t i = 0; i < o->n; i++) {
            o->all[i].required = true;
        }
        return least == n;
    }
    if (o->other.text[0] && n == n_required && least == n + 1) {
        o->least_other = 1;
        return o->most_other != 0;
    }
    refuse(c, GENARM_EUNSUPPORTED, s->properties_at, "minProperties",
           "so many properties cannot be enforced; require them by name");
    return true;
}

/* ---- text ---- */

static void put_others(struct compiler *c, struct buf *b, const struct object *o, bool first) {
    struct buf pair;
    buf_init(&pair, 1000);
    if (first) {
        PUT(c, b, "%s %s %s ", o->key.text, ready(c, READY_COLON), o->other.text);
    }
    PUT(c, &pair, "(%s %s %s %s)", ready(c, READY_COMMA), o->key.text, ready(c, READY_COLON), o->other.text);
    const int64_t least = o->least_other - first, most = o->most_other < 0 ? UNBOUNDED : o->most_other - first;
    if (most != 0 && c->rc == GENARM_OK) {
        put_repeat(c, b, pair.data, least > 0 ? least : 0, most);
    }
    buf_deinit(&pair);
}

/* Whether all from property i on may be missing. */
static bool may_end(const struct object *o, size_t i) {
    for (; i < o->n; i++) {
        if (o->all[i].required) {
            return false;
        }
    }
    return !o->other.text[0] || o->least_other == 0;
}

/* Pairs from property i on, at least one. */
static void put_rest(struct compiler *c, struct buf *b, const struct object *o, size_t i) {
    if (i == o->n) {
        put_others(c, b, o, true);
        return;
    }
    const struct property *p = &o->all[i];
    put_json_string(c, b, p->name, strlen(p->name));
    PUT(c, b, " %s %s", ready(c, READY_COLON), p->value.text);
    if (i + 1 < o->n || o->other.text[0]) {
        PUT(c, b, " %s", o->tails[i + 1].text);
    }
    if (!p->required && (i + 1 < o->n || o->other.text[0])) {
        PUT(c, b, " | %s", o->rests[i + 1].text);
    }
}

static void put_tail(struct compiler *c, struct buf *b, const struct object *o, size_t i) {
    if (i == o->n) {
        put_others(c, b, o, false);
    } else {
        PUT(c, b, "%s%s %s", may_end(o, i) ? "| " : "", ready(c, READY_COMMA), o->rests[i].text);
    }
}

static void put_rules(struct compiler *c, struct object *o) {
    const size_t last = o->n + (o->other.text[0] != '\0'); /* rests [0, last), tails [1, last) */
    for (size_t i = 0; i < last; i++) {
        o->rests[i] = new_rule_name(c, 'o');
        o->tails[i] = i > 0 ? new_rule_name(c, 't') : o->tails[i];
    }
    for (size_t i = 0; i < last && c->rc == GENARM_OK; i++) {
        struct buf text;
        buf_init(&text, 1 << 20);
        put_rest(c, &text, o, i);
        put_rule(c, o->rests[i].text, &text);
        buf_clear(&text);
        if (i > 0) {
            put_tail(c, &text, o, i);
            put_rule(c, o->tails[i].text, &text);
        }
        buf_deinit(&text);
    }
}

bool put_object(struct compiler *c, struct buf *b, const struct shape *s) {
    struct object o = {0};
    bool some = false;
    if (!s->has_object) {
        PUT(c, b, "%s", ready(c, READY_OBJECT));
        return true;
    }
    find_names(c, &o, s->all);
    if (c->rc != GENARM_OK || !compile_values(c, &o, s)) {
        return false;
    }
    compile_others(c, &o, s);
    if (c->rc != GENARM_OK || !limit_most(c, &o, s) || !limit_least(c, &o, s, &some)) {
        return false;
    }
    const char *ws = ready(c, READY_WS);
    put_rules(c, &o);
    if (o.n == 0 && (!o.other.text[0] || o.most_other == 0)) {
        PUT(c, b, "\"{\" %s \"}\"", ws);
    } else {
        PUT(c, b, some ? "\"{\" %s %s %s \"}\"" : "\"{\" %s (%s %s)? \"}\"", ws, o.rests[0].text, ws);
    }
    return true;
}
