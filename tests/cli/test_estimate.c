/* Tokens that are left of answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "estimate.h"

static void is(double value, double expected) { assert_true(value > expected - 1e-9 && value < expected + 1e-9); }

static void test_before_any_end_the_limit_is_what_is_known(void **state) {
    (void)state;
    const struct estimate limited = {.limit = 100, .n_tokens = 40}, unlimited = {.limit = -1, .n_tokens = 40};
    is(estimate_answer(&limited, 0), 100);
    is(estimate_answer(&limited, 40), 60);
    is(estimate_answer(&limited, 140), 0);
    is(estimate_answer(&unlimited, 40), -1);
}

static void test_answers_that_run_count_for_the_mean_of_those_that_ended(void **state) {
    (void)state;
    const struct estimate e = {.limit = -1, .n_ended = 2, .n_tokens = 60}; /* 10 and 20, and 30 of one that runs */
    is(estimate_answer(&e, 0), 30);
    is(estimate_answer(&e, 30), 30); /* an end is as likely as ever */
}

static void test_no_answer_is_expected_beyond_the_limit(void **state) {
    (void)state;
    const struct estimate e = {.limit = 50, .n_ended = 1, .n_tokens = 90};
    is(estimate_answer(&e, 0), 50);
    is(estimate_answer(&e, 45), 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_before_any_end_the_limit_is_what_is_known),
        cmocka_unit_test(test_answers_that_run_count_for_the_mean_of_those_that_ended),
        cmocka_unit_test(test_no_answer_is_expected_beyond_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
