/* Errors and the log. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/utf8.h"

static void test_every_code_has_its_own_meaning(void **state) {
    (void)state;
    static const int codes[] = {
#define CODE(name, value, meaning) value,
        GENARM_ERRORS(CODE)
#undef CODE
    };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        assert_string_not_equal(genarm_status_text(codes[i]), "unknown error");
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(codes[i], codes[j]);
            assert_string_not_equal(genarm_status_text(codes[i]), genarm_status_text(codes[j]));
        }
    }
    assert_string_equal(genarm_status_text(12345), "unknown error");
}

static void test_the_innermost_place_and_hint_win(void **state) {
    (void)state;
    struct genarm_error err;
    int rc = error_set(&err, GENARM_EFORMAT, "token %d is bad", 7);
    assert_int_equal(rc, GENARM_EFORMAT);
    assert_string_equal(err.where, "");
    assert_string_equal(err.hint, "");
    rc = error_hint(&err, error_at(&err, rc, "line %d", 3), "do this");
    rc = error_hint(&err, error_at(&err, rc, "file"), "do that");
    assert_int_equal(rc, GENARM_EFORMAT);
    assert_int_equal(err.code, GENARM_EFORMAT);
    assert_string_equal(err.what, "token 7 is bad");
    assert_string_equal(err.where, "line 3");
    assert_string_equal(err.hint, "do this");
    error_set(&err, GENARM_EIO, "another");
    assert_string_equal(err.where, "");
    assert_string_equal(err.hint, "");
}

static void test_success_leaves_the_error_untouched(void **state) {
    (void)state;
    struct genarm_error err = {.code = 42};
    assert_int_equal(error_at(&err, GENARM_OK, "place"), GENARM_OK);
    assert_int_equal(error_hint(&err, GENARM_OK, "hint"), GENARM_OK);
    assert_int_equal(err.code, 42);
    assert_string_equal(err.where, "");
}

static void test_a_caller_may_pass_no_error(void **state) {
    (void)state;
    assert_int_equal(error_set(NULL, GENARM_EIO, "x"), GENARM_EIO);
    assert_int_equal(error_at(NULL, GENARM_EIO, "x"), GENARM_EIO);
    assert_int_equal(error_hint(NULL, GENARM_EIO, "x"), GENARM_EIO);
    assert_int_equal(error_nomem(NULL, "x"), GENARM_ENOMEM);
}

static void test_a_long_text_ends_in_dots_after_a_whole_character(void **state) {
    (void)state;
    struct genarm_error err;
    char text[4096];
    for (size_t shift = 0; shift < 4; shift++) { /* so that the cut falls on every byte of a character */
        memset(text, 'x', shift);
        for (size_t i = shift; i + 3 < sizeof text; i += 3) {
            memcpy(text + i, "\xE2\x82\xAC", 3);
        }
        text[sizeof text - 4] = '\0';
        error_set(&err, GENARM_EIO, "%s", text);
        const size_t len = strlen(err.what);
        assert_in_range(len, sizeof err.what - 8, sizeof err.what - 1);
        assert_string_equal(err.what + len - 3, "...");
        assert_true(utf8_valid(err.what, len));
        assert_null(strchr(err.what, '?'));
    }
}

static void test_what_a_file_says_cannot_drive_a_terminal(void **state) {
    (void)state;
    struct genarm_error err;
    error_set(&err, GENARM_EIO, "%s", "a\033[31mb\nc\td\xFF\xC3(\xC2\x9Bz\x7F\xED\xA0\x80 \xC3\xA9 \xF0\x9F\x98\x80");
    assert_string_equal(err.what, "a?[31mb c d?"
                                  "?(?"
                                  "?z?"
                                  "?"
                                  "?"
                                  "? \xC3\xA9 \xF0\x9F\x98\x80");
}

struct lines {
    char last[64];
    enum genarm_log_level level;
    int n;
    bool inside, overlapped;
};

static void on_line(enum genarm_log_level level, const char *line, void *user) {
    struct lines *l = user;
    l->overlapped |= l->inside;
    l->inside = true;
    l->level = level;
    strncpy(l->last, line, sizeof l->last - 1);
    l->n++;
    l->inside = false;
}

static void test_log_lines_go_to_the_callback_until_it_is_taken_away(void **state) {
    (void)state;
    struct lines l = {0};
    log_line(GENARM_LOG_ERROR, "to nobody");
    genarm_log_set(on_line, &l);
    log_line(GENARM_LOG_INFO, "step %d", 5);
    assert_string_equal(l.last, "step 5");
    assert_int_equal(l.level, GENARM_LOG_INFO);
    genarm_log_set(NULL, NULL);
    log_line(GENARM_LOG_ERROR, "to nobody");
    assert_int_equal(l.n, 1);
}

static void *shout(void *unused) {
    for (int i = 0; i < 5000; i++) {
        log_line(GENARM_LOG_DEBUG, "line %d", i);
    }
    return unused;
}

static void test_log_calls_of_several_threads_are_serialised(void **state) {
    (void)state;
    struct lines l = {0};
    genarm_log_set(on_line, &l);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, shout, NULL), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    genarm_log_set(NULL, NULL);
    assert_int_equal(l.n, 4 * 5000);
    assert_false(l.overlapped);
}

static void test_utf8_is_what_rfc_3629_says(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t n, len;
    } cases[] = {
        {"a", 1, 1},
        {"\xC3\xA9", 2, 2},
        {"\xE2\x82\xAC", 3, 3},
        {"\xF0\x9F\x98\x80", 4, 4},
        {"", 0, 0},
        {"\xC3", 1, 0},
        {"\x80", 1, 0},
        {"\xC0\xAF", 2, 0},
        {"\xE0\x80\xAF", 3, 0},
        {"\xED\xA0\x80", 3, 0},
        {"\xF4\x90\x80\x80", 4, 0},
        {"\xF4\x8F\xBF\xBF", 4, 4},
        {"\xF5\x80\x80\x80", 4, 0},
        {"\xE2\x82", 2, 0},
        {"\xE2(\xAC", 3, 0},
        {"\0", 1, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(utf8_char(cases[i].bytes, cases[i].n), cases[i].len);
    }
    assert_true(utf8_valid("", 0));
    assert_true(utf8_valid("a\xC3\xA9z", 4));
    assert_false(utf8_valid("a\xC3\xA9z", 2));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_has_its_own_meaning),
        cmocka_unit_test(test_the_innermost_place_and_hint_win),
        cmocka_unit_test(test_success_leaves_the_error_untouched),
        cmocka_unit_test(test_a_caller_may_pass_no_error),
        cmocka_unit_test(test_a_long_text_ends_in_dots_after_a_whole_character),
        cmocka_unit_test(test_what_a_file_says_cannot_drive_a_terminal),
        cmocka_unit_test(test_log_lines_go_to_the_callback_until_it_is_taken_away),
        cmocka_unit_test(test_log_calls_of_several_threads_are_serialised),
        cmocka_unit_test(test_utf8_is_what_rfc_3629_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
