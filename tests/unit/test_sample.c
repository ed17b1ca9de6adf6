/* Drawing tokens: frequencies, filters, seeds, bad parameters. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guide/sample.h"

enum { N = 8, DRAWS = 20000 };

static const float logp[N] = {-1.2f, -2.0f, -0.9f, -4.0f, -3.0f, -2.5f, -INFINITY, -6.0f};

static struct sampler make(struct genarm_sampling params) {
    struct sampler s;
    struct genarm_error err;
    assert_int_equal(sampler_init(&s, &params, N, &err), GENARM_OK);
    return s;
}

static void count(struct sampler *s, int counts[N]) {
    memset(counts, 0, N * sizeof *counts);
    for (int i = 0; i < DRAWS; i++) {
        counts[sampler_draw(s, logp)]++;
    }
}

/* Pearson's chi-square of the counts against probabilities proportional to p; *df: degrees of freedom. */
static double chi_square(const int counts[N], const double p[N], int *df) {
    double total = 0.0, x = 0.0;
    *df = -1;
    for (int i = 0; i < N; i++) {
        total += p[i];
    }
    for (int i = 0; i < N; i++) {
        const double want = DRAWS * p[i] / total;
        if (p[i] == 0.0) {
            assert_int_equal(counts[i], 0);
        } else {
            x += (counts[i] - want) * (counts[i] - want) / want;
            ++*df;
        }
    }
    return x;
}

/* 99.99 % quantiles of chi-square for 1 .. 7 degrees of freedom */
static const double limit[] = {0.0, 15.14, 18.42, 21.11, 23.51, 25.74, 27.86, 29.88};

/* The distribution that is told, against the one that is drawn from; and draws from the former. */
static void check_told(struct sampler *s, const double p[N]) {
    float told[N];
    int counts[N] = {0}, df;
    double total = 0.0;
    for (int i = 0; i < N; i++) {
        total += p[i];
    }
    sampler_distribution(s, logp, told);
    for (int i = 0; i < N; i++) {
        assert_true(fabs((double)told[i] - p[i] / total) < 1e-6);
        told[i] *= 3.0f; /* proportions are enough to draw from */
    }
    for (int i = 0; i < DRAWS; i++) {
        counts[sampler_draw_from(s, told)]++;
    }
    assert_true(chi_square(counts, p, &df) <= limit[df]);
}

static void check(struct genarm_sampling params, const double p[N]) {
    struct sampler s = make(params);
    int counts[N], df;
    count(&s, counts);
    const double x = chi_square(counts, p, &df);
    if (x > limit[df]) {
        fail_msg("chi-square %g with %d degrees of freedom", x, df);
    }
    check_told(&s, p);
    sampler_deinit(&s);
}

static void probabilities(double p[N], double temperature) {
    for (int i = 0; i < N; i++) {
        p[i] = exp((double)logp[i] / temperature);
    }
}

static void test_frequencies_follow_the_distribution(void **state) {
    (void)state;
    double p[N];
    probabilities(p, 1.0);
    check(genarm_sampling_default(), p);
}

/* The same distribution, its tokens far apart in a vocabulary of several blocks, at their edges too. */
static void test_frequencies_follow_the_distribution_in_a_large_vocabulary(void **state) {
    (void)state;
    enum { LARGE = 5000 };
    static const int32_t at[N] = {0, 1023, 1024, 2500, 3071, 3072, 4096, 4999};
    struct genarm_sampling params = genarm_sampling_default();
    struct sampler s;
    struct genarm_error err;
    float large[LARGE];
    double p[N];
    int counts[N] = {0}, df;
    for (int i = 0; i < LARGE; i++) {
        large[i] = -INFINITY;
    }
    for (int i = 0; i < N; i++) {
        large[at[i]] = logp[i];
    }
    assert_int_equal(sampler_init(&s, &params, LARGE, &err), GENARM_OK);
    for (int draw = 0; draw < DRAWS; draw++) {
        const int32_t t = sampler_draw(&s, large);
        int i = 0;
        while (i < N && at[i] != t) {
            i++;
        }
        assert_in_range(i, 0, N - 1);
        counts[i]++;
    }
    sampler_deinit(&s);
    probabilities(p, 1.0);
    assert_true(chi_square(counts, p, &df) <= limit[df]);
}

static void test_temperature_divides_log_probabilities(void **state) {
    (void)state;
    double p[N];
    probabilities(p, 2.5);
    struct genarm_sampling params = genarm_sampling_default();
    params.temperature = 2.5f;
    check(params, p);
}

static void test_top_k_keeps_the_k_likeliest(void **state) {
    (void)state;
    double p[N];
    probabilities(p, 1.0);
    p[3] = p[4] = p[5] = p[7] = 0.0;
    struct genarm_sampling params = genarm_sampling_default();
    params.top_k = 3;
    check(params, p);
}

static void test_top_p_keeps_the_smallest_set_that_reaches_p(void **state) {
    (void)state;
    double p[N];
    probabilities(p, 1.0); /* .407, .301, .135, .082, .050, .018, .002 of .995 */
    p[4] = p[3] = p[7] = 0.0;
    struct genarm_sampling params = genarm_sampling_default();
    params.top_p = 0.9f; /* .4066 + .3012 + .1353 = .8431 of .9953 = .847; with .0821 .930 */
    check(params, p);
}

static void test_min_p_is_relative_to_the_likeliest(void **state) {
    (void)state;
    double p[N];
    probabilities(p, 1.0);
    p[3] = p[4] = p[7] = 0.0; /* e^-3.0 / e^-0.9 = .122, e^-2.5 / e^-0.9 = .202 */
    struct genarm_sampling params = genarm_sampling_default();
    params.min_p = 0.15f;
    check(params, p);
}

static void test_temperature_zero_takes_the_likeliest(void **state) {
    (void)state;
    struct genarm_sampling params = genarm_sampling_default();
    params.temperature = 0.0f;
    struct sampler s = make(params);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(sampler_draw(&s, logp), 2);
    }
    sampler_deinit(&s);
}

static void test_a_temperature_whose_inverse_overflows_takes_the_likeliest(void **state) {
    (void)state;
    struct genarm_sampling params = genarm_sampling_default();
    params.temperature = 1e-40f;
    struct sampler s = make(params);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(sampler_draw(&s, logp), 2);
    }
    sampler_deinit(&s);
}

static void test_the_first_of_the_likeliest_of_many_tokens_is_taken(void **state) {
    (void)state;
    enum { MANY = 3001 };
    static const int32_t places[] = {0, 1, 1022, 1023, 1024, 2047, 2048, MANY - 1};
    struct genarm_sampling params = genarm_sampling_default();
    struct genarm_error err;
    struct sampler s;
    float *x = calloc(MANY, sizeof *x);
    params.temperature = 0;
    assert_int_equal(sampler_init(&s, &params, MANY, &err), GENARM_OK);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        for (size_t j = i; j < sizeof places / sizeof *places; j++) {
            for (int32_t t = 0; t < MANY; t++) {
                x[t] = t % 5 == 4 ? -INFINITY : -2.0f - (float)(t % 11);
            }
            x[places[j]] = x[places[i]] = -1.5f;
            assert_int_equal(sampler_draw(&s, x), places[i]);
        }
    }
    x[0] = NAN;
    x[MANY - 1] = -1.0f;
    assert_int_equal(sampler_draw(&s, x), MANY - 1);
    for (int32_t t = 0; t < MANY; t++) {
        x[t] = -INFINITY;
    }
    assert_int_equal(sampler_draw(&s, x), 0);
    sampler_deinit(&s);
    free(x);
}

static void test_top_k_one_is_greedy(void **state) {
    (void)state;
    struct genarm_sampling params = genarm_sampling_default();
    params.top_k = 1;
    struct sampler s = make(params);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(sampler_draw(&s, logp), 2);
    }
    sampler_deinit(&s);
}

static void test_top_p_of_a_large_vocabulary_equals_a_full_sort(void **state) {
    (void)state;
    enum { LARGE = 5000 };
    float *large = calloc(LARGE, sizeof *large);
    struct rng r;
    rng_seed(&r, 3);
    for (int i = 0; i < LARGE; i++) {
        large[i] = (float)(0.1 * rng_normal(&r)); /* flat: thousands are needed for .5 */
    }
    struct genarm_sampling params = genarm_sampling_default();
    params.top_p = 0.5f;
    struct sampler s;
    struct genarm_error err;
    assert_int_equal(sampler_init(&s, &params, LARGE, &err), GENARM_OK);
    double total = 0.0;
    for (int i = 0; i < LARGE; i++) {
        total += exp((double)large[i]);
    }
    for (int draw = 0; draw < 2000; draw++) {
        const int32_t t = sampler_draw(&s, large);
        double above = 0.0; /* a token is kept while what is likelier has not reached the share */
        for (int i = 0; i < LARGE && draw % 100 == 0; i++) {
            above += large[i] > large[t] ? exp((double)large[i]) : 0.0;
        }
        assert_true(above <= 0.5001 * total);
    }
    sampler_deinit(&s);
    free(large);
}

static void test_same_seed_same_draws(void **state) {
    (void)state;
    struct genarm_sampling params = genarm_sampling_default();
    params.seed = 42;
    struct sampler a = make(params), b = make(params);
    params.seed = 43;
    struct sampler c = make(params);
    int differences = 0;
    for (int i = 0; i < 100; i++) {
        const int32_t t = sampler_draw(&a, logp);
        assert_int_equal(t, sampler_draw(&b, logp));
        differences += t != sampler_draw(&c, logp);
    }
    assert_true(differences > 20);
    sampler_deinit(&a);
    sampler_deinit(&b);
    sampler_deinit(&c);
}

static void test_parameters_out_of_range_are_refused(void **state) {
    (void)state;
    const struct genarm_sampling good = genarm_sampling_default();
    struct genarm_sampling bad[8];
    for (int i = 0; i < 8; i++) {
        bad[i] = good;
    }
    bad[0].temperature = -1.0f;
    bad[1].temperature = NAN;
    bad[2].temperature = INFINITY;
    bad[3].top_k = -1;
    bad[4].top_p = 0.0f;
    bad[5].top_p = 1.5f;
    bad[6].min_p = 1.0f;
    bad[7].min_p = NAN;
    for (int i = 0; i < 8; i++) {
        struct sampler s;
        struct genarm_error err = {0};
        assert_int_equal(sampler_init(&s, &bad[i], N, &err), GENARM_EINVAL);
        assert_true(err.what[0] != '\0');
    }
}

static void test_a_greedy_distribution_is_all_on_the_likeliest(void **state) {
    (void)state;
    struct genarm_sampling params = genarm_sampling_default();
    params.temperature = 0.0f;
    struct sampler s = make(params);
    float p[N];
    sampler_distribution(&s, logp, p);
    for (int i = 0; i < N; i++) {
        assert_true(p[i] == (i == 2 ? 1.0f : 0.0f));
    }
    sampler_deinit(&s);
}

static void test_nothing_is_drawn_where_all_is_zero(void **state) {
    (void)state;
    struct sampler s = make(genarm_sampling_default());
    const float none[N] = {0}, one[N] = {[5] = 1e-30f};
    assert_int_equal(sampler_draw_from(&s, none), -1);
    assert_int_equal(sampler_draw_from(&s, one), 5);
    sampler_deinit(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frequencies_follow_the_distribution),
        cmocka_unit_test(test_a_greedy_distribution_is_all_on_the_likeliest),
        cmocka_unit_test(test_nothing_is_drawn_where_all_is_zero),
        cmocka_unit_test(test_frequencies_follow_the_distribution_in_a_large_vocabulary),
        cmocka_unit_test(test_temperature_divides_log_probabilities),
        cmocka_unit_test(test_top_k_keeps_the_k_likeliest),
        cmocka_unit_test(test_top_p_keeps_the_smallest_set_that_reaches_p),
        cmocka_unit_test(test_min_p_is_relative_to_the_likeliest),
        cmocka_unit_test(test_temperature_zero_takes_the_likeliest),
        cmocka_unit_test(test_a_temperature_whose_inverse_overflows_takes_the_likeliest),
        cmocka_unit_test(test_the_first_of_the_likeliest_of_many_tokens_is_taken),
        cmocka_unit_test(test_top_k_one_is_greedy),
        cmocka_unit_test(test_top_p_of_a_large_vocabulary_equals_a_full_sort),
        cmocka_unit_test(test_same_seed_same_draws),
        cmocka_unit_test(test_parameters_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
