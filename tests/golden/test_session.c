/* Sessions reuse what they hold from turn to turn: by the rows that their engines are fed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/golden.h"
#include "support/session_case.h"

enum { HALF = 9, CTX = 128 };

static const struct engine_vtable *counted; /* the engine's own */
static int64_t n_fed[GUIDE_MAX_POLICIES];   /* by sequence, of the one slot */

static int count(struct engine *e, const struct row *rows, int32_t n, float *logits, struct genarm_error *err) {
    for (int32_t i = 0; i < n; i++) {
        n_fed[rows[i].seq]++;
    }
    return counted->forward(e, rows, n, logits, err);
}

/* Counts what is fed from here on. */
static void watch(struct genarm_guide *g, struct engine_vtable *counting) {
    struct engine *e = g->engines[0].engine;
    if (e->vtable != counting) {
        counted = e->vtable;
        *counting = *counted;
        counting->forward = count;
        e->vtable = counting;
    }
    memset(n_fed, 0, sizeof n_fed);
}

static void expect_fed(const struct genarm_session *s, int32_t policy, int64_t n) {
    const int64_t fed = n_fed[guide_seq(s->guide, policy, s->slot)];
    if (fed != n) {
        fail_msg("policy %d was fed %lld tokens, not %lld", policy, (long long)fed, (long long)n);
    }
}

/* Text of the answer so far, without what ends it. */
static void answer_text(const struct genarm_session *s, char *text, size_t max) {
    const struct timeline *t = &s->timelines[0];
    const struct genarm_model *model = s->guide->policies[0].model;
    size_t n = 0;
    for (int32_t i = t->n_prompt; i < t->n; i++) {
        const int32_t more = genarm_token_bytes(model, t->tokens[i], false, text + n, (int32_t)(max - n - 1));
        n += more > 0 ? (size_t)more : 0;
    }
    text[n] = '\0';
}

/* How many leading tokens two lists share. */
static int32_t common(const int32_t *a, int32_t n_a, const int32_t *b, int32_t n_b) {
    int32_t n = 0;
    while (n < n_a && n < n_b && a[n] == b[n]) {
        n++;
    }
    return n;
}

/* Sets the messages and takes a step; what is fed must be what no policy that counts has seen. `kept` [n_policies]. */
static void expect_only_new(struct genarm_session *s, struct engine_vtable *counting, const struct genarm_message *messages,
                            size_t n, const bool *counts, int32_t reused_at_least) {
    struct genarm_guide *g = s->guide;
    struct timeline old[3];
    int32_t token;
    for (int32_t p = 0; p < g->n_policies; p++) {
        old[p] = s->timelines[p];
        old[p].tokens = calloc(CTX, sizeof(int32_t));
        memcpy(old[p].tokens, s->timelines[p].tokens, (size_t)old[p].n * sizeof(int32_t));
    }
    case_prompt(s, messages, n);
    watch(g, counting);
    case_answer(s, &token, 1);
    for (int32_t p = 0; p < g->n_policies; p++) {
        const struct timeline *t = &s->timelines[p];
        const int32_t n_new = t->n_prompt, same = common(old[p].tokens, old[p].n_cached, t->tokens, n_new);
        expect_fed(s, p, counts[p] ? n_new - (same < n_new ? same : n_new - 1) : 0);
        assert_true(same >= reused_at_least);
        free(old[p].tokens);
    }
}

static void test_turns_evaluate_only_what_is_new(void **state) {
    struct session_case *f = *state;
    struct genarm_error err = {0};
    struct engine_vtable counting;
    const struct case_arm arms[] = {{f->first, 1.0f, NULL}, {f->second, 0.5f, "raw:Q: {prompt}\\nA:"}};
    const bool all[] = {true, true, true}, without_last[] = {true, true, false};
    struct genarm_guide *g = case_guide(f->model, arms, 2, case_params(CTX, GENARM_KV_F32));
    struct genarm_session *s = case_session(g, 11);
    struct genarm_message turns[5] = {{"user", "Hi, Ada."}};
    char first[256], second[256];
    int32_t tokens[8];
    expect_only_new(s, &counting, turns, 1, all, 0);
    const int32_t prompt_tokens[] = {s->timelines[0].n_prompt, s->timelines[1].n_prompt, s->timelines[2].n_prompt};
    case_answer(s, tokens, 4);
    answer_text(s, first, sizeof first);
    turns[1] = (struct genarm_message){"assistant", first};
    turns[2] = (struct genarm_message){"user", "Go on"};
    expect_only_new(s, &counting, turns, 3, all, prompt_tokens[2]); /* the next turn */
    expect_only_new(s, &counting, turns, 3, all, prompt_tokens[2]); /* again, as when it is regenerated: one token each */
    expect_fed(s, 0, 1);
    turns[2].content = "Stop";
    expect_only_new(s, &counting, turns, 3, all, prompt_tokens[2]); /* the turn is edited */
    must(genarm_session_set_weight(s, 1, 0.0f, &err), &err);
    answer_text(s, second, sizeof second);
    turns[3] = (struct genarm_message){"assistant", second};
    turns[4] = (struct genarm_message){"user", "Well"};
    expect_only_new(s, &counting, turns, 5, without_last, prompt_tokens[2]); /* one is off for a turn */
    const int32_t missed = s->timelines[2].n - s->timelines[2].n_cached;
    must(genarm_session_set_weight(s, 1, 0.5f, &err), &err);
    watch(g, &counting);
    case_answer(s, tokens, 1);
    expect_fed(s, 0, 1);
    expect_fed(s, 2, missed); /* it catches up on what it missed, and on nothing else */
    case_end(g, s);
}

static void test_a_new_seed_keeps_the_cache(void **state) {
    struct session_case *f = *state;
    struct genarm_error err = {0};
    struct engine_vtable counting;
    struct genarm_sampling sampling = genarm_sampling_default();
    struct genarm_guide *g = case_guide_first(f, CTX, GENARM_KV_F32);
    struct genarm_session *s = case_session(g, 11);
    int32_t fresh[HALF], again[HALF];
    case_prompt(s, case_hello, 1);
    case_answer(s, fresh, HALF);
    sampling.seed = 11;
    sampling.top_k = 60;
    must(genarm_session_set_sampling(s, &sampling, &err), &err);
    case_prompt(s, case_hello, 1);
    watch(g, &counting);
    case_answer(s, again, HALF);
    expect_fed(s, 0, HALF);
    assert_memory_equal(fresh, again, sizeof fresh);
    sampling.top_p = 2.0f;
    assert_int_equal(genarm_session_set_sampling(s, &sampling, &err), GENARM_EINVAL);
    case_end(g, s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns_evaluate_only_what_is_new),
        cmocka_unit_test(test_a_new_seed_keeps_the_cache),
    };
    int failed = 0;
    for (golden_engine = GENARM_ENGINE_GENARM; golden_engine <= GENARM_ENGINE_LLAMA; golden_engine++) {
        failed += cmocka_run_group_tests_name(golden_engine_name(), tests, session_case_setup, session_case_teardown);
    }
    return failed;
}
