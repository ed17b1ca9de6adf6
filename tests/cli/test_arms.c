/* The reading of --arm, with paths that hold the very characters that separate its parts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arms.h"
#include "options.h"

/* The files that exist in a test. */
static const char *const *files;

static bool exists(const char *path) {
    for (const char *const *f = files; f && *f; f++) {
        if (strcmp(*f, path) == 0) {
            return true;
        }
    }
    return false;
}

static void check(const char *text, const char *name, const char *path, const char *adapter, float weight) {
    struct arm_spec spec = {0};
    assert_int_equal(arm_spec_parse(&spec, text, exists, NULL), 0);
    assert_string_equal(spec.name, name);
    assert_string_equal(spec.path, path);
    if (adapter) {
        assert_string_equal(spec.adapter, adapter);
    } else {
        assert_null(spec.adapter);
    }
    assert_true(spec.weight == weight);
    arm_spec_deinit(&spec);
}

static void test_parts_are_told_apart(void **state) {
    (void)state;
    static const char *const present[] = {"a.gguf", "d/m.gguf", "d/a.gguf", NULL};
    files = present;
    check("a.gguf", "a", "a.gguf", NULL, 1);
    check("a.gguf:0.5", "a", "a.gguf", NULL, 0.5f);
    check("kind=a.gguf", "kind", "a.gguf", NULL, 1);
    check("kind=a.gguf:0", "kind", "a.gguf", NULL, 0);
    check("kind=a.gguf:-1.5", "kind", "a.gguf", NULL, -1.5f);
    check("d/m.gguf+d/a.gguf:2e-1", "a", "d/m.gguf", "d/a.gguf", 0.2f);
    check("x y=d/m.gguf+a.gguf", "x y", "d/m.gguf", "a.gguf", 1);
}

static void test_separators_within_paths_stay_where_the_file_exists(void **state) {
    (void)state;
    static const char *const present[] = {"lr=5.gguf",          "at:12", "c++/m+1.gguf", "c++/a+b.gguf",
                                          "d=1/e:2/a=b:c.gguf", NULL};
    files = present;
    check("lr=5.gguf", "lr=5", "lr=5.gguf", NULL, 1);
    check("x=lr=5.gguf:3", "x", "lr=5.gguf", NULL, 3);
    check("at:12", "at:12", "at:12", NULL, 1);
    check("at:12:0.5", "at:12", "at:12", NULL, 0.5f);
    check("c++/m+1.gguf", "m+1", "c++/m+1.gguf", NULL, 1);
    check("n=c++/m+1.gguf+c++/a+b.gguf:4", "n", "c++/m+1.gguf", "c++/a+b.gguf", 4);
    check("d=1/e:2/a=b:c.gguf", "a=b:c", "d=1/e:2/a=b:c.gguf", NULL, 1);
}

static void test_without_files_the_likely_reading_is_kept_for_the_message(void **state) {
    (void)state;
    files = NULL;
    check("n=no.gguf:2", "n", "no.gguf", NULL, 2);
    check("no.gguf+lost.gguf:2", "lost", "no.gguf", "lost.gguf", 2);
    check("c++/no.gguf", "no", "c++/no.gguf", NULL, 1);
    check("no.gguf:x", "no", "no.gguf:x", NULL, 1);
    check("dir/.hidden", ".hidden", "dir/.hidden", NULL, 1);
}

static void test_wrong_weights_and_empty_parts_are_refused(void **state) {
    static const char *const bad[] = {
        "a.gguf:nan", "a.gguf:inf", "", "n=", ":1", "n=:1", "no.gguf+", "\xFF.gguf"};
    (void)state;
    static const char *const present[] = {"a.gguf", NULL};
    files = present;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct arm_spec spec = {.weight = 5};
        struct genarm_error err;
        assert_int_equal(arm_spec_parse(&spec, bad[i], exists, &err), CLI_USAGE);
        assert_true(spec.weight == 5); /* written only on success */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_are_told_apart),
        cmocka_unit_test(test_separators_within_paths_stay_where_the_file_exists),
        cmocka_unit_test(test_without_files_the_likely_reading_is_kept_for_the_message),
        cmocka_unit_test(test_wrong_weights_and_empty_parts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
