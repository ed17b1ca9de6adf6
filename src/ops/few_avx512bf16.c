/* few_bf16.h with the AVX512_BF16 instructions.
 *
 * Where a block has at most 32 levels its weights come out of a table of the levels, scaled and rounded, by one permutation;
 * other types are converted and scaled. A row of weights is cut into chunks whose sums are added up, so that few rows, which
 * meet the weights in registers, and more rows, for which a chunk is unpacked to memory, add in the same order.
 */
#include "ops/few_bf16.h"

#include <immintrin.h>
#include <string.h>

#include "ops/vec.h"

enum {
    BLOCK = 32,    /* weights unpacked at a time: one register of bf16 */
    SUPER = 256,   /* weights of a super-block of the K types */
    CHUNK = 1024,  /* weights whose products are summed in one go; a multiple of SUPER */
    DIRECT = 4,    /* rows of x, at most, that meet the weights in registers */
    W_ROWS = 4,    /* rows of weights that are unpacked together for more */
    X_ROWS = 6     /* rows of x that meet them at a time: all sums lie in registers */
};

/* ---- 32 weights, scaled, as bf16 in their order ---- */

VEC_INLINE vf level(int first) {
    const __m512i iota = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return _mm512_cvtepi32_ps(_mm512_add_epi32(iota, _mm512_set1_epi32(first)));
}

/* a 16-bit float in every lane */
VEC_INLINE vf f16_everywhere(const uint8_t *p) {
    int16_t h;
    memcpy(&h, p, sizeof h);
    return _mm512_cvtph_ps(_mm256_set1_epi16(h));
}

/* indices [0, 16) of 32 bytes -> bf16(scale * (index + first) + offset) */
VEC_INLINE __m512i look_up_16(__m256i index, vf scale, vf offset, int first) {
    const __m256i table = (__m256i)_mm512_cvtneps_pbh(_mm512_fmadd_ps(scale, level(first), offset));
    return _mm512_permutexvar_epi16(_mm512_cvtepu8_epi16(index), _mm512_castsi256_si512(table));
}

/* the same of indices [0, 32) */
VEC_INLINE __m512i look_up_32(__m256i index, vf scale, vf offset) {
    const __m512i table =
        (__m512i)_mm512_cvtne2ps_pbh(_mm512_fmadd_ps(scale, level(16), offset), _mm512_fmadd_ps(scale, level(0), offset));
    return _mm512_permutexvar_epi16(_mm512_cvtepu8_epi16(index), table);
}

/* signed bytes times a scale for each 16 of them */
VEC_INLINE __m512i scaled(__m256i bytes, vf low_scale, vf high_scale) {
    const vf low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(bytes)));
    const vf high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(bytes, 1)));
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_mul_ps(high, high_scale), _mm512_mul_ps(low, low_scale));
}

VEC_INLINE __m256i low_halves(__m256i bytes) { return _mm256_and_si256(bytes, _mm256_set1_epi8(15)); }
VEC_INLINE __m256i high_halves(__m256i bytes) { return low_halves(_mm256_srli_epi16(bytes, 4)); }

/* 16 bytes: their low halves, then their high ones */
VEC_INLINE __m256i halves(const uint8_t *p) {
    const __m128i bytes = _mm_loadu_si128((const void *)p);
    return low_halves(_mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes));
}

VEC_INLINE __m256i load32(const uint8_t *p) { return _mm256_loadu_si256((const void *)p); }

/* Scale and minimum of sub-block j of a q4_K or q5_K super-block: 6 bits each, in 12 bytes. */
VEC_INLINE void scale_and_minimum(const uint8_t *s, int j, int *scale, int *minimum) {
    if (j < 4) {
        *scale = s[j] & 63;
        *minimum = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | (s[j - 4] >> 6 << 4);
        *minimum = (s[j + 4] >> 4) | (s[j] >> 6 << 4);
    }
}

/* f16 d, f16 dmin, 12 bytes of scales, for q5_K 32 bytes of fifth bits, 128 bytes of halves */
VEC_INLINE __m512i unpack_k4_k5(const uint8_t *row, int64_t i, const bool fifth) {
    const uint8_t *p = row + i / SUPER * (fifth ? 176 : 144);
    const int j = (int)(i % SUPER / BLOCK);
    int scale, minimum;
    scale_and_minimum(p + 4, j, &scale, &minimum);
    const vf d = _mm512_mul_ps(f16_everywhere(p), _mm512_set1_ps((float)scale));
    const vf m = _mm512_mul_ps(f16_everywhere(p + 2), _mm512_set1_ps(-(float)minimum));
    const __m256i bytes = load32(p + (fifth ? 48 : 16) + j / 2 * 32);
    const __m256i index = j % 2 ? high_halves(bytes) : low_halves(bytes);
    if (!fifth) {
        return look_up_16(index, d, m, 0);
    }
    const __m256i bits = _mm256_and_si256(load32(p + 16), _mm256_set1_epi8((char)(1 << j)));
    const __m256i none = _mm256_cmpeq_epi8(bits, _mm256_setzero_si256());
    return look_up_32(_mm256_or_si256(index, _mm256_andnot_si256(none, _mm256_set1_epi8(16))), d, m);
}

/* 128 bytes of low halves, 64 of pairs of high bits, 16 signed scales, f16 d. Each 128 weights: four times 32, with the low
 * halves of bytes 0 .. 31 and 32 .. 63, then their high ones, and bits 0, 2, 4, 6 of 32 bytes. */
VEC_INLINE __m512i unpack_k6(const uint8_t *row, int64_t i) {
    const uint8_t *p = row + i / SUPER * 210;
    const int j = (int)(i % SUPER / BLOCK), half = j / 4, quarter = j % 4;
    const __m256i bytes = load32(p + half * 64 + quarter % 2 * 32);
    const __m256i low = quarter / 2 ? high_halves(bytes) : low_halves(bytes);
    const __m256i pairs = _mm256_srl_epi16(load32(p + 128 + half * 32), _mm_cvtsi32_si128(2 * quarter));
    const __m256i high = _mm256_slli_epi16(_mm256_and_si256(pairs, _mm256_set1_epi8(3)), 4);
    const __m256i q = _mm256_sub_epi8(_mm256_or_si256(low, high), _mm256_set1_epi8(32));
    const vf d = f16_everywhere(p + 208);
    const int8_t *scales = (const int8_t *)p + 192 + 2 * j;
    return scaled(q, _mm512_mul_ps(d, _mm512_set1_ps(scales[0])), _mm512_mul_ps(d, _mm512_set1_ps(scales[1])));
}

/* Weights [i, i + 32) of a row; type is a constant. */
VEC_INLINE __m512i unpack(const enum ggml_type type, const uint8_t *row, int64_t i) {
    const uint8_t *p;
    vf d;
    switch (type) {
    case GGML_TYPE_BF16: return _mm512_loadu_si512(row + 2 * i);
    case GGML_TYPE_Q8_0: /* f16 d, 32 bytes */
        p = row + i / BLOCK * 34;
        d = f16_everywhere(p);
        return scaled(load32(p + 2), d, d);
    case GGML_TYPE_Q4_0: /* f16 d, 16 bytes of halves, less 8 */
        p = row + i / BLOCK * 18;
        return look_up_16(halves(p + 2), f16_everywhere(p), _mm512_setzero_ps(), -8);
    case GGML_TYPE_Q4_1: /* f16 d, f16 m, 16 bytes of halves */
        p = row + i / BLOCK * 20;
        return look_up_16(halves(p + 4), f16_everywhere(p), f16_everywhere(p + 2), 0);
    case GGML_TYPE_Q4_K: return unpack_k4_k5(row, i, false);
    case GGML_TYPE_Q5_K: return unpack_k4_k5(row, i, true);
    default: return unpack_k6(row, i);
    }
}

/* What is expanded once for each type. */
#define TYPES(X) X(BF16) X(Q8_0) X(Q4_0) X(Q4_1) X(Q4_K) X(Q5_K) X(Q6_K)

static bool reads(enum ggml_type type, int64_t n) {
    switch (type) {
#define CASE(name) case GGML_TYPE_##name:
        TYPES(CASE)
#undef CASE
        return n % BLOCK == 0;
    default: return false;
    }
}

static void pack(uint16_t *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += BLOCK) {
        _mm512_storeu_si512(y + i, (__m512i)_mm512_cvtne2ps_pbh(v_load(x + i + VEC), v_load(x + i)));
    }
}

/* ---- products ---- */

struct few {
    float *y;
    int64_t y_stride;
    const uint16_t *x;
    int64_t x_stride;
};

VEC_INLINE __m512bh load_x(const struct few *f, int r, int64_t i) {
    return (__m512bh)_mm512_loadu_si512(f->x + r * f->x_stride + i);
}

/* y of rows [r0, r0 + n_x) of x and rows [j, j + n_w) of weights: sums of the first chunk, or one more chunk's */
VEC_INLINE void put(const struct few *f, int r0, int64_t j, bool first, const vf sum[], const int n_w, const int n_x) {
    float out[W_ROWS * X_ROWS];
    v_sums(out, sum, n_w * n_x);
    UNROLL
    for (int k = 0; k < n_w * n_x; k++) {
        float *y = f->y + (r0 + k / n_w) * f->y_stride + j + k % n_w;
        *y = (first ? 0.0f : *y) + out[k];
    }
}

/* Rows [0, n_x) and columns [from, to) of weight row j, unpacked as they are met; type and n_x are constants. */
VEC_INLINE void direct(const struct few *f, const enum ggml_type type, const uint8_t *row, int64_t j, int64_t from, int64_t to,
                       const int n_x) {
    vf sum[DIRECT];
    UNROLL
    for (int r = 0; r < n_x; r++) {
        sum[r] = v_zero();
    }
    for (int64_t i = from; i < to; i += BLOCK) {
        const __m512bh w = (__m512bh)unpack(type, row, i);
        UNROLL
        for (int r = 0; r < n_x; r++) {
            sum[r] = _mm512_dpbf16_ps(sum[r], w, load_x(f, r, i));
        }
    }
    put(f, 0, j, from == 0, sum, 1, n_x);
}

/* The same of chunks that lie unpacked in memory, for rows [r0, r0 + n_x). What is loaded of either side meets all of the other,
 * since more than one load for each product would take longer than the products. */
VEC_INLINE void unpacked(const struct few *f, uint16_t (*w)[CHUNK], int r0, int64_t j, int64_t from, int64_t to, const int n_w,
                         const int n_x) {
    vf sum[W_ROWS * X_ROWS];
    UNROLL
    for (int k = 0; k < n_w * n_x; k++) {
        sum[k] = v_zero();
    }
    for (int64_t i = from; i < to; i += BLOCK) {
        __m512bh wi[W_ROWS];
        UNROLL
        for (int k = 0; k < n_w; k++) {
            wi[k] = (__m512bh)_mm512_loadu_si512(w[k] + (i - from));
        }
        UNROLL
        for (int r = 0; r < n_x; r++) {
            const __m512bh x = load_x(f, r0 + r, i);
            UNROLL
            for (int k = 0; k < n_w; k++) {
                sum[r * n_w + k] = _mm512_dpbf16_ps(sum[r * n_w + k], wi[k], x);
            }
        }
    }
    put(f, r0, j, from == 0, sum, n_w, n_x);
}

VEC_INLINE void unpacked_any(const struct few *f, uint16_t (*w)[CHUNK], int r0, int n_x, int64_t j, int64_t from, int64_t to,
                             const int n_w) {
    switch (n_x) {
#define CASE(n) case n: unpacked(f, w, r0, j, from, to, n_w, n); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5)
#undef CASE
    default: unpacked(f, w, r0, j, from, to, n_w, X_ROWS); break;
    }
}

static void unpacked_one(const struct few *f, uint16_t (*w)[CHUNK], int r0, int n_x, int64_t j, int64_t from, int64_t to) {
    unpacked_any(f, w, r0, n_x, j, from, to, 1);
}

static void unpacked_some(const struct few *f, uint16_t (*w)[CHUNK], int r0, int n_x, int64_t j, int64_t from, int64_t to) {
    unpacked_any(f, w, r0, n_x, j, from, to, W_ROWS);
}

VEC_INLINE void fetch_ahead(const uint8_t *row, size_t bytes, size_t distance) {
    for (size_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch(row + distance + i, 0, 2);
    }
}

/* A few rows of x with weight row j; type is a constant. */
VEC_INLINE void product_direct(const struct few *f, const enum ggml_type type, const uint8_t *row, size_t row_bytes, int64_t j,
                               int64_t n, int n_rows) {
    fetch_ahead(row, row_bytes, fetch_distance(row_bytes));
    for (int64_t from = 0; from < n; from += CHUNK) {
        const int64_t to = from + CHUNK < n ? from + CHUNK : n;
        switch (n_rows) {
        case 1: direct(f, type, row, j, from, to, 1); break;
        case 2: direct(f, type, row, j, from, to, 2); break;
        case 3: direct(f, type, row, j, from, to, 3); break;
        default: direct(f, type, row, j, from, to, DIRECT); break;
        }
    }
}

/* All rows of x with n_w weight rows from j on, 1 or W_ROWS; type and n_w are constants. */
VEC_INLINE void product_unpacked(const struct few *f, const enum ggml_type type, const uint8_t *w, size_t w_stride, int64_t j,
                                 int64_t n, int n_rows, const int n_w) {
    uint16_t buffer[W_ROWS][CHUNK];
    fetch_ahead(w, (size_t)n_w * w_stride, fetch_distance((size_t)n_w * w_stride));
    for (int64_t from = 0; from < n; from += CHUNK) {
        const int64_t to = from + CHUNK < n ? from + CHUNK : n;
        for (int k = 0; k < n_w; k++) {
            for (int64_t i = from; i < to; i += BLOCK) {
                _mm512_storeu_si512(buffer[k] + (i - from), unpack(type, w + (size_t)k * w_stride, i));
            }
        }
        for (int r = 0; r < n_rows; r += X_ROWS) {
            (n_w == 1 ? unpacked_one : unpacked_some)(f, buffer, r, n_rows - r, j, from, to);
        }
    }
}

#define PRODUCT(name)                                                                                                         \
    static void product_##name(const struct few *f, const uint8_t *w, size_t w_stride, int64_t n, int n_rows, int64_t first,  \
                               int64_t end) {                                                                                 \
        int64_t j = first;                                                                                                    \
        for (; n_rows > DIRECT && j + W_ROWS <= end; j += W_ROWS) {                                                           \
            product_unpacked(f, GGML_TYPE_##name, w + (size_t)j * w_stride, w_stride, j, n, n_rows, W_ROWS);                  \
        }                                                                                                                     \
        for (; n_rows > DIRECT && j < end; j++) {                                                                             \
            product_unpacked(f, GGML_TYPE_##name, w + (size_t)j * w_stride, w_stride, j, n, n_rows, 1);                       \
        }                                                                                                                     \
        for (; j < end; j++) {                                                                                                \
            product_direct(f, GGML_TYPE_##name, w + (size_t)j * w_stride, w_stride, j, n, n_rows);                            \
        }                                                                                                                     \
    }
TYPES(PRODUCT)

static void product(float *y, int64_t y_stride, const void *w, enum ggml_type type, size_t w_stride, const uint16_t *x,
                    int64_t x_stride, int64_t n, int n_rows, int64_t first, int64_t end) {
    const struct few f = {.y = y, .y_stride = y_stride, .x = x, .x_stride = x_stride};
    switch (type) {
#define CASE(name) case GGML_TYPE_##name: product_##name(&f, w, w_stride, n, n_rows, first, end); break;
        TYPES(CASE)
#undef CASE
    default: break;
    }
}

const struct few_bf16 few_bf16_avx512 = {.reads = reads, .pack = pack, .product = product};
