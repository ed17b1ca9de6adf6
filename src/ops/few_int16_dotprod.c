/* few_int16.h for ARM processors with the dot product of bytes. */
#include "ops/few_int16_neon.h"

const struct few_int16 few_int16_dotprod = {.name = "dotprod", FEW_INT16_FUNCTIONS};
