/* What of a trainer is seen inside the library only. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "genarm/train.h"

/* The adapter's numbers, [*n], in the layout of struct trainable; valid until the next step. */
const float *trainer_theta(const struct genarm_trainer *t, size_t *n);

#endif
