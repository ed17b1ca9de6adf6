/* Growable buffers with a maximum. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/strset.h"

static void test_appended_pieces_are_one_string(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    assert_null(b.data);
    assert_int_equal(buf_puts(&b, "", NULL), GENARM_OK);
    assert_string_equal(b.data, "");
    assert_int_equal(buf_puts(&b, "one", NULL), GENARM_OK);
    assert_int_equal(buf_append(&b, " two\0x", 6, NULL), GENARM_OK);
    assert_int_equal(buf_printf(&b, NULL, " %s %d", "three", 4), GENARM_OK);
    assert_int_equal(b.len, 17);
    assert_memory_equal(b.data, "one two\0x three 4", 18);
    buf_clear(&b);
    assert_int_equal(b.len, 0);
    assert_string_equal(b.data, "");
    buf_deinit(&b);
    assert_null(b.data);
}

static void test_the_maximum_is_reached_and_never_passed(void **state) {
    (void)state;
    struct genarm_error err;
    struct buf b;
    buf_init(&b, 100);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(buf_append(&b, "x", 1, &err), GENARM_OK);
    }
    assert_int_equal(buf_append(&b, "x", 1, &err), GENARM_EINVAL);
    assert_int_equal(buf_printf(&b, &err, "%d", 1), GENARM_EINVAL);
    assert_int_equal(buf_append(&b, "x", SIZE_MAX, &err), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "100 bytes"));
    assert_int_equal(b.len, 100);
    assert_int_equal(strlen(b.data), 100);
    assert_int_equal(buf_append(&b, "", 0, &err), GENARM_OK);
    buf_deinit(&b);
}

static void test_a_set_tells_a_string_from_its_beginnings(void **state) {
    (void)state;
    static char names[20000][8];
    struct strset set = {0};
    for (int i = 19999; i >= 0; i--) { /* long ones first: "12345" before "1234" */
        const size_t len = (size_t)snprintf(names[i], sizeof names[i], "%d", i);
        assert_int_equal(strset_add(&set, names[i], len, NULL, NULL), 1);
    }
    strset_deinit(&set);
}

static void test_a_set_finds_exactly_the_duplicates(void **state) {
    (void)state;
    static char names[5000][8];
    struct strset set = {0};
    size_t first = 99;
    for (int i = 0; i < 5000; i++) {
        const size_t len = (size_t)snprintf(names[i], sizeof names[i], "%d", i);
        assert_int_equal(strset_add(&set, names[i], len, &first, NULL), 1);
    }
    assert_int_equal(first, 99);
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(strset_add(&set, names[i], strlen(names[i]), &first, NULL), 0);
        assert_int_equal(first, i);
    }
    assert_int_equal(strset_add(&set, "12", 1, NULL, NULL), 0); /* "1" */
    assert_int_equal(strset_add(&set, "", 0, NULL, NULL), 1);
    assert_int_equal(strset_add(&set, "", 0, NULL, NULL), 0);
    strset_deinit(&set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_appended_pieces_are_one_string),
        cmocka_unit_test(test_the_maximum_is_reached_and_never_passed),
        cmocka_unit_test(test_a_set_finds_exactly_the_duplicates),
        cmocka_unit_test(test_a_set_tells_a_string_from_its_beginnings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
