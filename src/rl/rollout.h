/* Sampling of a step's responses: a guide whose base is the policy under training, and as many sessions in a batch as there are
 * slots. A slot that a finished response leaves is taken by the next one; a prompt is evaluated once for all responses to it.
 * What is sampled depends on the policy, the seeds and the number of slots, not on time. */
#ifndef RL_ROLLOUT_H
#define RL_ROLLOUT_H

#include "base/buf.h"
#include "guide/guide.h"
#include "rl/prompts.h"
#include "train/lora.h"

/* One response to a prompt. */
struct response {
    const struct rl_prompt *prompt;
    uint64_t seed;
    int32_t *tokens; /* [n], the one that ends the turn included */
    int32_t n;
    bool finished;   /* it ended by itself */
    struct buf text; /* valid UTF-8 without zero bytes; control tokens are left out */
};

struct rollout {
    struct genarm_adapter policy; /* points to what is trained */
    struct genarm_guide *guide;
    struct genarm_sampling sampling;
    int32_t max_new_tokens, n_parallel;
    struct genarm_session **sessions; /* [n_parallel] running */
    struct response **running;        /* [n_parallel] */
    int32_t *drawn;                   /* [n_parallel] tokens of a step */
};

/* `adapter` is what is trained; it and the model outlive the rollout. n_ctx: tokens of the longest prompt and response. */
int rollout_init(struct rollout *r, const struct genarm_model *model, const struct trainable *adapter,
                 const struct genarm_rl_params *params, int32_t n_ctx, struct genarm_error *err);
void rollout_deinit(struct rollout *r); /* safe on a zeroed struct */

/* Samples n responses, whose prompt and seed are set, under the adapter's numbers of the moment. `each` (may be NULL) is told
 * after every token how many are finished; a non-zero return stops with that code. */
int rollout_sample(struct rollout *r, struct response *responses, size_t n, int (*each)(size_t n_done, void *user),
                   void *user, struct genarm_error *err);

void response_deinit(struct response *r);

#endif
