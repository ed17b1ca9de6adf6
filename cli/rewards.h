/* The reward models of whole responses that --reward names. */
#ifndef CLI_REWARDS_H
#define CLI_REWARDS_H

#include "common.h"

#define REWARD_FORM "[NAME=]PATH[+ADAPTER]"

struct reward_set {
    struct arm_spec *specs; /* [n], as on the command line */
    struct genarm_model **models;     /* [n] models other than the base; NULL where none was loaded */
    struct genarm_adapter **adapters; /* [n] */
    struct genarm_reward **rewards;   /* [n] */
    size_t n;
};

/* `base` must outlive the set. */
int rewards_load(struct reward_set *s, const struct option_list *texts, struct genarm_model *base,
                 const struct model_args *model, const struct guide_args *guide, struct genarm_error *err);
void rewards_free(struct reward_set *s); /* safe on a zeroed struct */

/* values[n]: each model's reward of a response to a prompt. `open`: without end of turn. */
int rewards_compute(const struct reward_set *s, const struct genarm_message *messages, size_t n_messages,
                    const char *response, bool open, double *values, struct genarm_error *err);

/* {"NAME": reward}; NULL without memory. */
json_t *rewards_json(const struct reward_set *s, const double *values);

#endif
