/* Value guidance and all that sessions can do: batches, new prompts, prompts in pieces, saved sessions, full contexts. What is
 * kept between two steps is what would be computed anew. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "methods/value.h"
#include "support/golden.h"
#include "support/session_case.h"
#include "support/temp.h"
#include "support/value_case.h"

enum { ANSWER = 10, MANY = VALUE_PROMPTS };

/* ---- batches ---- */

static void test_sessions_of_a_batch_are_as_if_alone(void **state) {
    const struct value_case *f = *state;
    const struct genarm_value_params value = value_params(f, 6, 1.0f);
    int32_t alone[MANY][ANSWER];
    for (int i = 0; i < MANY; i++) {
        struct genarm_guide *g = value_guide(f->model, f->arm, 0.5f, 1, &value);
        struct genarm_session *s = value_session(g, (uint64_t)i, 1.0f);
        value_prompt(s, i);
        value_answer(s, alone[i], ANSWER);
        value_end(g, s);
    }
    struct genarm_guide *g = value_guide(f->model, f->arm, 0.5f, MANY, &value);
    struct genarm_session *s[MANY];
    for (int i = 0; i < MANY; i++) {
        s[i] = value_session(g, (uint64_t)i, 1.0f);
        value_prompt(s[i], i);
    }
    value_check_together(g, s, MANY, alone[0], ANSWER);
}

static void test_a_session_that_fails_leaves_the_others(void **state) {
    const struct value_case *f = *state;
    const struct genarm_value_params value = value_params(f, 6, 1.0f);
    struct genarm_guide *g = value_guide(f->model, NULL, 0.0f, 2, &value);
    struct genarm_session *s[] = {value_session(g, 1, 0.0f), value_session(g, 2, 0.0f)};
    struct genarm_guide *single = value_guide(f->model, NULL, 0.0f, 1, &value);
    struct genarm_session *alone = value_session(single, 2, 0.0f);
    struct genarm_error err = {0}, errors[2];
    int32_t tokens[2] = {-1, -1}, expected;
    value_answer(alone, &expected, 1);
    struct genarm_token_bias none[VALUE_MAX];
    for (int32_t t = 0; t < f->model->hp.n_vocab; t++) {
        none[t] = (struct genarm_token_bias){t, -INFINITY};
    }
    must(genarm_session_set_bias(s[0], none, (size_t)f->model->hp.n_vocab, &err), &err);
    must(genarm_sessions_step_each(s, 2, tokens, errors, &err), &err);
    assert_int_equal(errors[0].code, GENARM_EINVAL);
    assert_int_equal(errors[1].code, GENARM_OK);
    assert_int_equal(tokens[1], expected);
    assert_int_equal(genarm_session_n_tokens(s[0]), 0);
    must(genarm_session_set_bias(s[0], NULL, 0, &err), &err);
    value_answer(s[0], tokens, 1);
    assert_int_equal(tokens[0], expected); /* greedy, the same prompt */
    value_end(single, alone);
    genarm_session_free(s[0]);
    value_end(g, s[1]);
}

static const struct engine_vtable *working;
static int n_spoiled; /* passes whose outputs for the first slot are still to be spoiled */

static int spoil(struct engine *e, const struct row *rows, int32_t n, float *logits, struct genarm_error *err) {
    const int rc = working->forward(e, rows, n, logits, err);
    bool any = false;
    for (int32_t i = 0, k = 0; i < n && n_spoiled > 0; i++) {
        if (rows[i].output && rows[i].share == 0.0f) { /* base and ARM are two sequences of a slot */
            float *out = logits + (size_t)k++ * (size_t)e->model->hp.n_vocab;
            out[0] = rows[i].seq / 2 == 0 ? NAN : out[0];
            any = true;
        }
    }
    n_spoiled -= any;
    return rc;
}

enum trouble { FORBIDDEN, NOT_FINITE, NOT_FINITE_ONCE, TROUBLES };

/* What goes wrong with the first session of two, both under base and ARM, while the second one keeps log-probabilities. */
static void check_kept_beside(const struct value_case *f, enum trouble trouble, const struct genarm_token_logprob *expected,
                              int32_t token) {
    const struct genarm_value_params value = value_params(f, 6, 1.0f);
    struct genarm_guide *g = value_guide(f->model, f->arm, 0.5f, 2, &value);
    struct genarm_session *s[] = {value_session(g, 1, 0.0f), value_session(g, 2, 0.0f)};
    struct genarm_error err = {0}, errors[2];
    struct genarm_token_bias none[VALUE_MAX];
    struct engine_vtable broken = *g->engines[0].engine->vtable;
    int32_t tokens[2] = {-1, -1};
    for (int32_t t = 0; t < f->model->hp.n_vocab; t++) {
        none[t] = (struct genarm_token_bias){t, -INFINITY};
    }
    must(genarm_session_set_bias(s[0], none, trouble == FORBIDDEN ? (size_t)f->model->hp.n_vocab : 0, &err), &err);
    must(genarm_session_keep_logprobs(s[1], 0, &err), &err);
    working = g->engines[0].engine->vtable;
    broken.forward = spoil;
    n_spoiled = trouble == NOT_FINITE_ONCE ? 1 : trouble == NOT_FINITE ? 100 : 0;
    g->engines[0].engine->vtable = &broken;
    must(genarm_sessions_step_each(s, 2, tokens, errors, &err), &err);
    g->engines[0].engine->vtable = working;
    static const int codes[TROUBLES] = {GENARM_EINVAL, GENARM_EFORMAT, GENARM_OK};
    assert_int_equal(errors[0].code, codes[trouble]);
    assert_int_equal(errors[1].code, GENARM_OK);
    assert_int_equal(tokens[0], trouble == NOT_FINITE_ONCE ? token : -1);
    assert_int_equal(tokens[1], token);
    size_t n;
    const struct genarm_token_logprob *kept = genarm_session_logprobs(s[1], &n);
    assert_int_equal(n, 1);
    if (!(fabsf(kept->base - expected->base) < 1e-4f) || !(fabsf(kept->arms[0] - expected->arms[0]) < 1e-4f)) {
        fail_msg("trouble %d: base %g, ARM %g; alone %g, %g", (int)trouble, (double)kept->base, (double)kept->arms[0],
                 (double)expected->base, (double)expected->arms[0]);
    }
    genarm_session_free(s[0]);
    value_end(g, s[1]);
}

static void test_log_probabilities_are_kept_beside_a_session_that_fails(void **state) {
    const struct value_case *f = *state;
    const struct genarm_value_params value = value_params(f, 6, 1.0f);
    struct genarm_guide *g = value_guide(f->model, f->arm, 0.5f, 1, &value);
    struct genarm_session *s = value_session(g, 2, 0.0f);
    struct genarm_error err = {0};
    int32_t token;
    size_t n;
    must(genarm_session_keep_logprobs(s, 0, &err), &err);
    value_answer(s, &token, 1);
    for (int trouble = 0; trouble < TROUBLES; trouble++) {
        check_kept_beside(f, (enum trouble)trouble, genarm_session_logprobs(s, &n), token);
    }
    value_end(g, s);
}

/* ---- work ---- */

static void test_a_token_costs_k_rows_of_the_reward_model(void **state) {
    const struct value_case *f = *state;
    enum { K = 6 };
    const struct genarm_value_params value = value_params(f, K, 1.0f);
    struct genarm_guide *g = value_guide(f->model, f->arm, 0.5f, 1, &value);
    struct genarm_session *s = value_session(g, 4, 1.0f);
    const int64_t n_prompt = genarm_session_n_prompt(s);
    for (int i = 1; i <= ANSWER; i++) {
        struct genarm_work work;
        int32_t token;
        value_answer(s, &token, 1);
        genarm_session_get_work(s, &work);
        assert_int_equal(work.base, n_prompt + i - 1);
        assert_int_equal(work.arms, n_prompt + i - 1);
        assert_int_equal(work.value, n_prompt + (int64_t)K * i); /* what was drawn has been fed already */
        assert_int_equal(work.rollout, 0);
        struct genarm_guide_stats stats;
        genarm_guide_get_stats(g, &stats);
        assert_int_equal(stats.n_evaluated, work.base + work.arms + work.value);
    }
    value_end(g, s);
}

/* ---- whatever becomes of a session ---- */

static void test_another_prompt_is_as_in_a_new_session(void **state) {
    const struct value_case *f = *state;
    const struct genarm_value_params value = value_params(f, 6, 1.0f);
    struct genarm_guide *g = value_guide(f->model, NULL, 0.0f, 1, &value);
    struct genarm_session *s = value_session(g, 4, 0.0f);
    int32_t tokens[ANSWER];
    for (int i = 0; i < 2 * MANY; i++) {
        int32_t expected[ANSWER];
        struct genarm_guide *fresh = value_guide(f->model, NULL, 0.0f, 1, &value);
        struct genarm_session *other = value_session(fresh, 4, 0.0f);
        value_prompt(other, i % MANY);
        value_answer(other, expected, ANSWER);
        value_prompt(s, i % MANY);
        value_answer(s, tokens, i % 2 ? ANSWER : ANSWER / 2);
        assert_memory_equal(tokens, expected, (size_t)(i % 2 ? ANSWER : ANSWER / 2) * sizeof *tokens);
        value_end(fresh, other);
    }
    value_end(g, s);
}

static void test_prompts_in_pieces_give_the_same_answer(void **state) {
    const struct value_case *f = *state;
    struct genarm_error err = {0};
    const struct genarm_value_params value = value_params(f, 6, 1.0f);
    struct genarm_guide *g = value_guide(f->model, f->arm, 0.5f, 2, &value);
    struct genarm_session *s = value_session(g, 4, 1.0f), *whole;
    int32_t left = 1, tokens[ANSWER], expected[ANSWER];
    while (left > 0) {
        must(genarm_session_prefill(s, 5, &left, &err), &err);
    }
    struct genarm_work before, after;
    genarm_session_get_work(s, &before);
    value_answer(s, tokens, 1);
    genarm_session_get_work(s, &after);
    assert_int_equal(before.value, genarm_session_n_prompt(s) - 1); /* that of the reward model, too */
    assert_int_equal(after.value, before.value + 1 + 6);
    value_answer(s, tokens + 1, ANSWER - 1);
    whole = value_session(g, 4, 1.0f); /* and from what another slot holds */
    value_answer(whole, expected, ANSWER);
    assert_memory_equal(tokens, expected, sizeof tokens);
    genarm_session_free(whole);
    value_end(g, s);
}

static void test_a_saved_session_goes_on(void **state) {
    const struct value_case *f = *state;
    struct genarm_error err = {0};
    const struct genarm_value_params value = value_params(f, 6, 1.0f);
    struct genarm_guide *g = value_guide(f->model, f->arm, 0.5f, 1, &value);
    struct genarm_session *s = value_session(g, 4, 1.0f);
    int32_t expected[ANSWER], tokens[ANSWER], other[ANSWER];
    value_answer(s, tokens, 5);
    const char *path = temp_path("value.session");
    must(genarm_session_save(s, path, NULL, &err), &err);
    value_answer(s, expected, ANSWER);
    value_prompt(s, 1); /* something else in between */
    value_answer(s, other, ANSWER);
    must(genarm_session_load(s, path, &err), &err);
    value_answer(s, tokens, ANSWER);
    assert_memory_equal(tokens, expected, sizeof tokens);
    value_end(g, s);
    g = value_guide(f->model, f->arm, 0.5f, 1, &value); /* and in another guide */
    s = value_session(g, 9, 1.0f);
    must(genarm_session_load(s, path, &err), &err);
    value_answer(s, tokens, ANSWER);
    assert_memory_equal(tokens, expected, sizeof tokens);
    value_end(g, s);
}

static void test_an_answer_outgrows_its_context(void **state) {
    const struct value_case *f = *state;
    struct genarm_error err = {0};
    enum { LONG = 120 };
    const struct genarm_value_params value = value_params(f, 4, 1.0f);
    int32_t tokens[2][LONG];
    for (int i = 0; i < 2; i++) {
        struct genarm_guide *g = NULL;
        const struct genarm_guide_params params = value_guide_params(72, 1);
        must(genarm_guide_new(&g, f->model, &params, &err), &err);
        must(genarm_guide_set_value(g, &value, &err), &err);
        struct genarm_session *s = value_session(g, 4, 1.0f);
        case_answer_on(s, -1, tokens[i], LONG);
        value_end(g, s);
    }
    assert_memory_equal(tokens[0], tokens[1], sizeof tokens[0]);
}

/* Has every branch copied whole, and every token fed. */
static void forget_branches(struct genarm_guide *g) {
    struct branches *b = &((struct value *)g->lookahead)->reward;
    for (int32_t i = 0; i < b->k * g->params.n_slots; i++) {
        b->all[i] = (struct branch){.n_common = 0, .fed = -1};
    }
}

/* Whatever becomes of the timelines between two steps. */
static void disturb(struct genarm_session *s, int i) {
    struct genarm_error err = {0};
    int32_t left = 0;
    if (i % 7 == 2) {
        must(genarm_session_shift(s, i % 2 ? 5 : -1, &err), &err);
    } else if (i % 7 == 4) {
        must(genarm_session_save(s, temp_path("between.session"), NULL, &err), &err);
        value_prompt(s, i % MANY);
        must(genarm_session_step(s, &left, &err), &err);
        must(genarm_session_load(s, temp_path("between.session"), &err), &err);
    } else if (i % 7 == 5) {
        value_prompt(s, i % MANY);
        must(genarm_session_prefill(s, 4, &left, &err), &err);
    }
}

static void test_branches_that_are_kept_are_as_if_they_were_not(void **state) {
    const struct value_case *f = *state;
    struct genarm_error err = {0};
    const struct genarm_value_params value = value_params(f, 4, 1.0f);
    struct genarm_guide *g[2];
    struct genarm_session *s[2];
    for (int i = 0; i < 2; i++) {
        const struct genarm_guide_params params = value_guide_params(72, 1);
        must(genarm_guide_new(&g[i], f->model, &params, &err), &err);
        must(genarm_guide_set_value(g[i], &value, &err), &err);
        s[i] = value_session(g[i], 4, 1.0f);
    }
    for (int i = 0; i < 60; i++) {
        int32_t tokens[2];
        for (int k = 0; k < 2; k++) {
            if (genarm_session_n_left(s[k]) == 0) {
                must(genarm_session_shift(s[k], 3, &err), &err);
            }
            disturb(s[k], i);
        }
        forget_branches(g[1]);
        value_answer(s[0], &tokens[0], 1);
        value_answer(s[1], &tokens[1], 1);
        assert_int_equal(tokens[0], tokens[1]);
        for (int32_t t = 0; t < f->model->hp.n_vocab; t++) {
            assert_true(s[0]->logp[t] == s[1]->logp[t] || fabsf(s[0]->logp[t] - s[1]->logp[t]) < 2e-5f);
        }
    }
    value_end(g[0], s[0]);
    value_end(g[1], s[1]);
}

/* Every token has been fed behind the first prompt, at the very place of the second one's last. */
static void test_what_another_prompt_was_followed_by_is_not_taken(void **state) {
    const struct value_case *f = *state;
    struct genarm_error err = {0};
    enum { N = 12 };
    const struct genarm_value_params value = value_params(f, f->model->hp.n_vocab, 1.0f);
    int32_t first[N], second[N + 1], token, left = 1;
    for (int i = 0; i < N; i++) {
        first[i] = 40 + i;
        second[i] = 100 + i;
    }
    second[N] = 99;
    struct genarm_guide *g[2];
    struct genarm_session *s[2];
    for (int i = 0; i < 2; i++) {
        g[i] = value_guide(f->model, NULL, 0.0f, 1, &value);
        s[i] = value_session(g[i], 4, 1.0f);
    }
    must(genarm_session_prompt_tokens(s[0], first, N, &err), &err);
    value_answer(s[0], &token, 1);
    must(genarm_session_prompt_tokens(s[0], second, N + 1, &err), &err);
    must(genarm_session_prefill(s[0], 1000, &left, &err), &err);
    must(genarm_session_prompt_tokens(s[1], second, N + 1, &err), &err);
    value_answer(s[0], &token, 1);
    value_answer(s[1], &token, 1);
    for (int32_t t = 0; t < f->model->hp.n_vocab; t++) {
        assert_true(fabsf(s[0]->logp[t] - s[1]->logp[t]) < 2e-5f);
    }
    value_end(g[0], s[0]);
    value_end(g[1], s[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sessions_of_a_batch_are_as_if_alone),
        cmocka_unit_test(test_a_session_that_fails_leaves_the_others),
        cmocka_unit_test(test_log_probabilities_are_kept_beside_a_session_that_fails),
        cmocka_unit_test(test_a_token_costs_k_rows_of_the_reward_model),
        cmocka_unit_test(test_another_prompt_is_as_in_a_new_session),
        cmocka_unit_test(test_prompts_in_pieces_give_the_same_answer),
        cmocka_unit_test(test_a_saved_session_goes_on),
        cmocka_unit_test(test_an_answer_outgrows_its_context),
        cmocka_unit_test(test_branches_that_are_kept_are_as_if_they_were_not),
        cmocka_unit_test(test_what_another_prompt_was_followed_by_is_not_taken),
    };
    return cmocka_run_group_tests(tests, value_case_setup, value_case_teardown);
}
