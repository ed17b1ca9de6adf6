/* The matrix products of src/ops/gemm.h: every kernel that this processor runs, against sums in double precision. */
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

static void *scratch;

struct kernel_case {
    const struct gemm_kernel *kernel;
    double tolerance; /* of |c - reference| over sum |a b| */
};

/* What this processor runs. f32: the depth's rounding errors partly cancel. bf16 rounds each operand by
 * up to 2^-8, its split form by the square of that. */
static int kernel_cases(struct kernel_case cases[6]) {
    int n = 0;
    const char *names[] = {"plain", "avx2", "avx512"};
    for (int i = 0; i < 3; i++) {
        const struct kernels *k = cpu_kernels(names[i]);
        if (k) {
            cases[n++] = (struct kernel_case){&k->gemm, 1e-6};
            const struct gemm_kernel *f32 = cpu_gemm(k, OPS_F32), *bf16 = cpu_gemm(k, OPS_BF16);
            if (f32 != &k->gemm) {
                cases[n++] = (struct kernel_case){f32, 6e-5};
            }
            if (bf16 != &k->gemm) {
                cases[n++] = (struct kernel_case){bf16, 8e-3};
            }
        }
    }
    return n;
}

/* Threads do not meet, so they may as well run one after the other. */
static void run(const struct gemm_kernel *kernel, const struct gemm *g, int nth) {
    for (int i = 0; i < nth; i++) {
        gemm_run(kernel, g, scratch, i, nth);
    }
}

/* A problem with its operands: activations a[m][depth], weights [n_rows][row_length] in `type`, and c with margins. */
struct problem {
    struct gemm g;
    float *a, *weights, *c;
    void *packed;
    size_t c_size;
};

enum { MARGIN = 5 };

static struct problem problem_new(enum gemm_orientation orientation, enum ggml_type type, int64_t m, int64_t n, int64_t depth) {
    const bool columns = orientation == GEMM_ROWS_ARE_COLUMNS;
    const int64_t n_rows = columns ? n : depth, length = columns ? depth : n;
    struct problem p = {0};
    p.a = random_floats((size_t)(m * depth), 1);
    float *w = random_floats((size_t)(n_rows * length), 2);
    p.packed = quantised(type, w, length, n_rows);
    free(w);
    p.weights = dequantised(type, p.packed, n_rows * length);
    p.c_size = (size_t)(m * (n + MARGIN));
    p.c = random_floats(p.c_size, 3);
    p.g = (struct gemm){
        .m = m, .n = n, .depth = depth,
        .a = p.a, .a_i_stride = (size_t)depth, .a_p_stride = 1,
        .orientation = orientation,
        .parts = {{p.packed, type, ggml_row_size(type, length), n_rows}}, .n_parts = 1,
        .c = p.c, .c_i_stride = (size_t)n + MARGIN, .c_j_stride = 1,
        .scale = 1,
    };
    return p;
}

static void problem_free(struct problem *p) {
    free(p->a);
    free(p->weights);
    free(p->packed);
    free(p->c);
}

/* Computes and compares; margins must stay as they were. */
static void check(const struct problem *p, const struct kernel_case *k, int nth) {
    const struct gemm *g = &p->g;
    float *before = malloc(p->c_size * sizeof(float));
    memcpy(before, p->c, p->c_size * sizeof(float));
    run(k->kernel, g, nth);
    for (int64_t i = 0; i < g->m; i++) {
        for (int64_t j = 0; j < g->n + MARGIN; j++) {
            const size_t at = (size_t)i * g->c_i_stride + (size_t)j;
            if (j >= g->n) {
                assert_memory_equal(&p->c[at], &before[at], sizeof(float));
                continue;
            }
            double sum = 0, size = 1e-30;
            for (int64_t d = 0; d < g->depth; d++) {
                const bool columns = g->orientation == GEMM_ROWS_ARE_COLUMNS;
                const double b = (double)p->weights[columns ? j * g->depth + d : d * g->n + j];
                const double a = (double)p->a[(size_t)i * g->a_i_stride + (size_t)d * g->a_p_stride];
                sum += (double)g->scale * a * b;
                size += fabs((double)g->scale * a * b);
            }
            sum += g->accumulate ? (double)before[at] : 0;
            size += g->accumulate ? fabs((double)before[at]) : 0;
            const double error = fabs((double)p->c[at] - sum) / size;
            if (!(error <= k->tolerance)) {
                fail_msg("%s %s %lld x %lld x %lld, %d threads: [%lld, %lld] is %g, not %g", k->kernel->name,
                         ggml_type_name(g->parts[0].type), (long long)g->m, (long long)g->n, (long long)g->depth, nth,
                         (long long)i, (long long)j, (double)p->c[at], sum);
            }
        }
    }
    free(before);
}

static const int64_t row_counts[] = {1, 2, 3, 7, 16, 33, 257};
enum { N_ROW_COUNTS = sizeof(row_counts) / sizeof(*row_counts) };

static void for_each_kernel(void (*body)(const struct kernel_case *k)) {
    struct kernel_case cases[6];
    const int n = kernel_cases(cases);
    assert_true(n >= 1);
    for (int i = 0; i < n; i++) {
        body(&cases[i]);
    }
}

static void f32_sizes(const struct kernel_case *k) {
    static const int64_t sizes[][2] = {{1, 1}, {3, 5}, {40, 17}, {31, 64}, {33, 800}, {96, 1000}}; /* n, depth */
    for (int o = 0; o < 2; o++) {
        for (int s = 0; s < 6; s++) {
            for (int r = 0; r < N_ROW_COUNTS; r++) {
                const enum gemm_orientation orientation = (enum gemm_orientation)o;
                struct problem p = problem_new(orientation, GGML_TYPE_F32, row_counts[r], sizes[s][0], sizes[s][1]);
                p.g.scale = r % 2 ? 0.5f : 1.0f;
                p.g.accumulate = r % 3 == 1;
                check(&p, k, 1 + r % 3);
                problem_free(&p);
            }
        }
    }
}

static void test_f32_of_any_size_equals_the_sum(void **state) {
    (void)state;
    for_each_kernel(f32_sizes);
}

static void every_type(const struct kernel_case *k) {
    static const enum ggml_type types[] = {GGML_TYPE_F32,  GGML_TYPE_F16,  GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0,
                                           GGML_TYPE_Q4_1, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K};
    for (size_t t = 0; t < sizeof(types) / sizeof(*types); t++) {
        for (int r = 0; r < N_ROW_COUNTS; r += 2) {
            struct problem p = problem_new(GEMM_ROWS_ARE_COLUMNS, types[t], row_counts[r], 37, 1024);
            check(&p, k, 2);
            problem_free(&p);
            p = problem_new(GEMM_ROWS_ARE_DEPTH, types[t], row_counts[r], 768, 45);
            check(&p, k, 2);
            problem_free(&p);
        }
    }
}

static void test_every_weight_type_equals_its_f32_values(void **state) {
    (void)state;
    for_each_kernel(every_type);
}

static void same_bits(const struct kernel_case *k) {
    for (int o = 0; o < 2; o++) {
        struct problem p = problem_new((enum gemm_orientation)o, GGML_TYPE_Q4_1, 61, 800, 1600);
        const size_t bytes = p.c_size * sizeof(float);
        float *once = malloc(bytes);
        run(k->kernel, &p.g, 1);
        memcpy(once, p.c, bytes);
        for (int nth = 2; nth <= 9; nth++) {
            for (int64_t i = 0; i < p.g.m; i++) { /* what no thread writes would stay */
                memset(p.c + (size_t)i * p.g.c_i_stride, 0, (size_t)p.g.n * sizeof(float));
            }
            run(k->kernel, &p.g, nth);
            assert_memory_equal(p.c, once, bytes);
        }
        /* each row alone */
        const struct gemm all = p.g;
        for (int64_t i = 0; i < all.m; i += 13) {
            p.g.m = 1;
            p.g.a = all.a + (size_t)i * all.a_i_stride;
            run(k->kernel, &p.g, 1);
            assert_memory_equal(p.c, once + (size_t)i * all.c_i_stride, (size_t)all.n * sizeof(float));
        }
        free(once);
        problem_free(&p);
    }
}

static void test_neither_threads_nor_other_rows_change_a_bit(void **state) {
    (void)state;
    for_each_kernel(same_bits);
}

/* One product with three weights equals three products: outputs side by side, or their sum. */
static void stacked(const struct kernel_case *k) {
    for (int o = 0; o < 2; o++) {
        const bool columns = o == GEMM_ROWS_ARE_COLUMNS;
        struct problem p = problem_new((enum gemm_orientation)o, GGML_TYPE_Q8_0, 19, columns ? 100 : 64, columns ? 64 : 100);
        const struct gemm_part whole = p.g.parts[0];
        const int64_t cuts[] = {0, 24, 60, 100};
        p.g.n_parts = 3;
        for (int i = 0; i < 3; i++) {
            p.g.parts[i] = whole;
            p.g.parts[i].data = (const char *)whole.data + (size_t)cuts[i] * whole.row_bytes;
            p.g.parts[i].n_rows = cuts[i + 1] - cuts[i];
        }
        check(&p, k, 3);
        problem_free(&p);
    }
}

static void test_stacked_weights_equal_one_weight(void **state) {
    (void)state;
    for_each_kernel(stacked);
}

/* a[p][i] and c[j][i]: gradients of thin matrices are computed so. */
static void transposed(const struct kernel_case *k) {
    for (int r = 0; r < N_ROW_COUNTS; r++) {
        struct problem p = problem_new(GEMM_ROWS_ARE_DEPTH, GGML_TYPE_F32, 8, 50, row_counts[r]);
        struct problem q = problem_new(GEMM_ROWS_ARE_DEPTH, GGML_TYPE_F32, 8, 50, row_counts[r]);
        for (int64_t i = 0; i < p.g.m; i++) {
            for (int64_t d = 0; d < p.g.depth; d++) {
                q.a[d * p.g.m + i] = p.a[i * p.g.depth + d];
            }
        }
        q.g.a_i_stride = 1;
        q.g.a_p_stride = (size_t)p.g.m;
        q.g.c_i_stride = 1;
        q.g.c_j_stride = (size_t)p.g.m;
        run(k->kernel, &p.g, 2);
        run(k->kernel, &q.g, 2);
        for (int64_t i = 0; i < p.g.m; i++) {
            for (int64_t j = 0; j < p.g.n; j++) {
                assert_memory_equal(&p.c[(size_t)i * p.g.c_i_stride + (size_t)j], &q.c[j * p.g.m + i], sizeof(float));
            }
        }
        problem_free(&p);
        problem_free(&q);
    }
}

static void test_transposed_operands_give_the_same_bits(void **state) {
    (void)state;
    for_each_kernel(transposed);
}

/* What is not finite does not become a number, and what is tiny or huge does not become something else. */
static void extremes(const struct kernel_case *k) {
    static const float odd[] = {NAN, INFINITY, -INFINITY, 1e-38f, 1e30f, 0.0f};
    for (size_t o = 0; o < sizeof odd / sizeof *odd; o++) {
        for (int side = 0; side < 2; side++) {
            struct problem p = problem_new(GEMM_ROWS_ARE_COLUMNS, GGML_TYPE_F32, 5, 20, 100);
            float *weights = p.packed;
            for (int64_t d = 0; d < p.g.depth; d++) {
                (side ? weights : p.a)[2 * p.g.depth + d] = d == 70 || isfinite(odd[o]) ? odd[o] : 1.0f;
            }
            run(k->kernel, &p.g, 1);
            for (int64_t i = 0; i < p.g.m; i++) {
                for (int64_t j = 0; j < p.g.n; j++) {
                    const float c = p.c[(size_t)i * p.g.c_i_stride + (size_t)j];
                    const bool met = (side ? j : i) == 2;
                    assert_int_equal(isfinite(c) != 0, !met || isfinite(odd[o]));
                    assert_true(!met || !(fabsf(odd[o]) < 1e-30f) || fabsf(c) < 1e-30f);
                }
            }
            problem_free(&p);
        }
    }
}

static void test_what_is_not_finite_stays_so(void **state) {
    (void)state;
    for_each_kernel(extremes);
}

static void test_an_unknown_instruction_set_is_an_error(void **state) {
    (void)state;
    struct ops *ops = NULL;
    struct genarm_error err = {0};
    struct ops_params params = ops_default_params();
    params.instructions = "abacus";
    assert_int_equal(ops_new(&ops, &params, &err), GENARM_EUNSUPPORTED);
    assert_null(ops);
    assert_non_null(strstr(err.what, "abacus"));
}

int main(void) {
    scratch = aligned_alloc(GEMM_ALIGN, (gemm_scratch_bytes() + GEMM_ALIGN - 1) / GEMM_ALIGN * GEMM_ALIGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32_of_any_size_equals_the_sum),
        cmocka_unit_test(test_every_weight_type_equals_its_f32_values),
        cmocka_unit_test(test_neither_threads_nor_other_rows_change_a_bit),
        cmocka_unit_test(test_stacked_weights_equal_one_weight),
        cmocka_unit_test(test_transposed_operands_give_the_same_bits),
        cmocka_unit_test(test_what_is_not_finite_stays_so),
        cmocka_unit_test(test_an_unknown_instruction_set_is_an_error),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(scratch);
    return failed;
}
