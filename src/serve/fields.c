/* See fields.h. */
#include "serve/fields.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/names.h"

int field_error(struct genarm_error *err, const char *name, const char *fmt, ...) {
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return error_at(err, error_set(err, GENARM_EINVAL, "%s", text), "%s", name);
}

static int wrong_type(struct genarm_error *err, const struct field *f, const json_t *value) {
    static const char *const wanted[] =
        {[FIELD_BOOL] = "true or false", [FIELD_INTEGER] = "an integer", [FIELD_NUMBER] = "a number",
         [FIELD_STRING] = "a string",    [FIELD_OBJECT] = "an object",   [FIELD_ARRAY] = "an array"};
    static const char *const types[] = {[JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array", [JSON_STRING] = "a string",
                                        [JSON_INTEGER] = "an integer", [JSON_REAL] = "a number", [JSON_TRUE] = "true",
                                        [JSON_FALSE] = "false", [JSON_NULL] = "null"};
    return field_error(err, f->name, "'%s' must be %s, not %s", f->name, wanted[f->type], types[json_typeof(value)]);
}

bool field_whole(const json_t *value, int64_t *out) {
    const double x = json_number_value(value);
    if (json_is_integer(value)) {
        *out = (int64_t)json_integer_value(value);
        return true;
    }
    if (!json_is_number(value) || x != floor(x) || fabs(x) > 9007199254740992.0) {
        return false;
    }
    *out = (int64_t)x;
    return true;
}

static int read_number(const struct field *f, const json_t *value, void *member, struct genarm_error *err) {
    const double x = json_number_value(value);
    if (!json_is_number(value)) {
        return wrong_type(err, f, value);
    }
    int64_t whole = 0;
    if (f->type == FIELD_INTEGER && !field_whole(value, &whole)) {
        return field_error(err, f->name, "'%s' must be an integer", f->name);
    }
    if (!(x >= f->min && x <= f->max)) {
        return field_error(err, f->name, "'%s' is %.15g: it must be from %.15g to %.15g", f->name, x, f->min, f->max);
    }
    if (f->type == FIELD_INTEGER) {
        *(int64_t *)member = whole;
    } else {
        *(double *)member = x;
    }
    return GENARM_OK;
}

static bool same_value(const json_t *a, const json_t *b) { /* 0 and 0.0 too */
    return json_equal(a, b) || (json_is_number(a) && json_is_number(b) && json_number_value(a) == json_number_value(b));
}

/* Whether a value is the neutral one, or one of a list of them. */
static bool is_neutral(const struct field *f, const json_t *value) {
    json_t *neutral = json_loads(f->neutral, JSON_DECODE_ANY, NULL), *each;
    bool found = same_value(neutral, value);
    size_t i;
    json_array_foreach(neutral, i, each) {
        found = found || same_value(each, value);
    }
    json_decref(neutral);
    return found;
}

static int read_field(const struct field *f, const json_t *value, char *out, struct genarm_error *err) {
    void *member = out + f->offset;
    switch (f->type) {
    case FIELD_BOOL:
        if (!json_is_boolean(value)) {
            return wrong_type(err, f, value);
        }
        *(bool *)member = json_is_true(value);
        return GENARM_OK;
    case FIELD_INTEGER:
    case FIELD_NUMBER:
        return read_number(f, value, member, err);
    case FIELD_STRING:
        if (!json_is_string(value)) {
            return wrong_type(err, f, value);
        }
        *(const char **)member = json_string_value(value);
        return GENARM_OK;
    case FIELD_OBJECT:
    case FIELD_ARRAY:
        if (f->type == FIELD_OBJECT ? !json_is_object(value) : !json_is_array(value)) {
            return wrong_type(err, f, value);
        }
        *(const json_t **)member = value;
        return GENARM_OK;
    case FIELD_ANY:
        *(const json_t **)member = value;
        return GENARM_OK;
    case FIELD_IGNORED:
        return GENARM_OK;
    case FIELD_NEUTRAL:
        return is_neutral(f, value) ? GENARM_OK : field_error(err, f->name, "'%s' is not supported", f->name);
    }
    return GENARM_OK;
}

static int unknown(const char *name, const struct field *fields, size_t n, struct genarm_error *err) {
    char near[NAME_MAX_LENGTH];
    const char *names[128];
    for (size_t i = 0; i < n && i < 128; i++) {
        names[i] = fields[i].name;
    }
    if (nearest_name(name, names, n < 128 ? n : 128, near, sizeof near)) {
        return field_error(err, name, "unknown field '%.100s': did you mean '%s'?", name, near);
    }
    return field_error(err, name, "unknown field '%.100s'", name);
}

int fields_read(const json_t *object, const struct field *fields, size_t n, void *out, struct genarm_error *err) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)object, name, value) { /* only read */
        size_t i = 0;
        while (i < n && strcmp(fields[i].name, name) != 0) {
            i++;
        }
        int rc = GENARM_OK;
        if (i == n) {
            rc = unknown(name, fields, n, err);
        } else if (!json_is_null(value)) {
            rc = read_field(&fields[i], value, out, err);
        }
        if (rc != GENARM_OK) {
            return rc;
        }
    }
    return GENARM_OK;
}

int fields_parse(json_t **out, const char *body, size_t n, struct genarm_error *err) {
    json_t *value = NULL;
    int rc = json_parse_wide(&value, body, n, "body", err);
    if (rc == GENARM_OK && !json_is_object(value)) {
        json_decref(value);
        rc = error_set(err, GENARM_EFORMAT, "the body must be a JSON object");
    }
    if (rc == GENARM_OK) {
        *out = value;
    }
    return rc;
}

int fields_tokens(int32_t **out, size_t *n, const json_t *array, const char *name, int32_t n_vocab, struct genarm_error *err) {
    const size_t n_tokens = json_array_size(array);
    int32_t *tokens = calloc(n_tokens ? n_tokens : 1, sizeof *tokens);
    if (!tokens) {
        return error_nomem(err, "tokens");
    }
    for (size_t i = 0; i < n_tokens; i++) {
        int64_t token;
        if (!field_whole(json_array_get(array, i), &token) || token < 0 || token >= n_vocab) {
            free(tokens);
            return field_error(err, name, "'%s' must be tokens, integers from 0 to %d", name, n_vocab - 1);
        }
        tokens[i] = (int32_t)token;
    }
    *out = tokens;
    *n = n_tokens;
    return GENARM_OK;
}
