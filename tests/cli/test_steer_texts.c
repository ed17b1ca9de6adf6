/* The texts of --arm-schedule and --logit-bias. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "steer.h"

static void test_schedules_are_read(void **state) {
    (void)state;
    struct genarm_knot *k;
    size_t n;
    assert_int_equal(steer_read_knots(&k, &n, "0:1", NULL), 0);
    assert_int_equal(n, 1);
    assert_true(k[0].position == 0 && k[0].factor == 1.0f);
    free(k);
    assert_int_equal(steer_read_knots(&k, &n, "0:1,32:-0.25,2147483647:1e-3", NULL), 0);
    assert_int_equal(n, 3);
    assert_true(k[1].position == 32 && k[1].factor == -0.25f && k[2].position == INT32_MAX && k[2].factor == 1e-3f);
    free(k);
}

static void test_what_is_no_schedule_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"", "1", "0:", "0:x", ":1", "0:1,", "0:1,,1:1", "0:1;1:0", "-1:1", " 0:1", "0:inf", "0:nan",
                                      "2147483648:1", "99999999999999999999:1", "0.5:1", "0:1 ,1:0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct genarm_knot *k = NULL;
        size_t n = 7;
        struct genarm_error err;
        assert_int_equal(steer_read_knots(&k, &n, bad[i], &err), CLI_USAGE);
        assert_true(!k && n == 7);
    }
}

static void test_biases_are_read_as_llama_cpp_reads_them(void **state) {
    (void)state;
    struct genarm_token_bias b;
    assert_int_equal(steer_read_bias(&b, "15043+1", NULL), 0);
    assert_true(b.token == 15043 && b.bias == 1.0f);
    assert_int_equal(steer_read_bias(&b, "7-0.5", NULL), 0);
    assert_true(b.token == 7 && b.bias == -0.5f);
    assert_int_equal(steer_read_bias(&b, "0-inf", NULL), 0);
    assert_true(b.token == 0 && b.bias == -INFINITY);
}

static void test_what_is_no_bias_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"", "7", "+1", "-1", "7+", "7*2", "7+x", "7+1x", "7+inf", "7+nan", "99999999999+1", "7 +1", " 7+1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct genarm_token_bias b = {3, 4.0f};
        struct genarm_error err;
        assert_int_equal(steer_read_bias(&b, bad[i], &err), CLI_USAGE);
        assert_true(b.token == 3 && b.bias == 4.0f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedules_are_read),
        cmocka_unit_test(test_what_is_no_schedule_is_refused),
        cmocka_unit_test(test_biases_are_read_as_llama_cpp_reads_them),
        cmocka_unit_test(test_what_is_no_bias_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
