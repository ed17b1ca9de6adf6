/* See spec.h. */
#include "reward/spec.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

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

/* Whether the files of body[0 .. n) exist: the whole as one path, or split at `mark` (*plus, else n). What follows '+' is
 * a path as well, what follows '#' is not. */
static bool body_exists(char *body, char mark, size_t *plus, bool (*exists)(const char *path)) {
    size_t n = strlen(body);
    *plus = n;
    if (n > 0 && exists(body)) {
        return true;
    }
    for (size_t i = 1; i + 1 < n; i++) {
        if (body[i] != mark) {
            continue;
        }
        body[i] = '\0';
        bool both = exists(body) && (mark == '#' || exists(body + i + 1));
        body[i] = mark;
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

/* How the text after the kind is to be read. */
struct form {
    char mark;        /* before what follows the path */
    const char *text; /* for hints */
};

static int fill(struct arm_spec *out, const struct form *form, const char *name, size_t n_name, const char *body,
                size_t plus, float weight, struct genarm_error *err) {
    struct arm_spec spec = {.weight = weight};
    bool split = plus < strlen(body);
    if (!isfinite(weight)) {
        return error_set(err, GENARM_EINVAL, "the weight must be a finite number");
    }
    if (plus == 0 || (split && body[plus + 1] == '\0')) {
        return error_hint(err, error_set(err, GENARM_EINVAL, "a path is missing"), "the form is %s", form->text);
    }
    spec.path = strndup(body, plus);
    spec.adapter = split ? strdup(body + plus + 1) : NULL;
    const char *named = form->mark == '+' && split ? spec.adapter : spec.path;
    spec.name = n_name ? strndup(name, n_name) : named ? stem(named) : NULL;
    if (spec.name && !utf8_valid(spec.name, strlen(spec.name))) {
        arm_spec_deinit(&spec);
        return error_hint(err, error_set(err, GENARM_EINVAL, "the name is not UTF-8"), "give one: NAME=PATH");
    }
    if (!spec.path || !spec.name || (split && !spec.adapter)) {
        arm_spec_deinit(&spec);
        return error_nomem(err, "arguments");
    }
    *out = spec;
    return 0;
}

/* The split to speak of in errors when no file exists. */
static size_t likely_plus(const char *body, char mark) {
    const char *end = strstr(body, ".gguf");
    return end && end[strlen(".gguf")] == mark ? (size_t)(end - body) + strlen(".gguf") : strlen(body);
}

static int parse(struct arm_spec *out, const struct form *form, const char *text, bool (*exists)(const char *path),
                 struct genarm_error *err) {
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
        bool found = body_exists(body, form->mark, &plus, exists);
        int code = 0;
        if (found || reading == LAST) {
            code = fill(out, form, text, with_name ? n_name : 0, body, found ? plus : likely_plus(body, form->mark),
                        with_weight ? weight : 1, err);
        }
        free(body);
        if (found || reading == LAST) {
            return code;
        }
    }
    return 0;
}

int part_spec_parse(struct arm_spec *out, const char *text, bool (*exists)(const char *path), struct genarm_error *err) {
    static const struct form form = {'+', PART_FORM};
    return parse(out, &form, text, exists, err);
}

void arm_spec_deinit(struct arm_spec *spec) {
    free(spec->name);
    free(spec->path);
    free(spec->adapter);
    *spec = (struct arm_spec){0};
}

/* ---- with a kind ---- */

static const char *const kind_names[] = {
#define SOURCE_KIND_NAME(id, prefix) [id] = prefix,
    SOURCE_KINDS(SOURCE_KIND_NAME)
#undef SOURCE_KIND_NAME
};
enum { N_KINDS = sizeof kind_names / sizeof *kind_names };

const char *source_kind_name(enum source_kind kind) { return kind_names[kind]; }

/* Bytes of "KIND:" at the start of a text, 0 for none. */
static size_t read_kind(enum source_kind *kind, const char *text) {
    for (int i = 0; i < N_KINDS; i++) {
        const size_t n = strlen(kind_names[i]);
        if (strncmp(text, kind_names[i], n) == 0 && text[n] == ':') {
            *kind = (enum source_kind)i;
            return n + 1;
        }
    }
    return 0;
}

/* NAME in "NAME=...". A command that starts with a variable's assignment needs a name before it. */
static size_t command_name_length(const char *text) {
    size_t n = 0;
    while (isalnum((unsigned char)text[n]) || (text[n] && strchr("_.-", text[n]))) {
        n++;
    }
    return text[n] == '=' ? n : 0;
}

static int parse_command(struct arm_spec *out, const char *text, struct genarm_error *err) {
    struct arm_spec spec = {0};
    const size_t n_name = command_name_length(text), end = weight_start(text, &spec.weight);
    const size_t start = n_name ? n_name + 1 : 0;
    if (!isfinite(spec.weight)) {
        return error_set(err, GENARM_EINVAL, "the weight must be a finite number");
    }
    if (start + strspn(text + start, " \t\n") >= end) {
        return error_hint(err, error_set(err, GENARM_EINVAL, "a command is missing"),
                          "the form is cmd:[NAME=]COMMAND[:WEIGHT]");
    }
    spec.path = strndup(text + start, end - start);
    spec.name = n_name ? strndup(text, n_name) : strndup(text + start, end - start);
    if (!spec.path || !spec.name) {
        arm_spec_deinit(&spec);
        return error_nomem(err, "arguments");
    }
    if (!utf8_valid(spec.name, strlen(spec.name))) {
        arm_spec_deinit(&spec);
        return error_hint(err, error_set(err, GENARM_EINVAL, "the command is not UTF-8"),
                          "give it a name: cmd:NAME=COMMAND");
    }
    *out = spec;
    return GENARM_OK;
}

/* ---- a model behind a server ---- */

/* Where the weight of "http://HOST[:PORT][/PATH][:WEIGHT]" starts, or the end. */
static size_t url_weight_start(const char *url, float *weight) {
    const size_t end = weight_start(url, weight);
    const char *host = strstr(url, "://") + 3, *bracket = strchr(host, ']');
    const size_t n_host = strcspn(host, "/");
    const char *port = strchr(bracket && bracket < host + n_host ? bracket : host, ':');
    if (port == url + end && port < host + n_host && strspn(port + 1, "0123456789") == strlen(port + 1)) {
        *weight = 1;
        return strlen(url);
    }
    return end;
}

static int parse_openai(struct arm_spec *out, const char *text, struct genarm_error *err) {
    static const char form[] =
        "the form is openai:[NAME=]MODEL@BASE_URL[:WEIGHT], such as openai:gpt-4o@https://api.openai.com/v1";
    const size_t n_name = command_name_length(text);
    const char *model = text + (n_name ? n_name + 1 : 0), *at = strstr(model, "@http://");
    at = at ? at : strstr(model, "@https://");
    if (!at || at == model) {
        const bool scheme = !at && strchr(model, '@') > model;
        return error_hint(err, error_set(err, GENARM_EINVAL, scheme ? "the base URL must begin with http:// or https://"
                                                                    : "a model or its base URL is missing"), "%s", form);
    }
    struct arm_spec spec = {0};
    const size_t end = url_weight_start(at + 1, &spec.weight);
    if (!isfinite(spec.weight)) {
        return error_set(err, GENARM_EINVAL, "the weight must be a finite number");
    }
    if (!utf8_valid(text, strlen(text))) {
        return error_set(err, GENARM_EINVAL, "this is not UTF-8");
    }
    spec.path = strndup(model, (size_t)(at - model));
    spec.adapter = strndup(at + 1, end);
    spec.name = n_name ? strndup(text, n_name) : strndup(model, (size_t)(at - model));
    if (!spec.path || !spec.adapter || !spec.name) {
        arm_spec_deinit(&spec);
        return error_nomem(err, "arguments");
    }
    *out = spec;
    return GENARM_OK;
}

int source_spec_parse(struct source_spec *out, const char *text, bool (*exists)(const char *path),
                      struct genarm_error *err) {
    static const struct form forms[] = {{'+', "[KIND:]" PART_FORM}, {'#', "rank:[NAME=]PATH[#LABEL][:WEIGHT]"}};
    struct source_spec spec = {.kind = SOURCE_RM};
    const char *rest = text + read_kind(&spec.kind, text);
    const int rc = spec.kind == SOURCE_CMD      ? parse_command(&spec.part, rest, err)
                   : spec.kind == SOURCE_OPENAI ? parse_openai(&spec.part, rest, err)
                                                : parse(&spec.part, &forms[spec.kind == SOURCE_RANK], rest, exists, err);
    if (rc == GENARM_OK) {
        *out = spec;
    }
    return rc;
}

void source_spec_deinit(struct source_spec *spec) {
    arm_spec_deinit(&spec->part);
    spec->kind = SOURCE_RM;
}
