/* Pairs through backprop, one micro-batch at a time, with the reference where the loss wants one; their losses into a
 * tally. */
#ifndef TRAIN_BATCHES_H
#define TRAIN_BATCHES_H

#include "train/backprop.h"
#include "train/reference.h"
#include "train/tally.h"

struct batches {
    const struct data *data;
    const struct loss *loss;
    struct backprop *backprop;
    int32_t limit;              /* pairs of a micro-batch; 0: as many as fit in about 1024 rows */
    struct reference reference; /* zeroed: the loss has none */
    struct loss_value *values;  /* [max_pairs] of a micro-batch */
    double (*sums)[SIDES];      /* [max_pairs] of a micro-batch, under the reference */
};

/* For up to max_pairs at once. All that is given must outlive it. */
int batches_init(struct batches *b, const struct data *data, size_t max_pairs, const struct loss *loss,
                 struct backprop *backprop, int32_t limit, struct genarm_error *err);
void batches_deinit(struct batches *b); /* safe on a zeroed struct */

/* What of a pair is computed; with `both`, both responses whatever the loss looks at. */
enum pack_form batches_form(const struct batches *b, bool both);

/* Runs the next of pairs[n], as many as *done grows by. `step` (from 1) is for messages. */
int batches_run(struct batches *b, const uint32_t *pairs, int32_t n, int32_t *done, enum pack_form form,
                const struct backprop_job *job, int64_t step, struct tally *tally, struct genarm_error *err);

#endif
