/* Containers: JSON lines and one JSON array hold the same records; what is broken is named by line, whatever its size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "data/values.h"
#include "support/compress.h"
#include "support/prefs.h"
#include "support/temp.h"

#define A "{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"}"
#define B "{\"prompt\": \"q\", \"chosen\": \"c\", \"rejected\": \"d\"}"

static void test_lines_and_arrays_hold_the_same_records(void **state) {
    (void)state;
    static const char expected[] = "1: user(p) -> a | b\n2: user(q) -> c | d\n";
    prefs_expect(A "\n" B "\n", NULL, expected);
    prefs_expect(A "\n" B, NULL, expected);
    prefs_expect(A "\r\n" B "\r\n", NULL, expected);
    prefs_expect("\xEF\xBB\xBF" A "\n" B, NULL, expected);
    prefs_expect("[" A ",\n" B "]", NULL, expected);
    prefs_expect("[" A ",\n" B "]\n\n", NULL, expected);
    prefs_expect("\xEF\xBB\xBF [ " A " \t,\r\n" B "\r\n] ", NULL, expected);
    prefs_expect("\n\n" A "\n \t\n" B "\n\n", NULL, "3: user(p) -> a | b\n5: user(q) -> c | d\n");
    prefs_expect("\n[\n" A "\n,\n" B "\n]", NULL, "3: user(p) -> a | b\n5: user(q) -> c | d\n");
    prefs_expect("[\n{\n\"prompt\":\n\"p\", \"chosen\": \"a\",\n\"rejected\": \"b\"},\n" B "]", NULL,
                 "2: user(p) -> a | b\n6: user(q) -> c | d\n");
}

static void test_brackets_and_quotes_inside_strings_are_text(void **state) {
    (void)state;
    prefs_expect("[{\"prompt\": \"]}\\\\\", \"chosen\": \"\\\"}\", \"rejected\": \"[{\", \"x\": [{\"y\": [\"]\"]}]}," B "]",
                 NULL, "1: user(]}\\) -> \"} | [{\n1: user(q) -> c | d\n");
}

static void test_broken_containers_are_refused_by_line(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int line;
        const char *says;
    } cases[] = {
        {"", 0, "no pairs"},
        {" \n\n", 0, "no pairs"},
        {"[]", 0, "no pairs"},
        {A "\n{\"prompt\": \n", 2, "broken JSON"},
        {A "\n" A " " A "\n", 2, "broken JSON"},
        {A "\n17\n", 2, "object"},
        {"[1, 2]", 1, "object"},
        {"[" A ",\n" B, 2, "cut short"},
        {"[" A ",\n", 2, "cut short"},
        {"[" A ",\n{\"prompt\": \"p", 2, "cut short"},
        {"[", 1, "cut short"},
        {"[" A ",\n]", 2, "object"},
        {"[" A "\n" B "]", 2, "comma"},
        {"[" A "]\n" B, 1, "after the end"},
        {"[\n,\n" A "]", 2, "object"},
        {"[" A ",\n{\"prompt\": \"q\", \"chosen\": 1 2}]", 2, "broken JSON"},
        {A "\n{\"prompt\": \"\xC3\x28\", \"chosen\": \"c\", \"rejected\": \"d\"}", 2, "not UTF-8"},
        {A "\n{\"prompt\": \"\xED\xA0\x80\", \"chosen\": \"c\", \"rejected\": \"d\"}", 2, "not UTF-8"},
        {A "\n{\"prompt\": \"a\", \"prompt\": \"b\", \"chosen\": \"c\", \"rejected\": \"d\"}", 2, "duplicate"},
        {"[" A ",\n{\"prompt\": \"a\", \"chosen\": \"c\", \"chosen\": \"c\", \"rejected\": \"d\"}]", 2, "duplicate"},
        {A "\n{\"prompt\": \"a\\u0000b\", \"chosen\": \"c\", \"rejected\": \"d\"}", 2, "broken JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        prefs_refuse(cases[i].text, NULL, cases[i].line, cases[i].says);
    }
}

static void test_one_object_over_several_lines_gets_a_hint(void **state) {
    (void)state;
    static const char *const several[] = {"{\n\"prompt\": \"p\",\n\"chosen\": \"a\", \"rejected\": \"b\"\n}\n",
                                          "{ \"prompt\": \"p\",\n\"chosen\": \"a\", \"rejected\": \"b\" }\n",
                                          A "\n{\"prompt\": [\n\"p\"], \"chosen\": \"a\", \"rejected\": \"b\"}\n",
                                          A "\n[\n" B "]\n"};
    static const char *const one[] = {"{\"prompt\": \"p\" \"chosen\": \"a\"}\n", A "\n\"prompt\":\n"};
    for (size_t i = 0; i < 4 + 2; i++) {
        const char *text = i < 4 ? several[i] : one[i - 4];
        char out[256];
        struct genarm_error err = {0};
        assert_int_equal(prefs_read(out, sizeof out, text, strlen(text), NULL, NULL, &err), GENARM_EFORMAT);
        assert_true((strstr(err.hint, "jq -c") != NULL) == (i < 4));
    }
}

static void test_numbers_that_json_does_not_have_get_a_hint(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {{A "\n{\"score\": NaN}\n", "parse_constant"},
                 {A "\n{\"score\": Infinity}\n", "parse_constant"},
                 {A "\n{\"score\": -Infinity}\n", "parse_constant"},
                 {"[" A ",\n{\"score\": NaN}]", "write null"},
                 {A "\n{\"id\": 18446744073709551615}\n", "beyond 64 bits"},
                 {A "\n{\"id\": -18446744073709551615}\n", "beyond 64 bits"},
                 {A "\n{\"score\": 1e999}\n", "beyond 64 bits"},
                 {A "\n{\"score\": -}\n", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[256];
        struct genarm_error err = {0};
        assert_int_equal(prefs_read(out, sizeof out, cases[i].text, strlen(cases[i].text), NULL, NULL, &err), GENARM_EFORMAT);
        assert_non_null(strstr(err.where, ":2"));
        if (*cases[i].says ? !strstr(err.hint, cases[i].says) : *err.hint) {
            fail_msg("%s: %s", cases[i].text, err.hint);
        }
    }
}

static void test_a_zero_byte_is_refused(void **state) {
    (void)state;
    char out[256];
    struct genarm_error err = {0};
    static const char text[] = A "\n\0\n" B;
    assert_int_equal(prefs_read(out, sizeof out, text, sizeof text - 1, NULL, NULL, &err), GENARM_EFORMAT);
    assert_non_null(strstr(err.where, ":2"));
}

/* {"prompt": "xxx…", "chosen": "a", "rejected": "b"} of n bytes. */
static char *long_record(size_t n) {
    static const char head[] = "{\"prompt\": \"", tail[] = "\", \"chosen\": \"a\", \"rejected\": \"b\"}";
    char *text = malloc(n + 1);
    memset(text, 'x', n);
    memcpy(text, head, sizeof head - 1);
    memcpy(text + n - (sizeof tail - 1), tail, sizeof tail);
    return text;
}

static void test_records_up_to_the_maximum_are_read_and_longer_ones_refused(void **state) {
    (void)state;
    for (int array = 0; array < 2; array++) {
        for (int excess = 0; excess < 2; excess++) {
            struct buf file;
            struct pref_reader *reader = NULL;
            struct preference *p;
            struct genarm_error err = {0};
            char *record = long_record((size_t)PREF_MAX_BYTES + (size_t)excess);
            const char *path = temp_path("long.jsonl");
            buf_init(&file, 1 << 28);
            buf_puts(&file, array ? "[" A ",\n" : A "\n", NULL);
            buf_puts(&file, record, NULL);
            buf_puts(&file, array ? "]" : "\n", NULL);
            file_write(path, file.data, file.len, NULL);
            assert_int_equal(pref_open(&reader, path, NULL, &err), GENARM_OK);
            assert_int_equal(pref_next(reader, &p, &err), 1);
            const int rc = pref_next(reader, &p, &err);
            assert_int_equal(rc, excess ? GENARM_EFORMAT : 1);
            if (excess) {
                assert_non_null(strstr(err.where, ":2"));
                assert_non_null(strstr(err.what, "16 MiB"));
            }
            pref_close(reader);
            buf_deinit(&file);
            free(record);
        }
    }
}

static void test_a_cut_compressed_file_is_refused_by_line(void **state) {
    (void)state;
    struct buf text;
    buf_init(&text, 1 << 24);
    for (int i = 0; i < 20000; i++) {
        buf_printf(&text, NULL, "{\"prompt\": \"%d\", \"chosen\": \"%d\", \"rejected\": \"%d\"}\n", i, i * 7919, i * 104729);
    }
    for (int how = COMPRESS_GZIP; how < COMPRESSIONS; how++) {
        size_t n;
        char *bytes = compress_bytes((enum compression)how, text.data, text.len, &n);
        const char *path = temp_path("cut.jsonl");
        struct pref_reader *reader = NULL;
        struct preference *p;
        struct genarm_error err = {0};
        int64_t last = 0;
        int rc;
        file_write(path, bytes, n / 2, NULL);
        assert_int_equal(pref_open(&reader, path, NULL, &err), GENARM_OK);
        while ((rc = pref_next(reader, &p, &err)) > 0) {
            last = p->line;
        }
        char where[300];
        snprintf(where, sizeof where, "%s:%ld", path, (long)last + 1);
        assert_int_equal(rc, GENARM_EFORMAT);
        assert_string_equal(err.where, where);
        assert_true(how == COMPRESS_XZ || last > 1000); /* xz: one block, which may not have begun to come out */
        pref_close(reader);
        free(bytes);
    }
    buf_deinit(&text);
}

#define U(text) "{\"role\": \"user\", \"content\": \"" text "\"}"
#define V(text) "{\"role\": \"assistant\", \"content\": \"" text "\"}"

/* Every beginning of a file is read or refused, and never crashes; so is every file with one byte changed. */
static void test_cut_and_changed_files_end_well(void **state) {
    (void)state;
    static const char *const files[] = {
        "[" A ",\n" B ", {\"prompt\": [" U("x\\n") "], \"chosen\": \"\\u00e9\", \"rejected\": \"\"}]",
        A "\n" B "\n{\"prompt\": \"x\", \"chosen\": \"c\", \"rejected\": \"d\", \"system\": null}",
        "{\"chosen\": \"\\n\\nHuman: a\\n\\nAssistant: b\", \"rejected\": \"\\n\\nHuman: a\\n\\nAssistant: c\"}",
        "{\"chosen\": [" U("x") ", " V("y") "], \"rejected\": [" U("x") ", " V("z") "]}",
    };
    static const char changes[] = "[]{}\",:\\ \n\xFF" "0n";
    char out[4096], changed[1024];
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        const size_t n = strlen(files[f]);
        for (size_t i = 0; i < n; i++) {
            prefs_read(out, sizeof out, files[f], i, NULL, NULL, NULL);
            for (size_t k = 0; k < sizeof changes - 1; k += 3 + i % 3) {
                memcpy(changed, files[f], n);
                changed[i] = changes[k];
                prefs_read(out, sizeof out, changed, n, NULL, NULL, NULL);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_and_arrays_hold_the_same_records),
        cmocka_unit_test(test_brackets_and_quotes_inside_strings_are_text),
        cmocka_unit_test(test_broken_containers_are_refused_by_line),
        cmocka_unit_test(test_one_object_over_several_lines_gets_a_hint),
        cmocka_unit_test(test_numbers_that_json_does_not_have_get_a_hint),
        cmocka_unit_test(test_a_zero_byte_is_refused),
        cmocka_unit_test(test_records_up_to_the_maximum_are_read_and_longer_ones_refused),
        cmocka_unit_test(test_a_cut_compressed_file_is_refused_by_line),
        cmocka_unit_test(test_cut_and_changed_files_end_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
