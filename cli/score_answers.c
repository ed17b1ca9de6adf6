/* genarm score --answers: the rewards of files of answers, one record an answer, in the file's order. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "eval/bootstrap.h"
#include "eval/judge.h"
#include "judge_answers.h"
#include "partial.h"
#include "reward/spec.h"
#include "score.h"
#include "tell.h"
#include "terminal.h"

enum { BATCH = 8 /* answers that a source is given at once: what Ctrl-C may lose */ };

struct scoring {
    const struct score_args *args;
    struct genarm_model *base; /* NULL: no source needs one */
    struct reward_set rewards;
    struct judge_answers answers;
    struct genarm_message **messages; /* [answers.n] the prompts, owned, with the system message of -sys */
    size_t *n_messages;               /* [answers.n] */
    size_t batch;
    double *values; /* [rewards.n * batch] of one batch: values[source * its size + answer] */
    size_t n_done, n_long, n_abstained, n_failed;
    struct partial partial; /* with -o */
    struct progress progress;
};

static bool keeps(const struct scoring *s) { return s->args->output; }

/* ---- prompts ---- */

static int set_prompt(struct scoring *s, size_t i, struct genarm_error *err) {
    const struct judge_answer_record *a = &s->answers.items[i];
    const char *system = s->args->system;
    const bool adds = system && *system && a->n_messages > 0 && strcmp(a->messages[0].role, "system") != 0;
    struct genarm_message *m = calloc(a->n_messages + 1, sizeof *m);
    if (!m) {
        return error_nomem(err, "a prompt");
    }
    if (adds) {
        m[0] = (struct genarm_message){"system", system};
    }
    for (size_t k = 0; k < a->n_messages; k++) {
        m[k + adds] = a->messages[k];
    }
    s->messages[i] = m;
    s->n_messages[i] = a->n_messages + adds;
    return 0;
}

static int read_answers(struct scoring *s, struct genarm_error *err) {
    int code = judge_answers_read(&s->answers, s->args->answers, err);
    s->messages = calloc(s->answers.n + 1, sizeof(struct genarm_message *));
    s->n_messages = calloc(s->answers.n + 1, sizeof *s->n_messages);
    if (code == 0 && !(s->messages && s->n_messages)) {
        code = error_nomem(err, "answers");
    }
    for (size_t i = 0; i < s->answers.n && code == 0; i++) {
        code = set_prompt(s, i, err);
    }
    return code;
}

static struct genarm_sample sample_of(const struct scoring *s, size_t i) {
    const struct judge_answer_record *a = &s->answers.items[i];
    return (struct genarm_sample){.messages = s->messages[i],
                                  .n_messages = s->n_messages[i],
                                  .response = a->text,
                                  .finished = a->finished && !s->args->open,
                                  .tokens = a->tokens,
                                  .n_tokens = a->n_tokens};
}

/* ---- scoring ---- */

/* values[n]: the rewards of one source, of answers that do not fit NaN. */
static int score_apart(struct scoring *s, struct genarm_source *source, const struct genarm_sample *samples, size_t n,
                       double *values, struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < n && code == 0; i++) {
        code = genarm_source_score(source, &samples[i], 1, &values[i], err);
        if (code == GENARM_ECONTEXT) {
            values[i] = NAN;
            s->n_long++;
            code = 0;
        }
    }
    return code;
}

/* The values of the answers indices[n]; what a source says nothing of is NaN. */
static int score_batch(struct scoring *s, const size_t *indices, size_t n, struct genarm_error *err) {
    struct genarm_sample *samples = calloc(n + 1, sizeof *samples);
    int code = samples ? 0 : error_nomem(err, "a batch");
    for (size_t i = 0; i < n && code == 0; i++) {
        samples[i] = sample_of(s, indices[i]);
    }
    for (size_t k = 0; k < s->rewards.n && code == 0; k++) {
        double *values = s->values + k * n;
        code = genarm_source_score(s->rewards.sources[k], samples, n, values, err);
        if (code == GENARM_ECONTEXT) {
            code = score_apart(s, s->rewards.sources[k], samples, n, values, err);
        } else {
            for (size_t i = 0; i < n && code == 0; i++) {
                s->n_abstained += isnan(values[i]) ? 1 : 0;
            }
        }
    }
    free(samples);
    return error_at(err, code, n > 1 ? "from %s on" : "%s", s->answers.items[indices[0]].where);
}

/* values: NULL: there is no answer. */
static json_t *record_json(const struct scoring *s, size_t index, const double *values, size_t stride) {
    json_t *rewards = values ? rewards_json(&s->rewards, values, stride) : json_object();
    for (size_t k = 0; k < s->rewards.n && !values && rewards; k++) {
        json_object_set_new(rewards, rewards_name(&s->rewards, k), json_null());
    }
    return json_pack("{s:I, s:O*, s:o}", "index", (json_int_t)index, "id", s->answers.items[index].id, "rewards", rewards);
}

static int keep(struct scoring *s, size_t index, const double *values, size_t stride, struct genarm_error *err) {
    json_t *record = record_json(s, index, values, stride);
    char *line = NULL;
    s->n_done++;
    if (!keeps(s)) {
        return print_json(stdout, record, err);
    }
    int code = json_line(&line, record, err);
    code = code ? code : partial_add(&s->partial, index, line, err);
    free(line);
    return code;
}

/* Whether answer i is a batch's: it is there and has no record yet. */
static bool is_pending(const struct scoring *s, size_t i) { return s->answers.items[i].text && !partial_has(&s->partial, i); }

/* Records of the answers first to end, which hold one batch. */
static int score_range(struct scoring *s, size_t first, size_t end, const size_t *indices, size_t n, struct genarm_error *err) {
    int code = n ? score_batch(s, indices, n, err) : 0;
    for (size_t i = first, k = 0; i < end && code == 0; i++) {
        if (is_pending(s, i)) {
            code = keep(s, i, s->values + k, n, err);
            k++;
        } else if (!partial_has(&s->partial, i)) {
            s->n_failed++;
            code = keep(s, i, NULL, 0, err);
        }
    }
    progress_update(&s->progress, (int64_t)s->n_done, NULL);
    return code;
}

static int score_all(struct scoring *s, struct genarm_error *err) {
    size_t *indices = calloc(s->batch + 1, sizeof *indices);
    int code = indices ? 0 : error_nomem(err, "a batch");
    progress_start(&s->progress, "scoring", "answers", (int64_t)s->answers.n, (int64_t)s->n_done);
    s->progress.terminal = s->progress.terminal && (keeps(s) || !isatty(STDOUT_FILENO)); /* not among the records */
    for (size_t first = 0, end = 0; first < s->answers.n && code == 0 && !interrupt_signal(); first = end) {
        size_t n = 0;
        while (end < s->answers.n && n < s->batch) {
            if (is_pending(s, end)) {
                indices[n++] = end;
            }
            end++;
        }
        code = score_range(s, first, end, indices, n, err);
    }
    progress_end(&s->progress);
    free(indices);
    code = code || interrupt_signal() ? code : rewards_finish(&s->rewards, err);
    s->n_done = code == GENARM_EMISMATCH ? 0 : s->n_done; /* a program's rewards may be those of other answers */
    return code;
}

/* ---- before ---- */

static bool need_base(const struct option_list *specs) {
    for (size_t i = 0; i < specs->n; i++) {
        if (judge_spec_needs_base(specs->items[i])) {
            return true;
        }
    }
    return false;
}

/* answered[i]: whether a record that is kept has a number of reward i. */
static int find_answered(const struct scoring *s, bool *answered, struct genarm_error *err) {
    const struct option_list *specs = &s->args->rewards.specs;
    int code = 0;
    for (size_t i = 0; i < specs->n && code == 0; i++) {
        struct source_spec spec = {0};
        code = source_spec_parse(&spec, specs->items[i], file_exists, err);
        for (size_t k = 0; k < s->answers.n && code == 0 && !answered[i]; k++) {
            json_t *record = NULL;
            code = partial_has(&s->partial, k) ? partial_read(&s->partial, k, &record, err) : 0;
            answered[i] = json_is_number(json_object_get(json_object_get(record, "rewards"), spec.part.name));
            json_decref(record);
        }
        source_spec_deinit(&spec);
    }
    return code;
}

/* Opens what holds the records until all are there. */
static int open_partial(struct scoring *s, struct genarm_error *err) {
    struct partial_run run = {.output = s->args->output,
                              .command = "genarm score",
                              .member = "rewards",
                              .n = s->answers.n,
                              .anew = s->args->restart};
    uint64_t seed = 0;
    json_t *settings = NULL;
    int code = score_settings(&settings, s->args, err);
    run.settings = settings;
    code = code ? code : partial_open(&s->partial, &run, &seed, err);
    json_decref(settings);
    for (size_t i = 0; i < s->answers.n && code == 0; i++) {
        s->n_done += partial_has(&s->partial, i);
    }
    if (code == 0 && s->n_done) {
        note("%zu of %zu answers are scored in %s", s->n_done, s->answers.n, s->partial.journal.path);
    }
    return code;
}

static int load(struct scoring *s, struct genarm_error *err) {
    const struct score_args *args = s->args;
    bool *answered = calloc(args->rewards.specs.n + 1, sizeof *answered);
    int code = answered ? 0 : error_nomem(err, "rewards");
    code = code || s->n_done == 0 ? code : find_answered(s, answered, err);
    if (code == 0 && need_base(&args->rewards.specs)) {
        code = load_model(&s->base, &args->model, err);
    }
    code = code ? code : rewards_load(&s->rewards, &args->rewards, false, answered, s->base, &args->model, &args->guide, err);
    free(answered);
    return code;
}

static int prepare(struct scoring *s, struct genarm_error *err) {
    const struct score_args *args = s->args;
    int code = rewards_check(&args->rewards.specs, false, err);
    code = code ? code : read_answers(s, err);
    if (code == 0 && keeps(s)) {
        code = score_check_output(args, err);
        /* what there is is thrown away only once the rest is there, and where it is kept it says which sources have answered */
        code = code || !args->restart ? code : load(s, err);
        code = code ? code : open_partial(s, err);
    }
    code = code || (keeps(s) && args->restart) ? code : load(s, err);
    s->batch = BATCH;
    for (size_t i = 0; i < s->rewards.n && code == 0; i++) {
        if (genarm_source_may_abstain(s->rewards.sources[i])) { /* a server, which is asked many things at once */
            s->batch = 4 * (size_t)args->rewards.chat.n_parallel;
        }
    }
    s->values = calloc(s->rewards.n * s->batch + 1, sizeof *s->values);
    return code == 0 && !s->values ? error_nomem(err, "rewards") : code;
}

/* ---- after ---- */

/* values[answers.n]: what the records say of one reward. */
static int collect(const struct scoring *s, const char *name, double *values, struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < s->answers.n && code == 0; i++) {
        json_t *record = NULL;
        code = partial_read(&s->partial, i, &record, err);
        const json_t *value = json_object_get(json_object_get(record, "rewards"), name);
        values[i] = json_is_number(value) ? json_number_value(value) : NAN;
        json_decref(record);
    }
    return code;
}

static size_t count_missing(const double *values, size_t n) {
    size_t missing = 0;
    for (size_t i = 0; i < n; i++) {
        missing += isnan(values[i]) ? 1 : 0;
    }
    return missing;
}

static json_t *number_json(double x) { return isnan(x) ? json_null() : json_rounded(x, 6); }

/* A line of the table, or a member of `object` where there is one. */
static int say_reward(const struct scoring *s, const char *name, const double *values, json_t *object, struct genarm_error *err) {
    struct interval mean;
    const size_t missing = count_missing(values, s->answers.n);
    int code = bootstrap_mean(&mean, values, s->answers.n, NULL, err);
    if (code == 0 && object) {
        json_t *member = json_pack("{s:o, s:o, s:o, s:I}", "mean", number_json(mean.value), "low", number_json(mean.low), "high",
                                   number_json(mean.high), "missing", (json_int_t)missing);
        code = json_object_set_new(object, name, member) == 0 ? 0 : error_nomem(err, "a record");
    } else if (code == 0) {
        printf("%-32s%12.4f%12.4f%12.4f%10zu\n", name, mean.value, mean.low, mean.high, missing);
    }
    return code;
}

static int say_summary(const struct scoring *s, struct genarm_error *err) {
    double *values = calloc(s->answers.n + 1, sizeof *values);
    json_t *object = s->args->json ? json_object() : NULL;
    int code = values && (object || !s->args->json) ? 0 : error_nomem(err, "rewards");
    if (code == 0 && !object) {
        char heading[64];
        snprintf(heading, sizeof heading, "%zu answers", s->answers.n);
        printf("%-32s%12s%24s%10s\n", heading, "mean", "95 % interval", "missing");
    }
    for (size_t k = 0; k < s->rewards.n && code == 0; k++) {
        const char *name = rewards_name(&s->rewards, k);
        code = collect(s, name, values, err);
        code = code ? code : say_reward(s, name, values, object, err);
    }
    free(values);
    if (code == 0 && object) {
        return print_json(stdout, json_pack("{s:I, s:o}", "answers", (json_int_t)s->answers.n, "rewards", object), err);
    }
    json_decref(object);
    return code;
}

static int write_all(struct scoring *s, struct genarm_error *err) {
    struct file_writer file;
    int code = file_open(&file, s->args->output, err);
    if (code) {
        return code;
    }
    for (size_t i = 0; i < s->answers.n && code == 0; i++) {
        code = partial_print(&s->partial, i, file.stream, err);
    }
    if (code) {
        file_abort(&file);
        return code;
    }
    code = file_commit(&file, err);
    code = code ? code : say_summary(s, err);
    return code ? code : partial_remove(&s->partial, err);
}

/* What has no reward, of those that this process scored. */
static void say_missing(const struct scoring *s) {
    if (s->n_long) {
        note("%zu rewards are null: the answer does not fit into the context (-c)", s->n_long);
    }
    if (s->n_abstained) {
        note("%zu rewards are null: the judge abstained", s->n_abstained);
    }
    rewards_note_cut(&s->rewards, &s->args->rewards.chat);
    if (s->n_failed) {
        note("%zu prompts have no answer: their rewards are null", s->n_failed);
    }
}

/* A run that was refused all it asked has done nothing: the next one asks again. `code` is how it has ended. */
static int check_answered(struct scoring *s, size_t n_kept, int code, struct genarm_error *err) {
    if (n_kept > 0 || interrupt_signal()) {
        return code;
    }
    const int refused = rewards_check_refused(&s->rewards, code ? NULL : err);
    s->n_done = refused ? 0 : s->n_done;
    return code ? code : refused;
}

static int run(struct scoring *s, struct genarm_error *err) {
    int code = prepare(s, err);
    const size_t n_kept = s->n_done;
    interrupt_catch();
    code = code ? code : score_all(s, err);
    code = check_answered(s, n_kept, code, err);
    const bool stopped = (code == 0 || code == GENARM_ECANCELED) && interrupt_signal();
    if (code && !stopped) {
        if (keeps(s) && s->n_done) {
            note("%zu of %zu answers are scored; the same command goes on from %s", s->n_done, s->answers.n,
                 s->partial.journal.path);
        } else if (s->partial.records) {
            (void)partial_remove(&s->partial, NULL); /* nothing is kept; there is an error to tell already */
        }
        return code;
    }
    say_missing(s);
    if (keeps(s) && s->n_done == s->answers.n) {
        code = write_all(s, err);
        return code ? code : flush_output(stdout, err);
    }
    if (keeps(s)) {
        note("the same command goes on from %s", s->partial.journal.path);
    }
    return stopped ? 128 + interrupt_signal() : flush_output(stdout, err);
}

int score_answers(const struct score_args *args, struct genarm_error *err) {
    struct scoring s = {.args = args};
    const int code = run(&s, err);
    partial_close(&s.partial);
    rewards_free(&s.rewards);
    genarm_model_free(s.base);
    for (size_t i = 0; i < s.answers.n && s.messages; i++) {
        free(s.messages[i]);
    }
    free(s.messages);
    free(s.n_messages);
    free(s.values);
    judge_answers_free(&s.answers);
    return code;
}
