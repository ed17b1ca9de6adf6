/* What reinforcement learning maximises, as functions of numbers: advantages from rewards, and the loss of a response with its
 * derivative by the log-probability of each of its tokens.
 *
 * RLOO (Ahmadian et al., arXiv 2402.14740) and GRPO (Shao et al., arXiv 2402.03300; DAPO: arXiv 2503.14476; Dr. GRPO:
 * arXiv 2503.20783) as TRL computes them; docs/rl.md.
 */
#ifndef RL_OBJECTIVE_H
#define RL_OBJECTIVE_H

#include "genarm/rl.h"

const char *rl_method_name(enum genarm_rl_method method);   /* NULL outside the enum */
const char *rl_average_name(enum genarm_rl_average average);

/* A_i = R_i - 1/(k-1) sum_{j != i} R_j within each of n_groups groups of k >= 2; R includes the KL penalty. */
void advantages_rloo(const double *rewards, size_t n_groups, size_t k, double *out);

/* A_i = R_i - mean R, divided, with `scale`, by the group's standard deviation (of k - 1) + 1e-4. */
void advantages_grpo(const double *rewards, size_t n_groups, size_t k, bool scale, double *out);

/* Standard deviation of one group, of k - 1. */
double group_std(const double *rewards, size_t k);

struct objective {
    enum genarm_rl_method method;
    double kl_coef, clip_eps; /* kl_coef: of the term by token, grpo */
};

/* One response under the objective. */
struct objective_response {
    double advantage;
    double weight; /* rloo: of the response; grpo: of each token. 0: left out */
    int32_t n;     /* tokens */
    const float *logp;      /* [n] under the policy */
    const float *old;       /* [n] under the policy that sampled; NULL: the same, the ratio is 1 */
    const float *reference; /* [n] grpo with kl_coef > 0 */
};

/* weight times the loss of the response; derivatives[n], unless NULL, by each logp. *clipped grows by what was clipped: 1 for
 * the response (rloo), or its tokens (grpo). */
double objective_loss(const struct objective *o, const struct objective_response *r, float *derivatives, int64_t *clipped);

/* Weight of what objective_loss sums for the mean of a step: of each response (rloo), of each token of a response of n tokens
 * (grpo). n_responses: all of the step; n_tokens: of those that are not left out; max_tokens: of a response. */
double objective_weight(enum genarm_rl_method method, enum genarm_rl_average average, size_t n_responses, int64_t n_tokens,
                        int32_t n, int32_t max_tokens);

#endif
