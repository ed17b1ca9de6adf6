/* Whole runs of reinforcement learning on a tiny model in a folder of their own. */
#ifndef SUPPORT_RL_RUN_H
#define SUPPORT_RL_RUN_H

#include "genarm/genarm.h"
#include "support/train_run.h"

/* Rewards a response with how often a letter is in it, per byte; *user is the letter. */
int reward_letter(void *user, const struct genarm_sample *samples, size_t n, double *rewards, struct genarm_error *err);

/* Small and quick: 6 prompts, 2 a step, 8 samples of up to 12 tokens, one thread, logged, letter 'e' rewarded. */
struct genarm_rl_params rl_run_params(const struct train_run *r);

/* A run from its options to the end, or until `each` stops it; returns the code of what failed. */
int rl_run(struct train_run *r, const struct genarm_rl_params *params,
           int (*each)(const struct genarm_rl_status *, void *), void *user, struct genarm_error *err);

/* The number of a member of a line of the log, from 0; fails the test where there is none. */
double rl_logged(const struct train_run *r, int line, const char *key);
int rl_count_logged(const struct train_run *r);

/* The adapter that a run wrote, flat: [*n], malloc'ed. `b` alone: only the matrices B. */
float *rl_numbers(const struct train_run *r, const char *path, bool b, size_t *n);

#endif
