/* See preferences.h. */
#include "preferences.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "tell.h"


enum { MAX_OBJECTIVES = 16, ITEM_MAX = 128 };

/* One item of a list: "NAME=NUMBER" or "NUMBER". */
struct item {
    const char *name;
    size_t n_name; /* 0: none is given */
    float weight;
};

/* Reads the item at *cursor and moves behind its comma; false: it is none. */
static bool next_item(struct item *item, const char **cursor) {
    char text[ITEM_MAX];
    const size_t n = strcspn(*cursor, ",");
    if (n == 0 || n >= sizeof text) {
        return false;
    }
    memcpy(text, *cursor, n);
    text[n] = '\0';
    const char *equals = strrchr(text, '='), *number = equals ? equals + 1 : text;
    char *end;
    item->name = *cursor;
    item->n_name = equals ? (size_t)(equals - text) : 0;
    item->weight = strtof(number, &end);
    *cursor += n + ((*cursor)[n] == ',');
    return end != number && *end == '\0' && (!equals || item->n_name > 0) && !memchr(text, '=', item->n_name);
}

/* Whether a text is a list: of named items only, or of plain numbers only. */
static bool is_list(const char *text, bool named) {
    const size_t length = strlen(text);
    struct item item;
    bool ok = length > 0 && text[length - 1] != ',';
    for (const char *cursor = text; *cursor && ok;) {
        ok = next_item(&item, &cursor) && (item.n_name > 0) == named;
    }
    return ok;
}

static int32_t find(const char *const *objectives, size_t n, const struct item *item) {
    for (size_t i = 0; i < n; i++) {
        if (strlen(objectives[i]) == item->n_name && memcmp(objectives[i], item->name, item->n_name) == 0) {
            return (int32_t)i;
        }
    }
    return -1;
}

/* "helpful, harmless" */
static void list_names(char *out, size_t max, const char *const *objectives, size_t n) {
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < n && at < max; i++) {
        at += (size_t)snprintf(out + at, max - at, "%s%s", i ? ", " : "", objectives[i]);
    }
}

static int parse_named(float *weights, const char *const *objectives, size_t n, const char *text, struct genarm_error *err) {
    bool given[MAX_OBJECTIVES] = {false};
    char names[200];
    struct item item;
    list_names(names, sizeof names, objectives, n);
    for (const char *cursor = text; *cursor && next_item(&item, &cursor);) {
        const int32_t i = find(objectives, n, &item);
        if (i < 0) {
            return error_hint(err, error_set(err, CLI_USAGE, "no objective is called \"%.*s\"", (int)item.n_name, item.name),
                              "the objectives are %s", names);
        }
        if (given[i]) {
            return error_set(err, CLI_USAGE, "objective %s is given twice", objectives[i]);
        }
        given[i] = true;
        weights[i] = item.weight;
    }
    for (size_t i = 0; i < n; i++) {
        if (!given[i]) {
            return error_hint(err, error_set(err, CLI_USAGE, "objective %s has no weight", objectives[i]),
                              "name all of %s", names);
        }
    }
    return 0;
}

int preference_parse(float *weights, const char *const *objectives, size_t n, const char *text, struct genarm_error *err) {
    char names[200];
    list_names(names, sizeof names, objectives, n);
    if (n == 0 || n > MAX_OBJECTIVES) {
        return error_hint(err, error_set(err, CLI_USAGE, "the reward model has no objectives to prefer"),
                          "only adapters of genarm train --objective have them");
    }
    if (is_list(text, true)) {
        return parse_named(weights, objectives, n, text, err);
    }
    if (!is_list(text, false)) {
        return error_hint(err, error_set(err, CLI_USAGE, "\"%s\" is no list of weights", text),
                          "the form is NAME=X,NAME=X or X,X; the objectives are %s", names);
    }
    size_t given = 0;
    struct item item;
    for (const char *cursor = text; *cursor && next_item(&item, &cursor); given++) {
        if (given < n) {
            weights[given] = item.weight;
        }
    }
    return given == n ? 0
                      : error_hint(err, error_set(err, CLI_USAGE, "%zu weights for %zu objectives", given, n),
                                   "the objectives are %s", names);
}

/* ---- of the ARMs of a setup ---- */

/* What ARM i weighs. */
static struct genarm_adapter_info info_of(const struct setup *s, size_t i) {
    struct genarm_adapter_info info = {0};
    if (s->adapters[i]) {
        genarm_adapter_get_info(s->adapters[i], &info);
    }
    return info;
}

int32_t preference_only_arm(const struct setup *s) {
    int32_t only = -1;
    for (size_t i = 0; i < s->n_arms; i++) {
        if (info_of(s, i).n_objectives > 0) {
            only = only == -1 ? (int32_t)i : -2;
        }
    }
    return only;
}

int preference_apply(const struct setup *s, int32_t i, const char *text, struct genarm_session *session,
                     struct genarm_error *err) {
    const struct genarm_adapter_info info = info_of(s, (size_t)i);
    const size_t n = (size_t)info.n_objectives;
    float weights[MAX_OBJECTIVES];
    int code = preference_parse(weights, info.objectives, n, text, err);
    if (code == 0) {
        code = genarm_guide_set_preference(s->guide, i, weights, n, err);
    }
    if (code == 0 && session) {
        code = genarm_session_set_preference(session, i, weights, n, err);
    }
    if (code == GENARM_EINVAL) { /* a weight is out of range: the command line is wrong */
        err->code = code = CLI_USAGE;
    }
    return code;
}

/* The ARM that "ARM=WEIGHTS" names, and where its weights begin; -1: the text is "WEIGHTS". A text that is a list of named
 * weights as it stands is that. */
static int32_t named_arm(const struct setup *s, const char *text, const char **weights) {
    for (size_t i = 0; i < s->n_arms && !is_list(text, true); i++) {
        const size_t n = strlen(s->arms[i].name);
        if (strncmp(text, s->arms[i].name, n) == 0 && text[n] == '=') {
            *weights = text + n + 1;
            return (int32_t)i;
        }
    }
    *weights = text;
    return -1;
}

/* "ARM=WEIGHTS" of an ARM that there is not. */
static bool names_stranger(const char *text) {
    const char *equals = strchr(text, '=');
    return equals && !is_list(text, true) && (is_list(equals + 1, true) || is_list(equals + 1, false));
}

static int set_one(const struct setup *s, const char *text, struct genarm_error *err) {
    const char *weights;
    int32_t i = named_arm(s, text, &weights);
    if (i < 0 && names_stranger(text)) {
        return error_set(err, CLI_USAGE, "no --arm is called \"%.*s\"", (int)strcspn(text, "="), text);
    }
    if (i < 0) {
        i = preference_only_arm(s);
    }
    if (i == -1) {
        return error_hint(err, error_set(err, CLI_USAGE, "no reward model here has objectives"),
                          "only adapters of genarm train --objective have them");
    }
    if (i < 0) {
        return error_hint(err, error_set(err, CLI_USAGE, "several reward models have objectives"), "say of which: ARM=%s",
                          text);
    }
    return preference_apply(s, i, weights, NULL, err);
}

int preferences_set(const struct setup *s, const struct option_list *texts, struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < texts->n && code == 0; i++) {
        code = error_at(err, set_one(s, texts->items[i], err), "--preference %.60s", texts->items[i]);
    }
    return code;
}

json_t *preferences_json(const struct setup *s, const struct genarm_session *session) {
    json_t *object = NULL;
    for (size_t i = 0; i < s->n_arms; i++) {
        const struct genarm_adapter_info info = info_of(s, i);
        const float *weights = session ? genarm_session_preference(session, (int32_t)i)
                                       : genarm_guide_preference(s->guide, (int32_t)i);
        json_t *arm = weights ? json_object() : NULL;
        for (int o = 0; arm && o < info.n_objectives; o++) {
            json_object_set_new(arm, info.objectives[o], json_rounded((double)weights[o], 6));
        }
        if (arm) {
            object = object ? object : json_object();
            json_object_set_new(object, s->arms[i].name, arm);
        }
    }
    return object;
}
