/* See item_words.h. */
#include "eval/item_words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/names.h"
#include "reward/spec.h"

enum { VALUE_MAX = 1 << 20 };

/* What genarm eval sets by itself, by command. */
static const struct reserved {
    const char *command, *options;
} reserved[] = {
    {"train", "--output --resume --resume-changed --json"},
    {"rl", "--output --resume --json"},
    {"merge", "--output --json"},
    {"generate", "--output --prompts --prompt --file --json --restart --prompt-cache --prompt-cache-ro --skip --limit"},
    {"score", "--output --answers --per-pair --prompt --file --response --json --restart"},
    {"judge", "--output --json --restart"},
};

/* Paths that are written, or have more behind them than a path. */
static const char *const not_read = "--log --adapter --judge-cache";

/* An option of the command, as the experiment has it. */
struct setting {
    struct eval_option option;
    const struct yaml_value *key, *value;
    const struct yaml_value *map; /* that it is of */
};

struct setting_list {
    struct setting *items; /* [n] */
    size_t n;
};

/* ---- words ---- */

int word_list_add(struct word_list *w, const char *word, struct genarm_error *err) {
    char **items = realloc(w->items, (w->n + 2) * sizeof *items);
    if (items) {
        w->items = items;
        items[w->n] = strdup(word);
    }
    if (!items || !items[w->n]) {
        return error_nomem(err, "a command line");
    }
    items[++w->n] = NULL;
    return 0;
}

void word_list_deinit(struct word_list *w) {
    for (size_t i = 0; i < w->n; i++) {
        free(w->items[i]);
    }
    free(w->items);
    *w = (struct word_list){0};
}

static bool is_word_of(const char *word, const char *option) {
    const size_t n = strlen(option);
    return strncmp(word, option, n) == 0 && (word[n] == '\0' || word[n] == '=');
}

static bool is_word_end(const char *word, const char *end) {
    const size_t n = strlen(word), n_end = strlen(end);
    return n >= n_end && strcmp(word + n - n_end, end) == 0;
}

bool word_list_has(const struct word_list *w, const char *option) {
    for (size_t i = 0; i < w->n; i++) {
        if (is_word_of(w->items[i], option)) {
            return true;
        }
    }
    return false;
}

static bool among(const char *names, const char *word) {
    char name[NAME_MAX_LENGTH];
    while (next_name(&names, ' ', name, sizeof name)) {
        if (is_word_of(word, name)) {
            return true;
        }
    }
    return false;
}

static bool is_reserved(const char *command, const char *word) {
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        if (strcmp(reserved[i].command, command) == 0 && among(reserved[i].options, word)) {
            return true;
        }
    }
    return false;
}

bool word_is_free(const struct eval_vocabulary *vocabulary, const char *command, const char *word) {
    struct eval_option option;
    char name[sizeof option.name];
    const size_t n = strcspn(word, "=");
    if (strncmp(word, "--", 2) != 0 || n >= sizeof name) {
        return false;
    }
    memcpy(name, word, n);
    name[n] = '\0';
    return vocabulary->find(&option, command, name, NULL) == 0 && option.free;
}

/* ---- settings ---- */

static void remove_setting(struct setting_list *s, size_t i) {
    memmove(&s->items[i], &s->items[i + 1], (s->n - i - 1) * sizeof *s->items);
    s->n--;
}

/* The later one wins; nothing at all takes an earlier one away. */
static int set(struct setting_list *s, const struct setting *setting, struct genarm_error *err) {
    size_t i = 0;
    while (i < s->n && strcmp(s->items[i].option.name, setting->option.name) != 0) {
        i++;
    }
    if (i < s->n && setting->map && s->items[i].map == setting->map) {
        return yaml_error(setting->key, err, "%s and %s are the same option: one of them is enough", setting->key->text,
                          s->items[i].key->text);
    }
    if (yaml_is_null(setting->value)) {
        if (i < s->n) {
            remove_setting(s, i);
        }
        return 0;
    }
    if (i == s->n) {
        struct setting *items = realloc(s->items, (s->n + 1) * sizeof *items);
        if (!items) {
            return error_nomem(err, "options");
        }
        s->items = items;
        s->n++;
    }
    s->items[i] = *setting;
    return 0;
}

/* Moves what was said about a word of the command line to a value of the file. */
static int blame(const struct yaml_value *at, const char *key, const struct genarm_error *said, struct genarm_error *err) {
    if (said->code == GENARM_ENOMEM) {
        return error_nomem(err, "options");
    }
    return error_hint(err, yaml_error(at, err, "%.60s: %s", key, said->what), "%s", said->hint);
}

static int collect(struct setting_list *s, const struct wording *w, const struct yaml_value *map, bool own,
                   struct genarm_error *err) {
    const char *command = w->part->command;
    int code = 0;
    for (size_t i = 0; map && map->kind == YAML_MAP && i < map->n && code == 0; i++) {
        struct setting setting = {.key = &map->keys[i], .value = &map->items[i], .map = map};
        struct genarm_error said = {0};
        if (own && w->part->kind != PART_MODEL && part_own_key(w->part, setting.key->text)) {
            continue;
        }
        if (w->vocabulary->find(&setting.option, command, setting.key->text, &said) != 0) {
            return error_hint(err, blame(setting.key, setting.key->text, &said, err), "these are options of genarm %s", command);
        }
        if (is_reserved(command, setting.option.name)) {
            return yaml_error(setting.key, err, "%s: genarm eval sets this option of genarm %s itself", setting.key->text,
                              command);
        }
        code = set(s, &setting, err);
    }
    return code;
}

/* The one option of a reward or a judge that is a text. */
static int collect_text(struct setting_list *s, const struct wording *w, struct genarm_error *err) {
    const struct part *p = w->part;
    const char *option = p->kind == PART_REWARD ? "reward" : "judge";
    struct setting setting = {.key = p->at, .value = p->options};
    if (p->options->kind != YAML_TEXT || yaml_is_null(p->options)) {
        return 0;
    }
    const int code = w->vocabulary->find(&setting.option, p->command, option, err);
    return code ? code : set(s, &setting, err);
}

/* What is known of an answer or a pair is one number of each name: two rewards are two parts. */
static int check_one_reward(const struct setting_list *s, const struct wording *w, struct genarm_error *err) {
    const enum part_kind kind = w->part->kind;
    for (size_t i = 0; i < s->n && (kind == PART_REWARD || kind == PART_ACCURACY); i++) {
        const struct setting *it = &s->items[i];
        if (strcmp(it->option.name, "--reward") == 0 && it->value->kind == YAML_LIST && it->value->n != 1) {
            const int code = yaml_error(it->value, err, "%s: one reward is needed here, not %zu", it->key->text, it->value->n);
            return error_hint(err, code, "give each a name of its own below \"%s\"", part_section(kind));
        }
    }
    return 0;
}

/* ---- from settings to words ---- */

/* What is read must be there: better said now than after hours. */
static int check_file(const struct setting *s, const char *value, const struct yaml_value *at, struct genarm_error *err) {
    if (!s->option.file || among(not_read, s->option.name) || strncmp(value, ITEM_FOLDER, strlen(ITEM_FOLDER)) == 0 ||
        file_exists(value)) {
        return 0;
    }
    return yaml_error(at, err, "%s: there is no file \"%.200s\"", s->key->text, value);
}

/* Whether a file is there, or will be: one of the experiment's own, but not "ONE.gguf+OTHER" as a whole. */
static bool will_exist(const char *path) {
    return strncmp(path, ITEM_FOLDER, strlen(ITEM_FOLDER)) == 0 ? is_word_end(path, ".gguf") && !strstr(path, ".gguf+")
                                                                 : file_exists(path);
}

/* The same of what a reward, a guide or a judge is made of; `weighs`: the command uses weights of rewards. */
static int check_spec(const struct setting *s, const char *value, bool weighs, const struct yaml_value *at,
                      struct genarm_error *err) {
    struct source_spec spec = {.kind = SOURCE_ARM};
    struct genarm_error said = {0};
    if (s->option.spec == EVAL_NO_SPEC || (s->option.spec == EVAL_JUDGE && strncmp(value, "pairwise:", 9) == 0)) {
        return 0;
    }
    int code = s->option.spec == EVAL_PART ? part_spec_parse(&spec.part, value, will_exist, &said)
                                           : source_spec_parse(&spec, value, will_exist, &said);
    if (code) {
        return blame(at, s->key->text, &said, err);
    }
    const char *second = spec.kind == SOURCE_RANK ? NULL : spec.part.adapter;
    if (s->option.spec != EVAL_PART && !weighs && (spec.part.weight < 1 || spec.part.weight > 1)) {
        code = yaml_error(at, err, "%s: a weight has no meaning here; a command that ends in ':' and a number needs a blank "
                                   "behind it", s->key->text);
    }
    if (code == 0 && spec.kind != SOURCE_CMD && spec.kind != SOURCE_OPENAI) {
        const char *missing = !will_exist(spec.part.path) ? spec.part.path : second && !will_exist(second) ? second : NULL;
        code = missing ? yaml_error(at, err, "%s: there is no file \"%.200s\"", s->key->text, missing) : 0;
    }
    source_spec_deinit(&spec);
    return code;
}

/* Appends one value, if the command would take it. */
static int add_value(struct word_list *words, const struct wording *w, const struct setting *s, const char *value,
                     const struct yaml_value *at, struct genarm_error *err) {
    const bool joined = strncmp(s->option.name, "--", 2) == 0;
    const size_t first = words->n;
    struct buf word;
    struct genarm_error said = {0};
    buf_init(&word, VALUE_MAX);
    int code = buf_puts(&word, s->option.name, err);
    if (code == 0 && value && joined) {
        code = buf_puts(&word, "=", err);
        code = code ? code : buf_puts(&word, value, err);
    }
    code = code ? code : word_list_add(words, word.data, err);
    if (code == 0 && value && !joined) {
        code = word_list_add(words, value, err);
    }
    buf_deinit(&word);
    if (code == 0 && w->vocabulary->check(w->part->command, words->items + first, words->n - first, &said) != 0) {
        code = blame(at, s->key->text, &said, err);
    }
    code = code || !value ? code : check_file(s, value, at, err);
    const bool weighs = strcmp(w->part->command, "score") != 0 && strcmp(w->part->command, "judge") != 0;
    return code || !value ? code : check_spec(s, value, weighs, at, err);
}

static int add_text(struct word_list *words, const struct wording *w, const struct setting *s, const struct yaml_value *v,
                    struct genarm_error *err) {
    struct buf text;
    if (v->kind != YAML_TEXT || yaml_is_null(v)) {
        return yaml_error(v, err, "%s: a text or a number is needed%s", s->key->text,
                          s->option.form == EVAL_LIST ? ", or a list of them" : "");
    }
    buf_init(&text, VALUE_MAX);
    *w->at = v;
    int code = yaml_error_at(v, substitute(&text, v->text, &w->substitute, err), err);
    code = code ? code : add_value(words, w, s, text.data ? text.data : "", v, err);
    buf_deinit(&text);
    return code;
}

static int add_setting(struct word_list *words, const struct wording *w, const struct setting *s, struct genarm_error *err) {
    bool on = false;
    int code = 0;
    if (s->option.form == EVAL_FLAG) {
        code = yaml_bool(&on, s->value, s->key->text, err);
        return code || !on ? code : add_value(words, w, s, NULL, s->value, err);
    }
    if (s->option.form == EVAL_LIST && s->value->kind == YAML_LIST) {
        for (size_t i = 0; i < s->value->n && code == 0; i++) {
            code = add_text(words, w, s, &s->value->items[i], err);
        }
        return code;
    }
    return add_text(words, w, s, s->value, err);
}

int wording_add(struct word_list *words, const struct wording *w, const char *option, const char *value, bool optional,
                struct genarm_error *err) {
    struct setting s = {.key = w->part->at};
    struct eval_option found;
    if (w->vocabulary->find(&found, w->part->command, option, optional ? NULL : err) != 0) {
        return optional ? 0 : GENARM_EUNSUPPORTED;
    }
    if (word_list_has(words, found.name)) {
        return 0;
    }
    const struct yaml_value *root = &w->e->doc->root, *at = w->part->at;
    s.option = found;
    s.option.file = false;
    for (size_t i = 0; i < root->n && value && (value == w->e->prompts || value == w->e->model); i++) {
        if (strcmp(root->keys[i].text, option) == 0) { /* "prompts" or "model" of the experiment */
            s.key = &root->keys[i];
            at = &root->items[i];
            s.option.file = found.file;
        }
    }
    return add_value(words, w, &s, value, at, err);
}

int wording_options(struct word_list *words, const struct wording *w, struct genarm_error *err) {
    struct setting_list settings = {0};
    char seed[24];
    const char *command = w->part->command;
    const bool option_map = w->part->kind == PART_MODEL || w->part->options->kind == YAML_MAP;
    int code = word_list_add(words, command, err);
    code = code ? code : collect(&settings, w, yaml_get(w->e->defaults, command), false, err);
    code = code ? code : option_map ? collect(&settings, w, w->part->options, true, err) : collect_text(&settings, w, err);
    code = code ? code : check_one_reward(&settings, w, err);
    for (size_t i = 0; i < settings.n && code == 0; i++) {
        code = add_setting(words, w, &settings.items[i], err);
    }
    free(settings.items);
    if (code == 0 && w->model) {
        code = wording_add(words, w, "model", w->model, true, err);
    }
    if (code == 0 && w->e->seed >= 0) {
        snprintf(seed, sizeof seed, "%lld", (long long)w->e->seed);
        code = wording_add(words, w, "seed", seed, true, err);
    }
    return code;
}
