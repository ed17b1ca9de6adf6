/* Trajectory-level reward models: one number for a prompt and its whole response.
 *
 *     r(x, y) = w . h,  h the hidden state, after the last norm, of the last token of y
 *
 * The model is a LoRA adapter with a scalar head w, as training with the loss bt writes it. Rewards have no unit and no zero:
 * only differences between responses to one prompt mean something; sigma(r_1 - r_2) is the Bradley-Terry probability that
 * the first is preferred.
 *
 *     genarm_reward_new(&reward, model, adapter, NULL, &err);
 *     genarm_reward_text(reward, &(struct genarm_message){"user", "Hello!"}, 1, "Hi.", true, &r, &err);
 *
 * A reward keeps what it computed of the last prompt and response: the next one is computed from where it departs, so that
 * several responses to one prompt, or the continuations of one prefix, cost their new tokens only. Not thread-safe: one
 * thread at a time uses a reward; several rewards may share a model.
 */
#ifndef GENARM_REWARD_H
#define GENARM_REWARD_H

#include "genarm/model.h"

#ifdef __cplusplus
extern "C" {
#endif

struct genarm_reward;

struct genarm_reward_params {
    int32_t n_ctx;     /* tokens of prompt and response; 0 (default): what the model was trained for, at most 4096 */
    int32_t n_batch;   /* most tokens of one forward pass; default 512 */
    int32_t n_threads; /* 0 (default): number of cores */
    const char *template_name; /* of the prompt, see genarm_template_apply; NULL (default): what the adapter was trained
                                  under, or, where it does not say, the model's own */
};
struct genarm_reward_params genarm_reward_default_params(void);

/* `params` may be NULL; the model and the adapter must outlive the reward. GENARM_EINVAL: the adapter has no head
 * (genarm_adapter_info.has_head), or is another model's. *out is owned by the caller: genarm_reward_free. */
int genarm_reward_new(struct genarm_reward **out, const struct genarm_model *model, const struct genarm_adapter *adapter,
                      const struct genarm_reward_params *params, struct genarm_error *err);
void genarm_reward_free(struct genarm_reward *r); /* NULL is fine */

/* Tokens that went through the model so far: less than were scored, by what was known from the one before. */
int64_t genarm_reward_n_evaluated(const struct genarm_reward *r);

/* The reward of a response of n_tokens >= 1 tokens of the model's vocabulary. Training saw the token that ends a turn
 * (genarm_token_eos) as the last of every response: leave it out only where a response is not finished.
 * GENARM_ECONTEXT when prompt and response exceed the context. */
int genarm_reward_tokens(struct genarm_reward *r, const struct genarm_message *messages, size_t n_messages,
                         const int32_t *tokens, size_t n_tokens, double *reward, struct genarm_error *err);

/* The same for a response as text, in which control tokens are text. `whole`: its end-of-turn token follows. */
int genarm_reward_text(struct genarm_reward *r, const struct genarm_message *messages, size_t n_messages,
                       const char *response, bool whole, double *reward, struct genarm_error *err);

#ifdef __cplusplus
}
#endif
#endif
