/* The inside of a reward source: what every kind implements, and the models behind those that have some. */
#ifndef REWARD_SOURCE_H
#define REWARD_SOURCE_H

#include "genarm/source.h"
#include "reward/spec.h"

/* The params of a source with copies of their strings; its kinds may keep a pointer to it. */
struct source_params {
    struct genarm_source_params p;
    char *template_name, *device, *prompt, *cache, *key_env, *body; /* owned, or NULL: p points to them */
};
int source_params_copy(struct source_params *out, const struct genarm_source_params *p, struct genarm_error *err);
void source_params_deinit(struct source_params *p); /* safe on a zeroed struct */

/* GENARM_EINVAL for what is out of range. */
int source_params_check(const struct genarm_source_params *p, struct genarm_error *err);

struct source_vtable {
    /* The reward of one sample; NULL for a kind that takes many at once. */
    int (*score_one)(void *self, const struct genarm_sample *sample, double *value, struct genarm_error *err);
    /* values[n], where score_one is NULL. On failure *at is the sample at fault, and the values are undefined. */
    int (*score)(void *self, const struct genarm_sample *samples, size_t n, double *values, size_t *at,
                 struct genarm_error *err);
    int (*finish)(void *self, struct genarm_error *err); /* see genarm_source_finish; NULL: nothing can be wrong */
    int64_t (*n_evaluated)(const void *self); /* tokens that went through a model; NULL: there is none */
    void (*free)(void *self); /* NULL is fine */
    /* What asking servers came to; NULL for kinds that ask none. Only kinds that do may give NaN. */
    struct genarm_judge_stats (*stats)(const void *self);
};

/* A model, with or without an adapter, that a spec names. */
struct source_model {
    struct genarm_model *own;     /* loaded for this source; NULL: `model` is the base */
    const struct genarm_model *model;
    struct genarm_adapter *adapter; /* or NULL */
};
int source_model_load(struct source_model *out, const struct arm_spec *spec, const struct genarm_model *base,
              const struct genarm_source_params *params, struct genarm_error *err);
void source_model_free(struct source_model *m); /* safe on a zeroed struct */

/* What a prompt is written in: what the adapter says it was trained under, else the params' (NULL: the model's own). */
const char *source_model_template(const struct source_model *m, const struct genarm_source_params *params);

/* GENARM_ECANCELED when the caller wants to stop. */
int source_stopped(const struct genarm_source_params *params, struct genarm_error *err);

/* The kinds. Each fills *vtable and *self, which the vtable's free takes, on success. `params` outlives what is made. */
int trajectory_new(const struct source_vtable **vtable, void **self, const struct source_spec *spec,
                   const struct genarm_model *base, const struct genarm_source_params *params, struct genarm_error *err);
int policy_new(const struct source_vtable **vtable, void **self, const struct source_spec *spec,
               const struct genarm_model *base, const struct genarm_source_params *params, struct genarm_error *err);
int rank_new(const struct source_vtable **vtable, void **self, const struct source_spec *spec,
             const struct genarm_model *base, const struct genarm_source_params *params, struct genarm_error *err);
int command_new(const struct source_vtable **vtable, void **self, const struct source_spec *spec,
                const struct genarm_model *base, const struct genarm_source_params *params, struct genarm_error *err);
int openai_new(const struct source_vtable **vtable, void **self, const struct source_spec *spec,
               const struct genarm_model *base, const struct genarm_source_params *params, struct genarm_error *err);

/* How the client of a judge is to be made. */
struct chat_params;
void openai_chat_params(struct chat_params *out, const struct source_spec *spec, const struct genarm_source_params *params);

#endif
