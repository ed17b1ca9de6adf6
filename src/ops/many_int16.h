/* many.h in whole numbers over 256 or 512 bits; included once by each many_int16_*.c. */
#include "ops/many.h"

#include <immintrin.h>
#include <math.h>

#include "ops/few_int16_types.h"

/* A vector of 32-bit whole numbers, or of pairs of 16-bit ones, or of bytes. */
#if defined(__AVX512F__)

#define TILE_MR 7
typedef __m512i vi;
VEC_INLINE vi vi_zero(void) { return _mm512_setzero_si512(); }
VEC_INLINE vi vi_load(const void *p) { return _mm512_loadu_si512(p); }
VEC_INLINE void vi_store(void *p, vi a) { _mm512_storeu_si512(p, a); }
VEC_INLINE vi vi_set1(int32_t a) { return _mm512_set1_epi32(a); }
VEC_INLINE vf vi_to_float(vi a) { return _mm512_cvtepi32_ps(a); }
VEC_INLINE vf vi_as_float(vi a) { return _mm512_castsi512_ps(a); }
VEC_INLINE vi vi_of_float(vf a) { return _mm512_castps_si512(a); }
VEC_INLINE vi vi_add_products(vi sum, vi w, vi x) { return _mm512_dpwssd_epi32(sum, w, x); }
VEC_INLINE vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
VEC_INLINE vi vi_max(vi a, vi b) { return _mm512_max_epi32(a, b); }
VEC_INLINE vi vi_even_bytes(vi a) { return _mm512_srai_epi16(_mm512_slli_epi16(a, 8), 8); }
VEC_INLINE vi vi_odd_bytes(vi a) { return _mm512_srai_epi16(a, 8); }
/* a, b rounded to 16 bits, one after the other; of each four the first, the third, the second, the fourth */
VEC_INLINE vi vi_pack(vf a, vf b) {
    const vi fours = _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b)); /* alternately of a and b */
    return _mm512_shuffle_epi8(_mm512_permutexvar_epi64(_mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0), fours),
                               _mm512_broadcast_i32x4(_mm_set_epi64x(0x0f0e0b0a0d0c0908, 0x0706030205040100)));
}

#else

#define TILE_MR 4
typedef __m256i vi;
VEC_INLINE vi vi_zero(void) { return _mm256_setzero_si256(); }
VEC_INLINE vi vi_load(const void *p) { return _mm256_loadu_si256(p); }
VEC_INLINE void vi_store(void *p, vi a) { _mm256_storeu_si256(p, a); }
VEC_INLINE vi vi_set1(int32_t a) { return _mm256_set1_epi32(a); }
VEC_INLINE vf vi_to_float(vi a) { return _mm256_cvtepi32_ps(a); }
VEC_INLINE vf vi_as_float(vi a) { return _mm256_castsi256_ps(a); }
VEC_INLINE vi vi_of_float(vf a) { return _mm256_castps_si256(a); }
VEC_INLINE vi vi_add_products(vi sum, vi w, vi x) {
#if defined(__AVXVNNI__)
    return _mm256_dpwssd_avx_epi32(sum, w, x);
#else
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(w, x));
    __asm__("" : "+x"(sum)); /* the compiler would put products aside and add them at the end */
    return sum;
#endif
}
VEC_INLINE vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
VEC_INLINE vi vi_max(vi a, vi b) { return _mm256_max_epi32(a, b); }
VEC_INLINE vi vi_even_bytes(vi a) { return _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8); }
VEC_INLINE vi vi_odd_bytes(vi a) { return _mm256_srai_epi16(a, 8); }
VEC_INLINE vi vi_pack(vf a, vf b) {
    const vi fours = _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));
    return _mm256_shuffle_epi8(_mm256_permute4x64_epi64(fours, 0xd8),
                               _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0f0e0b0a0d0c0908, 0x0706030205040100)));
}

#endif

#define TILE_NV 2
#include "ops/tile_dispatch.h"

enum {
    PAIRS = BLOCK / 2,     /* steps of a block: two weights in each 32 bits */
    AT_ONCE = VEC * 4 / BLOCK /* blocks of a column that are unpacked together */
};

/* A panel's blocks are 32 steps of a group. Of the 16-bit numbers two of each column lie together, which packed activations
 * have in the same order: see vi_pack. A lane sums products of one column, at most 32 of 128 and 32000, before they are
 * converted. */
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

_Static_assert(sizeof(struct panel) <= MANY_PANEL_BYTES && (int)GROUP == (int)MANY_GROUP && TILE_MR <= MANY_MAX_ROWS &&
                   TILE_NV * VEC <= (int)MANY_MAX_COLUMNS,
               "what many.c has room for");

/* A group of activations. */
struct rows {
    int16_t q[TILE_MR][GROUP];
    float sums[TILE_MR][GROUP_BLOCKS]; /* of the numbers of a block */
    float scales[TILE_MR];
};

/* ---- weights ---------------------------------------------------------------------------------------------------- */

VEC_INLINE __m256i load32(const uint8_t *p) { return _mm256_loadu_si256((const void *)p); }

/* 16 bytes -> their low halves, then their high ones */
VEC_INLINE __m256i halves16(const uint8_t *p) {
    const __m128i bytes = _mm_loadu_si128((const void *)p);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes), _mm256_set1_epi8(15));
}

/* `n` bits of each of 32 bytes, from `first` on */
VEC_INLINE __m256i bits32(const uint8_t *p, const int first, const int n) {
    return _mm256_and_si256(_mm256_srli_epi16(load32(p), first), _mm256_set1_epi8((char)((1 << n) - 1)));
}

/* Block j of a group at p as bytes, without scale and minimum; the layouts are in few_int16_blocks.h. */
VEC_INLINE __m256i bytes_of_block(const enum ggml_type type, const uint8_t *p, const int j) {
    const uint8_t *block = p + (is_super(type) ? 0 : (size_t)j * block_bytes(type));
    switch (type) {
    case GGML_TYPE_Q8_0: return load32(block + 2);
    case GGML_TYPE_Q4_0: return _mm256_sub_epi8(halves16(block + 2), _mm256_set1_epi8(8));
    case GGML_TYPE_Q4_1: return halves16(block + 4);
    case GGML_TYPE_Q4_K: return bits32(p + 16 + j / 2 * 32, j % 2 * 4, 4);
    case GGML_TYPE_Q5_K:
        return _mm256_or_si256(bits32(p + 48 + j / 2 * 32, j % 2 * 4, 4), _mm256_slli_epi16(bits32(p + 16, j, 1), 4));
    default: { /* q6_K */
        const __m256i low = bits32(p + j / 4 * 64 + j % 2 * 32, j % 4 / 2 * 4, 4);
        const __m256i high = bits32(p + 128 + j / 4 * 32, j % 4 * 2, 2);
        return _mm256_sub_epi8(_mm256_or_si256(low, _mm256_slli_epi16(high, 4)), _mm256_set1_epi8(32));
    }
    }
}

/* AT_ONCE blocks from j on; zeros for those from n on */
VEC_INLINE vi bytes_of(const enum ggml_type type, const uint8_t *p, const int j, const int n) {
#if defined(__AVX512F__)
    const __m256i second = j + 1 < n ? bytes_of_block(type, p, j + 1) : _mm256_setzero_si256();
    return _mm512_inserti64x4(_mm512_castsi256_si512(bytes_of_block(type, p, j)), second, 1);
#else
    (void)n;
    return bytes_of_block(type, p, j);
#endif
}

VEC_INLINE float f16_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}

/* Of a super-block's 8 scales and 8 minima (q6_K: 16 scales) those from `first` on that fill a vector. */
VEC_INLINE vf super_scales(const enum ggml_type type, const uint8_t *p, const int first) {
    if (type == GGML_TYPE_Q6_K) {
        return v_mul(v_from_i8(p + 192 + first), v_set1(f16_at(p + 208)));
    }
    uint64_t scales, minima;
    scales_and_minima(p + 4, &scales, &minima);
#if defined(__AVX512F__)
    const __m128i bytes = _mm_set_epi64x((long long)minima, (long long)scales);
    return v_mul(vi_to_float(_mm512_cvtepu8_epi32(bytes)),
                 _mm512_mask_blend_ps(0xff00, v_set1(f16_at(p)), v_set1(-f16_at(p + 2))));
#else
    const __m128i bytes = _mm_cvtsi64_si128((long long)(first ? minima : scales));
    return v_mul(vi_to_float(_mm256_cvtepu8_epi32(bytes)), v_set1(first ? -f16_at(p + 2) : f16_at(p)));
#endif
}

VEC_INLINE enum form form_of(const enum ggml_type type) {
    switch (type) {
    case GGML_TYPE_Q8_0:
    case GGML_TYPE_Q4_0: return ONE_SCALE; /* of levels from -8 on */
    case GGML_TYPE_Q6_K: return TWO_SCALES;
    default: return WITH_MINIMUM;
    }
}

/* Scales and minima of a group of VEC columns into vector v of a panel's blocks. */
VEC_INLINE void pack_super_scales(struct block *to, int v, const enum ggml_type type, const uint8_t *const rows[VEC]) {
    for (int first = 0; first < 2 * GROUP_BLOCKS; first += VEC) {
        vf s[VEC];
        UNROLL
        for (int c = 0; c < VEC; c++) {
            s[c] = super_scales(type, rows[c], first);
        }
        v_transpose(s);
        UNROLL
        for (int k = 0; k < VEC; k++) {
            const int i = first + k;
            v_store(type == GGML_TYPE_Q6_K ? to[i / 2].scales[i % 2][v]
                    : i < GROUP_BLOCKS     ? to[i].scales[0][v]
                                           : to[i - GROUP_BLOCKS].minima[v],
                    s[k]);
        }
    }
}

/* The same of n blocks of a type without super-blocks. */
VEC_INLINE void pack_scales(struct block *to, int v, const enum ggml_type type, const uint8_t *const rows[VEC], const int n) {
    uint16_t scales[GROUP_BLOCKS][VEC], minima[GROUP_BLOCKS][VEC];
    for (int c = 0; c < VEC; c++) {
        UNROLL
        for (int b = 0; b < GROUP_BLOCKS; b++) {
            const uint8_t *block = rows[c] + (size_t)b * block_bytes(type);
            if (b < n) {
                memcpy(&scales[b][c], block, sizeof **scales);
            }
            if (b < n && form_of(type) == WITH_MINIMUM) {
                memcpy(&minima[b][c], block + 2, sizeof **minima);
            }
        }
    }
    for (int b = 0; b < n; b++) {
        v_store(to[b].scales[0][v], v_load_f16(scales[b]));
        if (form_of(type) == WITH_MINIMUM) {
            v_store(to[b].minima[v], v_load_f16(minima[b]));
        }
    }
}

/* The numbers of n blocks likewise. */
VEC_INLINE void pack_numbers(struct block *to, int v, const enum ggml_type type, const uint8_t *const rows[VEC], const int n) {
    UNROLL
    for (int b = 0; b < GROUP_BLOCKS; b += AT_ONCE) {
        vf t[VEC];
        if (b >= n) {
            break;
        }
        UNROLL
        for (int c = 0; c < VEC; c++) {
            t[c] = vi_as_float(bytes_of(type, rows[c], b, n));
        }
        v_transpose(t); /* four weights of each column */
        UNROLL
        for (int k = 0; k < VEC; k++) {
            const int at = b + 2 * k / PAIRS;
            if (at < n) {
                vi_store(to[at].q[2 * k % PAIRS][v], vi_even_bytes(vi_of_float(t[k])));
                vi_store(to[at].q[2 * k % PAIRS + 1][v], vi_odd_bytes(vi_of_float(t[k])));
            }
        }
    }
}

VEC_INSTANCE void pack_columns(void *panel, const enum ggml_type type, const void *const *rows, int columns, int n) {
    struct panel *to = panel;
    to->form = form_of(type);
    for (int v = 0; v < TILE_NV && v * VEC < columns; v++) {
        const uint8_t *at[VEC];
        for (int c = 0; c < VEC; c++) { /* absent columns are one that is there: nobody asks for their products */
            at[c] = rows[v * VEC + c < columns ? v * VEC + c : 0];
        }
        if (is_super(type)) {
            pack_super_scales(to->blocks, v, type, at);
            pack_numbers(to->blocks, v, type, at, GROUP_BLOCKS);
        } else if (n == GROUP) {
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
    vi most = vi_zero(); /* floats without sign are ordered as whole numbers */
    for (int i = 0; i < n; i += VEC) {
        most = vi_max(most, vi_and(vi_load(x + i), vi_set1(INT32_MAX)));
    }
    int32_t lanes[VEC], largest = 0;
    vi_store(lanes, most);
    for (int i = 0; i < VEC; i++) {
        largest = lanes[i] > largest ? lanes[i] : largest;
    }
    float f;
    memcpy(&f, &largest, sizeof f);
    return f < INFINITY ? f : NAN;
}

/* 2 VEC floats times `by` as 16-bit numbers, in the order that unpacking leaves the weights in. Returns sums of the numbers, by
 * lanes. */
VEC_INLINE vf pack_numbers_of_x(int16_t *q, const float *x, vf by) {
    const vi numbers = vi_pack(v_mul(v_load(x), by), v_mul(v_load(x + VEC), by));
    vi_store(q, numbers);
    return vi_to_float(vi_add_products(vi_zero(), numbers, vi_set1(0x00010001)));
}

/* A group of n blocks, the sums of others being 0; returns its scale. */
VEC_INLINE float pack_group(int16_t *q, float *sums, const float *x, const int n) {
    const float largest = largest_of(x, n * BLOCK);
    const vf by = v_set1(largest > 0 ? (float)LARGEST / largest : 0);
    vf by_lanes[GROUP_BLOCKS];
    UNROLL
    for (int b = 0; b < GROUP_BLOCKS; b++) {
        by_lanes[b] = v_zero();
        for (int i = 0; i < BLOCK && b < n; i += 2 * VEC) {
            by_lanes[b] = v_add(by_lanes[b], pack_numbers_of_x(q + b * BLOCK + i, x + b * BLOCK + i, by));
        }
    }
    v_sums(sums, by_lanes, GROUP_BLOCKS);
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
VEC_INLINE void add_pairs(vi sums[TILE_MR][TILE_NV], const struct block *b, const struct rows *x, int i, const int first,
                          const int n, const int rows, const int nv) {
    UNROLL
    for (int k = first; k < first + n; k++) {
        vi w[TILE_NV];
        UNROLL
        for (int v = 0; v < nv; v++) {
            w[v] = vi_load(b->q[k][v]);
        }
        UNROLL
        for (int r = 0; r < rows; r++) {
            int32_t pair;
            memcpy(&pair, &x->q[r][i + 2 * k], sizeof pair);
            const vi both = vi_of_float(v_loaded(vi_as_float(vi_set1(pair))));
            UNROLL
            for (int v = 0; v < nv; v++) {
                sums[r][v] = vi_add_products(sums[r][v], w[v], both);
            }
        }
    }
}

/* y += scale * the products of pairs [first, first + n) */
VEC_INLINE void add_scaled(vf y[TILE_MR][TILE_NV], const struct block *b, const struct rows *x, int i, const int half,
                           const int first, const int n, const int rows, const int nv) {
    vi sums[TILE_MR][TILE_NV];
    UNROLL
    for (int k = 0; k < rows * nv; k++) {
        sums[k / nv][k % nv] = vi_zero();
    }
    add_pairs(sums, b, x, i, first, n, rows, nv);
    UNROLL
    for (int v = 0; v < nv; v++) {
        const vf scale = v_load(b->scales[half][v]);
        UNROLL
        for (int r = 0; r < rows; r++) {
            y[r][v] = v_fma(vi_to_float(sums[r][v]), scale, y[r][v]);
        }
    }
}

VEC_INLINE void add_minima(vf y[TILE_MR][TILE_NV], const struct block *b, const struct rows *x, int i, const int rows,
                           const int nv) {
    UNROLL
    for (int v = 0; v < nv; v++) {
        const vf minimum = v_load(b->minima[v]);
        UNROLL
        for (int r = 0; r < rows; r++) {
            y[r][v] = v_fma(v_set1(x->sums[r][i / BLOCK]), minimum, y[r][v]);
        }
    }
}

VEC_INSTANCE void tile_of(const struct rows *x, const struct panel *panel, float *y, size_t y_stride, int n, bool add,
                          const struct many_ahead *ahead, const int rows, const int nv, const enum form form) {
    const size_t fetched = ahead->bytes / (size_t)(n / BLOCK) / 64 * 64 + 64; /* with a block */
    const char *at = ahead->at, *const end = at + ahead->bytes;
    vf sums[TILE_MR][TILE_NV];
    UNROLL
    for (int k = 0; k < rows * nv; k++) {
        sums[k / nv][k % nv] = v_zero();
    }
    for (int i = 0; i < n; i += BLOCK) {
        const struct block *b = &panel->blocks[i / BLOCK];
        for (const char *stop = at + fetched < end ? at + fetched : end; at < stop; at += 64) {
            __builtin_prefetch(at);
        }
        if (form == TWO_SCALES) {
            add_scaled(sums, b, x, i, 0, 0, PAIRS / 2, rows, nv);
            add_scaled(sums, b, x, i, 1, PAIRS / 2, PAIRS / 2, rows, nv);
        } else {
            add_scaled(sums, b, x, i, 0, 0, PAIRS, rows, nv);
        }
        if (form == WITH_MINIMUM) {
            add_minima(sums, b, x, i, rows, nv);
        }
    }
    UNROLL
    for (int k = 0; k < rows * nv; k++) {
        const int r = k / nv, v = k % nv;
        float *to = y + (size_t)r * y_stride + v * VEC;
        v_store(to, v_fma(sums[r][v], v_set1(x->scales[r]), add ? v_load(to) : v_zero()));
    }
}

#define TILE_CALL(r, nv) tile_of(x, panel, y, y_stride, n, add, ahead, r, nv, FORM)
#define TILE(name)                                                                                                            \
    static void name(const struct rows *x, const struct panel *panel, float *y, size_t y_stride, int rows, int nv, int n,      \
                     bool add, const struct many_ahead *ahead) {                                                               \
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
#undef FORM

static void tile(const void *x, const void *panel, float *y, size_t y_stride, int n_rows, int columns, int n, bool add,
                 const struct many_ahead *ahead) {
    const int nv = columns > VEC ? TILE_NV : 1;
    switch (((const struct panel *)panel)->form) {
    case ONE_SCALE: tile_one_scale(x, panel, y, y_stride, n_rows, nv, n, add, ahead); break;
    case WITH_MINIMUM: tile_with_minimum(x, panel, y, y_stride, n_rows, nv, n, add, ahead); break;
    case TWO_SCALES: tile_two_scales(x, panel, y, y_stride, n_rows, nv, n, add, ahead); break;
    }
}

#define MANY_KERNEL                                                                                                           \
    .rows = TILE_MR, .columns = TILE_NV * VEC, .x_bytes = (sizeof(struct rows) + 63) / 64 * 64,                                \
    .packs = packs, .pack_x = pack_x, .tile = tile,                                                                            \
    .pack_x_cost = 26, .pack_cost = 14
