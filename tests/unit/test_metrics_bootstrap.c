/* Intervals: coverage of known truths, the normal limit, reproducibility, records that lack values. */
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
#include "eval/bootstrap.h"

static void near(double value, double expected, double tolerance) {
    if (!(fabs(value - expected) <= tolerance)) {
        fail_msg("%.9g is not %.9g", value, expected);
    }
}

static void same(struct interval a, struct interval b) {
    assert_true(a.value == b.value && a.low == b.low && a.high == b.high);
}

static struct interval mean_of(const double *x, size_t n, const struct bootstrap_params *params) {
    struct interval out;
    assert_int_equal(bootstrap_mean(&out, x, n, params, NULL), GENARM_OK);
    return out;
}

static void draw_normal(double *x, size_t n, double mean, double deviation, uint64_t seed) {
    struct rng rng;
    rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++) {
        x[i] = mean + deviation * rng_normal(&rng);
    }
}

/* ---- what it says ---- */

/* Of intervals of 95 % about 95 % hold the truth: for n = 60, 500 samples and the small-sample shortfall, 90.5 to 97.5 %. */
static void test_intervals_hold_the_true_mean_as_often_as_they_say(void **state) {
    (void)state;
    enum { N = 60, N_TRIALS = 500 };
    const struct bootstrap_params params = {400, 3, 0.95};
    int n_hold = 0;
    for (uint64_t trial = 0; trial < N_TRIALS; trial++) {
        double x[N];
        draw_normal(x, N, 2, 3, 100 + trial);
        const struct interval mean = mean_of(x, N, &params);
        n_hold += mean.low <= 2 && 2 <= mean.high;
    }
    print_message("%d of %d intervals hold the mean\n", n_hold, N_TRIALS);
    assert_in_range(n_hold, (int)(0.905 * N_TRIALS), (int)(0.975 * N_TRIALS));
}

static void test_an_interval_of_a_mean_is_nearly_the_normal_one(void **state) {
    (void)state;
    enum { N = 2000 };
    static double x[N];
    double mean = 0, squares = 0;
    draw_normal(x, N, -1, 2, 9);
    for (size_t i = 0; i < N; i++) {
        mean += x[i] / N;
    }
    for (size_t i = 0; i < N; i++) {
        squares += (x[i] - mean) * (x[i] - mean);
    }
    const double error = sqrt(squares) / N;
    const struct bootstrap_params wide = {8000, 1, 0.95}, narrow = {8000, 1, 0.5};
    const struct interval out = mean_of(x, N, &wide), half = mean_of(x, N, &narrow);
    near(out.value, mean, 1e-12);
    near(out.low, mean - 1.95996 * error, 0.1 * error);
    near(out.high, mean + 1.95996 * error, 0.1 * error);
    near(half.low, mean - 0.67449 * error, 0.06 * error);
    near(half.high, mean + 0.67449 * error, 0.06 * error);
}

/* What both sides share says nothing of their difference. */
static void test_a_paired_difference_forgets_what_prompts_have_in_common(void **state) {
    (void)state;
    enum { N = 100 };
    double a[N], b[N], noise[N];
    struct interval paired, of_a;
    draw_normal(a, N, 0, 50, 1); /* easy and hard prompts */
    draw_normal(noise, N, 1, 0.1, 2);
    for (size_t i = 0; i < N; i++) {
        b[i] = a[i] - noise[i];
    }
    assert_int_equal(bootstrap_difference(&paired, a, b, N, NULL, NULL), GENARM_OK);
    of_a = mean_of(a, N, NULL);
    assert_true(paired.low > 0.9 && paired.high < 1.1 && of_a.high - of_a.low > 5);
    same(mean_of(noise, N, NULL), mean_of(noise, N, NULL));
}

static void test_a_ratio_is_of_sums(void **state) {
    (void)state;
    const double a[] = {1, 10, 100}, b[] = {2, 5, 13}, zeros[] = {0, 0, 0}, sometimes[] = {0, 0, 1};
    struct interval out;
    assert_int_equal(bootstrap_ratio(&out, a, b, 3, NULL, NULL), GENARM_OK);
    near(out.value, 111.0 / 20, 1e-12);
    assert_true(out.low >= 0.5 && out.high <= 100.0 / 13 + 1e-12 && out.low < out.high);
    assert_int_equal(bootstrap_ratio(&out, a, zeros, 3, NULL, NULL), GENARM_OK);
    assert_true(isnan(out.value) && isnan(out.low));
    assert_int_equal(bootstrap_ratio(&out, a, sometimes, 3, NULL, NULL), GENARM_OK); /* draws without the 1: 8 in 27 */
    assert_true(out.value == 111 && out.low >= 34 && isfinite(out.high));
}

/* ---- reproducible ---- */

static void test_a_seed_gives_the_same_interval_and_another_seed_another(void **state) {
    (void)state;
    double x[50];
    draw_normal(x, 50, 0, 1, 4);
    struct bootstrap_params params = bootstrap_default_params();
    assert_true(params.n_resamples >= 2000 && params.level == 0.95);
    const struct interval first = mean_of(x, 50, &params);
    same(first, mean_of(x, 50, NULL));
    params.seed++;
    const struct interval other = mean_of(x, 50, &params);
    assert_true(other.value == first.value && other.low != first.low && fabs(other.low - first.low) < 0.05);
}

static void test_a_shift_and_a_scale_go_through(void **state) {
    (void)state;
    double x[40], y[40];
    draw_normal(x, 40, 0, 1, 6);
    for (int i = 0; i < 40; i++) {
        y[i] = 3 * x[i] + 7;
    }
    const struct interval a = mean_of(x, 40, NULL), b = mean_of(y, 40, NULL);
    near(b.value, 3 * a.value + 7, 1e-12);
    near(b.low, 3 * a.low + 7, 1e-12);
    near(b.high, 3 * a.high + 7, 1e-12);
}

/* ---- degenerate ---- */

static void test_no_record_and_one_record(void **state) {
    (void)state;
    const double x[] = {5};
    struct interval out = mean_of(x, 0, NULL);
    assert_true(isnan(out.value) && isnan(out.low) && isnan(out.high));
    out = mean_of(x, 1, NULL);
    assert_true(out.value == 5 && isnan(out.low) && isnan(out.high));
    out = mean_of(NULL, 0, NULL);
    assert_true(isnan(out.value));
}

static void test_equal_records_have_an_interval_without_width(void **state) {
    (void)state;
    const double x[] = {0.25, 0.25, 0.25};
    const struct interval out = mean_of(x, 3, NULL);
    assert_true(out.value == 0.25 && out.low == 0.25 && out.high == 0.25);
}

static void test_records_without_a_value_are_left_out(void **state) {
    (void)state;
    const double x[] = {1, NAN, 4, 2, NAN}, whole[] = {1, 4, 2}, b[] = {NAN, 1, 1, 1, 1};
    struct interval out;
    same(mean_of(x, 5, NULL), mean_of(whole, 3, NULL));
    assert_int_equal(bootstrap_difference(&out, x, b, 5, NULL, NULL), GENARM_OK);
    assert_true(out.value == 2);
}

static double always_nan(const size_t *index, size_t n, const void *data) {
    (void)index, (void)n, (void)data;
    return NAN;
}

static double nan_of_draws(const size_t *index, size_t n, const void *data) {
    (void)data;
    for (size_t i = 0; i < n; i++) {
        if (index[i] != i) {
            return NAN;
        }
    }
    return 1;
}

/* Defined in a fifth, or four fifths, of the draws of 5 records. */
static double nan_unless_first(const size_t *index, size_t n, const void *data) {
    return (index[0] == 0) == *(const bool *)data || (n > 1 && index[1] == 1 && index[2] == 2 && index[3] == 3) ? 1 : NAN;
}

static void test_a_statistic_that_is_not_defined_has_no_interval(void **state) {
    (void)state;
    struct interval out;
    assert_int_equal(bootstrap(&out, 10, always_nan, NULL, NULL, NULL), GENARM_OK);
    assert_true(isnan(out.value) && isnan(out.low));
    assert_int_equal(bootstrap(&out, 10, nan_of_draws, NULL, NULL, NULL), GENARM_OK);
    assert_true(out.value == 1 && isnan(out.low) && isnan(out.high));
    assert_int_equal(bootstrap(&out, 5, nan_unless_first, &(bool){true}, NULL, NULL), GENARM_OK);
    assert_true(out.value == 1 && isnan(out.low) && isnan(out.high));
    assert_int_equal(bootstrap(&out, 5, nan_unless_first, &(bool){false}, NULL, NULL), GENARM_OK);
    assert_true(out.value == 1 && out.low == 1 && out.high == 1);
}

static void test_params_out_of_range_are_refused(void **state) {
    (void)state;
    const struct bootstrap_params wrong[] = {{99, 1, 0.95}, {-1, 1, 0.95}, {2000, 1, 0}, {2000, 1, 1}, {2000, 1, NAN}};
    const double x[] = {1, 2};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct interval out = {1, 2, 3};
        struct genarm_error err;
        assert_int_equal(bootstrap_mean(&out, x, 2, &wrong[i], &err), GENARM_EINVAL);
        assert_true(out.value == 1 && out.high == 3); /* as before */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_intervals_hold_the_true_mean_as_often_as_they_say),
        cmocka_unit_test(test_an_interval_of_a_mean_is_nearly_the_normal_one),
        cmocka_unit_test(test_a_paired_difference_forgets_what_prompts_have_in_common),
        cmocka_unit_test(test_a_ratio_is_of_sums),
        cmocka_unit_test(test_a_seed_gives_the_same_interval_and_another_seed_another),
        cmocka_unit_test(test_a_shift_and_a_scale_go_through),
        cmocka_unit_test(test_no_record_and_one_record),
        cmocka_unit_test(test_equal_records_have_an_interval_without_width),
        cmocka_unit_test(test_records_without_a_value_are_left_out),
        cmocka_unit_test(test_a_statistic_that_is_not_defined_has_no_interval),
        cmocka_unit_test(test_params_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
