/* See results.h. */
#include "eval/results.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/utf8.h"

enum { MAX_LINE = 256 << 20, MAX_WHERE = 4200 };
enum { NO_LINE = -1, NO_ANSWER = -2 }; /* in place of the offset of an answer */

/* A line as JSON. What a model samples may be anything: zero characters are allowed, and bytes that are not UTF-8 become
 * U+FFFD. */
static int parse(json_t **out, const char *text, size_t n, struct genarm_error *err) {
    json_error_t e;
    struct buf clean;
    buf_init(&clean, MAX_LINE);
    if (!utf8_valid(text, n)) {
        struct text_tail tail = {0};
        int rc = text_push(&tail, text, n, &clean, err);
        rc = rc ? rc : text_end(&tail, &clean, err);
        if (rc) {
            buf_deinit(&clean);
            return rc;
        }
        text = clean.data;
        n = clean.len;
    }
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    buf_deinit(&clean);
    return *out                                                  ? GENARM_OK
           : json_error_code(&e) == json_error_out_of_memory ? error_nomem(err, "a JSON value")
                                                                 : error_set(err, GENARM_EFORMAT, "broken JSON: %s (column %d)",
                                                                             e.text, e.column);
}

/* A text without zero characters. */
static char *text_of(const json_t *value) {
    const size_t n = json_string_length(value);
    char *text = malloc(n + 1);
    if (text) {
        memcpy(text, json_is_string(value) ? json_string_value(value) : "", n);
        text[n] = '\0';
        for (size_t i = 0; i < n; i++) {
            text[i] = text[i] ? text[i] : ' ';
        }
    }
    return text;
}

/* ---- which cell and prompt a line is of ---- */

bool results_same_value(const json_t *a, const json_t *b) {
    if (json_is_integer(a) && json_is_integer(b)) {
        return json_integer_value(a) == json_integer_value(b);
    }
    if (json_is_number(a) && json_is_number(b)) { /* 1 is 1.0 */
        const double x = json_number_value(a), y = json_number_value(b);
        return x <= y && x >= y;
    }
    return a && b && json_equal(a, b) != 0;
}

static bool same_point(const json_t *a, const json_t *b) {
    const char *key;
    json_t *value;
    if (json_object_size(a) != json_object_size(b)) {
        return false;
    }
    json_object_foreach((json_t *)(uintptr_t)a, key, value) { /* nothing is changed */
        if (!results_same_value(value, json_object_get(b, key))) {
            return false;
        }
    }
    return true;
}

static int find_cell(size_t *out, const struct results *r, const json_t *line, struct genarm_error *err) {
    const char *name = NULL;
    int rc = json_get_string(&name, line, "method", r->path, err);
    if (rc) {
        return rc;
    }
    const size_t method = results_find_method(r, name);
    if (method == r->n_methods) {
        return error_set(err, GENARM_EMISMATCH, "method \"%s\" is none of the experiment's", name);
    }
    const struct results_method *m = &r->methods[method];
    for (size_t i = 0; i < m->n_cells; i++) {
        if (same_point(json_object_get(line, "point"), r->cells[m->first_cell + i].values)) {
            *out = m->first_cell + i;
            return GENARM_OK;
        }
    }
    return error_set(err, GENARM_EMISMATCH, "method \"%s\" has no such point", name);
}

static int find_index(size_t *out, const struct results *r, const json_t *line, struct genarm_error *err) {
    const json_t *index = json_object_get(line, "index");
    if (!json_is_integer(index) || json_integer_value(index) < 0) {
        return error_set(err, GENARM_EFORMAT, "\"index\" must be the number of a prompt, from 0");
    }
    *out = (size_t)json_integer_value(index);
    return *out < r->n_prompts ? GENARM_OK
                               : error_set(err, GENARM_EMISMATCH, "\"index\" is %zu, but there are %zu prompts", *out,
                                           r->n_prompts);
}

/* ---- answers ---- */

static double number_of(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static double *unknown(size_t n) {
    double *x = malloc((n + 1) * sizeof *x);
    for (size_t i = 0; x && i < n; i++) {
        x[i] = NAN;
    }
    return x;
}

/* Room for the first answer of a cell and all others. */
static int open_cell(const struct results *r, struct results_cell *c, struct genarm_error *err) {
    if (c->offsets) {
        return GENARM_OK;
    }
    c->columns = unknown(RESULTS_COLUMNS * r->n_prompts);
    c->rewards = unknown(r->n_rewards * r->n_prompts);
    c->counts = calloc(r->n_prompts + 1, sizeof *c->counts);
    c->offsets = malloc((r->n_prompts + 1) * sizeof *c->offsets);
    if (!c->columns || !c->rewards || !c->counts || !c->offsets) {
        return error_nomem(err, "answers");
    }
    for (size_t i = 0; i < r->n_prompts; i++) {
        c->offsets[i] = NO_LINE;
    }
    return GENARM_OK;
}

static int add_text(const struct results *r, struct results_cell *c, size_t i, const json_t *response,
                    struct genarm_error *err) {
    char *text = text_of(response);
    if (!text) {
        return error_nomem(err, "an answer");
    }
    const int rc = diversity_count_words(&c->counts[i], text, err);
    c->columns[RESULTS_WORDS * r->n_prompts + i] = (double)c->counts[i].total[1];
    c->columns[RESULTS_CHARS * r->n_prompts + i] = (double)utf8_length(text, strlen(text));
    free(text);
    return rc;
}

static void add_numbers(const struct results *r, struct results_cell *c, size_t i, const json_t *line) {
    static const char *const work[] = {"base", "arms", "value", "rollout"};
    const json_t *evaluated = json_object_get(line, "evaluated"), *rewards = json_object_get(line, "rewards");
    const char *finish = json_string_value(json_object_get(line, "finish_reason"));
    double *x = c->columns + i;
    const size_t n = r->n_prompts;
    const double best_of = number_of(line, "best_of");
    c->best_of = isfinite(best_of) ? best_of : c->best_of;
    x[RESULTS_TOKENS * n] = number_of(line, "n_tokens");
    x[RESULTS_LOGPROB * n] = number_of(line, "logprob");
    x[RESULTS_SECONDS * n] = number_of(line, "seconds");
    x[RESULTS_FINISHED * n] = !finish ? NAN : strcmp(finish, "stop") == 0;
    for (size_t k = 0; k < sizeof work / sizeof *work; k++) {
        x[(RESULTS_BASE + k) * n] = number_of(evaluated, work[k]);
    }
    for (size_t k = 0; k < r->n_rewards; k++) {
        c->rewards[k * n + i] = number_of(rewards, r->rewards[k]);
    }
}

/* A prompt that does not fit, or whose answer failed on the way. */
static bool could_not_answer(const json_t *line) {
    const char *finish = json_string_value(json_object_get(line, "finish_reason"));
    return finish && strcmp(finish, "error") == 0;
}

static int add_answer(struct results *r, const json_t *line, int64_t offset, struct genarm_error *err) {
    size_t cell = 0, index = 0;
    int rc = find_cell(&cell, r, line, err);
    rc = rc ? rc : find_index(&index, r, line, err);
    rc = rc ? rc : open_cell(r, &r->cells[cell], err);
    if (rc) {
        return rc;
    }
    struct results_cell *c = &r->cells[cell];
    if (c->offsets[index] != NO_LINE) {
        return error_set(err, GENARM_EMISMATCH, "a second answer of %s to prompt %zu", c->name, index);
    }
    if (could_not_answer(line)) { /* nothing is known, which is not an answer of 0 words */
        c->offsets[index] = NO_ANSWER;
        return GENARM_OK;
    }
    c->offsets[index] = offset;
    c->n_answers++;
    add_numbers(r, c, index, line);
    return add_text(r, c, index, json_object_get(line, "response"), err);
}

/* ---- verdicts, pairs, models ---- */

static int open_verdicts(struct results_verdicts *v, size_t n, struct genarm_error *err) {
    if (!v->verdicts) {
        v->verdicts = malloc(n + 1);
        v->preferences = unknown(n);
        if (!v->verdicts || !v->preferences) {
            return error_nomem(err, "verdicts");
        }
        memset(v->verdicts, RESULTS_NO_VERDICT, n + 1);
    }
    return GENARM_OK;
}

static int verdict_of(unsigned char *out, const json_t *line, struct genarm_error *err) {
    const char *name = json_string_value(json_object_get(line, "verdict"));
    for (int v = WIN_RATE_INVALID; name && v <= WIN_RATE_LOSE; v++) {
        if (strcmp(name, win_rate_verdict_name((enum win_rate_verdict)v)) == 0) {
            *out = (unsigned char)v;
            return GENARM_OK;
        }
    }
    return error_set(err, GENARM_EFORMAT, "\"verdict\" must be win, tie, lose or invalid");
}

static int add_verdict(struct results *r, const json_t *line, struct genarm_error *err) {
    const char *name = NULL;
    size_t cell = 0, index = 0, judge = 0;
    unsigned char verdict = 0;
    int rc = json_get_string(&name, line, "judge", r->path, err);
    while (rc == GENARM_OK && judge < r->n_judges && strcmp(r->judges[judge].name, name) != 0) {
        judge++;
    }
    if (rc || judge == r->n_judges) {
        return rc ? rc : error_set(err, GENARM_EMISMATCH, "judge \"%s\" is none of the experiment's", name);
    }
    rc = find_cell(&cell, r, line, err);
    rc = rc ? rc : find_index(&index, r, line, err);
    rc = rc ? rc : verdict_of(&verdict, line, err);
    struct results_verdicts *v = rc ? NULL : &r->judges[judge].cells[cell];
    rc = rc ? rc : open_verdicts(v, r->n_prompts, err);
    if (rc || v->verdicts[index] != RESULTS_NO_VERDICT) {
        return rc ? rc : error_set(err, GENARM_EMISMATCH, "a second verdict of %s on %s, prompt %zu", name, r->cells[cell].name,
                                   index);
    }
    const double preference = number_of(line, "preference");
    v->verdicts[index] = verdict;
    v->preferences[index] = preference >= 1 && preference <= 2 ? preference : NAN;
    v->n++;
    return GENARM_OK;
}

static int pairs_of(struct results_pairs **out, struct results *r, const json_t *line, struct genarm_error *err) {
    const char *name = NULL, *data = NULL;
    int rc = json_get_string(&name, line, "name", r->path, err);
    rc = rc ? rc : json_opt_string(&data, line, "data", "", r->path, err);
    json_t *point = json_object_get(line, "point");
    if (rc) {
        return rc;
    }
    for (size_t i = r->n_pairs; i > 0; i--) { /* mostly the last one */
        struct results_pairs *p = &r->pairs[i - 1];
        if (strcmp(p->name, name) == 0 && same_point(p->point, point)) {
            *out = p;
            return GENARM_OK;
        }
    }
    struct results_pairs *grown = realloc(r->pairs, (r->n_pairs + 1) * sizeof *grown);
    if (!grown) {
        return error_nomem(err, "pairs");
    }
    r->pairs = grown;
    *out = &grown[r->n_pairs++];
    **out = (struct results_pairs){.name = strdup(name), .data = strdup(data),
                                    .label = results_label(point), .point = json_incref(point),
                                    .scale = number_of(line, "scale")};
    return (*out)->name && (*out)->data && (*out)->label ? GENARM_OK : error_nomem(err, "pairs");
}

static int add_pair(struct results *r, const json_t *line, struct genarm_error *err) {
    struct results_pairs *p = NULL;
    int rc = pairs_of(&p, r, line, err);
    if (rc == GENARM_OK && p->n == p->cap) {
        const size_t cap = p->cap ? 2 * p->cap : 64;
        double *grown = realloc(p->margins, cap * sizeof *grown);
        rc = grown ? GENARM_OK : error_nomem(err, "pairs");
        p->margins = grown ? grown : p->margins;
        p->cap = grown ? cap : p->cap;
    }
    if (rc == GENARM_OK) {
        p->margins[p->n++] = number_of(line, "chosen") - number_of(line, "rejected");
    }
    return rc;
}

/* Takes a reference to the line. */
static int add_model(struct results *r, json_t *line, struct genarm_error *err) {
    struct results_model m = {.seconds = number_of(line, "seconds"), .options = json_object_get(line, "options")};
    int rc = json_get_string(&m.name, line, "name", r->path, err);
    rc = rc ? rc : json_opt_string(&m.command, line, "command", "", r->path, err);
    struct results_model *grown = rc ? NULL : realloc(r->models, (r->n_models + 1) * sizeof *grown);
    if (!grown) {
        return rc ? rc : error_nomem(err, "models");
    }
    r->models = grown;
    m.label = results_label(json_object_get(line, "point"));
    m.record = json_incref(line);
    grown[r->n_models++] = m;
    return m.label ? GENARM_OK : error_nomem(err, "models");
}

/* ---- the file ---- */

static int add_line(struct results *r, json_t *line, int64_t offset, const char *where, struct genarm_error *err) {
    const char *kind = NULL;
    int rc = json_get_string(&kind, line, "kind", where, err);
    const bool head = rc == GENARM_OK && strcmp(kind, "experiment") == 0;
    if (rc == GENARM_OK && head == (r->experiment != NULL)) {
        rc = head ? error_set(err, GENARM_EFORMAT, "a second line of kind \"experiment\"")
                  : error_set(err, GENARM_EFORMAT, "the first line must be of kind \"experiment\", not \"%s\"", kind);
        rc = error_hint(err, rc, "is this a results.jsonl of genarm eval?");
    } else if (head) {
        r->experiment = json_incref(line);
        rc = results_head(r, where, err);
    } else if (rc == GENARM_OK) {
        rc = strcmp(kind, "answer") == 0    ? add_answer(r, line, offset, err)
             : strcmp(kind, "verdict") == 0 ? add_verdict(r, line, err)
             : strcmp(kind, "pair") == 0    ? add_pair(r, line, err)
             : strcmp(kind, "model") == 0   ? add_model(r, line, err)
                                            : GENARM_OK;
        r->n_other += strcmp(kind, "answer") != 0 && strcmp(kind, "verdict") != 0 && strcmp(kind, "pair") != 0 &&
                      strcmp(kind, "model") != 0;
    }
    return rc;
}

static int read_lines(struct results *r, struct file_lines *l, struct genarm_error *err) {
    int more = 0, rc = GENARM_OK;
    while (rc == GENARM_OK) {
        const int64_t offset = ftello(l->stream);
        char where[MAX_WHERE];
        more = file_lines_next(l, err);
        if (more <= 0) {
            break;
        }
        json_t *line = NULL;
        snprintf(where, sizeof where, "%s:%ld", r->path, l->line);
        rc = l->text.len ? parse(&line, l->text.data, l->text.len, err) : GENARM_OK;
        rc = rc || !line ? rc : add_line(r, line, offset, where, err);
        json_decref(line);
        /* The innermost place would be the file alone. */
        if (rc && err && strcmp(err->where, where) != 0) {
            err->where[0] = '\0';
        }
        rc = error_at(err, rc, "%s", where);
    }
    return rc ? rc : more;
}

int results_read(struct results *out, const char *path, struct genarm_error *err) {
    struct results r = {.path = strdup(path)};
    struct file_lines lines = {0};
    int rc = r.path ? file_lines_open(&lines, path, MAX_LINE, err) : error_nomem(err, "a path");
    if (rc == GENARM_OK) {
        rc = read_lines(&r, &lines, err);
        file_lines_close(&lines);
    }
    if (rc == GENARM_OK && !r.experiment) {
        rc = error_at(err, error_set(err, GENARM_EFORMAT, "the file says of no experiment"), "%s", path);
    }
    if (rc) {
        results_deinit(&r);
        return rc;
    }
    *out = r;
    return GENARM_OK;
}

int results_text(struct results_texts *out, FILE *stream, const struct results *r, const struct results_cell *cell,
                 size_t index, struct genarm_error *err) {
    struct file_lines l = {.stream = stream, .path = r->path};
    json_t *line = NULL;
    if (fseeko(stream, (off_t)cell->offsets[index], SEEK_SET) != 0) {
        return error_at(err, error_set(err, GENARM_EIO, "cannot read the file: %s", strerror(errno)), "%s", r->path);
    }
    buf_init(&l.text, MAX_LINE);
    const int got = file_lines_next(&l, err);
    int rc = got < 0 ? got : got == 0 ? error_set(err, GENARM_EIO, "the file has been cut off") : GENARM_OK;
    rc = rc ? rc : parse(&line, l.text.data, l.text.len, err);
    if (rc == GENARM_OK) {
        *out = (struct results_texts){.prompt = text_of(json_object_get(line, "prompt")),
                                      .response = text_of(json_object_get(line, "response"))};
        rc = out->prompt && out->response ? GENARM_OK : error_nomem(err, "texts");
        if (rc) {
            results_texts_deinit(out);
        }
    }
    json_decref(line);
    buf_deinit(&l.text);
    return error_at(err, rc, "%s", r->path);
}

void results_texts_deinit(struct results_texts *t) {
    free(t->prompt);
    free(t->response);
    *t = (struct results_texts){0};
}

const double *results_column(const struct results *r, const struct results_cell *cell, enum results_column column) {
    return cell->columns ? cell->columns + (size_t)column * r->n_prompts : NULL;
}

const double *results_rewards(const struct results *r, const struct results_cell *cell, size_t reward) {
    return cell->rewards && reward < r->n_rewards ? cell->rewards + reward * r->n_prompts : NULL;
}

/* ---- the end ---- */

static void free_judge(struct results_judge *j, size_t n_cells) {
    for (size_t i = 0; j->cells && i < n_cells; i++) {
        free(j->cells[i].verdicts);
        free(j->cells[i].preferences);
    }
    free(j->cells);
}

void results_deinit(struct results *r) {
    for (size_t i = 0; i < r->n_judges; i++) {
        free_judge(&r->judges[i], r->n_cells);
    }
    for (size_t i = 0; i < r->n_cells; i++) {
        struct results_cell *c = &r->cells[i];
        free(c->label);
        free(c->name);
        free(c->columns);
        free(c->rewards);
        free(c->counts);
        free(c->offsets);
    }
    for (size_t i = 0; i < r->n_pairs; i++) {
        free(r->pairs[i].name);
        free(r->pairs[i].data);
        free(r->pairs[i].label);
        json_decref(r->pairs[i].point);
        free(r->pairs[i].margins);
    }
    for (size_t i = 0; i < r->n_models; i++) {
        free(r->models[i].label);
        json_decref(r->models[i].record);
    }
    free(r->judges);
    free(r->cells);
    free(r->pairs);
    free(r->models);
    free(r->methods);
    free((void *)r->rewards);
    free(r->path);
    json_decref(r->experiment);
    *r = (struct results){0};
}
