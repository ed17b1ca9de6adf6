/* See eval_vocabulary.h. */
#include "eval_vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "commands.h"

static const struct command *const commands[] = {&command_train,    &command_rl,    &command_merge,
                                                 &command_generate, &command_score, &command_judge};
enum { N_COMMANDS = sizeof commands / sizeof *commands, MAX_NAMES = 512 };

static const struct command *find_command(const char *name) {
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static int no_command(const char *name, struct genarm_error *err) {
    return error_set(err, GENARM_EINVAL, "this genarm has no command %.60s", name);
}

/* Whether a key is one of an option's names, without dashes or with them, and with _ for -. */
static bool is_named(const struct option *o, const char *key) {
    const char *cursor = o->names;
    char name[NAME_MAX_LENGTH];
    if (o->type == OPTION_GROUP || o->names[0] != '-') {
        return false;
    }
    key += strspn(key, "-");
    while (next_name(&cursor, ' ', name, sizeof name)) {
        const char *a = name + strspn(name, "-"), *b = key;
        while (*a && (*a == *b || (*a == '-' && *b == '_'))) {
            a++;
            b++;
        }
        if (*a == '\0' && *b == '\0') {
            return true;
        }
    }
    return false;
}

static int unknown(const struct command *c, const char *key, struct genarm_error *err) {
    static char texts[MAX_NAMES][2 * NAME_MAX_LENGTH];
    const char *names[MAX_NAMES];
    char near[NAME_MAX_LENGTH];
    size_t n = 0;
    for (size_t i = 0; i < c->n_options && n < MAX_NAMES; i++) {
        const char *cursor = c->options[i].names;
        char name[NAME_MAX_LENGTH];
        while (c->options[i].type != OPTION_GROUP && next_name(&cursor, ' ', name, sizeof name) && n < MAX_NAMES) {
            snprintf(texts[n], sizeof texts[n], "%s", name + strspn(name, "-"));
            names[n] = texts[n];
            n++;
        }
    }
    if (nearest_name(key + strspn(key, "-"), names, n, near, sizeof near)) {
        return error_set(err, GENARM_EINVAL, "unknown option; did you mean \"%s\"?", near);
    }
    return error_set(err, GENARM_EINVAL, "unknown option");
}

static enum eval_form form_of(enum option_type type) {
    switch (type) {
    case OPTION_FLAG:
        return EVAL_FLAG;
    case OPTION_TEXTS:
    case OPTION_FILES:
        return EVAL_LIST;
    default:
        return EVAL_VALUE;
    }
}

static enum eval_spec spec_of(const char *name) {
    static const struct {
        const char *name;
        enum eval_spec spec;
    } specs[] = {{"--arm", EVAL_PART}, {"--adapter", EVAL_PART}, {"--reward", EVAL_SOURCE}, {"--judge", EVAL_JUDGE}};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        if (strcmp(specs[i].name, name) == 0) {
            return specs[i].spec;
        }
    }
    return EVAL_NO_SPEC;
}

static int find(struct eval_option *out, const char *command, const char *key, struct genarm_error *err) {
    const struct command *c = find_command(command);
    const struct option *o = NULL;
    if (!c) {
        return no_command(command, err);
    }
    for (size_t i = 0; i < c->n_options && !o; i++) {
        o = is_named(&c->options[i], key) ? &c->options[i] : NULL;
    }
    if (!o) {
        return unknown(c, key, err);
    }
    *out = (struct eval_option){.form = form_of(o->type), .file = o->type == OPTION_FILE || o->type == OPTION_FILES,
                                .free = o->free};
    const char *cursor = o->names;
    char name[NAME_MAX_LENGTH];
    while (next_name(&cursor, ' ', name, sizeof name)) { /* the first with two dashes, or the first */
        if (!*out->name || (strncmp(name, "--", 2) == 0 && strncmp(out->name, "--", 2) != 0)) {
            memcpy(out->name, name, sizeof name);
        }
    }
    out->spec = spec_of(out->name);
    return 0;
}

static int check(const char *command, char **words, size_t n, struct genarm_error *err) {
    const struct command *c = find_command(command);
    void *args = c ? calloc(1, c->args_size) : NULL;
    if (!c) {
        return no_command(command, err);
    }
    if (!args) {
        return error_nomem(err, "arguments");
    }
    int code = command_line_parse(c, (int)n, words, args, err);
    if (code == 1) {
        code = error_set(err, GENARM_EINVAL, "help is no part of an experiment");
    }
    command_line_deinit(c, args);
    free(args);
    return code;
}

void eval_commands_forget_variables(void) {
    for (size_t i = 0; i < N_COMMANDS; i++) {
        for (size_t k = 0; k < commands[i]->n_options; k++) {
            const struct option *o = &commands[i]->options[k];
            if (o->env && !o->free) {
                unsetenv(o->env);
            }
        }
    }
}

const struct eval_vocabulary eval_commands = {find, check};
