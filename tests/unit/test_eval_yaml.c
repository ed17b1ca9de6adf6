/* YAML documents as trees: what they hold, where it stands, what is refused, and that no bytes harm the reader. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "eval/yaml.h"
#include "support/golden.h"

static struct yaml *doc;
static struct genarm_error err;

static int parse_bytes(const char *text, size_t n) {
    yaml_doc_free(doc);
    doc = NULL;
    memset(&err, 0, sizeof err);
    return yaml_parse(&doc, text, n, "f.yaml", &err);
}

static int parse(const char *text) { return parse_bytes(text, strlen(text)); }

static int teardown(void **state) {
    (void)state;
    yaml_doc_free(doc);
    doc = NULL;
    return 0;
}

static void refused(const char *text, const char *where, const char *what) {
    assert_int_equal(parse(text), GENARM_EFORMAT);
    assert_null(doc);
    if (strcmp(err.where, where) != 0 || !strstr(err.what, what)) {
        fail_msg("%s\n  says: %s: %s\n  not:  %s: %s", text, err.where, err.what, where, what);
    }
}

static void test_values_know_where_they_stand(void **state) {
    (void)state;
    must(parse("title: A b\nlist:\n  - 1\n  - {x: 'two', y: null}\nempty:\n"), &err);
    const struct yaml_value *list = yaml_get(&doc->root, "list");
    assert_string_equal(yaml_get(&doc->root, "title")->text, "A b");
    assert_int_equal(list->kind, YAML_LIST);
    assert_int_equal(list->n, 2);
    assert_int_equal(list->items[0].line, 3);
    assert_int_equal(list->items[0].column, 5);
    assert_true(list->items[0].plain);
    assert_false(yaml_get(&list->items[1], "x")->plain);
    assert_true(yaml_is_null(yaml_get(&list->items[1], "y")));
    assert_true(yaml_is_null(yaml_get(&doc->root, "empty")));
    assert_null(yaml_get(&doc->root, "no"));
    assert_null(yaml_get(list, "x"));
}

static void test_json_is_yaml(void **state) {
    (void)state;
    must(parse("{\"a\": [1, -2.5, \"3\", true, null], \"b\": {\"c\": \"\\u00e9\\n\"}}"), &err);
    json_t *json = yaml_json(&doc->root);
    char *text = json_dumps(json, JSON_COMPACT);
    assert_string_equal(text, "{\"a\":[1,-2.5,\"3\",true,null],\"b\":{\"c\":\"\xc3\xa9\\n\"}}");
    free(text);
    json_decref(json);
}

static void test_aliases_are_what_they_stand_for(void **state) {
    (void)state;
    must(parse("a: &x {k: [1, 2]}\nb: *x\nc: [*x, *x]\n"), &err);
    assert_string_equal(yaml_get(yaml_get(&doc->root, "b"), "k")->items[1].text, "2");
    assert_string_equal(yaml_get(&yaml_get(&doc->root, "c")->items[1], "k")->items[0].text, "1");
}

static void test_what_is_refused_names_its_place(void **state) {
    (void)state;
    refused("a: 1\nb: 2\na: 3\n", "f.yaml:3:1", "\"a\" is there twice, first in line 1");
    refused("a: &x [1, *x]\n", "f.yaml:1:4", "an alias lies in what it stands for");
    refused("a: *nothing\n", "f.yaml:1:4", "undefined alias");
    refused("a: 1\n---\nb: 2\n", "f.yaml:3:1", "a second document");
    refused("", "f.yaml:1:1", "nothing in it");
    refused("# only words\n", "f.yaml:1:1", "nothing in it");
    refused("a: b: c\n", "f.yaml:1:5", "mapping values are not allowed");
    refused("a:\n\t- x\n", "f.yaml:2:1", "cannot start any token");
    refused("a: [1, 2\n", "f.yaml:2:1", "did not find expected");
    refused("[a]: 1\n", "f.yaml:1:1", "a key must be a text");
    refused("a: !!python/object x\n", "f.yaml:1:4", "tags have no meaning here");
    refused("a: \"x\\0y\"\n", "f.yaml:1:4", "zero byte");
    refused("a: \"x\\x01y\"\n", "f.yaml:1:4", "byte 1");
    refused("ok: 1\nx: \xff\xfe\n", "f.yaml:2:4", "not UTF-8");
    refused("\xff\xfe" "a:", "f.yaml:1:1", "not UTF-8"); /* libyaml would read UTF-16 */
}

static void test_typed_values(void **state) {
    (void)state;
    const char *text;
    double x;
    int64_t n;
    bool b;
    must(parse("{t: x, f: 0.5, i: 12, b: true, e: , h: 0x10, inf: .inf, l: [1]}"), &err);
    const struct yaml_value *r = &doc->root;
    must(yaml_text(&text, yaml_get(r, "t"), "t", &err), &err);
    must(yaml_number(&x, yaml_get(r, "f"), "f", &err), &err);
    must(yaml_integer(&n, yaml_get(r, "i"), 0, "i", &err), &err);
    must(yaml_bool(&b, yaml_get(r, "b"), "b", &err), &err);
    assert_true(x > 0.49 && x < 0.51 && n == 12 && b);
    assert_int_equal(yaml_text(&text, yaml_get(r, "e"), "e", &err), GENARM_EFORMAT);
    assert_int_equal(yaml_text(&text, yaml_get(r, "l"), "l", &err), GENARM_EFORMAT);
    assert_int_equal(yaml_number(&x, yaml_get(r, "h"), "h", &err), GENARM_EFORMAT);
    assert_int_equal(yaml_number(&x, yaml_get(r, "inf"), "inf", &err), GENARM_EFORMAT);
    assert_int_equal(yaml_integer(&n, yaml_get(r, "f"), 0, "f", &err), GENARM_EFORMAT);
    assert_int_equal(yaml_integer(&n, yaml_get(r, "i"), 13, "i", &err), GENARM_EFORMAT);
    assert_int_equal(yaml_bool(&b, yaml_get(r, "t"), "t", &err), GENARM_EFORMAT);
    assert_int_equal(yaml_map(yaml_get(r, "l"), "l", &err), GENARM_EFORMAT);
}

/* Nine aliases of nine aliases of ... would be a billion values. */
static void test_aliases_do_not_multiply_without_end(void **state) {
    (void)state;
    char text[2048] = "a0: &a0 x\n";
    for (int i = 1; i < 11; i++) {
        char line[128];
        snprintf(line, sizeof line, "a%d: &a%d [", i, i);
        strcat(text, line);
        for (int k = 0; k < 9; k++) {
            snprintf(line, sizeof line, "%s*a%d", k ? ", " : "", i - 1);
            strcat(text, line);
        }
        strcat(text, "]\n");
    }
    assert_int_equal(parse(text), GENARM_EFORMAT);
    assert_non_null(strstr(err.what, "too many values"));
}

static void test_deep_nesting_is_refused(void **state) {
    (void)state;
    char text[4096];
    for (size_t depth = 60; depth < 1500; depth += 60) {
        memset(text, '[', depth);
        text[depth] = 'x';
        memset(text + depth + 1, ']', depth);
        const int code = parse_bytes(text, 2 * depth + 1);
        assert_int_equal(code == 0, depth < YAML_MAX_DEPTH);
    }
}

/* Random bytes, and documents with bytes changed: read or refused, and never anything else (under the sanitizers). */
static void test_any_bytes_are_read_or_refused(void **state) {
    (void)state;
    static const char seeds[][96] = {
        "a: &x [1, {b: 'c'}]\nd: *x\ne: |\n  text\n  more\nf: \"\\u00e9\"\n", "- - - 1\n  - {a: b, ? c : d}\n...\n",
        "{\"a\": [1, 2, {\"b\": null}], \"c\": \"\\n\"}", "%YAML 1.1\n--- !!map\n? [x]\n: >-\n folded\n# end\n"};
    static const char alphabet[] = "a: -[]{},&*!|>'\"%@`#\n\t\\?0.~\xc3\xa9";
    struct rng rng;
    rng_seed(&rng, 7);
    size_t n_read = 0;
    for (int i = 0; i < 20000; i++) {
        char text[128];
        size_t n;
        if (i % 4 == 0) {
            n = rng_next(&rng) % sizeof text;
            for (size_t k = 0; k < n; k++) {
                text[k] = i % 8 == 0 ? (char)rng_next(&rng) : alphabet[rng_next(&rng) % (sizeof alphabet - 1)];
            }
        } else {
            const char *seed = seeds[rng_next(&rng) % 4];
            n = strlen(seed);
            memcpy(text, seed, n);
            for (int changes = (int)(rng_next(&rng) % 6); changes >= 0; changes--) {
                text[rng_next(&rng) % n] = alphabet[rng_next(&rng) % (sizeof alphabet - 1)];
            }
        }
        const int code = parse_bytes(text, n);
        assert_true(code == 0 || code == GENARM_EFORMAT);
        assert_int_equal(code == 0, doc != NULL);
        if (code == 0) {
            json_t *json = yaml_json(&doc->root);
            assert_non_null(json);
            json_decref(json);
            n_read++;
        } else {
            assert_true(*err.what != '\0' && strncmp(err.where, "f.yaml", 6) == 0);
        }
    }
    assert_true(n_read > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_values_know_where_they_stand, teardown),
        cmocka_unit_test_teardown(test_json_is_yaml, teardown),
        cmocka_unit_test_teardown(test_aliases_are_what_they_stand_for, teardown),
        cmocka_unit_test_teardown(test_what_is_refused_names_its_place, teardown),
        cmocka_unit_test_teardown(test_typed_values, teardown),
        cmocka_unit_test_teardown(test_aliases_do_not_multiply_without_end, teardown),
        cmocka_unit_test_teardown(test_deep_nesting_is_refused, teardown),
        cmocka_unit_test_teardown(test_any_bytes_are_read_or_refused, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
