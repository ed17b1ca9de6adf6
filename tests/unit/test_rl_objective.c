/* Advantages against numbers by hand; derivatives against finite differences of the objectives as they are written. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rl/objective.h"

enum { N = 5 };

static void near(double value, double expected, double tolerance) {
    if (!(fabs(value - expected) <= tolerance)) {
        fail_msg("%.9g is not %.9g", value, expected);
    }
}

/* ---- advantages ---- */

static void test_rloo_compares_with_the_mean_of_the_others(void **state) {
    (void)state;
    const double rewards[] = {1, 2, 5, 8, /* second group */ -1, -1, -1, 3};
    double a[8];
    advantages_rloo(rewards, 2, 4, a);
    near(a[0], 1 - (2 + 5 + 8) / 3.0, 1e-12);
    near(a[1], 2 - (1 + 5 + 8) / 3.0, 1e-12);
    near(a[3], 8 - (1 + 2 + 5) / 3.0, 1e-12);
    near(a[4], -1 - (-1 - 1 + 3) / 3.0, 1e-12);
    near(a[7], 3 + 1, 1e-12);
    near(a[0] + a[1] + a[2] + a[3], 0, 1e-12);
}

static void test_grpo_normalises_within_the_group(void **state) {
    (void)state;
    const double rewards[] = {1, 2, 3, 6, /* second group: equal */ 0.3, 0.3, 0.3, 0.3};
    const double deviation = sqrt((4 + 1 + 0 + 9) / 3.0);
    double a[8];
    near(group_std(rewards, 4), deviation, 1e-12);
    advantages_grpo(rewards, 2, 4, true, a);
    near(a[0], -2 / (deviation + 1e-4), 1e-12);
    near(a[3], 3 / (deviation + 1e-4), 1e-12);
    near(a[5], 0, 1e-9);
    advantages_grpo(rewards, 2, 4, false, a);
    near(a[0], -2, 1e-12);
    near(a[3], 3, 1e-12);
}

static void test_a_group_of_two_is_a_difference(void **state) {
    (void)state;
    const double rewards[] = {4, 1};
    double a[2];
    advantages_rloo(rewards, 1, 2, a);
    near(a[0], 3, 1e-12);
    near(a[1], -3, 1e-12);
}

static void test_weights_make_the_averages(void **state) {
    (void)state;
    near(objective_weight(GENARM_RL_RLOO, GENARM_RL_DAPO, 8, 100, 5, 64), 1 / 8.0, 1e-15);
    near(objective_weight(GENARM_RL_GRPO, GENARM_RL_DAPO, 8, 100, 5, 64), 1 / 100.0, 1e-15);
    near(objective_weight(GENARM_RL_GRPO, GENARM_RL_BY_RESPONSE, 8, 100, 5, 64), 1 / 40.0, 1e-15);
    near(objective_weight(GENARM_RL_GRPO, GENARM_RL_DR_GRPO, 8, 100, 5, 64), 1 / 512.0, 1e-15);
}

/* ---- losses ---- */

static const float logp0[N] = {-1.25f, -0.5f, -3, -2.75f, -0.0625f};
static const float reference[N] = {-1.5f, -0.5f, -2, -4, -0.25f};

/* -min(r A, clip(r) A) */
static double written_surrogate(double ratio, double a) {
    return -fmin(ratio * a, fmin(fmax(ratio, 0.8), 1.2) * a);
}

/* The objective as docs/rl.md has it, with ratios to `old`. */
static double written(const struct objective *o, double a, double weight, const double *logp, const float *old) {
    double sum = 0;
    if (o->method == GENARM_RL_RLOO) {
        for (int i = 0; i < N; i++) {
            sum += logp[i] - (double)old[i];
        }
        return weight * written_surrogate(exp(sum), a);
    }
    for (int i = 0; i < N; i++) {
        const double d = (double)reference[i] - logp[i];
        sum += written_surrogate(exp(logp[i] - (double)old[i]), a) + o->kl_coef * (exp(d) - d - 1);
    }
    return weight * sum;
}

/* With old NULL the ratio is 1 whatever logp is: finite differences take it as fixed at logp0. */
static void check(enum genarm_rl_method method, double kl_coef, double a, const float *old, int64_t n_clipped) {
    const struct objective o = {.method = method, .kl_coef = kl_coef, .clip_eps = 0.2};
    const struct objective_response r = {
        .advantage = a, .weight = 0.25, .n = N, .logp = logp0, .old = old, .reference = reference};
    float d[N];
    double x[N];
    int64_t clipped = 0;
    for (int i = 0; i < N; i++) {
        x[i] = (double)logp0[i];
    }
    near(objective_loss(&o, &r, d, &clipped), written(&o, a, 0.25, x, old ? old : logp0), 1e-9);
    assert_int_equal(clipped, n_clipped);
    for (int i = 0; i < N; i++) {
        const double h = 1e-6, at = x[i];
        x[i] = at + h;
        const double above = written(&o, a, 0.25, x, old ? old : logp0);
        x[i] = at - h;
        const double below = written(&o, a, 0.25, x, old ? old : logp0);
        x[i] = at;
        near((double)d[i], (above - below) / (2 * h), 1e-6);
    }
}

static void test_derivatives_equal_finite_differences(void **state) {
    (void)state;
    /* ratios e^.1, e^-.3, e^.5, 1, e^-.05: their product e^.25 */
    float old[N];
    const float shifts[N] = {0.1f, -0.3f, 0.5f, 0, -0.05f};
    for (int i = 0; i < N; i++) {
        old[i] = logp0[i] - shifts[i];
    }
    for (double a = -1.5; a < 2; a += 3) {
        check(GENARM_RL_RLOO, 0, a, NULL, 0);
        check(GENARM_RL_RLOO, 0, a, old, a > 0); /* e^.25 > 1.2 */
        check(GENARM_RL_GRPO, 0, a, NULL, 0);
        check(GENARM_RL_GRPO, 0.3, a, NULL, 0);
        check(GENARM_RL_GRPO, 0.3, a, old, 1); /* e^.5 where a > 0, e^-.3 where a < 0 */
    }
}

static void test_a_response_that_is_left_out_has_no_part(void **state) {
    (void)state;
    const struct objective o = {.method = GENARM_RL_GRPO, .kl_coef = 1, .clip_eps = 0.2};
    const struct objective_response r = {.advantage = 2, .n = N, .logp = logp0, .reference = reference};
    float d[N] = {1, 1, 1, 1, 1};
    int64_t clipped = 0;
    near(objective_loss(&o, &r, d, &clipped), 0, 0);
    for (int i = 0; i < N; i++) {
        near((double)d[i], 0, 0);
    }
}

static void test_no_advantage_and_no_kl_is_no_gradient(void **state) {
    (void)state;
    for (int method = GENARM_RL_RLOO; method <= GENARM_RL_GRPO; method++) {
        check((enum genarm_rl_method)method, 0, 0, NULL, 0);
    }
}

static void test_the_lists_have_names(void **state) {
    (void)state;
    assert_string_equal(rl_method_name(GENARM_RL_GRPO), "grpo");
    assert_string_equal(rl_average_name(GENARM_RL_DR_GRPO), "dr-grpo");
    assert_null(rl_method_name((enum genarm_rl_method)2));
    assert_null(rl_average_name((enum genarm_rl_average)3));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rloo_compares_with_the_mean_of_the_others),
        cmocka_unit_test(test_grpo_normalises_within_the_group),
        cmocka_unit_test(test_a_group_of_two_is_a_difference),
        cmocka_unit_test(test_weights_make_the_averages),
        cmocka_unit_test(test_derivatives_equal_finite_differences),
        cmocka_unit_test(test_a_response_that_is_left_out_has_no_part),
        cmocka_unit_test(test_no_advantage_and_no_kl_is_no_gradient),
        cmocka_unit_test(test_the_lists_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
