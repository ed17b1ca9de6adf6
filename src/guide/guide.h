/* The inside of a guide: its policies, and the engines that run them. */
#ifndef GUIDE_GUIDE_H
#define GUIDE_GUIDE_H

#include "engine/engine.h"
#include "genarm/guide.h"
#include "guide/pace.h"

enum { GUIDE_MAX_ARMS = 64, GUIDE_MAX_POLICIES = 1 + 2 * GUIDE_MAX_ARMS }; /* the base, ARMs, a reference for each */

/* A model, with or without an adapter, under its own template. Policy 0 is the base, policy i + 1 is ARM i; those that follow
 * are references, run only because an ARM is counted relative to one, and no caller sees them. */
struct policy {
    char *name;
    struct genarm_model *model;
    struct genarm_adapter *adapter; /* or NULL */
    char *template_name;            /* or NULL: the model's own */
    float weight;                   /* default of new sessions; 1 for the base */
    struct objective_weights preference;   /* the same, among the adapter's objectives if it has some */
    bool minus_reference;           /* an ARM that counts as log pi - log pi_reference */
    int32_t reference;              /* the policy that is its reference; -1: none needed, or not found yet */
    int32_t engine;                 /* index in guide.engines */
    int32_t adapter_index;          /* in that engine */
    int32_t first_seq;              /* its sequence in slot s is first_seq + s * stride of the engine */
};

struct guide_engine {
    struct engine *engine;
    const struct genarm_model *model;
    int32_t n_policies; /* sequences of one slot */
};

/* Room for one session: a sequence of each policy, and what it holds. */
struct slot {
    bool taken;
    struct timeline *timelines; /* [n_policies] they stay when a session ends; NULL: never used */
};

struct genarm_guide {
    struct genarm_guide_params params;
    struct policy policies[GUIDE_MAX_POLICIES];
    int32_t n_policies, n_arms;
    struct guide_engine engines[GUIDE_MAX_POLICIES]; /* one per distinct model; made with the first session */
    int32_t n_engines;
    struct engine_threads *threads; /* of all engines */
    struct slot *slots; /* [n_slots] */
    struct genarm_guide_stats stats;
    struct row *rows; /* growable scratch of a step */
    size_t rows_max;
    float *logits; /* growable scratch of a step */
    size_t logits_max;
    struct pass_costs costs; /* of passes without prompts */
};

/* The objectives of a policy's adapter; NULL: it has none. */
static inline const struct objectives *policy_objectives(const struct policy *p) {
    return p->adapter && p->adapter->info.objectives.n > 0 ? &p->adapter->info.objectives : NULL;
}

/* GENARM_EINVAL unless it is finite. */
int guide_check_weight(float weight, struct genarm_error *err);

/* Changes *p to n weights of ARM i's objectives. */
int guide_read_preference(const struct genarm_guide *g, int32_t i, const float *weights, size_t n, struct objective_weights *p,
                          struct genarm_error *err);

/* Sequence of a policy in a slot. */
static inline int32_t guide_seq(const struct genarm_guide *g, int32_t policy, int32_t slot) {
    const struct policy *p = &g->policies[policy];
    return slot * g->engines[p->engine].n_policies + p->first_seq;
}

/* Finds or adds what references need, and makes the engines, once. */
int guide_start(struct genarm_guide *g, struct genarm_error *err);

/* After adapters changed in place: no session made before may be stepped again. */
int guide_refresh_adapters(struct genarm_guide *g, struct genarm_error *err);

/* Runs the first n rows of the scratch, in one batch of an engine. */
int guide_forward(struct genarm_guide *g, int32_t engine, size_t n_rows, float *logits, struct genarm_error *err);

/* Scratch of at least n rows, or n floats, kept by the guide. */
int guide_reserve(struct genarm_guide *g, size_t n_rows, size_t n_logits, struct genarm_error *err);

#endif
