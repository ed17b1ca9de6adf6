/* few_int16.h for AVX2. */
#include "ops/few_int16_avx2.h"

const struct few_int16 few_int16_avx2 = {.name = "avx2", FEW_INT16_FUNCTIONS};
