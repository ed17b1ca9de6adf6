/* Files of any size are read in bounded memory: 160 MB of text in a .gz, as lines and as one array, and one line of 100 MB.
 * Each case runs in a process of its own, whose peak is that of the case. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "data/reader.h"
#include "support/temp.h"

#if defined(__SANITIZE_ADDRESS__)
#define CHECKED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CHECKED 1
#endif
#endif
#ifndef CHECKED
#define CHECKED 0
#endif

/* The address sanitizer keeps freed memory: there the files are read, and no peak is held against them. */
enum { RECORDS = CHECKED ? 5000 : 40000, TEXT = 2000, MEBIBYTE = 1 << 20 };

static long peak_kib(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

/* Records of 4 KB. */
static const char *write_records(const char *name, bool array) {
    const char *path = temp_path(name);
    char chosen[TEXT + 1], rejected[TEXT + 1];
    memset(chosen, 'c', TEXT);
    memset(rejected, 'r', TEXT);
    chosen[TEXT] = rejected[TEXT] = '\0';
    gzFile out = gzopen(path, "wb1");
    assert_non_null(out);
    for (int i = 0; i < RECORDS; i++) {
        gzprintf(out, "%s{\"prompt\": \"%d\", \"chosen\": \"%s\", \"rejected\": \"%s\"}\n", array ? i ? "," : "[" : "", i,
                 chosen, rejected);
    }
    gzputs(out, array ? "]" : "");
    assert_int_equal(gzclose(out), Z_OK);
    return path;
}

/* One line of 100 MB, without an end. */
static const char *write_line(void) {
    const char *path = temp_path("line.jsonl.gz");
    static char text[MEBIBYTE];
    memset(text, 'x', sizeof text);
    gzFile out = gzopen(path, "wb1");
    assert_non_null(out);
    gzputs(out, "{\"prompt\": \"");
    for (int i = 0; i < 100; i++) {
        assert_int_equal(gzwrite(out, text, sizeof text), sizeof text);
    }
    assert_int_equal(gzclose(out), Z_OK);
    return path;
}

/* Reads the file in a child: it must come to `expected` with at most `n` pairs and grow by at most `limit` KiB. */
static void read_in_child(const char *path, int expected, int64_t n, long limit) {
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct pref_reader *reader = NULL;
        struct preference *p;
        const long before = peak_kib();
        int64_t read = 0;
        int rc = pref_open(&reader, path, NULL, NULL);
        while (rc == 0 && (rc = pref_next(reader, &p, NULL)) > 0) {
            read++;
            rc = 0;
        }
        pref_close(reader);
        const long grown = peak_kib() - before;
        _exit(rc != expected ? 1 : read != n ? 2 : !CHECKED && grown > limit ? 3 : 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_many_lines_need_no_more_memory_than_one(void **state) {
    (void)state;
    read_in_child(write_records("lines.jsonl.gz", false), 0, RECORDS, 4 * 1024);
}

static void test_an_array_is_streamed_object_by_object(void **state) {
    (void)state;
    read_in_child(write_records("array.json.gz", true), 0, RECORDS, 4 * 1024);
}

static void test_an_endless_line_costs_no_more_than_the_maximum(void **state) {
    (void)state;
    read_in_child(write_line(), GENARM_EFORMAT, 0, 48 * 1024); /* twice the maximum while the buffer grows */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_lines_need_no_more_memory_than_one),
        cmocka_unit_test(test_an_array_is_streamed_object_by_object),
        cmocka_unit_test(test_an_endless_line_costs_no_more_than_the_maximum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
