/* Which pairs of a step, or of a validation, a rank of a team computes: all ranks split alike, so that they all get about
 * the same number of rows. */
#ifndef TRAIN_SHARE_H
#define TRAIN_SHARE_H

#include "train/pack.h"

struct share {
    uint32_t *pairs; /* [n] this rank's, in the order that they came in */
    int32_t n;
    int32_t rank, size;
    struct share_item *items; /* [max_pairs] */
    int64_t *rows;            /* [size] of each rank */
};

/* For up to max_pairs at once. `team` may be NULL: one rank has all. */
int share_init(struct share *s, size_t max_pairs, const struct genarm_team *team, struct genarm_error *err);
void share_deinit(struct share *s); /* safe on a zeroed struct */

/* Splits n pairs; the longest are given out first, each to the rank with the fewest rows. A rank may get none. */
void share_split(struct share *s, const struct data *d, const uint32_t *pairs, int32_t n, enum pack_form form);

#endif
