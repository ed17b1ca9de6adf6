/* Which pairs are held out, and which pairs make up each optimiser step: functions of data, seed and options alone, so
 * that a resumed run needs no more than its step. */
#ifndef TRAIN_PLAN_H
#define TRAIN_PLAN_H

#include "train/data.h"

struct plan {
    uint32_t *train, *val; /* indices of pairs, ascending in val, [n_train] and [n_val] */
    int32_t n_train, n_val;
    int32_t batch_size, epochs;
    int64_t steps_per_epoch, n_steps; /* the last step of an epoch may be smaller */
    bool shuffle;
    uint64_t seed;
    int64_t epoch;   /* that `order` is of; -1: none yet */
    uint32_t *order; /* [n_train] */
};

/* Holds out about val_split of the pairs, at least one if that is positive. Pairs with equal prompts stay together, so that
 * what is held out is new, unless that takes much more or much less than the share. At least one pair is left to train. */
int plan_init(struct plan *p, const struct data *d, const struct genarm_train_params *params, struct genarm_error *err);
void plan_deinit(struct plan *p);

/* The pairs of a step in [0, n_steps): *n of them from the returned pointer on, valid until the next call. */
const uint32_t *plan_step(struct plan *p, int64_t step, int32_t *n);

/* Pairs of all steps before this one. */
int64_t plan_pairs_before(const struct plan *p, int64_t step);

#endif
