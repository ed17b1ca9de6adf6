/* A prompt that is evaluated in pieces: answers are those of steps that evaluate it whole, and no row is fed twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/golden.h"
#include "support/session_case.h"

enum { ANSWER = 16, CTX = 256, OBJECTIVES = 3 };

static const struct genarm_message long_prompt[] = {
    {"system", "You answer questions about birds, and about nothing else, in one short sentence of plain words."},
    {"user", "What do wrens eat, and where do they find it when there is snow?"}};
static const struct genarm_message other_prompt[] = {
    {"system", "You answer questions about birds, and about nothing else, in one short sentence of plain words."},
    {"user", "Why do swans sing?"}};

/* Two ARMs, the second with a template of its own, and room for two sessions. */
static struct genarm_guide *make_guide(const struct session_case *f, float second, bool no_sharing) {
    const struct case_arm arms[] = {{f->first, 0.8f, NULL}, {f->second, second, "raw:Q: {system} {prompt}\\nA:"}};
    struct genarm_guide_params params = case_params(CTX, GENARM_KV_F32);
    params.n_slots = 2;
    params.no_sharing = no_sharing;
    return case_guide(f->model, arms, 2, params);
}

static int64_t evaluated(const struct genarm_guide *g) {
    struct genarm_guide_stats stats;
    genarm_guide_get_stats(g, &stats);
    return stats.n_evaluated;
}

/* Prefills to the end, so many rows at a time, and counts them. Returns how many there were. */
static int64_t prefill(struct genarm_session *s, int32_t rows) {
    struct genarm_error err = {0};
    int32_t left = -1, before = INT32_MAX;
    const int64_t start = evaluated(s->guide);
    while (left != 0) {
        const int64_t n = evaluated(s->guide);
        must(genarm_session_prefill(s, rows, &left, &err), &err);
        const int64_t done = evaluated(s->guide) - n;
        assert_in_range(done, 0, rows);
        assert_true(before == INT32_MAX || done == before - left);
        assert_true(left == 0 || done == rows);
        before = left;
    }
    return evaluated(s->guide) - start;
}

static int64_t rows_of_a_step(struct genarm_session *s, int32_t *token) {
    struct genarm_error err = {0};
    const int64_t start = evaluated(s->guide);
    must(genarm_session_step(s, token, &err), &err);
    return evaluated(s->guide) - start;
}

/* What steps alone answer. */
static void expected_answer(const struct session_case *f, const struct genarm_message *prompt, int32_t *tokens) {
    struct genarm_guide *g = make_guide(f, 0.5f, true);
    struct genarm_session *s = case_session(g, 3);
    case_prompt(s, prompt, 2);
    case_answer(s, tokens, ANSWER);
    case_end(g, s);
}

static void test_a_prompt_in_pieces_gives_the_same_answer(void **state) {
    const struct session_case *f = *state;
    static const int32_t pieces[] = {1, 7, 40, 100000};
    struct genarm_error err = {0};
    int32_t expected[ANSWER], tokens[ANSWER], left;
    expected_answer(f, long_prompt, expected);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        struct genarm_guide *g = make_guide(f, 0.5f, false);
        struct genarm_session *s = case_session(g, 3);
        case_prompt(s, long_prompt, 2);
        const int32_t all = s->timelines[0].n + s->timelines[1].n + s->timelines[2].n;
        assert_true(all > 200); /* or the test would prove little */
        must(genarm_session_prefill(s, 0, &left, &err), &err);
        assert_int_equal(left, all - 3);
        assert_int_equal(prefill(s, pieces[i]), all - 3);
        assert_int_equal(prefill(s, pieces[i]), 0);
        assert_int_equal(rows_of_a_step(s, tokens), 3);
        case_answer(s, tokens + 1, ANSWER - 1);
        assert_memory_equal(tokens, expected, sizeof expected);
        assert_int_equal(genarm_session_n_reused(s), 0);
        case_end(g, s);
    }
}

static void test_a_prefill_that_is_given_up_leaves_its_beginning(void **state) {
    const struct session_case *f = *state;
    struct genarm_error err = {0};
    struct genarm_guide *g = make_guide(f, 0.5f, false);
    struct genarm_session *s = case_session(g, 3);
    int32_t expected[ANSWER], tokens[ANSWER], left;
    expected_answer(f, other_prompt, expected);
    case_prompt(s, long_prompt, 2);
    must(genarm_session_prefill(s, 30, &left, &err), &err);
    assert_int_equal(s->timelines[0].n_cached, 30);
    case_prompt(s, other_prompt, 2);
    assert_int_equal(genarm_session_n_reused(s), 30);
    case_answer(s, tokens, ANSWER);
    assert_memory_equal(tokens, expected, sizeof expected);
    case_prompt(s, other_prompt, 2); /* the same again: its last token is fed in any case */
    assert_int_equal(genarm_session_n_reused(s), genarm_session_n_prompt(s) - 1);
    case_end(g, s);
}

static void test_steps_go_on_where_a_prefill_stopped(void **state) {
    const struct session_case *f = *state;
    struct genarm_error err = {0};
    struct genarm_guide *g = make_guide(f, 0.5f, false);
    struct genarm_session *s = case_session(g, 3);
    int32_t expected[ANSWER], tokens[ANSWER], left;
    expected_answer(f, long_prompt, expected);
    case_prompt(s, long_prompt, 2);
    must(genarm_session_prefill(s, 50, &left, &err), &err);
    assert_int_equal(rows_of_a_step(s, tokens), left + 3);
    case_answer(s, tokens + 1, ANSWER - 1);
    assert_memory_equal(tokens, expected, sizeof expected);
    case_end(g, s);
}

static void test_a_prompt_is_taken_over_from_a_session_that_prefills(void **state) {
    const struct session_case *f = *state;
    struct genarm_error err = {0};
    int32_t expected[ANSWER], tokens[ANSWER], left;
    expected_answer(f, long_prompt, expected);
    for (int no_sharing = 0; no_sharing < 2; no_sharing++) {
        struct genarm_guide *g = make_guide(f, 0.5f, no_sharing);
        struct genarm_session *a = case_session(g, 9), *b = case_session(g, 3);
        case_prompt(a, long_prompt, 2);
        case_prompt(b, long_prompt, 2);
        const int32_t all = a->timelines[0].n + a->timelines[1].n + a->timelines[2].n - 3;
        must(genarm_session_prefill(a, 40, &left, &err), &err);
        const int64_t start = evaluated(g);
        must(genarm_session_prefill(b, 1, &left, &err), &err); /* 40 of the base's are copied, one is evaluated */
        assert_int_equal(left, no_sharing ? all - 1 : all - 41);
        assert_int_equal(evaluated(g) - start, 1);
        assert_int_equal(genarm_session_n_reused(b), no_sharing ? 0 : 40);
        assert_int_equal(prefill(a, 64), all - 40);
        assert_int_equal(prefill(b, 64), no_sharing ? all - 1 : 0);
        assert_int_equal(genarm_session_n_reused(b), no_sharing ? 0 : genarm_session_n_prompt(b) - 2); /* that one it evaluated */
        assert_int_equal(rows_of_a_step(b, tokens), 3);
        case_answer(b, tokens + 1, ANSWER - 1);
        assert_memory_equal(tokens, expected, sizeof expected);
        genarm_session_free(a);
        case_end(g, b);
    }
}

/* Steps of other sessions between the pieces. */
static void test_others_go_on_while_a_prompt_is_prefilled(void **state) {
    const struct session_case *f = *state;
    struct genarm_error err = {0};
    struct genarm_guide *g = make_guide(f, 0.5f, false);
    struct genarm_session *a = case_session(g, 3), *b = case_session(g, 3);
    int32_t expected[2][ANSWER], tokens[2][ANSWER], left = 1;
    int n = 0;
    expected_answer(f, other_prompt, expected[0]);
    expected_answer(f, long_prompt, expected[1]);
    case_prompt(a, other_prompt, 2);
    case_answer(a, tokens[0], 1);
    case_prompt(b, long_prompt, 2);
    for (n = 1; n < ANSWER && left > 0; n++) {
        must(genarm_session_prefill(b, 20, &left, &err), &err);
        case_answer(a, &tokens[0][n], 1);
    }
    assert_true(n > 3 && n < ANSWER);
    case_answer(a, tokens[0] + n, ANSWER - n);
    case_answer(b, tokens[1], ANSWER);
    assert_memory_equal(tokens, expected, sizeof expected);
    genarm_session_free(a);
    case_end(g, b);
}

static void test_an_arm_without_weight_is_left_out_until_it_is_raised(void **state) {
    const struct session_case *f = *state;
    struct genarm_error err = {0};
    int32_t expected[ANSWER], tokens[ANSWER];
    for (int pieces = 0; pieces < 2; pieces++) {
        struct genarm_guide *g = make_guide(f, 0.0f, false);
        struct genarm_session *s = case_session(g, 3);
        int32_t *out = pieces ? tokens : expected;
        case_prompt(s, long_prompt, 2);
        if (pieces) {
            assert_int_equal(prefill(s, 33), s->timelines[0].n + s->timelines[1].n - 2);
        }
        case_answer(s, out, ANSWER / 2);
        assert_int_equal(s->timelines[2].n_cached, 0);
        must(genarm_session_set_weight(s, 1, 0.9f, &err), &err);
        if (pieces) {
            assert_int_equal(prefill(s, 33), s->timelines[2].n - 1); /* and nothing of the others */
            assert_int_equal(rows_of_a_step(s, out + ANSWER / 2), 3);
        } else {
            case_answer(s, out + ANSWER / 2, 1);
        }
        case_answer(s, out + ANSWER / 2 + 1, ANSWER - ANSWER / 2 - 1);
        case_end(g, s);
    }
    assert_memory_equal(tokens, expected, sizeof expected);
}

/* An ARM that a schedule starts later is evaluated when it starts. */
static void test_a_schedule_decides_what_is_prefilled(void **state) {
    const struct session_case *f = *state;
    struct genarm_error err = {0};
    const struct genarm_knot knots[] = {{4, 0.0f}, {5, 1.0f}};
    int32_t expected[ANSWER], tokens[ANSWER];
    for (int pieces = 0; pieces < 2; pieces++) {
        struct genarm_guide *g = make_guide(f, 0.5f, false);
        struct genarm_session *s = case_session(g, 3);
        int32_t *out = pieces ? tokens : expected;
        must(genarm_session_set_schedule(s, 1, knots, 2, &err), &err);
        case_prompt(s, long_prompt, 2);
        for (int t = 0; t < ANSWER; t++) {
            const int64_t n = pieces ? prefill(s, 25) : 0;
            assert_int_equal(n, !pieces ? 0
                                : t == 0 ? s->timelines[0].n + s->timelines[1].n - 2
                                : t == 5 ? s->timelines[2].n - 1
                                         : 0);
            case_answer(s, &out[t], 1);
        }
        case_end(g, s);
    }
    assert_memory_equal(tokens, expected, sizeof expected);
}

static void test_a_preference_is_prefilled_anew_when_it_changes(void **state) {
    const struct session_case *f = *state;
    static const float one[OBJECTIVES] = {1, 0, 0}, two[OBJECTIVES] = {0.2f, 0.5f, 0.3f};
    struct genarm_error err = {0};
    int32_t expected[ANSWER], tokens[ANSWER];
    if (!f->conditioned) {
        return; /* libllama has no such adapters */
    }
    for (int pieces = 0; pieces < 2; pieces++) {
        const struct case_arm arm = {f->conditioned, 1.0f, NULL};
        struct genarm_guide *g = case_guide(f->model, &arm, 1, case_params(CTX, GENARM_KV_F32));
        struct genarm_session *s = case_session(g, 3);
        int32_t *out = pieces ? tokens : expected;
        must(genarm_session_set_preference(s, 0, one, OBJECTIVES, &err), &err);
        case_prompt(s, long_prompt, 2);
        if (pieces) {
            assert_int_equal(prefill(s, 33), 2 * (s->timelines[0].n - 1));
        }
        case_answer(s, out, ANSWER / 2);
        must(genarm_session_set_preference(s, 0, two, OBJECTIVES, &err), &err);
        if (pieces) {
            assert_int_equal(prefill(s, 33), s->timelines[1].n - 1);
        }
        case_answer(s, out + ANSWER / 2, ANSWER - ANSWER / 2);
        case_end(g, s);
    }
    assert_memory_equal(tokens, expected, sizeof expected);
}

/* The second ARM, of weight 0, drafts, or the text does. Drafts of a fixed length: a seed gives the same answer again. */
static void test_drafts_after_a_prefill_are_those_without(void **state) {
    const struct session_case *f = *state;
    static const float weights[] = {0, 0, 1};
    struct genarm_error err = {0};
    for (int looks_up = 0; looks_up < 2; looks_up++) {
        const struct genarm_draft_params draft = {
            .weights = looks_up ? NULL : weights, .n_max = 3, .n_min = 3, .n_lookup = 1};
        int32_t expected[ANSWER], tokens[ANSWER];
        for (int pieces = 0; pieces < 2; pieces++) {
            struct genarm_guide *g = make_guide(f, 0.0f, false);
            struct genarm_session *s = case_session(g, 3);
            must(genarm_session_set_draft(s, &draft, &err), &err);
            case_prompt(s, long_prompt, 2);
            const int32_t all = s->timelines[0].n + s->timelines[1].n - 2 + (looks_up ? 0 : s->timelines[2].n - 1);
            assert_int_equal(pieces ? prefill(s, 33) : 0, pieces ? all : 0);
            for (int t = 0; t < ANSWER; t++) {
                int32_t left = -1;
                case_answer(s, &(pieces ? tokens : expected)[t], 1);
                must(genarm_session_prefill(s, 1, &left, &err), &err); /* may have to catch up with a rejected draft */
                assert_in_range(left, 0, 3);
                assert_true(s->n_ahead == 0 || left == 0);
            }
            struct genarm_draft_stats stats;
            genarm_session_get_draft_stats(s, &stats);
            assert_true(stats.n_drafted > 0);
            case_end(g, s);
        }
        assert_memory_equal(tokens, expected, sizeof expected);
    }
}

/* ---- failures ---- */

static struct engine_vtable failing;
static int calls_left;
static const struct engine_vtable *working;

static int fail_later(struct engine *e, const struct row *rows, int32_t n, float *logits, struct genarm_error *err) {
    if (calls_left-- > 0) {
        return working->forward(e, rows, n, logits, err);
    }
    err->code = GENARM_EBACKEND;
    return GENARM_EBACKEND;
}

static void test_a_failed_prefill_leaves_the_session_as_it_was(void **state) {
    const struct session_case *f = *state;
    struct genarm_error err = {0};
    struct genarm_guide *g = make_guide(f, 0.5f, false);
    struct genarm_session *s = case_session(g, 3);
    int32_t expected[ANSWER], tokens[ANSWER], left = -7;
    expected_answer(f, long_prompt, expected);
    assert_int_equal(genarm_session_prefill(s, 8, &left, &err), GENARM_EINVAL); /* no prompt */
    case_prompt(s, long_prompt, 2);
    assert_int_equal(genarm_session_prefill(s, -1, &left, &err), GENARM_EINVAL);
    struct engine *e = g->engines[0].engine;
    working = e->vtable;
    failing = *working;
    failing.forward = fail_later;
    e->vtable = &failing;
    calls_left = 2;
    must(genarm_session_prefill(s, 8, &left, &err), &err);
    must(genarm_session_prefill(s, 100, &left, &err), &err);
    const int32_t before = left;
    assert_int_equal(genarm_session_prefill(s, 100, &left, &err), GENARM_EBACKEND);
    assert_int_equal(left, before);
    e->vtable = working;
    assert_int_equal(prefill(s, 100), before);
    case_answer(s, tokens, ANSWER);
    assert_memory_equal(tokens, expected, sizeof expected);
    while (genarm_session_n_left(s) > 0) {
        case_answer(s, tokens, 1);
    }
    assert_int_equal(genarm_session_prefill(s, 8, &left, &err), GENARM_ECONTEXT);
    case_end(g, s);
}

/* ---- prompts of tokens ---- */

static void test_a_prompt_of_tokens_is_the_one_of_the_template_that_gives_them(void **state) {
    const struct session_case *f = *state;
    struct genarm_error err = {0};
    const struct case_arm arm = {f->first, 0.8f, NULL};
    int32_t expected[ANSWER], tokens[ANSWER], prompt[CTX];
    struct genarm_guide_params params = case_params(CTX, GENARM_KV_F32);
    params.n_slots = 2;
    struct genarm_guide *g = case_guide(f->model, &arm, 1, params);
    struct genarm_session *s = case_session(g, 3), *t = case_session(g, 3);
    case_prompt(s, long_prompt, 2);
    case_answer(s, expected, ANSWER);
    const int32_t n = genarm_session_n_prompt(s);
    memcpy(prompt, s->timelines[0].tokens, (size_t)n * sizeof *prompt);
    must(genarm_session_prompt_tokens(t, prompt, (size_t)n, &err), &err);
    assert_int_equal(prefill(t, 16), 0); /* it is the same prompt */
    assert_int_equal(genarm_session_n_reused(t), n - 1);
    case_answer(t, tokens, ANSWER);
    assert_memory_equal(tokens, expected, sizeof expected);
    genarm_session_free(s);
    case_end(g, t);
}

static void test_a_prompt_of_tokens_is_checked(void **state) {
    const struct session_case *f = *state;
    struct genarm_error err = {0};
    struct genarm_model *padded = golden_model("llama-padded.gguf");
    struct genarm_guide_params params = case_params(CTX, GENARM_KV_F32);
    struct genarm_guide *g;
    must(genarm_guide_new(&g, padded, &params, &err), &err);
    must(genarm_guide_add_arm(g, &(struct genarm_arm_params){.name = "small", .model = f->model, .weight = 0}, &err), &err);
    struct genarm_session *s = case_session(g, 3);
    int32_t tokens[CTX] = {5, 6, 7}, token;
    const int32_t n_base = padded->hp.n_vocab, n_arm = f->model->hp.n_vocab;
    assert_true(n_arm < n_base);
    must(genarm_session_prompt_tokens(s, tokens, 3, &err), &err);
    case_answer(s, &token, 1);
    const int32_t bad[] = {-1, n_base, n_arm, INT32_MAX}; /* the base knows the third one */
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tokens[1] = bad[i];
        assert_int_equal(genarm_session_prompt_tokens(s, tokens, 3, &err), GENARM_EINVAL);
        assert_non_null(strstr(err.what, i == 2 ? "small" : "vocabulary"));
    }
    tokens[1] = n_arm - 1;
    assert_int_equal(genarm_session_prompt_tokens(s, tokens, 0, &err), GENARM_EINVAL);
    assert_int_equal(genarm_session_prompt_tokens(s, tokens, CTX, &err), GENARM_ECONTEXT);
    assert_int_equal(genarm_session_prompt_tokens(s, tokens, SIZE_MAX, &err), GENARM_ECONTEXT);
    assert_int_equal(genarm_session_n_prompt(s), 3); /* as before */
    assert_int_equal(genarm_session_n_tokens(s), 1);
    must(genarm_session_prompt_tokens(s, tokens, CTX - 1, &err), &err);
    case_answer(s, &token, 1);
    case_end(g, s);
    genarm_model_free(padded);
}

/* ---- two engines ---- */

/* Base and ARM are the same model on different engines. */
static void test_both_engines_are_prefilled(void **state) {
    const struct session_case *f = *state;
    struct genarm_error err = {0};
    struct genarm_model_params load = genarm_model_default_params();
    load.engine = golden_engine == GENARM_ENGINE_LLAMA ? GENARM_ENGINE_GENARM : GENARM_ENGINE_LLAMA;
    struct genarm_model *model = NULL;
    must(genarm_model_load(&model, golden_path("llama.gguf"), &load, &err), &err);
    struct genarm_adapter *adapter = golden_adapter(model, "llama.lora.gguf");
    int32_t expected[ANSWER], tokens[ANSWER];
    for (int pieces = 0; pieces < 2; pieces++) {
        struct genarm_guide_params params = case_params(CTX, GENARM_KV_F32);
        struct genarm_guide *g;
        must(genarm_guide_new(&g, f->model, &params, &err), &err);
        must(genarm_guide_add_arm(g, &(struct genarm_arm_params){.name = "arm", .model = model, .adapter = adapter, .weight = 1},
                                  &err), &err);
        assert_true(g->n_engines <= 2);
        struct genarm_session *s = case_session(g, 3);
        assert_int_equal(g->n_engines, 2);
        case_prompt(s, long_prompt, 2);
        assert_int_equal(pieces ? prefill(s, 37) : 0, pieces ? 2 * (s->timelines[0].n - 1) : 0);
        case_answer(s, pieces ? tokens : expected, ANSWER);
        case_end(g, s);
    }
    assert_memory_equal(tokens, expected, sizeof expected);
    genarm_adapter_free(adapter);
    genarm_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_prompt_in_pieces_gives_the_same_answer),
        cmocka_unit_test(test_a_prefill_that_is_given_up_leaves_its_beginning),
        cmocka_unit_test(test_steps_go_on_where_a_prefill_stopped),
        cmocka_unit_test(test_a_prompt_is_taken_over_from_a_session_that_prefills),
        cmocka_unit_test(test_others_go_on_while_a_prompt_is_prefilled),
        cmocka_unit_test(test_an_arm_without_weight_is_left_out_until_it_is_raised),
        cmocka_unit_test(test_a_schedule_decides_what_is_prefilled),
        cmocka_unit_test(test_a_preference_is_prefilled_anew_when_it_changes),
        cmocka_unit_test(test_drafts_after_a_prefill_are_those_without),
        cmocka_unit_test(test_a_failed_prefill_leaves_the_session_as_it_was),
        cmocka_unit_test(test_a_prompt_of_tokens_is_the_one_of_the_template_that_gives_them),
        cmocka_unit_test(test_a_prompt_of_tokens_is_checked),
        cmocka_unit_test(test_both_engines_are_prefilled),
    };
    int failed = 0;
    for (golden_engine = GENARM_ENGINE_GENARM; golden_engine <= GENARM_ENGINE_LLAMA; golden_engine++) {
        failed += cmocka_run_group_tests_name(golden_engine_name(), tests, session_case_setup, session_case_teardown);
    }
    return failed;
}
