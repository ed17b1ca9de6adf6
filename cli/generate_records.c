/* genarm generate: answers that ended, and the records that are made of them. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "generate.h"
#include "tell.h"
#include "terminal.h"

/* ---- the prompt cache ---- */

static int save_cache(const struct generation *g, const struct sample *s, struct genarm_error *err) {
    struct genarm_guide_stats stats;
    genarm_guide_get_stats(g->setup.guide, &stats);
    if (!g->args->cache || g->args->cache_read_only || s->index > 0 || stats.n_evaluated == 0) {
        return 0;
    }
    return genarm_session_save(s->session, g->args->cache, NULL, err);
}

/* ---- records ---- */

int generate_written(const struct generation *g, int code, struct genarm_error *err) {
    return g->args->output ? error_at(err, code, "%s", g->args->output) : code;
}

static int write_finished(struct generation *g, struct genarm_error *err) {
    int code = 0;
    while (code == 0 && g->n_written < g->prompts.n && g->jobs[g->n_written].record) {
        struct job *job = &g->jobs[g->n_written++];
        code = generate_written(g, print_json(g->out, job->record, err), err);
        job->record = NULL;
    }
    return code;
}

/* Keeps a record where the next process finds it. Takes it over. */
static int keep_record(struct generation *g, size_t place, json_t *record, struct genarm_error *err) {
    char *line;
    int code = json_line(&line, record, err);
    if (code == 0) {
        code = partial_add(&g->partial, place, line, err);
        free(line);
    }
    return code;
}

static void free_samples(struct generation *g, struct job *job) {
    for (size_t k = 0; k < (size_t)g->method.n_samples && job->samples; k++) {
        struct sample *s = &job->samples[k];
        answer_record_deinit(&s->answer);
        genarm_session_free(s->session);
        json_decref(s->facts);
    }
    free(job->samples);
    job->samples = NULL;
}

void generate_free_jobs(struct generation *g) {
    for (size_t i = 0; g->jobs && i < g->prompts.n; i++) {
        free_samples(g, &g->jobs[i]);
        json_decref(g->jobs[i].record);
    }
    free(g->jobs);
    g->jobs = NULL;
}

/* The record of a job that ended: what identifies the prompt first. Takes over `facts`. `whole`: it is what the next process
 * need not make again. */
static int finish_job(struct generation *g, size_t index, json_t *facts, bool whole, struct genarm_error *err) {
    struct job *job = &g->jobs[index];
    json_t *record = json_deep_copy(g->prompts.items[index].shown);
    bool ok = record && facts && json_object_update(record, facts) == 0;
    json_decref(facts);
    if (!ok) {
        json_decref(record);
        return error_nomem(err, "a record");
    }
    g->n_waiting -= job->n_ended;
    g->n_done++;
    free_samples(g, job);
    if (whole && g->partial.records) {
        return keep_record(g, index, record, err);
    }
    job->record = record;
    return g->records && !g->partial.records ? write_finished(g, err) : 0;
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
    return finish_job(g, index, json_pack("{s:s, s:o}", "finish_reason", "error", "error", text_json(failure->what)), true,
                      err);
}

/* The job of which all samples have ended. */
static int job_ended(struct generation *g, size_t index, struct genarm_error *err) {
    struct job *job = &g->jobs[index];
    struct genarm_error failure = job->samples[0].answer.failure;
    json_t *facts = job->samples[0].facts;
    bool whole = true;
    if (generate_chooses(g)) {
        const char *where = g->prompts.items[index].where;
        const int code = generate_choose(g, index, &facts, &failure, err);
        if (code == GENARM_ECANCELED) {
            return 0; /* generate_cut_jobs sees to it */
        }
        if (code) {
            return where ? error_at(err, code, "%s", where) : code;
        }
    } else {
        job->samples[0].facts = NULL;
        whole = job->samples[0].answer.r.finish != FINISH_INTERRUPTED;
    }
    return facts ? finish_job(g, index, facts, whole, err) : fail_job(g, index, &failure, err);
}

int generate_cut_jobs(struct generation *g, struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < g->prompts.n && code == 0; i++) {
        if (g->jobs[i].samples) {
            struct genarm_error failure;
            json_t *facts = NULL;
            code = generate_choose_none(g, i, &facts, &failure, err);
            if (code == 0) {
                code = facts ? finish_job(g, i, facts, false, err) : fail_job(g, i, &failure, err);
            }
        }
    }
    return code;
}

/* ---- samples ---- */

static size_t sample_place(const struct generation *g, const struct sample *s) {
    return g->prompts.n + s->job * (size_t)g->method.n_samples + s->index;
}

size_t generate_n_kept(const struct generation *g) {
    return g->prompts.n * (1 + (generate_chooses(g) ? (size_t)g->method.n_samples : 0));
}

bool generate_has_sample(const struct generation *g, const struct sample *s) {
    return generate_chooses(g) && partial_has(&g->partial, sample_place(g, s));
}

static void add_work(struct job *job, const struct genarm_work *work, double seconds) {
    job->work.base += work->base;
    job->work.arms += work->arms;
    job->work.value += work->value;
    job->work.rollout += work->rollout;
    job->seconds += seconds;
}

int generate_count_in(struct generation *g, const struct sample *s, struct genarm_error *err) {
    g->n_waiting++;
    return ++g->jobs[s->job].n_ended == (size_t)g->method.n_samples ? job_ended(g, s->job, err) : 0;
}

int generate_take_kept(struct generation *g, struct sample *s, struct genarm_error *err) {
    json_int_t base, arms, value, rollout;
    double seconds;
    int code = partial_read(&g->partial, sample_place(g, s), &s->facts, err);
    if (code == 0 && json_unpack(s->facts, "{s:{s:I, s:I, s:I, s:I}, s:F}", "evaluated", "base", &base, "arms", &arms, "value",
                                 &value, "rollout", &rollout, "seconds", &seconds) != 0) {
        code = error_at(err, error_set(err, GENARM_EFORMAT, "an answer that is kept does not say what it took"), "%s",
                        g->partial.journal.path);
        error_hint(err, code, "begin anew: --restart");
    }
    if (code) {
        return code;
    }
    const struct genarm_work work = {.base = base, .arms = arms, .value = value, .rollout = rollout};
    add_work(&g->jobs[s->job], &work, seconds);
    return generate_count_in(g, s, err);
}

int generate_keep_sample(struct generation *g, struct sample *s, struct genarm_error *err) {
    struct answer_record *a = &s->answer;
    const enum finish finish = a->r.finish;
    struct genarm_error failure = {0}; /* a->failure may be set where nothing failed */
    struct genarm_work work;
    int code = 0;
    genarm_session_get_work(s->session, &work);
    add_work(&g->jobs[s->job], &work, a->seconds);
    if (finish == FINISH_FAILED) {
        failure = a->failure;
    } else {
        s->facts = answer_record_json(a, &g->setup, s->seed);
        code = s->facts ? save_cache(g, s, err) : error_nomem(err, "a record");
    }
    if (g->args->model.verbose) {
        drafts_note(&g->setup, s->session);
    }
    genarm_session_free(s->session);
    s->session = NULL;
    answer_record_deinit(a);
    a->failure = failure;
    a->r.finish = finish;
    if (code == 0 && generate_chooses(g) && g->partial.records && s->facts && finish != FINISH_INTERRUPTED) {
        code = keep_record(g, sample_place(g, s), json_incref(s->facts), err);
    }
    return code;
}
