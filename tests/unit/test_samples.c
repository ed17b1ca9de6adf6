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

static void test_quantile_is_one_that_so_many_do_not_exceed(void **state) {
    (void)state;
    double x[100], one[] = {7}, few[] = {3, 1, 2};
    for (int i = 0; i < 100; i++) {
        x[i] = 100 - i;
    }
    assert_true(samples_quantile(x, 100, 0.95) == 95);
    assert_true(samples_quantile(x, 100, 0.99) == 99);
    assert_true(samples_quantile(x, 100, 0.07) == 7);
    assert_true(samples_quantile(x, 100, 1) == 100);
    assert_true(samples_quantile(one, 1, 0.5) == 7);
    assert_true(samples_quantile(few, 3, 0.5) == 2 && samples_quantile(few, 3, 0.99) == 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_median_is_the_middle_one_or_the_mean_of_two),
        cmocka_unit_test(test_deviation_is_that_of_a_sample),
        cmocka_unit_test(test_quantile_is_one_that_so_many_do_not_exceed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
