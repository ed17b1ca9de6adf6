/* few_int16.h for any 64-bit ARM processor: products of 16 bits. */
#include "ops/few_int16_neon.h"

const struct few_int16 few_int16_neon = {.name = "neon", FEW_INT16_FUNCTIONS};
