/* results.jsonl as it is read: every number where it belongs, what is broken named by line, and texts not kept. */
#include <inttypes.h>
#include <malloc.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/utf8.h"
#include "eval/results.h"
#include "support/temp.h"

#define HEAD                                                                                                                  \
    "{\"kind\":\"experiment\",\"title\":\"T\",\"n_prompts\":3,\"methods\":[{\"name\":\"base\",\"label\":\"Base\","            \
    "\"points\":[{}]},"                                                                                                       \
    "{\"name\":\"arm\",\"points\":[{\"h\":0.5,\"s\":\"x\"},{\"h\":1,\"s\":\"x\"}]}],\"rewards\":[\"r\",\"q\"],"               \
    "\"judges\":[{\"name\":\"j\",\"against\":\"base\"}]}\n"

static const char *file_of(const char *text, size_t n) {
    const char *path = temp_path("results.jsonl");
    assert_int_equal(file_write(path, text, n, NULL), GENARM_OK);
    return path;
}

static void read_text(struct results *r, const char *text) {
    struct genarm_error err = {0};
    if (results_read(r, file_of(text, strlen(text)), &err) != GENARM_OK) {
        fail_msg("%s: %s", err.where, err.what);
    }
}

static void test_a_judge_compares_at_the_same_point(void **state) {
    (void)state;
    struct results r;
    read_text(&r, "{\"kind\":\"experiment\",\"n_prompts\":1,\"n_files\":7,\"n_done\":3,\"methods\":[{\"name\":\"ref\",\"points\":[{\"n\":4},{\"n\":40}]},"
                  "{\"name\":\"cmp\",\"points\":[{\"n\":4,\"a\":1},{\"n\":40,\"a\":1},{\"a\":1}]}],"
                  "\"judges\":[{\"name\":\"j\",\"against\":\"ref\"},{\"name\":\"k\"}]}\n");
    assert_true(r.n_files == 7 && r.n_done == 3);
    assert_int_equal(results_against(&r, 0, 2), 0);
    assert_int_equal(results_against(&r, 0, 3), 1);
    assert_int_equal(results_against(&r, 0, 4), r.n_cells); /* neither of two */
    assert_int_equal(results_against(&r, 1, 2), r.n_cells); /* nobody knows */
    results_deinit(&r);
}

static void test_values_of_variables_are_compared_as_numbers(void **state) {
    (void)state;
    struct results r;
    read_text(&r, "{\"kind\":\"experiment\",\"n_prompts\":1,\"methods\":[{\"name\":\"ref\",\"points\":[{\"n\":1},{\"n\":2}]},"
                  "{\"name\":\"cmp\",\"points\":[{\"n\":1.0},{\"n\":2.0},{\"n\":\"1\"},{\"m\":1}]}],"
                  "\"judges\":[{\"name\":\"j\",\"against\":\"ref\"}]}\n");
    assert_int_equal(results_against(&r, 0, 2), 0);
    assert_int_equal(results_against(&r, 0, 3), 1);
    assert_int_equal(results_against(&r, 0, 4), r.n_cells); /* a text */
    assert_int_equal(results_against(&r, 0, 5), r.n_cells);
    results_deinit(&r);
}

static void test_points_are_told_apart_by_all_their_digits(void **state) {
    (void)state;
    static const char *const values[] = {"20240101",    "20240102", "12345678901", "12345678902", "0.1234567",
                                         "0.123456789", "0.5",      "1e-7",        "\"20240101\""};
    enum { N = sizeof values / sizeof *values };
    struct results r;
    char text[4000] = "{\"kind\":\"experiment\",\"n_prompts\":1,\"methods\":[{\"name\":\"m\",\"points\":[";
    for (int i = 0; i < N; i++) {
        sprintf(text + strlen(text), "%s{\"v\":%s}", i ? "," : "", values[i]);
    }
    strcat(text, "]}]}\n");
    for (int i = 0; i < 2 * N; i++) {
        sprintf(text + strlen(text), "{\"kind\":\"pair\",\"name\":\"a\",\"point\":{\"v\":%s},\"chosen\":1}\n",
                values[i % N]);
    }
    for (int i = 0; i < N; i++) {
        sprintf(text + strlen(text), "{\"kind\":\"answer\",\"method\":\"m\",\"point\":{\"v\":%s},\"index\":0}\n", values[i]);
    }
    read_text(&r, text);
    assert_int_equal(r.n_pairs, N);
    for (size_t i = 0; i < N; i++) {
        char label[64];
        snprintf(label, sizeof label, "v=%.*s", (int)strcspn(values[i] + (*values[i] == '"'), "\""), values[i] + (*values[i] == '"'));
        assert_true(r.pairs[i].n == 2 && r.cells[i].n_answers == 1);
        if (i != 7) { /* 1e-07 */
            assert_string_equal(r.pairs[i].label, label);
            assert_string_equal(r.cells[i].label, label);
        }
    }
    results_deinit(&r);
}

static void test_numbers_come_where_they_belong(void **state) {
    (void)state;
    struct results r;
    read_text(&r, HEAD "{\"kind\":\"answer\",\"method\":\"arm\",\"point\":{\"s\":\"x\",\"h\":1.0},\"index\":2,\"prompt\":\"p\","
                       "\"response\":\"one tw\\u00f6 three\",\"finish_reason\":\"stop\",\"n_tokens\":7,\"logprob\":-3.5,"
                       "\"evaluated\":{\"base\":10,\"arms\":20,\"value\":30,\"rollout\":40},\"seconds\":0.25,"
                       "\"rewards\":{\"r\":null,\"q\":1.5}}\n"
                       "{\"kind\":\"answer\",\"method\":\"base\",\"point\":{},\"index\":0,\"response\":\"\","
                       "\"finish_reason\":\"length\",\"rewards\":{}}\n"
                       "{\"kind\":\"verdict\",\"judge\":\"j\",\"method\":\"arm\",\"point\":{\"h\":1,\"s\":\"x\"},"
                       "\"against\":\"base\","
                       "\"index\":1,\"verdict\":\"tie\",\"preference\":1.25}\n"
                       "{\"kind\":\"pair\",\"name\":\"n\",\"data\":\"d\",\"index\":0,\"chosen\":2,"
                       "\"rejected\":0.5}\n"
                       "{\"kind\":\"pair\",\"name\":\"n\",\"data\":\"d\",\"index\":1,"
                       "\"chosen\":null,\"rejected\":1}\n"
                       "{\"kind\":\"model\",\"name\":\"m\",\"point\":{\"h\":1},\"command\":\"train\",\"seconds\":4,"
                       "\"options\":{}}\n"
                       "{\"kind\":\"weather\"}\n");
    assert_int_equal(r.n_cells, 3);
    const struct results_cell *c = &r.cells[2];
    assert_string_equal(c->name, "arm h=1, s=x");
    assert_string_equal(r.cells[0].name, "Base");
    assert_int_equal(c->n_answers, 1);
    assert_int_equal(r.cells[1].n_answers, 0);
    assert_null(results_column(&r, &r.cells[1], RESULTS_TOKENS));
    static const double expected[RESULTS_COLUMNS] = {7, 3, 13, -3.5, 0.25, 1, 10, 20, 30, 40};
    for (int i = 0; i < RESULTS_COLUMNS; i++) {
        const double *x = results_column(&r, c, (enum results_column)i);
        assert_true(x[2] == expected[i] && isnan(x[0]) && isnan(x[1]));
    }
    assert_true(isnan(results_rewards(&r, c, 0)[2]) && results_rewards(&r, c, 1)[2] == 1.5);
    assert_true(results_column(&r, &r.cells[0], RESULTS_FINISHED)[0] == 0);
    assert_true(results_column(&r, &r.cells[0], RESULTS_WORDS)[0] == 0);
    assert_true(isnan(results_column(&r, &r.cells[0], RESULTS_TOKENS)[0]));
    assert_true(results_variable(c, "h") == 1 && isnan(results_variable(c, "s")) && isnan(results_variable(c, "z")));
    assert_int_equal(r.judges[0].against, 0);
    assert_int_equal(r.judges[0].cells[2].verdicts[1], WIN_RATE_TIE);
    assert_int_equal(r.judges[0].cells[2].verdicts[0], RESULTS_NO_VERDICT);
    assert_true(r.judges[0].cells[2].preferences[1] == 1.25);
    assert_null(r.judges[0].cells[1].verdicts);
    assert_int_equal(r.n_pairs, 1);
    assert_int_equal(r.pairs[0].n, 2);
    assert_true(r.pairs[0].margins[0] == 1.5 && isnan(r.pairs[0].margins[1]));
    assert_int_equal(r.n_models, 1);
    assert_string_equal(r.models[0].label, "h=1");
    assert_int_equal(r.n_other, 1);
    results_deinit(&r);
}

static void test_an_answer_is_finished_when_it_ended_its_turn(void **state) {
    (void)state;
    static const char *const reasons[] = {"stop", "length", "context"};
    struct results r;
    char text[2000] = HEAD;
    for (int i = 0; i < 3; i++) {
        const size_t n = strlen(text);
        snprintf(text + n, sizeof text - n,
                 "{\"kind\":\"answer\",\"method\":\"base\",\"point\":{},\"index\":%d,\"response\":\"x\","
                 "\"finish_reason\":\"%s\"}\n",
                 i, reasons[i]);
    }
    read_text(&r, text);
    for (int i = 0; i < 3; i++) {
        assert_true(results_column(&r, &r.cells[0], RESULTS_FINISHED)[i] == (i == 0));
    }
    results_deinit(&r);
}

static void test_a_prompt_that_could_not_be_answered_has_no_answer(void **state) {
    (void)state;
    struct results r;
    read_text(&r, HEAD "{\"kind\":\"answer\",\"method\":\"base\",\"point\":{},\"index\":0,\"response\":\"a b\",\"n_tokens\":2,"
                       "\"best_of\":4,\"finish_reason\":\"stop\"}\n"
                       "{\"kind\":\"answer\",\"method\":\"base\",\"point\":{},\"index\":2,\"response\":null,\"n_tokens\":0,"
                       "\"finish_reason\":\"error\",\"rewards\":{\"r\":null}}\n");
    const struct results_cell *c = &r.cells[0];
    assert_int_equal(c->n_answers, 1);
    assert_true(c->best_of == 4 && c->offsets[0] > 0 && c->offsets[1] < 0 && c->offsets[2] < 0);
    for (int i = 0; i < RESULTS_COLUMNS; i++) {
        assert_true(isnan(results_column(&r, c, (enum results_column)i)[2]));
    }
    results_deinit(&r);
}

static void test_what_is_broken_is_named_by_its_line(void **state) {
    (void)state;
    static const struct {
        const char *text, *line, *what;
    } cases[] = {
        {"", "", "no experiment"},
        {"[1]\n", ":1", "object"},
        {"{\"kind\":\"answer\"}\n", ":1", "first line"},
        {HEAD HEAD, ":2", "second line"},
        {HEAD "\n{\n", ":3", "broken JSON"},
        {HEAD "{\"kind\":\"answer\",\"method\":\"x\",\"point\":{},\"index\":0}\n", ":2", "method \"x\""},
        {HEAD "{\"kind\":\"answer\",\"method\":\"arm\",\"point\":{},\"index\":0}\n", ":2", "no such point"},
        {HEAD "{\"kind\":\"answer\",\"method\":\"base\",\"point\":{\"h\":1},\"index\":0}\n", ":2", "no such point"},
        {HEAD "{\"kind\":\"answer\",\"method\":\"base\",\"point\":{},\"index\":3}\n", ":2", "3 prompts"},
        {HEAD "{\"kind\":\"answer\",\"method\":\"base\",\"point\":{},\"index\":-1}\n", ":2", "index"},
        {HEAD "{\"kind\":\"answer\",\"method\":\"base\",\"point\":{},\"index\":0}\n"
              "{\"kind\":\"answer\",\"method\":\"base\",\"point\":{},\"index\":0}\n", ":3", "second answer"},
        {HEAD "{\"kind\":\"answer\",\"method\":\"base\",\"point\":{},\"index\":0,\"finish_reason\":\"error\"}\n"
              "{\"kind\":\"answer\",\"method\":\"base\",\"point\":{},\"index\":0}\n", ":3", "second answer"},
        {HEAD "{\"kind\":\"verdict\",\"judge\":\"k\",\"method\":\"base\",\"point\":{},\"index\":0,\"verdict\":\"win\"}\n", ":2",
         "judge \"k\""},
        {HEAD "{\"kind\":\"verdict\",\"judge\":\"j\",\"method\":\"base\",\"point\":{},\"index\":0,\"verdict\":\"won\"}\n", ":2",
         "verdict"},
        {HEAD "{\"kind\":\"pair\"}\n", ":2", "name"},
        {"{\"kind\":\"experiment\",\"n_prompts\":-1}\n", ":1", "n_prompts"},
        {"{\"kind\":\"experiment\",\"methods\":3}\n", ":1", "methods"},
        {"{\"kind\":\"experiment\",\"methods\":[{\"name\":\"m\",\"points\":[1]}]}\n", ":1", "point"},
        {"{\"kind\":\"experiment\",\"rewards\":[1]}\n", ":1", "rewards"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct genarm_error err = {0};
        struct results r = {0};
        char where[4200];
        const char *path = file_of(cases[i].text, strlen(cases[i].text));
        assert_true(results_read(&r, path, &err) < 0);
        snprintf(where, sizeof where, "%s%s", path, cases[i].line);
        assert_string_equal(err.where, where);
        if (!strstr(err.what, cases[i].what)) {
            fail_msg("case %zu: %s", i, err.what);
        }
        assert_null(r.path); /* nothing is given out */
    }
    struct genarm_error err = {0};
    struct results r;
    assert_int_equal(results_read(&r, temp_path("nowhere.jsonl"), &err), GENARM_EIO);
}

static void test_texts_are_read_again_whatever_they_hold(void **state) {
    (void)state;
    static const char text[] =
        HEAD "{\"kind\":\"answer\",\"method\":\"base\",\"point\":{},\"index\":1,\"prompt\":\"a\\u0000b\","
             "\"response\":\"x\\u0000\xFF y\"}\n";
    struct results r;
    struct results_texts t = {0};
    read_text(&r, text);
    FILE *stream = fopen(r.path, "rb");
    assert_non_null(stream);
    assert_int_equal(results_text(&t, stream, &r, &r.cells[0], 1, NULL), GENARM_OK);
    assert_string_equal(t.prompt, "a b");
    assert_string_equal(t.response, "x \xEF\xBF\xBD y");
    assert_true(results_column(&r, &r.cells[0], RESULTS_WORDS)[1] == 3);
    results_texts_deinit(&t);
    fclose(stream);
    results_deinit(&r);
}

static void test_texts_are_not_kept(void **state) {
    (void)state;
    enum { N = 300, LENGTH = 100000 };
    const char *path = temp_path("long.jsonl");
    char *response = malloc(LENGTH + 1);
    FILE *f = fopen(path, "w");
    assert_true(f && response);
    for (size_t i = 0; i < LENGTH; i++) {
        response[i] = i % 6 == 5 ? ' ' : (char)('a' + i % 26);
    }
    response[LENGTH] = '\0';
    fprintf(f, "{\"kind\":\"experiment\",\"n_prompts\":%d,\"methods\":[{\"name\":\"m\"}],\"rewards\":[\"r\"]}\n", N);
    for (int i = 0; i < N; i++) {
        fprintf(f, "{\"kind\":\"answer\",\"method\":\"m\",\"point\":{},\"index\":%d,\"response\":\"%s\","
                   "\"rewards\":{\"r\":%d}}\n", i,
                response, i);
    }
    fclose(f);
    struct results r;
    const size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    assert_int_equal(results_read(&r, path, NULL), GENARM_OK);
    const size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    assert_true(after < before + N * 1000); /* of 30 MB */
    assert_true(results_rewards(&r, &r.cells[0], 0)[N - 1] == N - 1);
    results_deinit(&r);
    free(response);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_judge_compares_at_the_same_point),
        cmocka_unit_test(test_values_of_variables_are_compared_as_numbers),
        cmocka_unit_test(test_points_are_told_apart_by_all_their_digits),
        cmocka_unit_test(test_numbers_come_where_they_belong),
        cmocka_unit_test(test_an_answer_is_finished_when_it_ended_its_turn),
        cmocka_unit_test(test_a_prompt_that_could_not_be_answered_has_no_answer),
        cmocka_unit_test(test_what_is_broken_is_named_by_its_line),
        cmocka_unit_test(test_texts_are_read_again_whatever_they_hold),
        cmocka_unit_test(test_texts_are_not_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
