/* Sessions that outgrow their context. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guide/grammar.h"
#include "support/golden.h"
#include "support/session_case.h"

enum { HALF = 9, CTX = 128, KEPT = 16 };

static void test_an_answer_outgrows_its_context_in_every_policy(void **state) {
    struct session_case *f = *state;
    const struct case_arm arms[] = {{f->first, 1.0f, NULL}, {f->second, 0.5f, "raw:Question: {prompt}\\nThe answer is:"},
                               {f->conditioned, 0.0f, "raw:{prompt}"}};
    const int32_t keeps[] = {-1, 0, 1, 5, 1000};
    int32_t tokens[200];
    for (size_t i = 0; i < sizeof keeps / sizeof *keeps; i++) {
        for (int32_t n_ctx = 61; n_ctx <= 67; n_ctx += 3) {
            const enum genarm_kv_type kv_type = i % 2 == 0 ? GENARM_KV_F32 : GENARM_KV_F16;
            struct genarm_guide *g = case_guide(f->model, arms, 3, case_params(n_ctx, kv_type));
            struct genarm_session *s = case_session(g, 4);
            struct genarm_error err = {0};
            case_prompt(s, case_hello, 1);
            case_answer_on(s, keeps[i], tokens, 200);
            must(genarm_session_set_weight(s, 2, 0.5f, &err), &err); /* it was never run */
            must(genarm_session_shift(s, keeps[i], &err), &err);
            case_answer(s, tokens, 1);
            case_end(g, s);
        }
    }
}

/* The smallest contexts: the prompt does not fit, leaves nothing that could be forgotten, or leaves two tokens. */
static void test_contexts_about_as_long_as_the_prompt(void **state) {
    struct session_case *f = *state;
    struct genarm_error err = {0};
    int32_t tokens[40];
    struct genarm_guide *g = case_guide(f->model, NULL, 0, case_params(CTX, GENARM_KV_F32));
    struct genarm_session *s = case_session(g, 4);
    assert_int_equal(genarm_session_shift(s, -1, &err), GENARM_EINVAL); /* no prompt */
    case_prompt(s, case_hello, 1);
    const int32_t n = genarm_session_n_prompt(s);
    must(genarm_session_shift(s, -1, &err), &err); /* there is room: nothing happens */
    assert_int_equal(genarm_session_n_prompt(s), n);
    case_answer(s, tokens, 1);
    case_end(g, s);
    for (int32_t n_ctx = n - 1; n_ctx <= n + 4; n_ctx++) {
        g = case_guide(f->model, NULL, 0, case_params(n_ctx, GENARM_KV_F32));
        s = case_session(g, 4);
        assert_int_equal(genarm_session_prompt(s, case_hello, 1, &err), n_ctx > n ? GENARM_OK : GENARM_ECONTEXT);
        if (n_ctx == n + 1) { /* one step, and all but its token is to be kept */
            case_answer(s, tokens, 1);
            assert_int_equal(genarm_session_n_left(s), 0);
            assert_int_equal(genarm_session_step(s, tokens, &err), GENARM_ECONTEXT);
            assert_int_equal(genarm_session_shift(s, -1, &err), GENARM_ECONTEXT);
            assert_string_equal(err.hint, "keep fewer (--keep) or raise the context size (-c)");
            must(genarm_session_shift(s, 2, &err), &err);
            case_answer(s, tokens, 1);
        } else if (n_ctx > n + 1) {
            case_answer_on(s, -1, tokens, 40);
        }
        case_end(g, s);
    }
}

static void test_sessions_that_shift_do_not_disturb_their_neighbours(void **state) {
    struct session_case *f = *state;
    struct genarm_error err = {0};
    struct genarm_guide_params params = case_params(64, GENARM_KV_F32);
    const struct case_arm arms[] = {{f->first, 1.0f, NULL}};
    int32_t alone[2][90], together[2];
    params.n_slots = 2;
    struct genarm_guide *g = case_guide(f->model, arms, 1, params);
    struct genarm_session *s[2];
    for (int i = 0; i < 2; i++) {
        s[0] = case_session(g, (uint64_t)i);
        case_prompt(s[0], case_hello, 1);
        case_answer_on(s[0], i == 0 ? -1 : 3, alone[i], 90);
        genarm_session_free(s[0]);
    }
    for (int i = 0; i < 2; i++) {
        s[i] = case_session(g, (uint64_t)i);
        case_prompt(s[i], case_hello, 1);
    }
    for (int t = 0; t < 90; t++) {
        for (int i = 0; i < 2; i++) {
            if (genarm_session_n_left(s[i]) == 0) {
                must(genarm_session_shift(s[i], i == 0 ? -1 : 3, &err), &err);
            }
        }
        must(genarm_sessions_step(s, 2, together, &err), &err);
        assert_int_equal(together[0], alone[0][t]);
        assert_int_equal(together[1], alone[1][t]);
    }
    genarm_session_free(s[0]);
    case_end(g, s[1]);
}

/* What moved down has the tokens of the prompt, which repeats itself, but traces of what is forgotten. */
static void test_a_prompt_after_a_shift_equals_a_fresh_session(void **state) {
    struct session_case *f = *state;
    struct genarm_error err = {0};
    struct genarm_guide *g = case_guide_first(f, CTX, GENARM_KV_F32);
    struct genarm_session *s = case_session(g, 4);
    int32_t tokens[2], fresh[HALF], after[HALF];
    const struct genarm_message same[] = {{"user", "0000000000000000000000000000000000000000000000000000000000000000"}};
    const int32_t *held = s->timelines[0].tokens;
    case_prompt(s, same, 1);
    const int32_t n = genarm_session_n_prompt(s);
    assert_true(held[KEPT - 1] == held[KEPT] && held[KEPT] == held[KEPT + 1]);
    case_answer(s, tokens, 2);
    must(genarm_session_shift(s, KEPT, &err), &err);
    assert_true(genarm_session_n_prompt(s) < n && held[KEPT] == held[KEPT - 1]);
    case_answer(s, tokens, 1);
    const struct genarm_sampling sampling = s->sampler.params;
    must(genarm_session_set_sampling(s, &sampling, &err), &err);
    case_prompt(s, same, 1);
    assert_int_equal(s->timelines[0].n_cached, KEPT);
    case_answer(s, after, HALF);
    case_end(g, s);
    g = case_guide_first(f, CTX, GENARM_KV_F32);
    s = case_session(g, 4);
    case_prompt(s, same, 1);
    case_answer(s, fresh, HALF);
    assert_memory_equal(fresh, after, sizeof fresh);
    case_answer(s, tokens, 2);
    must(genarm_session_shift(s, KEPT, &err), &err);
    case_answer(s, tokens, 1);
    genarm_session_free(s);
    s = case_session(g, 4); /* in the same slot */
    case_prompt(s, same, 1);
    assert_int_equal(s->timelines[0].n_cached, KEPT);
    case_answer(s, after, HALF);
    assert_memory_equal(fresh, after, sizeof fresh);
    case_end(g, s);
}

static void test_what_moved_is_not_lent_to_a_neighbour(void **state) {
    struct session_case *f = *state;
    struct genarm_error err = {0};
    struct genarm_guide_params params = case_params(CTX, GENARM_KV_F32);
    const struct genarm_message same[] = {{"user", "0000000000000000000000000000000000000000000000000000000000000000"}};
    int32_t tokens[2], fresh[HALF], neighbour[HALF];
    params.n_slots = 2;
    params.no_sharing = true;
    struct genarm_guide *g = case_guide(f->model, (struct case_arm[]){{f->first, 1.0f, NULL}}, 1, params);
    struct genarm_session *s = case_session(g, 4), *other;
    case_prompt(s, same, 1);
    case_answer(s, fresh, HALF);
    case_end(g, s);
    params.no_sharing = false;
    g = case_guide(f->model, (struct case_arm[]){{f->first, 1.0f, NULL}}, 1, params);
    s = case_session(g, 5);
    case_prompt(s, same, 1);
    case_answer(s, tokens, 2);
    must(genarm_session_shift(s, KEPT, &err), &err);
    case_answer(s, tokens, 1);
    other = case_session(g, 4);
    case_prompt(other, same, 1);
    case_answer(other, neighbour, HALF);
    assert_memory_equal(fresh, neighbour, sizeof fresh);
    genarm_session_free(other);
    case_end(g, s);
}

/* ---- with what steers and drafts ---- */

enum { LONG = 150 };

static void test_schedules_count_answer_tokens_that_were_forgotten(void **state) {
    struct session_case *f = *state;
    struct genarm_error err = {0};
    const struct genarm_knot knots[] = {{0, 0.0f}, {59, 0.0f}, {60, 1.0f}, {100, 1.0f}, {101, 2.0f}};
    const int32_t keeps[] = {-1, 1};
    for (int i = 0; i < 2; i++) {
        struct genarm_guide_params params = case_params(64, GENARM_KV_F32);
        params.n_slots = 2;
        struct genarm_guide *g = case_guide(f->model, (struct case_arm[]){{f->first, 1.0f, NULL}}, 1, params);
        struct genarm_session *s = case_session(g, 4), *by_hand = case_session(g, 4);
        must(genarm_session_set_schedule(s, 0, knots, 5, &err), &err);
        case_prompt(s, case_hello, 1);
        case_prompt(by_hand, case_hello, 1);
        for (int n = 0; n < LONG; n++) {
            int32_t token, want;
            if (genarm_session_n_left(s) == 0) {
                must(genarm_session_shift(s, keeps[i], &err), &err);
                must(genarm_session_shift(by_hand, keeps[i], &err), &err);
            }
            must(genarm_session_set_weight(by_hand, 0, n < 60 ? 0.0f : n < 101 ? 1.0f : 2.0f, &err), &err);
            case_answer(s, &token, 1);
            case_answer(by_hand, &want, 1);
            assert_int_equal(token, want);
        }
        genarm_session_free(by_hand);
        case_end(g, s);
    }
}

static void test_grammars_hold_beyond_the_context(void **state) {
    struct session_case *f = *state;
    struct genarm_error err = {0};
    struct genarm_grammar *grammar;
    must(genarm_grammar_new(&grammar, f->model, "root ::= ([a-m]{3} \" \" [n-z]{2} \", \")+", &err), &err);
    const int32_t keeps[] = {-1, 0, 5};
    for (int i = 0; i < 3; i++) {
        struct genarm_guide *g = case_guide_first(f, 64, GENARM_KV_F32);
        struct genarm_session *s = case_session(g, 4);
        int32_t tokens[LONG], grammar_state = GRAMMAR_START;
        must(genarm_session_set_grammar(s, grammar, &err), &err);
        case_prompt(s, case_hello, 1);
        case_answer_on(s, keeps[i], tokens, LONG);
        for (int t = 0; t < LONG; t++) {
            must(grammar_advance(grammar, &grammar_state, tokens[t], &err), &err);
        }
        assert_int_equal(grammar_state, s->steering.grammar_state);
        grammar_restart(grammar); /* which leaves nothing to go on from */
        assert_int_equal(genarm_session_step(s, tokens, &err), GENARM_EINVAL);
        assert_non_null(strstr(err.what, "forgotten"));
        case_end(g, s);
    }
    genarm_grammar_free(grammar);
}

/* Greedy answers with and without a draft, which shift at the same tokens, some of them while tokens are ahead. */
static void test_drafts_go_on_after_a_shift(void **state) {
    struct session_case *f = *state;
    struct genarm_error err = {0};
    static const float by_arm[] = {0, 1};
    struct genarm_sampling greedy = genarm_sampling_default();
    greedy.temperature = 0.0f;
    int n_dropped = 0;
    for (int looks_up = 0; looks_up < 2; looks_up++) {
        const struct genarm_draft_params draft = {.weights = looks_up ? NULL : by_arm, .n_min = 4, .n_max = 4, .n_lookup = 1};
        struct genarm_guide_params params = case_params(64, GENARM_KV_F32);
        params.n_slots = 2;
        struct genarm_guide *g = case_guide(f->model, (struct case_arm[]){{f->first, 1.0f, NULL}}, 1, params);
        struct genarm_session *plain = case_session(g, 4), *s = case_session(g, 4);
        must(genarm_session_set_sampling(plain, &greedy, &err), &err);
        must(genarm_session_set_sampling(s, &greedy, &err), &err);
        must(genarm_session_set_draft(s, &draft, &err), &err);
        case_prompt(plain, case_hello, 1);
        case_prompt(s, case_hello, 1);
        for (int n = 0; n < LONG; n++) {
            int32_t token, want;
            if (genarm_session_n_left(s) == (looks_up ? 0 : 3) || genarm_session_n_left(s) == 0) {
                n_dropped += s->n_ahead;
                must(genarm_session_shift(plain, 4, &err), &err);
                must(genarm_session_shift(s, 4, &err), &err);
                assert_int_equal(s->n_ahead, 0);
            }
            case_answer(plain, &want, 1);
            case_answer(s, &token, 1);
            assert_int_equal(token, want);
        }
        struct genarm_draft_stats stats;
        genarm_session_get_draft_stats(s, &stats);
        assert_true(stats.n_accepted > 0);
        genarm_session_free(plain);
        case_end(g, s);
    }
    assert_true(n_dropped > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_answer_outgrows_its_context_in_every_policy),
        cmocka_unit_test(test_contexts_about_as_long_as_the_prompt),
        cmocka_unit_test(test_sessions_that_shift_do_not_disturb_their_neighbours),
        cmocka_unit_test(test_a_prompt_after_a_shift_equals_a_fresh_session),
        cmocka_unit_test(test_what_moved_is_not_lent_to_a_neighbour),
        cmocka_unit_test(test_schedules_count_answer_tokens_that_were_forgotten),
        cmocka_unit_test(test_grammars_hold_beyond_the_context),
        cmocka_unit_test(test_drafts_go_on_after_a_shift),
    };
    int failed = 0;
    for (golden_engine = GENARM_ENGINE_GENARM; golden_engine <= GENARM_ENGINE_LLAMA; golden_engine++) {
        failed += cmocka_run_group_tests_name(golden_engine_name(), tests, session_case_setup, session_case_teardown);
    }
    return failed;
}
