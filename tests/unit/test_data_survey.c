/* Surveys: exact quantiles, duplicates and contradictions by content, prompts without their system messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "data/survey.h"

static void add(struct survey *s, const char *system, const char *prompt, const char *chosen, const char *rejected,
                const int64_t lengths[3]) {
    struct preference p = {.chosen = chosen, .rejected = rejected};
    if (system) {
        preference_add(&p, "system", system, NULL);
    }
    preference_add(&p, "user", prompt, NULL);
    if (survey_is_new(s, &p, NULL) == 1) {
        assert_int_equal(survey_add(s, &p, lengths, NULL), GENARM_OK);
    }
    preference_deinit(&p);
}

static void test_repetitions_are_found_by_content(void **state) {
    (void)state;
    static const int64_t lengths[3] = {1, 2, 1};
    struct survey s = {0};
    add(&s, NULL, "p", "a", "b", lengths);
    add(&s, NULL, "p", "a", "b", lengths); /* duplicate */
    add(&s, NULL, "p", "b", "a", lengths); /* contradiction */
    add(&s, NULL, "p", "ab", "", lengths); /* nothing is rejected */
    add(&s, "be kind", "p", "a", "b", lengths);
    add(&s, NULL, "q", "a", "b", lengths);
    assert_int_equal(s.n, 5);
    assert_int_equal(s.duplicates, 1);
    assert_int_equal(s.contradictions, 1);
    assert_int_equal(s.prompts.n, 2);
    assert_int_equal(s.with_system, 1);
    assert_int_equal(s.several_turns, 0);
    assert_int_equal(s.pairs, 4);
    assert_int_equal(s.chosen_longer, 4);
    assert_int_equal(s.difference, 4);
    assert_int_equal(s.lengths[SURVEY_REJECTED].n, 4);
    survey_deinit(&s);
}

static int compare(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void test_quantiles_are_those_of_the_sorted_lengths(void **state) {
    (void)state;
    enum { N = 1001 };
    struct survey s = {0};
    struct rng rng;
    int64_t values[N];
    char prompt[32];
    rng_seed(&rng, 7);
    for (int i = 0; i < N; i++) {
        values[i] = (int64_t)rng_below(&rng, 5000);
        snprintf(prompt, sizeof prompt, "%d", i);
        add(&s, NULL, prompt, "a", "b", (const int64_t[3]){values[i], 3, 4});
    }
    qsort(values, N, sizeof *values, compare);
    const struct lengths *l = &s.lengths[SURVEY_PROMPT];
    assert_int_equal(l->min, values[0]);
    assert_int_equal(l->max, values[N - 1]);
    assert_int_equal(lengths_quantile(l, 0.5), values[N / 2]);
    assert_int_equal(lengths_quantile(l, 0.95), values[950]);
    assert_int_equal(lengths_quantile(l, 1), values[N - 1]);
    assert_int_equal(lengths_quantile(&s.lengths[SURVEY_PAIR], 0.5), values[N / 2] + 4);
    survey_deinit(&s);
}

static void test_lengths_beyond_the_exact_ones_keep_the_largest(void **state) {
    (void)state;
    struct survey s = {0};
    assert_int_equal(lengths_quantile(&s.lengths[SURVEY_PROMPT], 0.5), 0);
    add(&s, NULL, "p", "a", "b", (const int64_t[3]){10, 1, 2});
    add(&s, NULL, "q", "a", "b", (const int64_t[3]){1000000, 1, 2});
    add(&s, NULL, "r", "a", "b", (const int64_t[3]){2000000, 1, 2});
    assert_int_equal(lengths_quantile(&s.lengths[SURVEY_PROMPT], 0.3), 10);
    assert_int_equal(lengths_quantile(&s.lengths[SURVEY_PROMPT], 0.95), 2000000);
    survey_deinit(&s);
}

static void test_a_set_of_many_fingerprints_loses_none(void **state) {
    (void)state;
    struct seen s = {0};
    for (uint64_t i = 0; i < 100000; i++) {
        assert_int_equal(seen_add(&s, rng_hash(1, i, 0), NULL), 1);
    }
    assert_int_equal(seen_add(&s, 0, NULL), 1);
    assert_int_equal(seen_add(&s, 0, NULL), 0);
    for (uint64_t i = 0; i < 100000; i++) {
        assert_true(seen_has(&s, rng_hash(1, i, 0)));
        assert_false(seen_has(&s, rng_hash(2, i, 0)));
    }
    seen_deinit(&s);
}

static void test_words_are_between_white_space(void **state) {
    (void)state;
    assert_int_equal(count_words(""), 0);
    assert_int_equal(count_words(" \n\t"), 0);
    assert_int_equal(count_words("one"), 1);
    assert_int_equal(count_words("  one two,\nthree  "), 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repetitions_are_found_by_content),
        cmocka_unit_test(test_quantiles_are_those_of_the_sorted_lengths),
        cmocka_unit_test(test_lengths_beyond_the_exact_ones_keep_the_largest),
        cmocka_unit_test(test_a_set_of_many_fingerprints_loses_none),
        cmocka_unit_test(test_words_are_between_white_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
