/* Keywords of JSON Schema: which are known, what their values must be, and where in the schema one is, for errors. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guide/schema_compiler.h"

enum { POINTER_DEPTH_MAX = 4096, CHILDREN_MAX = 4000 };

/* ---- places ---- */

static int put_step(struct buf *b, const char *key) {
    int rc = buf_puts(b, "/", NULL);
    for (; *key && rc == GENARM_OK; key++) {
        rc = *key == '~' ? buf_puts(b, "~0", NULL) : *key == '/' ? buf_puts(b, "~1", NULL) : buf_append(b, key, 1, NULL);
    }
    return rc;
}

/* Appends the JSON pointer of a part of a value; false: it is none. */
static bool find_pointer(struct buf *b, const json_t *in, const json_t *part, int depth) {
    const size_t before = b->len;
    const char *key;
    json_t *value;
    size_t i;
    if (in == part || depth > POINTER_DEPTH_MAX) {
        return in == part;
    }
    json_object_foreach((json_t *)in, key, value) {
        if (put_step(b, key) == GENARM_OK && find_pointer(b, value, part, depth + 1)) {
            return true;
        }
        b->len = before;
    }
    json_array_foreach(in, i, value) {
        char number[24];
        snprintf(number, sizeof number, "%zu", i);
        if (put_step(b, number) == GENARM_OK && find_pointer(b, value, part, depth + 1)) {
            return true;
        }
        b->len = before;
    }
    return false;
}

void refuse(struct compiler *c, int code, const json_t *schema, const char *keyword, const char *fmt, ...) {
    char what[400];
    struct buf pointer;
    va_list args;
    if (c->rc != GENARM_OK) {
        return;
    }
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    buf_init(&pointer, 600);
    if (!find_pointer(&pointer, c->root, schema, 0)) {
        buf_clear(&pointer);
    } else if (pointer.data) {
        pointer.data[pointer.len] = '\0';
    }
    if (keyword) {
        put_step(&pointer, keyword);
    }
    c->rc = error_set(c->err, code, "%s%s: %s", pointer.len ? pointer.data : "", pointer.len ? "" : "the schema", what);
    if (code == GENARM_EUNSUPPORTED) {
        error_hint(c->err, code, "a grammar cannot hold an answer to all of JSON Schema; leave it out and check the answer");
    }
    buf_deinit(&pointer);
}

/* ---- the keywords ---- */

enum form {
    FORM_ANYTHING,
    FORM_SCHEMA,
    FORM_SCHEMAS,        /* an array of them, not empty */
    FORM_SCHEMA_OR_LIST, /* one or an array of them */
    FORM_SCHEMA_MAP,
    FORM_STRING,
    FORM_STRINGS,
    FORM_NUMBER,
    FORM_BOUND, /* a number or, as in draft 4 and OpenAPI 3.0, a boolean */
    FORM_COUNT, /* a whole number from 0 on */
    FORM_BOOLEAN,
    FORM_VALUES, /* an array that is not empty */
    FORM_TYPE
};

enum role { ROLE_NOTE, ROLE_ASSERT, ROLE_COMBINE, ROLE_REFUSED };

static const struct keyword {
    const char *name;
    enum role role;
    enum form form;
    unsigned types; /* of values it is about */
} keywords[] = {
    {"type", ROLE_ASSERT, FORM_TYPE, 0},
    {"enum", ROLE_ASSERT, FORM_VALUES, 0},
    {"const", ROLE_ASSERT, FORM_ANYTHING, 0},
    {"nullable", ROLE_NOTE, FORM_BOOLEAN, 0}, /* OpenAPI 3.0; read with `type` */
    {"properties", ROLE_ASSERT, FORM_SCHEMA_MAP, TYPE_OBJECT},
    {"required", ROLE_ASSERT, FORM_STRINGS, TYPE_OBJECT},
    {"additionalProperties", ROLE_ASSERT, FORM_SCHEMA, TYPE_OBJECT},
    {"unevaluatedProperties", ROLE_ASSERT, FORM_BOOLEAN, TYPE_OBJECT},
    {"minProperties", ROLE_ASSERT, FORM_COUNT, TYPE_OBJECT},
    {"maxProperties", ROLE_ASSERT, FORM_COUNT, TYPE_OBJECT},
    {"prefixItems", ROLE_ASSERT, FORM_SCHEMAS, TYPE_ARRAY},
    {"items", ROLE_ASSERT, FORM_SCHEMA_OR_LIST, TYPE_ARRAY},
    {"additionalItems", ROLE_ASSERT, FORM_SCHEMA, TYPE_ARRAY},
    {"minItems", ROLE_ASSERT, FORM_COUNT, TYPE_ARRAY},
    {"maxItems", ROLE_ASSERT, FORM_COUNT, TYPE_ARRAY},
    {"uniqueItems", ROLE_ASSERT, FORM_BOOLEAN, TYPE_ARRAY},
    {"minLength", ROLE_ASSERT, FORM_COUNT, TYPE_STRING},
    {"maxLength", ROLE_ASSERT, FORM_COUNT, TYPE_STRING},
    {"pattern", ROLE_ASSERT, FORM_STRING, TYPE_STRING},
    {"format", ROLE_ASSERT, FORM_STRING, 0}, /* of strings or of numbers */
    {"minimum", ROLE_ASSERT, FORM_NUMBER, TYPE_NUMBER},
    {"maximum", ROLE_ASSERT, FORM_NUMBER, TYPE_NUMBER},
    {"exclusiveMinimum", ROLE_ASSERT, FORM_BOUND, TYPE_NUMBER},
    {"exclusiveMaximum", ROLE_ASSERT, FORM_BOUND, TYPE_NUMBER},
    {"multipleOf", ROLE_ASSERT, FORM_NUMBER, TYPE_NUMBER},
    {"$ref", ROLE_COMBINE, FORM_STRING, 0},
    {"allOf", ROLE_COMBINE, FORM_SCHEMAS, 0},
    {"anyOf", ROLE_ASSERT, FORM_SCHEMAS, 0},
    {"oneOf", ROLE_ASSERT, FORM_SCHEMAS, 0},
    {"$schema", ROLE_NOTE, FORM_ANYTHING, 0},
    {"$id", ROLE_NOTE, FORM_STRING, 0},
    {"id", ROLE_NOTE, FORM_STRING, 0},
    {"$anchor", ROLE_NOTE, FORM_STRING, 0},
    {"$comment", ROLE_NOTE, FORM_ANYTHING, 0},
    {"$vocabulary", ROLE_NOTE, FORM_ANYTHING, 0},
    {"$defs", ROLE_NOTE, FORM_ANYTHING, 0},
    {"definitions", ROLE_NOTE, FORM_ANYTHING, 0},
    {"title", ROLE_NOTE, FORM_ANYTHING, 0},
    {"description", ROLE_NOTE, FORM_ANYTHING, 0},
    {"default", ROLE_NOTE, FORM_ANYTHING, 0},
    {"example", ROLE_NOTE, FORM_ANYTHING, 0},
    {"examples", ROLE_NOTE, FORM_ANYTHING, 0},
    {"deprecated", ROLE_NOTE, FORM_ANYTHING, 0},
    {"readOnly", ROLE_NOTE, FORM_ANYTHING, 0},
    {"writeOnly", ROLE_NOTE, FORM_ANYTHING, 0},
    {"contentMediaType", ROLE_NOTE, FORM_ANYTHING, 0},
    {"contentEncoding", ROLE_NOTE, FORM_ANYTHING, 0},
    {"contentSchema", ROLE_NOTE, FORM_ANYTHING, 0},
    {"discriminator", ROLE_NOTE, FORM_ANYTHING, 0},
    {"externalDocs", ROLE_NOTE, FORM_ANYTHING, 0},
    {"xml", ROLE_NOTE, FORM_ANYTHING, 0},
    {"not", ROLE_REFUSED, FORM_ANYTHING, 0},
    {"if", ROLE_REFUSED, FORM_ANYTHING, 0},
    {"then", ROLE_REFUSED, FORM_ANYTHING, 0},
    {"else", ROLE_REFUSED, FORM_ANYTHING, 0},
    {"patternProperties", ROLE_REFUSED, FORM_ANYTHING, 0},
    {"propertyNames", ROLE_REFUSED, FORM_ANYTHING, 0},
    {"dependencies", ROLE_REFUSED, FORM_ANYTHING, 0},
    {"dependentRequired", ROLE_REFUSED, FORM_ANYTHING, 0},
    {"dependentSchemas", ROLE_REFUSED, FORM_ANYTHING, 0},
    {"contains", ROLE_REFUSED, FORM_ANYTHING, 0},
    {"minContains", ROLE_REFUSED, FORM_ANYTHING, 0},
    {"maxContains", ROLE_REFUSED, FORM_ANYTHING, 0},
    {"unevaluatedItems", ROLE_REFUSED, FORM_ANYTHING, 0},
    {"$dynamicRef", ROLE_REFUSED, FORM_ANYTHING, 0},
    {"$dynamicAnchor", ROLE_REFUSED, FORM_ANYTHING, 0},
    {"$recursiveRef", ROLE_REFUSED, FORM_ANYTHING, 0},
    {"$recursiveAnchor", ROLE_REFUSED, FORM_ANYTHING, 0},
};

static const struct keyword *keyword_named(const char *name) {
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++) {
        if (strcmp(keywords[i].name, name) == 0) {
            return &keywords[i];
        }
    }
    return NULL;
}

unsigned type_named(const char *name) {
    static const struct {
        const char *name;
        unsigned type;
    } types[] = {{"null", TYPE_NULL},     {"boolean", TYPE_BOOLEAN}, {"object", TYPE_OBJECT},  {"array", TYPE_ARRAY},
                 {"string", TYPE_STRING}, {"number", TYPE_NUMBER},   {"integer", TYPE_INTEGER}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(types[i].name, name) == 0) {
            return types[i].type;
        }
    }
    return 0;
}

static bool is_schema(const json_t *value) { return json_is_object(value) || json_is_boolean(value); }

/* Whether an array has items, all of which are so, and not too many. */
static bool all_are(const json_t *array, bool (*is)(const json_t *), bool may_be_empty) {
    size_t i;
    json_t *item;
    if (!json_is_array(array) || json_array_size(array) > CHILDREN_MAX || (json_array_size(array) == 0 && !may_be_empty)) {
        return false;
    }
    json_array_foreach(array, i, item) {
        if (!is(item)) {
            return false;
        }
    }
    return true;
}

static bool is_type(const json_t *value) { return json_is_string(value) && type_named(json_string_value(value)) != 0; }
static bool is_string(const json_t *value) { return json_is_string(value); }
static bool is_anything(const json_t *value) { return value != NULL; }

static bool is_count(const json_t *value) {
    return json_is_integer(value) ? json_integer_value(value) >= 0
                                  : json_is_real(value) && json_real_value(value) >= 0 && json_real_value(value) < 1e15 &&
                                        json_real_value(value) == (double)(long long)json_real_value(value);
}

static bool is_schema_map(const json_t *value) {
    const char *key;
    json_t *schema;
    if (!json_is_object(value) || json_object_size(value) > CHILDREN_MAX) {
        return false;
    }
    json_object_foreach((json_t *)value, key, schema) {
        if (!is_schema(schema)) {
            return false;
        }
    }
    return true;
}

/* NULL, or what the value must be. */
static const char *wrong_form(enum form form, const json_t *value) {
    switch (form) {
    case FORM_ANYTHING:
        return NULL;
    case FORM_SCHEMA:
        return is_schema(value) ? NULL : "expected a schema: an object, true or false";
    case FORM_SCHEMAS:
        return all_are(value, is_schema, false) ? NULL : "expected an array of schemas (1 to 4000)";
    case FORM_SCHEMA_OR_LIST:
        return is_schema(value) || all_are(value, is_schema, true) ? NULL : "expected a schema or an array of schemas";
    case FORM_SCHEMA_MAP:
        return is_schema_map(value) ? NULL : "expected an object of schemas (up to 4000)";
    case FORM_STRING:
        return json_is_string(value) ? NULL : "expected a string";
    case FORM_STRINGS:
        return all_are(value, is_string, true) ? NULL : "expected an array of strings (up to 4000)";
    case FORM_NUMBER:
        return json_is_number(value) ? NULL : "expected a number";
    case FORM_BOUND:
        return json_is_number(value) || json_is_boolean(value) ? NULL : "expected a number, true or false";
    case FORM_COUNT:
        return is_count(value) ? NULL : "expected a whole number from 0 on";
    case FORM_BOOLEAN:
        return json_is_boolean(value) ? NULL : "expected true or false";
    case FORM_VALUES:
        return all_are(value, is_anything, false) ? NULL : "expected an array of values (1 to 4000)";
    case FORM_TYPE:
        return is_type(value) || all_are(value, is_type, false)
                   ? NULL
                   : "expected null, boolean, object, array, string, number or integer, or an array of those";
    }
    return NULL;
}

bool check_keywords(struct compiler *c, const json_t *schema, bool *asserts) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)schema, name, value) {
        const struct keyword *k = keyword_named(name);
        if (!k && strncmp(name, "x-", 2) == 0) {
            continue;
        }
        if (!k) {
            refuse(c, GENARM_EUNSUPPORTED, schema, name, "this is no keyword of JSON Schema");
        } else if (k->role == ROLE_REFUSED) {
            refuse(c, GENARM_EUNSUPPORTED, schema, name, "a grammar cannot enforce this keyword");
        } else if (wrong_form(k->form, value)) {
            refuse(c, GENARM_EFORMAT, schema, name, "%s", wrong_form(k->form, value));
        }
        if (c->rc != GENARM_OK) {
            return false;
        }
        *asserts = *asserts || k->role == ROLE_ASSERT;
    }
    return true;
}

unsigned keyword_types(const json_t *schema) {
    unsigned types = 0;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)schema, name, value) {
        const struct keyword *k = keyword_named(name);
        types |= k ? k->types : 0;
    }
    return types;
}

/* ---- references ---- */

static int hex_digit(char c) {
    const char *digits = "0123456789abcdef0123456789ABCDEF", *at = c ? strchr(digits, c) : NULL;
    return at ? (int)((at - digits) % 16) : -1;
}

/* Decodes one step of a pointer in place, from percent signs and tildes. */
static void decode_step(char *step) {
    char *to = step;
    for (const char *from = step; *from; from++) {
        if (*from == '%' && hex_digit(from[1]) >= 0 && hex_digit(from[2]) >= 0) {
            *to++ = (char)(hex_digit(from[1]) * 16 + hex_digit(from[2]));
            from += 2;
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
    to = step;
    for (const char *from = step; *from; from++) {
        const bool tilde = *from == '~' && (from[1] == '0' || from[1] == '1');
        *to++ = tilde ? (from[1] == '0' ? '~' : '/') : *from;
        from += tilde;
    }
    *to = '\0';
}

static const json_t *member(const json_t *value, const char *step) {
    if (json_is_object(value)) {
        return json_object_get(value, step);
    }
    char *end;
    const unsigned long i = strtoul(step, &end, 10);
    return *step >= '0' && *step <= '9' && !*end ? json_array_get(value, i) : NULL;
}

const json_t *resolve_ref(struct compiler *c, const json_t *schema) {
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    const char *id = json_string_value(json_object_get(c->root, "$id"));
    const size_t n_id = id ? strcspn(id, "#") : 0;
    if (n_id > 0 && strncmp(ref, id, n_id) == 0 && ref[n_id] == '#') {
        ref += n_id;
    }
    if (ref[0] != '#' || (ref[1] && ref[1] != '/')) {
        refuse(c, GENARM_EUNSUPPORTED, schema, "$ref", "only references into this schema, # and #/..., are followed");
        return NULL;
    }
    const json_t *at = c->root;
    char *copy = strdup(ref + 1), *rest = copy;
    if (!copy) {
        c->rc = error_nomem(c->err, "a schema");
        return NULL;
    }
    while (at && rest && *rest) {
        char *step = rest + 1;
        rest = strchr(step, '/');
        if (rest) {
            *rest = '\0';
        }
        decode_step(step);
        at = member(at, step);
        if (rest) {
            *rest = '/';
        }
    }
    free(copy);
    if (!at || !is_schema(at)) {
        refuse(c, GENARM_EFORMAT, schema, "$ref", "there is no schema at \"%.100s\"", ref);
        return NULL;
    }
    return at;
}
