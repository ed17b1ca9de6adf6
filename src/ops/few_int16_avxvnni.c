/* few_int16.h for AVX2 with sums of products, which processors without AVX-512 have too. */
#include "ops/few_int16_avx2.h"

const struct few_int16 few_int16_avxvnni = {.name = "avxvnni", FEW_INT16_FUNCTIONS};
