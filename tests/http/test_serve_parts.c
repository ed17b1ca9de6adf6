/* Parts of the server by themselves: the fields of a request, and the counters. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "serve/api.h"
#include "serve/counters.h"
#include "serve/fields.h"
#include "serve/told.h"

/* ---- fields ---- */

struct values {
    bool flag;
    int64_t whole;
    double number;
    const char *text;
    const json_t *object, *array, *any;
};

static const struct field fields[] = {
    {.type = FIELD_BOOL, .name = "flag", .offset = offsetof(struct values, flag)},
    {.type = FIELD_INTEGER, .name = "whole", .offset = offsetof(struct values, whole), .min = -10, .max = 1e15},
    {.type = FIELD_NUMBER, .name = "number", .offset = offsetof(struct values, number), .min = -1, .max = 1},
    {.type = FIELD_STRING, .name = "text", .offset = offsetof(struct values, text)},
    {.type = FIELD_OBJECT, .name = "object", .offset = offsetof(struct values, object)},
    {.type = FIELD_ARRAY, .name = "array", .offset = offsetof(struct values, array)},
    {.type = FIELD_ANY, .name = "any", .offset = offsetof(struct values, any)},
    {.type = FIELD_IGNORED, .name = "ignored"},
    {.type = FIELD_NEUTRAL, .name = "neutral", .neutral = "[\"none\", 0]"},
};

/* The error's code; *where: the member that it names. */
static int read_text(const char *text, struct values *v, json_t **root, char where[64]) {
    struct genarm_error err = {0};
    int rc = fields_parse(root, text, strlen(text), &err);
    rc = rc == GENARM_OK ? fields_read(*root, fields, sizeof fields / sizeof *fields, v, &err) : rc;
    snprintf(where, 64, "%.63s", rc == GENARM_OK ? "" : err.where);
    return rc;
}

static void test_fields_are_filled_in(void **state) {
    (void)state;
    struct values v = {.whole = 7};
    json_t *root = NULL;
    char where[64];
    assert_int_equal(read_text("{\"flag\": true, \"number\": -0.5, \"text\": \"x\", \"object\": {}, \"array\": [], \"any\": 1, "
                               "\"ignored\": "
                               "[[]], \"neutral\": \"none\"}",
                               &v, &root, where),
                     GENARM_OK);
    assert_true(v.flag && v.whole == 7 && v.number == -0.5 && strcmp(v.text, "x") == 0);
    assert_true(json_is_object(v.object) && json_is_array(v.array) && json_is_integer(v.any));
    json_decref(root);
}

static void test_null_leaves_a_field_as_it_is(void **state) {
    (void)state;
    struct values v = {.flag = true, .whole = 7, .number = 0.25, .text = "y"};
    json_t *root = NULL;
    char where[64];
    assert_int_equal(read_text("{\"flag\": null, \"whole\": null, \"number\": null, \"text\": null, \"object\": null, \"array\": "
                               "null, "
                               "\"any\": null, \"ignored\": null, \"neutral\": null}",
                               &v, &root, where),
                     GENARM_OK);
    assert_true(v.flag && v.whole == 7 && v.number == 0.25 && strcmp(v.text, "y") == 0 && !v.object && !v.array && !v.any);
    json_decref(root);
}

static void test_what_does_not_fit_is_named(void **state) {
    (void)state;
    static const struct {
        const char *text, *where;
        int code;
    } cases[] = {
        {"{\"flag\": 1}", "flag", GENARM_EINVAL},         {"{\"whole\": 1.5}", "whole", GENARM_EINVAL},
        {"{\"whole\": \"1\"}", "whole", GENARM_EINVAL},   {"{\"whole\": -11}", "whole", GENARM_EINVAL},
        {"{\"whole\": 1e16}", "whole", GENARM_EINVAL},    {"{\"number\": 1.0001}", "number", GENARM_EINVAL},
        {"{\"number\": {}}", "number", GENARM_EINVAL},    {"{\"text\": []}", "text", GENARM_EINVAL},
        {"{\"object\": []}", "object", GENARM_EINVAL},    {"{\"array\": {}}", "array", GENARM_EINVAL},
        {"{\"neutral\": \"all\"}", "neutral", GENARM_EINVAL}, {"{\"neutral\": []}", "neutral", GENARM_EINVAL},
        {"{\"neutral\": 1}", "neutral", GENARM_EINVAL},  {"{\"neutral\": false}", "neutral", GENARM_EINVAL},
        {"{\"flagg\": true}", "flagg", GENARM_EINVAL},    {"[]", "", GENARM_EFORMAT},
        {"{\"flag\": true, \"flag\": true}", "body", GENARM_EFORMAT}, {"nonsense", "body", GENARM_EFORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct values v = {0};
        json_t *root = NULL;
        char where[64];
        assert_int_equal(read_text(cases[i].text, &v, &root, where), cases[i].code);
        assert_string_equal(where, cases[i].where);
        json_decref(root);
    }
}

static void test_whole_numbers_may_be_written_as_such_that_are_not(void **state) {
    (void)state;
    struct values v = {0};
    json_t *root = NULL;
    char where[64];
    assert_int_equal(read_text("{\"whole\": 1e15, \"number\": 1, \"neutral\": 0.0}", &v, &root, where), GENARM_OK);
    assert_true(v.whole == 1000000000000000 && v.number == 1);
    json_decref(root);
}

static void test_tokens_are_within_the_vocabulary(void **state) {
    (void)state;
    static const char *const bad[] = {"[3]", "[-1]", "[1.5]", "[\"1\"]", "[null]", "[0, 1, 9223372036854775807]"};
    struct genarm_error err;
    int32_t *tokens = NULL;
    size_t n = 0;
    json_t *array = json_loads("[0, 2.0, 1]", 0, NULL);
    assert_int_equal(fields_tokens(&tokens, &n, array, "tokens", 3, &err), GENARM_OK);
    assert_int_equal(n, 3);
    assert_true(tokens[0] == 0 && tokens[1] == 2 && tokens[2] == 1);
    free(tokens);
    json_decref(array);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        array = json_loads(bad[i], 0, NULL);
        assert_int_equal(fields_tokens(&tokens, &n, array, "tokens", 3, &err), GENARM_EINVAL);
        assert_string_equal(err.where, "tokens");
        json_decref(array);
    }
}

/* ---- numbers ---- */

static void test_numbers_are_told_with_the_digits_that_it_takes(void **state) {
    (void)state;
    static const float numbers[] = {1.2f, 0.1f, -0.7f, 1e-7f, 123456.79f, 0.0f, 1.0f / 3.0f, 1000.0f};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        json_t *value = api_float(numbers[i]);
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        assert_true(strtof(text, NULL) == numbers[i]);
        assert_true(strlen(text) <= 12);
        free(text);
        json_decref(value);
    }
    json_t *value = told_number(-INFINITY);
    assert_true(json_real_value(value) == -9999.0);
    json_decref(value);
    value = told_number(NAN);
    assert_true(json_is_real(value));
    json_decref(value);
}

/* ---- counters ---- */

static const struct counters_state now =
    {.n_running = 1, .n_queued = 2, .n_slots = 4, .n_busy = 3, .n_connections = 5, .uptime = 1.5};

static char *written(struct counters *c) {
    struct genarm_error err;
    struct buf out;
    buf_init(&out, 1 << 20);
    assert_int_equal(counters_write(c, &now, &out, &err), GENARM_OK);
    return out.data;
}

/* Every line is a comment or NAME{labels} NUMBER, and each name has one HELP and one TYPE before its samples. */
static void check_format(const char *text) {
    char copy[65536], name[128] = "";
    snprintf(copy, sizeof copy, "%s", text);
    assert_true(text[strlen(text) - 1] == '\n');
    for (char *rest = copy, *line; (line = strtok_r(rest, "\n", &rest)) != NULL;) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            assert_null(strncmp(line + 7, name, strcspn(name, " ") + 1) == 0 ? line : NULL);
            snprintf(name, sizeof name, "%.*s", (int)strcspn(line + 7, " "), line + 7);
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_memory_equal(line + 7, name, strlen(name));
        } else {
            char *end, *value = strrchr(line, ' ');
            assert_non_null(value);
            assert_memory_equal(line, name, strlen(name));
            assert_true(isfinite(strtod(value + 1, &end)) && *end == '\0');
        }
    }
}

static void test_counters_are_what_prometheus_reads(void **state) {
    (void)state;
    struct genarm_error err;
    struct counters *c;
    static const char *const arms[] = {"help\"ful\\\nnew\xc3\xa9", "harmless"};
    assert_int_equal(counters_new(&c, &err), GENARM_OK);
    char *text = written(c); /* before there is a model */
    check_format(text);
    free(text);
    assert_int_equal(counters_set_arms(c, arms, 2, &err), GENARM_OK);
    counters_add(c, COUNT_TOKENS, 3);
    counters_add(c, COUNT_TOKENS, 4e12);
    counters_arm_tokens(c, 0, 7);
    counters_request(c, "/v1/models/**", 200);
    counters_request(c, "/v1/models/**", 200);
    counters_request(c, "/v1/models/**", 404);
    counters_time(c, COUNT_STEP, 0.005);
    counters_time(c, COUNT_STEP, 0.3);
    counters_time(c, COUNT_STEP, 1e9);
    text = written(c);
    check_format(text);
    static const char *const lines[] = {
        "genarm_tokens_total 4000000000003\n",
        "genarm_arm_tokens_total{arm=\"help\\\"ful\\\\\\nnew\xc3\xa9\"} 7\n",
        "genarm_arm_tokens_total{arm=\"harmless\"} 0\n",
        "genarm_requests_total{route=\"/v1/models/**\",status=\"200\"} 2\n",
        "genarm_requests_total{route=\"/v1/models/**\",status=\"404\"} 1\n",
        "genarm_step_seconds_bucket{le=\"0.005\"} 1\n",
        "genarm_step_seconds_bucket{le=\"0.25\"} 1\n",
        "genarm_step_seconds_bucket{le=\"0.5\"} 2\n",
        "genarm_step_seconds_bucket{le=\"300\"} 2\n",
        "genarm_step_seconds_bucket{le=\"+Inf\"} 3\n",
        "genarm_step_seconds_count 3\n",
        "genarm_requests_running 1\n",
        "genarm_requests_queued 2\n",
        "genarm_slots 4\n",
        "genarm_slots_busy 3\n",
        "genarm_connections 5\n",
        "genarm_uptime_seconds 1.5\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (!strstr(text, lines[i])) {
            print_error("no %s", lines[i]);
        }
        assert_non_null(strstr(text, lines[i]));
    }
    free(text);
    counters_free(c);
}

static void *count(void *user) {
    for (int i = 0; i < 1000; i++) {
        counters_add(user, COUNT_TOKENS, 1);
        counters_request(user, i % 2 ? "/a" : "/b", 200 + i % 300);
        counters_time(user, COUNT_REQUEST, 1);
    }
    return NULL;
}

static void test_counters_lose_nothing_and_do_not_grow_without_end(void **state) {
    (void)state;
    struct genarm_error err;
    struct counters *c;
    pthread_t threads[4];
    assert_int_equal(counters_new(&c, &err), GENARM_OK);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, count, c), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    char *text = written(c);
    check_format(text);
    assert_non_null(strstr(text, "genarm_tokens_total 4000\n"));
    assert_non_null(strstr(text, "genarm_request_seconds_count 4000\n"));
    assert_non_null(strstr(text, "genarm_request_seconds_sum 4000\n"));
    free(text);
    counters_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_are_filled_in),
        cmocka_unit_test(test_null_leaves_a_field_as_it_is),
        cmocka_unit_test(test_what_does_not_fit_is_named),
        cmocka_unit_test(test_whole_numbers_may_be_written_as_such_that_are_not),
        cmocka_unit_test(test_tokens_are_within_the_vocabulary),
        cmocka_unit_test(test_numbers_are_told_with_the_digits_that_it_takes),
        cmocka_unit_test(test_counters_are_what_prometheus_reads),
        cmocka_unit_test(test_counters_lose_nothing_and_do_not_grow_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
