/* Products of a few rows with quantised weights in bf16: against ggml's dequantised weights in double precision. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ops/cpu.h"
#include "support/ops_run.h"

enum { N_OUT = 19, MAX_ROWS = 21, FIRST = 3 /* of the outputs that are asked for */ };

static const enum ggml_type types[] = {GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                       GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K};

/* Weights of N_OUT rows and MAX_ROWS rows of x, packed and as they are rounded. */
struct problem {
    enum ggml_type type;
    int64_t n;
    void *w;
    size_t w_stride;
    uint16_t *x;          /* [n, MAX_ROWS] */
    float *w_is, *x_is;   /* rounded to bf16, [n, N_OUT], [n, MAX_ROWS] */
};

static void round_to_bf16(float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        x[i] = ggml_bf16_to_fp32(ggml_fp32_to_bf16(x[i]));
    }
}

static struct problem make(enum ggml_type type, int64_t n, const struct few_bf16 *few) {
    struct problem p = {.type = type, .n = n, .w_stride = ggml_row_size(type, n)};
    float *w = random_floats((size_t)(n * N_OUT), 1);
    for (int64_t i = 0; i < n * N_OUT; i++) {
        w[i] += 0.25f; /* minima that are not the mirror of the maxima */
    }
    p.w = quantised(type, w, n, N_OUT);
    ggml_get_type_traits(type)->to_float(p.w, w, n * N_OUT);
    p.w_is = w;
    p.x_is = random_floats((size_t)(n * MAX_ROWS), 2);
    p.x = calloc((size_t)(n * MAX_ROWS), sizeof *p.x);
    for (int64_t r = 0; r < MAX_ROWS; r++) {
        few->pack(p.x + r * n, p.x_is + r * n, n);
    }
    round_to_bf16(p.w_is, n * N_OUT);
    round_to_bf16(p.x_is, n * MAX_ROWS);
    return p;
}

static void done(struct problem *p) {
    free(p->w);
    free(p->x);
    free(p->w_is);
    free(p->x_is);
}

static void check(const struct problem *p, const float *y, int n_rows) {
    for (int r = 0; r < n_rows; r++) {
        for (int j = 0; j < N_OUT; j++) {
            const float *w = p->w_is + j * p->n, *x = p->x_is + r * p->n;
            double sum = 0.0, size = 0.0;
            for (int64_t i = 0; i < p->n; i++) {
                sum += (double)w[i] * (double)x[i];
                size += (double)(w[i] * w[i]) * (double)(x[i] * x[i]);
            }
            const double got = (double)y[r * N_OUT + j];
            if (j < FIRST ? got != -1.0 : !(fabs(got - sum) <= 2e-3 * sqrt(size))) {
                fail_msg("%s, n %lld, row %d of %d, output %d: %g, not %g", ggml_type_name(p->type), (long long)p->n, r, n_rows,
                         j, got, sum);
            }
        }
    }
}

static void test_products_equal_those_of_dequantised_weights(void **state) {
    (void)state;
    static const int64_t lengths[] = {32, 256, 576, 2304, 4352};
    const struct few_bf16 *few = cpu_few_bf16();
    if (!few) {
        skip();
    }
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            if (lengths[i] % ggml_blck_size(types[k]) != 0) {
                continue;
            }
            assert_true(few->reads(types[k], lengths[i]));
            struct problem p = make(types[k], lengths[i], few);
            float all[MAX_ROWS * N_OUT], some[MAX_ROWS * N_OUT];
            for (int n_rows = MAX_ROWS; n_rows >= 1; n_rows--) {
                float *y = n_rows == MAX_ROWS ? all : some;
                for (int c = 0; c < MAX_ROWS * N_OUT; c++) {
                    y[c] = -1.0f;
                }
                few->product(y, N_OUT, p.w, p.type, p.w_stride, p.x, p.n, p.n, n_rows, FIRST, N_OUT);
                check(&p, y, n_rows);
                assert_memory_equal(y, all, (size_t)(n_rows * N_OUT) * sizeof *y); /* whatever other rows there are */
            }
            done(&p);
        }
    }
}

static void test_what_is_not_read_is_refused(void **state) {
    (void)state;
    const struct few_bf16 *few = cpu_few_bf16();
    if (!few) {
        skip();
    }
    assert_false(few->reads(GGML_TYPE_F32, 64));
    assert_false(few->reads(GGML_TYPE_F16, 64));
    assert_false(few->reads(GGML_TYPE_Q5_1, 64));
    assert_false(few->reads(GGML_TYPE_BF16, 48));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_equal_those_of_dequantised_weights),
        cmocka_unit_test(test_what_is_not_read_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
