/* The reading of --preference's weights and of --objective. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "objectives.h"
#include "preferences.h"
#include "support/temp.h"

static const char *const names[] = {"helpful", "harmless"};

static void expect(const char *text, float helpful, float harmless) {
    float weights[2] = {-1, -1};
    struct genarm_error err = {0};
    if (preference_parse(weights, names, 2, text, &err) != 0) {
        fail_msg("%s: %s", text, err.what);
    }
    assert_true(weights[0] == helpful && weights[1] == harmless);
}

static void refuse(const char *text, const char *says) {
    float weights[2];
    struct genarm_error err = {0};
    assert_int_equal(preference_parse(weights, names, 2, text, &err), CLI_USAGE);
    if (!strstr(err.what, says)) {
        fail_msg("%s: \"%s\" does not say \"%s\"", text, err.what, says);
    }
}

static void test_weights_are_named_or_in_order(void **state) {
    (void)state;
    expect("helpful=0.7,harmless=0.3", 0.7f, 0.3f);
    expect("harmless=3e-1,helpful=2", 2, 0.3f);
    expect("0.7,0.3", 0.7f, 0.3f);
    expect("-1,2", -1, 2); /* the library says that it must not be */
}

static void test_bad_lists_are_refused(void **state) {
    (void)state;
    refuse("", "no list");
    refuse(",", "no list");
    refuse("1,", "no list");
    refuse("1,,2", "no list");
    refuse("1,2,", "no list");
    refuse("helpful=1,2", "no list");
    refuse("helpful=1,harmless=", "no list");
    refuse("helpful=x,harmless=1", "no list");
    refuse("=1,harmless=1", "no list");
    refuse("a=helpful=1,harmless=1", "no list");
    refuse("1 2", "no list");
    refuse("1", "1 weights for 2");
    refuse("1,2,3", "3 weights for 2");
    refuse("helpful=1", "harmless has no weight");
    refuse("helpful=1,helpful=2", "helpful is given twice");
    refuse("helpful=1,kind=2", "\"kind\"");
    struct genarm_error err = {0};
    assert_int_equal(preference_parse(NULL, NULL, 0, "1", &err), CLI_USAGE);
}

/* ---- --objective ---- */

static int parse(struct objective_set *set, const char **texts, size_t n, struct genarm_error *err) {
    const struct option_list list = {.items = texts, .n = n};
    return objectives_parse(set, &list, GENARM_LABEL_BETTER, err);
}

static void test_objectives_gather_their_files_and_labels(void **state) {
    (void)state;
    struct objective_set set;
    struct genarm_error err = {0};
    const char *texts[] = {"a=x.jsonl@safer", "b=y=z.jsonl", "a=w.jsonl@safer"};
    assert_int_equal(parse(&set, texts, 3, &err), 0);
    assert_int_equal(set.n, 2);
    assert_string_equal(set.items[0].name, "a");
    assert_int_equal(set.items[0].n_paths, 2);
    assert_string_equal(set.items[0].paths[0], "x.jsonl");
    assert_string_equal(set.items[0].paths[1], "w.jsonl");
    assert_int_equal(set.items[0].label, GENARM_LABEL_SAFER);
    assert_string_equal(set.items[1].paths[0], "y=z.jsonl");
    assert_int_equal(set.items[1].label, GENARM_LABEL_BETTER);
    objectives_free(&set);
}

static void test_a_file_that_is_called_like_a_label_is_a_file(void **state) {
    (void)state;
    char text[300];
    struct objective_set set;
    struct genarm_error err = {0};
    const char *texts[] = {text};
    snprintf(text, sizeof text, "a=%s", temp_path("pairs@safer"));
    FILE *f = fopen(text + 2, "w");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(parse(&set, texts, 1, &err), 0);
    assert_string_equal(set.items[0].paths[0], text + 2);
    assert_int_equal(set.items[0].label, GENARM_LABEL_BETTER);
    objectives_free(&set);
}

static void test_bad_objectives_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *texts[2], *says;
    } bad[] = {
        {{"pairs.jsonl", NULL}, "missing"},
        {{"=pairs.jsonl", NULL}, "missing"},
        {{"a=", NULL}, "missing"},
        {{"a=x.jsonl@nicer", NULL}, "\"nicer\" is no label"},
        {{"a=x.jsonl@safer", "a=y.jsonl"}, "two labels"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct objective_set set;
        struct genarm_error err = {0};
        const char *texts[] = {bad[i].texts[0], bad[i].texts[1]};
        assert_int_equal(parse(&set, texts, texts[1] ? 2 : 1, &err), CLI_USAGE);
        assert_non_null(strstr(err.what, bad[i].says));
        objectives_free(&set);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights_are_named_or_in_order),
        cmocka_unit_test(test_bad_lists_are_refused),
        cmocka_unit_test(test_objectives_gather_their_files_and_labels),
        cmocka_unit_test(test_a_file_that_is_called_like_a_label_is_a_file),
        cmocka_unit_test(test_bad_objectives_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
