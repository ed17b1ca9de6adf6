/* The product in bf16 with f32 sums, of the AVX512_BF16 instructions: the f32 tile with a pair of bf16 for each float. */
#include "ops/convert.h"
#include "ops/gemm_bf16.h"
#include "ops/kernels.h"

#define TILE_MR 14
#define TILE_NV 2
#include "ops/tile_dispatch.h"

/* c[i][j] (= or +=) sum over pairs of a[pair][i] . b[pair][j] */
VEC_INSTANCE void tile_fixed(int n_pairs, const int32_t *a, const float *b, float *c, size_t c_stride, bool accumulate,
                           const int rows, const int nv) {
    vf acc[TILE_MR][TILE_NV];
    UNROLL
    for (int i = 0; i < rows; i++) {
        UNROLL
        for (int v = 0; v < nv; v++) {
            acc[i][v] = v_zero();
        }
    }
    for (int p = 0; p < n_pairs; p++, a += TILE_MR, b += PAIRS_NR) {
        __m512bh bv[TILE_NV];
        UNROLL
        for (int v = 0; v < nv; v++) {
            bv[v] = (__m512bh)v_load(b + v * VEC);
        }
        UNROLL
        for (int i = 0; i < rows; i++) {
            const __m512bh ai = (__m512bh)_mm512_set1_epi32(a[i]);
            UNROLL
            for (int v = 0; v < nv; v++) {
                acc[i][v] = _mm512_dpbf16_ps(acc[i][v], ai, bv[v]);
            }
        }
    }
    UNROLL
    for (int i = 0; i < rows; i++) {
        UNROLL
        for (int v = 0; v < nv; v++) {
            float *out = c + (size_t)i * c_stride + v * VEC;
            v_store(out, accumulate ? v_add(v_load(out), acc[i][v]) : acc[i][v]);
        }
    }
}

static void tile(int depth, const void *a, const void *b, float *c, size_t c_stride, int rows, int columns, bool accumulate) {
    const int nv = columns / VEC;
#define TILE_CALL(r, n) tile_fixed(depth / 2, a, b, c, c_stride, accumulate, r, n)
    TILE_DISPATCH
#undef TILE_CALL
}

static void pack_a(void *panel, const float *a, size_t i_stride, size_t p_stride, int rows, int depth, float scale) {
    float *dst = panel;
    const vf s = v_set1(scale);
    if (p_stride != 1) {
        for (int p = 0; p < depth; p += 2, dst += TILE_MR) {
            const vf low = row_at(a + (size_t)p * p_stride, 0, rows);
            const vf high = p + 1 < depth ? row_at(a + (size_t)(p + 1) * p_stride, 0, rows) : v_zero();
            v_store(dst, pairs_across(v_mul(low, s), v_mul(high, s), false));
        }
        return;
    }
    const float *source[VEC];
    for (int i = 0; i < VEC; i++) {
        source[i] = i < rows ? a + (size_t)i * i_stride : NULL;
    }
    for (int p = 0; p < depth; p += PAIRS_STEP, dst += PAIRS_STEP / 2 * TILE_MR) {
        pack_pairs(dst, TILE_MR, source, p, depth, s, false);
    }
}

enum { CHUNK_FLOATS = PAIRS_STEP / 2 * PAIRS_NR };

static void pack_b_columns(void *panel, const float *const *rows, int columns, int depth) {
    pairs_b_columns(panel, CHUNK_FLOATS, rows, columns, depth, false);
}

static void pack_b_depth(void *panel, const float *const *rows, size_t first_column, int columns, int depth) {
    pairs_b_depth(panel, CHUNK_FLOATS, rows, first_column, columns, depth, false);
}

const struct gemm_kernel gemm_bf16_avx512 = {
    .name = "avx512bf16", .mr = TILE_MR, .nr = PAIRS_NR, .nr_step = VEC, .depth_step = 2, .a_bytes = 2, .b_bytes = 2,
    .pack_a = pack_a, .pack_b_columns = pack_b_columns, .pack_b_depth = pack_b_depth, .tile = tile,
    .to_float = own_to_float,
};
