/* A team of threads of this process, and whole training runs by it. */
#ifndef SUPPORT_TEAM_H
#define SUPPORT_TEAM_H

#include <pthread.h>

#include "support/train_run.h"

enum { MAX_RANKS = 8 };

/* How one rank runs, and what came of it. */
struct rank_run {
    struct genarm_model *model;
    const char *pairs, *output;
    struct genarm_train_params params; /* but for the team */
    int64_t stop_at_step;              /* this rank wants to stop; -1: never */
    int stop_at_call;                  /* the same at a call of `each`; 0: never */

    int rc;
    struct genarm_error err;
    int64_t step; /* the last one told */
    float *theta; /* [n], malloc'ed; NULL: there was no run */
    size_t n;
};

struct fake_team {
    int32_t size;
    struct rank_run runs[MAX_RANKS];
    int fail_after;   /* calls; then all fail; 0: none does */
    int32_t drifting; /* rank whose sums are an ulp off now and then; 0: none */

    pthread_barrier_t barrier;
    void *slots[MAX_RANKS];
    int calls[MAX_RANKS];
};

/* `size` ranks that all do the run of r with these params. */
void fake_team_init(struct fake_team *t, int32_t size, struct train_run *r, const struct genarm_train_params *params);
void fake_team_run(struct fake_team *t); /* fills rc, err, step, theta, n of every rank */
void fake_team_deinit(struct fake_team *t);

#endif
