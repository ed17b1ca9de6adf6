/* The log-probability head: against log-softmax in double precision, plain ggml and finite differences. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ops/cpu.h"
#include "support/ops_run.h"

enum { N_EMBD = 64, N_VOCAB = 1000 };

struct fixture {
    float *w, *dequantised; /* [N_VOCAB][N_EMBD] */
    void *packed;
    enum ggml_type type;
};

static struct fixture fixture_new(enum ggml_type type) {
    struct fixture f = {.type = type, .w = random_floats(N_VOCAB * N_EMBD, 1)};
    f.packed = quantised(type, f.w, N_EMBD, N_VOCAB);
    f.dequantised = dequantised(type, f.packed, N_VOCAB * N_EMBD);
    return f;
}

static void fixture_free(struct fixture *f) {
    free(f->w);
    free(f->packed);
    free(f->dequantised);
}

struct results {
    float *logp, *grad;
};

static void results_free(struct results *r) {
    free(r->logp);
    free(r->grad);
}

static struct results head(const struct fixture *f, struct ops_params params, const float *h, const int32_t *targets,
                           int64_t n_rows, bool with_grad) {
    struct ops_run run = ops_run_new(params);
    struct ggml_tensor *w = ops_run_input(&run, f->type, N_EMBD, N_VOCAB, 1, f->packed);
    struct ggml_tensor *ht = ops_run_input(&run, GGML_TYPE_F32, N_EMBD, n_rows, 1, h);
    struct ggml_tensor *t = ops_run_input(&run, GGML_TYPE_I32, n_rows, 1, 1, targets);
    struct op_head out = op_head(run.ctx, run.ops, w, ht, t, with_grad);
    ops_run_output(&run, out.logp);
    if (with_grad) {
        ops_run_output(&run, out.grad);
    } else {
        assert_null(out.grad);
    }
    ops_run_compute(&run);
    struct results r = {ops_run_get(out.logp), with_grad ? ops_run_get(out.grad) : NULL};
    ops_run_free(&run);
    return r;
}

static int32_t *random_targets(int64_t n) {
    int32_t *t = malloc((size_t)n * sizeof(int32_t));
    for (int64_t i = 0; i < n; i++) {
        t[i] = (int32_t)(i * 7919 % N_VOCAB);
    }
    return t;
}

/* log softmax of one row at target, and its gradient if wanted */
static double reference(const struct fixture *f, const double *h, int32_t target, double *grad) {
    static double logits[N_VOCAB];
    double max = -INFINITY, sum = 0;
    for (int v = 0; v < N_VOCAB; v++) {
        logits[v] = 0;
        for (int e = 0; e < N_EMBD; e++) {
            logits[v] += (double)f->dequantised[v * N_EMBD + e] * h[e];
        }
        max = logits[v] > max ? logits[v] : max;
    }
    for (int v = 0; v < N_VOCAB; v++) {
        sum += exp(logits[v] - max);
    }
    for (int e = 0; grad && e < N_EMBD; e++) {
        grad[e] = (double)f->dequantised[target * N_EMBD + e];
        for (int v = 0; v < N_VOCAB; v++) {
            grad[e] -= exp(logits[v] - max) / sum * (double)f->dequantised[v * N_EMBD + e];
        }
    }
    return logits[target] - max - log(sum);
}

static void check_reference(const struct fixture *f, struct ops_params params, int64_t n_rows) {
    float *h = random_floats((size_t)(N_EMBD * n_rows), 2);
    int32_t *targets = random_targets(n_rows);
    struct results r = head(f, params, h, targets, n_rows, true);
    double *grad = malloc((size_t)(N_EMBD * n_rows) * sizeof(double));
    for (int64_t i = 0; i < n_rows; i++) {
        double row[N_EMBD];
        for (int e = 0; e < N_EMBD; e++) {
            row[e] = (double)h[i * N_EMBD + e];
        }
        const double logp = reference(f, row, targets[i], grad + i * N_EMBD);
        assert_true(fabs((double)r.logp[i] - logp) < 2e-5);
    }
    assert_true(relative_difference_to_double(r.grad, grad, (size_t)(N_EMBD * n_rows)) < 5e-5);
    struct results without = head(f, params, h, targets, n_rows, false);
    assert_memory_equal(without.logp, r.logp, (size_t)n_rows * sizeof(float));
    results_free(&without);
    results_free(&r);
    free(grad);
    free(targets);
    free(h);
}

static void test_logp_and_gradient_equal_log_softmax(void **state) {
    (void)state;
    static const char *const instruction_sets[] = {"plain", "avx2", "avx512"};
    static const int64_t row_counts[] = {1, 2, 3, 7, 16, 33, 257}; /* the last one is two chunks */
    struct fixture f = fixture_new(GGML_TYPE_F32);
    for (int s = 0; s < 3; s++) {
        for (int r = 0; cpu_kernels(instruction_sets[s]) && r < 7; r++) {
            const struct ops_params params = {.n_threads = 1 + r % 2, .instructions = instruction_sets[s]};
            check_reference(&f, params, row_counts[r]);
        }
    }
    fixture_free(&f);
}

static void test_a_tied_quantised_embedding_is_a_head(void **state) {
    (void)state;
    static const enum ggml_type types[] = {GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_1};
    for (int t = 0; t < 3; t++) {
        struct fixture f = fixture_new(types[t]);
        check_reference(&f, (struct ops_params){.n_threads = 2}, 20);
        fixture_free(&f);
    }
}

static void test_fused_equals_plain_ggml(void **state) {
    (void)state;
    struct fixture f = fixture_new(GGML_TYPE_F32);
    float *h = random_floats(N_EMBD * 300, 2);
    int32_t *targets = random_targets(300);
    struct results fused = head(&f, (struct ops_params){.n_threads = 2}, h, targets, 300, true);
    struct results plain = head(&f, (struct ops_params){.n_threads = 2, .plain = true}, h, targets, 300, true);
    assert_true(relative_difference(fused.logp, plain.logp, 300) < 1e-5);
    assert_true(relative_difference(fused.grad, plain.grad, N_EMBD * 300) < 5e-5);
    results_free(&fused);
    results_free(&plain);
    free(h);
    free(targets);
    fixture_free(&f);
}

static void test_threads_do_not_change_a_bit(void **state) {
    (void)state;
    struct fixture f = fixture_new(GGML_TYPE_Q8_0);
    float *h = random_floats(N_EMBD * 300, 2);
    int32_t *targets = random_targets(300);
    struct results one = head(&f, (struct ops_params){.n_threads = 1}, h, targets, 300, true);
    for (int n = 2; n <= 5; n += 3) {
        struct results more = head(&f, (struct ops_params){.n_threads = n}, h, targets, 300, true);
        assert_memory_equal(more.logp, one.logp, 300 * sizeof(float));
        assert_memory_equal(more.grad, one.grad, N_EMBD * 300 * sizeof(float));
        results_free(&more);
    }
    results_free(&one);
    free(h);
    free(targets);
    fixture_free(&f);
}

static void test_the_gradient_is_the_slope_of_logp(void **state) {
    (void)state;
    struct fixture f = fixture_new(GGML_TYPE_F32);
    float *h = random_floats(N_EMBD, 2), *u = random_floats(N_EMBD, 3);
    const int32_t target = 123;
    struct results r = head(&f, (struct ops_params){.n_threads = 1}, h, &target, 1, true);
    double slope = 0, value[2];
    for (int side = 0; side < 2; side++) {
        double moved[N_EMBD];
        for (int e = 0; e < N_EMBD; e++) {
            moved[e] = (double)h[e] + (side ? 1e-5 : -1e-5) * (double)u[e];
        }
        value[side] = reference(&f, moved, target, NULL);
    }
    for (int e = 0; e < N_EMBD; e++) {
        slope += (double)r.grad[e] * (double)u[e];
    }
    assert_true(fabs((value[1] - value[0]) / 2e-5 - slope) < 1e-4 * (1 + fabs(slope)));
    results_free(&r);
    free(h);
    free(u);
    fixture_free(&f);
}

/* Logits of hundreds neither overflow nor lose the unlikely target's logp. */
static void test_peaked_distributions_are_exact(void **state) {
    (void)state;
    struct fixture f = fixture_new(GGML_TYPE_F32);
    float *h = random_floats(N_EMBD * 16, 2);
    int32_t *targets = random_targets(16);
    for (int i = 0; i < N_EMBD * 16; i++) {
        h[i] *= 20;
    }
    struct results r = head(&f, (struct ops_params){.n_threads = 1}, h, targets, 16, true);
    for (int i = 0; i < 16; i++) {
        double row[N_EMBD];
        for (int e = 0; e < N_EMBD; e++) {
            row[e] = (double)h[i * N_EMBD + e];
        }
        const double logp = reference(&f, row, targets[i], NULL);
        assert_true(fabs((double)r.logp[i] - logp) < 1e-6 * (fabs(logp) + 300));
    }
    results_free(&r);
    free(h);
    free(targets);
    fixture_free(&f);
}

/* In plain ggml they do not either, but what is below e^-75 is not told apart. */
static void test_peaked_distributions_are_finite_in_plain_ggml(void **state) {
    (void)state;
    struct fixture f = fixture_new(GGML_TYPE_F32);
    float *h = random_floats(N_EMBD * 16, 2);
    int32_t *targets = random_targets(16);
    int n_far = 0;
    for (int i = 0; i < N_EMBD * 16; i++) {
        h[i] *= 20;
    }
    struct results exact = head(&f, (struct ops_params){.n_threads = 1}, h, targets, 16, true);
    struct results plain = head(&f, (struct ops_params){.n_threads = 1, .plain = true}, h, targets, 16, true);
    for (int i = 0; i < 16; i++) {
        const bool far = exact.logp[i] < -74.0f;
        assert_true(far ? plain.logp[i] < -70.0f && isfinite(plain.logp[i])
                        : fabsf(plain.logp[i] - exact.logp[i]) < 1e-3f);
        n_far += far;
    }
    assert_true(n_far > 0);
    results_free(&exact);
    results_free(&plain);
    free(h);
    free(targets);
    fixture_free(&f);
}

static void test_a_target_outside_the_vocabulary_has_no_probability(void **state) {
    (void)state;
    struct fixture f = fixture_new(GGML_TYPE_F32);
    float *h = random_floats(N_EMBD * 3, 2);
    const int32_t targets[] = {-1, 5, N_VOCAB};
    struct results r = head(&f, (struct ops_params){.n_threads = 1}, h, targets, 3, true);
    assert_true(isnan(r.logp[0]) && isfinite(r.logp[1]) && isnan(r.logp[2]));
    assert_true(isnan(r.grad[0]) && isfinite(r.grad[N_EMBD]) && isnan(r.grad[2 * N_EMBD]));
    results_free(&r);
    free(h);
    fixture_free(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logp_and_gradient_equal_log_softmax),
        cmocka_unit_test(test_a_tied_quantised_embedding_is_a_head),
        cmocka_unit_test(test_fused_equals_plain_ggml),
        cmocka_unit_test(test_threads_do_not_change_a_bit),
        cmocka_unit_test(test_the_gradient_is_the_slope_of_logp),
        cmocka_unit_test(test_peaked_distributions_are_exact),
        cmocka_unit_test(test_peaked_distributions_are_finite_in_plain_ggml),
        cmocka_unit_test(test_a_target_outside_the_vocabulary_has_no_probability),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
