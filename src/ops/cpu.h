/* What this processor can run. */
#ifndef OPS_CPU_H
#define OPS_CPU_H

#include "ops/few_bf16.h"
#include "ops/few_int16.h"
#include "ops/kernels.h"
#include "ops/ops.h"

/* The kernels called `name`, or the best when name is NULL; NULL when the processor does not have them. */
const struct kernels *cpu_kernels(const char *name);

/* The product of activations with weights for a precision, beside the given kernels: theirs, unless the processor has a
 * faster one that is as precise. */
const struct gemm_kernel *cpu_gemm(const struct kernels *kernels, enum ops_precision precision);

/* The products of a few rows in whole numbers and in bf16, NULL where the processor lacks them. */
const struct few_int16 *cpu_few_int16(void);
const struct few_bf16 *cpu_few_bf16(void);

#endif
