/* Drafts from the text itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "guide/lookup.h"

enum { MAX = 8 };

#define LENGTH(a) ((int32_t)(sizeof(a) / sizeof *(a)))

static void test_what_followed_last_time_is_drafted(void **state) {
    (void)state;
    const int32_t text[] = {9, 1, 2, 3, 4, 5, 6, 7, 1, 2, 3}, want[] = {4, 5, 6, 7};
    int32_t out[MAX];
    assert_int_equal(lookup_draft(text, LENGTH(text), 3, out, 4), 4);
    assert_memory_equal(out, want, sizeof want);
}

static void test_the_place_with_most_in_common_wins_then_the_latest(void **state) {
    (void)state;
    const int32_t longer[] = {1, 2, 3, 40, 2, 3, 50, 0, 1, 2, 3}, latest[] = {2, 3, 40, 2, 3, 50, 0, 2, 3};
    int32_t out[MAX];
    assert_int_equal(lookup_draft(longer, LENGTH(longer), 1, out, 1), 1);
    assert_int_equal(out[0], 40);
    assert_int_equal(lookup_draft(latest, LENGTH(latest), 1, out, 1), 1);
    assert_int_equal(out[0], 50);
}

static void test_a_loop_is_drafted_beyond_the_end_of_the_text(void **state) {
    (void)state;
    const int32_t text[] = {5, 1, 2, 3, 1, 2, 3}, want[] = {1, 2, 3, 1, 2, 3, 1, 2};
    int32_t out[MAX];
    assert_int_equal(lookup_draft(text, LENGTH(text), 2, out, MAX), MAX);
    assert_memory_equal(out, want, sizeof want);
}

static void test_nothing_is_drafted_where_too_little_is_in_common(void **state) {
    (void)state;
    const int32_t text[] = {1, 2, 3, 4, 5, 2, 3}, new[] = {1, 2, 3, 4};
    int32_t out[MAX];
    assert_int_equal(lookup_draft(text, LENGTH(text), 3, out, MAX), 0);
    assert_int_equal(lookup_draft(text, LENGTH(text), 2, out, MAX), MAX);
    assert_int_equal(lookup_draft(new, LENGTH(new), 1, out, MAX), 0);
    assert_int_equal(lookup_draft(new, 1, 1, out, MAX), 0);
    assert_int_equal(lookup_draft(new, 0, 1, out, MAX), 0);
    assert_int_equal(lookup_draft(text, LENGTH(text), 2, out, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_followed_last_time_is_drafted),
        cmocka_unit_test(test_the_place_with_most_in_common_wins_then_the_latest),
        cmocka_unit_test(test_a_loop_is_drafted_beyond_the_end_of_the_text),
        cmocka_unit_test(test_nothing_is_drafted_where_too_little_is_in_common),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
