/* Packing f32 as pairs of bf16, shared by the kernels that multiply such pairs (gemm_avx512bf16.c, gemm_amx.c).
 *
 * A pair is the bf16 of two successive steps of depth in 32 bits, the first one low. A panel of B is [depth/2][32] pairs.
 * "Split" packing keeps, for each 32 steps of depth, the rounded values and after them what rounding took away, so that
 * three products of bf16 restore nearly all of f32.
 */
#ifndef OPS_GEMM_BF16_H
#define OPS_GEMM_BF16_H

#include "ops/gemm.h"
#include "ops/vec.h"

enum { PAIRS_NR = 32, PAIRS_STEP = 32 /* steps of depth handled at a time: 16 pairs */ };

/* Elements [p, p + 16) of a row of n, 0 beyond */
VEC_INLINE vf row_at(const float *row, int p, int n) {
    return p + VEC <= n ? v_load(row + p) : p < n ? v_load_part(row + p, n - p) : v_zero();
}

VEC_INLINE vf bf16_round(vf x) {
    const __m512i wide = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

VEC_INLINE vf bf16_rest(vf x) { return v_sub(x, bf16_round(x)); }

/* The 16 pairs of row elements [p, p + 32) */
VEC_INLINE vf pairs_along(const float *row, int p, int n, vf scale, bool rest) {
    vf low = v_mul(row_at(row, p, n), scale), high = v_mul(row_at(row, p + VEC, n), scale);
    if (rest) {
        low = bf16_rest(low);
        high = bf16_rest(high);
    }
    return (vf)_mm512_cvtne2ps_pbh(high, low);
}

/* The 16 pairs (low[j], high[j]) */
VEC_INLINE vf pairs_across(vf low, vf high, bool rest) {
    if (rest) {
        low = bf16_rest(low);
        high = bf16_rest(high);
    }
    const __m512i l = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(low));
    const __m512i h = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(high));
    return _mm512_castsi512_ps(_mm512_or_si512(l, _mm512_slli_epi32(h, 16)));
}

/* dst[pair * stride + i] = pairs of rows[i] from step p on, for 16 rows (NULL: 0) and as many pairs as depth leaves, at most
 * 16. Stores are 16 wide, see pack_transposed in gemm_tile.h. */
VEC_INSTANCE void pack_pairs(float *dst, size_t stride, const float *const rows[VEC], int p, int depth, vf scale, bool rest) {
    vf r[VEC];
    UNROLL
    for (int i = 0; i < VEC; i++) {
        r[i] = rows[i] ? pairs_along(rows[i], p, depth, scale, rest) : v_zero();
    }
    v_transpose(r);
    const int left = (depth - p + 1) / 2, n = left < VEC ? left : VEC;
    for (int i = 0; i < n; i++) {
        v_store(dst + (size_t)i * stride, r[i]);
    }
}

/* Panel of B from rows[j][p]; chunk_floats: floats from one 32 steps to the next. */
VEC_INSTANCE void pairs_b_columns(float *panel, size_t chunk_floats, const float *const *rows, int columns, int depth,
                                bool rest) {
    for (int v = 0; v < PAIRS_NR / VEC; v++) {
        const float *source[VEC];
        for (int j = 0; j < VEC; j++) {
            source[j] = v * VEC + j < columns ? rows[v * VEC + j] : NULL;
        }
        for (int p = 0; p < depth; p += PAIRS_STEP) {
            float *chunk = panel + (size_t)(p / PAIRS_STEP) * chunk_floats;
            pack_pairs(chunk + v * VEC, PAIRS_NR, source, p, depth, v_set1(1.0f), rest);
        }
    }
}

/* Panel of B from rows[p][j] */
VEC_INSTANCE void pairs_b_depth(float *panel, size_t chunk_floats, const float *const *rows, size_t first_column, int columns,
                              int depth, bool rest) {
    for (int p = 0; p < depth; p += 2) {
        float *dst = panel + (size_t)(p / PAIRS_STEP) * chunk_floats + (size_t)(p % PAIRS_STEP / 2 * PAIRS_NR);
        for (int v = 0; v < PAIRS_NR / VEC; v++) {
            const vf low = row_at(rows[p] + first_column, v * VEC, columns);
            const vf high = p + 1 < depth ? row_at(rows[p + 1] + first_column, v * VEC, columns) : v_zero();
            v_store(dst + v * VEC, pairs_across(low, high, rest));
        }
    }
}

#endif
