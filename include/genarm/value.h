/* Value guidance: a reward model of whole responses steers while tokens are drawn, by looking ahead. It is what ARMs are
 * compared with: ARGS (Khanov et al., "ARGS: Alignment as Reward-Guided Search", ICLR 2024) and Transfer Q* (Chakraborty et
 * al., "Transfer Q Star: Principled Decoding for LLM Alignment", NeurIPS 2024).
 *
 * Where a token is to be drawn, the k likeliest tokens v of the mixture are candidates; every other token gets no probability:
 *
 *     score(v) = log pi(v | x, y_<t) + w * value(x, y_<t v)
 *
 * ARGS         value is the reward of the unfinished response y_<t v
 * Transfer Q*  value is the reward of y_<t v and up to n tokens more, which an aligned baseline rolls out greedily: an estimate
 *              of what the response will be worth
 *
 * A candidate that ends the turn is scored as the finished response. pi is the distribution after step 5 of genarm/steer.h
 * (schedules, gate, mixture, biases, grammar), so that candidates are only what all of these allow; what comes out is normalised,
 * and step 7 draws from it as ever: temperature 0 is ARGS-greedy, temperature T the softmax of score / T, ARGS-stochastic.
 *
 *     struct genarm_value_params value = genarm_value_default_params();
 *     value.model = base; value.adapter = reward_model; value.weight = 1.5f;
 *     genarm_guide_set_value(guide, &value, &err);
 *     ... genarm_session_new, genarm_session_prompt, genarm_session_step as with ARMs ...
 *
 * The candidates of all sessions that are stepped together are rows of one batch of the reward model, and so are those of the
 * roll-outs. A token costs k rows of the reward model; with roll-outs k * n rows of the baseline, as many of the base where they
 * are weighed, and k * (n + 1) of the reward model. Each slot has room for k candidates, which take as much memory as k more
 * sessions of each of these models would.
 */
#ifndef GENARM_VALUE_H
#define GENARM_VALUE_H

#include "genarm/guide.h"

#ifdef __cplusplus
extern "C" {
#endif

struct genarm_value_params {
    const struct genarm_model *model; /* the trajectory reward model: its base, the guide's or another one of its vocabulary */
    const struct genarm_adapter *adapter; /* ... and an adapter on it with a scalar head (training with --loss bt) */
    const char *template_name;       /* NULL (default): what the adapter records, else the model's own; copied */
    float weight;                    /* w, finite; default 1. Published: 1.5 (ARGS on HH-RLHF). 0: nothing but top-k */
    int32_t n_candidates;            /* k >= 1; default 10. More than there are tokens: all of them */
    int32_t n_rollout;               /* 0 (default): ARGS. n > 0: Transfer Q*, so many tokens at most are rolled out after each
                                        candidate, fewer where the baseline ends its turn or the context ends. Published: 20
                                        direct, 5 indirect */
    const struct genarm_adapter *baseline; /* of the roll-outs: a LoRA on the guide's base, trained by DPO or RL; NULL
                                        (default): the guide's base policy itself */
    bool indirect;                   /* Transfer Q* where the baseline was aligned with another reward than this one: the value is
                                        r exp(r / beta) pi_reference(roll-out) / pi_baseline(roll-out), see docs/methods.md */
    float beta;                      /* of `indirect`: KL coefficient that both rewards are taken to have, > 0; default 2, as in
                                        the published code */
};
struct genarm_value_params genarm_value_default_params(void);

/* Sets how all sessions of the guide are guided, in place of what was set before. Before the first session; model and
 * adapters must outlive the guide. GENARM_EINVAL: the adapter has no head or is another model's, k < 1, a weight that is not
 * finite, a baseline that is no adapter of the guide's base or cannot generate, a baseline or `indirect` without roll-outs,
 * `indirect` without an adapter that makes the baseline another policy than the model, a session exists. GENARM_EMISMATCH:
 * another vocabulary, padding aside; GENARM_EUNSUPPORTED: a reward model that our own graph does not run. On failure the
 * guide is as before.
 *
 * Sessions then take no drafts: genarm_session_set_draft is GENARM_EINVAL. Weights, schedules, grammars, saving, shifting
 * and prompts in pieces are as ever; genarm_session_score scores the mixture without the value. */
int genarm_guide_set_value(struct genarm_guide *guide, const struct genarm_value_params *params, struct genarm_error *err);

/* Tokens that went through a model for a session since it was made, prompts included, one count per policy that saw one. What
 * was evaluated once for several sessions counts for the one it was evaluated for. */
struct genarm_work {
    int64_t base;    /* the base policy */
    int64_t arms;    /* ARMs and their references */
    int64_t value;   /* the reward model */
    int64_t rollout; /* the baseline of roll-outs, and the base where it weighs them */
};
void genarm_session_get_work(const struct genarm_session *s, struct genarm_work *out);

#ifdef __cplusplus
}
#endif
#endif
