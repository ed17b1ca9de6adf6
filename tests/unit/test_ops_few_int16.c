/* Products of a few rows with quantised weights in whole numbers: against ggml's dequantised weights and the activations as they
 * are, in double precision. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ops/cpu.h"
#include "support/ops_run.h"

enum { N_OUT = 19, FIRST = 2 /* of the outputs that are asked for */, N_ROWS = FEW_INT16_MAX_ROWS };

static const enum ggml_type types[] = {GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                       GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K};

/* Weights, and rows of x, packed and as they are. */
struct problem {
    enum ggml_type type;
    int64_t n;
    void *w;
    size_t w_stride;
    char *packed;
    float *w_is, *x; /* [n, N_OUT], [n, N_ROWS] */
};

static struct problem make(enum ggml_type type, int64_t n, float outlier, const struct few_int16 *few) {
    struct problem p = {.type = type, .n = n, .w_stride = ggml_row_size(type, n)};
    p.w_is = random_floats((size_t)(n * N_OUT), 1);
    for (int64_t i = 0; i < n * N_OUT; i++) {
        p.w_is[i] += 0.25f; /* minima that are not the mirror of the maxima */
    }
    p.w = quantised(type, p.w_is, n, N_OUT);
    ggml_get_type_traits(type)->to_float(p.w, p.w_is, n * N_OUT);
    p.x = random_floats((size_t)(n * N_ROWS), 2);
    const size_t bytes = few->packed_bytes(n);
    assert_true(bytes % 64 == 0 && bytes < 3 * (size_t)n + 128);
    p.packed = aligned_alloc(64, bytes * N_ROWS);
    for (int64_t r = 0; r < N_ROWS; r++) {
        p.x[r * n + r] = outlier;
        few->pack(few->form(type, n), p.packed + (size_t)r * bytes, p.x + r * n, n);
    }
    return p;
}

static void done(struct problem *p) {
    free(p->w);
    free(p->packed);
    free(p->w_is);
    free(p->x);
}

/* A rounding step of an activation is 1/64000 of the largest of its 256. */
static void check(const struct problem *p, const float *y, int n_rows, float outlier) {
    for (int r = 0; r < n_rows; r++) {
        for (int j = 0; j < N_OUT; j++) {
            const float *w = p->w_is + j * p->n, *x = p->x + r * p->n;
            double sum = 0, size = 0;
            for (int64_t i = 0; i < p->n; i++) {
                sum += (double)w[i] * (double)x[i];
                size += (double)(w[i] * w[i]);
            }
            const double got = (double)y[r * N_OUT + j], step = (double)outlier / 32000;
            if (j < FIRST ? got != -1.0 : !(fabs(got - sum) <= 3 * step * sqrt(size) + 2e-6 * sqrt(size) * (double)outlier)) {
                fail_msg("%s, n %lld, row %d of %d, output %d: %g, not %g", ggml_type_name(p->type), (long long)p->n, r, n_rows,
                         j, got, sum);
            }
        }
    }
}

static void check_products(const struct few_int16 *few, enum ggml_type type, int64_t n, float outlier) {
    struct problem p = make(type, n, outlier, few);
    float all[N_ROWS * N_OUT], some[N_ROWS * N_OUT];
    for (int n_rows = N_ROWS; n_rows >= 1; n_rows--) {
        float *y = n_rows == N_ROWS ? all : some;
        for (int c = 0; c < N_ROWS * N_OUT; c++) {
            y[c] = -1.0f;
        }
        few->product(y, N_OUT, p.w, type, p.w_stride, p.packed, n, n_rows, FIRST, N_OUT);
        check(&p, y, n_rows, outlier);
        assert_memory_equal(y, all, (size_t)(n_rows * N_OUT) * sizeof *y); /* whatever other rows there are */
    }
    done(&p);
}

/* Of the instruction set that a test is for, where this processor has it. */
static const struct few_int16 *few_of(void **state) {
    const struct few_int16 *few = cpu_few_int16(*state);
    if (!few) {
        skip();
    }
    return few;
}

static void test_products_are_nearly_exact(void **state) {
    static const int64_t lengths[] = {64, 128, 256, 448, 576, 768, 2304, 4352};
    const struct few_int16 *few = few_of(state);
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            if (lengths[i] % ggml_blck_size(types[k]) == 0) {
                assert_true(few->form(types[k], lengths[i]) != FEW_INT16_NONE);
                check_products(few, types[k], lengths[i], 2.0f);
                check_products(few, types[k], lengths[i], 500.0f);
            }
        }
    }
}

static void test_the_largest_numbers_do_not_overflow(void **state) {
    const struct few_int16 *few = few_of(state);
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        enum { N = 512 };
        float w[N], x[N], y = 0;
        char packed[3 * N + 128] __attribute__((aligned(64)));
        double sum = 0;
        for (int i = 0; i < N; i++) { /* all extreme, all of one sign */
            w[i] = i == 0 ? 1.0f : -127.0f;
            x[i] = -1.0f;
        }
        char *q = quantised(types[k], w, N, 1);
        ggml_get_type_traits(types[k])->to_float(q, w, N);
        for (int i = 0; i < N; i++) {
            sum += (double)w[i] * (double)x[i];
        }
        few->pack(few->form(types[k], N), packed, x, N);
        few->product(&y, 1, q, types[k], ggml_row_size(types[k], N), packed, N, 1, 0, 1);
        assert_true(fabs((double)y - sum) < 1e-4 * sum);
        free(q);
    }
}

static void test_rows_of_zeros_give_zero(void **state) {
    const struct few_int16 *few = few_of(state);
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        enum { N = 512 };
        float x[N] = {0}, y = 1, *w = random_floats(N, 3);
        char packed[3 * N + 128] __attribute__((aligned(64)));
        char *q = quantised(types[k], w, N, 1);
        few->pack(few->form(types[k], N), packed, x, N);
        few->product(&y, 1, q, types[k], ggml_row_size(types[k], N), packed, N, 1, 0, 1);
        assert_true(y == 0.0f);
        free(q);
        free(w);
    }
}

static void test_what_is_not_read_is_refused(void **state) {
    const struct few_int16 *few = few_of(state);
    assert_int_equal(few->form(GGML_TYPE_F16, 64), FEW_INT16_NONE);
    assert_int_equal(few->form(GGML_TYPE_BF16, 64), FEW_INT16_NONE);
    assert_int_equal(few->form(GGML_TYPE_Q5_1, 64), FEW_INT16_NONE);
    assert_int_equal(few->form(GGML_TYPE_Q8_0, 64), FEW_INT16_BLOCKS);
    assert_int_not_equal(few->form(GGML_TYPE_Q6_K, 256), FEW_INT16_NONE);
}

#define FOR(set, test) {#test " by " set, test, NULL, NULL, (void *)(uintptr_t)set}
#define TESTS(set)                                                                                                     \
    FOR(set, test_products_are_nearly_exact), FOR(set, test_the_largest_numbers_do_not_overflow),                      \
        FOR(set, test_rows_of_zeros_give_zero), FOR(set, test_what_is_not_read_is_refused)

int main(void) {
    const struct CMUnitTest tests[] = {TESTS("avx512vnni"), TESTS("avxvnni"), TESTS("avx2"), TESTS("dotprod"), TESTS("neon")};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
