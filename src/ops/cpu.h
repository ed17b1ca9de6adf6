/* What this processor can run. The variable GENARM_CPU, where it is set, names the last of its instruction sets that may be
 * used: plain, avx2, avxvnni, avx512, avx512vnni, avx512bf16, amx; on ARM plain, neon, dotprod. */
#ifndef OPS_CPU_H
#define OPS_CPU_H

#include "base/error.h"
#include "ops/few_bf16.h"
#include "ops/few_int16.h"
#include "ops/kernels.h"
#include "ops/many.h"
#include "ops/ops.h"

/* Fails with GENARM_EINVAL when GENARM_CPU names nothing of this architecture; the functions below take that for no limit. */
int cpu_check_limit(struct genarm_error *err);

/* The kernels called `name`, or the best when name is NULL; NULL when the processor does not have them. */
const struct kernels *cpu_kernels(const char *name);

/* The product of activations with weights for a precision, beside the given kernels: theirs, unless the processor has a
 * faster one that is as precise. */
const struct gemm_kernel *cpu_gemm(const struct kernels *kernels, enum ops_precision precision);

/* The product of many rows with quantised weights in whole numbers, called `name` or the best; NULL where the processor lacks
 * it. */
const struct many_kernel *cpu_many(const char *name);

/* The same beside the given kernels where it is the fastest for a precision, NULL where what cpu_gemm gives is. */
const struct many_kernel *cpu_gemm_quantised(const struct kernels *kernels, enum ops_precision precision);

/* The products of a few rows in whole numbers, those called `name` or the best, and in bf16; NULL where the processor lacks
 * them. */
const struct few_int16 *cpu_few_int16(const char *name);
const struct few_bf16 *cpu_few_bf16(void);

/* Whether vectors of bf16 are multiplied faster than those of f32 and of whole numbers. They also are to be where GENARM_CPU says
 * avx512bf16 itself. */
bool cpu_bf16_is_fast(void);

#endif
