/* What the tests of value guidance share: reward models with a head, and the right answer by brute force. Failures fail the
 * running cmocka test. */
#ifndef SUPPORT_VALUE_CASE_H
#define SUPPORT_VALUE_CASE_H

#include "genarm/genarm.h"
#include "guide/session.h"

enum { VALUE_MAX = 512 /* tokens of a sequence, or of a vocabulary */, VALUE_PROMPTS = 3 };

struct value_case {
    struct genarm_model *model, *padded; /* the vocabulary of the latter has padding */
    struct genarm_adapter *arm, *reward; /* on the model; the latter has a head */
    struct genarm_reward *brute;         /* the reward model by itself */
};
int value_case_setup(void **state);
int value_case_teardown(void **state);

/* ARGS with k candidates and a weight. */
struct genarm_value_params value_params(const struct value_case *f, int32_t k, float weight);

struct genarm_reward *value_new_reward(const struct genarm_model *model, const struct genarm_adapter *adapter,
                                       const char *template_name);

/* A guide with the ARM at a weight, unless it is 0, and value guidance, unless it is NULL. */
struct genarm_guide *value_guide(struct genarm_model *base, struct genarm_adapter *arm, float alpha, int32_t n_slots,
                                 const struct genarm_value_params *value);
void value_answer(struct genarm_session *s, int32_t *tokens, int n);
void value_end(struct genarm_guide *g, struct genarm_session *s);
void value_prompt(struct genarm_session *s, int i); /* one of VALUE_PROMPTS */

extern const struct genarm_message value_hello[1];

/* The golden adapter with a scalar head that is not 0, saved under a name and loaded for the model. */
struct genarm_adapter *value_adapter(const struct genarm_model *model, const char *lora, const char *name);

/* A guide of one thread and an f32 cache. */
struct genarm_guide_params value_guide_params(int32_t n_ctx, int32_t n_slots);

/* A session with a seed and a temperature, prompted with value_hello. */
struct genarm_session *value_session(struct genarm_guide *g, uint64_t seed, float temperature);

/* The tokens of the base's prompt and the answer so far. Returns how many. */
int32_t value_context(const struct genarm_session *s, int32_t *tokens);

/* log pi of the next token after given ones, [n_vocab], by a guide without value guidance that evaluates them anew. */
void value_plain(struct genarm_guide *plain, const int32_t *tokens, int32_t n, float *logp);

/* One way to a score: log pi of all tokens, the value of one of them after the session's answer so far. */
struct value_brute {
    struct genarm_guide *plain;
    double (*value)(const struct value_brute *b, const int32_t *context, int32_t n, int32_t n_prompt, int32_t token);
    struct genarm_reward *reward;
    int32_t k;
    float weight;
    struct genarm_guide *baseline, *reference; /* of roll-outs */
    int32_t n_rollout;
    double beta; /* 0: direct */
};

/* The reward of the answer behind n_prompt tokens with `token` behind it: ARGS. */
double value_args(const struct value_brute *b, const int32_t *context, int32_t n, int32_t n_prompt, int32_t token);

/* The reward of a list of answer tokens, whose last may end the turn. */
double value_reward(const struct value_brute *b, const int32_t *answer, int32_t n);

/* log pi [n_vocab] that the session's next step should draw from. Returns the greedy token. */
int32_t value_expected(const struct value_brute *b, const struct genarm_session *s, double *logp);

/* Steps the session n times and holds each of its distributions, and the greedy token, to brute force. Returns how often value
 * changed the greedy token. */
int value_check_steps(const struct value_brute *b, struct genarm_session *s, int n);

/* Steps n sessions of a guide together: each gives the tokens that it gave alone, [n_tokens, n]. Frees them and the guide. */
void value_check_together(struct genarm_guide *g, struct genarm_session **s, int n, const int32_t *alone, int n_tokens);

#endif
