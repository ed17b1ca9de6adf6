/* What this machine's arithmetic could reach, to hold measured rates against. */
#ifndef BENCH_PEAK_H
#define BENCH_PEAK_H

#include "ops/gemm.h"

/* GFLOPS of n_threads (at most 64) together for the multiply-adds that a product's kernel is made of, measured from
 * registers to registers. For a matrix unit: the kernel's own tile on panels that stay in the first-level cache. */
double peak_gflops(const struct gemm_kernel *kernel, int n_threads);

#endif
