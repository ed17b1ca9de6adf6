/* many.h for AVX-512 with VNNI: 64 multiply-adds a cycle on Intel's cores, twice as many as of f32. */
#include "ops/many_int16.h"

const struct many_kernel many_int16_avx512vnni = {.name = "avx512vnni", MANY_KERNEL};
