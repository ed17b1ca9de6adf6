/* Optimiser, clipping, schedules and losses against values worked out by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "train/loss.h"
#include "train/optim.h"

static void assert_near(double value, double expected, double tolerance) {
    if (!(fabs(value - expected) <= tolerance)) {
        fail_msg("%.12g, not %.12g", value, expected);
    }
}

/* The first Adam step moves by the learning rate against the sign, whatever the size of the gradient. */
static void test_first_step_is_the_learning_rate(void **state) {
    (void)state;
    struct genarm_train_params params = genarm_train_default_params();
    struct adamw a;
    float p[] = {1, -2, 0}, g[] = {0.5f, -1e-3f, 0};
    assert_int_equal(adamw_init(&a, 3, &params, NULL), GENARM_OK);
    adamw_update(&a, p, g, 0.01);
    assert_near((double)p[0], 1 * (1 - 0.01 * 0.05) - 0.01,
                1e-6); /* decay is decoupled: of the parameter, not the gradient */
    assert_near((double)p[1], -2 * (1 - 0.01 * 0.05) + 0.01, 1e-6);
    assert_near((double)p[2], 0, 0);
    adamw_deinit(&a);
}

/* torch.optim.AdamW(lr=.1, betas=(.9, .999), eps=1e-8, weight_decay=.1) on p = 1 with gradients 1, -2, .5 */
static void test_three_steps_equal_the_formula(void **state) {
    (void)state;
    struct genarm_train_params params = genarm_train_default_params();
    struct adamw a;
    params.weight_decay = 0.1f;
    const float g[] = {1, -2, 0.5f};
    float p[] = {1};
    double m = 0, v = 0, expected = 1;
    assert_int_equal(adamw_init(&a, 1, &params, NULL), GENARM_OK);
    for (int t = 1; t <= 3; t++) {
        const double gt = (double)g[t - 1];
        m = 0.9 * m + 0.1 * gt;
        v = 0.999 * v + 0.001 * gt * gt;
        expected =
            expected - 0.1 * 0.1 * expected - 0.1 * (m / (1 - pow(0.9, t))) / (sqrt(v / (1 - pow(0.999, t))) + 1e-8);
        adamw_update(&a, p, &g[t - 1], 0.1);
        assert_near((double)p[0], expected, 1e-6);
    }
    adamw_deinit(&a);
}

static void test_clipping_scales_to_the_norm_and_never_up(void **state) {
    (void)state;
    float g[] = {3, 4};
    assert_near(clip_gradients(g, 2, 10), 5, 1e-12);
    assert_near((double)g[0], 3, 0);
    assert_near(clip_gradients(g, 2, 0), 5, 1e-12); /* off */
    assert_near((double)g[1], 4, 0);
    assert_near(clip_gradients(g, 2, 1), 5, 1e-12);
    assert_near((double)g[0], 0.6, 1e-6);
    assert_near((double)g[1], 0.8, 1e-6);
    float bad[] = {1, NAN};
    assert_true(isnan(clip_gradients(bad, 2, 1)));
}

/* Values of transformers' get_{constant,linear,cosine}_schedule_with_warmup. */
static void test_schedules_equal_transformers(void **state) {
    (void)state;
    static const enum genarm_schedule all[] = {GENARM_SCHEDULE_CONSTANT, GENARM_SCHEDULE_LINEAR,
                                               GENARM_SCHEDULE_COSINE};
    for (int i = 0; i < 3; i++) {
        assert_near(schedule_factor(all[i], 0, 10, 110), 0, 0);
        assert_near(schedule_factor(all[i], 5, 10, 110), 0.5, 1e-12);
        assert_near(schedule_factor(all[i], 10, 10, 110), 1, 1e-12);
        assert_near(schedule_factor(all[i], 0, 0, 100), 1, 1e-12);
    }
    assert_near(schedule_factor(GENARM_SCHEDULE_CONSTANT, 109, 10, 110), 1, 0);
    assert_near(schedule_factor(GENARM_SCHEDULE_LINEAR, 35, 10, 110), 0.75, 1e-12);
    assert_near(schedule_factor(GENARM_SCHEDULE_LINEAR, 110, 10, 110), 0, 1e-12);
    assert_near(schedule_factor(GENARM_SCHEDULE_COSINE, 35, 10, 110), 0.5 * (1 + cos(3.14159265358979323846 / 4)),
                1e-12);
    assert_near(schedule_factor(GENARM_SCHEDULE_COSINE, 60, 10, 110), 0.5, 1e-12);
    assert_near(schedule_factor(GENARM_SCHEDULE_COSINE, 110, 10, 110), 0, 1e-12);
    assert_near(schedule_factor(GENARM_SCHEDULE_LINEAR, 10, 20, 10), 0.5, 1e-12); /* a warm-up longer than the run */
}

/* ---- losses ---- */

static struct loss_value value_of(enum genarm_loss id, double chosen, double rejected,
                                  struct genarm_train_params params) {
    params.loss = id;
    const struct loss_params p = loss_params_from(&params);
    struct loss_input in = {.logp = {chosen, rejected}, .n_tokens = {7, 12}};
    if (loss_get(id)->uses_reference) {
        in.reference[CHOSEN] = -22.5;
        in.reference[REJECTED] = -19.75;
    }
    return loss_get(id)->value(&in, &p);
}

static double margin_of(struct loss_value v) { return v.rewards[CHOSEN] - v.rewards[REJECTED]; }

static void test_derivatives_equal_differences(void **state) {
    (void)state;
    const struct genarm_train_params all[] = {
        {.beta = 0.3f}, {.beta = 2, .margin = 0.7f}, {.beta = 0.05f, .length_normalize = true}};
    for (int id = GENARM_LOSS_ARM; id <= GENARM_LOSS_BT; id++) {
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
            const double c = -20.25, r = -21.5, h = 1e-5;
            const enum genarm_loss loss = (enum genarm_loss)id;
            const struct loss_value v = value_of(loss, c, r, all[i]);
            const double dc = (value_of(loss, c + h, r, all[i]).loss - value_of(loss, c - h, r, all[i]).loss) / (2 * h);
            const double dr = (value_of(loss, c, r + h, all[i]).loss - value_of(loss, c, r - h, all[i]).loss) / (2 * h);
            assert_near(v.d_logp[CHOSEN], dc, 1e-8 + 1e-7 * fabs(dc));
            assert_near(v.d_logp[REJECTED], dr, 1e-8 + 1e-7 * fabs(dr));
        }
    }
}

static void test_log_sigmoid_does_not_overflow(void **state) {
    (void)state;
    const struct genarm_train_params params = {.beta = 1};
    assert_near(value_of(GENARM_LOSS_ARM, -1e5, 0, params).loss, 1e5, 1e-6);
    assert_near(value_of(GENARM_LOSS_ARM, 0, -1e5, params).loss, 0, 0);
    assert_near(value_of(GENARM_LOSS_ARM, -1e5, 0, params).d_logp[CHOSEN], -1, 1e-12);
    assert_true(isnan(value_of(GENARM_LOSS_ARM, NAN, 0, params).loss));
}

static void test_equal_responses_cost_log_two(void **state) {
    (void)state;
    const struct genarm_train_params params = {.beta = 0.5f};
    const struct loss_value v = value_of(GENARM_LOSS_ARM, -33, -33, params);
    assert_near(v.loss, log(2), 1e-12);
    assert_near(margin_of(v), 0, 0);
    assert_near(v.d_logp[CHOSEN], -0.25, 1e-12);
    assert_near(v.d_logp[REJECTED], 0.25, 1e-12);
}

static void test_equal_ratios_to_the_reference_cost_log_two(void **state) {
    (void)state;
    const struct genarm_train_params params = {.beta = 0.5f};
    const struct loss_value v = value_of(GENARM_LOSS_DPO, -22.5 + 3, -19.75 + 3, params);
    assert_near(v.loss, log(2), 1e-12);
    assert_near(margin_of(v), 0, 0);
    const struct loss_value better = value_of(GENARM_LOSS_DPO, -22.5 + 3, -19.75 + 1, params);
    assert_near(better.rewards[CHOSEN], 0.5 * 3, 1e-12);
    assert_near(better.rewards[REJECTED], 0.5 * 1, 1e-12);
}

/* Its minimum is where the difference is 1 / (2 beta), and there it is 0. */
static void test_ipo_ends_at_its_target(void **state) {
    (void)state;
    const struct genarm_train_params params = {.beta = 0.25f};
    const struct loss_value v = value_of(GENARM_LOSS_IPO, -22.5 + 7 * 2, -19.75, params);
    assert_near(v.loss, 0, 1e-12);
    assert_near(v.d_logp[CHOSEN], 0, 1e-12);
    assert_near(margin_of(v), 0.25 * 2, 1e-12);
    assert_near(value_of(GENARM_LOSS_IPO, -22.5, -19.75, params).loss, 4, 1e-12);
}

static void test_every_loss_has_its_own_beta_and_margin(void **state) {
    (void)state;
    for (int id = GENARM_LOSS_ARM; id <= GENARM_LOSS_BT; id++) {
        const struct genarm_train_params params = {.loss = (enum genarm_loss)id};
        assert_near(loss_params_from(&params).beta, (double)genarm_loss_default_beta(params.loss), 0);
        assert_true(genarm_loss_default_beta(params.loss) > 0);
        assert_near(loss_params_from(&params).margin, id == GENARM_LOSS_SIMPO ? 1 : 0, 0);
    }
    struct genarm_train_params simpo = {.loss = GENARM_LOSS_SIMPO, .beta = 10};
    assert_near(loss_params_from(&simpo).margin, 5, 0);
    simpo.margin = 0.5f;
    assert_near(loss_params_from(&simpo).margin, 0.5, 0);
    assert_true(genarm_loss_default_beta(GENARM_LOSS_ARM) == 0.05f);
    assert_true(genarm_loss_default_beta(GENARM_LOSS_SIMPO) == 2);
    assert_true(genarm_loss_default_beta(GENARM_LOSS_SFT) == 1 && genarm_loss_default_beta(GENARM_LOSS_BT) == 1);
    assert_true(genarm_loss_default_beta(GENARM_LOSS_DPO) == 0.1f);
    assert_true(genarm_loss_default_beta((enum genarm_loss)99) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_step_is_the_learning_rate),
        cmocka_unit_test(test_three_steps_equal_the_formula),
        cmocka_unit_test(test_clipping_scales_to_the_norm_and_never_up),
        cmocka_unit_test(test_schedules_equal_transformers),
        cmocka_unit_test(test_derivatives_equal_differences),
        cmocka_unit_test(test_log_sigmoid_does_not_overflow),
        cmocka_unit_test(test_equal_responses_cost_log_two),
        cmocka_unit_test(test_equal_ratios_to_the_reference_cost_log_two),
        cmocka_unit_test(test_ipo_ends_at_its_target),
        cmocka_unit_test(test_every_loss_has_its_own_beta_and_margin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
