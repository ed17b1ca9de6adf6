/* Files: nothing is lost when writing fails. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "support/temp.h"

/* The system calls that a commit ends with, here able to fail. */
static int fsync_errno, rename_errno;

int fsync(int fd) {
    if (fsync_errno) {
        errno = fsync_errno;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to) {
    if (rename_errno) {
        errno = rename_errno;
        return -1;
    }
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

static void assert_holds(const char *path, const char *text) {
    struct buf b;
    buf_init(&b, 1 << 20);
    assert_int_equal(file_read(&b, path, NULL), GENARM_OK);
    assert_string_equal(b.data, text);
    buf_deinit(&b);
}

/* Names of the temporary files beside path. */
static int count_temps(const char *path) {
    char command[512];
    snprintf(command, sizeof command, "ls %s.tmp.* 2>/dev/null | wc -l", path);
    FILE *p = popen(command, "r");
    int n = -1;
    assert_non_null(p);
    assert_int_equal(fscanf(p, "%d", &n), 1);
    pclose(p);
    return n;
}

static void test_written_bytes_read_back(void **state) {
    (void)state;
    const char *path = temp_path("bytes");
    char bytes[70000];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (char)(i * 7 + i / 256);
    }
    assert_int_equal(file_write(path, bytes, sizeof bytes, NULL), GENARM_OK);
    struct buf b;
    buf_init(&b, sizeof bytes);
    assert_int_equal(file_read(&b, path, NULL), GENARM_OK);
    assert_int_equal(b.len, sizeof bytes);
    assert_memory_equal(b.data, bytes, sizeof bytes);
    b.max--;
    struct genarm_error err;
    assert_int_equal(file_read(&b, path, &err), GENARM_EINVAL);
    assert_string_equal(err.where, path);
    buf_deinit(&b);
    assert_int_equal(file_write(path, NULL, 0, NULL), GENARM_OK);
    assert_holds(path, "");
}

static void test_reading_what_is_not_there_names_the_path(void **state) {
    (void)state;
    struct genarm_error err;
    struct buf b;
    buf_init(&b, 100);
    const char *path = temp_path("nowhere");
    assert_false(file_exists(path));
    assert_int_equal(file_read(&b, path, &err), GENARM_EIO);
    assert_string_equal(err.where, path);
    assert_non_null(strstr(err.what, "No such file"));
    assert_int_equal(file_read(&b, "/", &err), GENARM_EIO);
    buf_deinit(&b);
}

static void test_a_copy_holds_the_same(void **state) {
    (void)state;
    enum { N = 200001 }; /* some blocks, and not whole ones */
    static char bytes[N];
    struct genarm_error err;
    struct buf b;
    char from[512], to[512];
    snprintf(from, sizeof from, "%s", temp_path("from"));
    snprintf(to, sizeof to, "%s", temp_path("to"));
    for (int i = 0; i < N; i++) {
        bytes[i] = (char)(i * 7 + i / 251);
    }
    buf_init(&b, N);
    assert_int_equal(file_write(from, bytes, N, NULL), GENARM_OK);
    assert_int_equal(file_copy(to, from, &err), GENARM_OK);
    assert_int_equal(file_read(&b, to, NULL), GENARM_OK);
    assert_int_equal(b.len, N);
    assert_memory_equal(b.data, bytes, N);
    assert_int_equal(file_copy(to, temp_path("nowhere"), &err), GENARM_EIO);
    assert_string_equal(err.where, temp_path("nowhere"));
    assert_int_equal(file_copy(to, "/", &err), GENARM_EIO); /* reading it fails */
    rename_errno = EIO;
    assert_int_equal(file_copy(to, from, &err), GENARM_EIO);
    rename_errno = 0;
    assert_string_equal(err.where, to);
    assert_int_equal(file_read(&b, to, NULL), GENARM_OK);
    assert_int_equal(b.len, N); /* what was there is */
    assert_int_equal(file_write(from, "", 0, NULL), GENARM_OK);
    assert_int_equal(file_copy(to, from, NULL), GENARM_OK);
    assert_holds(to, "");
    buf_deinit(&b);
}

static void test_nothing_appears_before_the_commit(void **state) {
    (void)state;
    const char *path = temp_path("late");
    struct file_writer w;
    assert_int_equal(file_open(&w, path, NULL), GENARM_OK);
    fputs("new", w.stream);
    assert_false(file_exists(path));
    assert_int_equal(file_commit(&w, NULL), GENARM_OK);
    assert_holds(path, "new");
    file_abort(&w);
    assert_holds(path, "new");
    assert_int_equal(count_temps(path), 0);
}

static void test_abort_keeps_the_previous_file(void **state) {
    (void)state;
    const char *path = temp_path("aborted");
    assert_int_equal(file_write(path, "old", 3, NULL), GENARM_OK);
    struct file_writer w;
    assert_int_equal(file_open(&w, path, NULL), GENARM_OK);
    fputs("new", w.stream);
    file_abort(&w);
    assert_holds(path, "old");
    assert_int_equal(count_temps(path), 0);
    file_abort(&w);
}

static void test_two_writers_of_one_file_do_not_mix(void **state) {
    (void)state;
    const char *path = temp_path("both");
    struct file_writer a, b;
    assert_int_equal(file_open(&a, path, NULL), GENARM_OK);
    assert_int_equal(file_open(&b, path, NULL), GENARM_OK);
    fputs("first", a.stream);
    fputs("second", b.stream);
    assert_int_equal(file_commit(&a, NULL), GENARM_OK);
    assert_holds(path, "first");
    assert_int_equal(file_commit(&b, NULL), GENARM_OK);
    assert_holds(path, "second");
}

static void test_a_full_disk_keeps_the_previous_file_and_says_so(void **state) {
    (void)state;
    const char *path = temp_path("full");
    struct genarm_error err;
    assert_int_equal(file_write(path, "old", 3, NULL), GENARM_OK);
    fsync_errno = ENOSPC;
    assert_int_equal(file_write(path, "new", 3, &err), GENARM_EIO);
    fsync_errno = 0;
    assert_string_equal(err.where, path);
    assert_non_null(strstr(err.what, "No space left"));
    assert_non_null(strstr(err.hint, "disk is full"));
    assert_holds(path, "old");
    assert_int_equal(count_temps(path), 0);
    rename_errno = EIO;
    assert_int_equal(file_write(path, "new", 3, &err), GENARM_EIO);
    rename_errno = 0;
    assert_holds(path, "old");
    assert_int_equal(count_temps(path), 0);
}

static void test_a_write_that_fails_half_way_keeps_the_previous_file(void **state) {
    (void)state;
    const char *path = temp_path("limited");
    struct genarm_error err;
    static char big[300000];
    assert_int_equal(file_write(path, "old", 3, NULL), GENARM_OK);
    struct rlimit before, small;
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 100000;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    const int rc = file_write(path, big, sizeof big, &err);
    struct file_writer w; /* many small writes: the failing one is long past when the commit finds out */
    assert_int_equal(file_open(&w, path, NULL), GENARM_OK);
    for (int i = 0; i < 3000; i++) {
        fwrite(big, 1, 100, w.stream);
    }
    const int late = file_commit(&w, NULL);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(rc, GENARM_EIO);
    assert_int_equal(late, GENARM_EIO);
    assert_string_equal(err.where, path);
    assert_non_null(strstr(err.what, "too large"));
    assert_holds(path, "old");
    assert_int_equal(count_temps(path), 0);
}

static void test_a_kill_while_writing_keeps_the_previous_file(void **state) {
    (void)state;
    const char *path = temp_path("killed");
    assert_int_equal(file_write(path, "old", 3, NULL), GENARM_OK);
    const pid_t child = fork();
    if (child == 0) {
        struct file_writer w;
        if (file_open(&w, path, NULL) == GENARM_OK) {
            fputs("half", w.stream);
            fflush(w.stream);
            raise(SIGKILL);
        }
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_holds(path, "old");
    assert_int_equal(file_write(path, "new", 3, NULL), GENARM_OK); /* what the dead one left is not in the way */
    assert_holds(path, "new");
}

static void test_only_regular_files_are_replaced(void **state) {
    (void)state;
    struct genarm_error err;
    struct file_writer w;
    assert_int_equal(file_open(&w, "/dev/null", &err), GENARM_EINVAL);
    assert_int_equal(file_open(&w, "/tmp", &err), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "folder"));
    assert_int_equal(file_open(&w, temp_path("missing/file"), &err), GENARM_EIO);
    assert_non_null(strstr(err.hint, "path"));
}

static void test_a_file_without_a_name_is_not_written(void **state) {
    (void)state;
    struct genarm_error err;
    struct file_writer w;
    assert_int_equal(file_open(&w, "", &err), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "empty"));
}

/* -o /dev/stdout is such a link: it must not be lost. */
static void test_a_link_stays_and_what_it_leads_to_is_replaced(void **state) {
    (void)state;
    char path[256], link[256];
    struct stat st;
    snprintf(path, sizeof path, "%s", temp_path("linked"));
    snprintf(link, sizeof link, "%s", temp_path("link"));
    assert_int_equal(file_write(path, "old", 3, NULL), GENARM_OK);
    unlink(link);
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(file_write(link, "new", 3, NULL), GENARM_OK);
    assert_holds(path, "new");
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(count_temps(path), 0);
}

static void test_permissions_of_what_is_replaced_stay(void **state) {
    (void)state;
    static const mode_t modes[] = {0600, 0640, 0666, 0444};
    struct stat st;
    const char *path = temp_path("private");
    const mode_t before = umask(022);
    unlink(path);
    assert_int_equal(file_write(path, "old", 3, NULL), GENARM_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        assert_int_equal(chmod(path, modes[i]), 0);
        assert_int_equal(file_write(path, "new", 3, NULL), GENARM_OK);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, modes[i]);
    }
    umask(before);
    unlink(path);
}

static void test_a_link_to_a_file_that_is_not_there_yet_stays(void **state) {
    (void)state;
    char path[256], link[256], second[256];
    struct stat st;
    snprintf(path, sizeof path, "%s", temp_path("later"));
    snprintf(link, sizeof link, "%s", temp_path("link_to_later"));
    snprintf(second, sizeof second, "%s", temp_path("link_to_link"));
    unlink(path);
    unlink(link);
    unlink(second);
    assert_int_equal(symlink("later", link), 0);
    assert_int_equal(symlink(link, second), 0);
    assert_int_equal(file_write(second, "new", 3, NULL), GENARM_OK);
    assert_holds(path, "new");
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    unlink(link);
    assert_int_equal(symlink("nowhere/later", link), 0);
    assert_int_equal(file_write(link, "new", 3, NULL), GENARM_EIO);
    unlink(link);
}

static void test_folders_are_made_with_their_parents(void **state) {
    (void)state;
    struct genarm_error err;
    const char *deep = temp_path("a/b/c");
    assert_int_equal(file_make_folder(deep, &err), GENARM_OK);
    assert_int_equal(file_make_folder(deep, &err), GENARM_OK);
    assert_int_equal(file_make_folder(temp_path("a//b/d/"), &err), GENARM_OK);
    assert_true(file_exists(temp_path("a/b/d")));
    assert_int_equal(file_write(temp_path("a/file"), "x", 1, NULL), GENARM_OK);
    assert_int_equal(file_make_folder(temp_path("a/file"), &err), GENARM_EIO);
    assert_int_equal(file_make_folder(temp_path("a/file/x"), &err), GENARM_EIO);
}

static void test_lines_come_without_their_ends(void **state) {
    (void)state;
    const char *path = temp_path("lines");
    static const char text[] = "\xEF\xBB\xBFone\r\n\n\xEF\xBB\xBFthree\nfo\0ur\nlast";
    assert_int_equal(file_write(path, text, sizeof text - 1, NULL), GENARM_OK);
    static const struct {
        const char *text;
        size_t len;
    } want[] = {{"one", 3}, {"", 0}, {"\xEF\xBB\xBFthree", 8}, {"fo\0ur", 5}, {"last", 4}};
    struct file_lines l;
    assert_int_equal(file_lines_open(&l, path, 100, NULL), GENARM_OK);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        assert_int_equal(file_lines_next(&l, NULL), 1);
        assert_int_equal(l.line, (long)i + 1);
        assert_int_equal(l.text.len, want[i].len);
        assert_memory_equal(l.text.data, want[i].text, want[i].len + 1);
    }
    assert_int_equal(file_lines_next(&l, NULL), 0);
    assert_int_equal(file_lines_next(&l, NULL), 0);
    file_lines_close(&l);
}

static void test_a_line_over_the_maximum_is_named(void **state) {
    (void)state;
    const char *path = temp_path("long");
    char text[20000];
    memset(text, 'x', sizeof text);
    text[4] = text[4 + 5001] = '\n'; /* lines of 4, 5000 and 14994 bytes */
    assert_int_equal(file_write(path, text, sizeof text, NULL), GENARM_OK);
    struct file_lines l;
    struct genarm_error err;
    assert_int_equal(file_lines_open(&l, path, 5000, NULL), GENARM_OK);
    assert_int_equal(file_lines_next(&l, &err), 1);
    assert_int_equal(file_lines_next(&l, &err), 1);
    assert_int_equal(l.text.len, 5000);
    assert_int_equal(file_lines_next(&l, &err), GENARM_EINVAL);
    char where[300];
    snprintf(where, sizeof where, "%s:3", path);
    assert_string_equal(err.where, where);
    file_lines_close(&l);
    assert_int_equal(file_lines_open(&l, temp_path("nowhere"), 10, &err), GENARM_EIO);
    assert_non_null(strstr(err.hint, "path"));
    assert_int_equal(file_lines_open(&l, "/", 10, &err), GENARM_OK);
    assert_int_equal(file_lines_next(&l, &err), GENARM_EIO);
    file_lines_close(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written_bytes_read_back),
        cmocka_unit_test(test_reading_what_is_not_there_names_the_path),
        cmocka_unit_test(test_a_copy_holds_the_same),
        cmocka_unit_test(test_nothing_appears_before_the_commit),
        cmocka_unit_test(test_abort_keeps_the_previous_file),
        cmocka_unit_test(test_two_writers_of_one_file_do_not_mix),
        cmocka_unit_test(test_a_full_disk_keeps_the_previous_file_and_says_so),
        cmocka_unit_test(test_a_write_that_fails_half_way_keeps_the_previous_file),
        cmocka_unit_test(test_a_kill_while_writing_keeps_the_previous_file),
        cmocka_unit_test(test_only_regular_files_are_replaced),
        cmocka_unit_test(test_a_file_without_a_name_is_not_written),
        cmocka_unit_test(test_a_link_stays_and_what_it_leads_to_is_replaced),
        cmocka_unit_test(test_permissions_of_what_is_replaced_stay),
        cmocka_unit_test(test_a_link_to_a_file_that_is_not_there_yet_stays),
        cmocka_unit_test(test_folders_are_made_with_their_parents),
        cmocka_unit_test(test_lines_come_without_their_ends),
        cmocka_unit_test(test_a_line_over_the_maximum_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
