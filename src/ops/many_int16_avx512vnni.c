/* many.h in whole numbers for AVX-512 with VNNI: 64 multiply-adds a cycle on Intel's cores, twice as many as of f32. */
#include "ops/many.h"

#include <immintrin.h>
#include <math.h>

#include "ops/few_int16_types.h"

#define TILE_MR 7
#define TILE_NV 2
#include "ops/tile_dispatch.h"

enum { PAIRS = BLOCK / 2 /* steps of a block: two weights in each 32 bits */ };

/* A panel's blocks are 32 steps of a group. Of the 16-bit numbers two of each column lie together, which packed activations have
 * in the same order: see pack_block. A lane sums products of one column, at most 32 of 128 and 32000, before they are converted. */
struct block {
    int16_t q[PAIRS][TILE_NV][2 * VEC];
    float scales[2][TILE_NV][VEC]; /* of each half of the block where there are two */
    float minima[TILE_NV][VEC];
};

enum form { ONE_SCALE, WITH_MINIMUM, TWO_SCALES };

struct panel {
    struct block blocks[GROUP_BLOCKS];
    enum form form;
};

/* A group of activations. */
struct rows {
    int16_t q[TILE_MR][GROUP];
    float sums[TILE_MR][GROUP_BLOCKS]; /* of the numbers of a block */
    float scales[TILE_MR];
};

/* ---- weights ---------------------------------------------------------------------------------------------------- */

VEC_INLINE __m256i load32(const uint8_t *p) { return _mm256_loadu_si256((const void *)p); }
VEC_INLINE __m512i both(__m256i low, __m256i high) { return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1); }

/* 16 bytes -> their low halves, then their high ones */
VEC_INLINE __m256i halves16(const uint8_t *p) {
    const __m128i bytes = _mm_loadu_si128((const void *)p);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes), _mm256_set1_epi8(15));
}

VEC_INLINE __m512i halves32(const uint8_t *p) {
    const __m256i bytes = load32(p);
    return _mm512_and_si512(both(bytes, _mm256_srli_epi16(bytes, 4)), _mm512_set1_epi8(15));
}

/* One block of a type without super-blocks. */
VEC_INLINE __m256i block_bytes_of(const enum ggml_type type, const uint8_t *p) {
    switch (type) {
    case GGML_TYPE_Q8_0: return load32(p + 2);
    case GGML_TYPE_Q4_0: return _mm256_sub_epi8(halves16(p + 2), _mm256_set1_epi8(8));
    default: return halves16(p + 4);
    }
}

/* Weights [32 j, 32 j + 64) of a group at p as bytes, without scale and minimum; of the second block only if there is one. */
VEC_INLINE __m512i bytes_of(const enum ggml_type type, const uint8_t *p, int j, bool second) {
    if (!is_super(type)) {
        p += (size_t)j * block_bytes(type);
        return both(block_bytes_of(type, p), second ? block_bytes_of(type, p + block_bytes(type)) : _mm256_setzero_si256());
    }
    if (type == GGML_TYPE_Q6_K) { /* few_int16_avx512vnni.c has the layout */
        const __m512i low = _mm512_srli_epi16(_mm512_loadu_si512(p + j / 4 * 64), j % 4 ? 4 : 0);
        const __m256i pairs = load32(p + 128 + j / 4 * 32);
        const __m512i high = j % 4 ? both(pairs, _mm256_srli_epi16(pairs, 2)) : both(_mm256_slli_epi16(pairs, 4), _mm256_slli_epi16(pairs, 2));
        const __m512i q = _mm512_or_si512(_mm512_and_si512(low, _mm512_set1_epi8(15)), _mm512_and_si512(high, _mm512_set1_epi8(48)));
        return _mm512_sub_epi8(q, _mm512_set1_epi8(32));
    }
    if (type == GGML_TYPE_Q4_K) {
        return halves32(p + 16 + j / 2 * 32);
    }
    const __m256i bits = load32(p + 16);
    const __m256i low = _mm256_and_si256(_mm256_srl_epi16(bits, _mm_cvtsi32_si128(j)), _mm256_set1_epi8(1));
    const __m256i high = _mm256_and_si256(_mm256_srl_epi16(bits, _mm_cvtsi32_si128(j + 1)), _mm256_set1_epi8(1));
    return _mm512_or_si512(halves32(p + 48 + j / 2 * 32), _mm512_slli_epi16(both(low, high), 4));
}

VEC_INLINE float f16_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}

/* Of a super-block at p: its scales in the first eight lanes, minima in the others; q6_K: 16 scales. */
VEC_INLINE vf super_scales(const enum ggml_type type, const uint8_t *p) {
    if (type == GGML_TYPE_Q6_K) {
        const __m128i s = _mm_loadu_si128((const void *)(p + 192));
        return v_mul(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(s)), v_set1(f16_at(p + 208)));
    }
    uint64_t scales, minima;
    scales_and_minima(p + 4, &scales, &minima);
    const __m128i bytes = _mm_set_epi64x((long long)minima, (long long)scales);
    return v_mul(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)),
                 _mm512_mask_blend_ps(0xff00, v_set1(f16_at(p)), v_set1(-f16_at(p + 2))));
}

VEC_INLINE enum form form_of(const enum ggml_type type) {
    return type == GGML_TYPE_Q6_K ? TWO_SCALES : has_minimum(type) && type != GGML_TYPE_Q4_0 ? WITH_MINIMUM : ONE_SCALE;
}

/* Scales and minima of a group of n blocks of 16 columns into vector v of a panel's blocks. */
VEC_INLINE void pack_scales(struct block *to, int v, const enum ggml_type type, const uint8_t *const rows[VEC], const int n) {
    if (is_super(type)) {
        vf s[VEC];
        UNROLL
        for (int c = 0; c < VEC; c++) {
            s[c] = super_scales(type, rows[c]);
        }
        v_transpose(s);
        UNROLL
        for (int b = 0; b < GROUP_BLOCKS; b++) {
            v_store(to[b].scales[0][v], s[type == GGML_TYPE_Q6_K ? 2 * b : b]);
            v_store(type == GGML_TYPE_Q6_K ? to[b].scales[1][v] : to[b].minima[v],
                    s[type == GGML_TYPE_Q6_K ? 2 * b + 1 : GROUP_BLOCKS + b]);
        }
        return;
    }
    uint16_t scales[GROUP_BLOCKS][VEC], minima[GROUP_BLOCKS][VEC];
    for (int c = 0; c < VEC; c++) {
        UNROLL
        for (int b = 0; b < n; b++) {
            memcpy(&scales[b][c], rows[c] + (size_t)b * block_bytes(type), sizeof **scales);
            if (type == GGML_TYPE_Q4_1) {
                memcpy(&minima[b][c], rows[c] + (size_t)b * block_bytes(type) + 2, sizeof **minima);
            }
        }
    }
    for (int b = 0; b < n; b++) {
        v_store(to[b].scales[0][v], v_load_f16(scales[b]));
        if (type == GGML_TYPE_Q4_1) {
            v_store(to[b].minima[v], v_load_f16(minima[b]));
        }
    }
}

/* Their numbers likewise. */
VEC_INLINE void pack_numbers(struct block *to, int v, const enum ggml_type type, const uint8_t *const rows[VEC], const int n) {
    for (int b = 0; b < n; b += 2) {
        vf t[VEC];
        UNROLL
        for (int c = 0; c < VEC; c++) {
            t[c] = _mm512_castsi512_ps(bytes_of(type, rows[c], b, n % 2 == 0 || b + 1 < n));
        }
        v_transpose(t); /* four weights of each column */
        UNROLL
        for (int k = 0; k < VEC; k++) {
            const __m512i four = _mm512_castps_si512(t[k]);
            if (k < VEC / 2 || n % 2 == 0 || b + 1 < n) {
                struct block *half = to + b + 2 * k / VEC;
                _mm512_storeu_si512(half->q[2 * k % PAIRS][v], _mm512_srai_epi16(_mm512_slli_epi16(four, 8), 8));
                _mm512_storeu_si512(half->q[2 * k % PAIRS + 1][v], _mm512_srai_epi16(four, 8));
            }
        }
    }
}

VEC_INLINE void pack_columns(void *panel, const enum ggml_type type, const void *const *rows, int columns, int n) {
    struct panel *to = panel;
    to->form = form_of(type);
    for (int v = 0; v < TILE_NV && v * VEC < columns; v++) {
        const uint8_t *at[VEC];
        for (int c = 0; c < VEC; c++) { /* absent columns are one that is there: nobody asks for their products */
            at[c] = rows[v * VEC + c < columns ? v * VEC + c : 0];
        }
        if (is_super(type) || n == GROUP) {
            pack_scales(to->blocks, v, type, at, GROUP_BLOCKS);
            pack_numbers(to->blocks, v, type, at, GROUP_BLOCKS);
        } else {
            pack_scales(to->blocks, v, type, at, n / BLOCK);
            pack_numbers(to->blocks, v, type, at, n / BLOCK);
        }
    }
}

#define PACK(name)                                                                                                            \
    static void pack_##name(void *panel, const void *const *rows, int columns, int n) {                                        \
        pack_columns(panel, GGML_TYPE_##name, rows, columns, n);                                                               \
    }
TYPES(PACK)

static many_pack_t packs(enum ggml_type type, int64_t n) {
    switch (type) {
#define CASE(name) case GGML_TYPE_##name: return n % (is_super(type) ? GROUP : BLOCK) == 0 ? pack_##name : NULL;
        TYPES(CASE)
#undef CASE
    default: return NULL;
    }
}

/* ---- activations ------------------------------------------------------------------------------------------------- */

/* NaN where any is not finite: that shows in every product. n is a multiple of BLOCK. */
static float largest_of(const float *x, int n) {
    __m512i largest = _mm512_setzero_si512(); /* floats without sign are ordered as whole numbers */
    for (int i = 0; i < n; i += VEC) {
        largest = _mm512_max_epi32(largest, _mm512_and_si512(_mm512_loadu_si512(x + i), _mm512_set1_epi32(INT32_MAX)));
    }
    const int32_t bits = _mm512_reduce_max_epi32(largest);
    float f;
    memcpy(&f, &bits, sizeof f);
    return f < INFINITY ? f : NAN;
}

/* A block times `by`: of each four the first, the third, the second and the fourth, as unpacking leaves the weights' bytes.
 * Returns sums of the numbers, by lanes. */
VEC_INLINE vf pack_block(int16_t *q, const float *x, vf by) {
    const __m512i low = _mm512_cvtps_epi32(v_mul(v_load(x), by)), high = _mm512_cvtps_epi32(v_mul(v_load(x + VEC), by));
    const __m512i fours = _mm512_permutexvar_epi64(_mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0), _mm512_packs_epi32(low, high));
    const __m512i in_order = _mm512_shuffle_epi8(
        fours, _mm512_broadcast_i32x4(_mm_set_epi64x(0x0f0e0b0a0d0c0908, 0x0706030205040100)));
    _mm512_storeu_si512(q, in_order);
    return _mm512_cvtepi32_ps(_mm512_madd_epi16(in_order, _mm512_set1_epi16(1)));
}

/* A group of n blocks; returns its scale. */
VEC_INLINE float pack_group(int16_t *q, float *sums, const float *x, const int n) {
    const float largest = largest_of(x, n * BLOCK);
    const vf by = v_set1(largest > 0 ? (float)LARGEST / largest : 0);
    vf by_lanes[GROUP_BLOCKS];
    UNROLL
    for (int b = 0; b < n; b++) {
        by_lanes[b] = pack_block(q + b * BLOCK, x + b * BLOCK, by);
    }
    v_sums(sums, by_lanes, n);
    return largest / (float)LARGEST;
}

static void pack_x(void *packed, const float *x, size_t stride, int n_rows, int n) {
    struct rows *to = packed;
    for (int r = 0; r < n_rows; r++, x += stride) {
        to->scales[r] = n == GROUP ? pack_group(to->q[r], to->sums[r], x, GROUP_BLOCKS)
                                   : pack_group(to->q[r], to->sums[r], x, n / BLOCK);
    }
}

/* ---- the product ------------------------------------------------------------------------------------------------- */

/* sums += pairs [first, first + n) of a block with those of activations, the block's of which begin at i */
VEC_INLINE void add_pairs(__m512i sums[TILE_MR][TILE_NV], const struct block *b, const struct rows *x, int i, const int first,
                          const int n, const int rows) {
    UNROLL
    for (int k = first; k < first + n; k++) {
        __m512i w[TILE_NV];
        UNROLL
        for (int v = 0; v < TILE_NV; v++) {
            w[v] = _mm512_loadu_si512(b->q[k][v]);
        }
        UNROLL
        for (int r = 0; r < rows; r++) {
            int32_t pair;
            memcpy(&pair, &x->q[r][i + 2 * k], sizeof pair);
            const __m512i both = _mm512_castps_si512(v_loaded(_mm512_castsi512_ps(_mm512_set1_epi32(pair))));
            UNROLL
            for (int v = 0; v < TILE_NV; v++) {
                sums[r][v] = _mm512_dpwssd_epi32(sums[r][v], w[v], both);
            }
        }
    }
}

/* y += scale * the products of pairs [first, first + n) */
VEC_INLINE void add_scaled(vf y[TILE_MR][TILE_NV], const struct block *b, const struct rows *x, int i, const int half, const int first,
                           const int n, const int rows) {
    __m512i sums[TILE_MR][TILE_NV];
    UNROLL
    for (int k = 0; k < rows * TILE_NV; k++) {
        sums[k / TILE_NV][k % TILE_NV] = _mm512_setzero_si512();
    }
    add_pairs(sums, b, x, i, first, n, rows);
    UNROLL
    for (int v = 0; v < TILE_NV; v++) {
        const vf scale = v_load(b->scales[half][v]);
        UNROLL
        for (int r = 0; r < rows; r++) {
            y[r][v] = v_fma(_mm512_cvtepi32_ps(sums[r][v]), scale, y[r][v]);
        }
    }
}

VEC_INLINE void add_minima(vf y[TILE_MR][TILE_NV], const struct block *b, const struct rows *x, int i, const int rows) {
    UNROLL
    for (int v = 0; v < TILE_NV; v++) {
        const vf minimum = v_load(b->minima[v]);
        UNROLL
        for (int r = 0; r < rows; r++) {
            y[r][v] = v_fma(v_set1(x->sums[r][i / BLOCK]), minimum, y[r][v]);
        }
    }
}

VEC_INLINE void tile_of(const struct rows *x, const struct panel *panel, float *y, size_t y_stride, int n, bool add, const int rows,
                        const enum form form) {
    vf sums[TILE_MR][TILE_NV];
    UNROLL
    for (int k = 0; k < rows * TILE_NV; k++) {
        sums[k / TILE_NV][k % TILE_NV] = v_zero();
    }
    for (int i = 0; i < n; i += BLOCK) {
        const struct block *b = &panel->blocks[i / BLOCK];
        if (form == TWO_SCALES) {
            add_scaled(sums, b, x, i, 0, 0, PAIRS / 2, rows);
            add_scaled(sums, b, x, i, 1, PAIRS / 2, PAIRS / 2, rows);
        } else {
            add_scaled(sums, b, x, i, 0, 0, PAIRS, rows);
        }
        if (form == WITH_MINIMUM) {
            add_minima(sums, b, x, i, rows);
        }
    }
    UNROLL
    for (int k = 0; k < rows * TILE_NV; k++) {
        const int r = k / TILE_NV, v = k % TILE_NV;
        float *to = y + (size_t)r * y_stride + v * VEC;
        v_store(to, v_fma(sums[r][v], v_set1(x->scales[r]), add ? v_load(to) : v_zero()));
    }
}

#define TILE_CALL(r, nv) tile_of(x, panel, y, y_stride, n, add, r, FORM)
#define TILE(name)                                                                                                            \
    static void name(const struct rows *x, const struct panel *panel, float *y, size_t y_stride, int rows, int n, bool add) {  \
        const int nv = TILE_NV;                                                                                                \
        TILE_DISPATCH                                                                                                          \
    }
#define FORM ONE_SCALE
TILE(tile_one_scale)
#undef FORM
#define FORM WITH_MINIMUM
TILE(tile_with_minimum)
#undef FORM
#define FORM TWO_SCALES
TILE(tile_two_scales)

static void tile(const void *x, const void *panel, float *y, size_t y_stride, int n_rows, int n, bool add) {
    switch (((const struct panel *)panel)->form) {
    case ONE_SCALE: tile_one_scale(x, panel, y, y_stride, n_rows, n, add); break;
    case WITH_MINIMUM: tile_with_minimum(x, panel, y, y_stride, n_rows, n, add); break;
    case TWO_SCALES: tile_two_scales(x, panel, y, y_stride, n_rows, n, add); break;
    }
}

const struct many_kernel many_int16_avx512vnni = {
    .name = "avx512vnni", .rows = TILE_MR, .columns = TILE_NV * VEC,
    .x_bytes = (sizeof(struct rows) + 63) / 64 * 64, .panel_bytes = (sizeof(struct panel) + 63) / 64 * 64,
    .packs = packs, .pack_x = pack_x, .tile = tile, .pack_x_cost = 26, .pack_cost = 14,
};
