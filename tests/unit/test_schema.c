/* JSON schemas: which texts their grammars allow, read through the automaton that masks tokens, and what is refused, where. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "guide/grammar.h"
#include "guide/schema.h"
#include "model/model.h"
#include "support/golden.h"

struct vocabulary {
    struct genarm_model *model;
    int32_t bytes[256]; /* the token that is this byte; -1: none */
};

static int setup(void **state) {
    struct vocabulary *v = calloc(1, sizeof *v);
    v->model = golden_model("llama.gguf");
    memset(v->bytes, 0xFF, sizeof v->bytes);
    for (int32_t t = 0; t < v->model->hp.n_vocab; t++) {
        char bytes[8];
        if (genarm_token_bytes(v->model, t, false, bytes, sizeof bytes) == 1 && v->bytes[(uint8_t)bytes[0]] < 0) {
            v->bytes[(uint8_t)bytes[0]] = t;
        }
    }
    *state = v;
    return 0;
}

static int teardown(void **state) {
    struct vocabulary *v = *state;
    genarm_model_free(v->model);
    free(v);
    return 0;
}

static struct genarm_grammar *grammar_of(const struct vocabulary *v, const char *schema) {
    struct genarm_grammar *g = NULL;
    struct genarm_error err = {0};
    char *gbnf = NULL;
    int rc = genarm_schema_to_gbnf(&gbnf, schema, &err);
    rc = rc ? rc : genarm_grammar_new(&g, v->model, gbnf, &err);
    free(gbnf);
    if (rc != GENARM_OK) {
        fail_msg("%s: %s", schema, err.what);
    }
    return g;
}

/* 2: the text is whole; 1: the start of one; 0: neither. */
static int reads(const struct vocabulary *v, struct genarm_grammar *g, const char *text) {
    const uint8_t *mask;
    struct genarm_error err = {0};
    const int32_t end = genarm_token_eos(v->model);
    int32_t at = GRAMMAR_START;
    for (const char *c = text; *c; c++) {
        const int32_t token = v->bytes[(uint8_t)*c];
        assert_true(token >= 0);
        if (grammar_advance(g, &at, token, &err) != GENARM_OK) {
            return 0;
        }
    }
    must(grammar_allowed(g, at, &mask, &err), &err);
    return mask[end / 8] >> (end % 8) & 1 ? 2 : 1;
}

struct example {
    const char *schema;
    const char *yes[12], *no[12]; /* whole texts; texts that are none */
};

static void check(const struct vocabulary *v, const struct example *examples, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const struct example *e = &examples[i];
        struct genarm_grammar *g = grammar_of(v, e->schema);
        for (size_t k = 0; k < 12 && e->yes[k]; k++) {
            if (reads(v, g, e->yes[k]) != 2) {
                fail_msg("%s does not allow %s", e->schema, e->yes[k]);
            }
        }
        for (size_t k = 0; k < 12 && e->no[k]; k++) {
            if (reads(v, g, e->no[k]) == 2) {
                fail_msg("%s allows %s", e->schema, e->no[k]);
            }
        }
        genarm_grammar_free(g);
    }
}
#define CHECK(state, examples) check(*(state), examples, sizeof(examples) / sizeof *(examples))

static void test_types_and_any_json(void **state) {
    static const struct example examples[] = {
        {"{}",
         {"null", "-1.5e3", "\"a\"", "[]", "{}", "[1, {\"a\": [true]}]"},
         {"", "nul", "01", "[1,]", "{\"a\"}", "'a'", " 1"}},
        {"true", {"false", "{\"a\":1}"}, {"x"}},
        {"{\"type\":\"object\"}", {"{}", "{ }", "{\"a\": {\"b\": []}}", "{\n  \"a\": 1\n}"}, {"[]", "1", "{\"a\": }", "{}{}"}},
        {"{\"type\":\"array\"}", {"[]", "[1, \"a\", null]", "[\n]"}, {"{}", "[,]", "[1 2]"}},
        {"{\"type\":\"boolean\"}", {"true", "false"}, {"null", "True", "truee"}},
        {"{\"type\":\"null\"}", {"null"}, {"0", ""}},
        {"{\"type\":\"integer\"}", {"0", "-7", "1234567890123456"}, {"1.0", "-0", "00", "1e3", "12345678901234567"}},
        {"{\"type\":\"number\"}", {"0", "-0.5", "1e9", "1.25E-3"}, {".5", "1.", "+1", "1e999", "NaN"}},
        {"{\"type\":[\"string\",\"null\"]}", {"\"\"", "null"}, {"1", "nul"}},
        {"{\"type\":\"integer\",\"nullable\":true}", {"3", "null"}, {"\"\""}},
        {"{\"title\":\"T\",\"description\":\"D\",\"default\":1,\"examples\":[2],\"$comment\":\"c\",\"x-order\":1,"
         "\"deprecated\":true,\"readOnly\":true,\"type\":\"boolean\"}",
         {"true"},
         {"1"}},
    };
    CHECK(state, examples);
}

static void test_strings_are_those_of_json(void **state) {
    static const struct example examples[] = {
        {"{\"type\":\"string\"}",
         {"\"\"", "\"a b\"", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\u00e9\\uD83D\\uDE00\"", "\"\xC3\xA9\xF0\x9F\x98\x80\""},
         {"\"a\nb\"", "\"\\x\"", "\"\\ud800\"", "\"\\uDC00\"", "\"\\u0000\"", "\"a", "\"\x01\""}},
        {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
         {"\"ab\"", "\"abc\"", "\"\xC3\xA9\xF0\x9F\x98\x80\"", "\"\\u00e9\\uD83D\\uDE00\"", "\"\\n\\\"x\""},
         {"\"\"", "\"a\"", "\"abcd\"", "\"\xF0\x9F\x98\x80\""}},
        {"{\"type\":\"string\",\"maxLength\":0}", {"\"\""}, {"\"a\""}},
        {"{\"minLength\":1}", {"\"a\""}, {"\"\"", "1"}},
    };
    CHECK(state, examples);
}

static void test_long_strings_are_counted_to_the_character(void **state) {
    static const int bounds[][2] = {{0, 257}, {0, 1000}, {255, 1025}, {300, 300}, {513, 5000}, {0, 70000}};
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        const int least = bounds[i][0], most = bounds[i][1];
        char schema[100], *text = calloc((size_t)most + 4, 1);
        snprintf(schema, sizeof schema, "{\"type\":\"string\",\"minLength\":%d,\"maxLength\":%d}", least, most);
        struct genarm_grammar *g = grammar_of(*state, schema);
        const int lengths[] = {least - 1, least, least + 1, (least + most) / 2, most - 1, most, most + 1};
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
            const int n = lengths[k];
            if (n < 0 || (most > 60000 && n > 1000)) { /* far into such a text the automaton is full */
                continue;
            }
            text[0] = '"';
            memset(text + 1, 'a', (size_t)n);
            strcpy(text + 1 + n, "\"");
            if ((reads(*state, g, text) == 2) != (n >= least && n <= most)) {
                fail_msg("%s on %d characters", schema, n);
            }
        }
        genarm_grammar_free(g);
        free(text);
    }
}

/* Masks look at all bytes that may follow, which begin many characters. */
static void test_a_long_text_is_masked_to_its_end(void **state) {
    enum { LENGTH = 3000 };
    const struct vocabulary *v = *state;
    struct genarm_grammar *g = grammar_of(v, "{\"type\":\"string\",\"minLength\":3000,\"maxLength\":3000}");
    struct genarm_error err = {0};
    int32_t at = GRAMMAR_START;
    must(grammar_advance(g, &at, v->bytes['"'], &err), &err);
    for (int i = 0; i < LENGTH; i++) {
        const char *character = i % 3 == 0 ? "\xF0\x9F\x98\x80" : i % 3 == 1 ? "\xE4\xB8\xAD" : "\xC3\xA9";
        const uint8_t *mask;
        must(grammar_allowed(g, at, &mask, &err), &err);
        assert_false(mask[v->bytes['"'] / 8] >> (v->bytes['"'] % 8) & 1);
        for (const char *c = character; *c; c++) {
            must(grammar_advance(g, &at, v->bytes[(uint8_t)*c], &err), &err);
        }
    }
    assert_int_equal(grammar_advance(g, &at, v->bytes['a'], &err), GENARM_EINVAL);
    must(grammar_advance(g, &at, v->bytes['"'], &err), &err);
    genarm_grammar_free(g);
}

static void test_patterns_mean_what_they_say(void **state) {
    static const struct example examples[] = {
        {"{\"pattern\":\"^[A-Z]{2,3}-\\\\d+$\"}", {"\"AB-1\"", "\"ABC-42\""}, {"\"A-1\"", "\"AB-\"", "\"xAB-1\"", "\"ab-1\""}},
        {"{\"pattern\":\"b\"}", {"\"b\"", "\"abc\"", "\"\\nb\""}, {"\"\"", "\"ac\""}},
        {"{\"pattern\":\"\\\\S\"}", {"\"x\"", "\"  x\""}, {"\"\"", "\"  \""}},
        {"{\"pattern\":\"^a|b$\"}", {"\"ax\"", "\"xb\""}, {"\"xa\"", "\"bx\""}},
        {"{\"pattern\":\"^(foo|ba[rz])?(?:-(?<n>x+?))*$\"}", {"\"\"", "\"foo\"", "\"baz-x-xx\""}, {"\"ba\"", "\"foo-\""}},
        {"{\"pattern\":\"^[^a-c\\\\s]$\"}",
         {"\"d\"", "\"\\\"\"", "\"\\\\\"", "\"\xC3\xA9\""},
         {"\"b\"", "\" \"", "\"\\n\"", "\"dd\""}},
        {"{\"pattern\":\"^\\\"\\\\\\\\\\\\/\\\\.$\"}", {"\"\\\"\\\\/.\""}, {"\"\\\"\\\\/x\""}},
        {"{\"pattern\":\"^.$\"}", {"\"a\"", "\"\\t\""}, {"\"\\n\"", "\"\""}},
        {"{\"pattern\":\"^\\\\w\\\\W\\\\D$\"}", {"\"a-x\"", "\"_.\xC3\xA9\""}, {"\"aax\"", "\"a-1\"", "\"a\xC3\xA9 \""}},
        {"{\"pattern\":\"^[\\\\w\\\\W][\\\\Dx\\\\d][\\\\s\\\\S]$\"}",
         {"\"\xC3\xA9\xD9\xA0\xEF\xBB\xBF\"", "\"a1 \"", "\"\\n\\n\\n\""},
         {"\"ab\""}},
        {"{\"pattern\":\"^[\\\\D\\\\w]$\"}", {"\"1\"", "\"\xC3\xA9\""}, {"\"\xD9\xA0\"", "\"\""}},
        {"{\"pattern\":\"^[^\\\\w\\\\s][^\\\\D][^\\\\S]$\"}",
         {"\"-1 \""},
         {"\"\xC3\xA9"
          "1 \"",
          "\"-x \"", "\" 1 \"", "\"-11\""}},
        {"{\"pattern\":\"^\\\\u00e9\\\\x41\\\\t{a}$\"}",
         {"\"\xC3\xA9"
          "A\\t{a}\""},
         {"\"eA\\t{a}\""}},
        {"{\"pattern\":\"^https?://[a-z]+\\\\.example$\"}", {"\"http://a.example\""}, {"\"ftp://a.example\""}},
        {"{\"pattern\":\"^[a-z]+$\",\"maxLength\":3}", {"\"a\"", "\"abc\""}, {"\"\"", "\"abcd\""}},
        {"{\"pattern\":\"^[A-Z][a-z]*$\",\"minLength\":2,\"maxLength\":4}", {"\"Ab\"", "\"Abcd\""}, {"\"A\"", "\"Abcde\""}},
        {"{\"pattern\":\"^(x|y)[^a-z]*$\",\"maxLength\":3}", {"\"x\"", "\"y12\""}, {"\"x123\"", "\"12\""}},
        {"{\"pattern\":\"^x{2}$\",\"minLength\":1,\"maxLength\":9}", {"\"xx\""}, {"\"x\"", "\"xxx\""}},
        {"{\"pattern\":\"^id\",\"maxLength\":4}", {"\"id\"", "\"id12\""}, {"\"id123\""}},
        {"{\"pattern\":\"\"}", {"\"\"", "\"any\""}, {"1"}},
    };
    CHECK(state, examples);
}

static void test_formats(void **state) {
    static const struct example examples[] = {
        {"{\"type\":\"string\",\"format\":\"date\"}",
         {"\"2024-02-29\"", "\"2000-02-29\"", "\"2023-12-31\"", "\"1999-04-30\""},
         {"\"2023-02-29\"", "\"1900-02-29\"", "\"2023-04-31\"", "\"2023-13-01\"", "\"2023-00-10\"", "\"23-01-01\""}},
        {"{\"format\":\"time\"}",
         {"\"23:59:59Z\"", "\"00:00:00.123+05:30\""},
         {"\"24:00:00Z\"", "\"12:00:00\"", "\"12:60:00Z\""}},
        {"{\"format\":\"date-time\"}", {"\"2024-02-29T12:00:00Z\""}, {"\"2024-02-29 12:00:00Z\"", "\"2024-02-30T12:00:00Z\""}},
        {"{\"format\":\"uuid\",\"maxLength\":36}", {"\"123e4567-e89b-12d3-a456-426614174000\""}, {"\"123e4567\""}},
        {"{\"format\":\"uuid4\",\"type\":\"string\"}",
         {"\"123e4567-e89b-42d3-a456-426614174000\""},
         {"\"123e4567-e89b-12d3-a456-426614174000\"", "\"123e4567-e89b-42d3-c456-426614174000\"", "\"123e4567\""}},
        {"{\"format\":\"uuid1\"}",
         {"\"123e4567-e89b-12d3-8456-426614174000\""},
         {"\"123e4567-e89b-42d3-8456-426614174000\""}},
        {"{\"format\":\"email\"}", {"\"a.b@example.org\""}, {"\"a@b\"", "\"@example.org\"", "\"a..b@example.org\""}},
        {"{\"format\":\"ipv4\"}", {"\"192.168.0.255\""}, {"\"256.0.0.1\"", "\"1.2.3\"", "\"01.2.3.4\""}},
        {"{\"format\":\"ipv6\"}", {"\"2001:db8:0:0:0:0:0:1\""}, {"\"2001:db8\""}},
        {"{\"format\":\"uri\"}",
         {"\"https://example.org/a?b=c#d\"", "\"ftp://a.example:21//b/c/?/?#/?\""},
         {"\"example.org\"", "\"https://example.org/a#b#c\"", "\"https://example.org:0/\""}},
        {"{\"format\":\"uri\",\"minLength\":1,\"maxLength\":2083,\"type\":\"string\"}", {"\"http://a.example/\""}, {"\"\""}},
        {"{\"format\":\"duration\"}", {"\"P3DT4H\"", "\"PT90S\"", "\"P2W\""}, {"\"P\"", "\"PT\"", "\"3D\""}},
        {"{\"type\":\"integer\",\"format\":\"int32\"}", {"2147483647", "-2147483648"}, {"2147483648", "-2147483649"}},
        {"{\"type\":\"string\",\"format\":\"password\"}", {"\"x\""}, {"1"}},
    };
    CHECK(state, examples);
}

/* What the table of lengths says of the longest. */
static void test_an_address_is_no_longer_than_it_may_be(void **state) {
    char text[2200] = "\"abcdefghijklmnopqrstu://", *at = text + strlen(text);
    for (int i = 0; i < 6; i++) {
        at += sprintf(at, "%s.", "abcdefghijklmnopqrstuvwxyz0123");
    }
    at += sprintf(at, "abcdefghijklmnopqrst:9999");
    for (const char *c = "/?#"; *c; c++) {
        *at++ = *c;
        memset(at, '/', 600);
        at += 600;
    }
    strcpy(at, "\"");
    assert_int_equal(at - text, 1 + 2038);
    struct genarm_grammar *g = grammar_of(*state, "{\"format\":\"uri\",\"maxLength\":2038}");
    assert_int_equal(reads(*state, g, text), 2);
    strcpy(at, "/\"");
    assert_int_equal(reads(*state, g, text), 0);
    genarm_grammar_free(g);
}

static void test_numbers_keep_their_bounds(void **state) {
    static const struct example examples[] = {
        {"{\"type\":\"number\",\"minimum\":0,\"maximum\":1}",
         {"0", "1", "0.5", "1.000", "0.0", "0.99999"},
         {"1.1", "-0.1", "2", "1.0001", "10", "-1"}},
        {"{\"type\":\"number\",\"exclusiveMinimum\":0,\"exclusiveMaximum\":1}", {"0.5", "0.001"}, {"0", "1", "0.0", "1.0"}},
        {"{\"type\":\"integer\",\"minimum\":1,\"exclusiveMinimum\":true,\"maximum\":4,\"exclusiveMaximum\":true}",
         {"2", "3"},
         {"1", "4"}},
        {"{\"type\":\"integer\",\"minimum\":1,\"exclusiveMinimum\":false,\"exclusiveMaximum\":true}", {"1", "9"}, {"0"}},
        {"{\"type\":\"integer\",\"minimum\":1,\"exclusiveMinimum\":2,\"maximum\":3}", {"3"}, {"1", "2", "4"}},
        {"{\"type\":\"number\",\"minimum\":-2.5,\"maximum\":12.25}",
         {"-2.5", "-2.49", "12.25", "12.2499", "0", "7.125", "-1"},
         {"-2.51", "-3", "12.26", "12.250001", "13", "100"}},
        {"{\"type\":\"number\",\"minimum\":0.3}", {"0.3", "0.300", "0.31", "5", "123456.789"}, {"0.29", "0.2999999", "-1"}},
        {"{\"type\":\"number\",\"maximum\":-1.5}", {"-1.5", "-1.51", "-2", "-100.5"}, {"-1.4", "0", "1"}},
        {"{\"type\":\"number\",\"minimum\":5,\"maximum\":5}", {"5", "5.0"}, {"4", "5.01"}},
        {"{\"minimum\":1e300,\"type\":\"integer\",\"maximum\":1e301,\"enum\":[1,1e300]}", {"1e+300"}, {"1"}},
        {"{\"type\":\"number\",\"maximum\":1.7976931348623157e308}", {"5", "-5.5"}, {"\"\""}},
        {"{\"type\":\"integer\",\"minimum\":1.5,\"maximum\":3.5}", {"2", "3"}, {"1", "4"}},
        {"{\"type\":\"integer\",\"multipleOf\":5,\"minimum\":-7,\"maximum\":12}", {"-5", "0", "10"}, {"-10", "3", "15"}},
        {"{\"type\":\"integer\",\"multipleOf\":100}", {"0", "-300", "1200"}, {"10", "50", "1"}},
        {"{\"type\":\"number\",\"multipleOf\":1,\"maximum\":3,\"minimum\":0}", {"2"}, {"2.0", "2.5"}},
        {"{\"type\":\"integer\",\"minimum\":9223372036854775806}",
         {"9223372036854775806", "9223372036854775807"},
         {"9223372036854775805", "5"}},
        {"{\"type\":\"integer\",\"minimum\":9210000000000000000,\"maximum\":9210000000000000005}",
         {"9210000000000000000", "9210000000000000005"},
         {"9209999999999999999", "9210000000000000006", "9223372036854775807"}},
        {"{\"type\":\"integer\",\"minimum\":9.1e18,\"maximum\":9.3e18,\"multipleOf\":1000000000000000}",
         {"9100000000000000000", "9223000000000000000"},
         {"9099000000000000000", "9100000000000000001", "9224000000000000000"}},
        {"{\"type\":\"integer\",\"minimum\":-9.3e18,\"maximum\":-9.1e18,\"multipleOf\":1000000000000000}",
         {"-9100000000000000000", "-9223000000000000000"},
         {"-9099000000000000000", "-9224000000000000000"}},
        {"{\"type\":\"integer\",\"minimum\":0,\"maximum\":18446744073709551615}",
         {"0", "9223372036854775807"},
         {"-1", "18446744073709551616"}},
        {"{\"type\":\"integer\",\"exclusiveMaximum\":-9007199254740993}", {"-9007199254740994"}, {"-9007199254740993", "0"}},
    };
    CHECK(state, examples);
}

/* All integers near the bounds, for many bounds. */
static void test_integers_between_bounds_are_exactly_those(void **state) {
    static const long long bounds[] = {-1234, -100, -99, -10, -7, -1, 0, 1, 3, 9, 10, 11, 99, 100, 150, 999, 1000, 4321};
    enum { N = sizeof bounds / sizeof *bounds };
    for (size_t i = 0; i < N; i++) {
        for (size_t j = i; j < N; j += 3) {
            char schema[120];
            const long long low = bounds[i], high = bounds[j];
            snprintf(schema, sizeof schema, "{\"type\":\"integer\",\"minimum\":%lld,\"maximum\":%lld}", low, high);
            struct genarm_grammar *g = grammar_of(*state, schema);
            for (long long x = -1300; x <= 4400; x += x > 200 && x < 4200 ? 37 : 1) {
                char text[24];
                snprintf(text, sizeof text, "%lld", x);
                if ((reads(*state, g, text) == 2) != (x >= low && x <= high)) {
                    fail_msg("%s on %lld", schema, x);
                }
            }
            genarm_grammar_free(g);
        }
    }
}

/* All numbers of two decimals around bounds of two decimals. */
static void test_decimals_between_bounds_are_exactly_those(void **state) {
    static const int bounds[] = {-1050, -999, -250, -1, 0, 1, 7, 10, 99, 100, 101, 250, 999, 1000, 1205};
    enum { N = sizeof bounds / sizeof *bounds };
    for (size_t i = 0; i < N; i++) {
        for (size_t j = i + 1; j < N; j += 2) {
            char schema[160];
            const bool open = (i + j) % 2;
            snprintf(schema, sizeof schema, "{\"type\":\"number\",\"%s\":%.2f,\"%s\":%.2f}",
                     open ? "exclusiveMinimum" : "minimum", bounds[i] / 100.0, open ? "exclusiveMaximum" : "maximum",
                     bounds[j] / 100.0);
            struct genarm_grammar *g = grammar_of(*state, schema);
            for (int x = -1100; x <= 1300; x += 1 + (x % 50 > 2 && x % 50 < 45) * 7) {
                char text[24];
                snprintf(text, sizeof text, "%s%d.%02d", x < 0 ? "-" : "", abs(x) / 100, abs(x) % 100);
                const bool want = open ? x > bounds[i] && x < bounds[j] : x >= bounds[i] && x <= bounds[j];
                if ((reads(*state, g, text) == 2) != want) {
                    fail_msg("%s on %s", schema, text);
                }
            }
            genarm_grammar_free(g);
        }
    }
}

static void test_objects(void **state) {
    static const struct example examples[] = {
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"boolean\"},\"c\":{\"type\":"
         "\"null\"}},"
         "\"required\":[\"b\"]}",
         {"{\"b\":true}", "{\"a\":1,\"b\":true}", "{\"b\":true,\"c\":null}", "{\"a\": 1, \"b\": true, \"c\": null}",
          "{\n\t\"a\" : 1,\n\t\"b\": true\n}"},
         {"{}", "{\"a\":1}", "{\"b\":1}", "{\"c\":null,\"b\":true}", "{\"b\":true,}", "{\"b\":true,\"d\":1}",
          "{\"b\":true \"c\":null}", "{,\"b\":true}", "{\"b\":true,\"b\":true}", "{\"b\":true}\n"}},
        {"{\"properties\":{\"a\":{},\"b\":{},\"c\":{}}}",
         {"{}", "{\"a\":1}", "{\"b\":1}", "{\"c\":1}", "{\"a\":1,\"c\":1}", "{\"b\":1,\"c\":1}", "{\"a\":1,\"b\":1,\"c\":1}"},
         {"{\"c\":1,\"a\":1}", "{\"d\":1}", "[]"}},
        {"{\"type\":\"object\",\"properties\":{}}", {"{}", "{ }"}, {"{\"a\":1}"}},
        {"{\"type\":\"object\",\"additionalProperties\":false}", {"{}"}, {"{\"a\":1}"}},
        {"{\"type\":\"object\",\"required\":[\"a\"]}", {"{\"a\":[1]}", "{\"a\":1, \"b\":2}"}, {"{}", "{\"b\":2}"}},
        {"{\"additionalProperties\":{\"type\":\"integer\"}}", {"{}", "{\"x\":1}", "{\"x\":1,\"y\":2}"}, {"{\"x\":\"1\"}"}},
        {"{\"properties\":{\"and\":{\"type\":\"integer\"},\"also\":{\"type\":\"integer\"}},\"additionalProperties\":{\"type\":"
         "\"string\"}}",
         {"{}", "{\"and\":1,\"x\":\"y\"}", "{\"an\":\"y\"}", "{\"andy\":\"y\"}", "{\"\":\"y\"}", "{\"al\":\"y\",\"x\":\"z\"}"},
         {"{\"and\":\"y\"}", "{\"also\":\"y\"}", "{\"\\u0061nd\":\"y\"}", "{\"x\":1}"}},
        {"{\"properties\":{\"\xC3\xA9\\\"\":{\"const\":1}},\"additionalProperties\":true,\"required\":[\"\xC3\xA9\\\"\"]}",
         {"{\"\xC3\xA9\\\"\":1}", "{\"\xC3\xA9\\\"\":1,\"\xC3\xA9\":2}"},
         {"{\"\xC3\xA9\":1}"}},
        {"{\"properties\":{\"a\":false,\"b\":true},\"additionalProperties\":true}", {"{\"b\":1}", "{\"c\":1}"}, {"{\"a\":1}"}},
        {"{\"properties\":{\"a\":{},\"b\":{}},\"minProperties\":1}", {"{\"a\":1}", "{\"b\":1}", "{\"a\":1,\"b\":1}"}, {"{}"}},
        {"{\"properties\":{\"a\":{},\"b\":{}},\"minProperties\":2}", {"{\"a\":1,\"b\":1}"}, {"{\"a\":1}"}},
        {"{\"type\":\"object\",\"maxProperties\":2}", {"{}", "{\"a\":1,\"b\":1}"}, {"{\"a\":1,\"b\":1,\"c\":1}"}},
        {"{\"type\":\"object\",\"minProperties\":1}", {"{\"a\":1}"}, {"{}"}},
    };
    CHECK(state, examples);
}

static void test_arrays(void **state) {
    static const struct example examples[] = {
        {"{\"items\":{\"type\":\"integer\"}}", {"[]", "[1]", "[1, 2,\n  3]"}, {"[\"a\"]", "[1,]", "1"}},
        {"{\"items\":{\"type\":\"integer\"},\"minItems\":2,\"maxItems\":3}", {"[1,2]", "[1,2,3]"}, {"[]", "[1]", "[1,2,3,4]"}},
        {"{\"items\":{\"type\":\"integer\"},\"maxItems\":1,\"uniqueItems\":true}", {"[]", "[1]"}, {"[1,1]"}},
        {"{\"items\":false}", {"[]"}, {"[1]"}},
        {"{\"type\":\"array\",\"maxItems\":0}", {"[]", "[ ]"}, {"[1]"}},
        {"{\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"string\"}]}",
         {"[1,\"a\"]"},
         {"[]", "[1]", "[1,\"a\",2]", "[\"a\",1]"}},
        {"{\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"string\"}],\"minItems\":0,\"items\":{\"type\":\"null\"}}",
         {"[]", "[1]", "[1,\"a\"]", "[1,\"a\",null,null]"},
         {"[null]", "[1,null]", "[1,\"a\",2]"}},
        {"{\"items\":[{\"type\":\"integer\"}],\"additionalItems\":{\"type\":\"string\"},\"maxItems\":2}",
         {"[1]", "[1,\"a\"]"},
         {"[\"a\"]", "[1,\"a\",\"b\"]"}},
        {"{\"items\":{\"items\":{\"enum\":[0,1]}},\"maxItems\":300}", {"[[0,1],[],[1]]"}, {"[[2]]"}},
    };
    CHECK(state, examples);
}

static void test_enum_and_const(void **state) {
    static const struct example examples[] = {
        {"{\"enum\":[\"red\",\"\\n\\\"\",null,42,1.5,true,[\"a\",{}],{\"k\":1}]}",
         {"\"red\"", "\"\\n\\\"\"", "null", "42", "1.5", "true", "[\"a\", {}]", "{\"k\": 1}", "{\n  \"k\":1\n}"},
         {"\"re\"", "43", "[\"a\"]", "{\"k\":2}"}},
        {"{\"const\":\"a\\\\b\"}", {"\"a\\\\b\""}, {"\"ab\""}},
        {"{\"const\":null}", {"null"}, {"0"}},
        {"{\"type\":\"string\",\"enum\":[\"a\",1,\"bcd\"],\"maxLength\":2}", {"\"a\""}, {"1", "\"bcd\""}},
        {"{\"type\":\"integer\",\"enum\":[1,2,3,4.0,5.5],\"minimum\":2,\"multipleOf\":2}", {"2", "4.0"}, {"1", "3", "5.5"}},
        {"{\"allOf\":[{\"enum\":[1,2,3]},{\"enum\":[2,3,4]},{\"const\":3}]}", {"3"}, {"1", "2", "4"}},
    };
    CHECK(state, examples);
}

static void test_combinations(void **state) {
    static const struct example examples[] = {
        {"{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]}", {"1", "\"a\""}, {"null", "1.5"}},
        {"{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"},false],\"minimum\":3,\"maxLength\":1}",
         {"3", "\"a\""},
         {"2", "\"ab\""}},
        {"{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"],"
         "\"anyOf\":[{\"properties\":{\"a\":{\"const\":1}},\"required\":[\"a\"]},{\"properties\":{\"b\":{\"const\":2}},"
         "\"required\":[\"b\"]}]}",
         {"{\"n\":1,\"a\":1}", "{\"n\":1,\"b\":2}"},
         {"{\"n\":1}", "{\"a\":1}", "{\"n\":1,\"a\":2}"}},
        {"{\"allOf\":[{\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"]},"
         "{\"properties\":{\"a\":{\"minimum\":5},\"b\":{\"type\":\"string\"}}}]}",
         {"{\"a\":5}", "{\"a\":7,\"b\":\"\"}"},
         {"{\"a\":4}", "{\"b\":\"\"}", "{\"a\":5.5}"}},
        {"{\"allOf\":[{\"properties\":{\"a\":{}},\"additionalProperties\":false},{\"properties\":{\"b\":{}}}]}",
         {"{}", "{\"a\":1}"},
         {"{\"b\":1}"}},
        {"{\"allOf\":[{\"$ref\":\"#/$defs/p\"},{\"maximum\":9}],\"$defs\":{\"p\":{\"type\":\"integer\",\"minimum\":1}}}",
         {"1", "9"},
         {"0", "10"}},
        {"{\"$ref\":\"#/definitions/a~1b%20c\",\"maximum\":3,\"definitions\":{\"a/b c\":{\"type\":\"integer\",\"minimum\":2}}}",
         {"2", "3"},
         {"1", "4"}},
        {"{\"$id\":\"https://example.org/s\",\"$ref\":\"https://example.org/s#/$defs/list/"
         "1\",\"$defs\":{\"list\":[{},{\"const\":7}]}}",
         {"7"},
         {"1"}},
        {"{\"oneOf\":[{\"type\":\"integer\",\"maximum\":3},{\"type\":\"integer\",\"minimum\":5},{\"type\":\"string\"},{\"const\":"
         "null}]}",
         {"3", "5", "\"\"", "null"},
         {"4"}},
        {"{\"oneOf\":[{\"properties\":{\"kind\":{\"const\":\"cat\"},\"meow\":{\"type\":\"boolean\"}}},"
         "{\"properties\":{\"kind\":{\"const\":\"dog\"},\"bark\":{\"type\":\"boolean\"}}}],"
         "\"discriminator\":{\"propertyName\":\"kind\"}}",
         {"{\"kind\":\"cat\",\"meow\":true}", "{\"kind\":\"dog\"}"},
         {"{}", "{\"kind\":\"dog\",\"meow\":true}"}},
        {"{\"oneOf\":[{\"properties\":{\"a\":{}},\"required\":[\"a\"],\"additionalProperties\":false},"
         "{\"properties\":{\"b\":{}},\"required\":[\"b\"],\"additionalProperties\":false}]}",
         {"{\"a\":1}", "{\"b\":1}"},
         {"{}", "{\"a\":1,\"b\":1}"}},
        {"{\"oneOf\":[{\"type\":\"object\",\"required\":[\"p\"],\"properties\":{\"p\":{\"type\":\"object\",\"required\":[\"a\"],"
         "\"properties\":{\"a\":{}}}}},{\"type\":\"object\",\"required\":[\"p\"],\"properties\":{\"p\":{\"type\":\"object\","
         "\"required\":[\"q\"],\"properties\":{\"q\":{}}}}}]}",
         {"{\"p\":{\"a\":1}}", "{\"p\":{\"q\":1}}"},
         {"{\"p\":{\"a\":1,\"q\":1}}", "{\"p\":{}}"}},
        {"{\"type\":\"object\",\"properties\":{\"value\":{\"type\":\"integer\"},\"next\":{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":"
         "\"null\"}]}},"
         "\"required\":[\"value\",\"next\"],\"additionalProperties\":false}",
         {"{\"value\":1,\"next\":null}", "{\"value\":1,\"next\":{\"value\":2,\"next\":null}}"},
         {"{\"value\":1}", "{\"value\":1,\"next\":1}"}},
        {"{\"unevaluatedProperties\":false,\"allOf\":[{\"properties\":{\"a\":{}}},{\"properties\":{\"b\":{}}}]}",
         {"{}", "{\"a\":1,\"b\":1}"},
         {"{\"c\":1}"}},
        {"{\"unevaluatedProperties\":false,\"required\":[\"b\",\"c\"],\"allOf\":[{\"properties\":{\"a\":{}}},"
         "{\"additionalProperties\":{\"type\":\"integer\"}}]}",
         {"{\"b\":1,\"c\":2}", "{\"a\":1,\"b\":1,\"c\":2}"},
         {"{}", "{\"b\":1}", "{\"b\":1,\"c\":null}"}},
        {"{\"oneOf\":[{\"type\":\"string\"},{\"const\":1}]}", {"\"\"", "1"}, {"2"}},
        {"{\"$ref\":\"#/$defs/"
         "t\",\"$defs\":{\"t\":{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/t\"}}]}}}",
         {"1", "[]", "[1,[2,[3]]]"},
         {"[null]", "null"}},
        {"{\"$defs\":{\"QAPair\":{\"properties\":{\"question\":{\"title\":\"Question\",\"type\":\"string\"},"
         "\"ok\":{\"anyOf\":[{\"type\":\"boolean\"},{\"type\":\"null\"}],\"default\":null,\"title\":\"Ok\"}},"
         "\"required\":[\"question\"],\"title\":\"QAPair\",\"type\":\"object\"}},"
         "\"properties\":{\"items\":{\"items\":{\"$ref\":\"#/$defs/"
         "QAPair\"},\"minItems\":1,\"title\":\"Items\",\"type\":\"array\"}},"
         "\"required\":[\"items\"],\"title\":\"Summary\",\"type\":\"object\"}",
         {"{\"items\": [{\"question\": \"?\"}, {\"question\": \"!\", \"ok\": null}]}"},
         {"{\"items\": []}", "{}", "{\"items\": [{\"ok\": true}]}"}},
    };
    CHECK(state, examples);
}

static void test_white_space_is_bounded(void **state) {
    struct genarm_grammar *g = grammar_of(*state, "{}");
    assert_int_equal(reads(*state, g, "{ "), 1);
    assert_int_equal(reads(*state, g, "{  "), 0);
    assert_int_equal(reads(*state, g, "[\n\n"), 0);
    assert_int_equal(reads(*state, g, "[\n                    "), 1);
    assert_int_equal(reads(*state, g, "[\n                     "), 0);
    assert_int_equal(reads(*state, g, "{} "), 0);
    genarm_grammar_free(g);
}

static void test_what_cannot_be_enforced_is_refused_with_its_place(void **state) {
    (void)state;
    static const struct {
        const char *schema;
        int code;
        const char *says;
    } cases[] = {
        {"{", GENARM_EFORMAT, "broken JSON"},
        {"", GENARM_EFORMAT, "broken JSON"},
        {"{\"type\":\"x\",\"type\":\"y\"}", GENARM_EFORMAT, "broken JSON: duplicate object key"},
        {"7", GENARM_EFORMAT, "the schema: expected an object, true or false"},
        {"null", GENARM_EFORMAT, "the schema: expected an object, true or false"},
        {"false", GENARM_EFORMAT, "the schema: no value satisfies the schema"},
        {"{\"type\":\"kaboom\"}", GENARM_EFORMAT, "/type: expected null, boolean,"},
        {"{\"type\":[]}", GENARM_EFORMAT, "/type: expected"},
        {"{\"type\":123}", GENARM_EFORMAT, "/type: expected"},
        {"{\"properties\":{\"a\":5}}", GENARM_EFORMAT, "/properties: expected an object of schemas"},
        {"{\"properties\":{\"a\":{\"patternProperties\":{}}}}", GENARM_EUNSUPPORTED, "/properties/a/patternProperties: "},
        {"{\"items\":{\"not\":{}}}", GENARM_EUNSUPPORTED, "/items/not: "},
        {"{\"if\":{}}", GENARM_EUNSUPPORTED, "/if: "},
        {"{\"anyOf\":[{},{\"contains\":{}}]}", GENARM_EUNSUPPORTED, "/anyOf/1/contains: "},
        {"{\"anyOf\":[]}", GENARM_EFORMAT, "/anyOf: expected an array of schemas"},
        {"{\"type\":\"string\",\"maxlength\":3}", GENARM_EUNSUPPORTED, "/maxlength: this is no keyword of JSON Schema"},
        {"{\"type\":\"string\",\"maxLength\":-1}", GENARM_EFORMAT, "/maxLength: expected a whole number"},
        {"{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", GENARM_EFORMAT, "the schema: no value satisfies the schema"},
        {"{\"properties\":{\"a~/b\":{\"minimum\":2,\"maximum\":1}},\"required\":[\"a~/b\"]}", GENARM_EFORMAT,
         "/properties/a~0~1b: no value satisfies"},
        {"{\"required\":[\"a\"],\"additionalProperties\":false}", GENARM_EFORMAT, "no value satisfies"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{}},\"required\":[\"a\",\"z\"],\"unevaluatedProperties\":false}",
         GENARM_EFORMAT, "no value satisfies"},
        {"{\"items\":{},\"uniqueItems\":true}", GENARM_EUNSUPPORTED, "/uniqueItems: "},
        {"{\"format\":\"regex\"}", GENARM_EUNSUPPORTED, "/format: \"regex\" cannot be enforced"},
        {"{\"format\":\"uuid9\"}", GENARM_EUNSUPPORTED, "/format: \"uuid9\" cannot be enforced"},
        {"{\"format\":\"date\",\"maxLength\":5}", GENARM_EUNSUPPORTED, "/maxLength: a length beside a format"},
        {"{\"format\":\"email\",\"minLength\":7}", GENARM_EUNSUPPORTED, "/minLength: a length beside a format"},
        {"{\"multipleOf\":0.01}", GENARM_EUNSUPPORTED, "/multipleOf: "},
        {"{\"multipleOf\":7}", GENARM_EUNSUPPORTED, "/multipleOf: "},
        {"{\"multipleOf\":0}", GENARM_EFORMAT, "/multipleOf: "},
        {"{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":1e-20}", GENARM_EUNSUPPORTED,
         "the schema: no number of 15 digits without exponent"},
        {"{\"properties\":{\"a\":{\"minimum\":0.12345678901234567,\"maximum\":0.12345678901234567}}}", GENARM_EUNSUPPORTED,
         "/properties/a: no number of 15 digits without exponent"},
        {"{\"properties\":{\"a\":{\"type\":[\"number\",\"null\"],\"minimum\":-1e-30,\"exclusiveMaximum\":0}}}",
         GENARM_EUNSUPPORTED, "/properties/a: no number of 15 digits without exponent"},
        {"{\"type\":\"number\",\"exclusiveMinimum\":2,\"maximum\":2}", GENARM_EFORMAT, "no value satisfies"},
        {"{\"type\":\"number\",\"minimum\":1e20}", GENARM_EUNSUPPORTED, "/minimum: "},
        {"{\"type\":\"integer\",\"minimum\":1e20}", GENARM_EUNSUPPORTED, "/minimum: bounds of integers"},
        {"{\"type\":\"integer\",\"exclusiveMaximum\":-9223372036854775807}", GENARM_EUNSUPPORTED,
         "/maximum: bounds of integers"},
        {"{\"type\":\"integer\",\"minimum\":-9e18,\"maximum\":9e18,\"multipleOf\":1000000000000000}", GENARM_EUNSUPPORTED,
         "/multipleOf: multiples can be enforced between bounds"},
        {"{\"type\":\"integer\",\"minimum\":9223372036854775000,\"maximum\":9223372036854775807,\"multipleOf\":1000000}",
         GENARM_EFORMAT, "no value satisfies"},
        {"{\"$ref\":\"#/$defs/x\"}", GENARM_EFORMAT, "/$ref: there is no schema at \"#/$defs/x\""},
        {"{\"$ref\":\"other.json\"}", GENARM_EUNSUPPORTED, "/$ref: only references into this schema"},
        {"{\"$ref\":\"#\"}", GENARM_EUNSUPPORTED, "the schema: the schema refers to itself and nothing else"},
        {"{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}", GENARM_EUNSUPPORTED, "an alternative of itself"},
        {"{\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", GENARM_EFORMAT, "contains itself always"},
        {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", GENARM_EUNSUPPORTED,
         "/oneOf: a value might satisfy alternatives 0 and 1"},
        {"{\"oneOf\":[{\"properties\":{\"a\":{}}},{\"properties\":{\"b\":{}}}]}", GENARM_EUNSUPPORTED, "/oneOf: a value might"},
        {"{\"oneOf\":[{\"maxLength\":2,\"anyOf\":[{\"minimum\":1}]},{\"minLength\":3}]}", GENARM_EUNSUPPORTED,
         "/oneOf: a value might satisfy alternatives 0 and 1"}, /* 1 does */
        {"{\"oneOf\":[{\"type\":\"object\",\"required\":[\"p\"],\"properties\":{\"p\":{\"maxLength\":2}},"
         "\"anyOf\":[{\"properties\":{\"p\":{\"minimum\":1}}}]},"
         "{\"type\":\"object\",\"required\":[\"p\"],\"properties\":{\"p\":{\"minLength\":3}}}]}", GENARM_EUNSUPPORTED,
         "/oneOf: a value might satisfy alternatives 0 and 1"},
        {"{\"oneOf\":[{\"type\":\"object\",\"required\":[\"p\"],\"properties\":{\"p\":{\"type\":\"object\",\"required\":[\"a\"],"
         "\"properties\":{\"a\":{\"type\":\"integer\"}}}},\"anyOf\":[{\"properties\":{\"p\":{\"properties\":{\"q\":{}}}}}]},"
         "{\"type\":\"object\",\"required\":[\"p\"],\"properties\":{\"p\":{\"type\":\"object\",\"required\":[\"q\"],"
         "\"properties\":{\"q\":{}}}}}]}", GENARM_EUNSUPPORTED, "/oneOf: a value might satisfy alternatives 0 and 1"},
        {"{\"properties\":{\"a\":{},\"b\":{},\"c\":{}},\"minProperties\":2}", GENARM_EUNSUPPORTED, "/minProperties: "},
        {"{\"type\":\"object\",\"minProperties\":2}", GENARM_EUNSUPPORTED, "/minProperties: "},
        {"{\"properties\":{\"a\":{}},\"minProperties\":2}", GENARM_EUNSUPPORTED, "/minProperties: fewer properties are named"},
        {"{\"properties\":{\"a\":{}},\"minProperties\":2,\"maxProperties\":1}", GENARM_EFORMAT, "no value satisfies"},
        {"{\"properties\":{\"a\":{}},\"minProperties\":2,\"additionalProperties\":false}", GENARM_EFORMAT, "no value satisfies"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{}},\"minProperties\":2,\"unevaluatedProperties\":false}", GENARM_EFORMAT,
         "no value satisfies"},
        {"{\"allOf\":[{\"properties\":{\"a\":{}},\"unevaluatedProperties\":false},{\"properties\":{\"b\":{}}}]}",
         GENARM_EUNSUPPORTED, "/allOf/0/unevaluatedProperties: "},
        {"{\"pattern\":\"a(\"}", GENARM_EFORMAT, "/pattern: character 3: the group has no end"},
        {"{\"pattern\":\"a)\"}", GENARM_EFORMAT, "/pattern: character 2: there is no group to end"},
        {"{\"pattern\":\"[b-a]\"}", GENARM_EFORMAT, "the range ends before it begins"},
        {"{\"pattern\":\"[a\"}", GENARM_EFORMAT, "the class has no end"},
        {"{\"pattern\":\"*\"}", GENARM_EFORMAT, "there is nothing to repeat"},
        {"{\"pattern\":\"a{3,2}\"}", GENARM_EFORMAT, "more repetitions at least than at most"},
        {"{\"pattern\":\"(?=a)\"}", GENARM_EUNSUPPORTED, "looks ahead"},
        {"{\"pattern\":\"(?<!a)b\"}", GENARM_EUNSUPPORTED, "looks ahead or behind"},
        {"{\"pattern\":\"(?i)abc\"}", GENARM_EUNSUPPORTED, "/pattern: character 2: this kind of group cannot be enforced"},
        {"{\"minimum\":true}", GENARM_EFORMAT, "/minimum: expected a number"},
        {"{\"exclusiveMinimum\":\"1\"}", GENARM_EFORMAT, "/exclusiveMinimum: expected a number, true or false"},
        {"{\"pattern\":\"(a)\\\\1\"}", GENARM_EUNSUPPORTED, "this escape"},
        {"{\"pattern\":\"a\\\\b\"}", GENARM_EUNSUPPORTED, "this escape"},
        {"{\"pattern\":\"a^b\"}", GENARM_EUNSUPPORTED, "^ and $"},
        {"{\"pattern\":\"^(a|bb)+$\",\"maxLength\":3}", GENARM_EUNSUPPORTED, "/maxLength: a length beside this pattern"},
        {"{\"pattern\":\"a\",\"enum\":[\"a\"]}", GENARM_EUNSUPPORTED, "/pattern: a pattern beside enum"},
        {"{\"allOf\":[{\"pattern\":\"a\"},{\"pattern\":\"b\"}]}", GENARM_EUNSUPPORTED, "/allOf/1/pattern: two patterns"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char untouched, *gbnf = &untouched;
        struct genarm_error err = {0};
        const int rc = genarm_schema_to_gbnf(&gbnf, cases[i].schema, &err);
        if (rc != cases[i].code || err.code != rc || !strstr(err.what, cases[i].says)) {
            fail_msg("%s gives %d: %s", cases[i].schema, rc, err.what);
        }
        assert_ptr_equal(gbnf, &untouched);
        assert_int_equal(genarm_schema_to_gbnf(&gbnf, cases[i].schema, NULL), rc);
    }
}

static void test_numbers_have_a_point_in_every_locale(void **state) {
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "ru_RU.UTF-8", "de_DE", "fr_FR"};
    static const struct example examples[] = {
        {"{\"enum\":[1.5,-0.25,1e300,2.0,1.5e-7]}", {"1.5", "-0.25", "1e+300", "2.0", "1.5e-07"}, {"1,5", "2,0", "1,5e-07"}},
        {"{\"type\":\"number\",\"minimum\":0.25,\"maximum\":1.75}", {"0.25", "1.75", "1"}, {"0.24", "1.76", "0,25"}},
    };
    CHECK(state, examples);
    size_t i = 0;
    while (i < sizeof names / sizeof *names && !setlocale(LC_NUMERIC, names[i])) {
        i++;
    }
    if (i == sizeof names / sizeof *names) {
        skip();
    }
    CHECK(state, examples);
    setlocale(LC_NUMERIC, "C");
}

/* head, n times the middle, n times the end */
static char *nested(const char *head, const char *middle, const char *core, const char *end, int n) {
    char *text = calloc(1, strlen(head) + strlen(core) + (size_t)n * (strlen(middle) + strlen(end)) + 1), *at = text;
    at = stpcpy(at, head);
    for (int i = 0; i < n; i++) {
        at = stpcpy(at, middle);
    }
    at = stpcpy(at, core);
    for (int i = 0; i < n; i++) {
        at = stpcpy(at, end);
    }
    return text;
}

/* Few alternatives, each of which has all the schemas beside it: what is copied and compared multiplies. */
static void test_many_schemas_at_once_are_refused_soon(void **state) {
    (void)state;
    static const struct {
        const char *beside, *alternatives;
        int n_beside, n_unions;
    } cases[] = {
        {",{\"minLength\":1}", ",{\"anyOf\":[{\"maxLength\":7},{\"maxLength\":8}]}", 3980, 16},
        {",{\"anyOf\":[{\"maxLength\":7},{\"maxLength\":8}]}", ",{\"minLength\":1}", 16, 3980},
        {",{\"type\":\"integer\"}", ",{\"oneOf\":[{\"maximum\":1},{\"minimum\":2}]}", 3980, 16},
        {",{\"properties\":{\"a\":{\"minimum\":1}}}", ",{\"anyOf\":[{\"minimum\":7},{\"minimum\":8}]}", 1900, 16},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *beside = nested("{\"allOf\":[{}", cases[i].beside, "", "", cases[i].n_beside), *gbnf = NULL;
        char *text = nested(beside, cases[i].alternatives, "]}", "", cases[i].n_unions);
        struct genarm_error err = {0};
        assert_int_equal(genarm_schema_to_gbnf(&gbnf, text, &err), GENARM_EUNSUPPORTED);
        assert_non_null(strstr(err.what, "the schema is too large"));
        free(text);
        free(beside);
    }
}

/* Each of 100 alternatives is compared with each other one, and each has 4000 schemas to satisfy. */
static void test_large_alternatives_are_not_compared_for_ever(void **state) {
    (void)state;
    char *beside = nested("{\"allOf\":[{}", ",{\"minimum\":1}", "],\"oneOf\":[{\"const\":0}", "", 3980), *gbnf = NULL;
    char *text = nested(beside, ",{\"const\":7}", "]}", "", 99);
    struct genarm_error err = {0};
    assert_int_equal(genarm_schema_to_gbnf(&gbnf, text, &err), GENARM_EUNSUPPORTED);
    assert_non_null(strstr(err.what, "the schema is too large"));
    free(text);
    free(beside);
}

static void test_deep_and_huge_schemas_are_refused_not_died_of(void **state) {
    (void)state;
    static const struct {
        const char *head, *middle, *core, *end;
        int n;
    } cases[] = {
        {"", "{\"items\":", "{}", "}", 900},
        {"", "{\"items\":", "{}", "}", 100000},
        {"", "{\"anyOf\":[", "{}", "]}", 500},
        {"", "{\"allOf\":[", "{}", "]}", 500},
        {"{\"pattern\":\"", "(", "a\"}", "", 5000},
        {"{\"pattern\":\"", "(", "\"}", "", 30},
        {"{\"pattern\":\"^", "a{9999}{9999}", "\"}", "", 1},
        {"{\"allOf\":[{}", ",{\"anyOf\":[{\"minLength\":1},{\"minimum\":1}]}", "]}", "", 60},
        {"{\"enum\":[0", ",0", "]}", "", 5000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = nested(cases[i].head, cases[i].middle, cases[i].core, cases[i].end, cases[i].n), *gbnf = NULL;
        struct genarm_error err = {0};
        if (genarm_schema_to_gbnf(&gbnf, text, &err) == GENARM_OK || gbnf) {
            fail_msg("case %zu is read", i);
        }
        free(text);
    }
}

/* Every prefix of a schema, and every one with a character changed, is read or refused, and what is read is a grammar. */
static void test_broken_schemas_do_no_harm(void **state) {
    static const char schema[] =
        "{\"$defs\":{\"n\":{\"type\":\"number\",\"minimum\":-1.5,\"maximum\":2e1}},\"properties\":{\"a\":{\"$ref\":\"#/$defs/"
        "n\"},"
        "\"b\":{\"pattern\":\"^[a-c]{2,}\\\\d(x|y)?$\",\"maxLength\":9},\"c\":{\"items\":{\"enum\":[1,\"x\",null]},\"maxItems\":"
        "3},"
        "\"d\":{\"oneOf\":[{\"type\":\"string\",\"format\":\"date\"},{\"type\":\"integer\"}]}},\"required\":[\"a\"],"
        "\"additionalProperties\":{\"type\":[\"null\",\"object\"]}}";
    static const char changes[] = "\"{}[]:,\\0a$~^|*-";
    char text[sizeof schema];
    for (size_t i = 0; i < sizeof schema - 1; i++) {
        for (size_t k = 0; k < sizeof changes; k++) { /* the last change cuts the text */
            char *gbnf = NULL;
            memcpy(text, schema, sizeof text);
            text[i] = changes[k];
            if (genarm_schema_to_gbnf(&gbnf, text, NULL) == GENARM_OK && (i + k) % 16 == 0) {
                struct genarm_grammar *g;
                const struct vocabulary *v = *state;
                must(genarm_grammar_new(&g, v->model, gbnf, NULL), NULL);
                genarm_grammar_free(g);
            }
            free(gbnf);
        }
    }
}

static void test_a_parsed_schema_is_the_same_grammar(void **state) {
    (void)state;
    const char *schema = "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"]}";
    struct genarm_error err = {0};
    struct buf text;
    char *gbnf;
    json_t *value = json_loads(schema, 0, NULL);
    buf_init(&text, 1 << 20);
    must(schema_to_gbnf(&text, value, &err), &err);
    must(genarm_schema_to_gbnf(&gbnf, schema, &err), &err);
    assert_string_equal(text.data, gbnf);
    free(gbnf);
    buf_deinit(&text);
    json_decref(value);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types_and_any_json),
        cmocka_unit_test(test_strings_are_those_of_json),
        cmocka_unit_test(test_long_strings_are_counted_to_the_character),
        cmocka_unit_test(test_a_long_text_is_masked_to_its_end),
        cmocka_unit_test(test_patterns_mean_what_they_say),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_an_address_is_no_longer_than_it_may_be),
        cmocka_unit_test(test_numbers_keep_their_bounds),
        cmocka_unit_test(test_integers_between_bounds_are_exactly_those),
        cmocka_unit_test(test_decimals_between_bounds_are_exactly_those),
        cmocka_unit_test(test_objects),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_enum_and_const),
        cmocka_unit_test(test_combinations),
        cmocka_unit_test(test_white_space_is_bounded),
        cmocka_unit_test(test_what_cannot_be_enforced_is_refused_with_its_place),
        cmocka_unit_test(test_numbers_have_a_point_in_every_locale),
        cmocka_unit_test(test_many_schemas_at_once_are_refused_soon),
        cmocka_unit_test(test_large_alternatives_are_not_compared_for_ever),
        cmocka_unit_test(test_deep_and_huge_schemas_are_refused_not_died_of),
        cmocka_unit_test(test_broken_schemas_do_no_harm),
        cmocka_unit_test(test_a_parsed_schema_is_the_same_grammar),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
