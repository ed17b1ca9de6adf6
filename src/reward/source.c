/* Reward sources: from a spec to one of the kinds, and what holds for all of them: checked arguments, finite rewards, errors
 * that name the source and the sample. */
#include "reward/source.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { MAX_PARALLEL = 256 };
static const double default_timeout = 60;

struct genarm_source {
    struct source_spec spec;
    struct source_params params;
    const struct source_vtable *vtable;
    void *self; /* of the kind */
};

struct genarm_source_params genarm_source_default_params(void) {
    return (struct genarm_source_params){
        .n_batch = 512,
        .model = genarm_model_default_params(),
        .timeout = default_timeout,
        .judge = {.n_parallel = 4, .n_retries = 6, .max_tokens = 512}};
}

int source_params_check(const struct genarm_source_params *p, struct genarm_error *err) {
    if (p->n_ctx < 0 || p->n_batch < 1 || p->n_threads < 0) {
        return error_set(err, GENARM_EINVAL, "context %d, batch %d, %d threads: out of range", p->n_ctx, p->n_batch,
                         p->n_threads);
    }
    if (!(p->timeout > 0 && p->timeout <= 1e9)) {
        return error_set(err, GENARM_EINVAL, "a time limit of %g seconds: out of range", p->timeout);
    }
    const struct genarm_judge_params *j = &p->judge;
    if (j->n_parallel < 1 || j->n_parallel > MAX_PARALLEL || j->n_retries < 0 || j->max_tokens < 1) {
        return error_set(err, GENARM_EINVAL, "%d requests at once, %d retries, %d tokens: out of range", j->n_parallel,
                         j->n_retries, j->max_tokens);
    }
    return GENARM_OK;
}

/* Replaces *text, borrowed, by a copy that *owned holds. */
static bool copy_text(char **owned, const char **text) {
    const char *given = *text;
    *text = *owned = given ? strdup(given) : NULL;
    return !given || *owned;
}

int source_params_copy(struct source_params *out, const struct genarm_source_params *p, struct genarm_error *err) {
    struct genarm_source_params *c = &out->p;
    *c = *p;
    bool ok = copy_text(&out->template_name, &c->template_name);
    ok = copy_text(&out->device, &c->model.device) && ok; /* all of them: none is left borrowed */
    ok = copy_text(&out->prompt, &c->judge.prompt) && ok;
    ok = copy_text(&out->cache, &c->judge.cache) && ok;
    ok = copy_text(&out->key_env, &c->judge.key_env) && ok;
    ok = copy_text(&out->body, &c->judge.body) && ok;
    return ok ? GENARM_OK : error_nomem(err, "a reward source");
}

void source_params_deinit(struct source_params *p) {
    free(p->template_name);
    free(p->device);
    free(p->prompt);
    free(p->cache);
    free(p->key_env);
    free(p->body);
    *p = (struct source_params){0};
}

/* Puts "reward NAME, sample 3: " before what an error says. The place that it names, and its hint, stay. */
static int say_whose(struct genarm_error *err, int code, const struct genarm_source *s, size_t sample, size_t n) {
    if (!err || code == GENARM_OK) {
        return code;
    }
    struct genarm_error inner = *err;
    const char *name = s->spec.part.name;
    char number[40] = "";
    if (s->spec.kind == SOURCE_CMD && strcmp(name, s->spec.part.path) == 0) {
        name = "cmd"; /* what follows quotes the command */
    }
    if (n > 1) {
        snprintf(number, sizeof number, ", sample %zu", sample);
    }
    error_set(err, code, "reward %.200s%s: %s", name, number, inner.what);
    memcpy(err->where, inner.where, sizeof err->where);
    memcpy(err->hint, inner.hint, sizeof err->hint);
    return code;
}

static int open_kind(struct genarm_source *s, const struct genarm_model *base, struct genarm_error *err) {
    switch (s->spec.kind) {
    case SOURCE_RM:
        return trajectory_new(&s->vtable, &s->self, &s->spec, base, &s->params.p, err);
    case SOURCE_ARM:
    case SOURCE_ARM_MEAN:
    case SOURCE_RATIO:
    case SOURCE_RATIO_MEAN:
        return policy_new(&s->vtable, &s->self, &s->spec, base, &s->params.p, err);
    case SOURCE_RANK:
        return rank_new(&s->vtable, &s->self, &s->spec, base, &s->params.p, err);
    case SOURCE_CMD:
        return command_new(&s->vtable, &s->self, &s->spec, base, &s->params.p, err);
    case SOURCE_OPENAI:
        return openai_new(&s->vtable, &s->self, &s->spec, base, &s->params.p, err);
    }
    return error_set(err, GENARM_EINVAL, "there is no such kind of reward");
}

int genarm_source_new(struct genarm_source **out, const char *spec, const struct genarm_model *base,
                      const struct genarm_source_params *params, struct genarm_error *err) {
    const struct genarm_source_params p = params ? *params : genarm_source_default_params();
    struct genarm_source *s = calloc(1, sizeof *s);
    if (!s) {
        return error_nomem(err, "a reward source");
    }
    int rc = source_params_check(&p, err);
    rc = rc == GENARM_OK ? source_params_copy(&s->params, &p, err) : rc;
    if (rc == GENARM_OK) {
        rc = source_spec_parse(&s->spec, spec, file_exists, err);
        rc = error_at(err, rc, "reward \"%s\"", spec);
    }
    if (rc == GENARM_OK) {
        rc = say_whose(err, open_kind(s, base, err), s, 0, 1);
    }
    if (rc != GENARM_OK) {
        genarm_source_free(s);
        return rc;
    }
    *out = s;
    return GENARM_OK;
}

void genarm_source_free(struct genarm_source *s) {
    if (s) {
        if (s->vtable) {
            s->vtable->free(s->self);
        }
        source_spec_deinit(&s->spec);
        source_params_deinit(&s->params);
        free(s);
    }
}

const char *genarm_source_name(const struct genarm_source *s) { return s->spec.part.name; }

const char *genarm_source_kind(const struct genarm_source *s) { return source_kind_name(s->spec.kind); }

float genarm_source_weight(const struct genarm_source *s) { return s->spec.part.weight; }

int64_t genarm_source_n_evaluated(const struct genarm_source *s) {
    return s->vtable->n_evaluated ? s->vtable->n_evaluated(s->self) : 0;
}

bool genarm_source_may_abstain(const struct genarm_source *s) { return s->vtable->stats; }

void genarm_source_get_judge_stats(const struct genarm_source *s, struct genarm_judge_stats *out) {
    *out = s->vtable->stats ? s->vtable->stats(s->self) : (struct genarm_judge_stats){0};
}

/* ---- scoring ---- */

int source_stopped(const struct genarm_source_params *params, struct genarm_error *err) {
    return params->stop && params->stop(params->stop_user) != 0 ? error_set(err, GENARM_ECANCELED, "stopped")
                                                                : GENARM_OK;
}

static int score_each(struct genarm_source *s, const struct genarm_sample *samples, size_t n, double *values, size_t *at,
                      struct genarm_error *err) {
    int rc = GENARM_OK;
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        *at = i;
        rc = source_stopped(&s->params.p, err);
        rc = rc == GENARM_OK ? s->vtable->score_one(s->self, &samples[i], &values[i], err) : rc;
    }
    return rc;
}

static int check_samples(const struct genarm_sample *samples, size_t n, size_t *at, struct genarm_error *err) {
    for (size_t i = 0; i < n; i++) {
        *at = i;
        if (!samples[i].messages || samples[i].n_messages == 0 || !samples[i].response) {
            return error_set(err, GENARM_EINVAL, "a prompt or a response is missing");
        }
        for (size_t m = 0; m < samples[i].n_messages; m++) {
            if (!samples[i].messages[m].role || !samples[i].messages[m].content) {
                return error_set(err, GENARM_EINVAL, "message %zu has no role or no content", m);
            }
        }
    }
    return GENARM_OK;
}

static int check_finite(const struct genarm_source *s, const double *values, size_t n, size_t *at, struct genarm_error *err) {
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i]) && !(isnan(values[i]) && genarm_source_may_abstain(s))) {
            *at = i;
            return error_set(err, GENARM_EDIVERGED, "the reward is %g, no finite number", values[i]);
        }
    }
    return GENARM_OK;
}

int genarm_source_score(struct genarm_source *s, const struct genarm_sample *samples, size_t n, double *rewards,
                        struct genarm_error *err) {
    size_t at = 0;
    double *values = calloc(n + 1, sizeof *values);
    int rc = values ? check_samples(samples, n, &at, err) : error_nomem(err, "rewards");
    if (rc == GENARM_OK && n > 0) {
        at = 0;
        rc = s->vtable->score_one ? score_each(s, samples, n, values, &at, err)
                                  : s->vtable->score(s->self, samples, n, values, &at, err);
    }
    if (rc == GENARM_OK) {
        rc = check_finite(s, values, n, &at, err);
    }
    if (rc == GENARM_OK && n > 0) {
        memcpy(rewards, values, n * sizeof *values);
    }
    free(values);
    return say_whose(err, rc, s, at, n);
}

int genarm_source_finish(struct genarm_source *s, struct genarm_error *err) {
    return s->vtable->finish ? say_whose(err, s->vtable->finish(s->self, err), s, 0, 1) : GENARM_OK;
}
