/* What several showings of a pair come to: agreement wins, disagreement is a tie, and what is not known stays unknown. The judges
 * are shell scripts. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "eval/judge.h"
#include "support/golden.h"

static const struct genarm_message question[] = {{"user", "x"}};

enum { N_MAX = 8 };
struct result {
    struct judge_verdict verdicts[N_MAX];
    int firsts[N_MAX][2];
    size_t n, stop_after;
};

static int take(size_t i, const struct judge_verdict *v, void *user, struct genarm_error *err) {
    struct result *r = user;
    (void)err;
    r->verdicts[i] = *v;
    for (size_t k = 0; k < v->n_showings; k++) {
        r->firsts[i][k] = v->showings[k].first;
        assert_true(v->showings[k].reply || v->showings[k].refusal);
    }
    r->n++;
    return r->n == r->stop_after ? GENARM_ECANCELED : GENARM_OK;
}

static int judge_texts(struct result *out, const char *spec, const struct judge_params *params, const char *const (*texts)[2],
                       size_t n, size_t *at, struct genarm_error *err) {
    struct judge *j = NULL;
    struct judge_pair pairs[N_MAX];
    for (size_t i = 0; i < n; i++) {
        pairs[i] = (struct judge_pair){.messages = question,
                                       .n_messages = 1,
                                       .texts = {texts[i][0], texts[i][1]},
                                       .finished = {true, true},
                                       .number = i};
    }
    must(judge_new(&j, spec, NULL, params, err), err);
    const struct judge_batch batch = {pairs, n, take, out};
    const int rc = judge_run(j, &batch, at, err);
    judge_free(j);
    return rc;
}

/* A program that says the two verdicts in turn. */
static void comes_to(const char *first, const char *second, enum judge_outcome outcome, double preference) {
    static const char *const texts[][2] = {{"p", "q"}};
    char spec[400];
    struct result r = {0};
    struct genarm_error err = {0};
    size_t at;
    snprintf(spec, sizeof spec, "pairwise:t=read -r l; echo '%s'; read -r l; echo '%s'; read -r l", first, second);
    must(judge_texts(&r, spec, NULL, texts, 1, &at, &err), &err);
    assert_int_equal(r.verdicts[0].outcome, outcome);
    assert_true(isnan(preference) ? isnan(r.verdicts[0].preference) : fabs(r.verdicts[0].preference - preference) < 1e-12);
    assert_int_equal(r.firsts[0][0], 0);
    assert_int_equal(r.firsts[0][1], 1);
}

static void test_agreement_wins_and_disagreement_is_a_tie(void **state) {
    (void)state;
    comes_to("\"a\"", "\"b\"", JUDGE_A, 2); /* B is first in the second */
    comes_to("\"b\"", "{\"verdict\": \"a\"}", JUDGE_B, 1);
    comes_to("\"a\"", "\"a\"", JUDGE_TIE, 1.5);
    comes_to("tie", " tie\r", JUDGE_TIE, 1.5);
    comes_to("a", "\"tie\"", JUDGE_TIE, 1.75);
    comes_to("\"tie\"", "\"a\"", JUDGE_TIE, 1.25);
}

static void test_what_is_not_known_is_not_guessed(void **state) {
    (void)state;
    comes_to("\"a\"", "null", JUDGE_INVALID, NAN);
    comes_to("{\"verdict\": \"A\"}", "\"b\"", JUDGE_INVALID, NAN);
    comes_to("\"invalid\"", "\"invalid\"", JUDGE_INVALID, NAN);
    comes_to("{\"verdict\": null, \"preference\": 2}", "\"b\"", JUDGE_INVALID, NAN);
}

static void test_preferences_are_averaged_over_the_orders(void **state) {
    (void)state;
    comes_to("{\"verdict\": \"a\", \"preference\": 1.75}", "{\"verdict\": \"b\", \"preference\": 1.5}", JUDGE_A, 1.625);
    comes_to("{\"verdict\": \"a\", \"preference\": 7}", "\"b\"", JUDGE_A, 2); /* no preference */
}

static void test_orders_are_as_asked_for(void **state) {
    (void)state;
    static const char *const texts[][2] = {{"p", "q"}, {"p", "q"}, {"p", "q"}, {"p", "q"},
                                           {"p", "q"}, {"p", "q"}, {"p", "q"}, {"p", "q"}};
    static const char spec[] = "pairwise:while read -r l; do echo '\"a\"'; done";
    struct judge_params params = judge_default_params();
    struct result r = {0}, again = {0};
    struct genarm_error err = {0};
    size_t at;
    params.order = JUDGE_GIVEN;
    must(judge_texts(&r, spec, &params, texts, 8, &at, &err), &err);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(r.verdicts[i].outcome, JUDGE_A);
        assert_int_equal(r.verdicts[i].n_showings, 1);
    }
    params.order = JUDGE_RANDOM;
    int n_first = 0;
    must(judge_texts(&r, spec, &params, texts, 8, &at, &err), &err);
    must(judge_texts(&again, spec, &params, texts, 8, &at, &err), &err);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(r.verdicts[i].outcome, r.firsts[i][0] ? JUDGE_B : JUDGE_A);
        assert_int_equal(r.firsts[i][0], again.firsts[i][0]);
        n_first += r.firsts[i][0];
    }
    assert_in_range(n_first, 1, 7);
}

static void test_a_reward_judges_by_its_margin(void **state) {
    (void)state;
    static const char *const texts[][2] = {{"3", "1"}, {"1", "3"}, {"2", "1.5"}, {"same", "same"}};
    static const char spec[] = "cmd:t=sed -u 's/.*\"response\":\"\\([^\"]*\\)\".*/\\1/; s/same/7/'";
    struct judge_params params = judge_default_params();
    struct result r = {0};
    struct genarm_error err = {0};
    size_t at;
    params.tie_margin = 0.5;
    must(judge_texts(&r, spec, &params, texts, 4, &at, &err), &err);
    static const enum judge_outcome right[] = {JUDGE_A, JUDGE_B, JUDGE_TIE, JUDGE_TIE};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(r.verdicts[i].outcome, right[i]);
        assert_int_equal(r.verdicts[i].n_showings, 0);
    }
    assert_true(r.verdicts[0].rewards[0] == 3 && r.verdicts[0].rewards[1] == 1 && isnan(r.verdicts[3].rewards[1]));
}

static void test_the_same_answer_twice_is_a_tie_without_a_question(void **state) {
    (void)state;
    static const char *const texts[][2] = {{"same", "same"}, {"p", "q"}, {"", ""}, {"p", "what"}};
    struct judge_params params = judge_default_params();
    struct result r = {0};
    struct genarm_error err = {0};
    size_t at = 9;
    params.order = JUDGE_GIVEN;
    must(judge_texts(&r, "pairwise:read -r l; echo a; read -r l; echo b", &params, texts, 4, &at, &err), &err);
    static const enum judge_outcome right[] = {JUDGE_TIE, JUDGE_A, JUDGE_TIE, JUDGE_B};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(r.verdicts[i].outcome, right[i]);
        assert_int_equal(r.verdicts[i].n_showings, i % 2);
        assert_true(r.verdicts[i].preference == (i % 2 ? i == 1 ? 2 : 1 : 1.5));
    }
    assert_int_equal(judge_texts(&r, "pairwise:read -r l; echo a; read -r l; exit 3", &params, texts, 4, &at, &err), GENARM_EIO);
    assert_int_equal(at, 3); /* of all pairs */
}

static void test_errors_say_which_pair(void **state) {
    (void)state;
    static const char *const texts[][2] = {{"p", "q"}, {"p", "q"}, {"p", "q"}};
    static const char spec[] = "pairwise:for i in 1 2 3; do read -r l; echo '\"a\"'; done; read -r l; echo what";
    struct result r = {0}, stopped = {.stop_after = 2};
    struct genarm_error err = {0};
    size_t at = 9;
    assert_int_equal(judge_texts(&r, spec, NULL, texts, 3, &at, &err), GENARM_EFORMAT);
    assert_int_equal(at, 1);
    assert_int_equal(r.n, 1);
    assert_int_equal(judge_texts(&stopped, "pairwise:while read -r l; do echo '\"a\"'; done", NULL, texts, 3, &at, &err),
                     GENARM_ECANCELED);
    assert_int_equal(stopped.n, 2);
    struct judge *j = NULL;
    assert_int_equal(judge_new(&j, "openai:m@ftp://h", NULL, NULL, &err), GENARM_EINVAL);
    assert_int_equal(judge_new(&j, "openai:m@http://u:p@h/v1", NULL, NULL, &err), GENARM_EINVAL);
    assert_int_equal(judge_new(&j, "cmd:x=true:2", NULL, NULL, &err), GENARM_EINVAL);
    assert_null(j);
    assert_true(judge_spec_needs_base("rm:a.gguf") && !judge_spec_needs_base("pairwise:x") && !judge_spec_needs_base("cmd:x"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agreement_wins_and_disagreement_is_a_tie),
        cmocka_unit_test(test_what_is_not_known_is_not_guessed),
        cmocka_unit_test(test_preferences_are_averaged_over_the_orders),
        cmocka_unit_test(test_orders_are_as_asked_for),
        cmocka_unit_test(test_a_reward_judges_by_its_margin),
        cmocka_unit_test(test_the_same_answer_twice_is_a_tie_without_a_question),
        cmocka_unit_test(test_errors_say_which_pair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
