/* rm: a trajectory-level reward model, through genarm/reward.h. */
#include <stdlib.h>

#include "genarm/reward.h"
#include "reward/source.h"

struct trajectory {
    const struct genarm_source_params *params;
    struct source_model rm;
    struct genarm_reward *reward;
};

static void trajectory_free(void *self) {
    struct trajectory *t = self;
    if (t) {
        genarm_reward_free(t->reward);
        source_model_free(&t->rm);
        free(t);
    }
}

static int score_one(void *self, const struct genarm_sample *s, double *value, struct genarm_error *err) {
    const struct trajectory *t = self;
    return genarm_reward_text(t->reward, s->messages, s->n_messages, s->response, s->finished, value, err);
}

static int64_t n_evaluated(const void *self) {
    const struct trajectory *t = self;
    return genarm_reward_n_evaluated(t->reward);
}

static const struct source_vtable trajectory_vtable = {
    .score_one = score_one, .n_evaluated = n_evaluated, .free = trajectory_free};

static int start(struct trajectory *t, const struct source_spec *spec, const struct genarm_model *base,
                 struct genarm_error *err) {
    const struct genarm_source_params *p = t->params;
    int rc = source_model_load(&t->rm, &spec->part, base, p, err);
    if (rc == GENARM_OK && !t->rm.adapter) {
        rc = error_at(err, error_set(err, GENARM_EINVAL, "this is a model: its adapter with a head is missing"), "%s",
                      spec->part.path);
        return error_hint(err, rc, "MODEL+ADAPTER; arm:MODEL for an ARM, rank:MODEL for a classifier");
    }
    if (rc == GENARM_OK) {
        const struct genarm_reward_params params = {.n_ctx = p->n_ctx,
                                                    .n_batch = p->n_batch,
                                                    .n_threads = p->n_threads,
                                                    .template_name = source_model_template(&t->rm, p)};
        rc = genarm_reward_new(&t->reward, t->rm.model, t->rm.adapter, &params, err);
    }
    return rc;
}

int trajectory_new(const struct source_vtable **vtable, void **self, const struct source_spec *spec,
                   const struct genarm_model *base, const struct genarm_source_params *params, struct genarm_error *err) {
    struct trajectory *t = calloc(1, sizeof *t);
    if (!t) {
        return error_nomem(err, "a reward source");
    }
    t->params = params;
    const int rc = start(t, spec, base, err);
    if (rc != GENARM_OK) {
        trajectory_free(t);
        return rc;
    }
    *vtable = &trajectory_vtable;
    *self = t;
    return GENARM_OK;
}
