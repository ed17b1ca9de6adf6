/* Products on the AMX matrix unit: bf16 (one product), and bf16x3, faithful to f32 to about 4e-6: each operand is split in its
 * bf16 and the bf16 of the rest, and of the four products the three that matter are summed.
 *
 * C tiles of 32 x 32 are four tile registers. A panel of A is, for each 32 steps of depth, [32 rows][32] bf16 (split: twice,
 * the rest after the rounded), one of B [16 pairs][32 columns] pairs of bf16.
 */
#include "ops/convert.h"
#include "ops/gemm_bf16.h"
#include "ops/kernels.h"

enum { TILE = 32, PLANE_BYTES = TILE * PAIRS_STEP * 2, PLANE_FLOATS = PLANE_BYTES / 4 };

/* ---- tile registers: 0-3 sums, 4-5 rows of A, 6-7 columns of B ------------------------------------------------ */

static void begin(void *state) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = 16;
    }
    _tile_storeconfig(state); /* ggml may have set up this thread's tiles for itself */
    _tile_loadconfig(&config);
}

static void end(void *state) {
    if (*(const uint8_t *)state == 0) {
        _tile_release();
    } else {
        _tile_loadconfig(state);
    }
}

VEC_INLINE void load_a(const unsigned char *plane) {
    _tile_loadd(4, plane, 64);
    _tile_loadd(5, plane + PLANE_BYTES / 2, 64);
}

VEC_INLINE void load_b(const unsigned char *plane) {
    _tile_loadd(6, plane, 128);
    _tile_loadd(7, plane + 64, 128);
}

VEC_INLINE void multiply(void) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

VEC_INLINE void clear_sums(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

static void add_sums(float *c, size_t c_stride, int rows, int columns, bool accumulate) {
    _Alignas(64) float sums[TILE * TILE];
    _tile_stored(0, sums, TILE * 4);
    _tile_stored(1, sums + 16, TILE * 4);
    _tile_stored(2, sums + 16 * TILE, TILE * 4);
    _tile_stored(3, sums + 16 * TILE + 16, TILE * 4);
    for (int i = 0; i < rows; i++, c += c_stride) {
        for (int j = 0; j < columns; j += VEC) {
            const int n = columns - j < VEC ? columns - j : VEC;
            const vf x = v_load(sums + i * TILE + j);
            v_store_part(c + j, n, accumulate ? v_add(v_load_part(c + j, n), x) : x);
        }
    }
}

static void tile_bf16(int depth, const void *a, const void *b, float *c, size_t c_stride, int rows, int columns,
                      bool accumulate) {
    const unsigned char *pa = a, *pb = b;
    clear_sums();
    for (int p = 0; p < depth; p += PAIRS_STEP, pa += PLANE_BYTES, pb += PLANE_BYTES) {
        load_a(pa);
        load_b(pb);
        multiply();
    }
    add_sums(c, c_stride, rows, columns, accumulate);
}

static void tile_bf16x3(int depth, const void *a, const void *b, float *c, size_t c_stride, int rows, int columns,
                        bool accumulate) {
    const unsigned char *pa = a, *pb = b;
    clear_sums();
    for (int p = 0; p < depth; p += PAIRS_STEP, pa += 2 * PLANE_BYTES, pb += 2 * PLANE_BYTES) {
        load_a(pa);
        load_b(pb + PLANE_BYTES);
        multiply();
        load_b(pb);
        multiply();
        load_a(pa + PLANE_BYTES);
        multiply();
    }
    add_sums(c, c_stride, rows, columns, accumulate);
}

/* ---- packing -------------------------------------------------------------------------------------------------- */

/* One plane after the other: [depth/32] of `planes` planes each */
VEC_INSTANCE void pack_a_planes(unsigned char *panel, int planes, const float *a, size_t i_stride, size_t p_stride, int rows,
                              int depth, float scale) {
    const vf s = v_set1(scale);
    for (int p = 0; p < depth; p += PAIRS_STEP, panel += planes * PLANE_BYTES) {
        for (int i = 0; i < TILE; i++) {
            float steps[PAIRS_STEP] = {0};
            const float *row = steps;
            if (i < rows && p_stride == 1 && p + PAIRS_STEP <= depth) {
                row = a + (size_t)i * i_stride + p;
            } else if (i < rows) {
                for (int q = 0; q < PAIRS_STEP && p + q < depth; q++) {
                    steps[q] = a[(size_t)i * i_stride + (size_t)(p + q) * p_stride];
                }
            }
            for (int plane = 0; plane < planes; plane++) {
                float *out = (float *)(void *)(panel + plane * PLANE_BYTES + i * 64);
                v_store(out, pairs_along(row, 0, PAIRS_STEP, s, plane == 1));
            }
        }
    }
}

static void pack_a_bf16(void *panel, const float *a, size_t i_stride, size_t p_stride, int rows, int depth, float scale) {
    pack_a_planes(panel, 1, a, i_stride, p_stride, rows, depth, scale);
}

static void pack_a_bf16x3(void *panel, const float *a, size_t i_stride, size_t p_stride, int rows, int depth, float scale) {
    pack_a_planes(panel, 2, a, i_stride, p_stride, rows, depth, scale);
}

/* Packing of B writes pairs up to the depth only: what pads the last 32 steps must be 0 beforehand. */
static void clear_last(float *panel, int planes, int depth) {
    if (depth % PAIRS_STEP != 0) {
        const size_t chunk = (size_t)planes * PLANE_FLOATS;
        memset(panel + (size_t)(depth / PAIRS_STEP) * chunk, 0, chunk * sizeof(float));
    }
}

static void pack_b_columns_bf16(void *panel, const float *const *rows, int columns, int depth) {
    clear_last(panel, 1, depth);
    pairs_b_columns(panel, PLANE_FLOATS, rows, columns, depth, false);
}

static void pack_b_depth_bf16(void *panel, const float *const *rows, size_t first_column, int columns, int depth) {
    clear_last(panel, 1, depth);
    pairs_b_depth(panel, PLANE_FLOATS, rows, first_column, columns, depth, false);
}

static void pack_b_columns_bf16x3(void *panel, const float *const *rows, int columns, int depth) {
    clear_last(panel, 2, depth);
    pairs_b_columns(panel, 2 * PLANE_FLOATS, rows, columns, depth, false);
    pairs_b_columns((float *)panel + PLANE_FLOATS, 2 * PLANE_FLOATS, rows, columns, depth, true);
}

static void pack_b_depth_bf16x3(void *panel, const float *const *rows, size_t first_column, int columns, int depth) {
    clear_last(panel, 2, depth);
    pairs_b_depth(panel, 2 * PLANE_FLOATS, rows, first_column, columns, depth, false);
    pairs_b_depth((float *)panel + PLANE_FLOATS, 2 * PLANE_FLOATS, rows, first_column, columns, depth, true);
}

const struct gemm_kernel gemm_bf16_amx = {
    .name = "amxbf16", .mr = TILE, .nr = TILE, .nr_step = 1, .depth_step = PAIRS_STEP, .a_bytes = 2, .b_bytes = 2,
    .pack_a = pack_a_bf16, .pack_b_columns = pack_b_columns_bf16, .pack_b_depth = pack_b_depth_bf16, .tile = tile_bf16,
    .begin = begin, .end = end, .to_float = own_to_float,
};

const struct gemm_kernel gemm_bf16x3_amx = {
    .name = "amxbf16x3", .mr = TILE, .nr = TILE, .nr_step = 1, .depth_step = PAIRS_STEP, .a_bytes = 4, .b_bytes = 4,
    .pack_a = pack_a_bf16x3, .pack_b_columns = pack_b_columns_bf16x3, .pack_b_depth = pack_b_depth_bf16x3,
    .tile = tile_bf16x3, .begin = begin, .end = end, .to_float = own_to_float,
};
