/* What reward models of whole responses have in common, whoever runs them. */
#ifndef GUIDE_REWARD_H
#define GUIDE_REWARD_H

#include "model/adapter.h"
#include "model/model.h"

/* Whether the adapter is one of the model's that rewards whole responses. */
int reward_check(const struct genarm_model *model, const struct genarm_adapter *adapter, struct genarm_error *err);

/* head . hidden, [n_embd] each: the reward of the response whose last token has that hidden state. */
double reward_of(const float *head, const float *hidden, int32_t n_embd);

#endif
