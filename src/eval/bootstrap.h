/* Intervals by the bootstrap: how far a number would move if other records had been drawn (Efron, "Bootstrap methods", 1979).
 *
 * Records (prompts) are drawn with replacement, the statistic is computed of each draw, and the interval lies between its
 * percentiles. A seed gives the same interval everywhere, and draws of equally many records under one seed are the same
 * draws, so that numbers of one table belong together. Values that are NaN are records nobody could judge: left out.
 *
 *     struct interval mean;
 *     bootstrap_mean(&mean, rewards, n, NULL, &err);
 *     printf("%.3f [%.3f, %.3f]\n", mean.value, mean.low, mean.high);
 */
#ifndef EVAL_BOOTSTRAP_H
#define EVAL_BOOTSTRAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* A number and where it lies, in its own unit. NaN: not defined. low and high are NaN too where there are fewer than two
 * records, or where the statistic is not defined in more than half of the draws. Percentiles need not enclose `value`. */
struct interval {
    double value, low, high;
};

struct bootstrap_params {
    int32_t n_resamples; /* draws; at least 100; default 2000 */
    uint64_t seed;       /* default 1 */
    double level;        /* of the interval, in (0, 1); default 0.95 */
};
struct bootstrap_params bootstrap_default_params(void);

/* The statistic of the records index[0..n), which may name one several times. NaN: not defined for these. */
typedef double bootstrap_statistic(const size_t *index, size_t n, const void *data);

/* Of n records in any form. `value` is the statistic of all of them in their order; n = 0: all NaN. `params` may be NULL here
 * and below. Errors: GENARM_EINVAL for params out of range, GENARM_ENOMEM. */
int bootstrap(struct interval *out, size_t n, bootstrap_statistic *statistic, const void *data,
              const struct bootstrap_params *params, struct genarm_error *err);

/* Mean of x[n]. */
int bootstrap_mean(struct interval *out, const double *x, size_t n, const struct bootstrap_params *params,
                   struct genarm_error *err);

/* Mean of a[i] - b[i]: a record keeps both its sides. One that lacks a side is left out. */
int bootstrap_difference(struct interval *out, const double *a, const double *b, size_t n,
                         const struct bootstrap_params *params, struct genarm_error *err);

/* sum of a[i] / sum of b[i], as tokens per second are; NaN where the sum below is 0. */
int bootstrap_ratio(struct interval *out, const double *a, const double *b, size_t n, const struct bootstrap_params *params,
                    struct genarm_error *err);

#endif
