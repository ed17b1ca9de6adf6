/* The reference's log-probabilities of the pairs, for losses that compare with them (DPO, IPO).
 *
 * Computed by forward passes of the very packs that are trained on, when a pair is first met, and kept: two numbers a pair.
 * So nothing has to be computed before the first step, a resumed run computes what it still needs, and a pass costs what
 * it would cost at any other time. The reference never changes and has no dropout, and custom nodes give a pair the same
 * bits in any pack, so that kept numbers are those that a resumed run finds. Where that is not so (plain nodes) nothing is
 * kept: the pack of a step is the same in both runs.
 */
#ifndef TRAIN_REFERENCE_H
#define TRAIN_REFERENCE_H

#include "train/backprop.h"

struct reference {
    const struct data *data;
    double (*sums)[SIDES]; /* [data->n_pairs]; NaN: not computed yet */
};

/* `data` must outlive it. */
int reference_init(struct reference *r, const struct data *data, struct genarm_error *err);
void reference_deinit(struct reference *r); /* safe on a zeroed struct */

/* The sums of the pack's pairs, [p->n_pairs]; the pack is of PACK_BOTH and r->data. */
int reference_of(struct reference *r, struct backprop *b, const struct pack *p, double (*sums)[SIDES],
                 struct genarm_error *err);

#endif
