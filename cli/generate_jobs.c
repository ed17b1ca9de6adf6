/* genarm generate: prompts on their way to answers, several at once. */
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/progress.h"
#include "base/rng.h"
#include "generate.h"
#include "prefill.h"
#include "terminal.h"

/* ---- the prompt cache ---- */

static int load_cache(const struct generation *g, struct genarm_session *s, struct genarm_error *err) {
    const char *path = g->args->cache;
    if (!path || (!file_exists(path) && !g->args->cache_read_only)) {
        return 0;
    }
    return error_at(err, genarm_session_load_cache(s, path, err), "--prompt-cache");
}

static int save_cache(const struct generation *g, struct genarm_error *err) {
    const struct job *job = &g->jobs[0];
    struct genarm_guide_stats stats;
    genarm_guide_get_stats(g->setup.guide, &stats);
    if (!g->args->cache || g->args->cache_read_only || stats.n_evaluated == 0) {
        return 0;
    }
    return genarm_session_save(job->answer.r.session, g->args->cache, NULL, err);
}

/* ---- output ---- */

int generate_written(const struct generation *g, int code, struct genarm_error *err) {
    return g->args->output ? error_at(err, code, "%s", g->args->output) : code;
}

/* What was sampled since the last call. */
static int stream_text(struct generation *g, const struct answer_record *a, struct genarm_error *err) {
    size_t n = a->r.n_shown - g->n_streamed;
    if (g->records || n == 0) {
        return 0;
    }
    fwrite(a->r.text.data + g->n_streamed, 1, n, g->out);
    g->n_streamed = a->r.n_shown;
    return generate_written(g, flush_output(g->out, err), err);
}

static int write_finished(struct generation *g, struct genarm_error *err) {
    int code = 0;
    while (code == 0 && g->n_written < g->n_started && g->jobs[g->n_written].record) {
        struct job *job = &g->jobs[g->n_written++];
        code = generate_written(g, print_json(g->out, job->record, err), err);
        job->record = NULL;
    }
    return code;
}

/* Keeps the record of a finished answer where the next process finds it. */
static int keep_record(struct generation *g, size_t index, struct genarm_error *err) {
    struct job *job = &g->jobs[index];
    char *line;
    int code = json_line(&line, job->record, err);
    job->record = NULL;
    if (code == 0) {
        code = partial_add(&g->partial, index, line, err);
        free(line);
    }
    return code;
}

/* The record of a job that ended: what identifies the prompt first. Takes over `facts`. */
static int finish_job(struct generation *g, size_t index, json_t *facts, struct genarm_error *err) {
    struct job *job = &g->jobs[index];
    json_t *record = json_deep_copy(g->prompts.items[index].shown);
    bool ok = record && facts && json_object_update(record, facts) == 0;
    json_decref(facts);
    if (!ok) {
        json_decref(record);
        return error_nomem(err, "a record");
    }
    job->record = record;
    if (g->args->model.verbose) {
        drafts_note(&g->setup, job->session);
    }
    int code = save_cache(g, err);
    genarm_session_free(job->session);
    job->session = NULL;
    g->n_done++;
    if (code == 0 && g->partial.records) {
        return job->answer.r.finish == FINISH_INTERRUPTED ? 0 : keep_record(g, index, err);
    }
    return code ? code : g->records ? write_finished(g, err) : 0;
}

/* ---- the loop ---- */

/* Seed of one prompt of many: independent of the others and of how many run at once; short enough for JSON numbers. */
static uint64_t job_seed(uint64_t seed, size_t index) {
    return rng_hash(seed, index, 0) >> 11;
}

/* A prompt that cannot be answered ends the run if it is the only one; among many it is recorded, and the others go on. */
static int fail_job(struct generation *g, size_t index, const struct genarm_error *failure, struct genarm_error *err) {
    if (!generate_many(g->args) || failure->code == GENARM_ENOMEM) {
        *err = *failure;
        return failure->code;
    }
    if (g->n_failed++ == 0) {
        g->first_failure = *failure;
        error_at(&g->first_failure, failure->code, "%s", g->prompts.items[index].where);
    }
    return finish_job(g, index, json_pack("{s:s, s:o}", "finish_reason", "error", "error", text_json(failure->what)),
                      err);
}

static int start_job(struct generation *g, struct genarm_error *err) {
    size_t index = g->n_started;
    struct job *job = &g->jobs[index];
    const struct prompt *prompt = &g->prompts.items[index];
    struct genarm_sampling own = sampling_from(&g->args->sampling);
    struct genarm_error failure;
    own.seed = generate_many(g->args) ? job_seed(g->seed, index) : g->seed;
    job->seed = own.seed;
    int code = setup_session(&job->session, &g->setup, &own, err);
    if (code) {
        return code;
    }
    g->n_started++;
    code = load_cache(g, job->session, err);
    if (code) {
        return code;
    }
    code = answer_record_start(&job->answer, &g->setup, job->session, prompt->messages, prompt->n_messages,
                               g->args->n_predict, &failure);
    answer_record_shifts(&job->answer, &g->args->shift);
    if (code) {
        return fail_job(g, index, &failure, err);
    }
    if (job->answer.r.finish != FINISH_RUNNING) {
        return finish_job(g, index, answer_record_json(&job->answer, &g->setup, job->seed), err);
    }
    g->running[g->n_running++] = &job->answer;
    return 0;
}

/* Job whose answer this is: its first member. */
static size_t job_index(const struct generation *g, const struct answer_record *a) {
    return (size_t)((const struct job *)(const void *)a - g->jobs);
}

/* Takes ended answers out of the running ones. */
static int collect(struct generation *g, struct genarm_error *err) {
    size_t kept = 0;
    int code = 0;
    for (size_t i = 0; i < g->n_running; i++) {
        struct answer_record *a = g->running[i];
        if (a->r.finish == FINISH_RUNNING) {
            g->running[kept++] = a;
            continue;
        }
        size_t index = job_index(g, a);
        g->estimate.n_ended++;
        if (a->r.finish == FINISH_FAILED) {
            code = code ? code : fail_job(g, index, &a->failure, err);
        } else if (code == 0) {
            code = finish_job(g, index, answer_record_json(a, &g->setup, g->jobs[index].seed), err);
        }
        if (generate_many(g->args)) {
            answer_record_deinit(a);
        }
    }
    g->n_running = kept;
    return code;
}

static int interrupt(struct generation *g, struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < g->n_running && code == 0; i++) {
        code = answer_end(&g->running[i]->r, FINISH_INTERRUPTED, err);
    }
    return code ? code : collect(g, err);
}

/* Passes by prompts that an earlier process answered. */
static bool job_waits(struct generation *g) {
    while (g->n_started < g->prompts.n && partial_has(&g->partial, g->n_started)) {
        g->n_started++;
    }
    return g->n_started < g->prompts.n;
}

/* Time left by tokens: what one process takes for answers of unlike lengths shows in nothing else. */
static void show_progress(const struct generation *g, struct progress *progress) {
    char rate[48];
    const double elapsed = clock_seconds() - g->started, each = (double)g->estimate.n_tokens / elapsed;
    double left = (double)(g->prompts.n - g->n_done - g->n_running) * estimate_answer(&g->estimate, 0);
    for (size_t i = 0; i < g->n_running; i++) {
        left += estimate_answer(&g->estimate, (int64_t)g->running[i]->r.n_tokens);
    }
    progress_expect(progress, left > 0 && each > 0 ? left / each : 0);
    snprintf(rate, sizeof rate, "%.3g tokens/s", each);
    progress_update(progress, (int64_t)g->n_done, rate);
}

/* Evaluates prompts in pieces until what is left of all fits into one pass. What is wrong with one of them its step says. */
static int prefill_jobs(struct generation *g, struct genarm_error *err) {
    const struct guide_args *args = &g->args->guide;
    int32_t rest = args->n_batch;
    for (size_t i = 0; i < g->n_running && !interrupt_signal(); i++) {
        int32_t left = 0;
        int code = g->running[i]->r.n_tokens == 0 ? prefill_prompt(g->running[i]->r.session, args, rest, &left, err) : 0;
        if (code == GENARM_ENOMEM || code == GENARM_EBACKEND) {
            return code;
        }
        rest -= left < rest ? left : 0;
    }
    return 0;
}

/* One more token for all that run. */
static int step_jobs(struct generation *g, struct genarm_error *err) {
    int code = prefill_jobs(g, err);
    if (code || interrupt_signal()) {
        return code;
    }
    code = answer_records_step(g->running, g->n_running, err);
    g->estimate.n_tokens += (int64_t)g->n_running;
    if (code == 0 && !g->records) {
        code = stream_text(g, g->running[0], err);
    }
    return code ? code : collect(g, err);
}

int generate_jobs(struct generation *g, struct genarm_error *err) {
    struct progress progress;
    size_t n_parallel = (size_t)g->args->n_parallel;
    bool show = generate_many(g->args) && (g->args->output || !isatty(STDOUT_FILENO)); /* not among the records */
    int code = 0;
    g->started = clock_seconds();
    g->estimate.limit = g->args->n_predict;
    if (show) {
        progress_start(&progress, "answering", "prompts", (int64_t)g->prompts.n, (int64_t)g->n_done);
    }
    while (code == 0 && (job_waits(g) || g->n_running > 0)) {
        if (interrupt_signal()) {
            code = interrupt(g, err);
            break;
        }
        code = job_waits(g) && g->n_running < n_parallel ? start_job(g, err) : step_jobs(g, err);
        if (show) {
            show_progress(g, &progress);
        }
    }
    if (show) {
        progress_end(&progress);
    }
    return code;
}
