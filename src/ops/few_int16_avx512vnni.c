/* few_int16.h for AVX-512 with VNNI, whose sums of products keep compilers from holding all products before they add them. */
#include "ops/few_int16.h"

#include <immintrin.h>
#include <string.h>

#include "ops/vec.h"

enum {
    BLOCK = 32,   /* weights of a block */
    PAIR = 64,    /* of two blocks, which are multiplied together */
    GROUP = 256,  /* activations with a common scale; weights of a super-block of the K types */
    GROUP_BLOCKS = GROUP / BLOCK,
    TOGETHER = 4, /* weight rows that meet an activation at a time, at most */
    LARGEST = 32000 /* 16 products of it with 32 * 128, the largest scaled weight, are below 2^31 */
};

/* ---- activations ----------------------------------------------------------------------------------------------- */

/* 16-bit numbers [n]; for each block the sum of its activations; for each group its scale. */
struct packed {
    const int16_t *q;
    const float *sums, *scales; /* [n / BLOCK], [n / GROUP] rounded up */
};

static int64_t n_groups(int64_t n) { return (n + GROUP - 1) / GROUP; }

static size_t packed_bytes(int64_t n) {
    const size_t bytes = (size_t)n * sizeof(int16_t) + (size_t)(n / BLOCK + n_groups(n)) * sizeof(float);
    return (bytes + 63) / 64 * 64;
}

static struct packed packed_row(const void *x, int64_t n, int r) {
    const char *p = (const char *)x + (size_t)r * packed_bytes(n);
    const float *sums = (const float *)(const void *)(p + (size_t)n * sizeof(int16_t));
    return (struct packed){(const int16_t *)(const void *)p, sums, sums + n / BLOCK};
}

/* NaN if any is no number: a maximum may forget it, and the scale is where it shows in every product. */
static float largest_of(const float *x, int64_t n) {
    vf largest = v_zero(), no_number = v_zero();
    for (int64_t i = 0; i < n; i += VEC) {
        const vf a = v_load(x + i);
        largest = _mm512_max_ps(largest, _mm512_abs_ps(a));
        no_number = v_fma(a, v_zero(), no_number);
    }
    return _mm512_reduce_max_ps(largest) + v_sum(no_number);
}

/* 32 numbers x * by -> the first 16 to low, the others to high; returns their sum */
static float pack_block(int16_t *low, int16_t *high, const float *x, float by) {
    const __m512i l = _mm512_cvtps_epi32(v_mul(v_load(x), v_set1(by)));
    const __m512i h = _mm512_cvtps_epi32(v_mul(v_load(x + VEC), v_set1(by)));
    _mm256_storeu_si256((void *)low, _mm512_cvtsepi32_epi16(l));
    _mm256_storeu_si256((void *)high, _mm512_cvtsepi32_epi16(h));
    return (float)_mm512_reduce_add_epi32(_mm512_add_epi32(l, h));
}

/* FEW_INT16_BLOCKS: the halves of two blocks alternate: 16 of the first, 16 of the second, the other 16 of the first, those of
 * the second. */
static void pack(enum few_int16_form form, void *packed, const float *x, int64_t n) {
    int16_t *q = packed;
    float *sums = (float *)(void *)(q + n), *scales = sums + n / BLOCK;
    float by = 0;
    for (int64_t b = 0; b < n / BLOCK; b++) {
        const int64_t i = b * BLOCK;
        if (i % GROUP == 0) {
            const float largest = largest_of(x + i, n - i < GROUP ? n - i : GROUP);
            by = largest > 0 ? LARGEST / largest : 0;
            scales[i / GROUP] = largest / LARGEST;
        }
        int16_t *low = form == FEW_INT16_BLOCKS ? q + b / 2 * PAIR + b % 2 * VEC : q + i;
        int16_t *high = form == FEW_INT16_BLOCKS ? low + BLOCK : low + VEC;
        sums[b] = scales[i / GROUP] * pack_block(low, high, x + i, by);
    }
}

/* ---- types of blocks: a 16-bit float as scale, for some another as minimum -------------------------------------- */

VEC_INLINE __m256i load32(const uint8_t *p) { return _mm256_loadu_si256((const void *)p); }
VEC_INLINE __m128i load16(const uint8_t *p) { return _mm_loadu_si128((const void *)p); }

/* 16-bit floats `stride` bytes apart: n of them, 2 or 8, then zeros */
VEC_INLINE __m256 f16_apart(const uint8_t *p, size_t stride, const int n) {
    int16_t h[GROUP_BLOCKS];
    UNROLL
    for (int b = 0; b < GROUP_BLOCKS; b++) {
        h[b] = 0;
        if (b < n) {
            memcpy(&h[b], p + (size_t)b * stride, sizeof *h);
        }
    }
    return _mm256_cvtph_ps(_mm_setr_epi16(h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]));
}

VEC_INLINE size_t block_bytes(const enum ggml_type type) {
    return type == GGML_TYPE_Q8_0 ? 34 : type == GGML_TYPE_Q4_0 ? 18 : 20;
}

VEC_INLINE bool has_minimum(const enum ggml_type type) { return type != GGML_TYPE_Q8_0; }

/* w = scale q + minimum, for the n blocks of a group from p on */
struct levels {
    __m256 scale, minimum;
};

VEC_INLINE struct levels levels_of(const enum ggml_type type, const uint8_t *p, int n) {
    struct levels l = {f16_apart(p, block_bytes(type), n), _mm256_setzero_ps()};
    if (type == GGML_TYPE_Q4_0) { /* less 8 */
        l.minimum = _mm256_mul_ps(l.scale, _mm256_set1_ps(-8));
    } else if (type == GGML_TYPE_Q4_1) {
        l.minimum = f16_apart(p + 2, block_bytes(type), n);
    }
    return l;
}

/* Two blocks from p on: 16 numbers of the first and 16 of the second, then the other ones, as pack_blocks has them. */
struct numbers {
    __m512i low, high;
};

VEC_INLINE struct numbers numbers_of(const enum ggml_type type, const uint8_t *p) {
    const uint8_t *a = p + (type == GGML_TYPE_Q4_1 ? 4 : 2), *b = a + block_bytes(type);
    if (type == GGML_TYPE_Q8_0) {
        const __m256i first = load32(a), second = load32(b);
        return (struct numbers){_mm512_cvtepi8_epi16(_mm256_permute2x128_si256(first, second, 0x20)),
                                _mm512_cvtepi8_epi16(_mm256_permute2x128_si256(first, second, 0x31))};
    }
    const __m512i both = _mm512_cvtepu8_epi16(_mm256_set_m128i(load16(b), load16(a)));
    return (struct numbers){_mm512_and_si512(both, _mm512_set1_epi16(15)), _mm512_srli_epi16(both, 4)};
}

/* The scales of two blocks, eight lanes each: of those in memory, spread as they are loaded, or, of the only two, at p. */
VEC_INLINE vf scale_of_pair(const enum ggml_type type, const float *scales, const uint8_t *p, const bool only) {
    if (only) {
        uint16_t a, b;
        memcpy(&a, p, sizeof a);
        memcpy(&b, p + block_bytes(type), sizeof b);
        return _mm512_cvtph_ps(_mm256_set_m128i(_mm_set1_epi16((short)b), _mm_set1_epi16((short)a)));
    }
    return _mm512_mask_broadcastss_ps(v_set1(scales[0]), 0xff00, _mm_load_ss(&scales[1]));
}

/* How many weight rows meet n_x rows of x at a time: as many as leave all sums in registers. */
VEC_INLINE int together(const int n_x) { return n_x <= 2 ? TOGETHER : n_x <= 4 ? 2 : 1; }

/* Those of one weight row lie together: row j of n_w, x row r at j * n_x + r. */
enum { MAX_SUMS = FEW_INT16_MAX_ROWS };
struct sums {
    vf of[MAX_SUMS];
};

/* minimum [n blocks] times the sums of activations, into the first n lanes */
VEC_INLINE vf add_minima(vf sum, __m256 minimum, const float *sums, const int n) {
    const __mmask16 some = v_first(n);
    return _mm512_mask3_fmadd_ps(_mm512_castps256_ps512(minimum), _mm512_maskz_loadu_ps(some, sums), sum, some);
}

/* Brings bytes that are needed later to the second-level cache: a few with every few that are used, so that the memory is
 * always busy. */
VEC_INLINE void fetch(const uint8_t *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch(p + i, 0, 2);
    }
}

/* A group of n blocks, an even number, from weight i on; the rows at w move on. type, n, n_w and n_x are constants. `ahead`:
 * bytes to what is fetched meanwhile. */
VEC_INLINE void add_blocks(struct sums *sums, const enum ggml_type type, const uint8_t *w[], const struct packed *x,
                           int64_t i, size_t ahead, const int n, const int n_w, const int n_x) {
    vf part[MAX_SUMS];
    float scales[TOGETHER][GROUP_BLOCKS];
    UNROLL
    for (int j = 0; j < n_w; j++) {
        const struct levels l = levels_of(type, w[j], n);
        _mm256_storeu_ps(scales[j], l.scale);
        UNROLL
        for (int r = 0; r < n_x; r++) {
            part[j * n_x + r] = v_zero();
            if (has_minimum(type)) {
                sums->of[j * n_x + r] = add_minima(sums->of[j * n_x + r], l.minimum, x[r].sums + i / BLOCK, n);
            }
        }
    }
    if (n > 2) {
        __asm__("" : "+m"(scales)); /* the compiler would permute registers instead */
    }
    UNROLL
    for (int b = 0; b < n; b += 2) {
        struct numbers q[TOGETHER];
        vf scale[TOGETHER];
        UNROLL
        for (int j = 0; j < n_w; j++) {
            q[j] = numbers_of(type, w[j] + (size_t)b * block_bytes(type));
            fetch(w[j] + (size_t)b * block_bytes(type) + ahead, 2 * block_bytes(type));
            scale[j] = scale_of_pair(type, scales[j] + b, w[j], n == 2);
        }
        UNROLL
        for (int r = 0; r < n_x; r++) {
            const int16_t *xr = x[r].q + i + b * BLOCK;
            const __m512i low = _mm512_loadu_si512(xr), high = _mm512_loadu_si512(xr + 32);
            UNROLL
            for (int j = 0; j < n_w; j++) {
                const __m512i dot = _mm512_dpwssd_epi32(_mm512_madd_epi16(q[j].low, low), q[j].high, high);
                part[j * n_x + r] = v_fma(_mm512_cvtepi32_ps(dot), scale[j], part[j * n_x + r]);
            }
        }
    }
    UNROLL
    for (int j = 0; j < n_w; j++) {
        UNROLL
        for (int r = 0; r < n_x; r++) {
            sums->of[j * n_x + r] = v_fma(part[j * n_x + r], v_set1(x[r].scales[i / GROUP]), sums->of[j * n_x + r]);
        }
        w[j] += (size_t)n * block_bytes(type);
    }
}

/* ---- types of super-blocks: whole scales, and one 16-bit float for all of them ----------------------------------- */

VEC_INLINE float f16_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
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

VEC_INLINE size_t super_bytes(const enum ggml_type type) {
    return type == GGML_TYPE_Q4_K ? 144 : type == GGML_TYPE_Q5_K ? 176 : 210;
}

/* f16 d, f16 dmin, 12 bytes of scales, for q5_K 32 bytes of fifth bits, 128 bytes of halves: blocks j and j + 1, the low and
 * the high halves of 32 bytes, times their scales. scales: twice in each 32 bits. */
VEC_INLINE struct numbers scaled_k4_k5(const enum ggml_type type, const uint8_t *p, int j, const uint32_t *scales) {
    const bool fifth = type == GGML_TYPE_Q5_K;
    const __m512i bytes = _mm512_cvtepu8_epi16(load32(p + (fifth ? 48 : 16) + j / 2 * 32));
    struct numbers q = {_mm512_and_si512(bytes, _mm512_set1_epi16(15)), _mm512_srli_epi16(bytes, 4)};
    if (fifth) {
        const __m256i bits = load32(p + 16);
        const __mmask32 low = _mm256_test_epi8_mask(bits, _mm256_set1_epi8((char)(1 << j)));
        const __mmask32 high = _mm256_test_epi8_mask(bits, _mm256_set1_epi8((char)(2 << j)));
        q.low = _mm512_mask_add_epi16(q.low, low, q.low, _mm512_set1_epi16(16));
        q.high = _mm512_mask_add_epi16(q.high, high, q.high, _mm512_set1_epi16(16));
    }
    return (struct numbers){_mm512_mullo_epi16(q.low, _mm512_set1_epi32((int)scales[j])),
                            _mm512_mullo_epi16(q.high, _mm512_set1_epi32((int)scales[j + 1]))};
}

/* Block j of q6_K, less 32, times its two scales, which are in the words of `scales`. 128 bytes of low halves, 64 of pairs of
 * high bits, 16 signed scales, f16 d. Each 128 weights: four blocks, with the low halves of bytes 0 .. 31 and 32 .. 63, then
 * their high ones, and bits 0, 2, 4, 6 of 32 bytes. */
VEC_INLINE __m512i scaled_k6(const uint8_t *p, int j, __m512i scales) {
    const int half = j / 4, quarter = j % 4;
    const __m512i bytes = _mm512_cvtepu8_epi16(load32(p + half * 64 + quarter % 2 * 32));
    const __m512i pairs = _mm512_cvtepu8_epi16(load32(p + 128 + half * 32));
    const __m512i low = quarter / 2 ? _mm512_srli_epi16(bytes, 4) : _mm512_and_si512(bytes, _mm512_set1_epi16(15));
    const __m512i high = quarter == 0   ? _mm512_slli_epi16(pairs, 4)
                         : quarter == 1 ? _mm512_slli_epi16(pairs, 2)
                         : quarter == 2 ? pairs
                                        : _mm512_srli_epi16(pairs, 2);
    const __m512i q = _mm512_or_si512(low, _mm512_and_si512(high, _mm512_set1_epi16(48)));
    const __m512i which = _mm512_inserti64x4(_mm512_set1_epi16((short)(2 * j)), _mm256_set1_epi16((short)(2 * j + 1)), 1);
    return _mm512_mullo_epi16(_mm512_sub_epi16(q, _mm512_set1_epi16(32)), _mm512_permutexvar_epi16(which, scales));
}

VEC_INLINE void add_scaled_block(__m512i dot[], __m512i q, const struct packed *x, int64_t i, const int n_x) {
    UNROLL
    for (int r = 0; r < n_x; r++) {
        dot[r] = _mm512_dpwssd_epi32(dot[r], q, _mm512_loadu_si512(x[r].q + i));
    }
}

VEC_INLINE void add_dots(vf sum[], const __m512i dot[], float d, const struct packed *x, int64_t i, const int n_x) {
    UNROLL
    for (int r = 0; r < n_x; r++) {
        sum[r] = v_fma(_mm512_cvtepi32_ps(dot[r]), v_set1(d * x[r].scales[i / GROUP]), sum[r]);
    }
}

/* A super-block from p on, weights [i, i + 256) of their row; type and n_x are constants. */
VEC_INLINE void add_k4_k5(vf sum[], const enum ggml_type type, const uint8_t *p, const struct packed *x, int64_t i,
                          const int n_x) {
    __m512i dot[FEW_INT16_MAX_ROWS], more[FEW_INT16_MAX_ROWS];
    uint64_t s, m;
    uint32_t twice[GROUP_BLOCKS];
    scales_and_minima(p + 4, &s, &m);
    const __m256i wide = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)s));
    _mm256_storeu_si256((void *)twice, _mm256_or_si256(wide, _mm256_slli_epi32(wide, 16)));
    __asm__("" : "+m"(twice)); /* spread as they are loaded, as in add_blocks */
    const __m256 whole = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)m)));
    const __m256 minima = _mm256_mul_ps(whole, _mm256_set1_ps(-f16_at(p + 2)));
    UNROLL
    for (int r = 0; r < n_x; r++) {
        dot[r] = more[r] = _mm512_setzero_si512();
        sum[r] = add_minima(sum[r], minima, x[r].sums + i / BLOCK, GROUP_BLOCKS);
    }
    UNROLL
    for (int j = 0; j < GROUP_BLOCKS; j += 2) {
        const struct numbers q = scaled_k4_k5(type, p, j, twice);
        add_scaled_block(dot, q.low, x, i + j * BLOCK, n_x);
        add_scaled_block(n_x <= 2 ? more : dot, q.high, x, i + (j + 1) * BLOCK, n_x);
    }
    UNROLL
    for (int r = 0; r < n_x && n_x <= 2; r++) {
        dot[r] = _mm512_add_epi32(dot[r], more[r]);
    }
    add_dots(sum, dot, f16_at(p), x, i, n_x);
}

VEC_INLINE void add_k6(vf sum[], const uint8_t *p, const struct packed *x, int64_t i, const int n_x) {
    __m512i dot[FEW_INT16_MAX_ROWS];
    const __m512i scales = _mm512_castsi256_si512(_mm256_cvtepi8_epi16(load16(p + 192)));
    UNROLL
    for (int r = 0; r < n_x; r++) {
        dot[r] = _mm512_setzero_si512();
    }
    UNROLL
    for (int j = 0; j < GROUP_BLOCKS; j++) {
        add_scaled_block(dot, scaled_k6(p, j, scales), x, i + j * BLOCK, n_x);
    }
    add_dots(sum, dot, f16_at(p + 208), x, i, n_x);
}

/* A super-block of each row, from weight i on; the rows at w move on. */
VEC_INLINE void add_supers(struct sums *sums, const enum ggml_type type, const uint8_t *w[], const struct packed *x, int64_t i,
                           size_t ahead, const int n_w, const int n_x) {
    UNROLL
    for (int j = 0; j < n_w; j++) {
        fetch(w[j] + ahead, super_bytes(type));
        if (type == GGML_TYPE_Q6_K) {
            add_k6(sums->of + j * n_x, w[j], x, i, n_x);
        } else {
            add_k4_k5(sums->of + j * n_x, type, w[j], x, i, n_x);
        }
        w[j] += super_bytes(type);
    }
}

/* ---- products --------------------------------------------------------------------------------------------------- */

/* What is expanded once for each type. */
#define TYPES(X) X(Q8_0) X(Q4_0) X(Q4_1) X(Q4_K) X(Q5_K) X(Q6_K)

VEC_INLINE bool is_super(const enum ggml_type type) {
    return type == GGML_TYPE_Q4_K || type == GGML_TYPE_Q5_K || type == GGML_TYPE_Q6_K;
}

static enum few_int16_form form(enum ggml_type type, int64_t n) {
    switch (type) {
#define CASE(name) case GGML_TYPE_##name:
        TYPES(CASE)
#undef CASE
        return is_super(type) ? FEW_INT16_SUPER_BLOCKS : n % PAIR == 0 ? FEW_INT16_BLOCKS : FEW_INT16_NONE;
    default: return FEW_INT16_NONE;
    }
}

/* y[r][j] for rows [0, n_w) of weights, which start at w, and all of x; type, n_w and n_x are constants. */
VEC_INLINE void product_of(float *y, int64_t y_stride, const enum ggml_type type, const uint8_t *w, size_t w_stride,
                           const struct packed *x, int64_t n, size_t ahead, const int n_w, const int n_x) {
    const uint8_t *at[TOGETHER];
    struct sums sums;
    UNROLL
    for (int j = 0; j < n_w; j++) {
        at[j] = w + (size_t)j * w_stride;
    }
    UNROLL
    for (int k = 0; k < n_w * n_x; k++) {
        sums.of[k] = v_zero();
    }
    for (int64_t i = 0; i < n; i += GROUP) {
        if (is_super(type)) {
            add_supers(&sums, type, at, x, i, ahead, n_w, n_x);
        } else if (i + GROUP <= n) {
            add_blocks(&sums, type, at, x, i, ahead, GROUP_BLOCKS, n_w, n_x);
        } else {
            for (int64_t k = i; k < n; k += PAIR) {
                add_blocks(&sums, type, at, x, k, ahead, 2, n_w, n_x);
            }
        }
    }
    float out[MAX_SUMS];
    v_sums(out, sums.of, n_w * n_x);
    UNROLL
    for (int k = 0; k < n_w * n_x; k++) {
        y[k % n_x * y_stride + k / n_x] = out[k];
    }
}

VEC_INLINE void product_rows(float *y, int64_t y_stride, const enum ggml_type type, const uint8_t *w, size_t w_stride,
                             const struct packed *x, int64_t n, int64_t first, int64_t end, const int n_x) {
    const size_t ahead = fetch_distance((size_t)together(n_x) * w_stride);
    int64_t j = first;
    for (; j + together(n_x) <= end; j += together(n_x)) {
        product_of(y + j, y_stride, type, w + (size_t)j * w_stride, w_stride, x, n, ahead, together(n_x), n_x);
    }
    for (; j < end; j++) {
        product_of(y + j, y_stride, type, w + (size_t)j * w_stride, w_stride, x, n, ahead, 1, n_x);
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

const struct few_int16 few_int16_avx512vnni = {
    .name = "avx512vnni", .form = form, .packed_bytes = packed_bytes, .pack = pack, .product = product};
