/* The server's log: what a line looks like, that no text leaves its line, rotation, threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "serve/log.h"
#include "support/temp.h"

static struct serve_log *open_log(const char *path, bool json, bool verbose) {
    struct serve_log *log = NULL;
    struct genarm_error err;
    assert_int_equal(serve_log_new(&log, &(struct serve_log_params){path, json, verbose}, &err), GENARM_OK);
    return log;
}

static struct buf read_all(const char *path) {
    struct buf b;
    struct genarm_error err;
    buf_init(&b, 16 << 20);
    assert_int_equal(file_read(&b, path, &err), GENARM_OK);
    return b;
}

static const char *const nasty = "a\nb\x1b[31m \"q\" back\\slash \xff \xC2\x9B \xC3\xA4";

static void test_lines_of_text(void **state) {
    (void)state;
    const char *path = temp_path("text.log");
    struct serve_log *log = open_log(path, false, false);
    serve_log_line(log, GENARM_LOG_WARN, "id-1", "%s %d", nasty, 7);
    serve_log_line(log, GENARM_LOG_DEBUG, NULL, "unseen");
    serve_log_line(log, GENARM_LOG_INFO, NULL, "no request");
    serve_log_request(log, "id-2", "127.0.0.1", "GET", "/x\"\r\n/y", 404, 0.0123, 99);
    serve_log_free(log);
    struct buf b = read_all(path);
    char *lines[4] = {strtok(b.data, "\n"), strtok(NULL, "\n"), strtok(NULL, "\n"), strtok(NULL, "\n")};
    assert_string_equal(lines[0] + 24, " warn  id-1 a\\x0ab\\x1b[31m \"q\" back\\\\slash \\xff \\xc2\\x9b \xC3\xA4 7");
    assert_string_equal(lines[1] + 24, " info  - no request");
    assert_string_equal(lines[2] + 24, " info  id-2 127.0.0.1 \"GET /x\\\"\\x0d\\x0a/y\" 404 0.012s 99");
    assert_null(lines[3]);
    int year, month, day, hour, minute, second, ms;
    assert_int_equal(sscanf(lines[0], "%d-%d-%dT%d:%d:%d.%dZ", &year, &month, &day, &hour, &minute, &second, &ms), 7);
    assert_true(year > 2020 && month >= 1 && month <= 12 && ms >= 0 && ms < 1000);
    buf_deinit(&b);
}

static void test_lines_of_json(void **state) {
    (void)state;
    const char *path = temp_path("json.log");
    struct serve_log *log = open_log(path, true, true);
    serve_log_line(log, GENARM_LOG_DEBUG, NULL, "%s", nasty);
    serve_log_request(log, "id-2", "::1", "POST", "/x\"\n", 200, 1.5, 1234);
    serve_log_free(log);
    struct buf b = read_all(path);
    const char *second = strchr(b.data, '\n') + 1;
    json_t *o = NULL, *p = NULL;
    assert_int_equal(json_parse(&o, b.data, (size_t)(second - b.data), "log", NULL), GENARM_OK);
    assert_string_equal(json_string_value(json_object_get(o, "level")), "debug");
    assert_null(json_object_get(o, "id"));
    assert_non_null(strstr(json_string_value(json_object_get(o, "message")), "a\nb\x1b[31m \"q\" back\\slash \xEF\xBF\xBD"));
    assert_int_equal(json_parse(&p, second, strlen(second), "log", NULL), GENARM_OK);
    assert_string_equal(json_string_value(json_object_get(p, "id")), "id-2");
    assert_string_equal(json_string_value(json_object_get(p, "client")), "::1");
    assert_string_equal(json_string_value(json_object_get(p, "method")), "POST");
    assert_string_equal(json_string_value(json_object_get(p, "path")), "/x\"\n");
    assert_int_equal(json_integer_value(json_object_get(p, "status")), 200);
    assert_int_equal(json_integer_value(json_object_get(p, "bytes")), 1234);
    assert_true(json_real_value(json_object_get(p, "seconds")) == 1.5);
    assert_non_null(json_object_get(p, "time"));
    json_decref(o);
    json_decref(p);
    buf_deinit(&b);
}

static void test_a_rotated_file_is_opened_anew(void **state) {
    (void)state;
    const char *path = temp_path("rotated.log"), *old = temp_path("rotated.log.1");
    struct genarm_error err;
    assert_int_equal(file_write(path, "before\n", 7, &err), GENARM_OK);
    struct serve_log *log = open_log(path, false, false); /* appends */
    serve_log_line(log, GENARM_LOG_INFO, NULL, "first");
    assert_int_equal(rename(path, old), 0);
    serve_log_line(log, GENARM_LOG_INFO, NULL, "second");
    serve_log_reopen(log);
    serve_log_line(log, GENARM_LOG_INFO, NULL, "third");
    serve_log_free(log);
    struct buf a = read_all(old), b = read_all(path);
    assert_int_equal(strncmp(a.data, "before\n", 7), 0);
    assert_non_null(strstr(a.data, "first\n"));
    assert_non_null(strstr(a.data, "second\n"));
    assert_null(strstr(a.data, "third"));
    assert_non_null(strstr(b.data, "third\n"));
    assert_null(strstr(b.data, "second"));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07, 0); /* not for everyone */
    buf_deinit(&a);
    buf_deinit(&b);
}

static void test_a_file_that_cannot_be_opened_anew_goes_on(void **state) {
    (void)state;
    char folder[512], path[600], old[600];
    snprintf(folder, sizeof folder, "%s", temp_path("rotated"));
    snprintf(path, sizeof path, "%s/x.log", folder);
    snprintf(old, sizeof old, "%s", temp_path("old.log"));
    assert_int_equal(mkdir(folder, 0700), 0);
    struct serve_log *log = open_log(path, false, false);
    assert_int_equal(rename(path, old), 0);
    assert_int_equal(rmdir(folder), 0);
    serve_log_reopen(log);
    serve_log_line(log, GENARM_LOG_INFO, "id", "first");
    serve_log_line(log, GENARM_LOG_INFO, "id", "second");
    serve_log_free(log);
    struct buf b = read_all(old);
    const char *warning = strstr(b.data, " warn  - cannot open the log anew: ");
    assert_non_null(strstr(b.data, "first\n"));
    assert_true(warning && strstr(warning, "No such file or directory\n") && strstr(warning, "second\n"));
    assert_null(strstr(strstr(warning, "anew") + 1, "anew"));
    buf_deinit(&b);
}

static void *write_many(void *arg) {
    for (int i = 0; i < 500; i++) {
        serve_log_line(arg, GENARM_LOG_INFO, "id", "0123456789012345678901234567890123456789");
        if (i % 100 == 0) {
            serve_log_reopen(arg);
        }
    }
    return NULL;
}

static void test_threads_do_not_mix_their_lines(void **state) {
    (void)state;
    const char *path = temp_path("threads.log");
    struct serve_log *log = open_log(path, false, false);
    pthread_t threads[8];
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, log), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
    }
    serve_log_free(log);
    struct buf b = read_all(path);
    int n = 0;
    for (char *line = strtok(b.data, "\n"); line; line = strtok(NULL, "\n")) {
        assert_string_equal(line + 24, " info  id 0123456789012345678901234567890123456789");
        n++;
    }
    assert_int_equal(n, 4000);
    buf_deinit(&b);
}

static void test_long_texts_are_cut(void **state) {
    (void)state;
    const char *path = temp_path("long.log");
    static char text[100001];
    memset(text, '\x01', sizeof text - 1);
    struct serve_log *log = open_log(path, false, false);
    serve_log_line(log, GENARM_LOG_INFO, text, "%s", text);
    serve_log_line(log, GENARM_LOG_INFO, "id", "%s", text);
    serve_log_request(log, "id", "client", "GET", text, 200, 1, 1);
    serve_log_free(log);
    struct buf b = read_all(path);
    assert_true(b.len < 40000);
    assert_non_null(strstr(b.data, "...\" 200 1.000s 1\n"));
    buf_deinit(&b);
}

static void test_no_log_and_no_file(void **state) {
    (void)state;
    struct serve_log *log = NULL;
    struct genarm_error err;
    const char *path = "/nowhere/at/all/x.log";
    assert_int_equal(serve_log_new(&log, &(struct serve_log_params){.path = path}, &err), GENARM_EIO);
    assert_string_equal(err.where, path);
    assert_null(log);
    serve_log_line(NULL, GENARM_LOG_ERROR, NULL, "nothing");
    serve_log_request(NULL, "id", "c", "GET", "/", 200, 0, 0);
    serve_log_reopen(NULL);
    serve_log_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_of_text),
        cmocka_unit_test(test_lines_of_json),
        cmocka_unit_test(test_a_rotated_file_is_opened_anew),
        cmocka_unit_test(test_a_file_that_cannot_be_opened_anew_goes_on),
        cmocka_unit_test(test_threads_do_not_mix_their_lines),
        cmocka_unit_test(test_long_texts_are_cut),
        cmocka_unit_test(test_no_log_and_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
