/* Attention over trees: against softmax in double precision, plain ggml, finite differences, and its own symmetries. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ops/cpu.h"
#include "support/ops_run.h"

struct batch {
    int d, n_head, n_head_kv;
    int32_t n_rows, n_trees;
    const int32_t *trees;
    bool rope, neox;
    float *q, *k, *v, *dout; /* q, k, v side by side in rows of one tensor are made from these */
    int32_t *positions;
};

struct results {
    float *out, *lse, *d; /* d: dq, dk, dv side by side */
};

static int width(const struct batch *b) { return b->d * (b->n_head + 2 * b->n_head_kv); }

static struct batch batch_new(int d, int n_head, int n_head_kv, int32_t n_rows, int32_t n_trees, const int32_t *trees) {
    struct batch b = {.d = d, .n_head = n_head, .n_head_kv = n_head_kv, .n_rows = n_rows, .n_trees = n_trees, .trees = trees};
    const size_t rows = (size_t)n_rows;
    b.q = random_floats(rows * (size_t)(d * n_head), 1);
    b.k = random_floats(rows * (size_t)(d * n_head_kv), 2);
    b.v = random_floats(rows * (size_t)(d * n_head_kv), 3);
    b.dout = random_floats(rows * (size_t)(d * n_head), 4);
    b.positions = calloc(rows, sizeof(int32_t));
    for (int32_t i = 0; i < n_trees; i++) {
        const int32_t *t = trees + i * 4;
        for (int32_t j = 0; j < t[1] + t[2] + t[3]; j++) { /* both branches go on from the prompt's end */
            b.positions[t[0] + j] = j < t[1] + t[2] ? j : j - t[2];
        }
    }
    return b;
}

static void batch_free(struct batch *b) {
    free(b->q);
    free(b->k);
    free(b->v);
    free(b->dout);
    free(b->positions);
}

static void results_free(struct results *r) {
    free(r->out);
    free(r->lse);
    free(r->d);
}

static float scale_of(const struct batch *b) { return 1.0f / sqrtf((float)b->d); }

/* All rows as [q, k, v] side by side, as a stacked projection leaves them. */
static float *stacked(const struct batch *b) {
    const int nq = b->d * b->n_head, nk = b->d * b->n_head_kv;
    float *all = malloc((size_t)b->n_rows * (size_t)width(b) * sizeof(float)), *p = all;
    for (int32_t i = 0; i < b->n_rows; i++, p += width(b)) {
        memcpy(p, b->q + (size_t)i * (size_t)nq, (size_t)nq * sizeof(float));
        memcpy(p + nq, b->k + (size_t)i * (size_t)nk, (size_t)nk * sizeof(float));
        memcpy(p + nq + nk, b->v + (size_t)i * (size_t)nk, (size_t)nk * sizeof(float));
    }
    return all;
}

static struct results compute(const struct batch *b, struct ops_params params) {
    struct ops_run run = ops_run_new(params);
    struct ggml_context *ctx = run.ctx;
    float *all = stacked(b), *mask = malloc((size_t)b->n_rows * (size_t)b->n_rows * sizeof(float));
    op_tree_mask(b->trees, b->n_trees, b->n_rows, mask);
    struct ggml_tensor *x = ops_run_input(&run, GGML_TYPE_F32, width(b), b->n_rows, 1, all);
    const size_t row = x->nb[1], head = (size_t)b->d * sizeof(float);
    struct ggml_tensor *q = ggml_view_3d(ctx, x, b->d, b->n_head, b->n_rows, head, row, 0);
    struct ggml_tensor *k = ggml_view_3d(ctx, x, b->d, b->n_head_kv, b->n_rows, head, row, head * (size_t)b->n_head);
    struct ggml_tensor *v =
        ggml_view_3d(ctx, x, b->d, b->n_head_kv, b->n_rows, head, row, head * (size_t)(b->n_head + b->n_head_kv));
    struct ggml_tensor *dout = ops_run_input(&run, GGML_TYPE_F32, b->d * b->n_head, b->n_rows, 1, b->dout);
    const struct op_tree tree = {
        .trees = ops_run_input(&run, GGML_TYPE_I32, 4, b->n_trees, 1, b->trees),
        .mask = params.plain ? ops_run_input(&run, GGML_TYPE_F32, b->n_rows, b->n_rows, 1, mask) : NULL,
    };
    struct op_rope rope = {
        .positions = b->rope ? ops_run_input(&run, GGML_TYPE_I32, b->n_rows, 1, 1, b->positions) : NULL,
        .n_rot = b->d, .mode = b->neox ? GGML_ROPE_TYPE_NEOX : GGML_ROPE_TYPE_NORMAL,
        .freq_base = 10000, .freq_scale = 1, .attn_factor = 1,
    };
    const struct op_rope *with = b->rope ? &rope : NULL;
    if (with) {
        op_rope_init(ctx, run.ops, &rope);
    }
    struct op_attention att = op_attention(ctx, run.ops, q, k, v, &tree, with, scale_of(b));
    ops_run_output(&run, att.out);
    if (att.lse) {
        ops_run_output(&run, att.lse);
    }
    struct ggml_tensor *d =
        ops_run_output(&run, op_attention_back(ctx, run.ops, q, k, v, &att, dout, &tree, with, scale_of(b)));
    ops_run_compute(&run);
    struct results r = {ops_run_get(att.out), att.lse ? ops_run_get(att.lse) : NULL, ops_run_get(d)};
    ops_run_free(&run);
    free(all);
    free(mask);
    return r;
}

/* ---- reference ------------------------------------------------------------------------------------------------ */

static bool sees(const int32_t *t, int32_t row, int32_t key) {
    const int32_t branch = row < t[1] ? 0 : row < t[1] + t[2] ? t[1] : t[1] + t[2];
    return key <= row && (key < t[1] || key >= branch);
}

/* Softmax of one row of one head; p[key] over the tree; returns the log-sum-exp. */
static double reference_softmax(const struct batch *b, const int32_t *t, int32_t row, int h, double *p) {
    const int hk = h / (b->n_head / b->n_head_kv);
    const float *q = b->q + (size_t)((t[0] + row) * b->n_head + h) * (size_t)b->d;
    double max = -INFINITY, sum = 0;
    for (int32_t key = 0; key <= row; key++) {
        const float *k = b->k + (size_t)((t[0] + key) * b->n_head_kv + hk) * (size_t)b->d;
        double s = 0;
        for (int e = 0; e < b->d; e++) {
            s += (double)q[e] * (double)k[e];
        }
        p[key] = sees(t, row, key) ? s / sqrt(b->d) : -INFINITY;
        max = p[key] > max ? p[key] : max;
    }
    for (int32_t key = 0; key <= row; key++) {
        sum += p[key] = exp(p[key] - max);
    }
    for (int32_t key = 0; key <= row; key++) {
        p[key] /= sum;
    }
    return max + log(sum);
}

/* Without rope. out [n_rows][n_head][d], lse [n_rows][n_head], d as in struct results; rows of no tree stay 0. */
static void reference(const struct batch *b, double *out, double *lse, double *d) {
    const int group = b->n_head / b->n_head_kv, w = width(b), nq = b->d * b->n_head, nk = b->d * b->n_head_kv;
    double *p = malloc((size_t)b->n_rows * sizeof(double));
    for (int32_t i = 0; i < b->n_trees; i++) {
        const int32_t *t = b->trees + i * 4;
        for (int32_t row = 0; row < t[1] + t[2] + t[3]; row++) {
            for (int h = 0; h < b->n_head; h++) {
                const int32_t at = t[0] + row;
                const float *q = b->q + (size_t)(at * b->n_head + h) * (size_t)b->d;
                const float *dout = b->dout + (size_t)(at * b->n_head + h) * (size_t)b->d;
                double *o = out + (size_t)(at * b->n_head + h) * (size_t)b->d, dot = 0;
                lse[at * b->n_head + h] = reference_softmax(b, t, row, h, p);
                for (int32_t key = 0; key <= row; key++) {
                    const float *v = b->v + (size_t)((t[0] + key) * b->n_head_kv + h / group) * (size_t)b->d;
                    for (int e = 0; e < b->d; e++) {
                        o[e] += p[key] * (double)v[e];
                    }
                }
                for (int e = 0; e < b->d; e++) {
                    dot += o[e] * (double)dout[e];
                }
                double *dq = d + (size_t)at * (size_t)w + h * b->d;
                for (int32_t key = 0; key <= row; key++) {
                    const size_t kv = (size_t)((t[0] + key) * b->n_head_kv + h / group) * (size_t)b->d;
                    double *dk = d + (size_t)(t[0] + key) * (size_t)w + nq + h / group * b->d, *dv = dk + nk, dp = 0;
                    for (int e = 0; e < b->d; e++) {
                        dp += (double)dout[e] * (double)b->v[kv + (size_t)e];
                    }
                    const double ds = p[key] * (dp - dot) / sqrt(b->d);
                    for (int e = 0; e < b->d; e++) {
                        dq[e] += ds * (double)b->k[kv + (size_t)e];
                        dk[e] += ds * (double)q[e];
                        dv[e] += p[key] * (double)dout[e];
                    }
                }
            }
        }
    }
    free(p);
}

static void check_reference(const struct batch *b, struct ops_params params) {
    const size_t n_out = (size_t)(b->n_rows * b->n_head * b->d), n_lse = (size_t)(b->n_rows * b->n_head);
    const size_t n_d = (size_t)b->n_rows * (size_t)width(b);
    double *out = calloc(n_out, sizeof(double)), *lse = calloc(n_lse, sizeof(double)), *d = calloc(n_d, sizeof(double));
    reference(b, out, lse, d);
    struct results r = compute(b, params);
    for (int32_t i = 0; i < b->n_trees; i++) { /* of other rows there is none */
        const int32_t *t = b->trees + i * 4;
        const size_t first = (size_t)(t[0] * b->n_head), n = (size_t)((t[1] + t[2] + t[3]) * b->n_head);
        for (size_t j = first; j < first + n; j++) {
            assert_true(fabs((double)r.lse[j] - lse[j]) < 1e-5 * (1 + fabs(lse[j])));
        }
    }
    assert_true(relative_difference_to_double(r.out, out, n_out) < 1e-5);
    assert_true(relative_difference_to_double(r.d, d, n_d) < 5e-5);
    results_free(&r);
    free(out);
    free(lse);
    free(d);
}

static const char *const instruction_sets[] = {"plain", "avx2", "avx512"};

/* Prompts and branches of all lengths around the block sizes; padding before, between and after. */
static const int32_t odd_trees[] = {0, 1, 0, 0, 1, 1, 1, 1, 5, 33, 7, 16, 61, 0, 40, 0, 101, 3, 0, 31, 137, 150, 64, 33};
enum { ODD_TREES = 6, ODD_ROWS = 390 };

static void test_trees_of_all_shapes_equal_softmax_in_double(void **state) {
    (void)state;
    static const int heads[][3] = {{64, 9, 3}, {16, 2, 2}, {40, 4, 1}, {7, 2, 1}, {128, 2, 1}};
    for (int s = 0; s < 3; s++) {
        for (int h = 0; cpu_kernels(instruction_sets[s]) && h < 5; h++) {
            struct batch b = batch_new(heads[h][0], heads[h][1], heads[h][2], ODD_ROWS, ODD_TREES, odd_trees);
            check_reference(&b, (struct ops_params){.n_threads = 1 + h % 2, .instructions = instruction_sets[s]});
            batch_free(&b);
        }
    }
}

static void test_row_counts_around_the_lanes(void **state) {
    (void)state;
    static const int32_t counts[] = {1, 2, 3, 7, 16, 33, 257};
    for (int i = 0; i < 7; i++) {
        const int32_t causal[] = {0, counts[i], 0, 0};
        struct batch b = batch_new(32, 2, 1, counts[i], 1, causal);
        check_reference(&b, (struct ops_params){.n_threads = 2});
        batch_free(&b);
    }
}

static void test_fused_equals_plain_ggml_with_rotation(void **state) {
    (void)state;
    static const int32_t trees[] = {0, 20, 11, 40, 71, 50, 3, 2};
    for (int neox = 0; neox < 2; neox++) {
        struct batch b = batch_new(64, 6, 2, 126, 2, trees);
        b.rope = true;
        b.neox = neox;
        struct results fused = compute(&b, (struct ops_params){.n_threads = 2});
        struct results plain = compute(&b, (struct ops_params){.n_threads = 2, .plain = true});
        assert_true(relative_difference(fused.out, plain.out, (size_t)(126 * 64 * 6)) < 1e-5);
        assert_true(relative_difference(fused.d, plain.d, (size_t)(126 * width(&b))) < 5e-5);
        results_free(&fused);
        results_free(&plain);
        batch_free(&b);
    }
}

static void test_threads_do_not_change_a_bit(void **state) {
    (void)state;
    struct batch b = batch_new(64, 9, 3, ODD_ROWS, ODD_TREES, odd_trees);
    b.rope = true;
    struct results one = compute(&b, (struct ops_params){.n_threads = 1});
    for (int n = 2; n <= 5; n++) {
        struct results more = compute(&b, (struct ops_params){.n_threads = n});
        assert_memory_equal(more.out, one.out, sizeof(float) * (size_t)(ODD_ROWS * 9 * 64));
        assert_memory_equal(more.d, one.d, sizeof(float) * (size_t)(ODD_ROWS * width(&b)));
        results_free(&more);
    }
    results_free(&one);
    batch_free(&b);
}

/* A branch is what it would be in a causal sequence of its own: bit for bit, whatever the other branch. */
static void test_a_branch_does_not_see_its_sibling(void **state) {
    (void)state;
    enum { PROMPT = 37, FIRST = 21, SECOND = 45, D = 64 };
    const int32_t tree[] = {0, PROMPT, FIRST, SECOND}, alone[] = {0, PROMPT, SECOND, 0};
    struct batch b = batch_new(D, 2, 1, PROMPT + FIRST + SECOND, 1, tree), c = batch_new(D, 2, 1, PROMPT + SECOND, 1, alone);
    b.rope = c.rope = true;
    memcpy(c.q, b.q, PROMPT * 2 * D * sizeof(float));
    memcpy(c.k, b.k, PROMPT * D * sizeof(float));
    memcpy(c.v, b.v, PROMPT * D * sizeof(float));
    memcpy(c.q + PROMPT * 2 * D, b.q + (PROMPT + FIRST) * 2 * D, SECOND * 2 * D * sizeof(float));
    memcpy(c.k + PROMPT * D, b.k + (PROMPT + FIRST) * D, SECOND * D * sizeof(float));
    memcpy(c.v + PROMPT * D, b.v + (PROMPT + FIRST) * D, SECOND * D * sizeof(float));
    struct results rb = compute(&b, (struct ops_params){.n_threads = 1}), rc = compute(&c, (struct ops_params){.n_threads = 1});
    assert_memory_equal(rb.out, rc.out, PROMPT * 2 * D * sizeof(float));
    assert_memory_equal(rb.out + (PROMPT + FIRST) * 2 * D, rc.out + PROMPT * 2 * D, SECOND * 2 * D * sizeof(float));
    results_free(&rb);
    results_free(&rc);
    batch_free(&b);
    batch_free(&c);
}

/* sum dout out as a function of q, k, v: its slope along a direction u is <d, u>. */
static void test_gradient_equals_finite_differences_with_rotation(void **state) {
    (void)state;
    static const int32_t trees[] = {0, 10, 6, 9, 25, 33, 5, 2};
    enum { ROWS = 65, D = 16 };
    const int n[] = {ROWS * D * 4, ROWS * D * 2, ROWS * D * 2};
    struct batch b = batch_new(D, 4, 2, ROWS, 2, trees);
    b.rope = true;
    float *parts[] = {b.q, b.k, b.v};
    struct results r = compute(&b, (struct ops_params){.n_threads = 1});
    for (int i = 0, offset = 0; i < 3; offset += n[i++] / ROWS) {
        float *u = random_floats((size_t)n[i], 9), *was = malloc((size_t)n[i] * sizeof(float));
        memcpy(was, parts[i], (size_t)n[i] * sizeof(float));
        double slope = 0, f[2] = {0, 0}, step = 0;
        const float h = 2e-3f;
        for (int side = 0; side < 2; side++) {
            for (int j = 0; j < n[i]; j++) {
                parts[i][j] = was[j] + (side ? h : -h) * u[j];
            }
            struct results moved = compute(&b, (struct ops_params){.n_threads = 1});
            for (int j = 0; j < ROWS * D * 4; j++) {
                f[side] += (double)moved.out[j] * (double)b.dout[j];
            }
            results_free(&moved);
        }
        for (int j = 0; j < n[i]; j++) {
            const int per_row = n[i] / ROWS;
            const double g = (double)r.d[j / per_row * width(&b) + offset + j % per_row];
            slope += g * (double)u[j];
            step += g * g;
        }
        assert_true(fabs((f[1] - f[0]) / (2 * (double)h) - slope) < 2e-3 * sqrt(step));
        memcpy(parts[i], was, (size_t)n[i] * sizeof(float));
        free(u);
        free(was);
    }
    results_free(&r);
    batch_free(&b);
}

static void test_large_scores_stay_finite(void **state) {
    (void)state;
    const int32_t causal[] = {0, 200, 0, 0};
    struct batch b = batch_new(64, 1, 1, 200, 1, causal);
    for (int i = 0; i < 200 * 64; i++) {
        b.q[i] *= 30;
        b.k[i] *= 30;
    }
    struct results r = compute(&b, (struct ops_params){.n_threads = 1});
    for (int i = 0; i < 200 * 64; i++) {
        assert_true(isfinite(r.out[i]));
    }
    results_free(&r);
    batch_free(&b);
}

static void test_trees_are_checked(void **state) {
    (void)state;
    struct genarm_error err = {0};
    assert_int_equal(op_tree_check(odd_trees, ODD_TREES, ODD_ROWS, &err), GENARM_OK);
    const int32_t bad[][8] = {{0, 5, -1, 2, 10, 1, 0, 0}, {0, 5, 5, 5, 14, 1, 0, 0}, {0, 5, 0, 0, 90, 5, 5, 1},
                              {-1, 5, 0, 0, 9, 1, 0, 0},  {0, 2147483647, 2147483647, 2, 9, 1, 0, 0}};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(op_tree_check(bad[i], 2, 100, &err), GENARM_EINVAL);
        assert_non_null(strstr(err.what, "tree"));
    }
    const int32_t big[] = {0, 9000, 0, 0};
    assert_int_equal(op_tree_check(big, 1, 10000, &err), GENARM_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trees_of_all_shapes_equal_softmax_in_double),
        cmocka_unit_test(test_row_counts_around_the_lanes),
        cmocka_unit_test(test_fused_equals_plain_ggml_with_rotation),
        cmocka_unit_test(test_threads_do_not_change_a_bit),
        cmocka_unit_test(test_a_branch_does_not_see_its_sibling),
        cmocka_unit_test(test_gradient_equals_finite_differences_with_rotation),
        cmocka_unit_test(test_large_scores_stay_finite),
        cmocka_unit_test(test_trees_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
