/* Training against PyTorch: losses, the gradient of every LoRA matrix, ten AdamW steps, for every architecture, by custom
 * and by plain nodes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/train_pairs.h"
#include "train/optim.h"

enum { ALL_TARGETS = (1 << LINEAR_COUNT) - 1, N_STEPS = 10 };

static const char *const names[] = {"llama", "mistral", "qwen2", "qwen3"};
static const char *const betas[] = {"beta0.05", "beta1"};
enum { N_NAMES = 4, N_BETAS = 2 };

static double number(const struct golden *g, const char *beta, const char *key) {
    char name[128];
    snprintf(name, sizeof name, "golden.%s.%s", beta, key);
    return golden_number(g, name);
}

/* ---- losses ---- */

struct option {
    const char *name;
    enum genarm_loss loss;
    struct genarm_train_params params; /* beta is filled in */
};

static const struct option options[] = {
    {"arm", GENARM_LOSS_ARM, {0}},
    {"margin", GENARM_LOSS_ARM, {.margin = 0.5f}},
    {"smoothing", GENARM_LOSS_ARM, {.label_smoothing = 0.1f}},
    {"hinge", GENARM_LOSS_HINGE, {0}},
    {"normalised", GENARM_LOSS_ARM, {.length_normalize = true}},
    {"simpo", GENARM_LOSS_SIMPO, {.margin = 0.5f}},
    {"sft", GENARM_LOSS_SFT, {0}},
};

static void check_option(const struct golden *g, const char *beta, const struct option *o) {
    struct genarm_train_params params = o->params;
    size_t n, n_tokens[SIDES];
    params.loss = o->loss;
    params.beta = (float)number(g, beta, "beta");
    const struct loss_params p = loss_params_from(&params);
    const float *logp[] = {golden_f32(g, &n, "chosen_logp"), golden_f32(g, NULL, "rejected_logp")};
    const float *losses = golden_f32(g, NULL, "%s.loss.%s", beta, o->name);
    const float *d[] = {golden_f32(g, NULL, "%s.d_chosen.%s", beta, o->name),
                        golden_f32(g, NULL, "%s.d_rejected.%s", beta, o->name)};
    for (size_t i = 0; i < n; i++) {
        golden_i32(g, &n_tokens[CHOSEN], "pair%zu.chosen", i);
        golden_i32(g, &n_tokens[REJECTED], "pair%zu.rejected", i);
        const struct loss_input in = {.logp = {logp[CHOSEN][i], logp[REJECTED][i]},
                                      .n_tokens = {(int32_t)n_tokens[CHOSEN], (int32_t)n_tokens[REJECTED]}};
        const struct loss_value v = loss_get(o->loss)->value(&in, &p);
        assert_true(fabs(v.loss - (double)losses[i]) <= 1e-5 * fabs((double)losses[i]) + 1e-7);
        for (int side = 0; side < SIDES; side++) { /* theirs is of the mean */
            assert_true(fabs(v.d_logp[side] - (double)d[side][i] * (double)n) <=
                        1e-5 * fabs((double)d[side][i]) * (double)n + 1e-7);
        }
    }
}

static void test_losses_and_derivatives_equal_pytorch(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        struct golden g;
        golden_open(&g, names[i]);
        for (int b = 0; b < N_BETAS; b++) {
            for (size_t o = 0; o < sizeof options / sizeof *options; o++) {
                check_option(&g, betas[b], &options[o]);
            }
        }
        golden_close(&g);
    }
}

/* ---- log-probabilities and gradients ---- */

enum compute { CUSTOM, PLAIN, BF16 };

static void open_case(struct train_case *c, const char *name, const char *beta, enum compute compute) {
    struct backprop_params params = train_case_params();
    struct golden g;
    golden_open(&g, name);
    params.loss_params.beta = number(&g, beta, "beta");
    params.plain = compute == PLAIN;
    params.bf16 = compute == BF16;
    golden_close(&g);
    train_case_open(c, name, ALL_TARGETS, &params);
}

static void check_logp(struct train_case *c) {
    static const char *const sides[] = {"chosen", "rejected"};
    const int32_t n = (int32_t)c->data.n_pairs;
    struct loss_value values[16];
    train_case_run(c, 0, n, &(struct backprop_job){.gradient = false}, values);
    const float *logp = backprop_logp(c->backprop);
    for (int32_t i = 0, at = 0; i < n; i++) {
        for (int side = 0; side < SIDES; side++) {
            size_t n_tokens;
            const float *expected = golden_f32(&c->golden, &n_tokens, "pair%d.%s_logp", i, sides[side]);
            for (size_t k = 0; k < n_tokens; k++) {
                assert_true(fabsf(logp[at] - expected[k]) < 1e-4f * fabsf(expected[k]) + 1e-5f);
                at++;
            }
        }
    }
}

static void check_gradients(const char *name, const char *beta, enum compute compute) {
    struct train_case c;
    char prefix[64];
    double loss;
    open_case(&c, name, beta, compute);
    check_logp(&c);
    float *gradient = train_case_gradient(&c, &loss);
    assert_relative(loss, number(&c.golden, beta, "loss.arm"), 1e-4, name);
    snprintf(prefix, sizeof prefix, "%s.grad", beta);
    assert_matrices_near(&c.adapter, &c.golden, gradient, prefix, 1e-3);
    free(gradient);
    train_case_close(&c);
}

static void test_gradients_equal_pytorch(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        for (int b = 0; b < N_BETAS; b++) {
            check_gradients(names[i], betas[b], CUSTOM);
        }
    }
}

/* The golden models' weights are exact in these types, so that the same gradients must come out. */
static void test_gradients_on_half_precision_weights_equal_pytorch(void **state) {
    (void)state;
    static const enum llama_ftype types[] = {LLAMA_FTYPE_MOSTLY_F16, LLAMA_FTYPE_MOSTLY_BF16};
    for (int i = 0; i < N_NAMES; i++) {
        for (int k = 0; k < 2; k++) {
            struct train_case c;
            double loss;
            train_case_open_as(&c, names[i], types[k], false, ALL_TARGETS, NULL);
            float *gradient = train_case_gradient(&c, &loss);
            assert_relative(loss, number(&c.golden, "beta1", "loss.arm"), 1e-4, names[i]);
            assert_matrices_near(&c.adapter, &c.golden, gradient, "beta1.grad", 1e-3);
            free(gradient);
            train_case_close(&c);
        }
    }
}

static void test_plain_gradients_equal_pytorch(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        check_gradients(names[i], betas[0], PLAIN);
    }
}

/* ---- ten steps ---- */

/* Losses within `of_loss`, gradient norms and the final adapter within `of_rest`, relative. */
static void check_steps(const char *name, const char *beta, enum compute compute, double of_loss, double of_rest) {
    struct train_case c;
    struct adamw adamw;
    struct genarm_error err = {0};
    struct genarm_train_params params = genarm_train_default_params();
    char prefix[64];
    double loss;
    open_case(&c, name, beta, compute);
    must(adamw_init(&adamw, c.adapter.n, &params, &err), &err);
    float *theta = calloc(c.adapter.n, sizeof *theta);
    trainable_get(&c.adapter, theta);
    const float *losses = golden_f32(&c.golden, NULL, "%s.adamw.loss", beta);
    const float *norms = golden_f32(&c.golden, NULL, "%s.adamw.grad_norm", beta);
    for (int step = 0; step < N_STEPS; step++) {
        float *gradient = train_case_gradient(&c, &loss);
        assert_relative(loss, (double)losses[step], of_loss, "loss");
        assert_relative(clip_gradients(gradient, c.adapter.n, 1.0), (double)norms[step], of_rest, "gradient norm");
        adamw_update(&adamw, theta, gradient, number(&c.golden, beta, "learning_rate"));
        trainable_set(&c.adapter, theta);
        free(gradient);
    }
    free(train_case_gradient(&c, &loss));
    assert_relative(loss, (double)losses[N_STEPS], of_loss, "last loss");
    snprintf(prefix, sizeof prefix, "%s.adamw.final", beta);
    assert_matrices_near(&c.adapter, &c.golden, theta, prefix, of_rest);
    free(theta);
    adamw_deinit(&adamw);
    train_case_close(&c);
}

static void test_ten_adamw_steps_equal_pytorch(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        for (int b = 0; b < N_BETAS; b++) {
            check_steps(names[i], betas[b], CUSTOM, 1e-4, 1e-3);
        }
    }
}

/* Where the processor lacks bf16 products this is f32 once more. */
static void test_ten_steps_in_bf16_stay_near_pytorch(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        for (int b = 0; b < N_BETAS; b++) {
            check_steps(names[i], betas[b], BF16, 1e-2, 5e-2);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_losses_and_derivatives_equal_pytorch),
        cmocka_unit_test(test_gradients_equal_pytorch),
        cmocka_unit_test(test_gradients_on_half_precision_weights_equal_pytorch),
        cmocka_unit_test(test_plain_gradients_equal_pytorch),
        cmocka_unit_test(test_ten_adamw_steps_equal_pytorch),
        cmocka_unit_test(test_ten_steps_in_bf16_stay_near_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
