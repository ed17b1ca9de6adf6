/* Beginnings of prompts that are evaluated once: how many tokens a step evaluates, and that answers stay the same. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guide/share.h"
#include "support/conditioned_case.h"
#include "support/golden.h"
#include "support/temp.h"

enum { ANSWER = 12, MANY = 5, ROUNDS = 2, DRAFTED = 5 };

static const char system_text[] = "You answer questions about birds, and about nothing else, in one short sentence of plain words.";
static const char *const questions[MANY] = {"What is an owl?", "Why do swans sing?", "What do wrens eat?", "Where do storks go?",
                                            "What is a rail?"};

struct fixture {
    struct genarm_model *model;
    struct genarm_adapter *first, *second;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    f->model = golden_model("llama.gguf");
    f->first = golden_adapter(f->model, "llama.lora.gguf");
    f->second = golden_adapter(f->model, "llama.lora2.gguf");
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    genarm_adapter_free(f->first);
    genarm_adapter_free(f->second);
    genarm_model_free(f->model);
    free(f);
    return 0;
}

/* An adapted base and one ARM. */
static struct genarm_guide *make_guide(const struct fixture *f, int32_t n_slots, bool no_sharing) {
    struct genarm_guide *g;
    struct genarm_error err = {0};
    struct genarm_guide_params params = genarm_guide_default_params();
    params.n_ctx = 256;
    params.n_threads = 1;
    params.n_slots = n_slots;
    params.kv_type = GENARM_KV_F32;
    params.no_sharing = no_sharing;
    params.base_adapter = f->first;
    params.template_name = "raw:{system} {prompt}";
    must(genarm_guide_new(&g, f->model, &params, &err), &err);
    must(genarm_guide_add_arm(g, &(struct genarm_arm_params){.name = "arm", .model = f->model, .adapter = f->second,
                                                             .weight = 0.7f}, &err), &err);
    return g;
}

static struct genarm_session *ask(struct genarm_guide *g, const char *system, const char *question, uint64_t seed) {
    const struct genarm_message messages[] = {{"system", system}, {"user", question}};
    struct genarm_session *s;
    struct genarm_error err = {0};
    struct genarm_sampling sampling = genarm_sampling_default();
    sampling.seed = seed;
    must(genarm_session_new(&s, g, &sampling, &err), &err);
    must(genarm_session_prompt(s, messages, 2, &err), &err);
    return s;
}

static void answer(struct genarm_session *s, int32_t *tokens, int n) {
    struct genarm_error err = {0};
    for (int i = 0; i < n; i++) {
        must(genarm_session_step(s, &tokens[i], &err), &err);
    }
}

static void alone(const struct fixture *f, const char *system, const char *question, uint64_t seed, int32_t *tokens) {
    struct genarm_guide *g = make_guide(f, 1, true);
    struct genarm_session *s = ask(g, system, question, seed);
    answer(s, tokens, ANSWER);
    genarm_session_free(s);
    genarm_guide_free(g);
}

/* Counted since the last call. */
static int64_t evaluated(struct genarm_guide *g) {
    const int64_t n = g->stats.n_evaluated;
    g->stats = (struct genarm_guide_stats){0};
    return n;
}

static int32_t in_common(const struct genarm_session *a, const struct genarm_session *b) {
    const struct timeline *s = &a->timelines[0], *t = &b->timelines[0];
    int32_t n = 0;
    while (n < s->n - 1 && n < t->n - 1 && s->tokens[n] == t->tokens[n]) {
        n++;
    }
    return n;
}

static void test_prompts_that_start_together_evaluate_what_they_share_once(void **state) {
    struct fixture *f = *state;
    struct genarm_guide *g = make_guide(f, MANY, false);
    struct genarm_session *sessions[MANY];
    struct genarm_error err = {0};
    int32_t expected[MANY][ANSWER], tokens[MANY];
    int64_t whole = 0;
    for (int i = 0; i < MANY; i++) {
        alone(f, system_text, questions[i], (uint64_t)i, expected[i]);
        sessions[i] = ask(g, system_text, questions[i], (uint64_t)i);
        whole += 2 * genarm_session_n_prompt(sessions[i]);
    }
    int32_t shared = in_common(sessions[0], sessions[1]);
    for (int i = 2; i < MANY; i++) {
        shared = in_common(sessions[0], sessions[i]) < shared ? in_common(sessions[0], sessions[i]) : shared;
    }
    assert_true(shared > 16); /* or the test would prove nothing */
    for (int t = 0; t < ANSWER; t++) {
        must(genarm_sessions_step(sessions, MANY, tokens, &err), &err);
        for (int i = 0; i < MANY; i++) {
            assert_int_equal(tokens[i], expected[i][t]);
        }
        if (t == 0) {
            const int64_t reused = g->stats.n_reused, rows = evaluated(g);
            assert_int_equal(rows + reused, whole);
            assert_true(rows <= whole - 2 * (MANY - 1) * shared);
        } else {
            assert_int_equal(evaluated(g), 2 * MANY);
        }
    }
    for (int i = 0; i < MANY; i++) {
        genarm_session_free(sessions[i]);
    }
    genarm_guide_free(g);
}

static void test_equal_prompts_cost_one(void **state) {
    struct fixture *f = *state;
    struct genarm_guide *g = make_guide(f, MANY, false);
    struct genarm_session *sessions[MANY];
    struct genarm_error err = {0};
    int32_t expected[ANSWER], tokens[MANY];
    alone(f, system_text, questions[0], MANY - 1, expected);
    for (int i = 0; i < MANY; i++) {
        sessions[i] = ask(g, system_text, questions[0], (uint64_t)i);
    }
    must(genarm_sessions_step(sessions, MANY, tokens, &err), &err);
    assert_int_equal(tokens[MANY - 1], expected[0]);
    /* all but the last token, whose logits each of them wants */
    assert_int_equal(evaluated(g), 2 * (genarm_session_n_prompt(sessions[0]) - 1 + MANY));
    for (int i = 0; i < MANY; i++) {
        genarm_session_free(sessions[i]);
    }
    genarm_guide_free(g);
}

/* Two of three share more than all three do. */
static void test_what_some_share_beyond_what_all_do_is_evaluated_once_as_well(void **state) {
    struct fixture *f = *state;
    static const char other[] = "You answer questions about birds, and about nothing else, but in long sentences full of joy.";
    struct genarm_guide *g = make_guide(f, 3, false);
    struct genarm_session *s[3] = {ask(g, other, questions[0], 0), ask(g, system_text, questions[1], 1),
                                   ask(g, system_text, questions[2], 2)};
    struct genarm_error err = {0};
    int32_t tokens[3], expected[ANSWER];
    const int32_t all = in_common(s[0], s[1]), two = in_common(s[1], s[2]);
    assert_true(all >= 16 && two - all >= 16);
    int64_t whole = 0;
    for (int i = 0; i < 3; i++) {
        whole += 2 * genarm_session_n_prompt(s[i]);
    }
    must(genarm_sessions_step(s, 3, tokens, &err), &err);
    assert_int_equal(evaluated(g), whole - 2 * (all + two));
    alone(f, system_text, questions[2], 2, expected);
    assert_int_equal(tokens[2], expected[0]);
    for (int i = 0; i < 3; i++) {
        genarm_session_free(s[i]);
    }
    genarm_guide_free(g);
}

static void test_a_prompt_that_starts_later_takes_over_from_one_that_runs(void **state) {
    struct fixture *f = *state;
    struct genarm_guide *g = make_guide(f, 2, false);
    struct genarm_session *from = ask(g, system_text, questions[0], 1);
    int32_t tokens[ANSWER], expected[ANSWER];
    answer(from, tokens, 3);
    struct genarm_session *to = ask(g, system_text, questions[1], 2);
    evaluated(g);
    answer(to, tokens, ANSWER);
    assert_int_equal(evaluated(g), 2 * (genarm_session_n_prompt(to) - in_common(from, to) + ANSWER - 1));
    alone(f, system_text, questions[1], 2, expected);
    assert_memory_equal(tokens, expected, sizeof expected);
    genarm_session_free(from);
    genarm_session_free(to);
    genarm_guide_free(g);
}

static void test_a_session_finds_what_an_ended_one_left_in_its_slot(void **state) {
    struct fixture *f = *state;
    struct genarm_guide *g = make_guide(f, 3, false);
    struct genarm_session *birds = ask(g, system_text, questions[0], 1), *sums = ask(g, "Add numbers.", "What is 2 + 2?", 2);
    int32_t tokens[ANSWER], expected[ANSWER];
    answer(birds, tokens, 3);
    answer(sums, tokens, 3);
    const int32_t slot = birds->slot;
    genarm_session_free(sums);
    genarm_session_free(birds);
    evaluated(g);
    struct genarm_session *s = ask(g, system_text, questions[0], 3);
    assert_int_equal(s->slot, slot);
    answer(s, tokens, ANSWER);
    assert_int_equal(evaluated(g), 2 * ANSWER);
    alone(f, system_text, questions[0], 3, expected);
    assert_memory_equal(tokens, expected, sizeof expected);
    struct genarm_session *next = ask(g, "Tell a tale.", "Of a fox.", 4); /* takes a slot that nothing is lost with */
    assert_true(next->slot != slot && g->slots[next->slot].timelines[0].n_cached == 0);
    genarm_session_free(next);
    genarm_session_free(s);
    genarm_guide_free(g);
}

static void test_without_sharing_every_prompt_is_evaluated_whole(void **state) {
    struct fixture *f = *state;
    struct genarm_guide *g = make_guide(f, 2, true);
    int32_t tokens[2];
    struct genarm_error err = {0};
    for (int round = 0; round < ROUNDS; round++) {
        struct genarm_session *s[2] = {ask(g, system_text, questions[0], 1), ask(g, system_text, questions[0], 2)};
        must(genarm_sessions_step(s, 2, tokens, &err), &err);
        assert_int_equal(evaluated(g), 4 * genarm_session_n_prompt(s[0]));
        genarm_session_free(s[0]);
        genarm_session_free(s[1]);
    }
    genarm_guide_free(g);
}

static void test_adapters_that_changed_leave_nothing_to_take_over(void **state) {
    struct fixture *f = *state;
    struct genarm_guide *g = make_guide(f, 1, false);
    struct genarm_error err = {0};
    int32_t token;
    for (int round = 0; round < ROUNDS; round++) {
        struct genarm_session *s = ask(g, system_text, questions[0], 1);
        evaluated(g);
        answer(s, &token, 1);
        assert_int_equal(evaluated(g), 2 * genarm_session_n_prompt(s));
        genarm_session_free(s);
        must(guide_refresh_adapters(g, &err), &err);
    }
    genarm_guide_free(g);
}

/* ARM 0 has objectives: its keys and values depend on the preference, those of the base do not. */
static void test_nothing_is_taken_over_from_another_preference(void **state) {
    static const float one[CONDITIONED_OBJECTIVES] = {1, 0, 0}, two[CONDITIONED_OBJECTIVES] = {0, 1, 3};
    struct fixture *f = *state;
    struct conditioned_case c;
    struct genarm_adapter *adapter = NULL;
    struct genarm_guide *g;
    struct genarm_error err = {0};
    struct genarm_guide_params params = genarm_guide_default_params();
    int32_t tokens[ANSWER];
    params.n_ctx = 256;
    params.n_slots = 3;
    params.kv_type = GENARM_KV_F32;
    params.template_name = "raw:{system} {prompt}";
    conditioned_case_open(&c, "llama", false);
    conditioned_case_save(&c, temp_path("conditioned.gguf"));
    conditioned_case_close(&c);
    must(genarm_adapter_load(&adapter, f->model, temp_path("conditioned.gguf"), &err), &err);
    must(genarm_guide_new(&g, f->model, &params, &err), &err);
    must(genarm_guide_add_arm(g, &(struct genarm_arm_params){.name = "arm", .model = f->model, .adapter = adapter, .weight = 1},
                              &err), &err);
    must(genarm_guide_set_preference(g, 0, one, CONDITIONED_OBJECTIVES, &err), &err);
    struct genarm_session *first = ask(g, system_text, questions[0], 1);
    answer(first, tokens, 1);
    must(genarm_guide_set_preference(g, 0, two, CONDITIONED_OBJECTIVES, &err), &err);
    struct genarm_session *second = ask(g, system_text, questions[0], 1);
    evaluated(g);
    answer(second, tokens, 1);
    const int32_t n = genarm_session_n_prompt(second);
    assert_int_equal(evaluated(g), n + 1);
    genarm_session_free(second);
    must(genarm_guide_set_preference(g, 0, one, CONDITIONED_OBJECTIVES, &err), &err);
    second = ask(g, system_text, questions[0], 1); /* in whichever slot */
    evaluated(g);
    answer(second, tokens, 1);
    assert_int_equal(evaluated(g), 2);
    genarm_session_free(first);
    genarm_session_free(second);
    genarm_guide_free(g);
    genarm_adapter_free(adapter);
}

/* Drawing is shared out among threads. Few tokens, as threads that meet are slow where cores are fewer. */
static void test_answers_do_not_depend_on_the_number_of_threads(void **state) {
    struct fixture *f = *state;
    int32_t all[2][ROUNDS][MANY];
    for (int32_t round = 0; round < 2; round++) {
        struct genarm_session *sessions[MANY];
        struct genarm_error err = {0};
        struct genarm_guide *g = make_guide(f, MANY, false);
        g->params.n_threads = round == 0 ? 1 : 2;
        for (int i = 0; i < MANY; i++) {
            sessions[i] = ask(g, "", questions[i], (uint64_t)i);
        }
        for (int t = 0; t < ROUNDS; t++) {
            must(genarm_sessions_step(sessions, MANY, all[round][t], &err), &err);
        }
        for (int i = 0; i < MANY; i++) {
            genarm_session_free(sessions[i]);
        }
        genarm_guide_free(g);
    }
    assert_memory_equal(all[0], all[1], sizeof all[0]);
}

/* Sessions that draft, keep log-probabilities and have one grammar among them, verified by several threads. */
static void test_sessions_that_draft_under_one_grammar_answer_together_as_alone(void **state) {
    static const float by_the_arm[] = {0, 1};
    struct fixture *f = *state;
    struct genarm_draft_params draft = genarm_draft_default_params();
    struct genarm_grammar *grammar;
    struct genarm_error err = {0};
    int32_t all[2][MANY][DRAFTED];
    float logps[2][MANY][DRAFTED];
    draft.n_min = draft.n_max = 2; /* whatever it costs */
    draft.weights = by_the_arm;
    must(genarm_grammar_new(&grammar, f->model, "root ::= ([a-m]{2} [n-z]{3} \" \")+", &err), &err);
    for (int together = 0; together < 2; together++) {
        struct genarm_guide *g = make_guide(f, MANY, !together);
        struct genarm_session *sessions[MANY];
        g->params.n_threads = together ? 2 : 1;
        for (int i = 0; i < MANY; i++) {
            sessions[i] = ask(g, system_text, questions[i], (uint64_t)i);
            must(genarm_session_set_grammar(sessions[i], grammar, &err), &err);
            must(genarm_session_keep_logprobs(sessions[i], 1, &err), &err);
            must(genarm_session_set_draft(sessions[i], &draft, &err), &err);
        }
        for (int t = 0; t < DRAFTED; t++) {
            int32_t tokens[MANY];
            for (int i = 0; i < MANY && !together; i++) {
                must(genarm_session_step(sessions[i], &tokens[i], &err), &err);
            }
            if (together) {
                must(genarm_sessions_step(sessions, MANY, tokens, &err), &err);
            }
            for (int i = 0; i < MANY; i++) {
                size_t n;
                all[together][i][t] = tokens[i];
                logps[together][i][t] = genarm_session_logprobs(sessions[i], &n)->guided;
            }
        }
        assert_true(together == (g->stats.n_reused > 0));
        for (int i = 0; i < MANY; i++) {
            genarm_session_free(sessions[i]);
        }
        genarm_guide_free(g);
    }
    genarm_grammar_free(grammar);
    assert_memory_equal(all[0], all[1], sizeof all[0]);
    for (size_t i = 0; i < sizeof logps[0] / sizeof(float); i++) {
        assert_true(fabsf((&logps[0][0][0])[i] - (&logps[1][0][0])[i]) < 1e-3f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts_that_start_together_evaluate_what_they_share_once),
        cmocka_unit_test(test_equal_prompts_cost_one),
        cmocka_unit_test(test_what_some_share_beyond_what_all_do_is_evaluated_once_as_well),
        cmocka_unit_test(test_a_prompt_that_starts_later_takes_over_from_one_that_runs),
        cmocka_unit_test(test_a_session_finds_what_an_ended_one_left_in_its_slot),
        cmocka_unit_test(test_without_sharing_every_prompt_is_evaluated_whole),
        cmocka_unit_test(test_adapters_that_changed_leave_nothing_to_take_over),
        cmocka_unit_test(test_nothing_is_taken_over_from_another_preference),
        cmocka_unit_test(test_answers_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(test_sessions_that_draft_under_one_grammar_answer_together_as_alone),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
