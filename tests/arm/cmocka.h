/* As much of cmocka as tests/unit/test_ops_few_exact.c takes, for processors that it is built for without libraries. */
#ifndef ARM_CMOCKA_H
#define ARM_CMOCKA_H

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

static jmp_buf cmocka_end; /* of the test that runs: 1 skipped, 2 failed */

#define fail_msg(...) (printf("%s:%d: ", __FILE__, __LINE__), printf(__VA_ARGS__), puts(""), longjmp(cmocka_end, 2))
#define skip() longjmp(cmocka_end, 1)
#define assert_true(a) ((a) ? (void)0 : fail_msg("%s does not hold", #a))
#define assert_non_null(a) assert_true((a) != NULL)
#define assert_int_equal(a, b) assert_true((a) == (b))
#define assert_string_equal(a, b) assert_true(strcmp(a, b) == 0)
#define assert_memory_equal(a, b, n) assert_true(memcmp(a, b, n) == 0)
#define cmocka_unit_test(test) {#test, test}
#define cmocka_run_group_tests(tests, before, after) cmocka_run(tests, sizeof(tests) / sizeof *(tests))

static int cmocka_run(const struct CMUnitTest *tests, size_t n) {
    static volatile int n_failed;
    for (volatile size_t i = 0; i < n; i++) {
        const int end = setjmp(cmocka_end);
        if (end == 0) {
            tests[i].run(NULL);
        }
        printf("%s %s\n", end == 0 ? "     ok" : end == 1 ? "skipped" : " FAILED", tests[i].name);
        n_failed += end == 2;
    }
    return n_failed;
}

#endif
