/* See settings.h. */
#include "settings.h"

#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json.h"
#include "train/run.h"

/* What a file holds, as a hash. What is no regular file counts by its name. */
static int file_value(json_t **out, const char *path, struct genarm_error *err) {
    struct stat st;
    uint64_t hash;
    char text[17];
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
        *out = text_json(path);
        return *out ? 0 : error_nomem(err, "settings");
    }
    const int code = file_hash(&hash, path, err);
    if (code) {
        return code;
    }
    run_hex(text, hash);
    *out = json_string(text);
    return *out ? 0 : error_nomem(err, "settings");
}

/* The first name with two dashes, or the first. */
static void long_name(char *name, const struct option *o) {
    char next[NAME_MAX_LENGTH];
    const char *cursor = o->names;
    name[0] = '\0';
    while (next_name(&cursor, ' ', next, sizeof next)) {
        if (name[0] == '\0' || (strncmp(next, "--", 2) == 0 && strncmp(name, "--", 2) != 0)) {
            memcpy(name, next, strlen(next) + 1);
        }
    }
}

static int list_value(json_t **out, const struct option *o, const struct option_list *list, struct genarm_error *err) {
    int code = 0;
    *out = json_array();
    for (size_t i = 0; i < list->n && code == 0 && *out; i++) {
        json_t *item = NULL;
        if (o->type == OPTION_FILES) {
            code = file_value(&item, list->items[i], err);
        } else {
            item = text_json(list->items[i]);
        }
        json_array_append_new(*out, item);
    }
    return code || *out ? code : error_nomem(err, "settings");
}

/* The name of choice i. */
static json_t *choice(const struct option *o, int32_t i) {
    char name[NAME_MAX_LENGTH] = "";
    const char *cursor = o->choices;
    for (int32_t k = 0; k <= i && next_name(&cursor, '|', name, sizeof name); k++) {
    }
    return json_string(name);
}

/* *out may become NULL: there is no value. */
static int option_value(json_t **out, const struct option *o, const void *member, struct genarm_error *err) {
    const char *text;
    switch (o->type) {
    case OPTION_GROUP:
        return 0;
    case OPTION_FLAG:
        *out = json_boolean(*(const bool *)member);
        return 0;
    case OPTION_CHOICE:
        *out = choice(o, *(const int32_t *)member);
        return 0;
    case OPTION_INT:
        *out = json_integer(*(const int32_t *)member);
        return 0;
    case OPTION_SEED:
        *out = json_integer((json_int_t)*(const int64_t *)member);
        return 0;
    case OPTION_NUMBER:
        *out = json_real(*(const double *)member);
        return 0;
    case OPTION_TEXT:
        text = *(const char *const *)member;
        *out = text ? text_json(text) : NULL;
        return 0;
    case OPTION_FILE:
        text = *(const char *const *)member;
        return text ? file_value(out, text, err) : 0;
    case OPTION_TEXTS:
    case OPTION_FILES:
        return list_value(out, o, member, err);
    }
    return 0;
}

int settings_options(json_t **out, const struct option *options, size_t n_options, const void *args,
                     const char *const *except, struct genarm_error *err) {
    json_t *settings = json_object();
    int code = settings ? 0 : error_nomem(err, "settings");
    for (size_t i = 0; i < n_options && code == 0; i++) {
        const struct option *o = &options[i];
        char name[NAME_MAX_LENGTH] = "";
        json_t *value = NULL;
        bool wanted = o->type != OPTION_GROUP && !o->free;
        if (wanted) {
            long_name(name, o);
        }
        for (const char *const *e = except; wanted && *e; e++) {
            wanted = strcmp(name, *e) != 0;
        }
        code = wanted ? option_value(&value, o, (const char *)args + o->offset, err) : 0;
        if (value && json_object_set_new(settings, name, value) != 0) {
            code = error_nomem(err, "settings");
        }
    }
    if (code) {
        json_decref(settings);
        return code;
    }
    *out = settings;
    return 0;
}

int settings_add_file(json_t *settings, const char *name, const char *path, struct genarm_error *err) {
    json_t *hash = NULL;
    const int code = file_value(&hash, path, err);
    return code == 0 && json_object_set_new(settings, name, hash) != 0 ? error_nomem(err, "settings") : code;
}

int settings_add_setup(json_t *settings, const struct setup *s, struct genarm_error *err) {
    struct genarm_model_info info;
    json_t *arms = json_array(), *model = NULL;
    genarm_model_get_info(s->base, &info);
    int code = file_value(&model, info.path, err);
    for (size_t i = 0; i < s->n_arms && code == 0; i++) {
        const struct arm_spec *spec = &s->arms[i];
        json_t *path = NULL, *adapter = NULL;
        code = file_value(&path, spec->path, err);
        if (code == 0 && spec->adapter) {
            code = file_value(&adapter, spec->adapter, err);
        }
        json_array_append_new(arms, json_pack("{s:s, s:f, s:o*, s:o*}", "name", spec->name, "weight", (double)spec->weight,
                                              "file", path, "adapter", adapter));
    }
    if (code == 0 && (json_object_set(settings, "model", model) != 0 || json_object_set(settings, "--arm", arms) != 0)) {
        code = error_nomem(err, "settings");
    }
    json_decref(model);
    json_decref(arms);
    return code;
}

int settings_add_file_of(json_t *settings, const char *what, const char *name, const char *path, struct genarm_error *err) {
    struct buf key;
    json_t *value = NULL;
    buf_init(&key, 1 << 16);
    int code = buf_printf(&key, err, "%s %s", what, name);
    code = code ? code : file_value(&value, path, err);
    if (code == 0 && json_object_set_new(settings, key.data, value) != 0) {
        code = error_nomem(err, "settings");
    }
    buf_deinit(&key);
    return code;
}
