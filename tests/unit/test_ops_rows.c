/* Row-wise nodes: against formulas in double precision, finite differences and plain ggml, for every instruction set. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "ops/cpu.h"
#include "support/ops_run.h"

static const char *const instruction_sets[] = {"plain", "avx2", "avx512"};
enum { N_SETS = 3 };
static const int64_t row_counts[] = {1, 2, 3, 7, 16, 33, 257};
static const int64_t widths[] = {1, 5, 16, 37, 576};
static const float eps = 1e-5f;

/* Calls body for each set that this processor has, several widths and row counts, and numbers of threads. */
static void for_each_case(void (*body)(struct ops_params params, int64_t n, int64_t n_rows)) {
    for (int s = 0; s < N_SETS; s++) {
        for (size_t w = 0; cpu_kernels(instruction_sets[s]) && w < sizeof(widths) / sizeof(*widths); w++) {
            for (size_t r = 0; r < sizeof(row_counts) / sizeof(*row_counts); r++) {
                const int n_threads = widths[w] == 37 && r == 5 ? 5 : 1 + (int)(r + w) % 2;
                const struct ops_params params = {.n_threads = n_threads, .instructions = instruction_sets[s]};
                body(params, widths[w], row_counts[r]);
            }
        }
    }
}

/* ---- norm ----------------------------------------------------------------------------------------------------- */

struct norm_results {
    float *y, *dx;
};

/* x is part of a wider tensor, so that its rows are apart. */
static struct norm_results norm(struct ops_params params, int64_t n, int64_t n_rows, const float *wide, const float *w,
                                const float *dy, const float *add) {
    struct ops_run run = ops_run_new(params);
    struct ggml_tensor *all = ops_run_input(&run, GGML_TYPE_F32, n + 3, n_rows, 1, wide);
    struct ggml_tensor *x = op_part(run.ctx, all, 2, n);
    struct ggml_tensor *wt = ops_run_input(&run, GGML_TYPE_F32, n, 1, 1, w);
    struct ggml_tensor *dyt = ops_run_input(&run, GGML_TYPE_F32, n, n_rows, 1, dy);
    struct ggml_tensor *at = add ? ops_run_input(&run, GGML_TYPE_F32, n, n_rows, 1, add) : NULL;
    struct ggml_tensor *y = ops_run_output(&run, op_rms_norm(run.ctx, run.ops, x, wt, eps));
    x = params.plain ? ggml_cont(run.ctx, x) : x;
    struct ggml_tensor *dx = ops_run_output(&run, op_rms_norm_back(run.ctx, run.ops, x, wt, dyt, at, eps));
    ops_run_compute(&run);
    struct norm_results r = {ops_run_get(y), ops_run_get(dx)};
    ops_run_free(&run);
    return r;
}

/* Row i of the forward pass in double, and with it sum dy y: its derivative along u is <dx, u>. */
static double norm_reference(const double *x, const float *w, const float *dy, int64_t n, double *y) {
    double square = 0, dot = 0;
    for (int64_t i = 0; i < n; i++) {
        square += x[i] * x[i];
    }
    const double r = 1 / sqrt(square / (double)n + (double)eps);
    for (int64_t i = 0; i < n; i++) {
        y[i] = x[i] * r * (double)w[i];
        dot += y[i] * (double)dy[i];
    }
    return dot;
}

static void norm_case(struct ops_params params, int64_t n, int64_t n_rows) {
    float *wide = random_floats((size_t)((n + 3) * n_rows), 1), *w = random_floats((size_t)n, 2);
    float *dy = random_floats((size_t)(n * n_rows), 3), *add = random_floats((size_t)(n * n_rows), 4);
    float *u = random_floats((size_t)n, 5);
    double *x = malloc((size_t)n * sizeof(double)), *y = malloc((size_t)(n * n_rows) * sizeof(double));
    double *shifted = malloc((size_t)n * sizeof(double));
    struct norm_results r = norm(params, n, n_rows, wide, w, dy, NULL);
    struct norm_results with_add = norm(params, n, n_rows, wide, w, dy, add);
    for (int64_t row = 0; row < n_rows; row++) {
        const double h = 1e-5;
        double along = 0, size = 1e-6;
        for (int64_t i = 0; i < n; i++) {
            x[i] = (double)wide[row * (n + 3) + 2 + i];
            along += (double)r.dx[row * n + i] * (double)u[i];
            size += fabs((double)r.dx[row * n + i] * (double)u[i]);
            const float expected = add[row * n + i] + r.dx[row * n + i];
            assert_true(fabsf(with_add.dx[row * n + i] - expected) <= 1e-6f * (fabsf(expected) + 1));
        }
        double f[2];
        for (int side = 0; side < 2; side++) {
            for (int64_t i = 0; i < n; i++) {
                shifted[i] = x[i] + (side ? h : -h) * (double)u[i];
            }
            f[side] = norm_reference(shifted, w, dy + row * n, n, y + row * n);
        }
        /* f32 cancellation: for n = 1 the gradient is all but 0 */
        assert_true(fabs((f[1] - f[0]) / (2 * h) - along) <= 1e-5 * size + 1e-4 * (n == 1));
        norm_reference(x, w, dy + row * n, n, y + row * n);
    }
    assert_true(relative_difference_to_double(r.y, y, (size_t)(n * n_rows)) < 3e-6);
    params.plain = true;
    struct norm_results plain = norm(params, n, n_rows, wide, w, dy, add);
    assert_true(relative_difference(r.y, plain.y, (size_t)(n * n_rows)) < 1e-5);
    assert_true(relative_difference(with_add.dx, plain.dx, (size_t)(n * n_rows)) < 1e-4);
    void *all[] = {wide, w, dy, add, u, x, y, shifted, r.y, r.dx, with_add.y, with_add.dx, plain.y, plain.dx};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        free(all[i]);
    }
}

static void test_rms_norm_and_its_gradient(void **state) {
    (void)state;
    for_each_case(norm_case);
}

/* ---- swiglu --------------------------------------------------------------------------------------------------- */

struct swiglu_results {
    float *y, *d;
};

/* gate and up are halves of one tensor. */
static struct swiglu_results swiglu(struct ops_params params, int64_t n, int64_t n_rows, const float *both, const float *dy) {
    struct ops_run run = ops_run_new(params);
    struct ggml_tensor *all = ops_run_input(&run, GGML_TYPE_F32, 2 * n, n_rows, 1, both);
    struct ggml_tensor *gate = op_part(run.ctx, all, 0, n), *up = op_part(run.ctx, all, n, n);
    struct ggml_tensor *dyt = ops_run_input(&run, GGML_TYPE_F32, n, n_rows, 1, dy);
    struct ggml_tensor *y = ops_run_output(&run, op_swiglu(run.ctx, run.ops, gate, up));
    struct ggml_tensor *d = ops_run_output(&run, op_swiglu_back(run.ctx, run.ops, gate, up, dyt));
    ops_run_compute(&run);
    struct swiglu_results r = {ops_run_get(y), ops_run_get(d)};
    ops_run_free(&run);
    return r;
}

static double silu(double x) { return x / (1 + exp(-x)); }

static void swiglu_case(struct ops_params params, int64_t n, int64_t n_rows) {
    const size_t size = (size_t)(n * n_rows);
    float *both = random_floats(2 * size, 1), *dy = random_floats(size, 2);
    for (size_t i = 0; i < 2 * size; i += 11) {
        both[i] *= 40; /* where exp leaves the range of f32 */
    }
    struct swiglu_results r = swiglu(params, n, n_rows, both, dy);
    double *y = malloc(size * sizeof(double)), *d = malloc(2 * size * sizeof(double));
    for (int64_t row = 0; row < n_rows; row++) {
        for (int64_t i = 0; i < n; i++) {
            const int64_t at = row * n + i, gate = row * 2 * n + i, up = gate + n;
            const double g = (double)both[gate], u = (double)both[up], h = 1e-5;
            y[at] = silu(g) * u;
            d[gate] = (double)dy[at] * u * (silu(g + h) - silu(g - h)) / (2 * h);
            d[up] = (double)dy[at] * silu(g);
        }
    }
    assert_true(relative_difference_to_double(r.y, y, size) < 1e-5);
    assert_true(relative_difference_to_double(r.d, d, 2 * size) < 1e-5);
    params.plain = true;
    struct swiglu_results plain = swiglu(params, n, n_rows, both, dy);
    assert_true(relative_difference(r.y, plain.y, size) < 1e-5);
    assert_true(relative_difference(r.d, plain.d, 2 * size) < 1e-5);
    void *all[] = {both, dy, r.y, r.d, y, d, plain.y, plain.d};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        free(all[i]);
    }
}

static void test_swiglu_and_its_gradient(void **state) {
    (void)state;
    for_each_case(swiglu_case);
}

/* ---- dropout -------------------------------------------------------------------------------------------------- */

static float *dropout(struct ops_params params, const float *x, int64_t n, int64_t n_rows, float p, uint32_t stream,
                      uint64_t seed, uint64_t step) {
    struct ops_run run = ops_run_new(params);
    struct ggml_tensor *xt = ops_run_input(&run, GGML_TYPE_F32, n, n_rows, 1, x);
    int64_t *keys = malloc((size_t)n_rows * sizeof *keys);
    for (int64_t i = 0; i < n_rows; i++) {
        keys[i] = (int64_t)rng_hash(0, 0, (uint64_t)i);
    }
    struct ggml_tensor *kt = ops_run_input(&run, GGML_TYPE_I64, n_rows, 1, 1, keys);
    struct ggml_tensor *y = ops_run_output(&run, op_dropout(run.ctx, run.ops, xt, kt, p, stream));
    ops_set_dropout(run.ops, seed, step);
    ops_run_compute(&run);
    float *r = ops_run_get(y);
    ops_run_free(&run);
    free(keys);
    return r;
}

static void test_softmax_equals_double_precision(void **state) {
    (void)state;
    for (int64_t n = 1; n <= 80; n++) {
        float *x = random_floats((size_t)n, (uint64_t)n);
        double sum = 0, max = -INFINITY;
        for (int64_t i = 0; i < n; i++) {
            x[i] = 20 * x[i] + 100; /* overflows without a shift */
            max = fmax(max, (double)x[i]);
        }
        for (int64_t i = 0; i < n; i++) {
            sum += exp((double)x[i] - max);
        }
        for (int s = 0; s < N_SETS; s++) {
            const struct kernels *k = cpu_kernels(instruction_sets[s]);
            float y[81];
            memcpy(y, x, (size_t)n * sizeof *y);
            y[n] = 7; /* nothing is written beyond */
            if (k) {
                k->softmax(y, n);
            }
            for (int64_t i = 0; k && i < n; i++) {
                const double want = exp((double)x[i] - max) / sum;
                assert_true(fabs((double)y[i] - want) <= 2e-6 * want + 1e-30);
            }
            assert_true(y[n] == 7.0f);
        }
        free(x);
    }
}

/* Of numbers below their maximum, with some that have no probability; and of one maximum above equal others, whose sum has the
 * largest error. */
static void check_exponentials(const struct kernels *k, const float *x, int64_t n, float max, float scale) {
    float *y = calloc((size_t)n + 1, sizeof *y);
    double sum = 0;
    y[n] = 7; /* nothing is written beyond */
    k->exp(y, x, n, max, scale);
    for (int64_t i = 0; i < n; i++) {
        const double want = exp(((double)x[i] - (double)max) * (double)scale);
        assert_true(fabs((double)y[i] - want) <= 2e-6 * want + 1e-30);
        sum += (double)y[i];
    }
    assert_true(y[n] == 7.0f);
    assert_true(fabs(k->exp_sum(x, n, max, scale) - sum) <= 1e-6 * sum);
    free(y);
}

static void test_exponentials_equal_double_precision(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, 3, 4, 7, 8, 9, 15, 16, 17, 33, 511, 1023, 1024, 1025, 2048, 49157};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int64_t n = sizes[i];
        float *x = random_floats((size_t)n, (uint64_t)n);
        for (int64_t j = 0; j < n; j++) {
            x[j] = j % 7 == 3 ? -INFINITY : 10 * x[j] - 50;
        }
        x[0] = -35; /* above all others */
        for (int s = 0; s < N_SETS; s++) {
            const struct kernels *k = cpu_kernels(instruction_sets[s]);
            if (k) {
                check_exponentials(k, x, n, x[0], 0.7f);
            }
        }
        for (int64_t j = 1; j < n; j++) {
            x[j] = -37.3f;
        }
        for (int s = 0; s < N_SETS; s++) {
            const struct kernels *k = cpu_kernels(instruction_sets[s]);
            if (k) {
                check_exponentials(k, x, n, x[0], 1);
                x[n / 2] = NAN;
                assert_true(isnan(k->exp_sum(x, n, -35, 1)));
                x[n / 2] = n / 2 ? -37.3f : -35;
            }
        }
        free(x);
    }
}

static void test_dropout_keeps_the_mean_and_depends_on_its_key_alone(void **state) {
    (void)state;
    enum { N = 576, ROWS = 257 };
    const size_t size = (size_t)N * ROWS;
    float *x = malloc(size * sizeof(float));
    for (size_t i = 0; i < size; i++) {
        x[i] = 1;
    }
    const float p = 0.3f;
    const double count = (double)size;
    float *first = dropout((struct ops_params){.n_threads = 1}, x, N, ROWS, p, 7, 42, 3);
    double sum = 0;
    size_t zeros = 0;
    for (size_t i = 0; i < size; i++) {
        assert_true(first[i] == 0 || first[i] == 1.0f / (1.0f - p));
        zeros += first[i] == 0;
        sum += (double)first[i];
    }
    assert_true(fabs((double)zeros / count - 0.3) < 5 * sqrt(0.21 / count));
    assert_true(fabs(sum / count - 1) < 0.01);
    /* whatever computes it */
    for (int s = 0; s < N_SETS; s++) {
        if (cpu_kernels(instruction_sets[s])) {
            const struct ops_params params = {.n_threads = 2 + s, .instructions = instruction_sets[s]};
            float *same = dropout(params, x, N, ROWS, p, 7, 42, 3);
            assert_memory_equal(same, first, size * sizeof(float));
            free(same);
        }
    }
    /* and independent of it under another stream, seed or step: zeros coincide as often as chance has it */
    const struct {
        uint32_t stream;
        uint64_t seed, step;
    } others[] = {{8, 42, 3}, {7, 43, 3}, {7, 42, 4}};
    for (int i = 0; i < 3; i++) {
        float *other = dropout((struct ops_params){.n_threads = 1}, x, N, ROWS, p, others[i].stream, others[i].seed,
                               others[i].step);
        size_t both = 0;
        for (size_t j = 0; j < size; j++) {
            both += first[j] == 0 && other[j] == 0;
        }
        assert_true(fabs((double)both / count - 0.09) < 5 * sqrt(0.09 * 0.91 / count));
        free(other);
    }
    free(first);
    free(x);
}

/* ---- rotary positions ----------------------------------------------------------------------------------------- */

enum { HEAD = 48, N_HEADS = 3, N_ROT = 32 };

static void rotate(struct ops_params params, struct op_rope rope, const float *x, const int32_t *positions,
                   const float *factors, int64_t n_rows, float **there, float **back) {
    struct ops_run run = ops_run_new(params);
    /* copied first: rotation is in place */
    struct ggml_tensor *in = ops_run_input(&run, GGML_TYPE_F32, HEAD, N_HEADS, n_rows, x);
    struct ggml_tensor *a = ggml_cont(run.ctx, in), *b = ggml_cont(run.ctx, in);
    rope.positions = ops_run_input(&run, GGML_TYPE_I32, n_rows, 1, 1, positions);
    rope.freq_factors = factors ? ops_run_input(&run, GGML_TYPE_F32, N_ROT / 2, 1, 1, factors) : NULL;
    op_rope_init(run.ctx, run.ops, &rope);
    struct ggml_tensor *y = ops_run_output(&run, op_rope(run.ctx, run.ops, a, &rope));
    struct ggml_tensor *z = ops_run_output(&run, op_rope_back(run.ctx, run.ops, b, &rope));
    ops_run_compute(&run);
    *there = ops_run_get(y);
    *back = ops_run_get(z);
    ops_run_free(&run);
}

static void test_rotation_equals_ggml_for_every_kind_of_scaling(void **state) {
    (void)state;
    enum { ROWS = 33 };
    const size_t size = (size_t)HEAD * N_HEADS * ROWS;
    float *x = random_floats(size, 1), factors[N_ROT / 2];
    int32_t positions[ROWS];
    for (int i = 0; i < ROWS; i++) {
        positions[i] = i * i * 7 % 4001;
    }
    for (int i = 0; i < N_ROT / 2; i++) {
        factors[i] = 1.0f + 0.3f * (float)i;
    }
    struct op_rope kinds[] = {
        {.freq_base = 10000, .freq_scale = 1, .attn_factor = 1},
        {.freq_base = 100000, .freq_scale = 0.25f, .attn_factor = 1},
        {.freq_base = 10000, .freq_scale = 0.125f, .ext_factor = 1, .attn_factor = 0.9f, .beta_fast = 32, .beta_slow = 1,
         .n_ctx_orig = 512},
    };
    for (int k = 0; k < 12; k++) {
        struct op_rope rope = kinds[k % 3];
        rope.n_rot = N_ROT;
        rope.mode = k / 3 % 2 ? GGML_ROPE_TYPE_NEOX : GGML_ROPE_TYPE_NORMAL;
        struct ops_params params = {.n_threads = 1 + k % 3};
        float *y, *z, *plain_y, *plain_z;
        rotate(params, rope, x, positions, k >= 6 ? factors : NULL, ROWS, &y, &z);
        params.plain = true;
        rotate(params, rope, x, positions, k >= 6 ? factors : NULL, ROWS, &plain_y, &plain_z);
        /* blended angles of up to 4001 are rounded once more, to 2e-4 */
        const double tolerance = k % 3 == 2 ? 2e-4 : 1e-6;
        assert_true(relative_difference(y, plain_y, size) < tolerance);
        assert_true(relative_difference(z, plain_z, size) < tolerance);
        free(y);
        free(z);
        free(plain_y);
        free(plain_z);
    }
    free(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rms_norm_and_its_gradient),
        cmocka_unit_test(test_swiglu_and_its_gradient),
        cmocka_unit_test(test_softmax_equals_double_precision),
        cmocka_unit_test(test_exponentials_equal_double_precision),
        cmocka_unit_test(test_dropout_keeps_the_mean_and_depends_on_its_key_alone),
        cmocka_unit_test(test_rotation_equals_ggml_for_every_kind_of_scaling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
