/* Memory that is made zero. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"

enum { SIZE = 5 << 20, BEFORE = 4001, AFTER = 77 };

/* Of memory that was used, n bytes from BEFORE on and no others. */
static void check(size_t n) {
    unsigned char *p = malloc(SIZE);
    assert_non_null(p);
    memset(p, 0xa5, SIZE);
    memory_zero(p + BEFORE, n);
    for (size_t i = 0; i < SIZE; i++) {
        if (p[i] != (i < BEFORE || i >= BEFORE + n ? 0xa5 : 0)) {
            fail_msg("byte %zu of %zu is %d", i, n, p[i]);
        }
    }
    memset(p, 1, SIZE); /* it can be used again */
    free(p);
}

static void test_zero_is_what_was_asked_for_and_no_more(void **state) {
    (void)state;
    check(0);
    check(1);
    check(5000); /* no whole page, or one */
    check(SIZE - BEFORE - AFTER);
    check(SIZE - BEFORE);
}

#if defined(__linux__)
static void test_zero_takes_no_memory_before_it_is_used(void **state) {
    (void)state;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *p = aligned_alloc(page, SIZE), there = 1;
    assert_non_null(p);
    memset(p, 0xa5, SIZE);
    memory_zero(p, SIZE);
    assert_int_equal(mincore(p + SIZE / 2 / page * page, page, &there), 0);
    assert_int_equal(there & 1, 0);
    free(p);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zero_is_what_was_asked_for_and_no_more),
#if defined(__linux__)
        cmocka_unit_test(test_zero_takes_no_memory_before_it_is_used),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
