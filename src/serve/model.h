/* What is served: a guide with its models, and how it answers unless a request says otherwise. */
#ifndef SERVE_MODEL_H
#define SERVE_MODEL_H

#include "genarm/guide.h"
#include "genarm/steer.h"

struct serve_arm {
    const char *name, *file; /* file: without folders */
    float weight;            /* by default */
    bool minus_reference;
    const char *const *objectives; /* [n_objectives] */
    int32_t n_objectives;
};

/* Everything in it outlives the server. */
struct serve_model {
    struct genarm_guide *guide; /* the worker's alone from now on */
    const struct genarm_model *base;
    const char *file, *template_name; /* file: without folders; template_name NULL: the model's own */
    int32_t n_slots, n_ctx, n_batch;
    const struct serve_arm *arms; /* [n_arms] in the guide's order */
    size_t n_arms;
    struct genarm_sampling sampling; /* the seed is not looked at */
    int32_t n_predict;               /* -1: no limit */
    bool shift;                      /* as in struct answer */
    int32_t keep;
    const struct genarm_draft_params *draft; /* NULL: none */
};

#endif
