/* Reinforcement learning against PyTorch: log-probabilities at a temperature, advantages, losses, the gradient of every LoRA
 * matrix, of RLOO and GRPO, with ratios that are 1 and ratios that are clipped. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rl/batch.h"
#include "support/train_pairs.h"

enum { ALL_TARGETS = (1 << LINEAR_COUNT) - 1, N_RESPONSES = 8, GROUP = 4, MAX_TOKENS = 12 };

struct run {
    const char *name;
    enum genarm_rl_method method;
    enum genarm_rl_average average;
    bool old, no_scale, mask, gradients;
    double penalty;
};

static const struct run runs[] = {
    {.name = "rloo", .method = GENARM_RL_RLOO, .gradients = true},
    {.name = "rloo-clip", .method = GENARM_RL_RLOO, .old = true, .penalty = 0.5},
    {.name = "grpo", .method = GENARM_RL_GRPO, .average = GENARM_RL_BY_RESPONSE},
    {.name = "grpo-clip", .method = GENARM_RL_GRPO, .old = true, .no_scale = true, .mask = true, .gradients = true},
    {.name = "grpo-dr", .method = GENARM_RL_GRPO, .average = GENARM_RL_DR_GRPO, .old = true},
};

struct rl_case {
    struct train_case train; /* model and adapter */
    struct golden golden;
    struct rl_prompt prompts[N_RESPONSES / GROUP];
    struct response responses[N_RESPONSES];
    struct batch batch;
};

static double number(const struct golden *g, const struct run *run, const char *key) {
    char name[64];
    snprintf(name, sizeof name, "golden.%s.%s", run->name, key);
    return golden_number(g, name);
}

static void read_groups(struct rl_case *c) {
    for (int i = 0; i < N_RESPONSES; i++) {
        size_t n;
        struct rl_prompt *prompt = &c->prompts[i / GROUP];
        prompt->tokens = (int32_t *)(uintptr_t)golden_i32(&c->golden, &n, "group%d.prompt", i / GROUP);
        prompt->n_tokens = (int32_t)n;
        struct response *r = &c->responses[i];
        *r = (struct response){.prompt = prompt};
        r->tokens = (int32_t *)(uintptr_t)golden_i32(&c->golden, &n, "group%d.response%d", i / GROUP, i % GROUP);
        r->n = (int32_t)n;
        r->finished = genarm_token_ends(c->train.model, r->tokens[n - 1]);
    }
}

static void assert_all_near(const float *values, const struct golden *g, const char *run, const char *what, double tolerance) {
    size_t n;
    const float *expected = golden_f32(g, &n, "%s.%s", run, what);
    for (size_t i = 0; i < n; i++) {
        if (!(fabs((double)values[i] - (double)expected[i]) <= tolerance)) {
            fail_msg("%s.%s[%zu] is %.9g, not %.9g", run, what, i, (double)values[i], (double)expected[i]);
        }
    }
}

static bool is_masked(const struct rl_case *c, const struct run *run, size_t i) {
    return run->mask && !c->responses[i].finished;
}

static void set_advantages(struct rl_case *c, const struct run *run, double kl_coef) {
    double rewards[N_RESPONSES], advantages[N_RESPONSES];
    float rounded[N_RESPONSES];
    int64_t n_tokens = 0;
    const float *given = golden_f32(&c->golden, NULL, "rewards");
    for (size_t i = 0; i < N_RESPONSES; i++) {
        rewards[i] = (double)given[i] - (c->responses[i].finished ? 0 : run->penalty);
        rewards[i] -= run->method == GENARM_RL_RLOO ? kl_coef * batch_log_ratio(&c->batch, i) : 0;
        n_tokens += is_masked(c, run, i) ? 0 : c->responses[i].n;
    }
    if (run->method == GENARM_RL_RLOO) {
        advantages_rloo(rewards, N_RESPONSES / GROUP, GROUP, advantages);
    } else {
        advantages_grpo(rewards, N_RESPONSES / GROUP, GROUP, !run->no_scale, advantages);
    }
    for (size_t i = 0; i < N_RESPONSES; i++) {
        struct objective_response *r = &c->batch.responses[i];
        rounded[i] = (float)advantages[i];
        r->advantage = advantages[i];
        r->weight = is_masked(c, run, i)
                        ? 0
                        : objective_weight(run->method, run->average, N_RESPONSES, n_tokens, r->n, MAX_TOKENS);
    }
    assert_all_near(rounded, &c->golden, run->name, "advantages", 1e-4);
}

static void check_gradient(struct rl_case *c, const struct run *run) {
    float *gradient = calloc(c->train.adapter.n, sizeof *gradient);
    double squares = 0;
    char prefix[64];
    trainable_get_gradient(&c->train.adapter, gradient);
    for (size_t i = 0; i < c->train.adapter.n; i++) {
        squares += (double)gradient[i] * (double)gradient[i];
    }
    assert_relative(sqrt(squares), number(&c->golden, run, "grad_norm"), 1e-4, "norm of the gradient");
    snprintf(prefix, sizeof prefix, "%s.grad", run->name);
    if (run->gradients) {
        assert_matrices_near(&c->train.adapter, &c->golden, gradient, prefix, 1e-3);
    }
    free(gradient);
}

static void check(const struct run *run, bool plain, int32_t micro_batch) {
    struct rl_case c = {0};
    struct genarm_error err = {0};
    struct batch_result result;
    struct backprop_params params = train_case_params();
    size_t culprit, n;
    golden_open_file(&c.golden, "llama.rl.gguf");
    params.temperature = number(&c.golden, run, "temperature");
    params.plain = plain;
    train_case_open(&c.train, "llama", ALL_TARGETS, &params);
    read_groups(&c);
    must(batch_init(&c.batch, c.responses, N_RESPONSES, micro_batch, 1024, &err), &err);
    assert_int_equal(c.batch.n_packs, micro_batch == 1 ? 4 : 1);
    must(batch_forward(&c.batch, c.train.backprop, BATCH_REFERENCE, &culprit, NULL, NULL, &err), &err);
    must(batch_forward(&c.batch, c.train.backprop, BATCH_POLICY, &culprit, NULL, NULL, &err), &err);
    assert_all_near(c.batch.reference, &c.golden, run->name, "reference", 2e-5);
    assert_all_near(c.batch.logp, &c.golden, run->name, "logp", 2e-5);
    if (run->old) {
        const float *old = golden_f32(&c.golden, &n, "%s.old", run->name);
        memcpy(c.batch.logp, old, n * sizeof *old);
    }
    const double kl_coef = number(&c.golden, run, "kl_coef");
    set_advantages(&c, run, kl_coef);
    const struct objective objective = {.method = run->method, .kl_coef = kl_coef, .clip_eps = 0.2};
    const struct batch_job job = {.objective = &objective, .first = !run->old};
    trainable_zero_gradient(&c.train.adapter);
    must(batch_backward(&c.batch, c.train.backprop, &job, &result, &culprit, NULL, NULL, &err), &err);
    assert_true(fabs(result.loss - number(&c.golden, run, "loss")) < 2e-5);
    assert_true((result.clipped > 0) == run->old);
    check_gradient(&c, run);
    batch_deinit(&c.batch);
    train_case_close(&c.train);
    golden_close(&c.golden);
}

static void test_objectives_and_gradients_equal_pytorch(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        check(&runs[i], false, 0);
        check(&runs[i], true, 0);
        check(&runs[i], false, 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_objectives_and_gradients_equal_pytorch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
