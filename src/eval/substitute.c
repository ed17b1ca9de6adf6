/* See substitute.h. */
#include "eval/substitute.h"

#include <ctype.h>
#include <string.h>

#include "base/names.h"

enum { TEXT_MAX = 1 << 20 };

static bool name_start(char c) { return isalpha((unsigned char)c) || c == '_'; }

/* Bytes of a name; those of models may have a dash. */
static size_t name_length(const char *text, bool dashes) {
    size_t n = 0;
    if (!name_start(*text)) {
        return 0;
    }
    while (isalnum((unsigned char)text[n]) || text[n] == '_' || (dashes && text[n] == '-')) {
        n++;
    }
    while (dashes && n > 0 && text[n - 1] == '-') {
        n--; /* "$a-$b" */
    }
    return n;
}

static int unknown_variable(const struct point *point, const char *name, struct genarm_error *err) {
    const char *names[64];
    char near[NAME_MAX_LENGTH];
    size_t n = 0;
    for (; n < point->n && n < sizeof names / sizeof *names; n++) {
        names[n] = point->bindings[n].name;
    }
    int code;
    if (nearest_name(name, names, n, near, sizeof near)) {
        code = error_set(err, GENARM_EFORMAT, "there is no variable {%s} here; did you mean {%s}?", name, near);
    } else {
        code = error_set(err, GENARM_EFORMAT, "there is no variable {%s} here: its sweep has none of this name", name);
    }
    return error_hint(err, code, "{{%s}} is the text {%s}", name, name);
}

/* The value of {name}. *n: bytes of the text that it stands for; 0: it is no variable. */
static int put_variable(struct buf *out, size_t *n, const char *text, const struct substitution *s, struct genarm_error *err) {
    char name[NAME_MAX_LENGTH];
    const bool escaped = text[1] == '{';
    const char *start = text + 1 + escaped;
    const size_t length = name_length(start, false);
    *n = 0;
    if (length == 0 || length >= sizeof name || start[length] != '}' || (escaped && start[length + 1] != '}')) {
        return 0;
    }
    memcpy(name, start, length);
    name[length] = '\0';
    *n = length + 2 + 2 * (size_t)escaped;
    if (escaped) {
        return buf_printf(out, err, "{%s}", name);
    }
    const char *value = point_get(s->point, name);
    if (value) {
        return buf_puts(out, value, err);
    }
    if (strcmp(name, "system") == 0 || strcmp(name, "prompt") == 0) {
        return buf_append(out, text, *n, err);
    }
    return unknown_variable(s->point, name, err);
}

/* What $name stands for. */
static int put_reference(struct buf *out, size_t *n, const char *text, const struct substitution *s, struct genarm_error *err) {
    char name[NAME_MAX_LENGTH];
    const bool braced = text[1] == '{';
    const char *start = text + 1 + braced;
    const size_t length = name_length(start, true);
    *n = 1;
    if (text[1] == '$') {
        *n = 2;
        return buf_puts(out, "$", err);
    }
    if (length == 0 || length >= sizeof name || (braced && start[length] != '}')) {
        return buf_puts(out, "$", err);
    }
    memcpy(name, start, length);
    name[length] = '\0';
    *n = length + 1 + 2 * (size_t)braced;
    return s->resolve(out, name, s->user, err);
}

/* Copies a text, with what begins with `mark` put in by `put`. */
static int replace(struct buf *out, const char *text, char mark, const struct substitution *s,
                   int (*put)(struct buf *, size_t *, const char *, const struct substitution *, struct genarm_error *),
                   struct genarm_error *err) {
    int code = 0;
    while (*text && code == 0) {
        const char *found = strchr(text, mark);
        size_t n = found ? (size_t)(found - text) : strlen(text);
        code = buf_append(out, text, n, err);
        text += n;
        if (code == 0 && found) {
            code = put(out, &n, text, s, err);
            if (code == 0 && n == 0) {
                code = buf_append(out, text, n = 1, err);
            }
            text += n;
        }
    }
    return code;
}

/* `${name}` is no variable; "$$", a dollar, may stand before one. */
static int put_brace(struct buf *out, size_t *n, const char *text, const struct substitution *s, struct genarm_error *err) {
    size_t dollars = 0;
    while (dollars < out->len && out->data[out->len - 1 - dollars] == '$') {
        dollars++;
    }
    *n = 0;
    return dollars % 2 ? 0 : put_variable(out, n, text, s, err);
}

int substitute(struct buf *out, const char *text, const struct substitution *s, struct genarm_error *err) {
    struct buf with_values;
    buf_init(&with_values, TEXT_MAX);
    int code = replace(&with_values, text, '{', s, put_brace, err);
    code = code ? code : replace(out, with_values.data ? with_values.data : "", '$', s, put_reference, err);
    buf_deinit(&with_values);
    return code;
}
