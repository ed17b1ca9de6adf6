/* Sums over pairs: of a step, of a validation. */
#ifndef TRAIN_TALLY_H
#define TRAIN_TALLY_H

#include "train/loss.h"
#include "train/pack.h"

struct tally {
    int64_t n, n_ranked; /* ranked: both responses were computed; rewards and right are of those */
    double loss, rewards[SIDES];
    int64_t right; /* pairs whose chosen response has the larger reward */
    const struct pair *worst; /* of this rank, with the largest loss; NULL: none yet */
    double worst_loss;
};

/* error_at with the place of a pair in its file. */
int tally_at_pair(const struct data *d, const struct pair *pair, int rc, struct genarm_error *err);

/* Adds the pairs of a pack, their losses times the weight of their objective; `weights` may be NULL: 1. A loss that is no
 * number is GENARM_EDIVERGED, naming the pair and `step` (from 1). */
int tally_add(struct tally *t, const struct pack *p, const struct loss_value *values, const double *weights,
              const struct data *d, int64_t step, struct genarm_error *err);

/* The worst pair of all ranks instead of this one's. */
int tally_find_worst(struct tally *t, const struct data *d, const struct genarm_team *team, struct genarm_error *err);

/* Sums the tallies of all ranks, each of which says with `rc` whether its own is whole: team_agree. */
int tally_of_all(struct tally *t, const struct genarm_team *team, int rc, struct genarm_error *err);

/* Means of a tally: the loss over all its pairs, the rest over those ranked; NaN where there are none. */
struct tally_means {
    double loss, accuracy, margin, chosen, rejected;
};
struct tally_means tally_means(const struct tally *t);

#endif
