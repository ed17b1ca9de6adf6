/* few_int16.h with a float for the scale of each block, for vectors of 16 or 32 bytes; included once by each file of an
 * instruction set, which gives before
 *
 *     vq                                16 weights in lanes of vq_lane, 8 bits or more
 *     vq_load, vq_load_signed           16 bytes -> vq
 *     v_dot16(q, x), v_dot32(q, p, x)   sums of products with 16 or 32 packed activations, as floats
 *     pack16(to, x, by)                 16 numbers x * by, rounded, packed to 32 bytes; returns their sum
 *
 * A lane sums at most 8 products of 128, the largest weight, and 32000 between two conversions: below 2^25, no matter which
 * weights and activations.
 *
 * A file whose weights have 16 bits may define HAS_WHOLE_SCALES. The scales of the K types, whole numbers, are then multiplied
 * into weights, and sums become floats once or twice for 256 weights: an instruction in five less, of Q6_K one in three. It gives
 *
 *     vi, vi_zero(), vi_to_float(a)     sums of products in lanes of 32 bits
 *     vq_times(q, twice)                weights times a scale, which is in both halves of `twice`
 *     vi_add_dot32(sum, q, p, x)        sum and the products of v_dot32
 */
#include "ops/few_int16_types.h"

enum { N_SCALES = 16 /* of a group, at most */ };

/* ---- activations ----------------------------------------------------------------------------------------------- */

/* NaN if any is no number: a maximum may forget it, and the scale is where it shows in every product. */
static float largest_of(const float *x, int64_t n) {
    vf largest = v_zero(), no_number = v_zero();
    float lanes[VEC], most = 0;
    for (int64_t i = 0; i < n; i += VEC) {
        const vf a = v_load(x + i);
        largest = v_max(largest, v_max(a, v_sub(v_zero(), a)));
        no_number = v_fma(a, v_zero(), no_number);
    }
    v_store(lanes, largest);
    for (int i = 0; i < VEC; i++) {
        most = lanes[i] > most ? lanes[i] : most;
    }
    return most + v_sum(no_number);
}

static void pack(enum few_int16_form form, void *packed, const float *x, int64_t n) {
    (void)form; /* there is one */
    uint8_t *q = packed;
    float *sums = (float *)(void *)(q + (size_t)n * sizeof(int16_t)), *scales = sums + n / BLOCK;
    float by = 0;
    for (int64_t i = 0; i < n; i += BLOCK) {
        if (i % GROUP == 0) {
            const float largest = largest_of(x + i, n - i < GROUP ? n - i : GROUP);
            by = largest > 0 ? LARGEST / largest : 0;
            scales[i / GROUP] = largest / LARGEST;
        }
        const float sum = (float)pack16(q + 2 * i, x + i, by) + (float)pack16(q + 2 * i + BLOCK, x + i + BLOCK / 2, by);
        sums[i / BLOCK] = scales[i / GROUP] * sum;
    }
}

/* ---- weights: w = scale q + minimum ------------------------------------------------------------------------------ */

VEC_INLINE vq vq_set1(int a) { return (vq){0} + (vq_lane)a; }
VEC_INLINE vq vq_right(vq q, int n) { return q >> vq_set1(n); }
VEC_INLINE vq vq_left(vq q, int n) { return q << vq_set1(n); }
VEC_INLINE vq vq_and(vq q, int a) { return q & vq_set1(a); }

/* 32 weights */
struct numbers {
    vq low, high;
};

/* The low (shift 0) or high (4) halves of 16 bytes */
VEC_INLINE vq half_bytes(const uint8_t *p, const int shift) {
    return shift ? vq_right(vq_load(p), 4) : vq_and(vq_load(p), 15);
}

/* Of q4_K and q5_K, block b. f16 d, f16 dmin, 12 bytes of scales, for q5_K 32 bytes of fifth bits, then for each two blocks 32
 * bytes: their low and their high halves. */
VEC_INLINE vq sixteen_k4_k5(const enum ggml_type type, const uint8_t *p, const int b, const int half) {
    const bool fifth = type == GGML_TYPE_Q5_K;
    vq q = half_bytes(p + (fifth ? 48 : 16) + b / 2 * 32 + half * 16, b % 2 * 4);
    if (fifth) {
        const vq bits = vq_load(p + 16 + half * 16);
        q |= vq_and(b < 4 ? vq_left(bits, 4 - b) : vq_right(bits, b - 4), 16);
    }
    return q;
}

/* Of q6_K, block b. 128 bytes of low halves, 64 of pairs of high bits, 16 signed scales, f16 d. Each 128 weights: four blocks,
 * with the low halves of bytes 0 .. 31 and 32 .. 63, then their high ones, and bits 0, 2, 4, 6 of 32 bytes; less 32. */
VEC_INLINE vq sixteen_k6(const uint8_t *p, const int b, const int half) {
    const int quarter = b % 4;
    const vq low = half_bytes(p + b / 4 * 64 + quarter % 2 * 32 + half * 16, quarter / 2 * 4);
    const vq pairs = vq_load(p + 128 + b / 4 * 32 + half * 16);
    const vq high = quarter == 3 ? vq_right(pairs, 2) : vq_left(pairs, 4 - 2 * quarter);
    return (low | vq_and(high, 48)) - vq_set1(32);
}

/* Block b of the group at p. */
VEC_INLINE struct numbers numbers_of(const enum ggml_type type, const uint8_t *p, const int b) {
    const uint8_t *block = p + (size_t)b * block_bytes(type) + (type == GGML_TYPE_Q4_1 ? 4 : 2);
    switch (type) {
    case GGML_TYPE_Q8_0: return (struct numbers){vq_load_signed(block), vq_load_signed(block + 16)};
    case GGML_TYPE_Q4_0:
    case GGML_TYPE_Q4_1: return (struct numbers){half_bytes(block, 0), half_bytes(block, 4)};
    case GGML_TYPE_Q6_K: return (struct numbers){sixteen_k6(p, b, 0), sixteen_k6(p, b, 1)};
    default: return (struct numbers){sixteen_k4_k5(type, p, b, 0), sixteen_k4_k5(type, p, b, 1)};
    }
}

VEC_INLINE int scales_per_block(const enum ggml_type type) { return type == GGML_TYPE_Q6_K ? 2 : 1; }

/* The scales of a group's n blocks, to be spread one by one, and their minima. */
struct levels {
    float scales[N_SCALES];
    vf minima[GROUP_BLOCKS / VEC]; /* undefined without minima, 0 beyond n */
};

typedef uint16_t eight_f16 __attribute__((vector_size(16)));

/* 16-bit floats `stride` bytes apart: n of them, 1 or 8, then zeros */
VEC_INLINE eight_f16 f16_apart(const uint8_t *p, size_t stride, const int n) {
    uint16_t h[GROUP_BLOCKS];
    UNROLL
    for (int b = 0; b < GROUP_BLOCKS; b++) {
        h[b] = 0;
        if (b < n) {
            memcpy(&h[b], p + (size_t)b * stride, sizeof *h);
        }
    }
    return (eight_f16){h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]};
}

VEC_INLINE void levels_of_blocks(struct levels *l, const enum ggml_type type, const uint8_t *p, const int n) {
    const eight_f16 scales = f16_apart(p, block_bytes(type), n), minima = f16_apart(p + 2, block_bytes(type), n);
    UNROLL
    for (int v = 0; v < GROUP_BLOCKS; v += VEC) {
        const vf scale = v_load_f16((const uint16_t *)&scales + v);
        v_store(l->scales + v, scale);
        if (type == GGML_TYPE_Q4_0) { /* less 8 */
            l->minima[v / VEC] = v_mul(scale, v_set1(-8));
        } else if (type == GGML_TYPE_Q4_1) {
            l->minima[v / VEC] = v_load_f16((const uint16_t *)&minima + v);
        }
    }
}

VEC_INLINE void levels_of_super_block(struct levels *l, const enum ggml_type type, const uint8_t *p) {
    const vf d = v_set1_f16(p + (type == GGML_TYPE_Q6_K ? 208 : 0));
    if (type == GGML_TYPE_Q6_K) {
        UNROLL
        for (int v = 0; v < N_SCALES; v += VEC) {
            v_store(l->scales + v, v_mul(d, v_from_i8(p + 192 + v)));
        }
        return;
    }
    const vf less = v_sub(v_zero(), v_set1_f16(p + 2));
    uint64_t scales, minima;
    scales_and_minima(p + 4, &scales, &minima);
    UNROLL
    for (int v = 0; v < GROUP_BLOCKS; v += VEC) {
        v_store(l->scales + v, v_mul(d, v_from_i8((const uint8_t *)&scales + v)));
        l->minima[v / VEC] = v_mul(less, v_from_i8((const uint8_t *)&minima + v));
    }
}

/* ---- products --------------------------------------------------------------------------------------------------- */

/* minima [n blocks, 1 or 8] times the sums of activations */
VEC_INLINE vf add_minima(vf sum, const vf minima[], const float *sums, const int n) {
    UNROLL
    for (int v = 0; v < n; v += VEC) {
        sum = v_fma(minima[v / VEC], n == 1 ? v_load_part(sums, 1) : v_load(sums + v), sum);
    }
    return sum;
}

#ifdef HAS_WHOLE_SCALES

/* The scales of a super-block's blocks, each twice, so that four bytes are spread as they are loaded. */
struct whole_scales {
    uint32_t twice[N_SCALES];
};

VEC_INLINE void whole_scales_of(struct whole_scales *s, const enum ggml_type type, const uint8_t *p) {
    uint8_t one[N_SCALES] = {0};
    if (type == GGML_TYPE_Q6_K) {
        memcpy(one, p + 192, N_SCALES);
    } else {
        uint64_t scales, minima;
        scales_and_minima(p + 4, &scales, &minima);
        memcpy(one, &scales, sizeof scales);
    }
    UNROLL
    for (int b = 0; b < GROUP_BLOCKS * scales_per_block(type); b++) {
        const int16_t whole = type == GGML_TYPE_Q6_K ? (int8_t)one[b] : one[b];
        const uint32_t scale = (uint16_t)whole;
        s->twice[b] = scale | scale << 16;
    }
}

/* The super-block at p, as add_group has it. A lane sums 32 products of 63 * 31 and 32000 at most, or 16 of 128 * 32: below
 * 2^31, no matter which weights and activations. */
VEC_INLINE void add_super_block(vf sum[], const enum ggml_type type, const uint8_t *p, const struct packed *x, int64_t i,
                                const int n_x) {
    const int n_scales = scales_per_block(type), room = type == GGML_TYPE_Q6_K ? GROUP_BLOCKS / 2 : GROUP_BLOCKS;
    const vf d = v_set1_f16(p + (type == GGML_TYPE_Q6_K ? 208 : 0));
    vi part[FEW_INT16_MAX_ROWS];
    struct whole_scales scales;
    struct levels levels;
    whole_scales_of(&scales, type, p);
    levels_of_super_block(&levels, type, p);
    __asm__("" : "+m"(scales)); /* as in add_group */
    UNROLL
    for (int r = 0; r < n_x; r++) {
        part[r] = vi_zero();
        if (has_minimum(type)) {
            sum[r] = add_minima(sum[r], levels.minima, x[r].sums + i / BLOCK, GROUP_BLOCKS);
        }
    }
    UNROLL
    for (int b = 0; b < GROUP_BLOCKS; b++) {
        const struct numbers q = numbers_of(type, p, b);
        const vq low = vq_times(q.low, scales.twice[b * n_scales]);
        const vq high = vq_times(q.high, scales.twice[b * n_scales + n_scales - 1]);
        UNROLL
        for (int r = 0; r < n_x; r++) {
            part[r] = vi_add_dot32(part[r], low, high, x[r].q + 2 * (i + b * BLOCK));
        }
        if ((b + 1) % room == 0) {
            UNROLL
            for (int r = 0; r < n_x; r++) {
                sum[r] = v_fma(vi_to_float(part[r]), v_mul(d, v_set1(x[r].scales[i / GROUP])), sum[r]);
                part[r] = vi_zero();
            }
        }
    }
}

#endif

/* The group of n blocks at p, weights from i on of their row, into the sums of n_x rows; type, n and n_x are constants. */
VEC_INLINE void add_group(vf sum[], const enum ggml_type type, const uint8_t *p, const struct packed *x, int64_t i, const int n,
                          const int n_x) {
    const int n_scales = scales_per_block(type);
    vf part[FEW_INT16_MAX_ROWS]; /* starts anew, so that the additions of two groups need not wait for one another */
    struct levels levels;
    if (is_super(type)) {
        levels_of_super_block(&levels, type, p);
    } else {
        levels_of_blocks(&levels, type, p, n);
    }
    __asm__("" : "+m"(levels.scales)); /* the compiler would permute registers instead of loading them spread */
    UNROLL
    for (int r = 0; r < n_x; r++) {
        part[r] = v_zero();
        if (has_minimum(type)) {
            sum[r] = add_minima(sum[r], levels.minima, x[r].sums + i / BLOCK, n);
        }
    }
    UNROLL
    for (int b = 0; b < n; b++) {
        const struct numbers q = numbers_of(type, p, b);
        const vf scale = v_set1(levels.scales[b * n_scales]), other = v_set1(levels.scales[b * n_scales + n_scales - 1]);
        UNROLL
        for (int r = 0; r < n_x; r++) {
            const uint8_t *xb = x[r].q + 2 * (i + b * BLOCK);
            if (n_scales == 1) {
                part[r] = v_fma(v_dot32(q.low, q.high, xb), scale, part[r]);
            } else {
                part[r] = v_fma(v_dot16(q.low, xb), scale, part[r]);
                part[r] = v_fma(v_dot16(q.high, xb + BLOCK), other, part[r]);
            }
        }
    }
    UNROLL
    for (int r = 0; r < n_x; r++) {
        sum[r] = v_fma(part[r], v_set1(x[r].scales[i / GROUP]), sum[r]);
    }
}

VEC_INLINE void product_rows(float *y, int64_t y_stride, const enum ggml_type type, const uint8_t *w, size_t w_stride,
                             const struct packed *x, int64_t n, int64_t first, int64_t end, const int n_x) {
    for (int64_t j = first; j < end; j++) {
        const uint8_t *p = w + (size_t)j * w_stride;
        vf sum[FEW_INT16_MAX_ROWS];
        UNROLL
        for (int r = 0; r < n_x; r++) {
            sum[r] = v_zero();
        }
        int64_t i = 0;
        for (; i + GROUP <= n; i += GROUP, p += group_bytes(type)) {
            for (size_t k = 0; k < group_bytes(type); k += 64) {
                __builtin_prefetch(p + fetch_distance(w_stride) + k, 0, 2);
            }
#ifdef HAS_WHOLE_SCALES
            if (is_super(type)) {
                add_super_block(sum, type, p, x, i, n_x);
                continue;
            }
#endif
            add_group(sum, type, p, x, i, GROUP_BLOCKS, n_x);
        }
        for (; !is_super(type) && i < n; i += BLOCK, p += block_bytes(type)) {
            add_group(sum, type, p, x, i, 1, n_x);
        }
        float out[FEW_INT16_MAX_ROWS];
        v_sums(out, sum, n_x);
        UNROLL
        for (int r = 0; r < n_x; r++) {
            y[r * y_stride + j] = out[r];
        }
    }
}

#define ROWS(name, count) \
    case count: product_rows(y, y_stride, GGML_TYPE_##name, w, w_stride, x, n, first, end, count); break;
#define PRODUCT(name)                                                                                                         \
    static void product_##name(float *y, int64_t y_stride, const uint8_t *w, size_t w_stride, const struct packed *x,          \
                               int64_t n, int n_rows, int64_t first, int64_t end) {                                            \
        switch (n_rows) {                                                                                                      \
            ROWS(name, 1) ROWS(name, 2) ROWS(name, 3) ROWS(name, 4) ROWS(name, 5) ROWS(name, 6) ROWS(name, 7) ROWS(name, 8)     \
        default: break;                                                                                                        \
        }                                                                                                                      \
    }
TYPES(PRODUCT)

static void product(float *y, int64_t y_stride, const void *w, enum ggml_type type, size_t w_stride, const void *x, int64_t n,
                    int n_rows, int64_t first, int64_t end) {
    struct packed rows[FEW_INT16_MAX_ROWS];
    for (int r = 0; r < n_rows; r++) {
        rows[r] = packed_row(x, n, r);
    }
    switch (type) {
#define CASE(name) case GGML_TYPE_##name: product_##name(y, y_stride, w, w_stride, rows, n, n_rows, first, end); break;
        TYPES(CASE)
#undef CASE
    default: break;
    }
}

static enum few_int16_form form(enum ggml_type type, int64_t n) {
    switch (type) {
#define CASE(name) case GGML_TYPE_##name:
        TYPES(CASE)
#undef CASE
        return n % (is_super(type) ? GROUP : BLOCK) == 0 ? FEW_INT16_BLOCKS : FEW_INT16_NONE;
    default: return FEW_INT16_NONE;
    }
}

#define FEW_INT16_FUNCTIONS .form = form, .packed_bytes = packed_bytes, .pack = pack, .product = product
