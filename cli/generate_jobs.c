/* genarm generate: prompts on their way to answers, several at once. */
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/progress.h"
#include "base/rng.h"
#include "generate.h"
#include "prefill.h"
#include "tell.h"
#include "terminal.h"

/* ---- the prompt cache ---- */

static int load_cache(const struct generation *g, struct genarm_session *s, struct genarm_error *err) {
    const char *path = g->args->cache;
    if (!path || (!file_exists(path) && !g->args->cache_read_only)) {
        return 0;
    }
    return error_at(err, genarm_session_load_cache(s, path, err), "--prompt-cache");
}

/* ---- the loop ---- */

/* What was sampled since the last call. */
static int stream_text(struct generation *g, const struct answer_record *a, struct genarm_error *err) {
    size_t n = a->r.n_shown - g->n_streamed;
    if (g->records || generate_chooses(g) || n == 0) {
        return 0;
    }
    fwrite(a->r.text.data + g->n_streamed, 1, n, g->out);
    g->n_streamed = a->r.n_shown;
    return generate_written(g, flush_output(g->out, err), err);
}

/* Seed of one prompt of many: independent of the others and of how many run at once; short enough for JSON numbers. */
static uint64_t job_seed(const struct generation *g, size_t index) {
    return generate_many(g->args) ? rng_hash(g->seed, (size_t)g->args->skip + index, 0) >> 11 : g->seed;
}

/* The first sample is what is answered without a choice. */
static uint64_t sample_seed(const struct generation *g, const struct sample *s) {
    const uint64_t seed = job_seed(g, s->job);
    return s->index == 0 ? seed : rng_hash(seed, s->index, 1) >> 11;
}

/* The next sample, of the first job that has one; the jobs before all have begun theirs. */
static int next_sample(struct generation *g, struct sample **out, struct genarm_error *err) {
    const size_t n = (size_t)g->method.n_samples;
    struct job *job = &g->jobs[g->n_started];
    if (!job->samples && !(job->samples = calloc(n, sizeof *job->samples))) {
        return error_nomem(err, "answers");
    }
    struct sample *s = &job->samples[job->n_begun];
    s->job = g->n_started;
    s->index = job->n_begun++;
    s->seed = sample_seed(g, s);
    g->n_started += job->n_begun == n;
    *out = s;
    return 0;
}

static int start_sample(struct generation *g, struct genarm_error *err) {
    const double start = clock_seconds();
    struct genarm_sampling own = sampling_from(&g->args->sampling);
    struct genarm_error failure;
    struct sample *s = NULL;
    int code = next_sample(g, &s, err);
    if (code || generate_has_sample(g, s)) {
        return code ? code : generate_take_kept(g, s, err);
    }
    own.seed = s->seed;
    code = setup_session(&s->session, &g->setup, &own, err);
    code = code || s->index > 0 ? code : load_cache(g, s->session, err);
    if (code) {
        return code;
    }
    const struct prompt *prompt = &g->prompts.items[s->job];
    code = answer_record_start(&s->answer, &g->setup, s->session, prompt->messages, prompt->n_messages, g->args->n_predict,
                               &failure);
    answer_record_shifts(&s->answer, &g->args->shift);
    if (code == 0 && g->args->n_predict == 0 && g->args->cache && !g->args->cache_read_only) { /* no step evaluates it */
        int32_t left;
        code = prefill_prompt(s->session, &g->args->guide, 0, &left, &failure);
    }
    s->answer.seconds = clock_seconds() - start;
    if (code) {
        s->answer.failure = failure;
        s->answer.r.finish = FINISH_FAILED;
    }
    if (code || s->answer.r.finish != FINISH_RUNNING) {
        code = generate_keep_sample(g, s, err);
        return code ? code : generate_count_in(g, s, err);
    }
    g->running[g->n_running++] = &s->answer;
    return 0;
}

/* Sample whose answer this is: its first member. */
static struct sample *sample_of(struct answer_record *a) { return (struct sample *)(void *)a; }

/* Takes ended answers out of the running ones. */
static int collect(struct generation *g, struct genarm_error *err) {
    size_t kept = 0;
    int code = 0;
    for (size_t i = 0; i < g->n_running && code == 0; i++) {
        if (g->running[i]->r.finish != FINISH_RUNNING) {
            g->estimate.n_ended++;
            code = generate_keep_sample(g, sample_of(g->running[i]), err);
        }
    }
    for (size_t i = 0; i < g->n_running && code == 0; i++) {
        struct answer_record *a = g->running[i];
        if (a->r.finish == FINISH_RUNNING) {
            g->running[kept++] = a;
        } else {
            code = generate_count_in(g, sample_of(a), err);
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
    code = code ? code : collect(g, err);
    return code ? code : generate_cut_jobs(g, err);
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
    const size_t n_samples = (g->prompts.n - g->n_done) * (size_t)g->method.n_samples;
    double left = (double)(n_samples - g->n_waiting - g->n_running) * estimate_answer(&g->estimate, 0);
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
    const double start = clock_seconds();
    int code = prefill_jobs(g, err);
    if (code || interrupt_signal()) {
        return code;
    }
    code = answer_records_step(g->running, g->n_running, err);
    for (size_t i = 0; i < g->n_running; i++) {
        g->running[i]->seconds += (clock_seconds() - start) / (double)g->n_running;
    }
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
            break;
        }
        code = job_waits(g) && g->n_running < n_parallel ? start_sample(g, err) : step_jobs(g, err);
        if (show) {
            show_progress(g, &progress);
        }
    }
    if (code == 0 && interrupt_signal()) {
        code = interrupt(g, err);
    }
    if (show) {
        progress_end(&progress);
    }
    return code;
}
