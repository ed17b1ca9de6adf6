#include "rl/objective.h"

#include <math.h>

static const char *const methods[] = {
#define METHOD_NAME(id, name, text) [id] = name,
    GENARM_RL_METHODS(METHOD_NAME)
#undef METHOD_NAME
};

static const char *const averages[] = {
#define AVERAGE_NAME(id, name, text) [id] = name,
    GENARM_RL_AVERAGES(AVERAGE_NAME)
#undef AVERAGE_NAME
};

const char *rl_method_name(enum genarm_rl_method method) {
    return (size_t)method < sizeof methods / sizeof *methods ? methods[method] : NULL;
}

const char *rl_average_name(enum genarm_rl_average average) {
    return (size_t)average < sizeof averages / sizeof *averages ? averages[average] : NULL;
}

/* ---- advantages ---- */

static double sum(const double *x, size_t n) {
    double s = 0;
    for (size_t i = 0; i < n; i++) {
        s += x[i];
    }
    return s;
}

double group_std(const double *rewards, size_t k) {
    const double mean = sum(rewards, k) / (double)k;
    double squares = 0;
    for (size_t i = 0; i < k; i++) {
        squares += (rewards[i] - mean) * (rewards[i] - mean);
    }
    return sqrt(squares / (double)(k - 1));
}

void advantages_rloo(const double *rewards, size_t n_groups, size_t k, double *out) {
    for (size_t g = 0; g < n_groups; g++, rewards += k, out += k) {
        const double all = sum(rewards, k);
        for (size_t i = 0; i < k; i++) {
            out[i] = rewards[i] - (all - rewards[i]) / (double)(k - 1);
        }
    }
}

void advantages_grpo(const double *rewards, size_t n_groups, size_t k, bool scale, double *out) {
    for (size_t g = 0; g < n_groups; g++, rewards += k, out += k) {
        const double mean = sum(rewards, k) / (double)k;
        const double divisor = scale ? group_std(rewards, k) + 1e-4 : 1;
        for (size_t i = 0; i < k; i++) {
            out[i] = (rewards[i] - mean) / divisor;
        }
    }
}

/* ---- losses ---- */

struct surrogate {
    double loss, slope; /* slope: its derivative by log r */
    bool clipped;
};

/* -min(r A, clip(r, 1 - eps, 1 + eps) A), with slope -r A, or 0 where it is clipped. */
static struct surrogate surrogate(double ratio, double advantage, double eps) {
    const double bounded = fmin(fmax(ratio, 1 - eps), 1 + eps);
    if (bounded * advantage < ratio * advantage) {
        return (struct surrogate){.loss = -bounded * advantage, .clipped = true};
    }
    return (struct surrogate){.loss = -ratio * advantage, .slope = -ratio * advantage};
}

/* The response is one action: r = exp(sum of log-ratios). */
static double rloo_loss(const struct objective *o, const struct objective_response *r, float *derivatives,
                        int64_t *clipped) {
    double log_ratio = 0;
    for (int32_t i = 0; i < r->n && r->old; i++) {
        log_ratio += (double)r->logp[i] - r->old[i];
    }
    const struct surrogate s = surrogate(exp(log_ratio), r->advantage, o->clip_eps);
    *clipped += s.clipped;
    for (int32_t i = 0; i < r->n && derivatives; i++) {
        derivatives[i] = (float)(r->weight * s.slope);
    }
    return r->weight * s.loss;
}

/* Each token is an action, with the KL term exp(d) - d - 1, d = log pi_ref - log pi. */
static double grpo_loss(const struct objective *o, const struct objective_response *r, float *derivatives,
                        int64_t *clipped) {
    double loss = 0;
    for (int32_t i = 0; i < r->n; i++) {
        const double logp = r->logp[i], log_ratio = r->old ? logp - r->old[i] : 0;
        struct surrogate s = surrogate(exp(log_ratio), r->advantage, o->clip_eps);
        *clipped += s.clipped;
        if (o->kl_coef > 0) {
            const double d = r->reference[i] - logp;
            s.loss += o->kl_coef * (expm1(d) - d);
            s.slope -= o->kl_coef * expm1(d);
        }
        loss += r->weight * s.loss;
        if (derivatives) {
            derivatives[i] = (float)(r->weight * s.slope);
        }
    }
    return loss;
}

double objective_loss(const struct objective *o, const struct objective_response *r, float *derivatives,
                      int64_t *clipped) {
    if (!(r->weight > 0)) {
        for (int32_t i = 0; i < r->n && derivatives; i++) {
            derivatives[i] = 0;
        }
        return 0;
    }
    return o->method == GENARM_RL_RLOO ? rloo_loss(o, r, derivatives, clipped) : grpo_loss(o, r, derivatives, clipped);
}

double objective_weight(enum genarm_rl_method method, enum genarm_rl_average average, size_t n_responses,
                        int64_t n_tokens, int32_t n, int32_t max_tokens) {
    const double responses = (double)n_responses;
    if (method == GENARM_RL_RLOO) {
        return 1 / responses;
    }
    return average == GENARM_RL_DAPO          ? 1 / (double)n_tokens
           : average == GENARM_RL_BY_RESPONSE ? 1 / (responses * n)
                                              : 1 / (responses * max_tokens);
}
