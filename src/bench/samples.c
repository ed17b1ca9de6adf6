#include "bench/samples.h"

#include <math.h>
#include <stdlib.h>

double samples_mean(const double *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += x[i];
    }
    return sum / (double)n;
}

double samples_deviation(const double *x, size_t n) {
    const double mean = samples_mean(x, n);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (x[i] - mean) * (x[i] - mean);
    }
    return n > 1 ? sqrt(sum / (double)(n - 1)) : 0;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double samples_median(double *x, size_t n) {
    qsort(x, n, sizeof *x, by_value);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

double samples_quantile(double *x, size_t n, double q) {
    const double rank = ceil(q * (double)n - 1e-9); /* 0.07 * 100 is a little more than 7 */
    qsort(x, n, sizeof *x, by_value);
    return x[rank < 1 ? 0 : rank > (double)n ? n - 1 : (size_t)rank - 1];
}
