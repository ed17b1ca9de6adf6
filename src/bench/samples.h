/* What repeated measurements of one thing say. */
#ifndef BENCH_SAMPLES_H
#define BENCH_SAMPLES_H

#include <stddef.h>

/* Of x [n], n >= 1. The standard deviation is that of a sample, with n - 1; 0 for a single one. */
double samples_mean(const double *x, size_t n);
double samples_deviation(const double *x, size_t n);

/* The middle one, or the mean of the two in the middle: a disturbed repetition does not move it. Sorts x. */
double samples_median(double *x, size_t n);

/* The smallest one that at least a share q, 0 < q <= 1, of them does not exceed: 0.95 for the 95th percentile. Sorts x. */
double samples_quantile(double *x, size_t n, double q);

#endif
