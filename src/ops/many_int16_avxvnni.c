/* many.h for AVX2 with sums of products, which processors without AVX-512 have too. */
#include "ops/many_int16.h"

const struct many_kernel many_int16_avxvnni = {.name = "avxvnni", MANY_KERNEL};
