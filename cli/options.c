/* The parser of the command line. See options.h. */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* llama.cpp takes --ctx_size for --ctx-size. */
static bool same_name(const char *name, const char *text, size_t n_text) {
    if (strlen(name) != n_text) {
        return false;
    }
    for (size_t i = 0; i < n_text; i++) {
        if (name[i] != text[i] && !(i > 1 && name[1] == '-' && name[i] == '-' && text[i] == '_')) {
            return false;
        }
    }
    return true;
}

static const struct option *find_option(const struct command *c, const char *text, size_t n_text) {
    for (size_t i = 0; i < c->n_options; i++) {
        const char *cursor = c->options[i].names;
        char name[NAME_MAX_LENGTH];
        while (cursor && next_name(&cursor, ' ', name, sizeof name)) {
            if (same_name(name, text, n_text)) {
                return &c->options[i];
            }
        }
    }
    return NULL;
}

/* ---- suggestions ---- */

/* "-x" or "-xy": so close to any other that nobody can tell what was meant. */
static bool is_short(const char *text, size_t n_text) { return n_text <= 3 && text[1] != '-'; }

/* What there is instead of an option of llama.cpp, NULL for others. */
static const char *instead_of(const struct command *c, const char *text, size_t n_text) {
    static const struct {
        const char *names, *beside, *instead; /* beside: a command without this option has nothing to do with it */
    } known[] = {{"-ub --ubatch-size", "-b", "there is one batch size, -b"},
                 {"-tb --threads-batch", "-t", "there is one number of threads, -t"},
                 {"-fa --flash-attn", "-ctk", "flash attention is used wherever it can be, there is nothing to choose"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const char *cursor = known[i].names;
        char name[NAME_MAX_LENGTH];
        while (next_name(&cursor, ' ', name, sizeof name)) {
            if (same_name(name, text, n_text) && find_option(c, known[i].beside, strlen(known[i].beside))) {
                return known[i].instead;
            }
        }
    }
    return NULL;
}

static int unknown_option(const struct command *c, const char *text, size_t n_text, struct genarm_error *err) {
    char typed[NAME_MAX_LENGTH] = "", near[NAME_MAX_LENGTH];
    const char *names[256];
    size_t n = 0;
    for (size_t i = 0; i < c->n_options && n < sizeof names / sizeof *names; i++) {
        if (c->options[i].type != OPTION_GROUP) {
            names[n++] = c->options[i].names;
        }
    }
    if (n_text < sizeof typed && !is_short(text, n_text)) {
        memcpy(typed, text, n_text);
    }
    int code;
    const char *instead = instead_of(c, text, n_text);
    if (instead) {
        code = error_set(err, CLI_USAGE, "unknown option: %s", instead);
    } else if (nearest_name(typed, names, n, near, sizeof near)) {
        code = error_set(err, CLI_USAGE, "unknown option; did you mean %s?", near);
    } else {
        code = error_set(err, CLI_USAGE, "unknown option");
    }
    return error_at(err, code, "%.*s", (int)(n_text < 100 ? n_text : 100), text);
}

/* ---- values ---- */

static int bad_value(const struct option *o, const char *text, struct genarm_error *err) {
    const char *kind = o->type == OPTION_NUMBER ? "number" : "whole number";
    const int digits = o->type == OPTION_NUMBER ? 10 : 16; /* a seed has up to 16 */
    if (o->min < o->max) {
        return error_set(err, CLI_USAGE, "\"%.60s\" is not a %s from %.*g to %.*g", text, kind, digits, o->min, digits,
                         o->max);
    }
    return error_set(err, CLI_USAGE, "\"%.60s\" is not a %s", text, kind);
}

static bool set_word(const struct option *o, const char *text, int32_t *member) {
    const char *cursor = o->also;
    char name[NAME_MAX_LENGTH];
    for (int i = 0; cursor && next_name(&cursor, '|', name, sizeof name); i++) {
        if (strcmp(name, text) == 0) {
            *member = i == 0 ? (int32_t)strtol(o->fallback, NULL, 10) : (int32_t)o->max;
            return true;
        }
    }
    return false;
}

static int set_number(const struct option *o, const char *text, void *member, struct genarm_error *err) {
    char *end;
    errno = 0;
    double x = 0;
    long long whole = 0;
    if (o->type == OPTION_NUMBER) {
        x = strtod(text, &end);
    } else {
        x = (double)(whole = strtoll(text, &end, 10));
    }
    bool bad = end == text || *end || errno == ERANGE || !isfinite(x) || isspace((unsigned char)*text);
    if (bad || (o->min < o->max && (x < o->min || x > o->max))) {
        return bad_value(o, text, err);
    }
    if (o->type == OPTION_NUMBER) {
        *(double *)member = x;
    } else if (o->type == OPTION_SEED) {
        *(int64_t *)member = whole;
    } else if (whole < INT32_MIN || whole > INT32_MAX) {
        return bad_value(o, text, err);
    } else {
        *(int32_t *)member = (int32_t)whole;
    }
    return 0;
}

static int set_choice(const struct option *o, const char *text, int32_t *member, struct genarm_error *err) {
    const char *cursor = o->choices;
    char name[NAME_MAX_LENGTH];
    for (int32_t i = 0; next_name(&cursor, '|', name, sizeof name); i++) {
        if (strcmp(name, text) == 0) {
            *member = i;
            return 0;
        }
    }
    size_t n = strlen(o->choices);
    while (n > 0 && o->choices[n - 1] == '|') {
        n--;
    }
    return error_set(err, CLI_USAGE, "\"%.60s\" is none of %.*s", text, (int)n, o->choices);
}

/* What is given without a value is on; a variable says so or not, in llama.cpp's words. */
static int set_flag(const char *text, bool *member, struct genarm_error *err) {
    static const char *const words[][4] = {{"0", "false", "off", "disabled"}, {"1", "true", "on", "enabled"}};
    for (size_t i = 0; text && i < 2 * 4; i++) {
        if (strcmp(text, words[i / 4][i % 4]) == 0) {
            *member = i / 4;
            return 0;
        }
    }
    *member = true;
    return text ? error_set(err, CLI_USAGE, "\"%.60s\" is neither on nor off", text) : 0;
}

static int list_append(struct option_list *list, const char *text, struct genarm_error *err) {
    const char **items = realloc(list->items, sizeof *items * (list->n + 1));
    if (!items) {
        return error_nomem(err, "arguments");
    }
    list->items = items;
    list->items[list->n++] = text;
    return 0;
}

static int check_file(const struct option *o, const char *text, struct genarm_error *err) {
    if (!*text) {
        return error_set(err, CLI_USAGE, "the name of a file is empty");
    }
    if (strcmp(text, "-") != 0 || o->dash == DASH_STDIN) {
        return 0;
    }
    return error_set(err, CLI_USAGE, "\"-\" does not work here: %s",
                     o->dash == DASH_STDOUT ? "without the option all goes to stdout" : "a file is needed");
}

/* Stores one value, NULL of a flag on the command line. `text` must outlive the arguments. */
static int set_value(const struct option *o, const char *text, void *args, struct genarm_error *err) {
    void *member = (char *)args + o->offset;
    if (o->type == OPTION_FILE || o->type == OPTION_FILES) {
        const int code = check_file(o, text, err);
        if (code) {
            return code;
        }
    }
    switch (o->type) {
    case OPTION_GROUP:
        return 0;
    case OPTION_FLAG:
        return set_flag(text, member, err);
    case OPTION_INT:
    case OPTION_SEED:
    case OPTION_NUMBER:
        return o->also && set_word(o, text, member) ? 0 : set_number(o, text, member, err);
    case OPTION_CHOICE:
        return set_choice(o, text, member, err);
    case OPTION_TEXT:
    case OPTION_FILE:
        *(const char **)member = text;
        return 0;
    case OPTION_TEXTS:
    case OPTION_FILES:
        return list_append(member, text, err);
    }
    return 0;
}

/* ---- the command line ---- */

/* Length of an option's name in a word that may go on with "=value". */
static size_t name_length(const char *word) {
    const char *equals = strncmp(word, "--", 2) == 0 ? strchr(word, '=') : NULL;
    return equals ? (size_t)(equals - word) : strlen(word);
}

/* The option that a word names, or NULL. *i is moved to its value where that is the next word. */
static const struct option *option_at(const struct command *c, char **argv, int *i) {
    const char *word = argv[*i];
    const struct option *o = word[0] == '-' ? find_option(c, word, name_length(word)) : NULL;
    *i += o && o->type != OPTION_FLAG && !word[name_length(word)];
    return o;
}

/* Whether the command line gives the option. */
static bool is_given(const struct command *c, int argc, char **argv, const struct option *o) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (option_at(c, argv, &i) == o) {
            return true;
        }
    }
    return false;
}

/* Asking for help works whatever else is wrong. */
static bool is_help_asked(const struct command *c, int argc, char **argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        const char *word = argv[i];
        if (!option_at(c, argv, &i) && (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0)) {
            return true;
        }
    }
    return false;
}

/* A variable that is meant for another program, and wrong here, can be overruled: it is read only where it counts. */
static int set_defaults(const struct command *c, int argc, char **argv, void *args, struct genarm_error *err) {
    for (size_t i = 0; i < c->n_options; i++) {
        const struct option *o = &c->options[i];
        const char *text = o->env ? getenv(o->env) : NULL;
        int code = 0;
        if (text && *text && is_given(c, argc, argv, o)) {
            continue;
        }
        if (text && *text) {
            code = set_value(o, text, args, err);
            error_at(err, code, "%s", o->env);
        } else if (o->fallback) {
            code = set_value(o, o->fallback, args, err);
            error_at(err, code, "default of %s", o->names);
        }
        if (code) {
            return code;
        }
    }
    return 0;
}

static bool is_set(const struct command *c, int argc, char **argv, const struct option *o) {
    const char *text = o->env ? getenv(o->env) : NULL;
    return (text && *text) || is_given(c, argc, argv, o);
}

/* Options that are not given, where one that they are like is. */
static void set_alike(const struct command *c, int argc, char **argv, void *args) {
    for (size_t i = 0; i < c->n_options; i++) {
        const struct option *o = &c->options[i], *other = o->like ? find_option(c, o->like, strlen(o->like)) : NULL;
        if (other && is_set(c, argc, argv, other) && !is_set(c, argc, argv, o)) {
            memcpy((char *)args + o->offset, (char *)args + other->offset, sizeof(int32_t));
        }
    }
}

static const struct option *find_operand(const struct command *c) {
    for (size_t i = 0; i < c->n_options; i++) {
        if (c->options[i].names && c->options[i].names[0] != '-') {
            return &c->options[i];
        }
    }
    return NULL;
}

static int set_operand(const struct command *c, const char *text, void *args, struct genarm_error *err) {
    const struct option *o = find_operand(c);
    if (o) {
        return error_at(err, set_value(o, text, args, err), "%s", o->names);
    }
    int code = error_set(err, CLI_USAGE, "not an option, and %s takes nothing else", c->name);
    return error_at(err, code, "%.100s", text);
}

/* Reads the option at argv[*i] and its value, and leaves *i on the last word read. */
static int set_option(const struct command *c, int argc, char **argv, int *i, void *args, struct genarm_error *err) {
    const char *word = argv[*i];
    size_t n_name = name_length(word);
    const char *equals = word[n_name] ? word + n_name : NULL;
    const struct option *o = find_option(c, word, n_name);
    int where = (int)n_name;
    if (!o) {
        return unknown_option(c, word, n_name, err);
    }
    if (o->type == OPTION_FLAG) {
        if (equals) {
            return error_at(err, error_set(err, CLI_USAGE, "takes no value"), "%.*s", where, word);
        }
        return set_value(o, NULL, args, err);
    }
    const char *value = equals ? equals + 1 : NULL;
    if (!equals) {
        value = *i + 1 < argc ? argv[*i + 1] : NULL;
        if (!value || (value[0] == '-' && find_option(c, value, strlen(value)))) {
            const int code = error_set(err, CLI_USAGE, "a value is missing: %s %s", word, o->value);
            const char *name = value ? strstr(o->names, "--") : NULL;
            if (name) {
                error_hint(err, code, "a value that looks like an option goes behind an equals sign: %.*s=%s",
                           (int)strcspn(name, " "), name, value);
            }
            return error_at(err, code, "%s", word);
        }
        ++*i;
    }
    return error_at(err, set_value(o, value, args, err), "%.*s", where, word);
}

int command_line_parse(const struct command *c, int argc, char **argv, void *args, struct genarm_error *err) {
    bool operands_only = false;
    int code = 0;
    if (is_help_asked(c, argc, argv)) {
        return 1;
    }
    code = set_defaults(c, argc, argv, args, err);
    for (int i = 0; i < argc && code == 0; i++) {
        if (operands_only || argv[i][0] != '-' || strcmp(argv[i], "-") == 0) {
            code = set_operand(c, argv[i], args, err);
        } else if (strcmp(argv[i], "--") == 0) {
            operands_only = true;
        } else {
            code = set_option(c, argc, argv, &i, args, err);
        }
    }
    if (code == 0) {
        set_alike(c, argc, argv, args);
    }
    return code;
}

void command_line_deinit(const struct command *c, void *args) {
    for (size_t i = 0; i < c->n_options; i++) {
        const struct option *o = &c->options[i];
        if (o->type != OPTION_TEXTS && o->type != OPTION_FILES) {
            continue;
        }
        struct option_list *list = (struct option_list *)(void *)((char *)args + o->offset);
        free(list->items);
        *list = (struct option_list){0};
    }
}
