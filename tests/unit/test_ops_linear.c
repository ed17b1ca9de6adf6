/* Nodes of linear maps: custom equals plain ggml, gradients equal what they are by definition. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/ops_run.h"

enum { N_IN = 96, N_OUT = 64, N_OUT2 = 33, RANK = 8 };

/* Everything a LoRA layer of two stacked maps computes, forward and backward, by one emitter. */
struct layer_results {
    float *y, *dx, *da, *db;
};

static struct layer_results lora_layer(struct ops_params params, enum ggml_type type, int64_t n_rows) {
    float *wf = random_floats(N_IN * (N_OUT + N_OUT2), 1), *x = random_floats((size_t)(N_IN * n_rows), 2);
    float *af = random_floats(N_IN * RANK, 3), *bf = random_floats(RANK * N_OUT, 4);
    float *dyf = random_floats((size_t)((N_OUT + N_OUT2) * n_rows), 5);
    float *daf = random_floats(N_IN * RANK, 6), *dbf = random_floats(RANK * N_OUT, 7);
    void *q1 = quantised(type, wf, N_IN, N_OUT), *q2 = quantised(type, wf + N_IN * N_OUT, N_IN, N_OUT2);

    struct ops_run run = ops_run_new(params);
    struct ggml_context *ctx = run.ctx;
    struct ggml_tensor *w[] = {ops_run_input(&run, type, N_IN, N_OUT, 1, q1), ops_run_input(&run, type, N_IN, N_OUT2, 1, q2)};
    struct ggml_tensor *xt = ops_run_input(&run, GGML_TYPE_F32, N_IN, n_rows, 1, x);
    struct ggml_tensor *a = ops_run_input(&run, GGML_TYPE_F32, N_IN, RANK, 1, af);
    struct ggml_tensor *b = ops_run_input(&run, GGML_TYPE_F32, RANK, N_OUT, 1, bf);
    struct ggml_tensor *dy = ops_run_input(&run, GGML_TYPE_F32, N_OUT + N_OUT2, n_rows, 1, dyf);
    struct ggml_tensor *da = ops_run_input(&run, GGML_TYPE_F32, N_IN, RANK, 1, daf);
    struct ggml_tensor *db = ops_run_input(&run, GGML_TYPE_F32, RANK, N_OUT, 1, dbf);
    const float scale = 0.25f;

    struct ggml_tensor *y = op_linear_stack(ctx, run.ops, w, 2, xt); /* [N_OUT + N_OUT2, n_rows] */
    struct ggml_tensor *t = op_linear(ctx, run.ops, a, xt);          /* [RANK, n_rows] */
    struct ggml_tensor *y1 = op_linear_acc(ctx, run.ops, op_part(ctx, y, 0, N_OUT), b, t, scale);
    struct ggml_tensor *both = ops_run_output(&run, ggml_concat(ctx, y1, op_part(ctx, y, N_OUT, N_OUT2), 0));

    struct ggml_tensor *dy1 = op_part(ctx, dy, 0, N_OUT);
    struct ggml_tensor *dt = op_linear_back(ctx, run.ops, b, dy1); /* [RANK, n_rows] */
    struct ggml_tensor *dx = op_linear_back_stack(ctx, run.ops, w, 2, dy);
    dx = ops_run_output(&run, op_linear_back_acc(ctx, run.ops, dx, a, dt, scale));
    struct ggml_tensor *da2 = ops_run_output(&run, op_linear_grad_acc(ctx, run.ops, da, dt, xt, scale));
    struct ggml_tensor *db2 = ops_run_output(&run, op_linear_grad_acc(ctx, run.ops, db, dy1, t, scale));
    ops_run_compute(&run);
    assert_ptr_equal(da2->data, da->data);
    assert_ptr_equal(db2->data, db->data);
    struct layer_results r = {ops_run_get(both), ops_run_get(dx), ops_run_get(da), ops_run_get(db)};
    ops_run_free(&run);
    void *all[] = {wf, x, af, bf, dyf, daf, dbf, q1, q2};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        free(all[i]);
    }
    return r;
}

static void results_free(struct layer_results *r) {
    free(r->y);
    free(r->dx);
    free(r->da);
    free(r->db);
}

static void compare(const struct layer_results *a, const struct layer_results *b, int64_t n_rows, double tolerance) {
    assert_true(relative_difference(a->y, b->y, (size_t)((N_OUT + N_OUT2) * n_rows)) <= tolerance);
    assert_true(relative_difference(a->dx, b->dx, (size_t)(N_IN * n_rows)) <= tolerance);
    assert_true(relative_difference(a->da, b->da, N_IN * RANK) <= tolerance);
    assert_true(relative_difference(a->db, b->db, RANK * N_OUT) <= tolerance);
}

static const int64_t row_counts[] = {1, 2, 3, 7, 16, 33, 257};

static void test_a_lora_layer_equals_plain_ggml(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(row_counts) / sizeof(*row_counts); i++) {
        struct ops_params params = {.n_threads = 2};
        struct layer_results custom = lora_layer(params, GGML_TYPE_F32, row_counts[i]);
        params.plain = true;
        struct layer_results plain = lora_layer(params, GGML_TYPE_F32, row_counts[i]);
        compare(&custom, &plain, row_counts[i], 2e-5);
        results_free(&custom);
        results_free(&plain);
    }
}

/* ggml multiplies these by rounded activations, ours does not: the tolerance is that rounding. */
static void test_quantised_weights_equal_plain_ggml_within_its_rounding(void **state) {
    (void)state;
    static const enum ggml_type types[] = {GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1};
    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
        struct ops_params params = {.n_threads = 2};
        struct layer_results custom = lora_layer(params, types[i], 33);
        params.plain = true;
        struct layer_results plain = lora_layer(params, types[i], 33);
        compare(&custom, &plain, 33, 0.06);
        results_free(&custom);
        results_free(&plain);
    }
}

static void test_threads_do_not_change_a_bit(void **state) {
    (void)state;
    for (int precision = OPS_F32; precision <= OPS_BF16; precision++) {
        struct ops_params params = {.n_threads = 1, .precision = (enum ops_precision)precision};
        struct layer_results one = lora_layer(params, GGML_TYPE_Q8_0, 33);
        for (params.n_threads = 2; params.n_threads <= 5; params.n_threads++) {
            struct layer_results more = lora_layer(params, GGML_TYPE_Q8_0, 33);
            compare(&more, &one, 33, 0);
            results_free(&more);
        }
        results_free(&one);
    }
}

static void test_bf16_is_near_f32(void **state) {
    (void)state;
    struct layer_results f32 = lora_layer((struct ops_params){.n_threads = 2}, GGML_TYPE_Q8_0, 257);
    struct layer_results bf16 = lora_layer((struct ops_params){.n_threads = 2, .precision = OPS_BF16}, GGML_TYPE_Q8_0, 257);
    compare(&bf16, &f32, 257, 0.03);
    results_free(&f32);
    results_free(&bf16);
}

/* d <dy, W x> / dx = W^T dy: exact for any step, the map being linear. */
static void test_the_gradient_is_the_transposed_map(void **state) {
    (void)state;
    const int64_t n_rows = 7;
    struct ops_run run = ops_run_new((struct ops_params){.n_threads = 2});
    float *wf = random_floats(N_IN * N_OUT, 1), *xf = random_floats((size_t)(N_IN * n_rows), 2);
    float *dyf = random_floats((size_t)(N_OUT * n_rows), 3);
    void *q = quantised(GGML_TYPE_Q4_1, wf, N_IN, N_OUT);
    struct ggml_tensor *w = ops_run_input(&run, GGML_TYPE_Q4_1, N_IN, N_OUT, 1, q);
    struct ggml_tensor *x = ops_run_input(&run, GGML_TYPE_F32, N_IN, n_rows, 1, xf);
    struct ggml_tensor *dy = ops_run_input(&run, GGML_TYPE_F32, N_OUT, n_rows, 1, dyf);
    struct ggml_tensor *y = ops_run_output(&run, op_linear(run.ctx, run.ops, w, x));
    struct ggml_tensor *dx = ops_run_output(&run, op_linear_back(run.ctx, run.ops, w, dy));
    ops_run_compute(&run);
    float *yf = ops_run_get(y), *dxf = ops_run_get(dx);
    double there = 0, back = 0;
    for (int64_t i = 0; i < N_OUT * n_rows; i++) {
        there += (double)yf[i] * (double)dyf[i];
    }
    for (int64_t i = 0; i < N_IN * n_rows; i++) {
        back += (double)dxf[i] * (double)xf[i];
    }
    assert_true(fabs(there - back) < 1e-5 * fabs(there));
    ops_run_free(&run);
    void *all[] = {wf, xf, dyf, q, yf, dxf};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        free(all[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_lora_layer_equals_plain_ggml),
        cmocka_unit_test(test_quantised_weights_equal_plain_ggml_within_its_rounding),
        cmocka_unit_test(test_threads_do_not_change_a_bit),
        cmocka_unit_test(test_bf16_is_near_f32),
        cmocka_unit_test(test_the_gradient_is_the_transposed_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
