/* The guided mixture and its normalisation. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"
#include "guide/combine.h"

enum { V = 49157 }; /* no multiple of a vector */

static float a[V], b[V], c[V], out[V], other[V];

static void fill(float *x, uint64_t seed, double scale) {
    struct rng r;
    rng_seed(&r, seed);
    for (size_t i = 0; i < V; i++) {
        x[i] = (float)(scale * rng_normal(&r));
    }
}

static double exact_log_sum_exp(const float *x, size_t n) {
    double max = -INFINITY, sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        max = fmax(max, (double)x[i]);
    }
    for (size_t i = 0; i < n; i++) {
        sum += exp((double)x[i] - max);
    }
    return max + log(sum);
}

static void test_log_sum_exp_equals_double_precision(void **state) {
    (void)state;
    for (int k = 0; k < 6; k++) {
        fill(a, (uint64_t)k, pow(4.0, k - 1));
        a[7] = -INFINITY;
        for (size_t n = 1; n <= V; n = n * 3 + 1) {
            const double want = exact_log_sum_exp(a, n);
            assert_true(fabs((double)log_sum_exp(a, n) - want) <= 1e-6 + 2e-7 * fabs(want));
        }
    }
}

static void test_mixture_equals_the_formula(void **state) {
    (void)state;
    fill(a, 1, 3.0);
    fill(b, 2, 2.0);
    fill(c, 3, 4.0);
    const struct part parts[] = {{a, V, 1.0f}, {b, V, 0.7f}, {c, V, 1.9f}};
    combine(out, parts, 3);
    static double want[V];
    double max = -INFINITY, sum = 0.0;
    const double za = exact_log_sum_exp(a, V), zb = exact_log_sum_exp(b, V), zc = exact_log_sum_exp(c, V);
    for (size_t i = 0; i < V; i++) {
        want[i] = (double)a[i] - za + (double)0.7f * ((double)b[i] - zb) + (double)1.9f * ((double)c[i] - zc);
        max = fmax(max, want[i]);
    }
    for (size_t i = 0; i < V; i++) {
        sum += exp(want[i] - max);
    }
    for (size_t i = 0; i < V; i++) {
        assert_true(fabs((double)out[i] - (want[i] - max - log(sum))) < 2e-5);
    }
}

static void test_weight_zero_is_the_base_to_the_bit(void **state) {
    (void)state;
    fill(a, 4, 3.0);
    fill(b, 5, 3.0);
    b[11] = -INFINITY;
    const struct part parts[] = {{a, V, 1.0f}, {b, V, 0.0f}};
    combine(out, parts, 2);
    combine(other, parts, 1);
    assert_memory_equal(out, other, sizeof out);
}

static void test_two_equal_arms_at_half_weight_are_one(void **state) {
    (void)state;
    fill(a, 6, 3.0);
    fill(b, 7, 3.0);
    const struct part two[] = {{a, V, 1.0f}, {b, V, 0.5f}, {b, V, 0.5f}}, one[] = {{a, V, 1.0f}, {b, V, 1.0f}};
    combine(out, two, 3);
    combine(other, one, 2);
    for (size_t i = 0; i < V; i++) {
        assert_true(fabsf(out[i] - other[i]) < 1e-5f);
    }
}

static void test_result_does_not_depend_on_the_parts_normalisers(void **state) {
    (void)state;
    fill(a, 8, 3.0);
    fill(b, 9, 3.0);
    const struct part parts[] = {{a, V, 1.0f}, {b, V, 1.5f}};
    combine(out, parts, 2);
    for (size_t i = 0; i < V; i++) {
        a[i] += 2.0f;
        b[i] -= 8.0f;
    }
    combine(other, parts, 2);
    for (size_t i = 0; i < V; i++) {
        assert_true(fabsf(out[i] - other[i]) < 2e-5f);
    }
}

static void test_tokens_that_a_part_lacks_get_no_probability(void **state) {
    (void)state;
    fill(a, 10, 3.0);
    fill(b, 11, 3.0);
    a[V - 1] = 50.0f; /* padding that the base likes */
    const struct part parts[] = {{a, V, 1.0f}, {b, V - 3, 1.0f}};
    combine(out, parts, 2);
    assert_true(isinf(out[V - 1]) && isinf(out[V - 3]) && isfinite(out[V - 4]));
    assert_true(fabsf(log_sum_exp(out, V)) < 1e-5f);
}

static void test_a_token_without_probability_in_a_part_has_none_whatever_the_weights_sign(void **state) {
    (void)state;
    static const float weights[] = {-1.5f, 1.5f};
    for (int i = 0; i < 2; i++) {
        fill(a, 14, 3.0);
        fill(b, 15, 3.0);
        a[5] = b[9] = a[7] = b[7] = -INFINITY;
        const struct part parts[] = {{a, V, 0.0f}, {b, V, weights[i]}}; /* the base counts also with weight 0 */
        assert_true(combine(out, parts, 2));
        assert_true(out[5] == -INFINITY && out[7] == -INFINITY && out[9] == -INFINITY && isfinite(out[6]));
        assert_true(fabsf(log_sum_exp(out, V)) < 1e-5f);
    }
}

static void test_entropy_equals_double_precision(void **state) {
    (void)state;
    for (int k = 0; k < 4; k++) {
        fill(a, (uint64_t)(16 + k), pow(3.0, k - 1));
        a[3] = -INFINITY;
        const double z = exact_log_sum_exp(a, V);
        double want = 0.0;
        for (size_t i = 0; i < V; i++) {
            want -= i == 3 ? 0.0 : exp((double)a[i] - z) * ((double)a[i] - z);
        }
        assert_true(fabs((double)entropy(a, V) - want) < 1e-5 * (1.0 + want));
    }
    for (int i = 0; i < V; i++) {
        b[i] = i == 4 ? 0.0f : -INFINITY;
        c[i] = 2.0f;
    }
    assert_true(entropy(b, V) == 0.0f);
    assert_true(fabs((double)entropy(c, V) - log((double)V)) < 1e-5);
    c[8] = NAN;
    assert_true(isnan(entropy(c, V)));
}

static void test_what_is_no_distribution_is_noticed(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY};
    for (size_t i = 0; i < 2; i++) {
        for (int at = 0; at < V; at += V / 7) {
            fill(a, 12, 3.0);
            fill(b, 13, 3.0);
            b[at] = bad[i];
            const struct part with[] = {{a, V, 1.0f}, {b, V, 0.5f}}, without[] = {{a, V, 1.0f}, {b, V, 0.0f}};
            assert_false(combine(out, with, 2));
            assert_true(combine(out, without, 2));
            assert_true(!isfinite(log_sum_exp(b, V)));
        }
    }
    fill(b, 13, 3.0);
    b[0] = 30.0f;
    const struct part heavy[] = {{a, V, 1.0f}, {b, V, 1e38f}};
    assert_false(combine(out, heavy, 2));
    for (int i = 0; i < V; i++) {
        a[i] = -INFINITY;
    }
    assert_true(!isfinite(log_sum_exp(a, V)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log_sum_exp_equals_double_precision),
        cmocka_unit_test(test_mixture_equals_the_formula),
        cmocka_unit_test(test_weight_zero_is_the_base_to_the_bit),
        cmocka_unit_test(test_two_equal_arms_at_half_weight_are_one),
        cmocka_unit_test(test_result_does_not_depend_on_the_parts_normalisers),
        cmocka_unit_test(test_tokens_that_a_part_lacks_get_no_probability),
        cmocka_unit_test(test_a_token_without_probability_in_a_part_has_none_whatever_the_weights_sign),
        cmocka_unit_test(test_entropy_equals_double_precision),
        cmocka_unit_test(test_what_is_no_distribution_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
