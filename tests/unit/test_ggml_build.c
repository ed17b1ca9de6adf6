/* Proves that the ggml that was built multiplies rightly: a weight matrix of every type
 * that models may have, by one to many rows, in every kind of buffer that the CPU
 * backend offers for weights (plain, repacked, matrix unit). A compiler that mistreats
 * the matrix unit's intrinsics crashes here, not in front of a user.
 *
 * The reference is the same product in double precision on the dequantised weights. What
 * may differ is rounding of the activations (to 8 bits beside quantised weights) and of
 * the sums, both in proportion to |w| |x|: so that is what errors are measured against.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

enum {
    N_IN = 1024,      /* a multiple of the largest block, 256 */
    N_OUT = 192,      /* a multiple of every tile that repacked layouts use */
    MAX_ROWS = 512,
    MAX_BUFFER_TYPES = 8,
};

static const int64_t row_counts[] = { 1, 2, 3, 4, 8, 33, MAX_ROWS };

struct type_case {
    enum ggml_type type;
    double tolerance; /* of |y - reference| / (|w| |x|) */
};

/* A step of 1/127 of a block's largest value a (some 3 for normal values) rounds each
 * activation by a/127/sqrt(12) in the mean, and the product by that times |w|, which is
 * 7e-3/sqrt(N_IN) = 2e-4 of |w| |x|: 2e-3 is ten standard deviations. Half precision
 * rounds by 2^-11 of each value at most, bf16 by 2^-8. */
static const struct type_case cases[] = {
    { GGML_TYPE_F32, 1e-6 },   { GGML_TYPE_F16, 2e-4 },   { GGML_TYPE_BF16, 1e-3 },
    { GGML_TYPE_Q8_0, 2e-3 },  { GGML_TYPE_Q4_0, 2e-3 },  { GGML_TYPE_Q4_1, 2e-3 },
    { GGML_TYPE_Q4_K, 2e-3 },  { GGML_TYPE_Q5_K, 2e-3 },  { GGML_TYPE_Q6_K, 2e-3 },
};

/* What all cases share. */
struct fixture {
    ggml_backend_t backend;
    ggml_backend_buffer_type_t buffer_types[MAX_BUFFER_TYPES];
    int n_buffer_types;
    float *weights;      /* [N_IN, N_OUT], before quantising */
    float *rows;         /* [N_IN, MAX_ROWS] */
    uint8_t *quantised;  /* [N_IN, N_OUT] in the type under test, at most f32's size */
    float *dequantised;  /* [N_IN, N_OUT], what the quantised weights stand for */
    double *reference;   /* [N_OUT, MAX_ROWS] */
    double *scale;       /* [N_OUT, MAX_ROWS], |w| |x| */
    float *result;       /* [N_OUT, MAX_ROWS] */
};

static struct fixture fx;

/* Roughly normal values, the same in every run. */
static void fill(float *x, size_t n, uint64_t seed)
{
    uint64_t state = seed;
    for (size_t i = 0; i < n; i++) {
        float sum = 0;
        for (int k = 0; k < 12; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            sum += (float)(state >> 40) / (float)(1 << 24);
        }
        x[i] = sum - 6.0f;
    }
}

static void log_nothing(enum ggml_log_level level, const char *text, void *data)
{
    (void)level;
    (void)text;
    (void)data;
}

static int setup(void **state)
{
    (void)state;
    ggml_log_set(log_nothing, NULL); /* it names every tensor that it repacks */
    fx.backend = ggml_backend_cpu_init();
    ggml_backend_dev_t device = ggml_backend_get_device(fx.backend);
    fx.buffer_types[fx.n_buffer_types++] = ggml_backend_cpu_buffer_type();
    ggml_backend_dev_get_extra_bufts_t get_extra =
        (ggml_backend_dev_get_extra_bufts_t)ggml_backend_reg_get_proc_address(
            ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts");
    if (get_extra) {
        ggml_backend_buffer_type_t *extra = get_extra(device);
        for (; extra && *extra && fx.n_buffer_types < MAX_BUFFER_TYPES; extra++)
            fx.buffer_types[fx.n_buffer_types++] = *extra;
    }

    fx.weights = malloc(sizeof(float) * N_IN * N_OUT);
    fx.rows = malloc(sizeof(float) * N_IN * MAX_ROWS);
    fx.quantised = malloc(sizeof(float) * N_IN * N_OUT);
    fx.dequantised = malloc(sizeof(float) * N_IN * N_OUT);
    fx.reference = malloc(sizeof(double) * N_OUT * MAX_ROWS);
    fx.scale = malloc(sizeof(double) * N_OUT * MAX_ROWS);
    fx.result = malloc(sizeof(float) * N_OUT * MAX_ROWS);
    if (!fx.backend || !fx.weights || !fx.rows || !fx.quantised || !fx.dequantised ||
        !fx.reference || !fx.scale || !fx.result)
        return -1;
    fill(fx.weights, (size_t)N_IN * N_OUT, 1);
    fill(fx.rows, (size_t)N_IN * MAX_ROWS, 2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(fx.weights);
    free(fx.rows);
    free(fx.quantised);
    free(fx.dequantised);
    free(fx.reference);
    free(fx.scale);
    free(fx.result);
    ggml_backend_free(fx.backend);
    return 0;
}

/* Fills fx.quantised, fx.dequantised, fx.reference and fx.scale. */
static void prepare(enum ggml_type type)
{
    ggml_quantize_chunk(type, fx.weights, fx.quantised, 0, N_OUT, N_IN, NULL);
    if (type == GGML_TYPE_F32) {
        for (size_t i = 0; i < (size_t)N_IN * N_OUT; i++)
            fx.dequantised[i] = fx.weights[i];
    } else {
        ggml_get_type_traits(type)->to_float(fx.quantised, fx.dequantised,
                                             (int64_t)N_IN * N_OUT);
    }
    for (size_t r = 0; r < MAX_ROWS; r++) {
        const float *x = fx.rows + r * N_IN;
        for (size_t o = 0; o < N_OUT; o++) {
            const float *w = fx.dequantised + o * N_IN;
            double dot = 0, ww = 0, xx = 0;
            for (size_t i = 0; i < N_IN; i++) {
                dot += (double)w[i] * (double)x[i];
                ww += (double)w[i] * (double)w[i];
                xx += (double)x[i] * (double)x[i];
            }
            fx.reference[r * N_OUT + o] = dot;
            fx.scale[r * N_OUT + o] = sqrt(ww * xx);
        }
    }
}

/* Largest |y - reference| / (|w| |x|) over n_rows rows; NaN if any result is. */
static double largest_error(int64_t n_rows)
{
    double largest = 0;
    for (size_t i = 0; i < (size_t)n_rows * N_OUT; i++) {
        double e = fabs((double)fx.result[i] - fx.reference[i]) / fx.scale[i];
        if (!(e <= largest))
            largest = e;
        if (isnan(e))
            return e;
    }
    return largest;
}

/* Multiplies the weights by n_rows rows with the weights in buffers of the given type.
 * Returns false where that buffer type does not take such weights. */
static bool multiply(ggml_backend_buffer_type_t buffer_type, enum ggml_type type,
                     int64_t n_rows)
{
    struct ggml_init_params params = {
        .mem_size = 8 * ggml_tensor_overhead() + ggml_graph_overhead(),
        .no_alloc = true,
    };
    struct ggml_context *weight_ctx = ggml_init(params);
    struct ggml_context *ctx = ggml_init(params);
    struct ggml_tensor *w = ggml_new_tensor_2d(weight_ctx, type, N_IN, N_OUT);
    struct ggml_tensor *x = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, N_IN, n_rows);
    struct ggml_tensor *y = ggml_mul_mat(ctx, w, x); // [N_OUT, n_rows]

    ggml_backend_buffer_t w_buffer = ggml_backend_alloc_ctx_tensors_from_buft(weight_ctx,
                                                                              buffer_type);
    assert_non_null(w_buffer);
    bool takes = ggml_backend_supports_op(fx.backend, y);
    ggml_backend_buffer_t buffer = NULL;
    if (takes) {
        struct ggml_cgraph *graph = ggml_new_graph(ctx);
        ggml_build_forward_expand(graph, y);
        buffer = ggml_backend_alloc_ctx_tensors(ctx, fx.backend);
        assert_non_null(buffer);
        ggml_backend_tensor_set(w, fx.quantised, 0, ggml_nbytes(w));
        ggml_backend_tensor_set(x, fx.rows, 0, ggml_nbytes(x));
        assert_int_equal(ggml_backend_graph_compute(fx.backend, graph), GGML_STATUS_SUCCESS);
        ggml_backend_tensor_get(y, fx.result, 0, ggml_nbytes(y));
    }
    ggml_backend_buffer_free(buffer);
    ggml_backend_buffer_free(w_buffer);
    ggml_free(ctx);
    ggml_free(weight_ctx);
    return takes;
}

static void test_many_row_products_equal_double_precision(void **state)
{
    const struct type_case *c = *state;
    prepare(c->type);
    for (int b = 0; b < fx.n_buffer_types; b++) {
        double worst = -1;
        for (size_t i = 0; i < sizeof row_counts / sizeof *row_counts; i++) {
            for (int n_threads = 1; n_threads <= 2; n_threads++) {
                ggml_backend_cpu_set_n_threads(fx.backend, n_threads);
                if (!multiply(fx.buffer_types[b], c->type, row_counts[i])) {
                    assert_int_not_equal(b, 0); /* the plain buffer takes every type */
                    continue;
                }
                double e = largest_error(row_counts[i]);
                if (!(e <= c->tolerance))
                    fail_msg("%s, %s, %d rows, %d threads: error %g of |w| |x|, more than %g",
                             ggml_type_name(c->type),
                             ggml_backend_buft_name(fx.buffer_types[b]), (int)row_counts[i],
                             n_threads, e, c->tolerance);
                worst = fmax(worst, e);
            }
        }
        if (worst >= 0)
            print_message("%s in %s buffers: largest error %.1e of |w| |x|\n",
                          ggml_type_name(c->type),
                          ggml_backend_buft_name(fx.buffer_types[b]), worst);
    }
}

/* The measure has teeth: results of neighbouring rows are told apart by far. */
static void test_a_wrong_row_is_seen(void **state)
{
    (void)state;
    prepare(GGML_TYPE_Q4_0);
    assert_true(multiply(fx.buffer_types[0], GGML_TYPE_Q4_0, 4));
    assert_true(largest_error(4) <= 2e-3);
    for (size_t o = 0; o < N_OUT; o++)
        fx.result[3 * N_OUT + o] = fx.result[2 * N_OUT + o];
    assert_true(largest_error(4) > 2e-2);
    fx.result[0] = NAN;
    assert_true(isnan(largest_error(4)));
}

int main(void)
{
    enum { N_CASES = sizeof cases / sizeof *cases };
    struct CMUnitTest tests[N_CASES + 1];
    char names[N_CASES][96];
    for (size_t i = 0; i < N_CASES; i++) {
        snprintf(names[i], sizeof names[i], "test_many_row_products_equal_double_precision(%s)",
                 ggml_type_name(cases[i].type));
        tests[i] = (struct CMUnitTest){
            .name = names[i],
            .test_func = test_many_row_products_equal_double_precision,
            .initial_state = (void *)(uintptr_t)&cases[i],
        };
    }
    tests[N_CASES] = (struct CMUnitTest)cmocka_unit_test(test_a_wrong_row_is_seen);
    return cmocka_run_group_tests_name("ggml_build", tests, setup, teardown);
}
