/* What the kernels of few_int16.h share: how packed activations lie in memory, and how blocks of weights do. */
#ifndef OPS_FEW_INT16_TYPES_H
#define OPS_FEW_INT16_TYPES_H

#include <string.h>

#include "ops/few_int16.h"
#include "ops/vec.h"

enum {
    BLOCK = 32,   /* weights of a block */
    GROUP = 256,  /* activations with a common scale; weights of a super-block of the K types */
    GROUP_BLOCKS = GROUP / BLOCK,
    LARGEST = 32000 /* of a packed activation */
};

/* What is expanded once for each type. */
#define TYPES(X) X(Q8_0) X(Q4_0) X(Q4_1) X(Q4_K) X(Q5_K) X(Q6_K)

VEC_INLINE bool is_super(const enum ggml_type type) {
    return type == GGML_TYPE_Q4_K || type == GGML_TYPE_Q5_K || type == GGML_TYPE_Q6_K;
}

VEC_INLINE bool has_minimum(const enum ggml_type type) { return type != GGML_TYPE_Q8_0 && type != GGML_TYPE_Q6_K; }

/* Of a block, or of a super-block where there are such. */
VEC_INLINE size_t block_bytes(const enum ggml_type type) {
    switch (type) {
    case GGML_TYPE_Q8_0: return 34;
    case GGML_TYPE_Q4_0: return 18;
    case GGML_TYPE_Q4_1: return 20;
    case GGML_TYPE_Q4_K: return 144;
    case GGML_TYPE_Q5_K: return 176;
    default: return 210;
    }
}

VEC_INLINE size_t group_bytes(const enum ggml_type type) {
    return is_super(type) ? block_bytes(type) : GROUP_BLOCKS * block_bytes(type);
}

/* Scales and minima, 6 bits each, of the 8 blocks of a q4_K or q5_K super-block, in 12 bytes -> 8 and 8 bytes */
VEC_INLINE void scales_and_minima(const uint8_t *s, uint64_t *scales, uint64_t *minima) {
    uint32_t a, b, c;
    memcpy(&a, s, 4);
    memcpy(&b, s + 4, 4);
    memcpy(&c, s + 8, 4);
    const uint32_t six = 0x3f3f3f3fu, four = 0x0f0f0f0fu, two = 0x03030303u;
    *scales = (a & six) | (uint64_t)((c & four) | ((a >> 6 & two) << 4)) << 32;
    *minima = (b & six) | (uint64_t)((c >> 4 & four) | ((b >> 6 & two) << 4)) << 32;
}

/* A row of activations: two bytes each [n]; for each block the sum of its activations; for each group its scale. */
struct packed {
    const uint8_t *q;
    const float *sums, *scales; /* [n / BLOCK], [n / GROUP] rounded up */
};

static inline int64_t n_groups(int64_t n) { return (n + GROUP - 1) / GROUP; }

static inline size_t packed_bytes(int64_t n) {
    const size_t bytes = (size_t)n * sizeof(int16_t) + (size_t)(n / BLOCK + n_groups(n)) * sizeof(float);
    return (bytes + 63) / 64 * 64;
}

static inline struct packed packed_row(const void *x, int64_t n, int r) {
    const uint8_t *p = (const uint8_t *)x + (size_t)r * packed_bytes(n);
    const float *sums = (const float *)(const void *)(p + (size_t)n * sizeof(int16_t));
    return (struct packed){p, sums, sums + n / BLOCK};
}

#endif
