/* Which pairs are held out, and which pairs make up each optimiser step: functions of data, seed and options alone, so
 * that a resumed run needs no more than its step. */
#ifndef TRAIN_PLAN_H
#define TRAIN_PLAN_H

#include "train/data.h"

struct plan {
    uint32_t *train, *val; /* indices of pairs, ascending, so that those of an objective are neighbours: [n_train], [n_val] */
    int32_t n_train, n_val;
    int32_t n_objectives;              /* 1 without objectives */
    int32_t first[OBJECTIVES_MAX + 1]; /* train[first[i] .. first[i + 1]) are of objective i */
    int32_t longest;                   /* pairs of the objective that has the most: an epoch; others begin again */
    int32_t draws;                     /* preferences of a step */
    int32_t batch_size, epochs;
    int64_t steps_per_epoch, n_steps; /* the last step of an epoch may be smaller */
    bool shuffle;
    uint64_t seed;
    int64_t pass[OBJECTIVES_MAX]; /* through its pairs, that an objective's part of `order` is of; -1: none yet */
    uint32_t *order;              /* [n_train] */
    uint32_t *step;               /* [n_objectives * batch_size] pairs of one step */
    size_t most;                  /* pairs of a step or of a validation: more than all, where a step repeats some */
};

/* Holds out about val_split of the pairs, at least one if that is positive. Pairs with equal prompts stay together, so that
 * what is held out is new, unless that takes much more or much less than the share. At least one pair is left to train. */
int plan_init(struct plan *p, const struct data *d, const struct genarm_train_params *params, struct genarm_error *err);
void plan_deinit(struct plan *p);

/* The pairs of a step in [0, n_steps): *n of them from the returned pointer on, valid until the next call. Those that share
 * a preference are neighbours, equally many of each objective. */
const uint32_t *plan_step(struct plan *p, int64_t step, int32_t *n);

/* Where, among the n pairs of a step, those end that share preference number `draw`. */
int32_t plan_draw_end(const struct plan *p, int32_t n, int32_t draw);

/* Pairs of all steps before this one. */
int64_t plan_pairs_before(const struct plan *p, int64_t step);

#endif
