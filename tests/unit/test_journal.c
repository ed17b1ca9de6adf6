/* A file that grows by lines: what was appended is there, one process at a time, all or nothing. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/journal.h"
#include "support/golden.h"
#include "support/temp.h"

static void holds(const char *path, const char *expected) {
    struct buf b;
    struct genarm_error err = {0};
    buf_init(&b, 1 << 20);
    must(file_read(&b, path, &err), &err);
    assert_string_equal(b.data, expected);
    buf_deinit(&b);
}

static void test_what_was_appended_is_there_when_it_is_opened_again(void **state) {
    (void)state;
    const char *path = temp_path("lines");
    struct journal j;
    struct genarm_error err = {0};
    struct buf b;
    buf_init(&b, 1 << 20);
    must(journal_open(&j, path, &err), &err);
    assert_int_equal(j.size, 0);
    must(journal_append(&j, "one\n", 4, &err), &err);
    must(journal_append(&j, "two\nthree\n", 10, &err), &err);
    holds(path, "one\ntwo\nthree\n"); /* before it is closed */
    must(journal_read(&j, &b, 4, 3, &err), &err);
    assert_string_equal(b.data, "two");
    assert_int_equal(journal_read(&j, &b, 10, 5, &err), GENARM_EIO); /* there are four */
    journal_close(&j);
    must(journal_open(&j, path, &err), &err);
    assert_int_equal(j.size, 14);
    must(journal_cut(&j, 4, &err), &err);
    must(journal_append(&j, "2\n", 2, &err), &err);
    holds(path, "one\n2\n");
    must(journal_remove(&j, &err), &err);
    assert_false(file_exists(path));
    journal_close(&j); /* harmless */
    buf_deinit(&b);
}

static void test_only_one_has_it_open(void **state) {
    (void)state;
    const char *path = temp_path("one");
    struct journal j, other;
    struct genarm_error err = {0};
    must(journal_open(&j, path, &err), &err);
    assert_int_equal(journal_open(&other, path, &err), GENARM_EIO);
    assert_non_null(strstr(err.what, "another process"));
    assert_string_equal(err.where, path);
    journal_close(&j);
    must(journal_open(&other, path, &err), &err);
    journal_close(&other);
    assert_int_equal(journal_open(&j, temp_path("no/such/folder"), &err), GENARM_EIO);
    assert_int_equal(journal_open(&j, "/dev/null", &err), GENARM_EINVAL);
}

/* Files may not grow beyond some bytes, in a process of its own. */
static void test_lines_that_do_not_fit_leave_nothing(void **state) {
    (void)state;
    const char *path = temp_path("full");
    struct genarm_error err = {0};
    struct journal j;
    int status = -1;
    const pid_t pid = fork();
    if (pid == 0) {
        static char big[8192];
        const struct rlimit limit = {4096, 4096};
        signal(SIGXFSZ, SIG_IGN);
        memset(big, 'x', sizeof big);
        const bool ok = journal_open(&j, path, &err) == GENARM_OK && journal_append(&j, "one\n", 4, &err) == GENARM_OK &&
                        setrlimit(RLIMIT_FSIZE, &limit) == 0 && journal_append(&j, big, sizeof big, &err) == GENARM_EIO &&
                        strcmp(err.where, path) == 0 && journal_append(&j, "two\n", 4, &err) == GENARM_OK;
        _exit(ok ? 0 : 1);
    }
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    assert_int_equal(status, 0);
    holds(path, "one\ntwo\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_appended_is_there_when_it_is_opened_again),
        cmocka_unit_test(test_only_one_has_it_open),
        cmocka_unit_test(test_lines_that_do_not_fit_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
