/* Losses with a reference or a scalar head against PyTorch: values and derivatives, rewards, the gradient of every LoRA
 * matrix and of the head, ten AdamW steps. */
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

static void open_losses(struct golden *g, const char *name) {
    char file[64];
    snprintf(file, sizeof file, "%s.losses.gguf", name);
    golden_open_file(g, file);
}

static double number(const struct golden *g, const char *run, const char *key) {
    char name[128];
    snprintf(name, sizeof name, "golden.%s.%s", run, key);
    return golden_number(g, name);
}

static bool holds(const struct golden *g, const char *run, const char *what) {
    char name[128];
    snprintf(name, sizeof name, "%s.%s.blk.0.attn_q.weight.lora_a", run, what);
    return golden_tensor(g, name);
}

/* ---- values ---- */

struct option {
    const char *name;
    enum genarm_loss loss;
    struct genarm_train_params params; /* beta is filled in */
    bool before; /* in the file that the other losses are in */
};

static const struct option options[] = {
    {"dpo", GENARM_LOSS_DPO, {0}, true},
    {"dpo-margin", GENARM_LOSS_DPO, {.margin = 0.5f}, false},
    {"dpo-smoothing", GENARM_LOSS_DPO, {.label_smoothing = 0.1f}, false},
    {"dpo-normalised", GENARM_LOSS_DPO, {.length_normalize = true}, false},
    {"ipo", GENARM_LOSS_IPO, {0}, false},
    {"bt", GENARM_LOSS_BT, {0}, false},
    {"bt-margin", GENARM_LOSS_BT, {.margin = 0.5f}, false},
};

/* `g`: pairs and their log-probabilities; `values`: the losses. */
static void check_option(const struct golden *g, const struct golden *values, const char *beta, const struct option *o) {
    struct genarm_train_params params = o->params;
    const struct loss *loss = loss_get(o->loss);
    size_t n, n_tokens[SIDES];
    params.loss = o->loss;
    params.beta = loss->uses_head ? 0 : (float)number(g, beta, "beta");
    const struct loss_params p = loss_params_from(&params);
    const float *logp[] = {golden_f32(g, &n, "chosen_logp"), golden_f32(g, NULL, "rejected_logp")};
    const float *base[] = {golden_f32(g, NULL, "chosen_logp_base"), golden_f32(g, NULL, "rejected_logp_base")};
    const float *losses = golden_f32(values, NULL, "%s.loss.%s", beta, o->name);
    const float *d[] = {golden_f32(values, NULL, "%s.d_chosen.%s", beta, o->name),
                        golden_f32(values, NULL, "%s.d_rejected.%s", beta, o->name)};
    for (size_t i = 0; i < n; i++) {
        golden_i32(g, &n_tokens[CHOSEN], "pair%zu.chosen", i);
        golden_i32(g, &n_tokens[REJECTED], "pair%zu.rejected", i);
        struct loss_input in = {.n_tokens = {(int32_t)n_tokens[CHOSEN], (int32_t)n_tokens[REJECTED]}};
        for (int side = 0; side < SIDES; side++) {
            in.logp[side] = (double)logp[side][i];
            in.reference[side] = loss->uses_reference ? (double)base[side][i] : 0;
        }
        const struct loss_value v = loss->value(&in, &p);
        assert_true(fabs(v.loss - (double)losses[i]) <= 1e-5 * fabs((double)losses[i]) + 1e-7);
        for (int side = 0; side < SIDES; side++) { /* theirs is of the mean */
            assert_true(fabs(v.d_logp[side] - (double)d[side][i] * (double)n) <=
                        2e-5 * fabs((double)d[side][i]) * (double)n + 1e-7);
        }
    }
}

static void test_losses_and_derivatives_equal_pytorch(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        struct golden g, values;
        golden_open(&g, names[i]);
        open_losses(&values, names[i]);
        for (int b = 0; b < N_BETAS; b++) {
            for (size_t o = 0; o < sizeof options / sizeof *options; o++) {
                check_option(&g, options[o].before ? &g : &values, betas[b], &options[o]);
            }
        }
        golden_close(&g);
        golden_close(&values);
    }
}

/* ---- gradients and steps ---- */

struct run {
    const char *name;
    enum genarm_loss loss;
};

static const struct run runs[] = {{"dpo", GENARM_LOSS_DPO}, {"ipo", GENARM_LOSS_IPO}, {"bt", GENARM_LOSS_BT}};
enum { N_RUNS = 3 };

/* A model with its adapter and its pairs under one of the losses. */
static void open_run(struct train_case *c, struct golden *g, const char *name, const struct run *run, bool plain) {
    struct backprop_params params = train_case_params();
    struct genarm_train_params p = {.loss = run->loss};
    open_losses(g, name);
    p.beta = run->loss == GENARM_LOSS_BT ? 0 : (float)number(g, run->name, "beta");
    p.length_normalize = loss_get(run->loss)->always_normalizes;
    params.loss = loss_get(run->loss);
    params.loss_params = loss_params_from(&p);
    params.plain = plain;
    train_case_open(c, name, ALL_TARGETS, &params);
    if (c->adapter.head) {
        size_t n;
        const float *head = golden_f32(g, &n, "bt.head");
        assert_int_equal(n, ggml_nelements(c->adapter.head));
        ggml_backend_tensor_set(c->adapter.head, head, 0, n * sizeof *head);
    }
}

static void check_rewards(struct train_case *c, const struct golden *g) {
    const float *expected[] = {golden_f32(g, NULL, "bt.chosen_reward"), golden_f32(g, NULL, "bt.rejected_reward")};
    const float *rewards = backprop_logp(c->backprop); /* [SIDES * n_pairs] */
    for (size_t i = 0; i < SIDES * c->data.n_pairs; i++) {
        assert_true(fabsf(rewards[i] - expected[i % SIDES][i / SIDES]) < 2e-5f);
    }
}

static void check_gradients(const char *name, const struct run *run, bool plain) {
    struct train_case c;
    struct golden g;
    char prefix[64];
    double loss;
    open_run(&c, &g, name, run, plain);
    float *gradient = train_case_gradient(&c, &loss);
    assert_relative(loss, (double)golden_f32(&g, NULL, "%s.adamw.loss", run->name)[0], 1e-4, name);
    if (c.adapter.head) {
        check_rewards(&c, &g);
    }
    snprintf(prefix, sizeof prefix, "%s.grad", run->name);
    if (holds(&g, run->name, "grad")) {
        assert_matrices_near(&c.adapter, &g, gradient, prefix, 1e-3);
    }
    free(gradient);
    train_case_close(&c);
    golden_close(&g);
}

static void test_gradients_equal_pytorch(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        for (int k = 0; k < N_RUNS; k++) {
            check_gradients(names[i], &runs[k], false);
            check_gradients(names[i], &runs[k], true);
        }
    }
}

static void check_steps(const char *name, const struct run *run) {
    struct train_case c;
    struct golden g;
    struct adamw adamw;
    struct genarm_error err = {0};
    const struct genarm_train_params params = genarm_train_default_params();
    char prefix[64];
    double loss;
    open_run(&c, &g, name, run, false);
    must(adamw_init(&adamw, c.adapter.n, &params, &err), &err);
    float *theta = calloc(c.adapter.n, sizeof *theta);
    trainable_get(&c.adapter, theta);
    const float *losses = golden_f32(&g, NULL, "%s.adamw.loss", run->name);
    const float *norms = golden_f32(&g, NULL, "%s.adamw.grad_norm", run->name);
    for (int step = 0; step < N_STEPS; step++) {
        float *gradient = train_case_gradient(&c, &loss);
        assert_relative(loss, (double)losses[step], 1e-4, "loss");
        assert_relative(clip_gradients(gradient, c.adapter.n, 1.0), (double)norms[step], 1e-3, "gradient norm");
        adamw_update(&adamw, theta, gradient, number(&g, run->name, "learning_rate"));
        trainable_set(&c.adapter, theta);
        free(gradient);
    }
    free(train_case_gradient(&c, &loss));
    assert_relative(loss, (double)losses[N_STEPS], 1e-4, "last loss");
    snprintf(prefix, sizeof prefix, "%s.adamw.final", run->name);
    if (holds(&g, run->name, "adamw.final")) {
        assert_matrices_near(&c.adapter, &g, theta, prefix, 1e-3);
    }
    free(theta);
    adamw_deinit(&adamw);
    train_case_close(&c);
    golden_close(&g);
}

static void test_ten_adamw_steps_equal_pytorch(void **state) {
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        for (int k = 0; k < N_RUNS; k++) {
            check_steps(names[i], &runs[k]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_losses_and_derivatives_equal_pytorch),
        cmocka_unit_test(test_gradients_equal_pytorch),
        cmocka_unit_test(test_ten_adamw_steps_equal_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
