/* See arms.h. */
#include "arms.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "options.h"

/* NAME in "NAME=...": no part of a path. */
static size_t name_length(const char *text) {
    size_t n = strcspn(text, "=/+:");
    return text[n] == '=' ? n : 0;
}

/* Where ":WEIGHT" starts, or the end of the text. */
static size_t weight_start(const char *text, float *weight) {
    const char *colon = strrchr(text, ':');
    *weight = 1;
    if (colon && colon[1]) {
        char *end;
        float value = strtof(colon + 1, &end);
        if (*end == '\0') {
            *weight = value;
            return (size_t)(colon - text);
        }
    }
    return strlen(text);
}

/* Whether the files of body[0 .. n) exist: the whole as one path, or split at a '+' (*plus, else n). */
static bool body_exists(char *body, size_t *plus, bool (*exists)(const char *path)) {
    size_t n = strlen(body);
    *plus = n;
    if (n > 0 && exists(body)) {
        return true;
    }
    for (size_t i = 1; i + 1 < n; i++) {
        if (body[i] != '+') {
            continue;
        }
        body[i] = '\0';
        bool both = exists(body) && exists(body + i + 1);
        body[i] = '+';
        if (both) {
            *plus = i;
            return true;
        }
    }
    return false;
}

/* Base name of a path without its extension. */
static char *stem(const char *path) {
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    const char *dot = strrchr(base, '.');
    return strndup(base, dot && dot > base ? (size_t)(dot - base) : strlen(base));
}

static int fill(struct arm_spec *out, const char *name, size_t n_name, const char *body, size_t plus, float weight,
                struct genarm_error *err) {
    struct arm_spec spec = {.weight = weight};
    bool split = plus < strlen(body);
    if (!isfinite(weight) || weight < 0) {
        return error_set(err, CLI_USAGE, "the weight must be a finite number, 0 or more");
    }
    if (plus == 0 || (split && body[plus + 1] == '\0')) {
        return error_hint(err, error_set(err, CLI_USAGE, "a path is missing"), "the form is " ARM_FORM);
    }
    spec.path = strndup(body, plus);
    spec.adapter = split ? strdup(body + plus + 1) : NULL;
    spec.name = n_name ? strndup(name, n_name) : stem(split ? body + plus + 1 : body);
    if (spec.name && !utf8_valid(spec.name, strlen(spec.name))) {
        arm_spec_deinit(&spec);
        return error_hint(err, error_set(err, CLI_USAGE, "the name is not UTF-8"), "give one: --arm NAME=PATH");
    }
    if (!spec.path || !spec.name || (split && !spec.adapter)) {
        arm_spec_deinit(&spec);
        return error_nomem(err, "arguments");
    }
    *out = spec;
    return 0;
}

/* The split to speak of in errors when no file exists. */
static size_t likely_plus(const char *body) {
    const char *mark = strstr(body, ".gguf+");
    return mark ? (size_t)(mark - body) + strlen(".gguf") : strlen(body);
}

int arm_spec_parse(struct arm_spec *out, const char *text, bool (*exists)(const char *path), struct genarm_error *err) {
    enum { LAST = 4 }; /* no file exists */
    float weight;
    size_t n_name = name_length(text), n_text = weight_start(text, &weight);
    for (int reading = 0; reading <= LAST; reading++) {
        bool with_name = reading == LAST || !(reading & 1), with_weight = reading == LAST || !(reading & 2);
        const char *start = text + (with_name && n_name ? n_name + 1 : 0);
        char *body = with_weight ? strndup(start, n_text - (size_t)(start - text)) : strdup(start);
        if (!body) {
            return error_nomem(err, "arguments");
        }
        size_t plus;
        bool found = body_exists(body, &plus, exists);
        int code = 0;
        if (found || reading == LAST) {
            code = fill(out, text, with_name ? n_name : 0, body, found ? plus : likely_plus(body),
                        with_weight ? weight : 1, err);
        }
        free(body);
        if (found || reading == LAST) {
            return code;
        }
    }
    return 0;
}

void arm_spec_deinit(struct arm_spec *spec) {
    free(spec->name);
    free(spec->path);
    free(spec->adapter);
    *spec = (struct arm_spec){0};
}
