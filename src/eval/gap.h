/* Recovered gap: how much of the way from one method (the base) to another (the fine-tuned one) a third one comes.
 *
 *     (mean x - mean from) / (mean to - mean from)
 *
 * 0: it is as `from`; 1: as `to`; above 1: better. NaN where `from` and `to` are equal; wide where they are close.
 */
#ifndef EVAL_GAP_H
#define EVAL_GAP_H

#include "eval/bootstrap.h"

/* Of three numbers, such as win rates. */
double gap_of(double x, double from, double to);

/* Of values of each of n prompts, such as rewards; the bootstrap draws prompts. A prompt that lacks one (NaN) is left out of
 * all three. */
int gap_interval(struct interval *out, const double *x, const double *from, const double *to, size_t n,
                 const struct bootstrap_params *params, struct genarm_error *err);

#endif
