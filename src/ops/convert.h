/* Weights to f32 for the types where vector instructions beat ggml's own conversion; included once by each kernels_*.c. */
#include <ggml.h>

#include "ops/vec.h"

#ifdef HAS_V_LOAD_F16

static void f16_to_float(const void *x, float *y, int64_t n) {
    const uint16_t *h = x;
    int64_t i = 0;
    for (; i + VEC <= n; i += VEC) {
        v_store(y + i, v_load_f16(h + i));
    }
    for (; i < n; i++) {
        v_store_part(y + i, 1, v_set1_f16(h + i));
    }
}

enum { BLOCK = 32 }; /* values of a block of q8_0, q4_0 and q4_1 */

/* f16 scale, 32 signed bytes */
static void q8_0_to_float(const void *x, float *y, int64_t n) {
    const uint8_t *block = x;
    for (int64_t i = 0; i < n; i += BLOCK, block += 2 + BLOCK) {
        const vf d = v_set1_f16(block);
        UNROLL
        for (int j = 0; j < BLOCK; j += VEC) {
            v_store(y + i + j, v_mul(d, v_from_i8(block + 2 + j)));
        }
    }
}

/* f16 scale, 16 bytes: the low halves are the first 16 values, the high ones the rest, less 8 */
static void q4_0_to_float(const void *x, float *y, int64_t n) {
    const uint8_t *block = x;
    for (int64_t i = 0; i < n; i += BLOCK, block += 2 + BLOCK / 2) {
        const vf d = v_set1_f16(block);
        UNROLL
        for (int j = 0; j < BLOCK / 2; j += VEC) {
            v_store(y + i + j, v_mul(d, v_sub(v_from_half_bytes(block + 2 + j, 0), v_set1(8))));
            v_store(y + i + j + BLOCK / 2, v_mul(d, v_sub(v_from_half_bytes(block + 2 + j, 4), v_set1(8))));
        }
    }
}

/* f16 scale, f16 minimum, 16 bytes likewise */
static void q4_1_to_float(const void *x, float *y, int64_t n) {
    const uint8_t *block = x;
    for (int64_t i = 0; i < n; i += BLOCK, block += 4 + BLOCK / 2) {
        const vf d = v_set1_f16(block), m = v_set1_f16(block + 2);
        UNROLL
        for (int j = 0; j < BLOCK / 2; j += VEC) {
            v_store(y + i + j, v_fma(d, v_from_half_bytes(block + 4 + j, 0), m));
            v_store(y + i + j + BLOCK / 2, v_fma(d, v_from_half_bytes(block + 4 + j, 4), m));
        }
    }
}

static ggml_to_float_t own_to_float(enum ggml_type type) {
    switch (type) {
    case GGML_TYPE_F16: return f16_to_float;
    case GGML_TYPE_Q8_0: return q8_0_to_float;
    case GGML_TYPE_Q4_0: return q4_0_to_float;
    case GGML_TYPE_Q4_1: return q4_1_to_float;
    default: return NULL;
    }
}

#else
static ggml_to_float_t own_to_float(enum ggml_type type) {
    (void)type;
    return NULL;
}
#endif
