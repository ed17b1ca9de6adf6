/* JSON through Jansson. */
#include "base/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

static int parse(json_t **out, const char *text, size_t n, size_t flags, const char *where, struct genarm_error *err) {
    json_error_t e;
    json_t *value = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | flags, &e);
    if (!value) {
        if (json_error_code(&e) == json_error_out_of_memory) {
            return error_nomem(err, "a JSON value");
        }
        const bool zero = json_error_code(&e) == json_error_null_character;
        const char *what = zero ? "a string holds a zero character (\\u0000)" : e.text;
        const int rc = e.line > 1 ? error_set(err, GENARM_EFORMAT, "broken JSON: %s (line %d, column %d)", what,
                                              e.line, e.column)
                                  : error_set(err, GENARM_EFORMAT, "broken JSON: %s (column %d)", what, e.column);
        return error_at(err, rc, "%s", where);
    }
    *out = value;
    return GENARM_OK;
}

int json_parse(json_t **out, const char *text, size_t n, const char *where, struct genarm_error *err) {
    return parse(out, text, n, 0, where, err);
}

/* Appends the number that a text begins with: an integer that 64 bits do not hold with a point, others as they are. Returns its
 * length. */
static size_t put_number(struct buf *b, const char *text, size_t n, int *rc, struct genarm_error *err) {
    const size_t before = b->len;
    size_t size = 0;
    while (size < n && text[size] && strchr("+-.0123456789Ee", text[size])) {
        size++;
    }
    *rc = buf_append(b, text, size, err);
    if (*rc == GENARM_OK && !strpbrk(b->data + before, ".Ee")) {
        errno = 0;
        strtoll(b->data + before, NULL, 10);
        *rc = errno == ERANGE ? buf_puts(b, ".0", err) : GENARM_OK;
    }
    return size;
}

int json_parse_wide(json_t **out, const char *text, size_t n, const char *where, struct genarm_error *err) {
    struct buf wide;
    json_error_t e;
    json_t *value = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    int rc = GENARM_OK;
    if (value) {
        *out = value;
        return GENARM_OK;
    }
    if (json_error_code(&e) != json_error_numeric_overflow) {
        return json_parse(out, text, n, where, err);
    }
    buf_init(&wide, n + n / 4 + 4);
    bool quoted = false;
    for (size_t i = 0, size; i < n && rc == GENARM_OK; i += size) {
        const bool escaped = quoted && text[i] == '\\' && i + 1 < n;
        size = 1 + escaped;
        quoted = text[i] == '"' ? !quoted : quoted;
        if (!quoted && (text[i] == '-' || (text[i] >= '0' && text[i] <= '9'))) {
            size = put_number(&wide, text + i, n - i, &rc, err);
        } else {
            rc = buf_append(&wide, text + i, size, err);
        }
    }
    rc = rc == GENARM_OK ? json_parse(out, wide.data, wide.len, where, err) : rc;
    buf_deinit(&wide);
    return rc;
}

/* Zero characters of a string become U+FFFD. */
static int replace_in_string(json_t *string, struct genarm_error *err) {
    const char *text = json_string_value(string), *const end = text + json_string_length(string);
    struct buf whole;
    buf_init(&whole, 3 * json_string_length(string));
    int rc = GENARM_OK;
    while (rc == GENARM_OK && text + strlen(text) < end) {
        rc = buf_puts(&whole, text, err);
        rc = rc == GENARM_OK ? buf_puts(&whole, "\xEF\xBF\xBD", err) : rc;
        text += strlen(text) + 1;
    }
    rc = rc == GENARM_OK ? buf_puts(&whole, text, err) : rc;
    if (rc == GENARM_OK && json_string_setn(string, whole.data, whole.len) != 0) {
        rc = error_nomem(err, "a JSON value");
    }
    buf_deinit(&whole);
    return rc;
}

static int replace_zeros(json_t *value, struct genarm_error *err) {
    int rc = GENARM_OK;
    json_t *item;
    const char *key;
    size_t i;
    if (json_is_string(value) && strlen(json_string_value(value)) < json_string_length(value)) {
        return replace_in_string(value, err);
    }
    json_array_foreach(value, i, item) { /* neither loops over anything else */
        rc = rc == GENARM_OK ? replace_zeros(item, err) : rc;
    }
    json_object_foreach(value, key, item) {
        rc = rc == GENARM_OK ? replace_zeros(item, err) : rc;
    }
    return rc;
}

int json_parse_sampled(json_t **out, const char *text, size_t n, const char *where, struct genarm_error *err) {
    json_t *value = NULL;
    int rc = parse(&value, text, n, JSON_ALLOW_NUL, where, err);
    rc = rc == GENARM_OK ? replace_zeros(value, err) : rc;
    if (rc != GENARM_OK) {
        json_decref(value);
        return rc;
    }
    *out = value;
    return GENARM_OK;
}

static const char *type_name(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        break;
    }
    return "null";
}

static int wrong_type(const char *key, const char *want, const json_t *got, const char *where,
                      struct genarm_error *err) {
    return error_at(err, error_set(err, GENARM_EFORMAT, "\"%s\" must be %s, not %s", key, want, type_name(got)), "%s",
                    where);
}

/* *out: the member, or NULL when it is missing or null. */
static int member(const json_t **out, const json_t *object, const char *key, const char *where,
                  struct genarm_error *err) {
    if (!json_is_object(object)) {
        return error_at(
            err,
            error_set(err, GENARM_EFORMAT, "must be a JSON object, not %s", object ? type_name(object) : "nothing"),
            "%s", where);
    }
    const json_t *value = json_object_get(object, key);
    *out = json_is_null(value) ? NULL : value;
    return GENARM_OK;
}

int json_opt_string(const char **out, const json_t *object, const char *key, const char *fallback, const char *where,
                    struct genarm_error *err) {
    const json_t *value;
    const int rc = member(&value, object, key, where, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    if (value && !json_is_string(value)) {
        return wrong_type(key, "a string", value, where, err);
    }
    *out = value ? json_string_value(value) : fallback;
    return GENARM_OK;
}

int json_get_string(const char **out, const json_t *object, const char *key, const char *where,
                    struct genarm_error *err) {
    const char *value;
    const int rc = json_opt_string(&value, object, key, NULL, where, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    if (!value) {
        return error_at(err, error_set(err, GENARM_EFORMAT, "\"%s\" is missing", key), "%s", where);
    }
    *out = value;
    return GENARM_OK;
}

int json_opt_number(double *out, const json_t *object, const char *key, double fallback, const char *where,
                    struct genarm_error *err) {
    const json_t *value;
    const int rc = member(&value, object, key, where, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    if (value && !json_is_number(value)) {
        return wrong_type(key, "a number", value, where, err);
    }
    *out = value ? json_number_value(value) : fallback;
    return GENARM_OK;
}

int json_opt_integer(long long *out, const json_t *object, const char *key, long long fallback, const char *where,
                     struct genarm_error *err) {
    const json_t *value;
    const int rc = member(&value, object, key, where, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    if (value && !json_is_integer(value)) {
        return wrong_type(key, "a whole number", value, where, err);
    }
    *out = value ? json_integer_value(value) : fallback;
    return GENARM_OK;
}

struct dump {
    struct buf *b;
    struct genarm_error *err;
    int rc;
};

static int dump_piece(const char *bytes, size_t n, void *user) {
    struct dump *d = user;
    d->rc = buf_append(d->b, bytes, n, d->err);
    return d->rc == GENARM_OK ? 0 : -1;
}

int json_dump(struct buf *b, const json_t *value, struct genarm_error *err) {
    struct dump d = {.b = b, .err = err};
    const size_t before = b->len;
    if (json_dump_callback(value, dump_piece, &d, JSON_COMPACT | JSON_ENCODE_ANY) == 0) {
        return GENARM_OK;
    }
    if (b->data) {
        b->len = before;
        b->data[before] = '\0';
    }
    return d.rc != GENARM_OK ? d.rc : error_set(err, GENARM_EINVAL, "the value cannot be written as JSON");
}

json_t *text_json(const char *text) { return text_json_n(text, strlen(text)); }

json_t *text_json_n(const char *text, size_t n) {
    struct text_tail u = {0};
    struct buf clean;
    json_t *value = NULL;
    buf_init(&clean, 3 * n + 4);
    if (text_push(&u, text, n, &clean, NULL) == 0 && text_end(&u, &clean, NULL) == 0) {
        value = json_stringn(clean.data ? clean.data : "", clean.len);
    }
    buf_deinit(&clean);
    return value;
}
