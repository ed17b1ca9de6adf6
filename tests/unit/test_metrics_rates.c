/* Win rates, recovered gaps, divergences and calibration: numbers by hand, identities, known truths, degenerate inputs. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "eval/calibration.h"
#include "eval/gap.h"
#include "eval/kl.h"
#include "eval/win_rate.h"

static void near(double value, double expected, double tolerance) {
    if (!(fabs(value - expected) <= tolerance)) {
        fail_msg("%.9g is not %.9g", value, expected);
    }
}

/* ---- win rates ---- */

static void test_a_win_rate_is_wins_and_half_of_the_ties(void **state) {
    (void)state;
    const enum win_rate_verdict v[] = {WIN_RATE_WIN, WIN_RATE_WIN, WIN_RATE_TIE,     WIN_RATE_LOSE,
                                       WIN_RATE_WIN, WIN_RATE_TIE, WIN_RATE_INVALID, WIN_RATE_WIN};
    struct win_rate out;
    assert_int_equal(win_rate_of_verdicts(&out, v, 8, NULL, NULL), GENARM_OK);
    assert_true(out.wins == 4 && out.ties == 2 && out.losses == 1 && out.invalid == 1);
    near(out.rate.value, 5.0 / 7, 1e-12);
    assert_true(out.rate.low < out.rate.value && out.rate.value < out.rate.high && out.rate.high <= 1);
}

static void test_both_sides_rates_add_up_to_one(void **state) {
    (void)state;
    enum { N = 101 };
    struct rng rng;
    double a[N], b[N];
    struct win_rate one, other;
    rng_seed(&rng, 1);
    for (int i = 0; i < N; i++) {
        a[i] = (double)rng_below(&rng, 5);
        b[i] = (double)rng_below(&rng, 5);
    }
    a[7] = NAN;
    for (double margin = 0; margin < 3; margin++) {
        assert_int_equal(win_rate_of_rewards(&one, a, b, N, margin, NULL, NULL), GENARM_OK);
        assert_int_equal(win_rate_of_rewards(&other, b, a, N, margin, NULL, NULL), GENARM_OK);
        assert_true(one.wins == other.losses && one.ties == other.ties && one.invalid == 1 && other.invalid == 1);
        assert_int_equal(one.wins + one.ties + one.losses, N - 1);
        near(one.rate.value + other.rate.value, 1, 1e-12);
        near(one.rate.low + other.rate.high, 1, 1e-12); /* the same draws */
    }
}

static void test_the_margin_of_a_tie_is_itself_a_tie(void **state) {
    (void)state;
    const double a[] = {1, 1, 1, 1}, b[] = {0.5, 0.75, 1.25, 1.5};
    struct win_rate out;
    assert_int_equal(win_rate_of_rewards(&out, a, b, 4, 0.25, NULL, NULL), GENARM_OK);
    assert_true(out.wins == 1 && out.ties == 2 && out.losses == 1);
    assert_int_equal(win_rate_of_rewards(&out, a, b, 4, -1, NULL, NULL), GENARM_EINVAL);
    assert_int_equal(win_rate_of_rewards(&out, a, b, 4, NAN, NULL, NULL), GENARM_EINVAL);
}

static void test_preferences_count_by_how_sure_they_are(void **state) {
    (void)state;
    const double p[] = {1, 2, 1.5, 0, 1.75, NAN}, wrong[] = {1, 2.5};
    struct win_rate out;
    assert_int_equal(win_rate_of_preferences(&out, p, 6, NULL, NULL), GENARM_OK);
    assert_true(out.wins == 2 && out.ties == 2 && out.losses == 1 && out.invalid == 1);
    near(out.rate.value, (0 + 1 + 0.5 + 0.5 + 0.75) / 5, 1e-12);
    assert_int_equal(win_rate_of_preferences(&out, wrong, 2, NULL, NULL), GENARM_EINVAL);
}

static void test_nothing_but_wins_has_an_interval(void **state) {
    (void)state;
    double a[32], b[32] = {0};
    struct bootstrap_params params = bootstrap_default_params();
    struct win_rate out;
    for (int i = 0; i < 32; i++) {
        a[i] = i == 5 ? NAN : 1;
    }
    assert_int_equal(win_rate_of_rewards(&out, a, b, 32, 0, NULL, NULL), GENARM_OK);
    near(out.rate.low, 0.8878, 1e-4); /* binom.test(31, 31) of R */
    assert_true(out.rate.value == 1 && out.rate.high == 1);
    assert_int_equal(win_rate_of_rewards(&out, b, a, 10, 0, NULL, NULL), GENARM_OK);
    near(out.rate.high, 0.3363, 1e-4); /* of 9 */
    assert_true(out.rate.value == 0 && out.rate.low == 0);
    params.level = 0.9;
    assert_int_equal(win_rate_of_rewards(&out, a, b, 1, 0, &params, NULL), GENARM_OK);
    near(out.rate.low, 0.05, 1e-12);
    a[0] = 0; /* a tie: not all are alike */
    assert_int_equal(win_rate_of_rewards(&out, a, b, 32, 0, NULL, NULL), GENARM_OK);
    assert_true(out.rate.value < 1 && out.rate.low > 0.9);
}

static void test_nothing_judged_is_no_rate(void **state) {
    (void)state;
    const enum win_rate_verdict v[] = {WIN_RATE_INVALID, WIN_RATE_INVALID};
    struct win_rate out;
    assert_int_equal(win_rate_of_verdicts(&out, v, 2, NULL, NULL), GENARM_OK);
    assert_true(out.invalid == 2 && isnan(out.rate.value) && isnan(out.rate.low));
    assert_int_equal(win_rate_of_verdicts(&out, v, 0, NULL, NULL), GENARM_OK);
    assert_true(out.invalid == 0 && isnan(out.rate.value));
    assert_string_equal(win_rate_verdict_name(WIN_RATE_WIN), "win");
    assert_string_equal(win_rate_verdict_name(WIN_RATE_LOSE), "lose");
    assert_string_equal(win_rate_verdict_name(WIN_RATE_TIE), "tie");
    assert_string_equal(win_rate_verdict_name(WIN_RATE_INVALID), "invalid");
}

/* ---- recovered gap ---- */

static void test_the_gap_is_0_at_its_start_and_1_at_its_end(void **state) {
    (void)state;
    enum { N = 50 };
    double from[N], to[N], half[N];
    struct rng rng;
    struct interval out;
    rng_seed(&rng, 2);
    for (int i = 0; i < N; i++) {
        from[i] = 10 * rng_normal(&rng);
        to[i] = from[i] + 1 + rng_uniform(&rng);
        half[i] = (from[i] + to[i]) / 2;
    }
    assert_int_equal(gap_interval(&out, from, from, to, N, NULL, NULL), GENARM_OK);
    assert_true(out.value == 0 && out.low == 0 && out.high == 0);
    assert_int_equal(gap_interval(&out, to, from, to, N, NULL, NULL), GENARM_OK);
    assert_true(out.value == 1 && out.low == 1 && out.high == 1);
    assert_int_equal(gap_interval(&out, half, from, to, N, NULL, NULL), GENARM_OK); /* of every prompt half: no width */
    near(out.low, 0.5, 1e-9);
    near(out.high, 0.5, 1e-9);
    assert_int_equal(gap_interval(&out, half, from, from, N, NULL, NULL), GENARM_OK);
    assert_true(isnan(out.value));
    near(gap_of(0.62, 0.5, 0.7), 0.6, 1e-12);
    assert_true(isnan(gap_of(1, 2, 2)));
}

static void test_a_prompt_that_lacks_one_value_is_in_no_mean_of_a_gap(void **state) {
    (void)state;
    const double x[] = {3, NAN, 5, 1}, from[] = {1, 100, NAN, 0}, to[] = {5, 200, 9, 4};
    struct interval out;
    assert_int_equal(gap_interval(&out, x, from, to, 4, NULL, NULL), GENARM_OK);
    near(out.value, (2.0 - 0.5) / (4.5 - 0.5), 1e-12);
}

/* ---- divergence ---- */

static void test_sampled_divergence_finds_the_true_one(void **state) {
    (void)state;
    enum { N = 4000 };
    static double logprob[N], base[N], n_tokens[N];
    const double p[] = {0.6, 0.3, 0.1}, q[] = {0.2, 0.3, 0.5};
    double truth = 0;
    struct rng rng;
    struct interval out;
    rng_seed(&rng, 8);
    for (int k = 0; k < 3; k++) {
        truth += p[k] * log(p[k] / q[k]);
    }
    for (int i = 0; i < N; i++) { /* answers of two tokens each */
        for (int t = 0; t < 2; t++) {
            const double u = rng_uniform(&rng);
            const int k = u < p[0] ? 0 : u < p[0] + p[1] ? 1 : 2;
            logprob[i] += log(p[k]);
            base[i] += log(q[k]);
        }
        n_tokens[i] = 2;
    }
    assert_int_equal(kl_per_answer(&out, logprob, base, N, NULL, NULL), GENARM_OK);
    assert_true(out.low < 2 * truth && 2 * truth < out.high && out.high - out.low < 0.1);
    assert_int_equal(kl_per_token(&out, logprob, base, n_tokens, N, NULL, NULL), GENARM_OK);
    assert_true(out.low < truth && truth < out.high);
    assert_int_equal(kl_per_answer(&out, base, base, N, NULL, NULL), GENARM_OK);
    assert_true(out.value == 0 && out.low == 0 && out.high == 0);
}

/* The best of n by a reward without ties has the density n F^(n-1): the divergence is an integral over [0, 1]. */
static void test_best_of_n_has_its_divergence(void **state) {
    (void)state;
    assert_true(kl_best_of(1) == 0 && isnan(kl_best_of(0)));
    for (int n = 2; n <= 64; n *= 2) {
        const int steps = 200000;
        double sum = 0;
        for (int i = 0; i < steps; i++) {
            const double density = n * pow((i + 0.5) / steps, n - 1);
            sum += density > 0 ? density * log(density) / steps : 0;
        }
        near(kl_best_of(n), sum, 1e-6);
    }
}

/* ---- calibration ---- */

static void draw_margins(double *margins, size_t n, double scale, double stretch) {
    struct rng rng;
    rng_seed(&rng, 21);
    for (size_t i = 0; i < n; i++) { /* how much better one response is, and which one was chosen accordingly */
        const double z = 2 * rng_normal(&rng);
        const bool first = rng_uniform(&rng) < 1 / (1 + exp(-z));
        margins[i] = stretch * (first ? z : -z) / scale;
    }
}

static void test_margins_that_mean_what_they_say_are_calibrated(void **state) {
    (void)state;
    enum { N = 20000 };
    static double margins[N];
    const struct bootstrap_params few = {200, 1, 0.95};
    struct calibration_params params = calibration_default_params();
    struct calibration out, scaled;
    params.bootstrap = &few;
    draw_margins(margins, N, 1, 1);
    assert_int_equal(calibration_of_margins(&out, margins, N, &params, NULL), GENARM_OK);
    assert_true(out.n == N && out.ece.value < 0.012 && out.n_bins == 10);
    for (int i = 0; i < out.n_bins; i++) {
        const struct calibration_bin *bin = &out.bins[i];
        assert_true(bin->n > 500 && bin->confidence >= bin->low && bin->confidence <= bin->high);
        near(bin->accuracy, bin->confidence, 0.05);
    }
    params.scale = 0.05; /* the same rewards in another unit */
    draw_margins(margins, N, 0.05, 1);
    assert_int_equal(calibration_of_margins(&scaled, margins, N, &params, NULL), GENARM_OK);
    near(scaled.ece.value, out.ece.value, 1e-4);
    near(scaled.log_loss.value, out.log_loss.value, 1e-9);
    near(scaled.margin.value, 20 * out.margin.value, 1e-6);
    params.scale = 1;
    draw_margins(margins, N, 1, 3); /* three times too sure */
    assert_int_equal(calibration_of_margins(&scaled, margins, N, &params, NULL), GENARM_OK);
    assert_true(scaled.ece.value > 0.1 && scaled.log_loss.value > out.log_loss.value);
    near(scaled.accuracy.value, out.accuracy.value, 1e-12);
}

static void test_numbers_of_calibration_by_hand(void **state) {
    (void)state;
    const double margins[] = {log(4), log(4), -log(4), 0, NAN}; /* 0.8 sure three times, right twice; a tie */
    struct calibration_params params = calibration_default_params();
    struct calibration out;
    params.n_bins = 5;
    assert_int_equal(calibration_of_margins(&out, margins, 5, &params, NULL), GENARM_OK);
    assert_int_equal(out.n, 4);
    near(out.accuracy.value, 2.5 / 4, 1e-12);
    near(out.margin.value, log(4) / 4, 1e-12);
    near(out.log_loss.value, (-2 * log(0.8) - log(0.2) + log(2)) / 4, 1e-12);
    near(out.ece.value, 0.75 * (0.8 - 2.0 / 3), 1e-12);
    assert_true(out.bins[0].n == 1 && out.bins[0].accuracy == 0.5 && out.bins[4].n == 0 && isnan(out.bins[4].accuracy));
    assert_int_equal(out.bins[2].n + out.bins[3].n, 3); /* 0.8 is where two bins meet */
}

static void test_extreme_margins_are_finite(void **state) {
    (void)state;
    const double margins[] = {1e6, -1e6};
    struct calibration out;
    assert_int_equal(calibration_of_margins(&out, margins, 2, NULL, NULL), GENARM_OK);
    near(out.log_loss.value, 5e5, 1e-6);
    assert_true(out.bins[9].n == 2 && out.ece.value == 0.5 && out.accuracy.value == 0.5);
    assert_int_equal(calibration_of_margins(&out, margins, 0, NULL, NULL), GENARM_OK);
    assert_true(out.n == 0 && isnan(out.accuracy.value) && isnan(out.ece.value) && out.bins[0].n == 0);
    struct calibration_params wrong = calibration_default_params();
    wrong.n_bins = 0;
    assert_int_equal(calibration_of_margins(&out, margins, 2, &wrong, NULL), GENARM_EINVAL);
    wrong = calibration_default_params();
    wrong.scale = 0;
    assert_int_equal(calibration_of_margins(&out, margins, 2, &wrong, NULL), GENARM_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_win_rate_is_wins_and_half_of_the_ties),
        cmocka_unit_test(test_both_sides_rates_add_up_to_one),
        cmocka_unit_test(test_the_margin_of_a_tie_is_itself_a_tie),
        cmocka_unit_test(test_preferences_count_by_how_sure_they_are),
        cmocka_unit_test(test_nothing_but_wins_has_an_interval),
        cmocka_unit_test(test_nothing_judged_is_no_rate),
        cmocka_unit_test(test_the_gap_is_0_at_its_start_and_1_at_its_end),
        cmocka_unit_test(test_a_prompt_that_lacks_one_value_is_in_no_mean_of_a_gap),
        cmocka_unit_test(test_sampled_divergence_finds_the_true_one),
        cmocka_unit_test(test_best_of_n_has_its_divergence),
        cmocka_unit_test(test_margins_that_mean_what_they_say_are_calibrated),
        cmocka_unit_test(test_numbers_of_calibration_by_hand),
        cmocka_unit_test(test_extreme_margins_are_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
