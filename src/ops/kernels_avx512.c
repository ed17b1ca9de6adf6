#define TILE_MR 14
#define TILE_NV 2
#include "ops/convert.h"
#include "ops/kernels.h"

#include "ops/gemm_tile.h"
#include "ops/rows.h"

#include "ops/few.h"

#include "ops/attention_tile.h"

const struct kernels kernels_avx512 = {.name = "avx512", .gemm = GEMM_KERNEL("avx512"), ROW_KERNELS, FEW_KERNELS,
                                       ATTENTION_KERNELS};
