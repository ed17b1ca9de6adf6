/* See results_write.h. */
#include "eval/results_write.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "genarm/train.h"

enum { LINE_MAX_BYTES = 256 << 20 };

struct writer {
    const struct experiment *e;
    const struct eval_run *run;
    const char *model;
    FILE *out;
    int64_t n_prompts; /* that some method has answered */
};

/* The lines of an item's file. */
struct lines {
    struct file_lines lines;
    char *path;
    const struct part *part;
};

/* ---- reading ---- */

static int open_lines(struct lines *l, const struct writer *w, const struct item *item, struct genarm_error *err) {
    l->part = item->part;
    l->path = item_path(w->run->folder, item->output, "");
    return l->path ? file_lines_open(&l->lines, l->path, LINE_MAX_BYTES, err) : error_nomem(err, "a path");
}

static void close_lines(struct lines *l) {
    if (l->lines.stream) {
        file_lines_close(&l->lines);
    }
    free(l->path);
    *l = (struct lines){0};
}

static int broken(const struct lines *l, const char *what, struct genarm_error *err) {
    const int code = error_at(err, error_set(err, GENARM_EFORMAT, "%s", what), "%s:%ld", l->path, l->lines.line);
    return error_hint(err, code, "remove the file, and it is made again");
}

/* The next line as JSON, an object; what a model samples may have zero characters. *out is NULL at the end. */
static int next_json(json_t **out, struct lines *l, struct genarm_error *err) {
    json_error_t e;
    *out = NULL;
    const int more = file_lines_next(&l->lines, err);
    if (more <= 0) {
        return more;
    }
    *out = json_loadb(l->lines.text.data, l->lines.text.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    if (!json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        return broken(l, "this is no JSON object", err);
    }
    return 0;
}

static bool is_done(const struct writer *w, const struct item *item) {
    return w->run->states[item - w->run->list->items] == STATE_DONE;
}

/* ---- writing ---- */

/* Takes over the value. */
static int put(const struct writer *w, json_t *value, struct genarm_error *err) {
    struct buf line;
    buf_init(&line, 2 * LINE_MAX_BYTES - 1);
    int code = value ? json_dump(&line, value, err) : error_nomem(err, "results");
    if (code == 0) {
        fwrite(line.data, 1, line.len, w->out);
        fputc('\n', w->out);
    }
    buf_deinit(&line);
    json_decref(value);
    return code;
}

/* A member as it is, or null. New reference. */
static json_t *copy(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    return value ? json_incref(value) : json_null();
}

/* ---- the experiment ---- */

/* Who has made the files, each program on each machine once, and how many. */
static json_t *made_by_json(const struct writer *w) {
    json_t *list = json_array();
    for (size_t i = 0; i < w->run->list->n && list; i++) {
        struct item_record record;
        const struct origin *o = &record.origin;
        json_t *known = NULL;
        if (w->run->states[i] != STATE_DONE) {
            continue;
        }
        item_record_read(&record, &w->run->list->items[i], w->run->folder);
        for (size_t k = 0; k < json_array_size(list) && !known; k++) {
            json_t *by = json_array_get(list, k);
            const bool same = strcmp(json_string_value(json_object_get(by, "version")), o->version) == 0 &&
                              strcmp(json_string_value(json_object_get(by, "machine")), o->machine) == 0;
            known = same ? by : NULL;
        }
        if (!known) {
            known = json_pack("{s:s, s:o, s:i}", "version", o->version, "machine", text_json(o->machine), "files", 0);
            json_array_append_new(list, known);
        }
        json_object_set_new(known, "files", json_integer(json_integer_value(json_object_get(known, "files")) + 1));
    }
    return list;
}

/* How a method comes to its answers: what is said of --method. */
static json_t *how(const struct writer *w, const struct part *p) {
    const struct item *item = items_answers(w->run->list, p, &p->sweep.points[0]);
    json_t *options = item ? item_options(item) : NULL, *method = json_object_get(options, "method");
    method = method ? json_incref(method) : json_string("guided");
    json_decref(options);
    return method;
}

/* Whether answers are drawn as their log-probability says, at temperature 1 from all tokens, and the best of several from the
 * base alone: what is known of the divergence from the base holds then. A text that ends an answer is cut off it, and a shifted
 * context is another one: the base would be asked about other tokens than were drawn. */
static bool is_plain(const struct writer *w, const struct item *item) {
    static const struct {
        const char *key;
        double value;
    } plain[] = {{"temp", 1}, {"top-k", 0}, {"top-p", 1}, {"min-p", 0}};
    json_t *options = item ? item_options(item) : NULL;
    bool ok = true;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        const char *text = json_string_value(json_object_get(options, plain[i].key));
        ok = ok && (!text || strtod(text, NULL) == plain[i].value);
    }
    ok = ok && !json_object_get(options, "reverse-prompt") && !json_object_get(options, "context-shift");
    const char *method = json_string_value(json_object_get(options, "method"));
    const char *model = json_string_value(json_object_get(options, "model"));
    if (method && strcmp(method, "best-of-n") == 0) {
        static const char *const steers[] = {"arm", "lora", "logit-bias", "grammar", "grammar-file", "json-schema",
                                             "json-schema-file"};
        for (size_t i = 0; i < sizeof steers / sizeof *steers; i++) {
            ok = ok && !json_object_get(options, steers[i]);
        }
        ok = ok &&
             (!model || !w->model || strcmp(model, w->model) == 0);
    }
    json_decref(options);
    return ok;
}

static json_t *methods_json(const struct writer *w) {
    json_t *list = json_array();
    for (size_t i = 0; i < w->e->n && list; i++) {
        const struct part *p = &w->e->parts[i];
        if (p->kind != PART_METHOD) {
            continue;
        }
        json_t *points = json_array(), *plain = json_array();
        for (size_t k = 0; k < p->sweep.n; k++) {
            json_array_append_new(points, point_json(&p->sweep.points[k]));
            json_array_append_new(plain, json_boolean(is_plain(w, items_answers(w->run->list, p, &p->sweep.points[k]))));
        }
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:o, s:o}", "name", p->name, "label", p->label, "method", how(w, p),
                                              "points", points, "plain", plain));
    }
    return list;
}

static json_t *names_json(const struct writer *w, enum part_kind kind) {
    json_t *list = json_array();
    for (size_t i = 0; i < w->e->n && list; i++) {
        const struct part *p = &w->e->parts[i];
        if (p->kind == kind && kind == PART_JUDGE) {
            json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "name", p->name, "label", p->label, "against",
                                                  p->against->name));
        } else if (p->kind == kind) {
            json_array_append_new(list, json_string(p->name));
        }
    }
    return list;
}

/* Values of a reference point, quoted or not. */
static json_t *numbers_json(const struct yaml_value *map) {
    json_t *object = json_object();
    for (size_t i = 0; i < map->n && object; i++) {
        struct yaml_value plain = map->items[i];
        plain.plain = true; /* the experiment was checked: it is a number */
        if (json_object_set_new(object, map->keys[i].text, yaml_json(&plain)) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

/* The section of the report, whose texts are names, also one such as 4; only the reference point has numbers. */
static json_t *report_json(const struct yaml_value *v) {
    json_t *report = v->kind == YAML_MAP ? json_object() : NULL;
    bool ok = report != NULL;
    if (v->kind == YAML_TEXT) {
        return json_string(v->text);
    }
    for (size_t i = 0; i < v->n && ok; i++) {
        const bool numbers = strcmp(v->keys[i].text, "reference-point") == 0;
        ok = json_object_set_new(report, v->keys[i].text, numbers ? numbers_json(&v->items[i]) : report_json(&v->items[i])) == 0;
    }
    if (!ok) {
        json_decref(report);
        return NULL;
    }
    return report;
}

static int put_experiment(const struct writer *w, struct genarm_error *err) {
    const struct experiment *e = w->e;
    json_t *seed = e->seed >= 0 ? json_integer((json_int_t)e->seed) : json_null();
    json_t *report = e->report ? report_json(e->report) : json_object();
    json_t *model = w->model ? text_json(w->model) : NULL; /* of a command line: any bytes */
    size_t n_files, n_done;
    double left;
    eval_run_count(w->run, &n_files, &n_done, &left);
    return put(w,
               json_pack("{s:s, s:s, s:s*, s:o*, s:o, s:s*, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "kind", "experiment",
                         "title", e->title ? e->title : "An experiment", "about", e->about, "model", model, "seed", seed,
                         "prompts", e->prompts, "n_prompts", (json_int_t)w->n_prompts, "n_files", (json_int_t)n_files,
                         "n_done", (json_int_t)n_done, "report", report, "methods", methods_json(w), "rewards",
                         names_json(w, PART_REWARD), "judges", names_json(w, PART_JUDGE), "made_by", made_by_json(w)),
               err);
}

static int put_model(const struct writer *w, const struct item *item, struct genarm_error *err) {
    const double seconds = round(1000 * w->run->seconds[item - w->run->list->items]) / 1000;
    return put(w,
               json_pack("{s:s, s:s, s:o, s:s, s:f, s:o}", "kind", "model", "name", item->part->name, "point",
                         point_json(item->point), "command", item->part->command, "seconds", seconds, "options",
                         item_options(item)),
               err);
}

/* ---- answers ---- */

/* The prompt as a text: what a user has said last, where it is a conversation. New reference. */
static json_t *prompt_text(const json_t *record) {
    const json_t *messages = json_object_get(record, "messages");
    for (size_t i = json_array_size(messages); i-- > 0;) {
        const json_t *m = json_array_get(messages, i);
        const char *role = json_string_value(json_object_get(m, "role"));
        if (role && strcmp(role, "user") == 0) {
            return copy(m, "content");
        }
    }
    return copy(record, "prompt");
}

/* Adds what a reward says of answer i. */
static int add_reward(json_t *rewards, struct lines *l, int64_t i, struct genarm_error *err) {
    json_t *record = NULL;
    int code = next_json(&record, l, err);
    if (code == 0 && (!record || json_integer_value(json_object_get(record, "index")) != i)) {
        code = broken(l, "the reward of an answer is missing", err);
    }
    json_t *values = json_object_get(record, "rewards");
    void *first = json_object_iter(values);
    if (code == 0 && (json_object_size(values) != 1 ||
                      json_object_set(rewards, l->part->name, json_object_iter_value(first)) != 0)) {
        code = broken(l, "there must be one reward", err);
    }
    json_decref(record);
    return code;
}

static json_t *answer_json(const struct item *item, const json_t *record, int64_t i, json_t *rewards) {
    const json_t *tokens = json_object_get(record, "tokens"); /* missing where the prompt could not be answered */
    json_t *n_tokens = tokens ? json_integer((json_int_t)json_array_size(tokens)) : json_null();
    json_t *best_of = json_object_get(record, "best_of");
    return json_pack("{s:s, s:s, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O*, s:O}", "kind", "answer", "method",
                     item->part->name, "point", point_json(item->point), "index", (json_int_t)i, "prompt", prompt_text(record),
                     "response", copy(record, "response"), "finish_reason", copy(record, "finish_reason"), "n_tokens",
                     n_tokens, "logprob", copy(record, "logprob"), "evaluated",
                     copy(record, "evaluated"), "seconds", copy(record, "seconds"), "best_of", best_of, "rewards", rewards);
}

/* Opens the rewards of an item's answers that are there. */
static int open_rewards(struct lines *rewards, size_t *n, const struct writer *w, const struct item *answers,
                        struct genarm_error *err) {
    const size_t index = (size_t)(answers - w->run->list->items);
    int code = 0;
    for (size_t i = 0; i < w->run->list->n && code == 0; i++) {
        const struct item *item = &w->run->list->items[i];
        if (item->kind == ITEM_REWARDS && item->n_needs && is_done(w, item) && item->method == answers->part &&
            item->point == answers->point) {
            bool of_these = false;
            for (size_t k = 0; k < item->n_needs; k++) {
                of_these = of_these || item->needs[k] == index;
            }
            code = of_these ? open_lines(&rewards[(*n)++], w, item, err) : 0;
        }
    }
    return code;
}

static int put_answers(const struct writer *w, const struct item *item, struct genarm_error *err) {
    struct lines answers = {0}, *rewards = calloc(w->e->n + 1, sizeof *rewards);
    json_t *record = NULL;
    size_t n = 0;
    int code = rewards ? open_lines(&answers, w, item, err) : error_nomem(err, "results");
    code = code ? code : open_rewards(rewards, &n, w, item, err);
    for (int64_t i = 0; code == 0; i++) {
        code = next_json(&record, &answers, err);
        if (code || !record) {
            break;
        }
        json_t *values = json_object();
        for (size_t k = 0; k < n && code == 0; k++) {
            code = add_reward(values, &rewards[k], i, err);
        }
        code = code ? code : put(w, answer_json(item, record, i, values), err);
        json_decref(values);
        json_decref(record);
    }
    for (size_t k = 0; k < n; k++) {
        close_lines(&rewards[k]);
    }
    close_lines(&answers);
    free(rewards);
    return code;
}

/* ---- verdicts and pairs ---- */

/* genarm judge has compared a, the method, with b, the other. */
static json_t *verdict_json(const struct item *item, const json_t *about, const json_t *record, int64_t i) {
    (void)about;
    const char *v = json_string_value(json_object_get(record, "verdict"));
    const char *verdict = !v                      ? "invalid"
                          : strcmp(v, "a") == 0   ? "win"
                          : strcmp(v, "b") == 0   ? "lose"
                          : strcmp(v, "tie") == 0 ? "tie"
                                                  : "invalid";
    return json_pack("{s:s, s:s, s:s, s:o, s:s, s:I, s:s, s:o}", "kind", "verdict", "judge", item->part->name, "method",
                     item->method->name, "point", point_json(item->point), "against", item->part->against->name, "index",
                     (json_int_t)i, "verdict", verdict, "preference", copy(record, "preference"));
}

/* Of a reward with a name of its own: its only member, {"NAME": x}, or the number itself. New reference. */
static json_t *pair_value(const json_t *record, const char *key) {
    const json_t *value = json_object_get(record, key);
    return json_is_object(value) ? json_incref(json_object_iter_value(json_object_iter((json_t *)(uintptr_t)value)))
                                 : copy(record, key);
}

/* beta of the training that made a model by the log-sigmoid (or hinge) of a difference of log-probabilities, of their means over
 * tokens or of their sums; 0: it was not made so. */
static double beta_of(const struct item *made, bool of_means) {
    double beta = 0;
    json_t *options = made->kind == ITEM_MODEL && strcmp(made->words[0], "train") == 0 ? item_options(made) : NULL;
    const char *loss = json_string_value(json_object_get(options, "loss"));
    const char *given = json_string_value(json_object_get(options, "beta"));
    const bool normalizes = json_is_true(json_object_get(options, "length-normalize"));
#define LOSS_BETA(id, name, text)                                                                                             \
    if (options && (id) != GENARM_LOSS_SFT && (id) != GENARM_LOSS_IPO && (id) != GENARM_LOSS_BT &&                            \
        of_means == (normalizes || (id) == GENARM_LOSS_SIMPO) && strcmp(loss ? loss : "arm", name) == 0) {                    \
        beta = given ? strtod(given, NULL) : 0;                                                                               \
        beta = beta > 0 ? beta : (double)genarm_loss_default_beta(id);                                                        \
    }
    GENARM_LOSSES(LOSS_BETA)
#undef LOSS_BETA
    json_decref(options);
    return beta;
}

/* What a reward of log-probabilities is multiplied with to be the exponent of a preference: beta of the one training by such
 * preferences among what made the models that the item needs. null: there is none, or several. New reference. */
static json_t *pair_scale(const struct writer *w, const struct item *item, const char *reward) {
    const bool of_means = reward && (strncmp(reward, "arm-mean:", 9) == 0 || strncmp(reward, "ratio-mean:", 11) == 0);
    double scale = 0;
    size_t n = 0;
    for (size_t i = 0; i < item->n_needs; i++) {
        const double beta = beta_of(&w->run->list->items[item->needs[i]], of_means);
        scale = beta > 0 ? beta : scale;
        n += beta > 0;
    }
    return n == 1 ? json_real(scale) : json_null();
}

/* What all pairs of an item have in common. */
static json_t *about_pairs(const struct writer *w, const struct item *item) {
    json_t *options = item_options(item), *data = json_object_get(options, "data");
    const char *file = json_is_array(data) ? json_string_value(json_array_get(data, 0)) : json_string_value(data);
    const char *reward = json_string_value(json_object_get(options, "reward"));
    json_t *about = json_pack("{s:s, s:o}", "data", file ? file : "", "scale", pair_scale(w, item, reward));
    json_decref(options);
    return about;
}

static json_t *pair_json(const struct item *item, const json_t *about, const json_t *record, int64_t i) {
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:I, s:o, s:o}", "kind", "pair", "name", item->part->name, "point",
                     point_json(item->point), "data", copy(about, "data"),
                     "scale", copy(about, "scale"), "index", (json_int_t)i, "chosen", pair_value(record, "chosen"), "rejected",
                     pair_value(record, "rejected"));
}

static int put_lines(const struct writer *w, const struct item *item, const json_t *about,
                     json_t *(*make)(const struct item *item, const json_t *about, const json_t *record, int64_t i),
                     struct genarm_error *err) {
    struct lines l = {0};
    json_t *record = NULL;
    int code = open_lines(&l, w, item, err);
    for (int64_t i = 0; code == 0; i++) {
        code = next_json(&record, &l, err);
        if (code || !record) {
            break;
        }
        code = put(w, make(item, about, record, i), err);
        json_decref(record);
    }
    close_lines(&l);
    return code;
}

static int put_pairs(const struct writer *w, const struct item *item, struct genarm_error *err) {
    json_t *about = about_pairs(w, item);
    const int code = about ? put_lines(w, item, about, pair_json, err) : error_nomem(err, "results");
    json_decref(about);
    return code;
}

/* ---- all ---- */

static int put_item(const struct writer *w, const struct item *item, struct genarm_error *err) {
    switch (item->kind) {
    case ITEM_MODEL:
        return put_model(w, item, err);
    case ITEM_ANSWERS:
        return put_answers(w, item, err);
    case ITEM_VERDICTS:
        return put_lines(w, item, NULL, verdict_json, err);
    case ITEM_PAIRS:
        return put_pairs(w, item, err);
    case ITEM_REWARDS:
        break; /* beside their answers */
    }
    return 0;
}

static int count_prompts(struct writer *w, struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < w->run->list->n && code == 0; i++) {
        const struct item *item = &w->run->list->items[i];
        struct lines l = {0};
        if (item->kind != ITEM_ANSWERS || !is_done(w, item)) {
            continue;
        }
        code = open_lines(&l, w, item, err);
        int more = 0;
        int64_t n = 0;
        while (code == 0 && (more = file_lines_next(&l.lines, err)) > 0) {
            n++;
        }
        code = code ? code : more;
        w->n_prompts = n > w->n_prompts ? n : w->n_prompts;
        close_lines(&l);
    }
    return code;
}

int eval_results_write(const struct experiment *e, const struct eval_run *run, const char *model, struct genarm_error *err) {
    struct writer w = {.e = e, .run = run, .model = model};
    struct file_writer file;
    char *path = item_path(run->folder, "results", ".jsonl");
    int code = path ? count_prompts(&w, err) : error_nomem(err, "a path");
    code = code ? code : file_open(&file, path, err);
    if (code) {
        free(path);
        return code;
    }
    w.out = file.stream;
    code = put_experiment(&w, err);
    for (size_t i = 0; i < run->list->n && code == 0; i++) {
        code = is_done(&w, &run->list->items[i]) ? put_item(&w, &run->list->items[i], err) : 0;
    }
    if (code) {
        file_abort(&file);
    } else {
        code = file_commit(&file, err);
    }
    free(path);
    return code;
}
