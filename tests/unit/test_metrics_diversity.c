/* n-grams: by hand, against counting pair by pair, and what repetition and pooling do. */
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
#include "eval/diversity.h"

static void near(double value, double expected, double tolerance) {
    if (!(fabs(value - expected) <= tolerance)) {
        fail_msg("%.9g is not %.9g", value, expected);
    }
}

static struct diversity_counts words(const char *text) {
    struct diversity_counts out;
    assert_int_equal(diversity_count_words(&out, text, NULL), GENARM_OK);
    return out;
}

static double distinct(const char *const *texts, size_t n_texts, int n) {
    double out = 7;
    assert_int_equal(diversity_distinct_words(&out, texts, n_texts, n, NULL), GENARM_OK);
    return out;
}

static void test_numbers_by_hand(void **state) {
    (void)state;
    const struct diversity_counts c = words(" the cat\tthe cat \n the dog ");
    assert_true(c.total[1] == 6 && c.unique[1] == 3);
    assert_true(c.total[2] == 5 && c.unique[2] == 3); /* the cat, cat the, the dog */
    assert_true(c.total[3] == 4 && c.unique[3] == 3); /* the cat the, cat the cat, cat the dog */
    assert_true(c.total[4] == 3 && c.unique[4] == 3);
    near(diversity_rep(&c, 2), 40, 1e-12);
    near(diversity_rep(&c, 3), 25, 1e-12);
    near(diversity_of(&c), 0.6 * 0.75, 1e-12);
}

static void test_case_and_punctuation_count_and_prefixes_are_words(void **state) {
    (void)state;
    const struct diversity_counts c = words("a A a. ab abc a");
    assert_int_equal(c.unique[1], 5);
}

static void test_texts_without_repetition_are_1_and_endless_ones_nearly_0(void **state) {
    (void)state;
    char text[4001] = "";
    struct diversity_counts c = words("every word here is another one");
    near(diversity_of(&c), 1, 0);
    for (int i = 0; i < 1000; i++) {
        memcpy(text + 4 * i, "yes ", 5);
    }
    c = words(text);
    assert_true(c.total[4] == 997 && c.unique[4] == 1 && diversity_of(&c) < 1e-8);
}

static void test_no_text_and_short_texts(void **state) {
    (void)state;
    const char *const texts[] = {"", "one", " \n"};
    struct diversity_counts c = words("");
    assert_true(c.total[1] == 0 && c.unique[1] == 0);
    near(diversity_of(&c), 1, 0);
    c = words("one");
    assert_true(c.total[1] == 1 && c.unique[1] == 1 && c.total[2] == 0 && c.unique[2] == 0);
    near(distinct(texts, 3, 1), 1, 0);
    assert_true(isnan(distinct(texts, 3, 2)) && isnan(distinct(texts, 0, 1)));
    double out;
    assert_int_equal(diversity_distinct_words(&out, texts, 3, 0, NULL), GENARM_EINVAL);
    assert_int_equal(diversity_distinct_words(&out, texts, 3, DIVERSITY_MAX_N + 1, NULL), GENARM_EINVAL);
}

/* Different n-grams, by comparing each with all before it. */
static int64_t count_slowly(const int32_t *tokens, size_t n, size_t length) {
    int64_t unique = 0;
    for (size_t i = 0; i + length <= n; i++) {
        bool fresh = true;
        for (size_t j = 0; j < i && fresh; j++) {
            fresh = memcmp(tokens + i, tokens + j, length * sizeof *tokens) != 0;
        }
        unique += fresh;
    }
    return unique;
}

static void test_tokens_are_counted_as_pair_by_pair(void **state) {
    (void)state;
    int32_t tokens[300];
    struct rng rng;
    rng_seed(&rng, 4);
    for (size_t n = 0; n <= 300; n += 25) {
        struct diversity_counts out;
        for (size_t i = 0; i < n; i++) {
            tokens[i] = (int32_t)rng_below(&rng, 6) - 2;
        }
        assert_int_equal(diversity_count_tokens(&out, tokens, n, NULL), GENARM_OK);
        for (size_t k = 1; k <= DIVERSITY_MAX_N; k++) {
            assert_int_equal(out.total[k], n >= k ? (int64_t)(n - k + 1) : 0);
            assert_int_equal(out.unique[k], count_slowly(tokens, n, k));
        }
    }
}

static void test_words_are_counted_as_the_tokens_they_stand_for(void **state) {
    (void)state;
    static const char *const names[] = {"x", "xx", "y", "yx", "\xC3\xA9"};
    char text[1000] = "";
    int32_t tokens[200];
    struct diversity_counts by_tokens, by_words;
    struct rng rng;
    rng_seed(&rng, 9);
    for (int i = 0; i < 200; i++) {
        tokens[i] = (int32_t)rng_below(&rng, 5);
        strcat(strcat(text, names[tokens[i]]), i % 7 ? " " : "\r\n");
    }
    assert_int_equal(diversity_count_tokens(&by_tokens, tokens, 200, NULL), GENARM_OK);
    by_words = words(text);
    assert_memory_equal(&by_tokens, &by_words, sizeof by_words);
}

static void test_distinct_is_over_all_texts_and_rep_within_each(void **state) {
    (void)state;
    const char *const same[] = {"one two three four", "one two three four"};
    const char *const other[] = {"a b", "b a"};
    struct diversity_counts sum = {0}, counts[2] = {words(same[0]), words(same[1])};
    struct interval out;
    diversity_counts_add(&sum, &counts[0]);
    diversity_counts_add(&sum, &counts[1]);
    near(diversity_of(&sum), 1, 0);
    near(distinct(same, 2, 1), 0.5, 1e-12);
    near(distinct(same, 2, 2), 0.5, 1e-12);
    near(distinct(other, 2, 1), 0.5, 1e-12);
    near(distinct(other, 2, 2), 1, 0); /* "b b", from text to text, is none */
    assert_int_equal(diversity_interval(&out, counts, 2, NULL, NULL), GENARM_OK);
    assert_true(out.value == 1 && out.low == 1 && out.high == 1);
    counts[1] = words("no no no no no no");
    assert_int_equal(diversity_interval(&out, counts, 2, NULL, NULL), GENARM_OK);
    assert_true(out.value < 1 && out.low < out.value && out.high == 1);
    assert_int_equal(diversity_interval(&out, counts, 0, NULL, NULL), GENARM_OK);
    assert_true(isnan(out.value));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_by_hand),
        cmocka_unit_test(test_case_and_punctuation_count_and_prefixes_are_words),
        cmocka_unit_test(test_texts_without_repetition_are_1_and_endless_ones_nearly_0),
        cmocka_unit_test(test_no_text_and_short_texts),
        cmocka_unit_test(test_tokens_are_counted_as_pair_by_pair),
        cmocka_unit_test(test_words_are_counted_as_the_tokens_they_stand_for),
        cmocka_unit_test(test_distinct_is_over_all_texts_and_rep_within_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
