/* ARGS on tiny models: every distribution against brute force, and what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/golden.h"
#include "support/value_case.h"

enum { ANSWER = 10 };

/* ---- the right answer ---- */

/* Holds a guide to brute force, greedy and sampled, with an ARM of weight alpha or none. */
static int check(const struct value_case *f, int32_t k, float weight, float alpha) {
    const struct genarm_value_params value = value_params(f, k, weight);
    struct value_brute brute = {.value = value_args, .reward = f->brute, .k = k, .weight = weight};
    int n_changed = 0;
    for (float temperature = 0.0f; temperature < 2.0f; temperature += 0.8f) {
        struct genarm_guide *g = value_guide(f->model, f->arm, alpha, 1, &value);
        brute.plain = value_guide(f->model, f->arm, alpha, 1, NULL);
        struct genarm_session *s = value_session(g, 3, temperature);
        n_changed += value_check_steps(&brute, s, ANSWER);
        genarm_guide_free(brute.plain);
        value_end(g, s);
    }
    return n_changed;
}

static void test_args_is_brute_force(void **state) {
    const struct value_case *f = *state;
    assert_true(check(f, 10, 0.7f, 0.0f) > 0);
    assert_true(check(f, 3, -0.5f, 0.0f) > 0);
}

static void test_args_looks_at_the_mixture_of_arms(void **state) {
    const struct value_case *f = *state;
    assert_true(check(f, 7, 0.7f, 1.0f) > 0);
}

static void test_the_reward_model_has_a_template_of_its_own(void **state) {
    const struct value_case *f = *state;
    struct genarm_value_params value = value_params(f, 5, 0.9f);
    value.template_name = "vicuna";
    struct genarm_guide *g = value_guide(f->model, f->arm, 0.5f, 1, &value);
    struct genarm_session *s = value_session(g, 4, 0.0f);
    const struct value_brute brute = {.value = value_args, .k = 5, .weight = 0.9f,
                                      .reward = value_new_reward(f->model, f->reward, "vicuna"),
                                      .plain = value_guide(f->model, f->arm, 0.5f, 1, NULL)};
    value_check_steps(&brute, s, ANSWER);
    assert_int_not_equal(s->timelines[2].n_given, s->timelines[0].n_given);
    genarm_reward_free(brute.reward);
    genarm_guide_free(brute.plain);
    value_end(g, s);
}

static void test_all_tokens_can_be_candidates_and_some_end_the_turn(void **state) {
    const struct value_case *f = *state;
    assert_true(genarm_token_ends(f->model, genarm_token_eos(f->model)));
    assert_true(check(f, 1000, 1.5f, 0.0f) > 0); /* with the token that ends the turn among them */
}

static void test_a_candidate_that_ends_the_turn_is_the_finished_response(void **state) {
    const struct value_case *f = *state;
    struct genarm_error err = {0};
    const int32_t eos = genarm_token_eos(f->model), other = 0;
    assert_true(genarm_token_ends(f->model, other) && other != eos);
    const struct genarm_value_params value = value_params(f, 2, 1.0f);
    struct genarm_guide *g = value_guide(f->model, NULL, 0.0f, 1, &value);
    struct genarm_session *s = value_session(g, 3, 0.0f);
    /* Nothing else is allowed: both are the finished response, so their values are the same. */
    struct genarm_token_bias biases[VALUE_MAX];
    size_t n = 0;
    for (int32_t t = 0; t < f->model->hp.n_vocab; t++) {
        if (t != eos && t != other) {
            biases[n++] = (struct genarm_token_bias){t, -INFINITY};
        }
    }
    must(genarm_session_set_bias(s, biases, n, &err), &err);
    float plain[VALUE_MAX];
    int32_t context[VALUE_MAX], token;
    struct genarm_guide *without = value_guide(f->model, NULL, 0.0f, 1, NULL);
    value_plain(without, context, value_context(s, context), plain);
    must(genarm_session_step(s, &token, &err), &err);
    assert_true(genarm_token_ends(f->model, token)); /* generation stops here */
    assert_true(fabsf((s->logp[eos] - s->logp[other]) - (plain[eos] - plain[other])) < 1e-4f);
    genarm_guide_free(without);
    value_end(g, s);
}

/* ---- identities ---- */

static void test_weight_zero_over_all_tokens_is_the_base(void **state) {
    const struct value_case *f = *state;
    const struct genarm_value_params value = value_params(f, f->model->hp.n_vocab, 0.0f);
    struct genarm_guide *g = value_guide(f->model, f->arm, 0.6f, 1, &value);
    struct genarm_guide *plain = value_guide(f->model, f->arm, 0.6f, 1, NULL);
    struct genarm_session *s = value_session(g, 11, 1.0f), *p = value_session(plain, 11, 1.0f);
    for (int i = 0; i < 2 * ANSWER; i++) {
        int32_t a, b;
        value_answer(s, &a, 1);
        value_answer(p, &b, 1);
        assert_int_equal(a, b);
        for (int32_t t = 0; t < f->model->hp.n_vocab; t++) {
            assert_true(fabsf(s->logp[t] - p->logp[t]) < 1e-5f);
        }
    }
    struct genarm_work work;
    genarm_session_get_work(s, &work);
    assert_int_equal(work.value, 0); /* nobody is asked */
    value_end(plain, p);
    value_end(g, s);
}

static void test_one_candidate_is_the_greedy_base(void **state) {
    const struct value_case *f = *state;
    const struct genarm_value_params value = value_params(f, 1, 5.0f);
    struct genarm_guide *g = value_guide(f->model, NULL, 0.0f, 1, &value), *plain = value_guide(f->model, NULL, 0.0f, 1, NULL);
    struct genarm_session *s = value_session(g, 11, 1.0f), *p = value_session(plain, 11, 0.0f);
    int32_t a[ANSWER], b[ANSWER];
    value_answer(s, a, ANSWER);
    value_answer(p, b, ANSWER);
    assert_memory_equal(a, b, sizeof a);
    value_end(plain, p);
    value_end(g, s);
}

static void test_a_seed_gives_its_answer_again(void **state) {
    const struct value_case *f = *state;
    const struct genarm_value_params value = value_params(f, 20, 0.3f);
    int32_t tokens[3][ANSWER];
    for (int i = 0; i < 3; i++) {
        struct genarm_guide *g = value_guide(f->model, NULL, 0.0f, 1, &value);
        struct genarm_session *s = value_session(g, i < 2 ? 5 : 6, 1.5f);
        value_answer(s, tokens[i], ANSWER);
        value_end(g, s);
    }
    assert_memory_equal(tokens[0], tokens[1], sizeof tokens[0]);
    assert_memory_not_equal(tokens[0], tokens[2], sizeof tokens[0]);
}

/* ---- other vocabularies ---- */

static void test_padding_is_no_candidate(void **state) {
    const struct value_case *f = *state;
    struct genarm_error err = {0};
    const struct genarm_value_params value = value_params(f, 400, 0.8f);
    struct genarm_guide *g = value_guide(f->padded, NULL, 0.0f, 1, &value);
    struct genarm_session *s = value_session(g, 4, 1.0f);
    for (int i = 0; i < ANSWER; i++) {
        int32_t token;
        must(genarm_session_step(s, &token, &err), &err);
        for (int32_t t = f->model->hp.n_vocab; t < f->padded->hp.n_vocab; t++) {
            assert_true(s->logp[t] == -INFINITY);
        }
        assert_in_range(token, 0, f->model->hp.n_vocab - 1);
    }
    value_end(g, s);
}

static void test_a_reward_model_with_padding_is_the_same(void **state) {
    const struct value_case *f = *state;
    struct genarm_adapter *on_padded = value_adapter(f->padded, "llama.lora.gguf", "padded.gguf");
    struct genarm_value_params value = value_params(f, 8, 0.8f);
    int32_t tokens[2][ANSWER];
    for (int i = 0; i < 2; i++) {
        struct genarm_guide *g = value_guide(f->model, NULL, 0.0f, 1, &value);
        struct genarm_session *s = value_session(g, 4, 1.0f);
        value_answer(s, tokens[i], ANSWER);
        value_end(g, s);
        value.model = f->padded;
        value.adapter = on_padded;
    }
    assert_memory_equal(tokens[0], tokens[1], sizeof tokens[0]);
    genarm_adapter_free(on_padded);
}

/* ---- with everything else ---- */

static void test_grammars_decide_what_is_a_candidate(void **state) {
    const struct value_case *f = *state;
    struct genarm_error err = {0};
    struct genarm_grammar *grammar = NULL;
    must(genarm_grammar_new(&grammar, f->model, "root ::= [a-e]+ \".\"", &err), &err);
    const struct genarm_value_params value = value_params(f, 4, 1.0f);
    struct genarm_guide *g = value_guide(f->model, NULL, 0.0f, 1, &value);
    struct genarm_session *s = value_session(g, 4, 1.0f);
    must(genarm_session_set_grammar(s, grammar, &err), &err);
    for (int i = 0; i < ANSWER; i++) {
        int32_t token, n = 0;
        value_answer(s, &token, 1);
        for (int32_t t = 0; t < f->model->hp.n_vocab; t++) {
            n += s->logp[t] > -INFINITY;
        }
        assert_in_range(n, 1, 4);
        if (genarm_token_ends(f->model, token)) {
            break;
        }
    }
    value_end(g, s);
    genarm_grammar_free(grammar);
}

static void test_weights_that_change_count_from_the_next_token(void **state) {
    const struct value_case *f = *state;
    struct genarm_error err = {0};
    const struct genarm_value_params value = value_params(f, 5, 0.9f);
    struct genarm_guide *g = value_guide(f->model, f->arm, 1.0f, 1, &value);
    struct genarm_session *s = value_session(g, 4, 0.0f);
    struct value_brute brute = {.value = value_args, .reward = f->brute, .k = 5, .weight = 0.9f};
    for (int i = 0; i < 4; i++) {
        const float alpha = 0.4f * (float)i;
        must(genarm_session_set_weight(s, 0, alpha, &err), &err);
        brute.plain = value_guide(f->model, f->arm, alpha, 1, NULL);
        value_check_steps(&brute, s, 2);
        genarm_guide_free(brute.plain);
    }
    value_end(g, s);
}

/* ---- wrong use ---- */

static void refused(struct genarm_guide *g, struct genarm_value_params p, int code, const char *what) {
    struct genarm_error err = {0};
    assert_int_equal(genarm_guide_set_value(g, &p, &err), code);
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.what, what));
    assert_null(g->lookahead);
}

static void test_wrong_use_is_refused(void **state) {
    const struct value_case *f = *state;
    struct genarm_error err = {0};
    struct genarm_guide *g = value_guide(f->model, NULL, 0.0f, 1, NULL);
    struct genarm_value_params p = value_params(f, 0, 1.0f);
    refused(g, p, GENARM_EINVAL, "candidates");
    p = value_params(f, 4, NAN);
    refused(g, p, GENARM_EINVAL, "finite");
    p.weight = INFINITY;
    refused(g, p, GENARM_EINVAL, "finite");
    p = value_params(f, 4, 1.0f);
    p.adapter = f->arm;
    refused(g, p, GENARM_EINVAL, "no head");
    p.adapter = NULL;
    refused(g, p, GENARM_EINVAL, "needs a reward model");
    p = value_params(f, 4, 1.0f);
    p.model = f->padded;
    refused(g, p, GENARM_EINVAL, "another model");
    p = value_params(f, 4, 1.0f);
    p.template_name = "no such template";
    refused(g, p, GENARM_EINVAL, "template");
    p = value_params(f, 4, 1.0f);
    p.indirect = true;
    refused(g, p, GENARM_EINVAL, "without roll-outs");
    p = value_params(f, 4, 1.0f);
    p.n_rollout = -1;
    refused(g, p, GENARM_EINVAL, "roll-outs");
    p.n_rollout = 4;
    p.baseline = f->reward;
    refused(g, p, GENARM_EINVAL, "rolls nothing out");
    p.baseline = NULL;
    p.indirect = true;
    refused(g, p, GENARM_EINVAL, "nothing to weigh it against");
    struct genarm_session *s = value_session(g, 1, 1.0f);
    refused(g, value_params(f, 4, 1.0f), GENARM_EINVAL, "before the first session");
    value_end(g, s);
    struct genarm_model *other = golden_model("llama-mismatch.gguf");
    g = value_guide(other, NULL, 0.0f, 1, NULL);
    refused(g, value_params(f, 4, 1.0f), GENARM_EMISMATCH, "token 290");
    genarm_guide_free(g);
    genarm_model_free(other);
    const struct genarm_value_params value = value_params(f, 4, 1.0f);
    g = value_guide(f->model, NULL, 0.0f, 1, &value);
    s = value_session(g, 1, 1.0f);
    const struct genarm_draft_params draft = genarm_draft_default_params();
    assert_int_equal(genarm_session_set_draft(s, &draft, &err), GENARM_EINVAL);
    must(genarm_session_set_draft(s, NULL, &err), &err);
    value_end(g, s);
}

static void test_what_is_set_last_counts(void **state) {
    const struct value_case *f = *state;
    struct genarm_error err = {0};
    const struct genarm_value_params first = value_params(f, 300, 9.0f), second = value_params(f, 5, 0.9f);
    struct genarm_guide *g = value_guide(f->model, NULL, 0.0f, 1, &first);
    must(genarm_guide_set_value(g, &second, &err), &err);
    struct genarm_session *s = value_session(g, 4, 0.0f);
    struct value_brute brute = {.value = value_args, .reward = f->brute, .k = 5, .weight = 0.9f};
    brute.plain = value_guide(f->model, NULL, 0.0f, 1, NULL);
    value_check_steps(&brute, s, 3);
    genarm_guide_free(brute.plain);
    value_end(g, s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_args_is_brute_force),
        cmocka_unit_test(test_args_looks_at_the_mixture_of_arms),
        cmocka_unit_test(test_the_reward_model_has_a_template_of_its_own),
        cmocka_unit_test(test_all_tokens_can_be_candidates_and_some_end_the_turn),
        cmocka_unit_test(test_a_candidate_that_ends_the_turn_is_the_finished_response),
        cmocka_unit_test(test_weight_zero_over_all_tokens_is_the_base),
        cmocka_unit_test(test_one_candidate_is_the_greedy_base),
        cmocka_unit_test(test_a_seed_gives_its_answer_again),
        cmocka_unit_test(test_padding_is_no_candidate),
        cmocka_unit_test(test_a_reward_model_with_padding_is_the_same),
        cmocka_unit_test(test_grammars_decide_what_is_a_candidate),
        cmocka_unit_test(test_weights_that_change_count_from_the_next_token),
        cmocka_unit_test(test_wrong_use_is_refused),
        cmocka_unit_test(test_what_is_set_last_counts),
    };
    return cmocka_run_group_tests(tests, value_case_setup, value_case_teardown);
}
