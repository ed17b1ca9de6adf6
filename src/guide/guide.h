/* The inside of a guide: its policies, the engines that run them, and what looks ahead of a token. */
#ifndef GUIDE_GUIDE_H
#define GUIDE_GUIDE_H

#include "engine/engine.h"
#include "genarm/guide.h"
#include "guide/pace.h"

/* The base, ARMs, a reference for each, and what a look-ahead runs. */
enum { GUIDE_MAX_ARMS = 64, GUIDE_MAX_AHEAD = 3, GUIDE_MAX_POLICIES = 1 + 2 * GUIDE_MAX_ARMS + GUIDE_MAX_AHEAD };

/* A model, with or without an adapter, under its own template. Policy 0 is the base, policy i + 1 is ARM i; those that follow
 * are references, run only because an ARM is counted relative to one, then those of a look-ahead, which no mixture has; no
 * caller sees either. */
struct policy {
    char *name;
    const struct genarm_model *model;
    const struct genarm_adapter *adapter; /* or NULL */
    char *template_name;            /* or NULL: the model's own */
    float weight;                   /* default of new sessions; 1 for the base */
    struct objective_weights preference;   /* the same, among the adapter's objectives if it has some */
    bool minus_reference;           /* an ARM that counts as log pi - log pi_reference */
    int32_t reference;              /* the policy that is its reference; -1: none needed, or not found yet */
    bool ahead;                     /* of the look-ahead, which feeds it before a token is drawn */
    int32_t engine;                 /* index in guide.engines */
    int32_t adapter_index;          /* in that engine */
    int32_t first_seq;              /* its sequence in slot s is first_seq + s * stride of the engine */
};

struct guide_engine {
    struct engine *engine;
    const struct genarm_model *model;
    bool hidden;        /* gives hidden states, for a scalar head: what no policy of the mixture is run on */
    int32_t n_policies; /* sequences of one slot */
    int32_t n_branches; /* further ones of each slot: what may follow is run in them */
};

/* What looks ahead of a token: after the mixtures of a step are known, and before tokens are drawn, it changes the
 * mixtures. It has policies of its own, whose timelines go with those of the mixture, and branches of them. */
struct lookahead {
    const struct lookahead_vtable *vtable;
};
struct lookahead_vtable {
    /* Adds policies and branches, before there are engines; again where that failed the first time. */
    int (*start)(struct lookahead *l, struct genarm_guide *guide, struct genarm_error *err);
    /* Changes sessions[i]->mixtures, each the distribution of the next token. What is wrong with one session alone goes to its
     * `failure`. The guide's logits must stay. */
    int (*steer)(struct lookahead *l, struct genarm_session **sessions, size_t n, struct genarm_error *err);
    void (*free)(struct lookahead *l);
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
    struct lookahead *lookahead; /* or NULL; the guide frees it */
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

/* Sequence of a slot's branch i, 0 <= i < n_branches, of an engine. */
static inline int32_t guide_branch_seq(const struct genarm_guide *g, int32_t engine, int32_t slot, int32_t i) {
    const struct guide_engine *e = &g->engines[engine];
    return g->params.n_slots * e->n_policies + slot * e->n_branches + i;
}

/* Adds the last policy, for a mixture or a look-ahead; on an engine of hidden states where it is wanted for its head. */
enum policy_use { POLICY_MIXED, POLICY_AHEAD, POLICY_AHEAD_HIDDEN };
int guide_add_policy(struct genarm_guide *g, const struct genarm_arm_params *params, enum policy_use use,
                     struct genarm_error *err);

/* The template of a policy that is not the base: the one given, else the one that its adapter records, else the base's. */
const char *guide_template(const struct genarm_guide *g, const struct genarm_arm_params *params);

/* Finds a template that cannot be applied while it is clear whose it is. */
int guide_check_template(const struct genarm_model *model, const char *name, struct genarm_error *err);

/* Finds or adds what references and the look-ahead need, and makes the engines, once. */
int guide_start(struct genarm_guide *g, struct genarm_error *err);

/* After adapters changed in place: no session made before may be stepped again. */
int guide_refresh_adapters(struct genarm_guide *g, struct genarm_error *err);

/* Runs the first n rows of the scratch, in one batch of an engine. */
int guide_forward(struct genarm_guide *g, int32_t engine, size_t n_rows, float *logits, struct genarm_error *err);

/* Scratch of at least n rows, or n floats, kept by the guide. */
int guide_reserve(struct genarm_guide *g, size_t n_rows, size_t n_logits, struct genarm_error *err);

#endif
