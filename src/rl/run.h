/* The inside of a run of reinforcement learning: what rl.c makes, keeps and writes, and what step.c computes with. */
#ifndef RL_RUN_H
#define RL_RUN_H

#include <jansson.h>

#include "rl/batch.h"
#include "rl/options.h"
#include "train/metrics.h"
#include "train/optim.h"
#include "train/plan.h"

struct genarm_rl {
    const struct genarm_model *model;
    struct genarm_rl_params params; /* own copy; rank, alpha and targets as they are in effect */
    char *output, *folder;
    int lock; /* of the folder, train/start.h; -1: none */
    struct rl_prompts prompts;
    struct plan plan; /* which prompts make up each step */
    struct trainable adapter;
    struct trainable reference_adapter; /* zeroed: the reference is the model alone */
    struct adamw adamw;
    struct backprop *backprop;
    struct rollout rollout;
    float *theta, *gradient; /* [adapter.n] the adapter on the host, its gradient */
    float *kept;             /* [3, adapter.n] adapter and moments of the last finished step; NULL with one update a step */

    struct response *responses;    /* [max_responses] of the step at hand */
    struct genarm_sample *samples; /* [max_responses] */
    double *values;                /* [max_responses] of one reward */
    double *rewards;               /* [max_responses] weighted sums, then with penalties */
    double *advantages;            /* [max_responses] */
    double *means;                 /* [n_rewards] of the last step */
    size_t max_responses;

    json_t *run; /* what a checkpoint must agree with */
    struct metrics log;
    int64_t step;       /* finished */
    int64_t first_step; /* of this process */
    int64_t saved;      /* step of the last checkpoint; -1: none */
    double seconds;     /* of finished steps of this process */
    int64_t tokens;     /* sampled in them */

    struct genarm_rl_status status;
    int (*each)(const struct genarm_rl_status *status, void *user);
    void *user;
};

/* One step: samples, rewards, updates; fills rl->status and counts it. After a failure the adapter is that of the last finished
 * step. */
int rl_step(struct genarm_rl *rl, struct genarm_error *err);

/* Tells the caller where the run is; GENARM_ECANCELED when it is to stop. */
int rl_report(struct genarm_rl *rl, struct genarm_error *err);

#endif
