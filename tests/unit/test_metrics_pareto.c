/* Fronts and hypervolumes against inclusion and exclusion, sampling and identities; preferences and what they achieved. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "eval/pareto.h"

static void near(double value, double expected, double tolerance) {
    if (!(fabs(value - expected) <= tolerance)) {
        fail_msg("%.9g is not %.9g", value, expected);
    }
}

static double volume_of(const double *points, size_t n, size_t d, const double *reference) {
    double out = NAN;
    assert_int_equal(pareto_hypervolume(&out, points, n, d, reference, NULL), GENARM_OK);
    return out;
}

static void draw_points(double *points, size_t n, size_t d, uint64_t seed) {
    struct rng rng;
    rng_seed(&rng, seed);
    for (size_t i = 0; i < n * d; i++) {
        points[i] = rng_below(&rng, 4) ? rng_uniform(&rng) : (double)rng_below(&rng, 3) / 2; /* some coordinates are equal */
    }
}

/* ---- fronts ---- */

static void test_a_front_is_what_nothing_dominates(void **state) {
    (void)state;
    const double points[] = {0, 3, /**/ 1, 2, /**/ 2, 1, /**/ 1, 1, /**/ 1, 2, /**/ 3, NAN, /**/ 0, 2};
    bool on[7];
    assert_int_equal(pareto_front(on, points, 7, 2), 4);
    const bool expected[] = {true, true, true, false, true, false, false};
    assert_memory_equal(on, expected, sizeof on);
    assert_true(pareto_dominates((double[]){1, 1}, (double[]){1, 0}, 2));
    assert_false(pareto_dominates((double[]){1, 1}, (double[]){1, 1}, 2));
    assert_false(pareto_dominates((double[]){1, 0}, (double[]){0, 1}, 2));
    assert_int_equal(pareto_front(on, points, 0, 2), 0);
}

/* ---- hypervolume ---- */

/* Volume of the union of boxes: over all subsets, the volume of what they share, with alternating sign. */
static double by_inclusion(const double *points, size_t n, size_t d, const double *reference) {
    double sum = 0;
    for (size_t subset = 1; subset < (size_t)1 << n; subset++) {
        double box = -1;
        for (size_t k = 0; k < d; k++) {
            double low = INFINITY;
            for (size_t i = 0; i < n; i++) {
                low = subset >> i & 1 ? fmin(low, points[i * d + k]) : low;
            }
            box *= fmax(low - reference[k], 0);
        }
        for (size_t i = 0; i < n; i++) {
            box *= subset >> i & 1 ? -1 : 1;
        }
        sum += box;
    }
    return sum;
}

static void test_the_volume_is_that_of_inclusion_and_exclusion(void **state) {
    (void)state;
    double points[9 * PARETO_MAX_OBJECTIVES], reference[PARETO_MAX_OBJECTIVES];
    for (size_t d = 1; d <= PARETO_MAX_OBJECTIVES; d++) {
        for (size_t n = 0; n <= 9; n++) {
            for (uint64_t seed = 1; seed <= 20; seed++) {
                draw_points(points, n, d, 1000 * d + 100 * n + seed);
                for (size_t k = 0; k < d; k++) {
                    reference[k] = k % 2 ? -0.25 : 0.1; /* some points are below it */
                }
                near(volume_of(points, n, d, reference), by_inclusion(points, n, d, reference), 1e-10);
            }
        }
    }
}

static void test_the_volume_is_that_of_sampling(void **state) {
    (void)state;
    enum { N = 40, D = 3, N_SAMPLES = 200000 };
    double points[N * D];
    struct rng rng;
    int n_below = 0;
    draw_points(points, N, D, 5);
    rng_seed(&rng, 6);
    for (int s = 0; s < N_SAMPLES; s++) {
        const double x[D] = {rng_uniform(&rng), rng_uniform(&rng), rng_uniform(&rng)};
        bool below = false;
        for (int i = 0; i < N && !below; i++) {
            below = x[0] < points[D * i] && x[1] < points[D * i + 1] && x[2] < points[D * i + 2];
        }
        n_below += below;
    }
    near(volume_of(points, N, D, (double[D]){0, 0, 0}), (double)n_below / N_SAMPLES, 0.005);
}

static void test_the_volume_by_hand_and_as_units_change(void **state) {
    (void)state;
    const double points[] = {1, 3, /**/ 2, 2, /**/ 3, 1, /**/ 1, 1};
    double scaled[8];
    near(volume_of(points, 4, 2, (double[]){0, 0}), 6, 1e-12);
    near(volume_of(points, 4, 2, (double[]){1, 1}), 1, 1e-12); /* of (2, 2) alone */
    near(volume_of(points, 4, 2, (double[]){3, 3}), 0, 0);
    for (int i = 0; i < 4; i++) {
        scaled[2 * i] = 10 * points[2 * i] - 100;
        scaled[2 * i + 1] = points[2 * i + 1] / 2 + 1;
    }
    near(volume_of(scaled, 4, 2, (double[]){-100, 1}), 6 * 10 / 2.0, 1e-9);
}

static void test_the_order_and_dominated_points_say_nothing(void **state) {
    (void)state;
    enum { N = 12, D = 4 };
    double points[2 * N * D];
    const double reference[D] = {0, 0, 0, 0};
    draw_points(points, N, D, 17);
    const double whole = volume_of(points, N, D, reference);
    for (int i = 0; i < N; i++) { /* after them the same reversed, each a little worse */
        for (int k = 0; k < D; k++) {
            points[(N + i) * D + k] = points[(N - 1 - i) * D + k] - (i % 2 ? 0.01 : 0);
        }
    }
    near(volume_of(points, 2 * N, D, reference), whole, 1e-12);
    near(volume_of(points + 0, N, D, reference), whole, 0);
    points[0] = NAN;
    points[N * D + (N - 1) * D] = NAN; /* a point and its copy */
    assert_true(volume_of(points, 2 * N, D, reference) <= whole);
}

static void test_a_volume_that_cannot_be_is_refused(void **state) {
    (void)state;
    double out = 7;
    const double points[] = {1, 2}, reference[] = {0, NAN, 0, 0, 0, 0, 0, 0, 0};
    assert_int_equal(pareto_hypervolume(&out, points, 1, 2, reference, NULL), GENARM_EINVAL);
    assert_int_equal(pareto_hypervolume(&out, points, 0, 0, reference, NULL), GENARM_EINVAL);
    assert_int_equal(pareto_hypervolume(&out, points, 0, PARETO_MAX_OBJECTIVES + 1, reference, NULL), GENARM_EINVAL);
    assert_true(out == 7);
}

static void test_the_worst_values_are_a_reference(void **state) {
    (void)state;
    const double points[] = {1, 3, /**/ 2, 0, /**/ NAN, -5};
    double reference[2];
    pareto_worst(reference, points, 3, 2);
    assert_true(reference[0] == 1 && reference[1] == 0);
    pareto_worst(reference, points, 0, 2);
    assert_true(isnan(reference[0]));
}

/* ---- preferences ---- */

static void test_mip_is_1_where_each_preference_got_the_best_and_0_at_the_worst(void **state) {
    (void)state;
    const double preferences[] = {1, 0, /**/ 0, 1, /**/ 2, 2};
    const double best[] = {5, 0, /**/ 0, 30, /**/ 5, 30}, worst[] = {0, 30, /**/ 5, 0, /**/ 0, 0};
    struct pareto_scale scale;
    double all[12];
    memcpy(all, best, sizeof best);
    memcpy(all + 6, worst, sizeof worst);
    pareto_scale_of(&scale, all, 6, 2);
    assert_true(scale.low[0] == 0 && scale.high[0] == 5 && scale.high[1] == 30);
    near(pareto_mip(preferences, best, 3, 2, &scale), 1, 1e-12);
    near(pareto_mip(preferences, worst, 3, 2, &scale), 0, 1e-12);
    near(pareto_mip(preferences, best, 3, 2, NULL), (5 + 30 + 17.5) / 3, 1e-12);
    assert_true(isnan(pareto_mip(preferences, best, 0, 2, NULL)));
    near(pareto_mip((double[]){0, 0, 1, 0}, (double[]){1, 1, 3, 1}, 2, 2, NULL), 3, 1e-12); /* the first asks for nothing */
}

/* ---- over prompts ---- */

enum { N_POINTS = 5, N_PROMPTS = 40, N_OBJECTIVES = 2 };

static void draw_rewards(double *rewards) {
    struct rng rng;
    rng_seed(&rng, 31);
    for (size_t p = 0; p < N_POINTS; p++) {
        for (size_t i = 0; i < N_PROMPTS; i++) {
            rewards[(2 * p + 0) * N_PROMPTS + i] = (double)p + 0.3 * rng_normal(&rng);
            rewards[(2 * p + 1) * N_PROMPTS + i] = 4 - (double)p + 0.3 * rng_normal(&rng);
        }
    }
}

static void test_the_volume_of_means_has_an_interval_around_it(void **state) {
    (void)state;
    double rewards[N_POINTS * N_OBJECTIVES * N_PROMPTS], points[N_POINTS * N_OBJECTIVES];
    const double reference[] = {-1, -1}, ideal[] = {0, 4, 1, 3, 2, 2, 3, 1, 4, 0};
    const struct pareto_rewards r = {rewards, N_POINTS, N_OBJECTIVES, N_PROMPTS};
    struct interval out;
    draw_rewards(rewards);
    pareto_means(points, &r);
    assert_int_equal(pareto_hypervolume_interval(&out, &r, reference, NULL, NULL), GENARM_OK);
    near(out.value, volume_of(points, N_POINTS, N_OBJECTIVES, reference), 1e-12);
    const double truth = volume_of(ideal, N_POINTS, N_OBJECTIVES, reference);
    assert_true(out.low < truth && truth < out.high && out.high - out.low < 2);
    rewards[3] = NAN; /* one answer without a reward */
    assert_int_equal(pareto_hypervolume_interval(&out, &r, reference, NULL, NULL), GENARM_OK);
    assert_true(isfinite(out.value) && isfinite(out.low));
    const struct pareto_rewards none = {rewards, N_POINTS, N_OBJECTIVES, 0};
    assert_int_equal(pareto_hypervolume_interval(&out, &none, reference, NULL, NULL), GENARM_OK);
    assert_true(isnan(out.value));
}

static void test_mip_has_an_interval_around_it(void **state) {
    (void)state;
    double rewards[N_POINTS * N_OBJECTIVES * N_PROMPTS], points[N_POINTS * N_OBJECTIVES], preferences[N_POINTS * 2];
    const struct pareto_rewards r = {rewards, N_POINTS, N_OBJECTIVES, N_PROMPTS};
    struct pareto_scale scale;
    struct interval out;
    draw_rewards(rewards);
    for (int p = 0; p < N_POINTS; p++) {
        preferences[2 * p] = p / 4.0;
        preferences[2 * p + 1] = 1 - p / 4.0;
    }
    pareto_means(points, &r);
    pareto_scale_of(&scale, points, N_POINTS, N_OBJECTIVES);
    assert_int_equal(pareto_mip_interval(&out, preferences, &r, &scale, NULL, NULL), GENARM_OK);
    near(out.value, pareto_mip(preferences, points, N_POINTS, N_OBJECTIVES, &scale), 1e-12);
    near(out.value, 0.75, 0.05); /* mean of p^2 + (1 - p)^2 */
    assert_true(out.low < out.value && out.value < out.high && out.high - out.low < 0.1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_front_is_what_nothing_dominates),
        cmocka_unit_test(test_the_volume_is_that_of_inclusion_and_exclusion),
        cmocka_unit_test(test_the_volume_is_that_of_sampling),
        cmocka_unit_test(test_the_volume_by_hand_and_as_units_change),
        cmocka_unit_test(test_the_order_and_dominated_points_say_nothing),
        cmocka_unit_test(test_a_volume_that_cannot_be_is_refused),
        cmocka_unit_test(test_the_worst_values_are_a_reference),
        cmocka_unit_test(test_mip_is_1_where_each_preference_got_the_best_and_0_at_the_worst),
        cmocka_unit_test(test_the_volume_of_means_has_an_interval_around_it),
        cmocka_unit_test(test_mip_has_an_interval_around_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
