/* An adapter that depends on a preference, against PARM's formula written out in PyTorch: losses, every gradient, ten AdamW
 * steps under changing preferences, logits of the file that is written; and what must hold of it whatever the numbers are. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "engine/engine.h"
#include "support/conditioned_case.h"
#include "support/libllama.h"
#include "support/temp.h"
#include "support/train_pairs.h"
#include "train/optim.h"

static const char *const names[] = {"llama", "qwen3"};
enum { N_NAMES = 2, N_STEPS = 10, K = CONDITIONED_OBJECTIVES };

/* ---- training ---- */

static double weighted(const float *preference, const double *losses) {
    double sum = 0;
    for (int o = 0; o < K; o++) {
        sum += (double)preference[o] * losses[o];
    }
    return sum;
}

/* W1 and T of every map in `flat`, laid out as the adapter. */
static void assert_cores_near(const struct conditioned_case *c, const float *flat, const char *prefix, double tolerance) {
    static const char *const parts[] = {"w1", "t"};
    for (int32_t l = 0; l < c->adapter.n_layer; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            const float *at = flat + c->adapter.cores[l][t].at;
            for (int part = 0; part < 2; part++) {
                size_t n;
                const float *expected = golden_f32(&c->golden, &n, "%s.blk.%d.%s.weight.%s", prefix, l,
                                                   linear_tensor_name((enum linear)t), parts[part]);
                if (!(relative_distance(at, expected, n) <= tolerance)) {
                    fail_msg("%s of layer %d, %s is off by %g", parts[part], l, linear_name((enum linear)t),
                             relative_distance(at, expected, n));
                }
                at += n;
            }
        }
    }
}

static void check_gradients(const char *name, bool plain) {
    struct conditioned_case c;
    double losses[K];
    conditioned_case_open(&c, name, plain);
    const float *preference = golden_f32(&c.golden, NULL, "preferences");
    const float *expected = golden_f32(&c.golden, NULL, "losses");
    float *gradient = conditioned_case_gradient(&c, preference, losses);
    for (int o = 0; o < K; o++) {
        assert_relative(losses[o], (double)expected[o], 1e-4, name);
    }
    assert_matrices_near(&c.adapter, &c.golden, gradient, "grad", 1e-3);
    assert_cores_near(&c, gradient, "grad", 1e-3);
    free(gradient);
    conditioned_case_close(&c);
}

static void test_losses_and_gradients_equal_pytorch(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        check_gradients(names[i], false);
        check_gradients(names[i], true);
    }
}

static void test_ten_steps_under_changing_preferences_equal_pytorch(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        struct conditioned_case c;
        struct adamw adamw;
        struct genarm_error err = {0};
        const struct genarm_train_params params = genarm_train_default_params();
        double losses[K];
        conditioned_case_open(&c, names[i], false);
        must(adamw_init(&adamw, c.adapter.n, &params, &err), &err);
        float *theta = calloc(c.adapter.n, sizeof *theta);
        trainable_get(&c.adapter, theta);
        const float *preferences = golden_f32(&c.golden, NULL, "preferences");
        const float *path = golden_f32(&c.golden, NULL, "adamw.loss"), *norms = golden_f32(&c.golden, NULL, "adamw.grad_norm");
        for (int step = 0; step < N_STEPS; step++) {
            float *gradient = conditioned_case_gradient(&c, preferences + step * K, losses);
            assert_relative(weighted(preferences + step * K, losses), (double)path[step], 1e-4, "loss");
            assert_relative(clip_gradients(gradient, c.adapter.n, 1.0), (double)norms[step], 1e-3, "gradient norm");
            adamw_update(&adamw, theta, gradient, golden_number(&c.golden, "golden.learning_rate"));
            trainable_set(&c.adapter, theta);
            free(gradient);
        }
        free(conditioned_case_gradient(&c, preferences + N_STEPS * K, losses));
        assert_relative(weighted(preferences + N_STEPS * K, losses), (double)path[N_STEPS], 1e-4, "last loss");
        if (i == 0) {
            assert_matrices_near(&c.adapter, &c.golden, theta, "adamw.final", 1e-3);
            assert_cores_near(&c, theta, "adamw.final", 1e-3);
        }
        free(theta);
        adamw_deinit(&adamw);
        conditioned_case_close(&c);
    }
}

/* What two preferences add to one gradient is the sum of what each gives, whatever order M and its gradient take. */
static void test_gradients_of_two_preferences_add_up(void **state) {
    (void)state;
    struct conditioned_case c;
    double losses[K];
    conditioned_case_open(&c, "llama", false);
    const float first[K] = {0.7f, 0.2f, 0.1f}, second[K] = {0, 0.5f, 0.5f};
    const double weights[2][K] = {{0.7, 0.2, 0.1}, {0, 0.5, 0.5}};
    float *one = conditioned_case_gradient(&c, first, losses), *two = conditioned_case_gradient(&c, second, losses);
    float *both = calloc(c.adapter.n, sizeof *both);
    struct loss_value values[32];
    struct pack pack;
    struct genarm_error err = {0};
    const int32_t n = (int32_t)c.data.n_pairs;
    must(pack_init(&pack, &c.data, c.all, n, PACK_BOTH, &err), &err);
    trainable_zero_gradient(&c.adapter);
    for (int i = 0; i < 2; i++) {
        const struct backprop_job job = {.gradient = true, .weight = (double)K / n, .objective_weights = weights[i]};
        trainable_set_preference(&c.adapter, i ? second : first);
        must(backprop_run(c.backprop, &pack, &job, values, &err), &err);
    }
    trainable_get_gradient(&c.adapter, both);
    for (size_t i = 0; i < c.adapter.n; i++) {
        one[i] += two[i];
    }
    assert_true(relative_distance(both, one, c.adapter.n) < 1e-6);
    pack_deinit(&pack);
    free(one);
    free(two);
    free(both);
    conditioned_case_close(&c);
}

/* ---- finite differences ---- */

static double loss_at(struct conditioned_case *c, const float *theta, const float *preference) {
    double losses[K];
    trainable_set(&c->adapter, theta);
    free(conditioned_case_gradient(c, preference, losses));
    return weighted(preference, losses);
}

static void test_gradients_of_w1_and_t_equal_finite_differences(void **state) {
    (void)state;
    struct conditioned_case c;
    double losses[K];
    struct rng rng;
    const float preference[K] = {0.5f, 0.2f, 0.3f};
    conditioned_case_open(&c, "llama", false);
    float *gradient = conditioned_case_gradient(&c, preference, losses);
    float *theta = malloc(c.adapter.n * sizeof *theta), *moved = malloc(c.adapter.n * sizeof *moved);
    trainable_get(&c.adapter, theta);
    rng_seed(&rng, 3);
    for (int trial = 0; trial < 8; trial++) { /* along a random direction of all W1 and T */
        const double h = 2e-3;
        double expected = 0, found = 0;
        float *direction = calloc(c.adapter.n, sizeof *direction);
        for (size_t i = c.adapter.first_core; i < c.adapter.first_core + c.adapter.n_core; i++) {
            direction[i] = (float)rng_normal(&rng);
            expected += (double)direction[i] * (double)gradient[i];
        }
        for (int k = -2; k <= 2; k += k == -1 ? 2 : 1) {
            const double weights[] = {1.0 / 12, -8.0 / 12, 0, 8.0 / 12, -1.0 / 12};
            for (size_t i = 0; i < c.adapter.n; i++) {
                moved[i] = (float)((double)theta[i] + k * h * (double)direction[i]);
            }
            found += weights[k + 2] * loss_at(&c, moved, preference) / h;
        }
        if (!(fabs(found - expected) <= 1e-2 * fabs(expected) + 1e-3)) {
            fail_msg("differences give %g, the gradient %g", found, expected);
        }
        free(direction);
    }
    free(theta);
    free(moved);
    free(gradient);
    conditioned_case_close(&c);
}

/* ---- the file ---- */

static float max_difference(const float *a, const float *b, size_t n) {
    float max = 0;
    for (size_t i = 0; i < n; i++) {
        max = fmaxf(max, isnan(a[i]) ? INFINITY : fabsf(a[i] - b[i]));
    }
    return max;
}

static void push(struct row *rows, int32_t *n, const int32_t *tokens, int32_t from, int32_t to, int32_t seq, int32_t adapter,
                 const float *factors) {
    for (int32_t p = from; p < to; p++) {
        rows[(*n)++] = (struct row){.token = tokens[p], .seq = seq, .pos = p, .adapter = adapter, .output = true,
                                    .factors = factors};
    }
}

/* The three preferences of PyTorch's logits as three sequences of one batch, and the base as a fourth; at once, and then
 * with the last tokens one by one. */
static void check_logits(const char *name, const struct engine_params *params) {
    struct conditioned_case c;
    struct genarm_adapter *adapter = NULL;
    struct engine *engine = NULL;
    struct genarm_error err = {0};
    struct objective_weights weights[K];
    struct row rows[128];
    size_t n_tokens;
    conditioned_case_open(&c, name, false);
    conditioned_case_save(&c, temp_path("conditioned.gguf"));
    must(genarm_adapter_load(&adapter, c.model, temp_path("conditioned.gguf"), &err), &err);
    must(engine_rows_new(&engine, c.model, params, &err), &err);
    must(engine_add_adapter(engine, adapter, &err), &err);
    const int32_t *tokens = golden_i32(&c.model_golden, &n_tokens, "seq0.tokens");
    const float *preferences = golden_f32(&c.golden, NULL, "preferences");
    const size_t n_vocab = (size_t)c.model->hp.n_vocab;
    const int32_t length = (int32_t)n_tokens, tail = 4;
    float *logits = calloc(4 * n_tokens * n_vocab, sizeof *logits);
    for (int i = 0; i < K; i++) {
        must(objectives_prefer(&weights[i], &adapter->info.objectives, preferences + i * K, K, &err), &err);
    }
    for (int32_t end = length - tail, from = 0; from < length; from = end++) {
        int32_t n = 0;
        for (int i = 0; i < K; i++) {
            push(rows, &n, tokens, from, end, i, 0, weights[i].factors);
        }
        push(rows, &n, tokens, from, end, K, ENGINE_NO_ADAPTER, NULL);
        must(engine_forward(engine, rows, n, logits, &err), &err);
        const size_t each = (size_t)(end - from) * n_vocab;
        for (int i = 0; i <= K; i++) {
            const float *expected = i < K ? golden_f32(&c.golden, NULL, "logits%d", i)
                                          : golden_f32(&c.model_golden, NULL, "seq0.logits");
            const float d = max_difference(logits + (size_t)i * each, expected + (size_t)from * n_vocab, each);
            if (!(d <= 5e-4f)) {
                fail_msg("%s: preference %d, position %d: off by %g", name, i, from, (double)d);
            }
        }
    }
    free(logits);
    engine_free(engine);
    genarm_adapter_free(adapter);
    conditioned_case_close(&c);
}

static void test_logits_under_several_preferences_in_one_batch_equal_pytorch(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        for (int plain = 0; plain < 2; plain++) {
            check_logits(names[i], &(struct engine_params){.n_seq = 4, .n_ctx = 64, .n_batch = 512, .n_threads = 1,
                                                           .kv_type = GENARM_KV_F32, .plain = plain});
            check_logits(names[i], &(struct engine_params){.n_seq = 4, .n_ctx = 64, .n_batch = 5, .n_threads = 2,
                                                           .kv_type = GENARM_KV_F32, .plain = plain});
        }
    }
}

/* [n_vocab, n_tokens] after each token of seq0, malloc'ed. */
static float *engine_logits(const struct conditioned_case *c, const struct genarm_adapter *adapter, const float *factors,
                            size_t *n_all) {
    struct engine *engine = NULL;
    struct genarm_error err = {0};
    struct row rows[64];
    int32_t n = 0;
    size_t n_tokens;
    const int32_t *tokens = golden_i32(&c->model_golden, &n_tokens, "seq0.tokens");
    *n_all = n_tokens * (size_t)c->model->hp.n_vocab;
    float *logits = calloc(*n_all, sizeof *logits);
    must(engine_rows_new(&engine, c->model, &(struct engine_params){.n_seq = 1, .n_ctx = 64, .n_threads = 1, .kv_type = GENARM_KV_F32},
                         &err), &err);
    must(engine_add_adapter(engine, adapter, &err), &err);
    push(rows, &n, tokens, 0, (int32_t)n_tokens, 0, 0, factors);
    must(engine_forward(engine, rows, n, logits, &err), &err);
    engine_free(engine);
    return logits;
}

/* Without factors, with those of the even preference, and to libllama, which knows nothing of them. */
static void test_the_file_is_a_plain_adapter_of_the_even_preference(void **state) {
    (void)state;
    struct conditioned_case c;
    struct genarm_adapter *adapter = NULL;
    struct genarm_error err = {0};
    struct objective_weights even;
    size_t n, n_tokens;
    conditioned_case_open(&c, "llama", false);
    const char *path = temp_path("even.gguf");
    conditioned_case_save(&c, path);
    must(genarm_adapter_load(&adapter, c.model, path, &err), &err);
    must(objectives_prefer(&even, &adapter->info.objectives, (const float[]){0.1f, 0.1f, 0.1f}, K, &err), &err);
    for (int o = 0; o < K; o++) {
        assert_true(even.factors[o] == 1.0f);
    }
    const int32_t *tokens = golden_i32(&c.model_golden, &n_tokens, "seq0.tokens");
    float *without = engine_logits(&c, adapter, NULL, &n), *with = engine_logits(&c, adapter, even.factors, &n);
    float *theirs = libllama_logits(c.model->path, &path, (const float[]){1}, 1, tokens, n_tokens);
    assert_memory_equal(without, with, n * sizeof *with);
    assert_true(max_difference(without, theirs, n) < 1e-3f);
    free(without);
    free(with);
    free(theirs);
    genarm_adapter_free(adapter);
    conditioned_case_close(&c);
}

/* An adapter fixed at a preference has no objectives and is the one under that preference. */
static void test_an_adapter_fixed_at_a_preference_is_plain(void **state) {
    (void)state;
    struct conditioned_case c;
    struct genarm_adapter *adapter = NULL, *fixed = NULL;
    struct genarm_error err = {0};
    struct objective_weights weights;
    const float preference[K] = {2, 0, 1};
    size_t n;
    conditioned_case_open(&c, "llama", false);
    const char *path = temp_path("fixed.gguf");
    conditioned_case_save(&c, path);
    must(genarm_adapter_load(&adapter, c.model, path, &err), &err);
    must(genarm_adapter_load(&fixed, c.model, path, &err), &err);
    must(objectives_prefer(&weights, &adapter->info.objectives, preference, K, &err), &err);
    must(adapter_fix_preference(fixed, preference, K, &err), &err);
    assert_int_equal(fixed->info.objectives.n, 0);
    assert_int_equal(adapter_fix_preference(fixed, NULL, 0, &err), GENARM_OK); /* plain already: nothing to weigh */
    assert_int_equal(adapter_fix_preference(fixed, preference, K, &err), GENARM_EINVAL);
    float *weighed = engine_logits(&c, adapter, weights.factors, &n), *plain = engine_logits(&c, fixed, NULL, &n);
    assert_true(max_difference(weighed, plain, n) < 1e-3f);
    free(weighed);
    free(plain);
    genarm_adapter_free(adapter);
    genarm_adapter_free(fixed);
    conditioned_case_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_losses_and_gradients_equal_pytorch),
        cmocka_unit_test(test_ten_steps_under_changing_preferences_equal_pytorch),
        cmocka_unit_test(test_gradients_of_two_preferences_add_up),
        cmocka_unit_test(test_gradients_of_w1_and_t_equal_finite_differences),
        cmocka_unit_test(test_logits_under_several_preferences_in_one_batch_equal_pytorch),
        cmocka_unit_test(test_the_file_is_a_plain_adapter_of_the_even_preference),
        cmocka_unit_test(test_an_adapter_fixed_at_a_preference_is_plain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
