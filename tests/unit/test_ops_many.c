/* Products of many rows with quantised weights in whole numbers: against ggml's dequantised weights and the activations as they
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

enum { MARGIN = 3 /* floats after each row of y */, MAX_THREADS = 3 };

static const enum ggml_type types[] = {GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                       GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K};
enum { N_TYPES = sizeof types / sizeof *types };

struct problem {
    struct many_product p;
    void *w;
    float *w_is, *x, *y; /* [n, n_w], [n, n_rows], [n_w + MARGIN, n_rows] */
    size_t y_bytes;
};

/* Of which one activation in each row is an outlier. */
static struct problem make(enum ggml_type type, int64_t n, int64_t n_w, int64_t n_rows, float outlier) {
    struct problem p = {.w_is = random_floats((size_t)(n * n_w), 1), .x = random_floats((size_t)(n * n_rows), 2)};
    for (int64_t i = 0; i < n * n_w; i++) {
        p.w_is[i] += 0.25f; /* minima that are not the mirror of the maxima */
    }
    p.w = quantised(type, p.w_is, n, n_w);
    ggml_get_type_traits(type)->to_float(p.w, p.w_is, n * n_w);
    for (int64_t r = 0; r < n_rows; r++) {
        p.x[r * n + r % n] = outlier;
    }
    p.y_bytes = (size_t)((n_w + MARGIN) * n_rows) * sizeof *p.y;
    p.y = malloc(p.y_bytes);
    p.p = (struct many_product){.w = p.w, .type = type, .w_stride = ggml_row_size(type, n), .n_w = n_w, .n = n, .n_rows = n_rows,
                                .x = p.x, .y = p.y, .x_stride = (size_t)n, .y_stride = (size_t)(n_w + MARGIN)};
    return p;
}

static void done(struct problem *p) {
    free(p->w);
    free(p->w_is);
    free(p->x);
    free(p->y);
}

/* Threads do not meet, so they may as well run one after the other. */
static void run(const struct many_kernel *kernel, const struct many_product *p, int nth) {
    void *scratch = aligned_alloc(64, (many_scratch_bytes() + 63) / 64 * 64);
    for (int i = 0; i < nth; i++) {
        many_run(kernel, p, scratch, i, nth);
    }
    free(scratch);
}

/* A rounding step of an activation is 1/64000 of the largest of its 256. */
static void check(const struct problem *problem, float outlier) {
    const struct many_product *p = &problem->p;
    for (int64_t r = 0; r < p->n_rows; r++) {
        const float *x = problem->x + r * p->n, *y = problem->y + r * (p->n_w + MARGIN);
        for (int64_t j = 0; j < p->n_w; j++) {
            const float *w = problem->w_is + j * p->n;
            double sum = 0, size = 0;
            for (int64_t i = 0; i < p->n; i++) {
                sum += (double)w[i] * (double)x[i];
                size += (double)(w[i] * w[i]);
            }
            if (!(fabs((double)y[j] - sum) <= (3.0 / 32000 + 2e-6) * (double)outlier * sqrt(size))) {
                fail_msg("%s, %lld x %lld, row %lld of %lld, output %lld: %g, not %g", ggml_type_name(p->type), (long long)p->n,
                         (long long)p->n_w, (long long)r, (long long)p->n_rows, (long long)j, (double)y[j], sum);
            }
        }
        for (int64_t j = p->n_w; j < p->n_w + MARGIN; j++) {
            assert_true(y[j] == -1.0f);
        }
    }
}

static void clear(struct problem *p) {
    for (size_t i = 0; i < p->y_bytes / sizeof *p->y; i++) {
        p->y[i] = -1.0f;
    }
}

/* Whatever the number of threads and of rows, a row has the same products. */
static void check_product(const struct many_kernel *kernel, enum ggml_type type, const int64_t size[3], float outlier) {
    struct problem p = make(type, size[0], size[1], size[2], outlier);
    float *first = malloc(p.y_bytes);
    for (int nth = 1; nth <= MAX_THREADS; nth++) {
        clear(&p);
        run(kernel, &p.p, nth);
        if (nth == 1) {
            check(&p, outlier);
            memcpy(first, p.y, p.y_bytes);
        }
        assert_memory_equal(p.y, first, p.y_bytes);
    }
    for (; p.p.n_rows > 0; p.p.n_rows = p.p.n_rows * 2 / 3) {
        run(kernel, &p.p, 1);
        assert_memory_equal(p.y, first, p.y_bytes);
    }
    free(first);
    done(&p);
}

/* Of the instruction set that a test is for, where this processor has it. */
static const struct many_kernel *kernel_of(void **state) {
    const struct many_kernel *kernel = cpu_many(*state);
    if (!kernel) {
        skip();
    }
    return kernel;
}

static void test_products_are_nearly_exact(void **state) {
    static const int64_t sizes[][3] = {/* n, n_w, n_rows */
                                       {32, 1, 1},    {64, 5, 3},    {96, 16, 8},   {256, 32, 7},   {288, 33, 9},
                                       {576, 49, 15}, {768, 64, 33}, {1024, 19, 6}, {2304, 40, 13}, {8192, 3, 300}};
    const struct many_kernel *kernel = kernel_of(state);
    for (size_t t = 0; t < N_TYPES; t++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            if (sizes[i][0] % ggml_blck_size(types[t]) == 0) {
                assert_true(many_reads(kernel, types[t], sizes[i][0]));
                check_product(kernel, types[t], sizes[i], 2.0f);
                check_product(kernel, types[t], sizes[i], 500.0f);
            }
        }
    }
}

/* As the fused step and stacked maps cut a matrix: a column has the same product wherever its tile begins and ends, and rows of
 * weights and of x may lie apart. */
static void test_any_part_of_the_columns_gives_the_same(void **state) {
    enum { N = 768, N_W = 75, N_ROWS = 17 };
    static const int64_t parts[][2] = {{16, N_W}, {0, 16}, {32, 40}, {74, N_W}, {5, 69}};
    const struct many_kernel *kernel = kernel_of(state);
    for (size_t t = 0; t < N_TYPES; t++) {
        struct problem p = make(types[t], N, N_W, N_ROWS, 3);
        float *whole = malloc(p.y_bytes);
        run(kernel, &p.p, 1);
        memcpy(whole, p.y, p.y_bytes);
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            struct many_product part = p.p;
            clear(&p);
            part.w = (char *)p.w + (size_t)parts[i][0] * p.p.w_stride;
            part.y = p.y + parts[i][0];
            part.n_w = parts[i][1] - parts[i][0];
            run(kernel, &part, 1);
            for (int64_t k = 0; k < (N_W + MARGIN) * N_ROWS; k++) {
                const int64_t j = k % (N_W + MARGIN);
                assert_true(p.y[k] == (j >= parts[i][0] && j < parts[i][1] ? whole[k] : -1.0f));
            }
        }
        struct many_product every_other = p.p; /* row of weights and of x */
        every_other.w_stride *= 2;
        every_other.x_stride *= 2;
        every_other.n_w = N_W / 2;
        every_other.n_rows = N_ROWS / 2;
        run(kernel, &every_other, 2);
        for (int64_t k = 0; k < (N_W / 2) * (N_ROWS / 2); k++) {
            const int64_t r = k / (N_W / 2), j = k % (N_W / 2);
            assert_true(p.y[r * (N_W + MARGIN) + j] == whole[2 * r * (N_W + MARGIN) + 2 * j]);
        }
        free(whole);
        done(&p);
    }
}

static void test_activations_stay_packed(void **state) {
    const struct many_kernel *kernel = kernel_of(state);
    struct problem p = make(GGML_TYPE_Q8_0, 576, 40, 20, 1);
    float *first = malloc(p.y_bytes);
    void *scratch = aligned_alloc(64, (many_scratch_bytes() + 63) / 64 * 64);
    many_run(kernel, &p.p, scratch, 0, 1);
    memcpy(first, p.y, p.y_bytes);
    p.p.same_x = true;
    memset(p.x, 0, 576 * 20 * sizeof *p.x); /* nobody looks */
    many_run(kernel, &p.p, scratch, 0, 1);
    assert_memory_equal(p.y, first, p.y_bytes);
    free(first);
    free(scratch);
    done(&p);
}

/* All weights and activations are as large as they can be and of one sign, in a row so long that 32 bits could not hold the sum. */
static void test_the_largest_numbers_do_not_overflow(void **state) {
    enum { N = 4096 };
    const struct many_kernel *kernel = kernel_of(state);
    for (size_t t = 0; t < N_TYPES; t++) {
        struct problem p = make(types[t], N, 1, 1, 1);
        double sum = 0;
        free(p.w);
        for (int i = 0; i < N; i++) { /* a scale's first one is small, so that no minimum takes the place of the numbers */
            p.w_is[i] = i % 16 == 0 ? 1.0f : 127.0f;
            p.x[i] = 1.0f;
        }
        p.p.w = p.w = quantised(types[t], p.w_is, N, 1);
        ggml_get_type_traits(types[t])->to_float(p.w, p.w_is, N);
        for (int i = 0; i < N; i++) {
            sum += (double)p.w_is[i] * (double)p.x[i];
        }
        run(kernel, &p.p, 1);
        assert_true(fabs((double)p.y[0] - sum) < 1e-4 * sum);
        done(&p);
    }
}

static void test_rows_of_zeros_give_zero_and_of_no_numbers_none(void **state) {
    const struct many_kernel *kernel = kernel_of(state);
    enum { N = 512, N_W = 35, N_ROWS = 10, ZEROS = 2, NO_NUMBER = 4, INFINITE = 9 };
    for (size_t t = 0; t < N_TYPES; t++) {
        struct problem p = make(types[t], N, N_W, N_ROWS, 1);
        memset(p.x + ZEROS * N, 0, N * sizeof *p.x);
        p.x[NO_NUMBER * N + 300] = NAN;
        p.x[INFINITE * N + 5] = -INFINITY;
        run(kernel, &p.p, 1);
        for (int r = 0; r < N_ROWS; r++) {
            for (int j = 0; j < N_W; j++) {
                const float y = p.y[r * (N_W + MARGIN) + j];
                assert_true(r == NO_NUMBER || r == INFINITE ? !isfinite(y) : r == ZEROS ? y == 0.0f : isfinite(y));
            }
        }
        done(&p);
    }
}

static void test_what_is_not_read_is_refused(void **state) {
    const struct many_kernel *kernel = kernel_of(state);
    assert_false(many_reads(kernel, GGML_TYPE_F16, 256));
    assert_false(many_reads(kernel, GGML_TYPE_BF16, 256));
    assert_false(many_reads(kernel, GGML_TYPE_Q5_1, 256));
    assert_false(many_reads(kernel, GGML_TYPE_Q8_0, 48));
    assert_false(many_reads(kernel, GGML_TYPE_Q4_K, 288));
    assert_false(many_reads(kernel, GGML_TYPE_Q8_0, 0));
    assert_false(many_reads(kernel, GGML_TYPE_Q8_0, 1 << 20)); /* one tile of it would not fit into the scratch */
    assert_true(many_reads(kernel, GGML_TYPE_Q8_0, 288));
    assert_true(many_reads(kernel, GGML_TYPE_Q8_0, 1 << 17));
    assert_false(many_reads(NULL, GGML_TYPE_Q8_0, 256));
}

#define FOR(set, test) {#test " by " set, test, NULL, NULL, (void *)(uintptr_t)set}
#define TESTS(set)                                                                                                     \
    FOR(set, test_products_are_nearly_exact), FOR(set, test_any_part_of_the_columns_gives_the_same),                   \
        FOR(set, test_activations_stay_packed), FOR(set, test_the_largest_numbers_do_not_overflow),                    \
        FOR(set, test_rows_of_zeros_give_zero_and_of_no_numbers_none), FOR(set, test_what_is_not_read_is_refused)

int main(void) {
    const struct CMUnitTest tests[] = {TESTS("avx512vnni"), TESTS("avxvnni"), TESTS("avx2")};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
