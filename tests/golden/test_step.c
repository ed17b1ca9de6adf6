/* Several sessions in a step: what goes wrong with one is its own, and the others' answers are those that they give alone. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/edit.h"
#include "support/golden.h"
#include "support/session_case.h"
#include "support/temp.h"

enum { ANSWER = 10, CTX = 192, MANY = 3 };

/* Long enough for the graph, whose rows an adapter that overflows spoils alike. */
static const struct genarm_message questions[MANY] = {
    {"user", "You are to answer questions about birds, in plain words: what do wrens eat in winter, and where?"},
    {"user", "Tell me about clocks, about what makes them tick, and about the people who build them by hand."},
    {"user", "Which is the longer word of the two, the first one or the last one? Think well, then say why."}};

static struct genarm_guide *make_guide(const struct session_case *f, struct genarm_adapter *second, float weight) {
    const struct case_arm arms[] = {{f->first, 0.8f, NULL}, {second, weight, NULL}};
    struct genarm_guide_params params = case_params(CTX, GENARM_KV_F32);
    params.n_slots = MANY;
    return case_guide(f->model, arms, 2, params);
}

static void make_sessions(struct genarm_guide *g, struct genarm_session **s) {
    for (int i = 0; i < MANY; i++) {
        s[i] = case_session(g, (uint64_t)i);
        case_prompt(s[i], &questions[i], 1);
    }
}

static void end(struct genarm_guide *g, struct genarm_session **s) {
    for (int i = 0; i < MANY; i++) {
        genarm_session_free(s[i]);
    }
    genarm_guide_free(g);
}

/* What question i is answered in a guide of its own. */
static void alone(const struct session_case *f, int i, float weight, int32_t *tokens) {
    struct genarm_guide *g = make_guide(f, f->second, weight);
    struct genarm_session *s = case_session(g, (uint64_t)i);
    case_prompt(s, &questions[i], 1);
    case_answer(s, tokens, ANSWER);
    case_end(g, s);
}

static void step_each(struct genarm_session **s, int32_t *tokens, struct genarm_error *errors) {
    struct genarm_error err = {0};
    for (int i = 0; i < MANY; i++) {
        tokens[i] = -1;
    }
    must(genarm_sessions_step_each(s, MANY, tokens, errors, &err), &err);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(tokens[i] < 0, errors[i].code != GENARM_OK);
    }
}

/* Session 1 fails at every step with `code`; the others' answers are as alone. Returns its last error. */
static struct genarm_error expect_others_go_on(const struct session_case *f, struct genarm_session **s, int code, float weight) {
    struct genarm_error errors[MANY];
    int32_t expected[MANY][ANSWER], tokens[MANY];
    const int32_t before = genarm_session_n_tokens(s[1]);
    alone(f, 0, weight, expected[0]);
    alone(f, 2, weight, expected[2]);
    for (int t = 0; t < ANSWER; t++) {
        step_each(s, tokens, errors);
        assert_int_equal(errors[0].code, GENARM_OK);
        assert_int_equal(errors[1].code, code);
        assert_int_equal(errors[2].code, GENARM_OK);
        assert_int_equal(tokens[0], expected[0][t]);
        assert_int_equal(tokens[2], expected[2][t]);
        assert_int_equal(genarm_session_n_tokens(s[1]), before);
    }
    return errors[1];
}

static void test_a_full_context_is_one_sessions_affair(void **state) {
    const struct session_case *f = *state;
    struct genarm_guide *g = make_guide(f, f->second, 0.4f);
    struct genarm_session *s[MANY];
    int32_t token;
    make_sessions(g, s);
    while (genarm_session_n_left(s[1]) > 0) {
        case_answer(s[1], &token, 1);
    }
    expect_others_go_on(f, s, GENARM_ECONTEXT, 0.4f);
    end(g, s);
}

static void test_a_session_without_a_prompt_does_not_hold_up_others(void **state) {
    const struct session_case *f = *state;
    struct genarm_guide *g = make_guide(f, f->second, 0.4f);
    struct genarm_session *s[MANY];
    make_sessions(g, s);
    genarm_session_free(s[1]);
    s[1] = case_session(g, 1);
    expect_others_go_on(f, s, GENARM_EINVAL, 0.4f);
    case_prompt(s[1], &questions[1], 1); /* and is none the worse */
    int32_t expected[ANSWER], tokens[ANSWER];
    alone(f, 1, 0.4f, expected);
    case_answer(s[1], tokens, ANSWER);
    assert_memory_equal(tokens, expected, sizeof expected);
    end(g, s);
}

static void test_biases_that_forbid_all_fail_one_session(void **state) {
    const struct session_case *f = *state;
    struct genarm_error err = {0};
    struct genarm_guide *g = make_guide(f, f->second, 0.4f);
    struct genarm_session *s[MANY];
    const int32_t n_vocab = f->model->hp.n_vocab;
    struct genarm_token_bias *biases = calloc((size_t)n_vocab, sizeof *biases);
    int32_t expected[ANSWER], tokens[ANSWER];
    for (int32_t i = 0; i < n_vocab; i++) {
        biases[i] = (struct genarm_token_bias){i, -INFINITY};
    }
    make_sessions(g, s);
    must(genarm_session_set_bias(s[1], biases, (size_t)n_vocab, &err), &err);
    expect_others_go_on(f, s, GENARM_EINVAL, 0.4f);
    must(genarm_session_set_bias(s[1], NULL, 0, &err), &err);
    alone(f, 1, 0.4f, expected);
    case_answer(s[1], tokens, ANSWER);
    assert_memory_equal(tokens, expected, sizeof expected);
    free(biases);
    end(g, s);
}

static void test_a_draft_that_is_no_distribution_fails_one_session(void **state) {
    const struct session_case *f = *state;
    static const float weights[] = {1, 3e38f, 3e38f};
    struct genarm_error err = {0};
    struct genarm_guide *g = make_guide(f, f->second, 0.4f);
    struct genarm_session *s[MANY];
    make_sessions(g, s);
    const struct genarm_draft_params draft = {.weights = weights, .n_max = 2, .n_min = 2, .n_lookup = 1};
    must(genarm_session_set_draft(s[1], &draft, &err), &err);
    expect_others_go_on(f, s, GENARM_EINVAL, 0.4f);
    end(g, s);
}

/* ---- tokens that some policy does not know ---- */

static void test_an_arm_that_does_not_know_the_answer_fails_when_it_is_raised(void **state) {
    const struct session_case *f = *state;
    struct genarm_error err = {0}, errors[2];
    struct genarm_model *padded = golden_model("llama-padded.gguf");
    struct genarm_guide_params params = case_params(CTX, GENARM_KV_F32);
    struct genarm_guide *g;
    params.n_slots = 2;
    must(genarm_guide_new(&g, padded, &params, &err), &err);
    must(genarm_guide_add_arm(g, &(struct genarm_arm_params){.name = "small", .model = f->model, .weight = 0}, &err), &err);
    struct genarm_session *s[2] = {case_session(g, 1), case_session(g, 2)};
    const int32_t unknown = padded->hp.n_vocab - 1;
    const struct genarm_token_bias bias = {unknown, 1e4f};
    int32_t tokens[2], left;
    case_prompt(s[0], &questions[0], 1);
    case_prompt(s[1], &questions[1], 1);
    must(genarm_session_set_bias(s[1], &bias, 1, &err), &err);
    must(genarm_sessions_step(s, 2, tokens, &err), &err);
    assert_int_equal(tokens[1], unknown); /* or the test would prove nothing */
    for (int i = 0; i < 2; i++) {
        must(genarm_session_set_weight(s[i], 0, 0.5f, &err), &err);
    }
    must(genarm_sessions_step_each(s, 2, tokens, errors, &err), &err);
    assert_int_equal(errors[0].code, GENARM_OK);
    assert_int_equal(errors[1].code, GENARM_EINVAL);
    assert_non_null(strstr(errors[1].what, "small"));
    assert_int_equal(genarm_session_prefill(s[1], 8, &left, &err), GENARM_EINVAL);
    must(genarm_session_set_weight(s[1], 0, 0.0f, &err), &err); /* the base goes on by itself */
    must(genarm_sessions_step(s, 2, tokens, &err), &err);
    genarm_session_free(s[0]);
    case_end(g, s[1]);
    genarm_model_free(padded);
}

/* ---- logits that are not finite ---- */

/* Where the numbers of an adapter are finite, and what they compute is not. */
static struct genarm_adapter *damaged(const struct session_case *f) {
    struct genarm_error err = {0};
    struct genarm_adapter *adapter = NULL;
    struct edit e;
    edit_open(&e, golden_path("llama.lora2.gguf"));
    gguf_set_val_f32(e.gguf, "adapter.lora.alpha", 1e38f);
    must(genarm_adapter_load(&adapter, f->model, edit_save(&e, temp_path("damaged.gguf")), &err), &err);
    return adapter;
}

/* Session 1 alone gives the adapter a weight; its rows are in the others' batch. */
static void test_a_damaged_adapter_fails_who_uses_it(void **state) {
    const struct session_case *f = *state;
    struct genarm_error err = {0};
    struct genarm_adapter *bad = damaged(f);
    for (int late = 0; late < 2; late++) { /* from the start, or when it is switched on while the answers run */
        struct genarm_guide *g = make_guide(f, bad, 0.0f);
        struct genarm_session *s[MANY];
        int32_t token;
        make_sessions(g, s);
        if (late) {
            case_answer(s[1], &token, 1);
        }
        must(genarm_session_set_weight(s[1], 1, 0.4f, &err), &err);
        const struct genarm_error error = expect_others_go_on(f, s, GENARM_EFORMAT, 0.0f);
        assert_string_equal(error.where, bad->path);
        must(genarm_session_set_weight(s[1], 1, 0.0f, &err), &err);
        int32_t expected[ANSWER], tokens[ANSWER];
        alone(f, 1, 0.0f, expected);
        case_answer(s[1], tokens + late, ANSWER - late);
        assert_memory_equal(tokens + late, expected + late, (size_t)(ANSWER - late) * sizeof *tokens);
        end(g, s);
    }
    genarm_adapter_free(bad);
}

static const struct engine_vtable *working;
static struct engine_vtable broken;

/* What the sequences of session 1 hold gives nothing finite, whoever computed it. */
static int spoil(struct engine *e, const struct row *rows, int32_t n, float *logits, struct genarm_error *err) {
    const int rc = working->forward(e, rows, n, logits, err);
    for (int32_t i = 0, k = 0; i < n; i++) {
        if (rows[i].output && rows[i].share == 0.0f) {
            logits[(size_t)k++ * (size_t)e->model->hp.n_vocab] = rows[i].seq / 3 == 1 ? NAN : logits[0];
        }
    }
    return rc;
}

static void test_what_gave_nothing_finite_is_not_used_again(void **state) {
    const struct session_case *f = *state;
    struct genarm_error errors[MANY];
    struct genarm_guide *g = make_guide(f, f->second, 0.4f);
    struct genarm_session *s[MANY];
    int32_t expected[ANSWER], tokens[ANSWER];
    make_sessions(g, s);
    assert_int_equal(s[1]->slot, 1);
    struct engine *e = g->engines[0].engine;
    working = e->vtable;
    broken = *working;
    broken.forward = spoil;
    e->vtable = &broken;
    step_each(s, tokens, errors);
    e->vtable = working;
    assert_int_equal(errors[1].code, GENARM_EFORMAT);
    alone(f, 1, 0.4f, expected);
    struct genarm_guide_stats before, after;
    genarm_guide_get_stats(g, &before);
    case_answer(s[1], tokens, ANSWER);
    genarm_guide_get_stats(g, &after);
    assert_memory_equal(tokens, expected, sizeof expected);
    const int64_t n = after.n_evaluated - before.n_evaluated + after.n_reused - before.n_reused;
    assert_int_equal(n, 3 * (genarm_session_n_prompt(s[1]) + ANSWER - 1)); /* all of it once more */
    end(g, s);
}

/* It would spoil rows that do not use it. */
static void test_an_adapter_of_infinite_numbers_is_refused(void **state) {
    const struct session_case *f = *state;
    struct genarm_error err = {0};
    struct genarm_session *s;
    struct edit e;
    for (int part = 0; part < 2; part++) {
        struct genarm_adapter *adapter = NULL;
        edit_open(&e, golden_path("llama.lora2.gguf"));
        ((float *)edit_tensor(&e, part ? "blk.0.attn_q.weight.lora_b" : "blk.0.attn_q.weight.lora_a")->data)[3] = 1e30f;
        gguf_set_val_f32(e.gguf, "adapter.lora.alpha", part ? 1e10f : 1.0f);
        must(genarm_adapter_load(&adapter, f->model, edit_save(&e, temp_path("damaged.gguf")), &err), &err);
        struct genarm_guide *g = make_guide(f, adapter, 0.0f);
        if (golden_engine != GENARM_ENGINE_LLAMA) { /* which runs adapters apart */
            assert_int_equal(genarm_session_new(&s, g, NULL, &err), GENARM_EFORMAT);
            assert_string_equal(err.where, adapter->path);
            assert_non_null(strstr(err.what, "too large"));
        }
        genarm_guide_free(g);
        genarm_adapter_free(adapter);
    }
}

/* ---- what concerns all ---- */

static int refuse(struct engine *e, const struct row *rows, int32_t n, float *logits, struct genarm_error *err) {
    (void)e;
    (void)rows;
    (void)n;
    (void)logits;
    err->code = GENARM_EBACKEND;
    return GENARM_EBACKEND;
}

static void test_a_backend_that_fails_gives_nobody_a_token(void **state) {
    const struct session_case *f = *state;
    struct genarm_error err = {0}, errors[MANY];
    struct genarm_guide *g = make_guide(f, f->second, 0.4f);
    struct genarm_session *s[MANY];
    int32_t expected[MANY][ANSWER], tokens[MANY] = {-7, -7, -7};
    make_sessions(g, s);
    struct engine *e = g->engines[0].engine;
    working = e->vtable;
    broken = *working;
    broken.forward = refuse;
    e->vtable = &broken;
    errors[0].code = 77;
    assert_int_equal(genarm_sessions_step_each(s, MANY, tokens, errors, &err), GENARM_EBACKEND);
    assert_int_equal(errors[0].code, 77);
    e->vtable = working;
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(tokens[i], -7);
        assert_int_equal(genarm_session_n_tokens(s[i]), 0);
        alone(f, i, 0.4f, expected[i]);
    }
    for (int t = 0; t < ANSWER; t++) {
        step_each(s, tokens, errors);
        for (int i = 0; i < MANY; i++) {
            assert_int_equal(tokens[i], expected[i][t]);
        }
    }
    end(g, s);
}

static void test_a_step_of_all_returns_the_first_failure(void **state) {
    const struct session_case *f = *state;
    struct genarm_error err = {0};
    struct genarm_guide *g = make_guide(f, f->second, 0.4f), *other = make_guide(f, f->second, 0.4f);
    struct genarm_session *s[MANY];
    int32_t expected[ANSWER], tokens[MANY];
    make_sessions(g, s);
    while (genarm_session_n_left(s[1]) > 0) {
        case_answer(s[1], tokens, 1);
    }
    genarm_session_free(s[2]);
    s[2] = case_session(g, 2);
    assert_int_equal(genarm_sessions_step(s, MANY, tokens, &err), GENARM_ECONTEXT);
    assert_int_equal(err.code, GENARM_ECONTEXT);
    assert_int_equal(genarm_sessions_step(s, MANY, tokens, NULL), GENARM_ECONTEXT);
    alone(f, 0, 0.4f, expected);
    assert_int_equal(genarm_session_n_tokens(s[0]), 2); /* it was given tokens */
    assert_int_equal(tokens[0], expected[1]);
    struct genarm_session *mixed[] = {s[0], case_session(other, 1)};
    struct genarm_error errors[2];
    assert_int_equal(genarm_sessions_step_each(mixed, 2, tokens, errors, &err), GENARM_EINVAL);
    must(genarm_sessions_step_each(NULL, 0, NULL, NULL, &err), &err);
    case_end(other, mixed[1]);
    end(g, s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_full_context_is_one_sessions_affair),
        cmocka_unit_test(test_a_session_without_a_prompt_does_not_hold_up_others),
        cmocka_unit_test(test_biases_that_forbid_all_fail_one_session),
        cmocka_unit_test(test_a_draft_that_is_no_distribution_fails_one_session),
        cmocka_unit_test(test_an_arm_that_does_not_know_the_answer_fails_when_it_is_raised),
        cmocka_unit_test(test_a_damaged_adapter_fails_who_uses_it),
        cmocka_unit_test(test_what_gave_nothing_finite_is_not_used_again),
        cmocka_unit_test(test_an_adapter_of_infinite_numbers_is_refused),
        cmocka_unit_test(test_a_backend_that_fails_gives_nobody_a_token),
        cmocka_unit_test(test_a_step_of_all_returns_the_first_failure),
    };
    int failed = 0;
    for (golden_engine = GENARM_ENGINE_GENARM; golden_engine <= GENARM_ENGINE_LLAMA; golden_engine++) {
        failed += cmocka_run_group_tests_name(golden_engine_name(), tests, session_case_setup, session_case_teardown);
    }
    return failed;
}
