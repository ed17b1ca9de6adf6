/* Online reinforcement learning: a LoRA policy on a frozen model, trained on responses that it samples itself, for any weighted
 * sum of rewards and against a KL penalty to the model.
 *
 *     max_theta  E_{y ~ pi_theta(.|x)} [ sum_i w_i r_i(x, y) ] - kl_coef KL(pi_theta || pi_ref)
 *
 * RLOO takes the whole response for one action: the KL penalty is part of the reward, the baseline of a response is the mean
 * reward of the others of its group (Ahmadian et al., arXiv 2402.14740). GRPO normalises rewards within the group and
 * has a KL term for every token (Shao et al., arXiv 2402.03300, eq. 3, 4). docs/rl.md has the formulas; names and details
 * follow TRL's RLOOTrainer and GRPOTrainer.
 *
 *     const struct genarm_rl_reward rewards[] = {{.source = helpful, .weight = 0.7}, {.source = harmless, .weight = 0.3}};
 *     params.rewards = rewards; params.n_rewards = 2;
 *     genarm_rl_new(&rl, model, prompts, n_prompts, "policy.gguf", &params, NULL, &err);
 *     genarm_rl_run(rl, NULL, NULL, &err);
 *
 * A run's checkpoints go to <output>.ckpt/, the adapter to <output>. The base of a guide that takes the adapter
 * (genarm_guide_params.base_adapter) is the policy.
 */
#ifndef GENARM_RL_H
#define GENARM_RL_H

#include "genarm/source.h"
#include "genarm/train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The one list of methods. */
#define GENARM_RL_METHODS(X)                                                                                 \
    X(GENARM_RL_RLOO, "rloo", "REINFORCE with a leave-one-out baseline, KL in the reward")                   \
    X(GENARM_RL_GRPO, "grpo", "rewards normalised within the group, KL by token")

enum genarm_rl_method {
#define GENARM_RL_METHOD_ENUM(id, name, text) id,
    GENARM_RL_METHODS(GENARM_RL_METHOD_ENUM)
#undef GENARM_RL_METHOD_ENUM
};

/* How GRPO's terms of tokens are averaged: id, name, what. */
#define GENARM_RL_AVERAGES(X)                                                                                \
    X(GENARM_RL_DAPO, "dapo", "over all tokens of a step")                                                   \
    X(GENARM_RL_BY_RESPONSE, "grpo", "over the tokens of a response, then over responses, as published")     \
    X(GENARM_RL_DR_GRPO, "dr-grpo", "their sum, divided by the largest number of tokens that there can be")

enum genarm_rl_average {
#define GENARM_RL_AVERAGE_ENUM(id, name, text) id,
    GENARM_RL_AVERAGES(GENARM_RL_AVERAGE_ENUM)
#undef GENARM_RL_AVERAGE_ENUM
};

struct genarm_rl_prompt {
    const struct genarm_message *messages; /* [n_messages], the last one is the user's */
    size_t n_messages;
    const char *where; /* of errors: "file:line"; NULL: its number */
};

/* One of the rewards that are added up. A resumed run is the uninterrupted one only where a reward is the same when it is asked
 * again. */
struct genarm_rl_reward {
    const char *name; /* unique; NULL: the source's */
    double weight;    /* finite */
    struct genarm_source *source; /* borrowed; NULL: `score` */
    /* rewards[n], of samples that come group by group. A negative code with *err filled stops the run. */
    int (*score)(void *user, const struct genarm_sample *samples, size_t n, double *rewards, struct genarm_error *err);
    void *user;
};

struct genarm_rl_params {
    enum genarm_rl_method method; /* default RLOO */
    const struct genarm_rl_reward *rewards; /* [n_rewards], at least one */
    size_t n_rewards;
    double kl_coef;            /* >= 0; default .05 (of TRL's RLOO) */
    double missing_eos_penalty; /* >= 0, subtracted from the reward of responses that did not end; default 0 */
    bool mask_truncated;       /* responses that did not end are left out of the loss; default false */
    int32_t group_size;        /* samples of a prompt, even; default 8 */
    int32_t num_iterations;    /* updates on the samples of a step; default 1 */
    double clip_eps;           /* range of the probability ratio in them; default .2 */
    bool scale_rewards;        /* grpo: advantages are divided by the group's standard deviation; default true */
    enum genarm_rl_average average; /* grpo; default GENARM_RL_DAPO */

    int32_t max_new_tokens;    /* of a response, its end included; default 256 */
    double temperature;        /* > 0; default 1. Log-probabilities of all terms are at this temperature */
    int32_t top_k;             /* 0 (default): off. What is cut off in sampling still counts in log-probabilities */
    double top_p, min_p;       /* 1 and 0 (defaults): off */
    int32_t n_parallel;        /* responses sampled at once; default 16 */
    bool kv_f32;               /* KV cache of sampling in f32 instead of f16 */

    int64_t steps; /* 0 (default): training.epochs passes over the prompts */

    /* Adapter, optimiser, run: as genarm_trainer takes them. batch_size: prompts of a step (default 8); micro_batch: pairs of
     * responses; max_length: prompt and response, longer prompts are left out; warmup and the schedule count updates;
     * learning_rate 1e-4 (TRL's 1e-6 is for whole models), linear, weight_decay 0; reference_adapter: the KL's reference is
     * the model with it. GENARM_EINVAL: team, objectives. Not used: loss, beta, margin, label_smoothing, length_normalize,
     * val_split, format, label, resume_changed. */
    struct genarm_train_params training;
};
struct genarm_rl_params genarm_rl_default_params(void);

/* Where a run is. Numbers are means over the responses of the last finished step; NaN before the first of this process. */
struct genarm_rl_status {
    int64_t step, n_steps;      /* finished, and to do in all */
    int64_t first_step;         /* finished before this process (resumed) */
    int64_t sampled, to_sample; /* responses of the step at hand that are there, of how many */
    bool finished_step;         /* the numbers below are new */
    double reward;              /* weighted sum of rewards, without penalties */
    double reward_std;          /* its standard deviation within a group */
    const double *rewards;      /* [n_rewards] of each reward alone, or NULL before the first step */
    size_t n_rewards;
    double kl;                  /* log pi - log pi_ref of a whole response, nats: an estimate of the KL divergence */
    double length;              /* tokens */
    double finished;            /* share of responses that ended by themselves */
    double loss, grad_norm, learning_rate; /* of the last update; grad_norm before clipping */
    double clipped;             /* share of responses (rloo) or tokens (grpo) whose ratio was clipped in the last update */
    double tokens_per_second;   /* sampled tokens, of all time spent in this process */
};

/* What happened to the prompts. */
struct genarm_rl_report {
    int64_t read, kept;
    int64_t dropped_long; /* no room for max_new_tokens within max_length, or for two responses within 8192 tokens */
};

struct genarm_rl;

/* Prepares, or resumes, a run. Prompts, params and their strings are copied; model and sources must outlive the run. `report`
 * may be NULL. GENARM_EINVAL names the option; when resuming, GENARM_EMISMATCH what differs. */
int genarm_rl_new(struct genarm_rl **out, const struct genarm_model *model, const struct genarm_rl_prompt *prompts,
                  size_t n_prompts, const char *output, const struct genarm_rl_params *params, struct genarm_rl_report *report,
                  struct genarm_error *err);

/* Runs to the end, calling `each` (may be NULL) after every token of all responses on their way, every micro-batch and every
 * step; a non-zero return writes a checkpoint of the last finished step and stops with GENARM_ECANCELED. A reward, a
 * log-probability or a gradient that is no number stops with GENARM_EDIVERGED, naming step and prompt. After any failure the
 * last checkpoint is there to resume from. On success the adapter is at `output` and the checkpoint folder is removed. */
int genarm_rl_run(struct genarm_rl *rl, int (*each)(const struct genarm_rl_status *status, void *user), void *user,
                  struct genarm_error *err);

void genarm_rl_free(struct genarm_rl *rl); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
