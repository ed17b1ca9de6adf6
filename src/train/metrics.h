/* The metrics log of a run: one JSON object a line. The first says what the run is, then there is one for each optimiser step,
 * one for each validation, and one where a process went on from a checkpoint. */
#ifndef TRAIN_METRICS_H
#define TRAIN_METRICS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "genarm/train.h"

struct metrics {
    FILE *stream; /* NULL: no log is wanted */
    char *path;
    int64_t kept; /* without a log: bytes that belong to the steps so far of one that an earlier process wrote */
};

/* path may be NULL. The file is cut to `size` bytes, the lines of the steps that a checkpoint knows; 0 empties it.
 * GENARM_EMISMATCH: no line ends there, so it is another run's. */
int metrics_open(struct metrics *m, const char *path, int64_t size, struct genarm_error *err);
void metrics_close(struct metrics *m);

/* Whether there is a log without a line in it. A pipe is taken for one. */
bool metrics_is_empty(const struct metrics *m);

/* {"step", "epoch", "loss", "accuracy", "margin", "chosen", "rejected", "learning_rate", "grad_norm", "pairs",
 * "pairs_per_second"} */
int metrics_step(struct metrics *m, const struct genarm_train_status *s, struct genarm_error *err);
/* {"step", "epoch", "val_loss", "val_accuracy", "val_margin", "val_chosen", "val_rejected"} */
int metrics_validation(struct metrics *m, const struct genarm_train_status *s, struct genarm_error *err);

/* Writes any other object as a line, if a log is wanted. Takes it over; NULL: there was no memory to make it. */
int metrics_write(struct metrics *m, json_t *object, struct genarm_error *err);
/* Adds a number to an object; JSON has no NaN: what is not finite is left out. */
void metrics_number(json_t *object, const char *key, double value);

/* Brings all lines to disk; *size: bytes of the file so far; without a log those of the one before. */
int metrics_sync(struct metrics *m, int64_t *size, struct genarm_error *err);

#endif
