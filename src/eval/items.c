/* See items.h. */
#include "eval/items.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/names.h"
#include "eval/fingerprint.h"
#include "eval/item_words.h"

enum { WORD_MAX_BYTES = 1 << 24, NAME_MAX_BYTES = 4096, POINT_MAX_BYTES = 120 /* of a file's name */, ITEMS_MAX = 100000 };

static const struct folder {
    const char *name, *title, *ending;
} folders[] = {
    [ITEM_MODEL] = {"models", "model", ".gguf"},       [ITEM_ANSWERS] = {"answers", "answers of", ".jsonl"},
    [ITEM_REWARDS] = {"rewards", "reward", ".jsonl"},  [ITEM_VERDICTS] = {"verdicts", "judge", ".jsonl"},
    [ITEM_PAIRS] = {"pairs", "accuracy of", ".jsonl"},
};

/* Items on their way. */
struct maker {
    const struct experiment *e;
    const struct items_params *params;
    const struct eval_vocabulary *vocabulary;
    struct item_list *list;
    struct fingerprints files;
    enum { NEW, OPEN, MADE } *states; /* [e->n] of parts that are models */
    const struct part **open;         /* [n_open] models that wait for one another */
    size_t n_open;
};

/* An item on its way. */
struct draft {
    struct maker *m;
    struct item item;
    struct word_list words;
    const struct yaml_value *at; /* whose text is read */
};

static int make_models(struct maker *m, const struct part *p, const struct yaml_value *at, struct genarm_error *err);

static void free_item(struct item *item) {
    free(item->name);
    free(item->title);
    free(item->output);
    free(item->needs);
    item_words_free(item->words);
    *item = (struct item){0};
}

void items_free(struct item_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        free_item(&list->items[i]);
    }
    free(list->items);
    *list = (struct item_list){0};
}

/* ---- names ---- */

/* name, title and output of an item. */
static int name_item(struct item *item, struct genarm_error *err) {
    const struct folder *folder = &folders[item->kind];
    const char *whose = item->method ? item->method->name : item->part->name, *what = item->method ? item->part->name : NULL;
    struct buf point, name, title, output;
    buf_init(&point, NAME_MAX_BYTES);
    buf_init(&name, NAME_MAX_BYTES);
    buf_init(&title, NAME_MAX_BYTES);
    buf_init(&output, NAME_MAX_BYTES);
    int code = point_print(&point, item->point, err);
    if (code == 0 && point.len > POINT_MAX_BYTES) {
        code = yaml_error(item->part->at, err, "a point of its sweep is too long for the name of a file: %.60s…", point.data);
    }
    const char *at = point.len ? "@" : "", *p = point.len ? point.data : "";
    const char *dot = what ? "." : "", *end = what ? what : "";
    code = code ? code : buf_printf(&name, err, "%s.%s%s%s%s%s", folder->name, whose, at, p, dot, end);
    code = code ? code : buf_printf(&output, err, "%s/%s%s%s%s%s%s", folder->name, whose, at, p, dot, end, folder->ending);
    code = code ? code : buf_printf(&title, err, "%s %s%s%s%s%s", folder->title, what ? what : whose, what ? " of " : "",
                                    what ? whose : "", point.len ? ", " : "", p);
    if (code == 0) {
        item->name = name.data;
        item->title = title.data;
        item->output = output.data;
    } else {
        buf_deinit(&name);
        buf_deinit(&title);
        buf_deinit(&output);
    }
    buf_deinit(&point);
    return code;
}

/* ---- what an item needs ---- */

static int add_need(struct item *item, size_t need, struct genarm_error *err) {
    for (size_t i = 0; i < item->n_needs; i++) {
        if (item->needs[i] == need) {
            return 0;
        }
    }
    size_t *needs = realloc(item->needs, (item->n_needs + 1) * sizeof *needs);
    if (!needs) {
        return error_nomem(err, "items");
    }
    item->needs = needs;
    needs[item->n_needs++] = need;
    return 0;
}

/* The item of a part at a point: the one all of whose variables have the same values. */
static bool find_at(size_t *out, const struct item_list *list, enum item_kind kind, const struct part *p,
                    const struct point *point) {
    for (size_t i = 0; i < list->n; i++) {
        const struct item *item = &list->items[i];
        if (item->kind == kind && item->part == p && point_within(item->point, point)) {
            *out = i;
            return true;
        }
    }
    return false;
}

const struct item *items_answers(const struct item_list *list, const struct part *method, const struct point *point) {
    size_t i;
    return find_at(&i, list, ITEM_ANSWERS, method, point) ? &list->items[i] : NULL;
}

/* What $name stands for. */
static int resolve(struct buf *out, const char *name, void *user, struct genarm_error *err) {
    struct draft *d = user;
    struct maker *m = d->m;
    size_t i = 0;
    if (strcmp(name, "model") == 0) {
        const char *model = m->params->model ? m->params->model : m->e->model;
        return model ? buf_puts(out, model, err)
                     : error_hint(err, yaml_error(d->at, err, "$model is the base, and none is named"), "model: FILE.gguf");
    }
    const struct part *p = experiment_find(m->e, PART_MODEL, name);
    if (!p) {
        return error_hint(err, experiment_unknown(m->e, PART_MODEL, d->at, name, "model", err), "$$ is a dollar");
    }
    int code = make_models(m, p, d->at, err);
    if (code == 0 && !find_at(&i, m->list, ITEM_MODEL, p, d->item.point)) {
        const struct point *of = &p->sweep.points[0];
        code = yaml_error(d->at, err, "$%s is made for points of its sweep, and none of them belongs to this one", name);
        error_hint(err, code, "its variables are %s%s%s", of->n ? of->bindings[0].name : "", of->n > 1 ? ", " : "",
                   of->n > 1 ? of->bindings[1].name : "");
    }
    code = code ? code : add_need(&d->item, i, err);
    return code ? code : buf_printf(out, err, ITEM_FOLDER "/%s", m->list->items[i].output);
}

/* ---- making ---- */

/* The item before this one whose file a text begins with. */
static const struct item *find_need(const struct draft *d, const char *text) {
    const struct item *found = NULL;
    size_t longest = 0;
    for (size_t i = 0; i < d->item.n_needs; i++) {
        const struct item *need = &d->m->list->items[d->item.needs[i]];
        const size_t n = strlen(need->output);
        if (n > longest && strncmp(text, need->output, n) == 0) {
            found = need;
            longest = n;
        }
    }
    return found;
}

/* The word with what identifies files of the experiment in place of their names, which count for nothing. Empty: it says only
 * where something is written. */
static int put_fingerprints(struct buf *out, const struct draft *d, const char *word, struct genarm_error *err) {
    int code = buf_puts(out, "", err);
    for (const char *mark; code == 0 && (mark = strchr(word, ITEM_FOLDER[0]));) {
        const struct item *need = mark[1] == '/' ? find_need(d, mark + 2) : NULL;
        if (!need) {
            buf_clear(out);
            return buf_puts(out, "", err);
        }
        code = buf_append(out, word, (size_t)(mark - word), err);
        code = code ? code : buf_printf(out, err, ITEM_FOLDER "%016" PRIx64, need->fingerprint);
        word = mark + 2 + strlen(need->output);
    }
    return code ? code : buf_puts(out, word, err);
}

/* By the names of options; operands, and options of one name, stay in their order. Both are places in one list of words. */
static int compare_words(const void *a, const void *b) {
    char *const *x = *(char *const *const *)a, *const *y = *(char *const *const *)b;
    const size_t n = strncmp(*x, "--", 2) == 0 ? strcspn(*x, "=") : 0, m = strncmp(*y, "--", 2) == 0 ? strcspn(*y, "=") : 0;
    const int order = memcmp(*x, *y, n < m ? n : m);
    return order ? order : n != m ? (n > m) - (n < m) : (x > y) - (x < y);
}

static int hash_word(uint64_t *hash, struct buf *text, const struct draft *d, const char *word, struct genarm_error *err) {
    buf_clear(text);
    const int code = put_fingerprints(text, d, word, err);
    if (code || text->len == 0) {
        return code;
    }
    const char *value = strncmp(text->data, "--", 2) == 0 ? strchr(text->data, '=') : NULL;
    if (value) { /* the value may be the name of a file as a whole */
        *hash = hash_bytes(*hash, text->data, (size_t)(value - text->data) + 1);
    }
    const int hashed = fingerprint_text(&d->m->files, hash, value ? value + 1 : text->data, err);
    *hash = hash_u64(*hash, 0);
    return hashed;
}

/* Files that a reward or a judge reads beside those that its command names: they count, and are not passed on. */
static int hash_files(struct draft *d, struct genarm_error *err) {
    const struct part *p = d->item.part;
    const struct yaml_value *files = part_own_key(p, "files") ? yaml_get(p->options, "files") : NULL;
    const bool list = files && files->kind == YAML_LIST;
    int code = 0;
    for (size_t i = 0; files && i < (list ? files->n : 1) && code == 0; i++) {
        const struct yaml_value *v = list ? &files->items[i] : files;
        const char *path = NULL;
        struct genarm_error said = {0};
        code = yaml_text(&path, v, "the name of a file", err);
        if (code == 0 && fingerprint_file(&d->m->files, &d->item.fingerprint, path, &said) != 0) {
            code = yaml_error(v, err, "files: %.200s: %s", path, said.what);
        }
    }
    return code;
}

static int finish_fingerprint(struct draft *d, struct genarm_error *err) {
    const size_t n = d->words.n;
    char ***sorted = calloc(n + 1, sizeof *sorted);
    struct buf text;
    int code = sorted ? 0 : error_nomem(err, "items");
    buf_init(&text, WORD_MAX_BYTES);
    for (size_t i = 0; i < n && code == 0; i++) {
        sorted[i] = &d->words.items[i];
    }
    if (code == 0) {
        qsort(sorted, n, sizeof *sorted, compare_words);
    }
    d->item.fingerprint = HASH_START;
    for (size_t i = 0; i < n && code == 0; i++) {
        if (!word_is_free(d->m->vocabulary, d->words.items[0], *sorted[i])) {
            code = hash_word(&d->item.fingerprint, &text, d, *sorted[i], err);
        }
    }
    code = code ? code : hash_files(d, err);
    buf_deinit(&text);
    free(sorted);
    return code;
}

/* Adds the item that a draft has become. */
static int keep(struct draft *d, struct genarm_error *err) {
    struct item_list *list = d->m->list;
    int code = d->m->vocabulary->check(d->words.items[0], d->words.items + 1, d->words.n - 1, err);
    code = yaml_error_at(d->item.part->at, code, err);
    code = code ? code : finish_fingerprint(d, err);
    if (code == 0 && list->n >= ITEMS_MAX) {
        code = yaml_error(d->item.part->at, err, "the experiment has more than %d parts", ITEMS_MAX);
    }
    struct item *items = code ? NULL : realloc(list->items, (list->n + 1) * sizeof *items);
    if (code == 0 && !items) {
        code = error_nomem(err, "items");
    }
    if (code == 0) {
        d->item.words = d->words.items;
        d->item.n_words = d->words.n;
        d->words = (struct word_list){0};
        list->items = items;
        items[list->n++] = d->item;
        d->item = (struct item){0};
    }
    return code;
}

static const char *base_model(const struct maker *m) { return m->params->model ? m->params->model : m->e->model; }

/* Begins an item with its command and the options of the experiment. */
static int begin(struct draft *d, struct maker *m, const struct item *item, struct genarm_error *err) {
    *d = (struct draft){.m = m, .item = *item, .at = item->part->at};
    const struct wording w = {.e = m->e,
                              .vocabulary = m->vocabulary,
                              .part = item->part,
                              .model = base_model(m),
                              .substitute = {item->point, resolve, d},
                              .at = &d->at};
    int code = name_item(&d->item, err);
    return code ? code : wording_options(&d->words, &w, err);
}

static void drop(struct draft *d) {
    free_item(&d->item);
    word_list_deinit(&d->words);
}

/* Appends an option that we set; `path` below the folder, or a value as it is, or neither: a flag. */
static int put(struct draft *d, const char *option, const char *path, const char *value, bool optional,
               struct genarm_error *err) {
    const struct wording w = {.e = d->m->e, .vocabulary = d->m->vocabulary, .part = d->item.part};
    struct buf text;
    buf_init(&text, NAME_MAX_BYTES);
    int code = path ? buf_printf(&text, err, ITEM_FOLDER "/%s", path) : 0;
    code = code ? code : wording_add(&d->words, &w, option, path ? text.data : value, optional, err);
    buf_deinit(&text);
    return code;
}

/* Appends the path of an item's file, as an operand. */
static int put_operand(struct draft *d, const struct item *of, struct genarm_error *err) {
    struct buf text;
    buf_init(&text, NAME_MAX_BYTES);
    int code = buf_printf(&text, err, ITEM_FOLDER "/%s", of->output);
    code = code ? code : word_list_add(&d->words, text.data, err);
    code = code ? code : add_need(&d->item, (size_t)(of - d->m->list->items), err);
    buf_deinit(&text);
    return code;
}

/* ---- models ---- */

/* The curves of a training. */
static int put_log(struct draft *d, struct genarm_error *err) {
    struct buf path;
    buf_init(&path, NAME_MAX_BYTES);
    int code = buf_printf(&path, err, "logs/%s.jsonl", d->item.name);
    code = code ? code : put(d, "log", path.data, NULL, true, err);
    buf_deinit(&path);
    return code;
}

static int make_model(struct maker *m, const struct part *p, const struct point *point, struct genarm_error *err) {
    struct draft d;
    const struct item item = {.kind = ITEM_MODEL, .part = p, .point = point};
    int code = begin(&d, m, &item, err);
    if (code == 0 && strcmp(p->command, "rl") == 0 && m->e->prompts) {
        code = put(&d, "prompts", NULL, m->e->prompts, false, err);
    }
    code = code ? code : put(&d, "resume", NULL, NULL, true, err);
    code = code ? code : put_log(&d, err);
    code = code ? code : put(&d, "output", d.item.output, NULL, false, err);
    code = code ? code : keep(&d, err);
    drop(&d);
    return code;
}

/* A model that needs itself, by the names on the way. */
static int cycle(const struct maker *m, const struct part *p, const struct yaml_value *at, struct genarm_error *err) {
    struct buf way;
    size_t first = 0;
    buf_init(&way, NAME_MAX_BYTES);
    while (m->open[first] != p) {
        first++;
    }
    int code = 0;
    for (size_t i = first; i < m->n_open && code == 0; i++) {
        code = buf_printf(&way, err, "%s needs ", m->open[i]->name);
    }
    code = code ? code : yaml_error(at, err, "models need each other: %.500s%s", way.data, p->name);
    buf_deinit(&way);
    return code;
}

static int make_models(struct maker *m, const struct part *p, const struct yaml_value *at, struct genarm_error *err) {
    const size_t i = (size_t)(p - m->e->parts);
    int code = 0;
    if (m->states[i] == MADE) {
        return 0;
    }
    if (m->states[i] == OPEN) {
        return cycle(m, p, at, err);
    }
    m->states[i] = OPEN;
    m->open[m->n_open++] = p;
    for (size_t k = 0; k < p->sweep.n && code == 0; k++) {
        code = make_model(m, p, &p->sweep.points[k], err);
    }
    m->n_open--;
    m->states[i] = MADE;
    return code;
}

/* ---- what is done with models ---- */

static int make_answers(struct maker *m, const struct part *p, const struct point *point, struct genarm_error *err) {
    struct draft d;
    const struct item item = {.kind = ITEM_ANSWERS, .part = p, .point = point};
    char limit[24];
    snprintf(limit, sizeof limit, "%lld", (long long)m->params->limit);
    int code = begin(&d, m, &item, err);
    code = code ? code : put(&d, "prompts", NULL, m->e->prompts, false, err);
    if (code == 0 && m->params->limit > 0) {
        code = put(&d, "limit", NULL, limit, false, err);
    }
    code = code ? code : put(&d, "output", d.item.output, NULL, false, err);
    code = code ? code : keep(&d, err);
    drop(&d);
    return code;
}

static int make_rewards(struct maker *m, const struct part *p, const struct item *answers, struct genarm_error *err) {
    struct draft d;
    const size_t of = (size_t)(answers - m->list->items);
    const struct item item = {.kind = ITEM_REWARDS, .part = p, .method = answers->part, .point = answers->point};
    int code = begin(&d, m, &item, err);
    if (code == 0 && !word_list_has(&d.words, "--reward")) {
        code = yaml_error(p->at, err, "the reward has no option \"reward\"");
    }
    code = code ? code : put(&d, "answers", m->list->items[of].output, NULL, false, err);
    code = code ? code : add_need(&d.item, of, err);
    code = code ? code : put(&d, "output", d.item.output, NULL, false, err);
    code = code ? code : keep(&d, err);
    drop(&d);
    return code;
}

static int make_verdicts(struct maker *m, const struct part *p, const struct part *method, const struct point *point,
                         struct genarm_error *err) {
    struct draft d;
    const struct item item = {.kind = ITEM_VERDICTS, .part = p, .method = method, .point = point};
    if (!items_answers(m->list, p->against, point)) {
        return yaml_error(p->at, err, "\"%s\" has points of its own: none of them belongs to a point of \"%s\"",
                          p->against->name, method->name);
    }
    int code = begin(&d, m, &item, err);
    if (code == 0 && !word_list_has(&d.words, "--judge")) {
        code = yaml_error(p->at, err, "the judge has no option \"judge\"");
    }
    code = code ? code : put(&d, "output", d.item.output, NULL, false, err);
    code = code ? code : put_operand(&d, items_answers(m->list, method, point), err);
    code = code ? code : put_operand(&d, items_answers(m->list, p->against, point), err);
    code = code ? code : keep(&d, err);
    drop(&d);
    return code;
}

static int make_pairs(struct maker *m, const struct part *p, const struct point *point, struct genarm_error *err) {
    struct draft d;
    const struct item item = {.kind = ITEM_PAIRS, .part = p, .point = point};
    int code = begin(&d, m, &item, err);
    if (code == 0 && !(word_list_has(&d.words, "--reward") && word_list_has(&d.words, "--data"))) {
        code = yaml_error(p->at, err, "the accuracy needs the options \"reward\" and \"data\"");
    }
    code = code ? code : put(&d, "per-pair", NULL, NULL, false, err);
    code = code ? code : put(&d, "output", d.item.output, NULL, false, err);
    code = code ? code : keep(&d, err);
    drop(&d);
    return code;
}

static int make_part(struct maker *m, const struct part *p, struct genarm_error *err) {
    const size_t n = m->list->n;
    int code = 0;
    if (p->kind == PART_MODEL) {
        return make_models(m, p, p->at, err);
    }
    for (size_t i = 0; i < n && p->kind == PART_REWARD && code == 0; i++) {
        if (m->list->items[i].kind == ITEM_ANSWERS) {
            code = make_rewards(m, p, &m->list->items[i], err);
        }
    }
    for (size_t i = 0; i < p->n_methods && code == 0; i++) {
        const struct sweep *s = &p->methods[i]->sweep;
        for (size_t k = 0; k < s->n && code == 0; k++) {
            code = make_verdicts(m, p, p->methods[i], &s->points[k], err);
        }
    }
    for (size_t k = 0; k < p->sweep.n && code == 0; k++) {
        if (p->kind == PART_METHOD) {
            code = make_answers(m, p, &p->sweep.points[k], err);
        } else if (p->kind == PART_ACCURACY) {
            code = make_pairs(m, p, &p->sweep.points[k], err);
        }
    }
    return code;
}

/* ---- what is wanted ---- */

/* Whether a part is among NAMES: by its name, or with its section before it, "methods.base". */
static bool is_named(const char *names, const struct part *p) {
    char next[2 * NAME_MAX_LENGTH];
    const char *section = part_section(p->kind);
    const size_t n = strlen(section);
    while (next_name(&names, ',', next, sizeof next)) {
        const bool full = strncmp(next, section, n) == 0 && next[n] == '.';
        if (strcmp(full ? next + n + 1 : next, p->name) == 0) {
            return true;
        }
    }
    return false;
}

static int check_names(const struct experiment *e, const char *names, struct genarm_error *err) {
    char name[2 * NAME_MAX_LENGTH], near[NAME_MAX_LENGTH];
    while (next_name(&names, ',', name, sizeof name)) {
        const char *known[512];
        size_t n = 0;
        bool found = false;
        for (size_t i = 0; i < e->n; i++) {
            found = found || is_named(name, &e->parts[i]);
            if (n < sizeof known / sizeof *known) {
                known[n++] = e->parts[i].name;
            }
        }
        if (!found && nearest_name(name, known, n, near, sizeof near)) {
            return error_set(err, GENARM_EINVAL, "nothing of the experiment is called \"%s\"; did you mean \"%s\"?", name, near);
        }
        if (!found) {
            return error_set(err, GENARM_EINVAL, "nothing of the experiment is called \"%s\"", name);
        }
    }
    return 0;
}

/* What is wanted, and what that needs. */
static void mark_wanted(struct item_list *list, const char *only) {
    for (size_t i = 0; i < list->n; i++) {
        struct item *item = &list->items[i];
        item->wanted = !only || is_named(only, item->part) || (item->method && is_named(only, item->method));
    }
    for (size_t i = list->n; i-- > 0;) {
        for (size_t k = 0; list->items[i].wanted && k < list->items[i].n_needs; k++) {
            list->items[list->items[i].needs[k]].wanted = true;
        }
    }
}

int items_new(struct item_list *out, const struct experiment *e, const struct items_params *params,
              const struct eval_vocabulary *vocabulary, struct genarm_error *err) {
    struct item_list list = {0};
    struct maker m = {.e = e, .params = params, .vocabulary = vocabulary, .list = &list};
    m.states = calloc(e->n + 1, sizeof *m.states);
    m.open = calloc(e->n + 1, sizeof *m.open);
    int code = m.states && m.open ? 0 : error_nomem(err, "items");
    code = code || !params->only ? code : error_at(err, check_names(e, params->only, err), "--only");
    for (size_t i = 0; i < e->n && code == 0; i++) {
        code = make_part(&m, &e->parts[i], err);
    }
    free(m.states);
    free(m.open);
    fingerprints_deinit(&m.files);
    if (code) {
        items_free(&list);
        return code;
    }
    mark_wanted(&list, params->only);
    *out = list;
    return 0;
}

/* ---- use ---- */

void item_words_free(char **words) {
    for (size_t i = 0; words && words[i]; i++) {
        free(words[i]);
    }
    free(words);
}

/* A word with the folder in every place of the mark. */
static char *put_folder(const char *word, const char *folder) {
    size_t marks = 0;
    for (const char *c = word; *c; c++) {
        marks += *c == ITEM_FOLDER[0];
    }
    char *out = malloc(strlen(word) + marks * strlen(folder) + 1), *to = out;
    for (const char *c = word; out && *c; c++) {
        if (*c == ITEM_FOLDER[0]) {
            memcpy(to, folder, strlen(folder));
            to += strlen(folder);
        } else {
            *to++ = *c;
        }
    }
    if (out) {
        *to = '\0';
    }
    return out;
}

char **item_words(const struct item *item, const char *folder) {
    char **words = calloc(item->n_words + 1, sizeof *words);
    for (size_t i = 0; words && i < item->n_words; i++) {
        words[i] = put_folder(item->words[i], folder);
        if (!words[i]) {
            item_words_free(words);
            return NULL;
        }
    }
    return words;
}

const char *item_folder(const struct item *item) { return folders[item->kind].name; }

/* Adds a value to those that an option has already. */
static bool add_option(json_t *options, const char *name, json_t *value) {
    json_t *before = json_object_get(options, name);
    if (!before) {
        return json_object_set_new(options, name, value) == 0;
    }
    if (json_is_array(before)) {
        return json_array_append_new(before, value) == 0;
    }
    return json_object_set_new(options, name, json_pack("[O, o]", before, value)) == 0;
}

/* What every command is given that makes a model says nothing about it. */
static bool is_ours(const char *option) {
    return strcmp(option, "output") == 0 || strcmp(option, "resume") == 0 || strcmp(option, "log") == 0;
}

json_t *item_options(const struct item *item) {
    json_t *options = json_object();
    bool ok = options != NULL;
    for (size_t i = 1; i < item->n_words && ok; i++) {
        const char *word = item->words[i] + strspn(item->words[i], "-");
        const char *equals = strchr(word, '=');
        char *name = equals ? strndup(word, (size_t)(equals - word)) : strdup(word);
        char *value = equals ? put_folder(equals + 1, "") : NULL;
        if (item->words[i][0] == '-' && name && !is_ours(name) && (!equals || value)) {
            const char *path = value && *value == '/' && equals[1] == ITEM_FOLDER[0] ? value + 1 : value;
            ok = add_option(options, name, path ? text_json(path) : json_true());
        }
        ok = ok && name && (!equals || value);
        free(name);
        free(value);
    }
    if (!ok) {
        json_decref(options);
        return NULL;
    }
    return options;
}
