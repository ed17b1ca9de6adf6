/* The f32 tile and its packing, written over vec.h; included once by each kernels_*.c.
 *
 * Before inclusion: TILE_MR rows, TILE_NV vectors a row. A panel is [depth][TILE_MR], a panel of B [depth][TILE_NV * VEC].
 * tile_any also serves attention, whose operands lie unpacked in memory: hence the strides.
 */
#include "ops/gemm.h"
#include "ops/tile_dispatch.h"
#include "ops/vec.h"

enum { TILE_NR = TILE_NV * VEC };
_Static_assert(TILE_MR <= VEC && TILE_NR <= (int)GEMM_MAX_NR, "one transposition packs a panel of A");

/* c[i][j] (= or +=) sum_p a[p * a_stride + i] b[p * b_stride + j] for i < rows, j < nv * VEC; rows and nv are constants. */
VEC_INSTANCE void tile_fixed(int depth, const float *a, size_t a_stride, const float *b, size_t b_stride, float *c,
                           size_t c_stride, bool accumulate, const int rows, const int nv) {
    vf acc[TILE_MR][TILE_NV];
    UNROLL
    for (int i = 0; i < rows; i++) {
        UNROLL
        for (int v = 0; v < nv; v++) {
            acc[i][v] = v_zero();
        }
    }
    for (int p = 0; p < depth; p++, a += a_stride, b += b_stride) {
        vf bv[TILE_NV];
        UNROLL
        for (int v = 0; v < nv; v++) {
            bv[v] = v_load(b + v * VEC);
        }
        UNROLL
        for (int i = 0; i < rows; i++) {
            const vf ai = v_set1(a[i]);
            UNROLL
            for (int v = 0; v < nv; v++) {
                acc[i][v] = v_fma(ai, bv[v], acc[i][v]);
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

/* c[i][j] += sum_p a[i][p] b[p * b_stride + j] for i < rows, j < nv * VEC, where rows of a are TILE_NR apart. */
VEC_INSTANCE void tile_rows_fixed(int depth, const float *a, const float *b, size_t b_stride, float *c, size_t c_stride,
                                const int rows, const int nv) {
    vf acc[TILE_MR][TILE_NV];
    UNROLL
    for (int i = 0; i < rows; i++) {
        UNROLL
        for (int v = 0; v < nv; v++) {
            acc[i][v] = v_load(c + (size_t)i * c_stride + v * VEC);
        }
    }
    for (int p = 0; p < depth; p++, a++, b += b_stride) {
        vf bv[TILE_NV];
        UNROLL
        for (int v = 0; v < nv; v++) {
            bv[v] = v_load(b + v * VEC);
        }
        UNROLL
        for (int i = 0; i < rows; i++) {
            const vf ai = v_set1(a[i * TILE_NR]);
            UNROLL
            for (int v = 0; v < nv; v++) {
                acc[i][v] = v_fma(ai, bv[v], acc[i][v]);
            }
        }
    }
    UNROLL
    for (int i = 0; i < rows; i++) {
        UNROLL
        for (int v = 0; v < nv; v++) {
            v_store(c + (size_t)i * c_stride + v * VEC, acc[i][v]);
        }
    }
}

/* tile_fixed for any rows <= TILE_MR and nv 1 or TILE_NV */
static void tile_any(int depth, const float *a, size_t a_stride, const float *b, size_t b_stride, float *c, size_t c_stride,
                     int rows, int nv, bool accumulate) {
#define TILE_CALL(r, n) tile_fixed(depth, a, a_stride, b, b_stride, c, c_stride, accumulate, r, n)
    TILE_DISPATCH
#undef TILE_CALL
}

/* tile_rows_fixed likewise */
static void tile_rows_any(int depth, const float *a, const float *b, size_t b_stride, float *c, size_t c_stride, int rows,
                          int nv) {
#define TILE_CALL(r, n) tile_rows_fixed(depth, a, b, b_stride, c, c_stride, r, n)
    TILE_DISPATCH
#undef TILE_CALL
}

static void tile_f32(int depth, const void *a, const void *b, float *c, size_t c_stride, int rows, int columns,
                     bool accumulate) {
    tile_any(depth, a, TILE_MR, b, TILE_NR, c, c_stride, rows, columns / VEC, accumulate);
}

/* dst[p * stride + i] = scale * rows[i][p] for i < VEC, p < depth. Each store writes VEC floats: with stride < VEC the next p's
 * store overwrites what is too much, and the last one leaves VEC - stride floats beyond. rows[i] NULL: 0. */
VEC_INSTANCE void pack_transposed(float *dst, size_t stride, const float *const rows[VEC], int depth, vf scale) {
    vf r[VEC];
    int p = 0;
    for (; p + VEC <= depth; p += VEC) {
        UNROLL
        for (int i = 0; i < VEC; i++) {
            r[i] = rows[i] ? v_mul(v_load(rows[i] + p), scale) : v_zero();
        }
        v_transpose(r);
        UNROLL
        for (int i = 0; i < VEC; i++) {
            v_store(dst + (size_t)(p + i) * stride, r[i]);
        }
    }
    for (; p < depth; p++) {
        float column[VEC];
        for (int i = 0; i < VEC; i++) {
            column[i] = rows[i] ? rows[i][p] : 0.0f;
        }
        v_store(dst + (size_t)p * stride, v_mul(v_load(column), scale));
    }
}

static void pack_a_f32(void *panel, const float *a, size_t i_stride, size_t p_stride, int rows, int depth, float scale) {
    float *dst = panel;
    if (p_stride != 1) { /* the panel's rows are contiguous already */
        for (int p = 0; p < depth; p++) {
            for (int i = 0; i < TILE_MR; i++) {
                dst[p * TILE_MR + i] = i < rows ? scale * a[(size_t)p * p_stride + (size_t)i] : 0.0f;
            }
        }
        return;
    }
    const float *source[VEC];
    for (int i = 0; i < VEC; i++) {
        source[i] = i < rows ? a + (size_t)i * i_stride : NULL;
    }
    pack_transposed(dst, TILE_MR, source, depth, v_set1(scale));
}

static void pack_b_columns_f32(void *panel, const float *const *rows, int columns, int depth) {
    for (int v = 0; v < TILE_NV; v++) {
        const float *source[VEC];
        for (int j = 0; j < VEC; j++) {
            source[j] = v * VEC + j < columns ? rows[v * VEC + j] : NULL;
        }
        pack_transposed((float *)panel + v * VEC, TILE_NR, source, depth, v_set1(1.0f));
    }
}

static void pack_b_depth_f32(void *panel, const float *const *rows, size_t first_column, int columns, int depth) {
    float *dst = panel;
    for (int p = 0; p < depth; p++, dst += TILE_NR) {
        const float *source = rows[p] + first_column;
        for (int v = 0; v < TILE_NV; v++) {
            const int left = columns - v * VEC;
            v_store(dst + v * VEC, left >= VEC ? v_load(source + v * VEC)
                                   : left > 0 ? v_load_part(source + v * VEC, left)
                                              : v_zero());
        }
    }
}

#define GEMM_KERNEL(kernel_name)                                                                                      \
    {.name = kernel_name, .mr = TILE_MR, .nr = TILE_NR, .nr_step = VEC, .depth_step = 1, .a_bytes = 4, .b_bytes = 4,  \
     .pack_a = pack_a_f32, .pack_b_columns = pack_b_columns_f32, .pack_b_depth = pack_b_depth_f32, .tile = tile_f32,  \
     .to_float = own_to_float}
