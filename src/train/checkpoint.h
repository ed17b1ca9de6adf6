/* Checkpoints: all that a run needs to go on to the bit, in one file of the folder <output>.ckpt.
 *
 * The file holds a JSON head (which run this is, how far it is), the adapter's numbers, the optimiser's moments and a
 * checksum. It is written beside the old one and renamed over it, so that at any moment one whole checkpoint is there.
 * Orders of pairs, dropout and schedules are functions of the seed and the step: no generator's state is kept.
 */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* What is saved and restored. Arrays are [n] and belong to the caller. */
struct checkpoint {
    const json_t *run; /* object: names and values that must agree for a checkpoint to fit; borrowed */
    const char *const *may_change; /* names in it that need not agree, up to a NULL; NULL: all must */
    json_t *changed; /* filled when read: name to [was, is] of those that do not; owned by the caller, NULL for none */
    int64_t step;      /* optimiser steps done */
    int64_t n_steps;   /* of the run: a checkpoint with more is damaged */
    int64_t validated; /* step of the last validation, or of the last epoch that was kept; -1: none */
    int64_t log_size;  /* bytes of the metrics log that belong to those steps; 0 without a log */
    size_t n;
    float *theta, *m, *v;
};

/* Folder of a run's checkpoint: malloc'ed "<output>.ckpt", NULL when out of memory. */
char *checkpoint_folder(const char *output);

bool checkpoint_exists(const char *folder);

/* Creates the folder and replaces what it holds. On failure the previous checkpoint is as it was. */
int checkpoint_write(const char *folder, const struct checkpoint *c, struct genarm_error *err);

/* Fills step, validated, log_size, changed and the arrays. GENARM_EFORMAT: damaged. GENARM_EMISMATCH: of another run; the
 * error names the first member of c->run that differs and may not. On failure *c is as before. */
int checkpoint_read(const char *folder, struct checkpoint *c, struct genarm_error *err);

/* Removes the folder with the files that this module puts there; others stay, and then the folder too. */
int checkpoint_remove(const char *folder, struct genarm_error *err);

#endif
