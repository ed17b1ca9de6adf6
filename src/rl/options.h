/* The options of a run of reinforcement learning: defaults, checks, a copy of its own, and what makes two runs the same. */
#ifndef RL_OPTIONS_H
#define RL_OPTIONS_H

#include <jansson.h>

#include "genarm/rl.h"

/* Errors name the option and its range. */
int rl_options_check(const struct genarm_rl_params *p, struct genarm_error *err);

/* Copies params with their strings and rewards, whose names are filled in. */
int rl_options_copy(struct genarm_rl_params *to, const struct genarm_rl_params *from, struct genarm_error *err);
void rl_options_deinit(struct genarm_rl_params *p);

/* A new object with every option that the result depends on; NULL when out of memory. */
json_t *rl_options_to_json(const struct genarm_rl_params *p);

#endif
