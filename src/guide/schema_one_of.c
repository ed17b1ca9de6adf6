/* oneOf: a value must satisfy one alternative and none of the others, which a grammar sees to only where no value satisfies two.
 *
 * What is looked at is what a text that is written for one alternative can be, and whether it could satisfy another: other
 * types, other constants, apart bounds, a property that must be there and differs, or one that must and cannot be there. */
#include <string.h>

#include "guide/schema_compiler.h"

enum { LOOK_DEPTH_MAX = 3, PAIRS_MAX = 5000 };

static bool has_disjunctions(const struct conjunction *all) {
    for (size_t i = 0; i < all->n; i++) {
        const struct conjunct *item = &all->items[i];
        if ((json_object_get(item->schema, "anyOf") && !(item->chosen & CHOSEN_ANY_OF)) ||
            (json_object_get(item->schema, "oneOf") && !(item->chosen & CHOSEN_ONE_OF))) {
            return true;
        }
    }
    return false;
}

/* Whether the schema, or the way its objects are written, leaves out a property. */
static bool forbids(const struct conjunction *all, const char *name, bool as_written) {
    bool described = false, listed = false, named = false, forbidden = false;
    for (size_t i = 0; i < all->n; i++) {
        const json_t *schema = all->items[i].schema, *others = json_object_get(schema, "additionalProperties");
        const json_t *own = json_object_get(json_object_get(schema, "properties"), name);
        forbidden = forbidden || json_is_false(own) || (!own && json_is_false(others));
        described = described || others;
        listed = listed || json_object_get(schema, "properties");
        named = named || own || has_name(json_object_get(schema, "required"), name);
    }
    return forbidden || (as_written && listed && !described && !named);
}

static bool apart(struct compiler *c, const struct conjunction *a, const struct conjunction *b, bool open, int depth);

/* Whether a property that objects of `a` must have differs from what it is in `b`, or cannot be there. */
static bool objects_apart(struct compiler *c, const struct conjunction *a, const struct conjunction *b, bool open, int depth) {
    const json_t *name;
    size_t j;
    for (size_t i = 0; i < a->n; i++) {
        json_array_foreach(json_object_get(a->items[i].schema, "required"), j, name) {
            struct conjunction x = {0}, y = {0};
            const char *text = json_string_value(name);
            property_of(c, a, text, &x);
            property_of(c, b, text, &y);
            if (forbids(b, text, false) || (depth < LOOK_DEPTH_MAX && apart(c, &x, &y, open, depth + 1))) {
                return true;
            }
        }
    }
    for (size_t i = 0; i < b->n; i++) {
        json_array_foreach(json_object_get(b->items[i].schema, "required"), j, name) {
            if (forbids(a, json_string_value(name), !open)) {
                return true;
            }
        }
    }
    return false;
}

static bool below(const struct bound *high, const struct bound *low) {
    return high->set && low->set &&
           (high->value < low->value || (high->value == low->value && (high->exclusive || low->exclusive)));
}

/* Whether no value that is listed in `a` can satisfy `b`. */
static bool values_apart(const struct shape *a, const struct shape *b) {
    json_t *x, *y;
    size_t i, j;
    json_array_foreach(a->values, i, x) {
        bool may = (value_types(x) & b->true_types) != 0 && !b->values;
        if (may && json_is_number(x)) {
            may = bounds_admit(&b->low, &b->high, json_is_integer(x) ? (long double)json_integer_value(x) : json_real_value(x));
        }
        json_array_foreach(b->values, j, y) { may = may || values_equal(x, y); }
        if (may) {
            return false;
        }
    }
    return true;
}

/* Whether no text that is written for `a` satisfies `b`. Open: an alternative that is not chosen yet may say more of `a`, which
 * may then be of other types than those that the rest is about, and have more properties. */
static bool apart(struct compiler *c, const struct conjunction *a, const struct conjunction *b, bool open, int depth) {
    struct shape s, t;
    if (a->never || b->never) {
        return true;
    }
    if (!take_steps(c, (a->n + b->n + 1) / 2)) {
        return true;
    }
    shape_of(c, &s, a);
    shape_of(c, &t, b);
    open = open || has_disjunctions(a);
    const unsigned common = (open ? s.true_types : s.types) & t.true_types;
    if (c->rc != GENARM_OK || common == 0) {
        return true;
    }
    if (s.values) {
        return values_apart(&s, &t);
    }
    if (t.values) { /* nothing is known of texts beside their types */
        unsigned types = 0;
        json_t *value;
        size_t i;
        json_array_foreach(t.values, i, value) { types |= value_types(value); }
        return (types & common) == 0;
    }
    if (common & (TYPE_NULL | TYPE_BOOLEAN)) {
        return false;
    }
    if ((common & TYPE_NUMBER) && !below(&s.high, &t.low) && !below(&t.high, &s.low)) {
        return false;
    }
    if ((common & TYPE_STRING) && !(s.max_length >= 0 && s.max_length < t.min_length) &&
        !(t.max_length >= 0 && t.max_length < s.min_length)) {
        return false;
    }
    if ((common & TYPE_ARRAY) && !(s.max_items >= 0 && s.max_items < t.min_items) &&
        !(t.max_items >= 0 && t.max_items < s.min_items)) {
        return false;
    }
    return !(common & TYPE_OBJECT) || objects_apart(c, a, b, open, depth);
}

void check_one_of(struct compiler *c, const struct conjunction *all, const json_t *schema, const json_t *extra) {
    const json_t *alternatives = json_object_get(schema, "oneOf");
    const size_t n = json_array_size(alternatives);
    struct conjunction *each = arena_new(c, n * sizeof *each);
    if (n * n > PAIRS_MAX * 2) {
        refuse(c, GENARM_EUNSUPPORTED, schema, "oneOf", "at most 100 alternatives can be compared with each other: use anyOf");
    }
    for (size_t i = 0; i < n && c->rc == GENARM_OK; i++) {
        each[i] = conjunction_copy(c, all);
        conjoin_part(c, &each[i], json_array_get(alternatives, i));
    }
    for (size_t i = 0; i < n && c->rc == GENARM_OK; i++) {
        struct conjunction mine = conjunction_copy(c, &each[i]);
        if (extra) {
            conjoin_part(c, &mine, extra);
        }
        for (size_t j = 0; j < n && c->rc == GENARM_OK; j++) {
            if (i != j && !apart(c, &mine, &each[j], false, 0)) {
                refuse(c, GENARM_EUNSUPPORTED, schema, "oneOf",
                       "a value might satisfy alternatives %zu and %zu, which cannot be prevented: use anyOf", i, j);
            }
        }
    }
}
