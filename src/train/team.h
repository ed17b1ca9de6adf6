/* Ranks that train one adapter together, as the trainer sees them (struct genarm_team). A team of NULL, or of one, is a rank
 * alone: everything here then returns at once.
 *
 * Every function but the first three is called by all ranks in the same order. What fails on one rank must not leave the
 * others waiting: a rank that fails goes on to the next of these calls with its code, and there all ranks get that failure
 * and stop together.
 */
#ifndef TRAIN_TEAM_H
#define TRAIN_TEAM_H

#include <jansson.h>

#include "genarm/train.h"
#include "train/lora.h"

enum { TEAM_VALUES = 6 /* of team_add, at most */ };

bool team_works(const struct genarm_team *t); /* has more than one rank */
bool team_leads(const struct genarm_team *t); /* this rank writes what the run writes: the first, or one alone */
int team_check(const struct genarm_team *t, struct genarm_error *err);

/* Each rank says with `rc` how it fared. GENARM_OK if all did well; else, on all ranks, the error of the first rank that
 * failed, which is named unless all fail alike. A rank that is only stopped (GENARM_ECANCELED) comes after those. */
int team_agree(const struct genarm_team *t, int rc, struct genarm_error *err);

/* team_agree, and if all did well values[n] are summed over the ranks, in their order. */
int team_add(const struct genarm_team *t, int rc, double *values, int n, struct genarm_error *err);

/* team_agree, and if all did well numbers[n] become those of the first rank where they differ: another processor or C
 * library may round another way, and ranks would drift apart. *changed: they differed on some rank. */
int team_unify(const struct genarm_team *t, int rc, float *numbers, size_t n, bool *changed, struct genarm_error *err);

/* Sums over the ranks, the same bits on all of them. */
int team_sum(const struct genarm_team *t, float *values, size_t n, struct genarm_error *err);

/* The first rank's bytes on all. */
int team_share(const struct genarm_team *t, void *bytes, size_t n, struct genarm_error *err);

/* GENARM_EMISMATCH, naming a rank and what differs there, unless all ranks have the run (run.h) of the first and start from
 * the same adapter. */
int team_compare(const struct genarm_team *t, const json_t *run, const struct trainable *adapter,
                 struct genarm_error *err);

#endif
