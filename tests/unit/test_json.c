/* JSON: errors name the place, numbers survive. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"

static json_t *parse(const char *text) {
    json_t *value = NULL;
    struct genarm_error err;
    if (json_parse(&value, text, strlen(text), "here", &err) != GENARM_OK) {
        fail_msg("%s", err.what);
    }
    return value;
}

static void test_broken_json_is_an_error_with_its_place(void **state) {
    (void)state;
    static const char *const broken[] = {
        "",
        " ",
        "{",
        "}",
        "{\"a\":1",
        "{\"a\" 1}",
        "{\"a\":1,}",
        "[1 2]",
        "{\"a\":1} x",
        "{'a':1}",
        "{\"a\":1,\"a\":2}",
        "\"\xFF\"",
        "\"\\ud800\"",
        "\"a\\u0000b\"",
        "01",
        "1e999",
        "nul",
        "[[[[",
        "\"tab\there\"",
    };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        json_t *value = NULL;
        struct genarm_error err;
        assert_int_equal(json_parse(&value, broken[i], strlen(broken[i]), "p.jsonl:12", &err), GENARM_EFORMAT);
        assert_string_equal(err.where, "p.jsonl:12");
        assert_non_null(strstr(err.what, "broken JSON: "));
        assert_null(value);
    }
    struct genarm_error err;
    json_t *value;
    assert_int_equal(json_parse(&value, "{\n \"a\": tru\n}", 13, "f", &err), GENARM_EFORMAT);
    assert_non_null(strstr(err.what, "line 2"));
    assert_int_equal(json_parse(&value, "\"a\\u0000b\"", 10, "f", &err), GENARM_EFORMAT);
    assert_non_null(strstr(err.what, "a zero character (\\u0000)"));
}

static void test_text_need_not_end_in_nul(void **state) {
    (void)state;
    json_t *value;
    assert_int_equal(json_parse(&value, "12345", 3, "x", NULL), GENARM_OK);
    assert_int_equal(json_integer_value(value), 123);
    json_decref(value);
}

static void test_wide_integers_become_the_nearest_number(void **state) {
    (void)state;
    static const char text[] = "{\"a\": [18446744073709551615, -9223372036854775809,-9223372036854775808], "
                               "\"18446744073709551615\\\"18446744073709551616\": 9223372036854775807, \"b\":1.5e3}";
    struct genarm_error err;
    json_t *value;
    assert_int_equal(json_parse(&value, text, strlen(text), "x", &err), GENARM_EFORMAT);
    assert_int_equal(json_parse_wide(&value, text, strlen(text), "x", &err), GENARM_OK);
    const json_t *a = json_object_get(value, "a");
    assert_true(json_is_real(json_array_get(a, 0)) && json_real_value(json_array_get(a, 0)) == 0x1p64);
    assert_true(json_is_real(json_array_get(a, 1)) && json_real_value(json_array_get(a, 1)) == -0x1p63);
    assert_true(json_integer_value(json_array_get(a, 2)) == INT64_MIN);
    assert_true(json_integer_value(json_object_get(value, "18446744073709551615\"18446744073709551616")) == INT64_MAX);
    assert_true(json_real_value(json_object_get(value, "b")) == 1500.0);
    json_decref(value);
    static const char *const broken[] = {"[18446744073709551615", "[18446744073709551615, 1e999]", "[18446744073709551615, \"\\",
                                         "[018446744073709551615]", "[1, 2"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        assert_int_equal(json_parse_wide(&value, broken[i], strlen(broken[i]), "x", &err), GENARM_EFORMAT);
        assert_string_equal(err.where, "x");
    }
    assert_int_equal(json_parse_wide(&value, "184467440737095516159", 20, "x", &err), GENARM_OK);
    assert_true(json_real_value(value) == 0x1p64);
    json_decref(value);
}

static void test_deep_nesting_is_refused_without_a_crash(void **state) {
    (void)state;
    static char text[200001];
    memset(text, '[', sizeof text - 1);
    json_t *value;
    assert_int_equal(json_parse(&value, text, sizeof text - 1, "x", NULL), GENARM_EFORMAT);
}

static void test_members_are_looked_up_by_type(void **state) {
    (void)state;
    json_t *o = parse("{\"s\":\"text\",\"i\":3,\"r\":2.5,\"n\":null,\"b\":true,\"a\":[],\"o\":{}}");
    struct genarm_error err;
    const char *s;
    double d;
    long long i;
    assert_int_equal(json_get_string(&s, o, "s", "w", &err), GENARM_OK);
    assert_string_equal(s, "text");
    assert_int_equal(json_opt_string(&s, o, "none", "fallback", "w", &err), GENARM_OK);
    assert_string_equal(s, "fallback");
    assert_int_equal(json_opt_string(&s, o, "n", NULL, "w", &err), GENARM_OK);
    assert_null(s);
    assert_int_equal(json_opt_number(&d, o, "i", 0, "w", &err), GENARM_OK);
    assert_true(d == 3.0);
    assert_int_equal(json_opt_number(&d, o, "r", 0, "w", &err), GENARM_OK);
    assert_true(d == 2.5);
    assert_int_equal(json_opt_number(&d, o, "none", -1, "w", &err), GENARM_OK);
    assert_true(d == -1.0);
    assert_int_equal(json_opt_integer(&i, o, "i", 0, "w", &err), GENARM_OK);
    assert_int_equal(i, 3);
    json_decref(o);
}

static void test_missing_and_mistyped_members_are_named(void **state) {
    (void)state;
    json_t *o = parse("{\"s\":\"text\",\"r\":2.5,\"n\":null,\"b\":true,\"a\":[]}");
    struct genarm_error err;
    const char *s = "untouched";
    double d = 7;
    long long i = 7;
    assert_int_equal(json_get_string(&s, o, "prompt", "f:3", &err), GENARM_EFORMAT);
    assert_string_equal(err.what, "\"prompt\" is missing");
    assert_string_equal(err.where, "f:3");
    assert_int_equal(json_get_string(&s, o, "n", "f:3", &err), GENARM_EFORMAT);
    assert_int_equal(json_get_string(&s, o, "a", "f:3", &err), GENARM_EFORMAT);
    assert_string_equal(err.what, "\"a\" must be a string, not an array");
    assert_int_equal(json_opt_number(&d, o, "b", 0, "f:3", &err), GENARM_EFORMAT);
    assert_string_equal(err.what, "\"b\" must be a number, not a boolean");
    assert_int_equal(json_opt_integer(&i, o, "r", 0, "f:3", &err), GENARM_EFORMAT);
    assert_non_null(strstr(err.what, "whole number"));
    json_t *list = parse("[1]");
    assert_int_equal(json_get_string(&s, list, "a", "f:3", &err), GENARM_EFORMAT);
    assert_non_null(strstr(err.what, "object, not an array"));
    assert_string_equal(s, "untouched");
    assert_true(d == 7.0 && i == 7);
    json_decref(o);
    json_decref(list);
}

static void test_numbers_read_back_equal(void **state) {
    (void)state;
    static const double numbers[] = {0.1, 1.0 / 3, DBL_MIN, DBL_MAX, 5e-324, -2.5e-7, 123456789.123456789, 1e22};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct buf b;
        buf_init(&b, 1000);
        json_t *value = json_real(numbers[i]);
        assert_int_equal(json_dump(&b, value, NULL), GENARM_OK);
        json_decref(value);
        value = parse(b.data);
        assert_true(json_number_value(value) == numbers[i]);
        json_decref(value);
        buf_deinit(&b);
    }
}

static void test_dump_is_one_line_and_bounded(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 40);
    assert_int_equal(buf_puts(&b, "> ", NULL), GENARM_OK);
    json_t *o = parse("{ \"a\" : [1, 2 , \"x\\ny\"],\n \"\xC3\xA9\": null }");
    struct genarm_error err;
    assert_int_equal(json_dump(&b, o, &err), GENARM_OK);
    assert_string_equal(b.data, "> {\"a\":[1,2,\"x\\ny\"],\"\xC3\xA9\":null}");
    const size_t before = b.len;
    assert_int_equal(json_dump(&b, o, &err), GENARM_EINVAL);
    assert_int_equal(b.len, before);
    assert_int_equal(strlen(b.data), before);
    json_decref(o);
    buf_deinit(&b);
}

static void test_text_of_any_bytes_is_a_string(void **state) {
    (void)state;
    json_t *plain = text_json("a\xff"), *bytes = text_json_n("a\0b\xc3", 4), *none = text_json_n("", 0);
    assert_string_equal(json_string_value(plain), "a\xef\xbf\xbd");
    assert_int_equal(json_string_length(bytes), 6);
    assert_memory_equal(json_string_value(bytes), "a\0b\xef\xbf\xbd", 6);
    assert_int_equal(json_string_length(none), 0);
    json_decref(plain);
    json_decref(bytes);
    json_decref(none);
}

static void test_zero_characters_of_samples_are_replaced(void **state) {
    (void)state;
    const char text[] = "{\"a\": [\"x\\u0000y\\u0000\", {\"b\": \"\\u0000\"}], \"c\": \"plain\"}";
    json_t *o = NULL;
    struct genarm_error err;
    assert_int_equal(json_parse(&o, text, strlen(text), "f", NULL), GENARM_EFORMAT);
    assert_int_equal(json_parse_sampled(&o, text, strlen(text), "f", NULL), GENARM_OK);
    const json_t *a = json_object_get(o, "a");
    assert_string_equal(json_string_value(json_array_get(a, 0)), "x\xef\xbf\xbdy\xef\xbf\xbd");
    assert_int_equal(json_string_length(json_array_get(a, 0)), 8);
    assert_string_equal(json_string_value(json_object_get(json_array_get(a, 1), "b")), "\xef\xbf\xbd");
    assert_string_equal(json_string_value(json_object_get(o, "c")), "plain");
    json_decref(o);
    assert_int_equal(json_parse_sampled(&o, "{", 1, "f:3", &err), GENARM_EFORMAT);
    assert_string_equal(err.where, "f:3");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broken_json_is_an_error_with_its_place),
        cmocka_unit_test(test_text_need_not_end_in_nul),
        cmocka_unit_test(test_wide_integers_become_the_nearest_number),
        cmocka_unit_test(test_deep_nesting_is_refused_without_a_crash),
        cmocka_unit_test(test_members_are_looked_up_by_type),
        cmocka_unit_test(test_missing_and_mistyped_members_are_named),
        cmocka_unit_test(test_numbers_read_back_equal),
        cmocka_unit_test(test_dump_is_one_line_and_bounded),
        cmocka_unit_test(test_text_of_any_bytes_is_a_string),
        cmocka_unit_test(test_zero_characters_of_samples_are_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
