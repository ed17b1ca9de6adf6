/* What repeated measurements say. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/samples.h"

static void test_median_is_the_middle_one_or_the_mean_of_two(void **state) {
    (void)state;
    double odd[] = {5, 1, 100}, even[] = {4, 1, 2, 100}, one[] = {7};
    assert_true(samples_median(odd, 3) == 5);
    assert_true(samples_median(even, 4) == 3);
    assert_true(samples_median(one, 1) == 7);
}

static void test_deviation_is_that_of_a_sample(void **state) {
    (void)state;
    const double x[] = {2, 4, 4, 4, 5, 5, 7, 9};
    assert_true(samples_mean(x, 8) == 5);
    assert_true(fabs(samples_deviation(x, 8) - sqrt(32.0 / 7)) < 1e-12);
    assert_true(samples_deviation(x, 1) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_median_is_the_middle_one_or_the_mean_of_two),
        cmocka_unit_test(test_deviation_is_that_of_a_sample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
