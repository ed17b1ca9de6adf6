/* Products of a few rows with F16 and f32 ones, and sums of F16 rows: against double precision, for every instruction set. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ops/cpu.h"
#include "support/ops_run.h"

enum { MAX_N = 1300, MAX_ROWS = 37, OUT = 9, FIRST = 2 };

static const char *const instruction_sets[] = {"plain", "avx2", "avx512"};
static const int64_t widths[] = {1, 8, 16, 31, 32, 37, 64, 100, 130, 640, 1299};
static const int row_counts[] = {1, 2, 3, 4, 5, 8, 9, 12, 13, 31, 37};

/* [rows] of MAX_N halves, and their values */
static void halves(ggml_fp16_t *h, float *values, int64_t n, uint64_t seed) {
    float *x = random_floats((size_t)n, seed);
    ggml_fp32_to_fp16_row(x, h, n);
    ggml_fp16_to_fp32_row(h, values, n);
    free(x);
}

/* Weights w, rows of n that are `stride` bytes apart, each worth values [MAX_N]. */
static void check_products(few_product_t product, const void *w, size_t stride, const float *values, int64_t n, int n_rows) {
    float y[MAX_ROWS * OUT];
    float *x = random_floats(MAX_ROWS * MAX_N, 5);
    for (int i = 0; i < MAX_ROWS * OUT; i++) {
        y[i] = -1;
    }
    product(y, OUT, w, stride, x, MAX_N, n, n_rows, FIRST, OUT, NULL);
    for (int r = 0; r < n_rows; r++) {
        for (int j = 0; j < OUT; j++) {
            double sum = 0, size = 0;
            for (int64_t i = 0; i < n; i++) {
                sum += (double)values[j * MAX_N + i] * (double)x[r * MAX_N + i];
                size += fabs((double)values[j * MAX_N + i] * (double)x[r * MAX_N + i]);
            }
            assert_true(j < FIRST ? y[r * OUT + j] == -1.0f : fabs((double)y[r * OUT + j] - sum) <= 1e-6 * size);
        }
        float alone[OUT];
        product(alone, OUT, w, stride, x + r * MAX_N, MAX_N, n, 1, FIRST, OUT, x); /* before w or behind it */
        assert_memory_equal(alone + FIRST, y + r * OUT + FIRST, (OUT - FIRST) * sizeof *y); /* whatever the other rows are */
    }
    free(x);
}

static void check_products_of_both(const struct kernels *k, int64_t n, int n_rows) {
    ggml_fp16_t w[OUT * MAX_N];
    float values[OUT * MAX_N];
    halves(w, values, OUT * MAX_N, 4);
    check_products(k->few_product_f16, w, MAX_N * sizeof *w, values, n, n_rows);
    check_products(k->few_product_f32, values, MAX_N * sizeof *values, values, n, n_rows);
}

/* Values v [n_v], rows of n that are `stride` bytes apart, each worth values [MAX_N]. */
static void check_sums(few_sum_t few_sum, const void *v, size_t stride, const float *values, int64_t n, int n_rows, int64_t n_v) {
    float y[MAX_ROWS * MAX_N + 1];
    float *s = random_floats(MAX_ROWS * OUT, 6);
    for (int i = 0; i < MAX_ROWS * MAX_N + 1; i++) {
        y[i] = -1;
    }
    few_sum(y, n, s, OUT, v, stride, n, n_v, n_rows, n_v % 2 ? s : NULL);
    assert_true(y[n_rows * n] == -1.0f); /* nothing is written beyond */
    for (int r = 0; r < n_rows; r++) {
        for (int64_t d = 0; d < n; d++) {
            double sum = 0, size = 0;
            for (int64_t p = 0; p < n_v; p++) {
                sum += (double)values[p * MAX_N + d] * (double)s[r * OUT + p];
                size += fabs((double)values[p * MAX_N + d] * (double)s[r * OUT + p]);
            }
            assert_true(fabs((double)y[r * n + d] - sum) <= 1e-6 * size);
        }
    }
    free(s);
}

static void check_sums_of_halves(const struct kernels *k, int64_t n, int n_rows, int64_t n_v) {
    ggml_fp16_t v[OUT * MAX_N];
    float values[OUT * MAX_N];
    halves(v, values, OUT * MAX_N, 7);
    check_sums(k->few_sum_f16, v, MAX_N * sizeof *v, values, n, n_rows, n_v);
}

static void check_sums_of_blocks(const struct kernels *k, int64_t n, int n_rows, int64_t n_v) {
    char v[OUT * MAX_N * 2];
    float values[OUT * MAX_N];
    float *x = random_floats(OUT * MAX_N, 8);
    const size_t stride = ggml_row_size(GGML_TYPE_Q8_0, MAX_N / 32 * 32);
    for (int64_t p = 0; p < OUT; p++) {
        ggml_quantize_chunk(GGML_TYPE_Q8_0, x + p * MAX_N, v + (size_t)p * stride, 0, 1, n, NULL);
        ggml_get_type_traits(GGML_TYPE_Q8_0)->to_float(v + (size_t)p * stride, values + p * MAX_N, n);
    }
    check_sums(k->few_sum_q8_0, v, stride, values, n, n_rows, n_v);
    free(x);
}

static void test_products_and_sums_equal_double_precision(void **state) {
    (void)state;
    for (int set = 0; set < 3; set++) {
        const struct kernels *k = cpu_kernels(instruction_sets[set]);
        for (size_t i = 0; k && k->few_product_f16 && i < sizeof widths / sizeof *widths; i++) {
            for (size_t j = 0; j < sizeof row_counts / sizeof *row_counts; j++) {
                const int n_rows = row_counts[j];
                check_products_of_both(k, widths[i], n_rows);
                check_sums_of_halves(k, widths[i], n_rows, 1);
                check_sums_of_halves(k, widths[i], n_rows, OUT);
                if (widths[i] % 32 == 0) {
                    check_sums_of_blocks(k, widths[i], n_rows, OUT);
                }
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products_and_sums_equal_double_precision)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
