/* See objectives.h. */
#include "objectives.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/formats.h"
#include "tell.h"

/* Where "@LABEL" begins at the end of a path, or the path's end. */
static size_t path_length(const char *path, enum genarm_data_label *label) {
    const char *at = strrchr(path, '@');
    for (int i = 0; at && i <= GENARM_LABEL_SAFER; i++) {
        if (strcmp(at + 1, label_name((enum genarm_data_label)i)) == 0 && !file_exists(path)) {
            *label = (enum genarm_data_label)i;
            return (size_t)(at - path);
        }
    }
    return strlen(path);
}

/* "better or safer" is not known: a hint for a file that does not exist. */
static int check_file(const char *path, struct genarm_error *err) {
    const char *at = strrchr(path, '@');
    if (!at || file_exists(path)) {
        return 0;
    }
    return error_hint(err, error_set(err, CLI_USAGE, "there is no file %s, and \"%s\" is no label", path, at + 1),
                      "a label is better or safer");
}

static struct genarm_objective *find_or_add(struct objective_set *set, char *name) {
    for (size_t i = 0; i < set->n; i++) {
        if (strcmp(set->items[i].name, name) == 0) {
            free(name);
            return &set->items[i];
        }
    }
    struct genarm_objective *grown = realloc(set->items, (set->n + 1) * sizeof *grown);
    if (!grown) {
        free(name);
        return NULL;
    }
    set->items = grown;
    set->items[set->n] = (struct genarm_objective){.name = name};
    return &set->items[set->n++];
}

/* Takes over `path`. */
static int add_path(struct genarm_objective *o, char *path, struct genarm_error *err) {
    const char **grown = realloc((void *)(uintptr_t)o->paths, (o->n_paths + 1) * sizeof *grown);
    if (!grown) {
        free(path);
        return error_nomem(err, "arguments");
    }
    grown[o->n_paths++] = path;
    o->paths = grown;
    return 0;
}

static int parse(struct objective_set *set, const char *text, enum genarm_data_label label, struct genarm_error *err) {
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || !equals[1]) {
        return error_hint(err, error_set(err, CLI_USAGE, "a name or a file is missing"), "the form is " OBJECTIVE_FORM);
    }
    const size_t n_path = path_length(equals + 1, &label);
    char *name = strndup(text, (size_t)(equals - text)), *path = strndup(equals + 1, n_path);
    struct genarm_objective *o = name && path ? find_or_add(set, name) : NULL;
    if (!o) {
        free(path);
        return error_nomem(err, "arguments");
    }
    if (o->n_paths > 0 && o->label != label) {
        free(path);
        return error_set(err, CLI_USAGE, "objective %s has files under two labels", o->name);
    }
    o->label = label;
    int code = check_file(path, err);
    if (code) {
        free(path);
        return code;
    }
    return add_path(o, path, err);
}

int objectives_parse(struct objective_set *out, const struct option_list *texts, enum genarm_data_label label,
                     struct genarm_error *err) {
    *out = (struct objective_set){0};
    int code = 0;
    for (size_t i = 0; i < texts->n && code == 0; i++) {
        code = error_at(err, parse(out, texts->items[i], label, err), "--objective %.100s", texts->items[i]);
    }
    return code;
}

void objectives_free(struct objective_set *set) {
    for (size_t i = 0; i < set->n; i++) {
        for (size_t j = 0; j < set->items[i].n_paths; j++) {
            free((char *)(uintptr_t)set->items[i].paths[j]);
        }
        free((void *)(uintptr_t)set->items[i].paths);
        free((char *)(uintptr_t)set->items[i].name);
    }
    free(set->items);
    *set = (struct objective_set){0};
}
