/* many.h for AVX2. */
#include "ops/many_int16.h"

const struct many_kernel many_int16_avx2 = {.name = "avx2", MANY_KERNEL};
