/* What a conjunction says of the values of each type: the tightest of its bounds, lengths and counts. */
#include <math.h>
#include <string.h>

#include "guide/schema_compiler.h"

/* Beyond this a bound of a length is none: no answer is that long. */
static const int64_t length_max = 10000000;

static long double number_of(const json_t *value) {
    return json_is_integer(value) ? (long double)json_integer_value(value) : (long double)json_real_value(value);
}

static int64_t count_of(const json_t *value) {
    const long double x = number_of(value);
    return x > (long double)length_max ? length_max + 1 : (int64_t)x;
}

/* ---- types ---- */

static unsigned types_of(const json_t *schema) {
    const json_t *type = json_object_get(schema, "type"), *one;
    unsigned types = type ? 0 : TYPE_ANY;
    size_t i;
    if (json_is_string(type)) {
        types = type_named(json_string_value(type));
    }
    json_array_foreach(type, i, one) { types |= type_named(json_string_value(one)); }
    return json_is_true(json_object_get(schema, "nullable")) ? types | TYPE_NULL : types;
}

/* ---- bounds ---- */

static void tighten(struct bound *b, long double value, bool exclusive, bool low, const json_t *at) {
    const bool tighter = low ? value > b->value : value < b->value;
    if (!b->set || tighter || (value == b->value && exclusive)) {
        *b = (struct bound){true, exclusive, value, at};
    }
}

static void add_bounds(struct shape *s, const json_t *schema) {
    for (int low = 0; low < 2; low++) {
        struct bound *bound = low ? &s->low : &s->high;
        const json_t *value = json_object_get(schema, low ? "minimum" : "maximum");
        const json_t *exclusive = json_object_get(schema, low ? "exclusiveMinimum" : "exclusiveMaximum");
        if (value) {
            tighten(bound, number_of(value), json_is_true(exclusive), low, schema);
        }
        if (json_is_number(exclusive)) {
            tighten(bound, number_of(exclusive), true, low, schema);
        }
    }
}

/* Multiples of whole numbers only; one of those that several ask for must be a multiple of the others. */
static void add_multiple(struct compiler *c, struct shape *s, const json_t *schema) {
    const json_t *value = json_object_get(schema, "multipleOf");
    if (!value) {
        return;
    }
    const long double x = number_of(value);
    if (x <= 0) {
        refuse(c, GENARM_EFORMAT, schema, "multipleOf", "expected a number above 0");
    } else if (x != floorl(x) || x > 1e15L) {
        refuse(c, GENARM_EUNSUPPORTED, schema, "multipleOf", "only multiples of whole numbers can be enforced");
    } else {
        const long long n = (long long)x;
        const long long known = s->multiple_of ? s->multiple_of : 1;
        if (n % known != 0 && known % n != 0) {
            refuse(c, GENARM_EUNSUPPORTED, schema, "multipleOf", "two different multiples cannot be enforced together");
        }
        s->multiple_of = n > known ? n : known;
        s->multiple_at = schema;
    }
}

static bool at_least(int64_t *least, const json_t *value) {
    *least = value && count_of(value) > *least ? count_of(value) : *least;
    return value != NULL;
}

static bool at_most(int64_t *most, const json_t *value) {
    const bool tighter = value && count_of(value) <= length_max && (*most < 0 || count_of(value) < *most);
    *most = tighter ? count_of(value) : *most;
    return value != NULL;
}

/* ---- formats ---- */

/* Those of numbers, and those that say nothing of the characters. False: it is one of strings. */
static bool add_simple_format(struct shape *s, const json_t *schema, const char *format) {
    static const char *const hints[] = {"password", "binary", "double", "float", "int64"};
    if (strcmp(format, "int32") == 0) {
        tighten(&s->low, -2147483648.0L, false, true, schema);
        tighten(&s->high, 2147483647.0L, false, false, schema);
        return true;
    }
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        if (strcmp(format, hints[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void add_texts(struct compiler *c, struct shape *s, const json_t *schema) {
    const char *pattern = json_string_value(json_object_get(schema, "pattern"));
    const char *format = json_string_value(json_object_get(schema, "format"));
    if (pattern && s->pattern && strcmp(pattern, s->pattern) != 0) {
        refuse(c, GENARM_EUNSUPPORTED, schema, "pattern", "two patterns cannot be enforced together");
    }
    if (pattern) {
        s->pattern = pattern;
        s->pattern_at = schema;
    }
    if (!format || add_simple_format(s, schema, format)) {
        return;
    }
    if (s->format && strcmp(format, s->format) != 0) {
        refuse(c, GENARM_EUNSUPPORTED, schema, "format", "two formats cannot be enforced together");
    }
    s->format = format;
    s->format_at = schema;
}

/* ---- the whole ---- */

static void add_schema(struct compiler *c, struct shape *s, const json_t *schema) {
    const bool lengths = at_least(&s->min_length, json_object_get(schema, "minLength"));
    const bool more = at_most(&s->max_length, json_object_get(schema, "maxLength"));
    const bool some = at_least(&s->min_properties, json_object_get(schema, "minProperties"));
    const bool properties = at_most(&s->max_properties, json_object_get(schema, "maxProperties")) || some;
    const unsigned about = keyword_types(schema);
    s->lengths_at = lengths || more ? schema : s->lengths_at;
    s->properties_at = properties ? schema : s->properties_at;
    s->has_min_items = at_least(&s->min_items, json_object_get(schema, "minItems")) || s->has_min_items;
    s->items_at = at_most(&s->max_items, json_object_get(schema, "maxItems")) || !s->items_at ? schema : s->items_at;
    if (json_is_true(json_object_get(schema, "uniqueItems"))) {
        s->unique = true;
        s->unique_at = schema;
    }
    s->closed = s->closed || json_is_false(json_object_get(schema, "unevaluatedProperties"));
    s->has_object = s->has_object || (about & TYPE_OBJECT);
    s->has_array = s->has_array || (about & TYPE_ARRAY);
    add_bounds(s, schema);
    add_multiple(c, s, schema);
    add_texts(c, s, schema);
}

/* Borrowed: the first list of values. */
static json_t *first_values(struct compiler *c, const struct conjunction *all) {
    for (size_t i = 0; i < all->n; i++) {
        json_t *constant = json_object_get(all->items[i].schema, "const");
        json_t *values = json_object_get(all->items[i].schema, "enum");
        if (constant) {
            values = json_pack("[O]", constant);
            if (!values || json_array_append_new(c->owned, values) != 0) {
                c->rc = error_nomem(c->err, "a schema");
                return NULL;
            }
        }
        if (values) {
            return values;
        }
    }
    return NULL;
}

void shape_of(struct compiler *c, struct shape *s, const struct conjunction *all) {
    unsigned about = 0;
    bool typed = false;
    *s = (struct shape){
        .all = all, .types = TYPE_ANY, .max_length = UNBOUNDED, .max_items = UNBOUNDED, .max_properties = UNBOUNDED};
    for (size_t i = 0; i < all->n && c->rc == GENARM_OK; i++) {
        const json_t *schema = all->items[i].schema;
        s->types &= types_of(schema);
        typed = typed || json_object_get(schema, "type");
        about |= keyword_types(schema);
        add_schema(c, s, schema);
    }
    if (s->multiple_of) {
        s->types &= ~(unsigned)TYPE_FRACTION;
    }
    about |= s->format || s->pattern ? TYPE_STRING : 0;
    about |= s->low.set || s->high.set ? TYPE_NUMBER : 0;
    s->true_types = s->types;
    s->values = first_values(c, all);
    if (!typed && about && !s->values) {
        s->types &= about;
    }
}
