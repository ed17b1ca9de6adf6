/* The AMX kernels on any processor with AVX512_BF16: the tile instructions are emulated, so that packing, tiling and sums
 * are proved where there is no matrix unit. What it cannot prove is that the emulation is the hardware. */
#include <immintrin.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Eight registers of 16 rows of 64 bytes; only the whole of them is used. */
static uint32_t tiles[8][16][16];
static uint8_t tile_state[64];

static void emulated_load(int t, const void *base, size_t stride) {
    assert_int_equal(tile_state[0], 1); /* configured */
    for (int i = 0; i < 16; i++) {
        memcpy(tiles[t][i], (const char *)base + (size_t)i * stride, 64);
    }
}

static void emulated_store(int t, void *base, size_t stride) {
    for (int i = 0; i < 16; i++) {
        memcpy((char *)base + (size_t)i * stride, tiles[t][i], 64);
    }
}

static float bits(uint32_t x) {
    float f;
    memcpy(&f, &x, sizeof(f));
    return f;
}

/* TDPBF16PS: C[m][n] += sum_k A[m][2k] B[k][2n] + A[m][2k+1] B[k][2n+1] */
static void emulated_dpbf16(int c, int a, int b) {
    for (int m = 0; m < 16; m++) {
        for (int n = 0; n < 16; n++) {
            float sum = bits(tiles[c][m][n]);
            for (int k = 0; k < 16; k++) {
                sum += bits(tiles[a][m][k] << 16) * bits(tiles[b][k][n] << 16);
                sum += bits(tiles[a][m][k] & 0xffff0000u) * bits(tiles[b][k][n] & 0xffff0000u);
            }
            memcpy(&tiles[c][m][n], &sum, sizeof(sum));
        }
    }
}

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#undef _tile_loadconfig
#undef _tile_storeconfig
#undef _tile_release
#define _tile_loadd(t, base, stride) emulated_load(t, base, stride)
#define _tile_stored(t, base, stride) emulated_store(t, base, stride)
#define _tile_zero(t) memset(tiles[t], 0, sizeof(tiles[t]))
#define _tile_dpbf16ps(c, a, b) emulated_dpbf16(c, a, b)
#define _tile_loadconfig(config) memcpy(tile_state, config, 64)
#define _tile_storeconfig(config) memcpy(config, tile_state, 64)
#define _tile_release() memset(tile_state, 0, 64)

#define gemm_bf16_amx emulated_bf16
#define gemm_bf16x3_amx emulated_bf16x3
#include "ops/gemm_amx.c"

#include "base/rng.h"

static void *scratch;

static void random_fill(float *x, int64_t n, uint64_t seed) {
    struct rng rng;
    rng_seed(&rng, seed);
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)rng_normal(&rng);
    }
}

/* transposed: A and C with contiguous columns instead of rows */
static void check(const struct gemm_kernel *kernel, double tolerance, int64_t m, int64_t n, int64_t depth,
                  enum gemm_orientation orientation, bool transposed) {
    float *a = malloc((size_t)(m * depth) * sizeof(float)), *b = malloc((size_t)(n * depth) * sizeof(float));
    float *c = malloc((size_t)(m * n) * sizeof(float)), *was = malloc((size_t)(m * n) * sizeof(float));
    random_fill(a, m * depth, 1);
    random_fill(b, n * depth, 2);
    random_fill(c, m * n, 3);
    memcpy(was, c, (size_t)(m * n) * sizeof(float));
    const bool columns = orientation == GEMM_ROWS_ARE_COLUMNS;
    const struct gemm g = {
        .m = m, .n = n, .depth = depth,
        .a = a, .a_i_stride = transposed ? 1 : (size_t)depth, .a_p_stride = transposed ? (size_t)m : 1,
        .orientation = orientation,
        .parts = {{b, GGML_TYPE_F32, (size_t)(columns ? depth : n) * sizeof(float), columns ? n : depth}}, .n_parts = 1,
        .c = c, .c_i_stride = transposed ? 1 : (size_t)n, .c_j_stride = transposed ? (size_t)m : 1,
        .scale = 0.5f, .accumulate = true,
    };
    for (int ith = 0; ith < 3; ith++) {
        gemm_run(kernel, &g, scratch, ith, 3);
    }
    assert_int_equal(tile_state[0], 0); /* as it was before */
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            const int64_t at = transposed ? j * m + i : i * n + j;
            double sum = (double)was[at], size = fabs(sum) + 1e-30;
            for (int64_t p = 0; p < depth; p++) {
                const double x = (double)a[transposed ? p * m + i : i * depth + p];
                const double y = (double)b[columns ? j * depth + p : p * n + j];
                sum += 0.5 * x * y;
                size += fabs(0.5 * x * y);
            }
            assert_true(fabs((double)c[at] - sum) <= tolerance * size);
        }
    }
    free(a);
    free(b);
    free(c);
    free(was);
}

static void test_emulated_products_equal_the_sum(void **state) {
    (void)state;
    static const int64_t sizes[][3] = {{1, 1, 1}, {3, 40, 33}, {33, 31, 64}, {70, 65, 800}, {32, 32, 31}};
    for (int s = 0; s < 5; s++) {
        for (int way = 0; way < 4; way++) {
            const enum gemm_orientation o = way % 2 ? GEMM_ROWS_ARE_DEPTH : GEMM_ROWS_ARE_COLUMNS;
            check(&emulated_bf16, 8e-3, sizes[s][0], sizes[s][1], sizes[s][2], o, way / 2);
            check(&emulated_bf16x3, 6e-5, sizes[s][0], sizes[s][1], sizes[s][2], o, way / 2);
        }
    }
}

static void test_a_configuration_of_others_is_restored(void **state) {
    (void)state;
    uint8_t others[64];
    memset(others, 7, sizeof(others));
    memcpy(tile_state, others, 64);
    const float one = 1;
    float c = 0;
    const struct gemm g = {.m = 1, .n = 1, .depth = 1, .a = &one, .a_i_stride = 1, .a_p_stride = 1, .scale = 1, .n_parts = 1,
                           .parts = {{&one, GGML_TYPE_F32, 4, 1}}, .c = &c, .c_i_stride = 1, .c_j_stride = 1};
    gemm_run(&emulated_bf16, &g, scratch, 0, 1);
    assert_true(c == 1);
    assert_memory_equal(tile_state, others, 64);
    memset(tile_state, 0, 64);
}

int main(void) {
    if (!__builtin_cpu_supports("avx512bf16")) {
        puts("skipped: no AVX512_BF16");
        return 0;
    }
    scratch = aligned_alloc(GEMM_ALIGN, (gemm_scratch_bytes() + GEMM_ALIGN - 1) / GEMM_ALIGN * GEMM_ALIGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_emulated_products_equal_the_sum),
        cmocka_unit_test(test_a_configuration_of_others_is_restored),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(scratch);
    return failed;
}
