/* What memory gives, to hold the bytes that a token costs against. */
#ifndef BENCH_BANDWIDTH_H
#define BENCH_BANDWIDTH_H

#include <stdint.h>

/* GB/s that n_threads >= 1 together read from memory, far more of it than caches hold; the best of a few times. 0: there is not
 * enough memory or there are not enough threads. */
double bandwidth_measure(int32_t n_threads);

#endif
