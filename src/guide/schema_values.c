/* enum and const: which of the values satisfy the rest of a schema, and their text. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guide/schema_compiler.h"

enum { VALUE_DEPTH_MAX = 100 };

static long double number_of(const json_t *value) {
    return json_is_integer(value) ? (long double)json_integer_value(value) : (long double)json_real_value(value);
}

unsigned value_types(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return TYPE_OBJECT;
    case JSON_ARRAY:
        return TYPE_ARRAY;
    case JSON_STRING:
        return TYPE_STRING;
    case JSON_INTEGER:
        return TYPE_INTEGER;
    case JSON_REAL:
        return number_of(value) == floorl(number_of(value)) ? TYPE_INTEGER : TYPE_FRACTION;
    case JSON_TRUE:
    case JSON_FALSE:
        return TYPE_BOOLEAN;
    case JSON_NULL:
        break;
    }
    return TYPE_NULL;
}

bool values_equal(const json_t *a, const json_t *b) {
    if (json_is_number(a) && json_is_number(b)) {
        return number_of(a) == number_of(b);
    }
    return json_equal(a, b);
}

bool bounds_admit(const struct bound *low, const struct bound *high, long double x) {
    return (!low->set || x > low->value || (x == low->value && !low->exclusive)) &&
           (!high->set || x < high->value || (x == high->value && !high->exclusive));
}

static int64_t length_of(const json_t *string) {
    const char *text = json_string_value(string);
    int64_t n = 0;
    for (size_t i = 0; i < json_string_length(string); i++) {
        n += ((unsigned char)text[i] & 0xC0) != 0x80;
    }
    return n;
}

static bool within(int64_t x, int64_t least, int64_t most) { return x >= least && (most < 0 || x <= most); }

static bool is_listed(const struct shape *s, const json_t *value) {
    for (size_t i = 0; i < s->all->n; i++) {
        const json_t *constant = json_object_get(s->all->items[i].schema, "const"), *listed;
        const json_t *values = json_object_get(s->all->items[i].schema, "enum");
        bool found = !values;
        size_t j;
        json_array_foreach(values, j, listed) { found = found || values_equal(listed, value); }
        if (!found || (constant && !values_equal(constant, value))) {
            return false;
        }
    }
    return true;
}

/* Whether a listed value satisfies all else; what cannot be told is refused. */
static bool satisfies(struct compiler *c, const struct shape *s, const json_t *value) {
    const unsigned type = value_types(value);
    if (!(type & s->types) || !is_listed(s, value)) {
        return false;
    }
    if (type & TYPE_NUMBER) {
        const long double x = number_of(value);
        return bounds_admit(&s->low, &s->high, x) && (!s->multiple_of || fmodl(x, (long double)s->multiple_of) == 0);
    }
    if (type == TYPE_STRING && s->pattern) {
        refuse(c, GENARM_EUNSUPPORTED, s->pattern_at, "pattern", "a pattern beside enum or const cannot be enforced");
    } else if (type == TYPE_STRING && s->format) {
        refuse(c, GENARM_EUNSUPPORTED, s->format_at, "format", "a format beside enum or const cannot be enforced");
    } else if ((type == TYPE_OBJECT && s->has_object) || (type == TYPE_ARRAY && s->has_array)) {
        refuse(c, GENARM_EUNSUPPORTED, s->all->items[0].schema, NULL,
               "objects and arrays in enum or const cannot be held to further keywords");
    }
    return type != TYPE_STRING || within(length_of(value), s->min_length, s->max_length);
}

json_t *shape_values(struct compiler *c, const struct shape *s) {
    json_t *left = json_array(), *value, *known;
    size_t i, j;
    if (!left || json_array_append_new(c->owned, left) != 0) {
        c->rc = error_nomem(c->err, "a schema");
        return NULL;
    }
    json_array_foreach(s->values, i, value) {
        bool fits = satisfies(c, s, value);
        json_array_foreach(left, j, known) { fits = fits && !values_equal(known, value); }
        if (c->rc == GENARM_OK && fits && json_array_append(left, value) != 0) {
            c->rc = error_nomem(c->err, "a schema");
        }
    }
    return left;
}

/* With as many digits as it takes to read it back, and as a number that is no integer; with a point in every locale. */
static void put_real(struct compiler *c, struct buf *b, double x) {
    char text[40];
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, x);
        if (strtod(text, NULL) == x) {
            break;
        }
    }
    char *point = text + strspn(text, "-0123456789"), *after = point + strcspn(point, "-0123456789e");
    const bool whole = after == point;
    *point = whole ? *point : '\0';
    PUT(c, b, "\"%s%s%s\"", text, whole ? (*point ? "" : ".0") : ".", whole ? "" : after);
}

static void put_nested(struct compiler *c, struct buf *b, const json_t *value, int depth) {
    const char *key, *between = "";
    json_t *member;
    size_t i;
    if (depth > VALUE_DEPTH_MAX) {
        refuse(c, GENARM_EUNSUPPORTED, value, NULL, "values are nested too deeply here");
        return;
    }
    const bool object = json_is_object(value);
    PUT(c, b, "\"%c\" %s", object ? '{' : '[', ready(c, READY_WS));
    json_object_foreach((json_t *)value, key, member) {
        PUT(c, b, "%s ", between);
        put_json_string(c, b, key, strlen(key));
        PUT(c, b, " %s ", ready(c, READY_COLON));
        json_is_object(member) || json_is_array(member) ? put_nested(c, b, member, depth + 1) : put_value(c, b, member);
        between = ready(c, READY_COMMA);
    }
    json_array_foreach(value, i, member) {
        PUT(c, b, "%s ", between);
        json_is_object(member) || json_is_array(member) ? put_nested(c, b, member, depth + 1) : put_value(c, b, member);
        between = ready(c, READY_COMMA);
    }
    PUT(c, b, " %s \"%c\"", *between || json_object_size(value) + json_array_size(value) > 0 ? ready(c, READY_WS) : "",
        object ? '}' : ']');
}

void put_value(struct compiler *c, struct buf *b, const json_t *value) {
    if (json_is_object(value) || json_is_array(value)) {
        put_nested(c, b, value, 0);
    } else if (json_is_string(value)) {
        put_json_string(c, b, json_string_value(value), json_string_length(value));
    } else if (json_is_real(value)) {
        put_real(c, b, json_real_value(value));
    } else if (json_is_integer(value)) {
        PUT(c, b, "\"%lld\"", (long long)json_integer_value(value));
    } else {
        PUT(c, b, "\"%s\"", json_is_null(value) ? "null" : json_is_true(value) ? "true" : "false");
    }
}
