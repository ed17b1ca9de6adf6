/* The prompts of a run: an own copy, and their tokens as the policy sees them. */
#ifndef RL_PROMPTS_H
#define RL_PROMPTS_H

#include "genarm/rl.h"

struct rl_prompt {
    struct genarm_message *messages; /* [n_messages], strings owned */
    size_t n_messages;
    char *where;
    int32_t *tokens; /* [n_tokens] */
    int32_t n_tokens;
};

struct rl_prompts {
    struct rl_prompt *items; /* [n] */
    size_t n;
    int32_t longest; /* tokens */
    uint64_t hash;   /* of all tokens and lengths, in order */
    struct genarm_rl_report report;
};

/* Copies and tokenises; a prompt of more than max_tokens is dropped, counted and logged, also where none is left. On failure
 * *p is empty. `template_name` as in genarm_template_apply. */
int rl_prompts_init(struct rl_prompts *p, const struct genarm_model *model, const struct genarm_rl_prompt *prompts, size_t n,
                    const char *template_name, int32_t max_tokens, struct genarm_error *err);
void rl_prompts_deinit(struct rl_prompts *p); /* safe on a zeroed struct */

#endif
