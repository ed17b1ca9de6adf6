/* ARGS on tiny models: every distribution against brute force, and what goes with value guidance: batches, grammars, ARMs,
 * saved sessions, full contexts. */
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

enum { ANSWER = 10, MANY = 3 };

struct fixture {
    struct genarm_model *model, *padded;
    struct genarm_adapter *arm, *reward;
    struct genarm_reward *brute;
};

static struct genarm_reward *new_reward(const struct genarm_model *model, const struct genarm_adapter *adapter,
                                        const char *template_name) {
    struct genarm_reward *reward = NULL;
    struct genarm_error err = {0};
    struct genarm_reward_params params = genarm_reward_default_params();
    params.n_threads = 1;
    params.n_ctx = 256;
    params.template_name = template_name;
    must(genarm_reward_new(&reward, model, adapter, &params, &err), &err);
    return reward;
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    f->model = golden_model("llama.gguf");
    f->padded = golden_model("llama-padded.gguf");
    f->arm = golden_adapter(f->model, "llama.lora2.gguf");
    f->reward = value_adapter(f->model, "llama.lora.gguf", "reward.gguf");
    f->brute = new_reward(f->model, f->reward, NULL);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    genarm_reward_free(f->brute);
    genarm_adapter_free(f->reward);
    genarm_adapter_free(f->arm);
    genarm_model_free(f->model);
    genarm_model_free(f->padded);
    free(f);
    return 0;
}

static struct genarm_value_params args(const struct fixture *f, int32_t k, float weight) {
    struct genarm_value_params p = genarm_value_default_params();
    p.model = f->model;
    p.adapter = f->reward;
    p.n_candidates = k;
    p.weight = weight;
    return p;
}

/* A guide with the ARM at a weight, unless it is 0, and value guidance, unless it is NULL. */
static struct genarm_guide *make_guide(struct genarm_model *base, struct genarm_adapter *arm, float alpha, int32_t n_slots,
                                       const struct genarm_value_params *value) {
    struct genarm_guide *g = NULL;
    struct genarm_error err = {0};
    const struct genarm_guide_params params = value_guide_params(128, n_slots);
    must(genarm_guide_new(&g, base, &params, &err), &err);
    if (value) {
        must(genarm_guide_set_value(g, value, &err), &err);
    }
    if (alpha != 0.0f) {
        const struct genarm_arm_params p = {.name = "a", .model = base, .adapter = arm, .weight = alpha};
        must(genarm_guide_add_arm(g, &p, &err), &err);
    }
    return g;
}

static void answer(struct genarm_session *s, int32_t *tokens, int n) {
    struct genarm_error err = {0};
    for (int i = 0; i < n; i++) {
        must(genarm_session_step(s, &tokens[i], &err), &err);
    }
}

static void end(struct genarm_guide *g, struct genarm_session *s) {
    genarm_session_free(s);
    genarm_guide_free(g);
}

/* ---- the right answer ---- */

/* Holds a guide to brute force, greedy and sampled, with an ARM of weight alpha or none. */
static int check(const struct fixture *f, int32_t k, float weight, float alpha) {
    const struct genarm_value_params value = args(f, k, weight);
    struct value_brute brute = {.value = value_args, .reward = f->brute, .k = k, .weight = weight};
    int n_changed = 0;
    for (float temperature = 0.0f; temperature < 2.0f; temperature += 0.8f) {
        struct genarm_guide *g = make_guide(f->model, f->arm, alpha, 1, &value);
        brute.plain = make_guide(f->model, f->arm, alpha, 1, NULL);
        struct genarm_session *s = value_session(g, 3, temperature);
        n_changed += value_check_steps(&brute, s, ANSWER);
        genarm_guide_free(brute.plain);
        end(g, s);
    }
    return n_changed;
}

static void test_args_is_brute_force(void **state) {
    const struct fixture *f = *state;
    assert_true(check(f, 10, 0.7f, 0.0f) > 0);
    assert_true(check(f, 3, -0.5f, 0.0f) > 0);
}

static void test_args_looks_at_the_mixture_of_arms(void **state) {
    const struct fixture *f = *state;
    assert_true(check(f, 7, 0.7f, 1.0f) > 0);
}

static void test_the_reward_model_has_a_template_of_its_own(void **state) {
    const struct fixture *f = *state;
    struct genarm_value_params value = args(f, 5, 0.9f);
    value.template_name = "vicuna";
    struct genarm_guide *g = make_guide(f->model, f->arm, 0.5f, 1, &value);
    struct genarm_session *s = value_session(g, 4, 0.0f);
    const struct value_brute brute = {.value = value_args, .k = 5, .weight = 0.9f,
                                      .reward = new_reward(f->model, f->reward, "vicuna"),
                                      .plain = make_guide(f->model, f->arm, 0.5f, 1, NULL)};
    value_check_steps(&brute, s, ANSWER);
    assert_int_not_equal(s->timelines[2].n_given, s->timelines[0].n_given);
    genarm_reward_free(brute.reward);
    genarm_guide_free(brute.plain);
    end(g, s);
}

static void test_all_tokens_can_be_candidates_and_some_end_the_turn(void **state) {
    const struct fixture *f = *state;
    assert_true(genarm_token_ends(f->model, genarm_token_eos(f->model)));
    assert_true(check(f, 1000, 1.5f, 0.0f) > 0); /* with the token that ends the turn among them */
}

static void test_a_candidate_that_ends_the_turn_is_the_finished_response(void **state) {
    const struct fixture *f = *state;
    struct genarm_error err = {0};
    const int32_t eos = genarm_token_eos(f->model), other = 0;
    assert_true(genarm_token_ends(f->model, other) && other != eos);
    const struct genarm_value_params value = args(f, 2, 1.0f);
    struct genarm_guide *g = make_guide(f->model, NULL, 0.0f, 1, &value);
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
    struct genarm_guide *without = make_guide(f->model, NULL, 0.0f, 1, NULL);
    value_plain(without, context, value_context(s, context), plain);
    must(genarm_session_step(s, &token, &err), &err);
    assert_true(genarm_token_ends(f->model, token)); /* generation stops here */
    assert_true(fabsf((s->logp[eos] - s->logp[other]) - (plain[eos] - plain[other])) < 1e-4f);
    genarm_guide_free(without);
    end(g, s);
}

/* ---- identities ---- */

static void test_weight_zero_over_all_tokens_is_the_base(void **state) {
    const struct fixture *f = *state;
    const struct genarm_value_params value = args(f, f->model->hp.n_vocab, 0.0f);
    struct genarm_guide *g = make_guide(f->model, f->arm, 0.6f, 1, &value);
    struct genarm_guide *plain = make_guide(f->model, f->arm, 0.6f, 1, NULL);
    struct genarm_session *s = value_session(g, 11, 1.0f), *p = value_session(plain, 11, 1.0f);
    for (int i = 0; i < 2 * ANSWER; i++) {
        int32_t a, b;
        answer(s, &a, 1);
        answer(p, &b, 1);
        assert_int_equal(a, b);
        for (int32_t t = 0; t < f->model->hp.n_vocab; t++) {
            assert_true(fabsf(s->logp[t] - p->logp[t]) < 1e-5f);
        }
    }
    struct genarm_work work;
    genarm_session_get_work(s, &work);
    assert_int_equal(work.value, 0); /* nobody is asked */
    end(plain, p);
    end(g, s);
}

static void test_one_candidate_is_the_greedy_base(void **state) {
    const struct fixture *f = *state;
    const struct genarm_value_params value = args(f, 1, 5.0f);
    struct genarm_guide *g = make_guide(f->model, NULL, 0.0f, 1, &value), *plain = make_guide(f->model, NULL, 0.0f, 1, NULL);
    struct genarm_session *s = value_session(g, 11, 1.0f), *p = value_session(plain, 11, 0.0f);
    int32_t a[ANSWER], b[ANSWER];
    answer(s, a, ANSWER);
    answer(p, b, ANSWER);
    assert_memory_equal(a, b, sizeof a);
    end(plain, p);
    end(g, s);
}

static void test_a_seed_gives_its_answer_again(void **state) {
    const struct fixture *f = *state;
    const struct genarm_value_params value = args(f, 20, 0.3f);
    int32_t tokens[3][ANSWER];
    for (int i = 0; i < 3; i++) {
        struct genarm_guide *g = make_guide(f->model, NULL, 0.0f, 1, &value);
        struct genarm_session *s = value_session(g, i < 2 ? 5 : 6, 1.5f);
        answer(s, tokens[i], ANSWER);
        end(g, s);
    }
    assert_memory_equal(tokens[0], tokens[1], sizeof tokens[0]);
    assert_memory_not_equal(tokens[0], tokens[2], sizeof tokens[0]);
}

/* ---- batches ---- */

static const struct genarm_message prompts[MANY] = {
    {"user", "Hello."}, {"user", "What is the time, and why is it so late?"}, {"user", "Hello. And what now?"}};

static void prompt(struct genarm_session *s, int i) {
    struct genarm_error err = {0};
    must(genarm_session_prompt(s, &prompts[i], 1, &err), &err);
}

static void test_sessions_of_a_batch_are_as_if_alone(void **state) {
    const struct fixture *f = *state;
    const struct genarm_value_params value = args(f, 6, 1.0f);
    struct genarm_error err = {0};
    int32_t alone[MANY][ANSWER];
    for (int i = 0; i < MANY; i++) {
        struct genarm_guide *g = make_guide(f->model, f->arm, 0.5f, 1, &value);
        struct genarm_session *s = value_session(g, (uint64_t)i, 1.0f);
        prompt(s, i);
        answer(s, alone[i], ANSWER);
        end(g, s);
    }
    struct genarm_guide *g = make_guide(f->model, f->arm, 0.5f, MANY, &value);
    struct genarm_session *s[MANY];
    for (int i = 0; i < MANY; i++) {
        s[i] = value_session(g, (uint64_t)i, 1.0f);
        prompt(s[i], i);
    }
    for (int t = 0; t < ANSWER; t++) {
        int32_t tokens[MANY];
        must(genarm_sessions_step(s, MANY, tokens, &err), &err);
        for (int i = 0; i < MANY; i++) {
            assert_int_equal(tokens[i], alone[i][t]);
        }
    }
    for (int i = 0; i < MANY; i++) {
        genarm_session_free(s[i]);
    }
    genarm_guide_free(g);
}

static void test_a_session_that_fails_leaves_the_others(void **state) {
    const struct fixture *f = *state;
    const struct genarm_value_params value = args(f, 6, 1.0f);
    struct genarm_guide *g = make_guide(f->model, NULL, 0.0f, 2, &value);
    struct genarm_session *s[] = {value_session(g, 1, 0.0f), value_session(g, 2, 0.0f)};
    struct genarm_guide *single = make_guide(f->model, NULL, 0.0f, 1, &value);
    struct genarm_session *alone = value_session(single, 2, 0.0f);
    struct genarm_error err = {0}, errors[2];
    int32_t tokens[2] = {-1, -1}, expected;
    answer(alone, &expected, 1);
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
    answer(s[0], tokens, 1);
    assert_int_equal(tokens[0], expected); /* greedy, the same prompt */
    end(single, alone);
    genarm_session_free(s[0]);
    end(g, s[1]);
}

/* ---- work ---- */

static void test_a_token_costs_k_rows_of_the_reward_model(void **state) {
    const struct fixture *f = *state;
    enum { K = 6 };
    const struct genarm_value_params value = args(f, K, 1.0f);
    struct genarm_guide *g = make_guide(f->model, f->arm, 0.5f, 1, &value);
    struct genarm_session *s = value_session(g, 4, 1.0f);
    const int64_t n_prompt = genarm_session_n_prompt(s);
    for (int i = 1; i <= ANSWER; i++) {
        struct genarm_work work;
        int32_t token;
        answer(s, &token, 1);
        genarm_session_get_work(s, &work);
        assert_int_equal(work.base, n_prompt + i - 1);
        assert_int_equal(work.arms, n_prompt + i - 1);
        assert_int_equal(work.value, n_prompt + (int64_t)K * i); /* what was drawn has been fed already */
        assert_int_equal(work.rollout, 0);
        struct genarm_guide_stats stats;
        genarm_guide_get_stats(g, &stats);
        assert_int_equal(stats.n_evaluated, work.base + work.arms + work.value);
    }
    end(g, s);
}

/* ---- other vocabularies ---- */

static void test_padding_is_no_candidate(void **state) {
    const struct fixture *f = *state;
    struct genarm_error err = {0};
    const struct genarm_value_params value = args(f, 400, 0.8f);
    struct genarm_guide *g = make_guide(f->padded, NULL, 0.0f, 1, &value);
    struct genarm_session *s = value_session(g, 4, 1.0f);
    for (int i = 0; i < ANSWER; i++) {
        int32_t token;
        must(genarm_session_step(s, &token, &err), &err);
        for (int32_t t = f->model->hp.n_vocab; t < f->padded->hp.n_vocab; t++) {
            assert_true(s->logp[t] == -INFINITY);
        }
        assert_in_range(token, 0, f->model->hp.n_vocab - 1);
    }
    end(g, s);
}

static void test_a_reward_model_with_padding_is_the_same(void **state) {
    const struct fixture *f = *state;
    struct genarm_adapter *on_padded = value_adapter(f->padded, "llama.lora.gguf", "padded.gguf");
    struct genarm_value_params value = args(f, 8, 0.8f);
    int32_t tokens[2][ANSWER];
    for (int i = 0; i < 2; i++) {
        struct genarm_guide *g = make_guide(f->model, NULL, 0.0f, 1, &value);
        struct genarm_session *s = value_session(g, 4, 1.0f);
        answer(s, tokens[i], ANSWER);
        end(g, s);
        value.model = f->padded;
        value.adapter = on_padded;
    }
    assert_memory_equal(tokens[0], tokens[1], sizeof tokens[0]);
    genarm_adapter_free(on_padded);
}

/* ---- with everything else ---- */

static void test_grammars_decide_what_is_a_candidate(void **state) {
    const struct fixture *f = *state;
    struct genarm_error err = {0};
    struct genarm_grammar *grammar = NULL;
    must(genarm_grammar_new(&grammar, f->model, "root ::= [a-e]+ \".\"", &err), &err);
    const struct genarm_value_params value = args(f, 4, 1.0f);
    struct genarm_guide *g = make_guide(f->model, NULL, 0.0f, 1, &value);
    struct genarm_session *s = value_session(g, 4, 1.0f);
    must(genarm_session_set_grammar(s, grammar, &err), &err);
    for (int i = 0; i < ANSWER; i++) {
        int32_t token, n = 0;
        answer(s, &token, 1);
        for (int32_t t = 0; t < f->model->hp.n_vocab; t++) {
            n += s->logp[t] > -INFINITY;
        }
        assert_in_range(n, 1, 4);
        if (genarm_token_ends(f->model, token)) {
            break;
        }
    }
    end(g, s);
    genarm_grammar_free(grammar);
}

static void test_weights_that_change_count_from_the_next_token(void **state) {
    const struct fixture *f = *state;
    struct genarm_error err = {0};
    const struct genarm_value_params value = args(f, 5, 0.9f);
    struct genarm_guide *g = make_guide(f->model, f->arm, 1.0f, 1, &value);
    struct genarm_session *s = value_session(g, 4, 0.0f);
    struct value_brute brute = {.value = value_args, .reward = f->brute, .k = 5, .weight = 0.9f};
    for (int i = 0; i < 4; i++) {
        const float alpha = 0.4f * (float)i;
        must(genarm_session_set_weight(s, 0, alpha, &err), &err);
        brute.plain = make_guide(f->model, f->arm, alpha, 1, NULL);
        value_check_steps(&brute, s, 2);
        genarm_guide_free(brute.plain);
    }
    end(g, s);
}

static void test_another_prompt_is_as_in_a_new_session(void **state) {
    const struct fixture *f = *state;
    const struct genarm_value_params value = args(f, 6, 1.0f);
    struct genarm_guide *g = make_guide(f->model, NULL, 0.0f, 1, &value);
    struct genarm_session *s = value_session(g, 4, 0.0f);
    int32_t tokens[ANSWER];
    for (int i = 0; i < 2 * MANY; i++) {
        int32_t expected[ANSWER];
        struct genarm_guide *fresh = make_guide(f->model, NULL, 0.0f, 1, &value);
        struct genarm_session *other = value_session(fresh, 4, 0.0f);
        prompt(other, i % MANY);
        answer(other, expected, ANSWER);
        prompt(s, i % MANY);
        answer(s, tokens, i % 2 ? ANSWER : ANSWER / 2);
        assert_memory_equal(tokens, expected, (size_t)(i % 2 ? ANSWER : ANSWER / 2) * sizeof *tokens);
        end(fresh, other);
    }
    end(g, s);
}

static void test_prompts_in_pieces_give_the_same_answer(void **state) {
    const struct fixture *f = *state;
    struct genarm_error err = {0};
    const struct genarm_value_params value = args(f, 6, 1.0f);
    struct genarm_guide *g = make_guide(f->model, f->arm, 0.5f, 2, &value);
    struct genarm_session *s = value_session(g, 4, 1.0f), *whole;
    int32_t left = 1, tokens[ANSWER], expected[ANSWER];
    while (left > 0) {
        must(genarm_session_prefill(s, 5, &left, &err), &err);
    }
    struct genarm_work before, after;
    genarm_session_get_work(s, &before);
    answer(s, tokens, 1);
    genarm_session_get_work(s, &after);
    assert_int_equal(before.value, genarm_session_n_prompt(s) - 1); /* that of the reward model, too */
    assert_int_equal(after.value, before.value + 1 + 6);
    answer(s, tokens + 1, ANSWER - 1);
    whole = value_session(g, 4, 1.0f); /* and from what another slot holds */
    answer(whole, expected, ANSWER);
    assert_memory_equal(tokens, expected, sizeof tokens);
    genarm_session_free(whole);
    end(g, s);
}

static void test_a_saved_session_goes_on(void **state) {
    const struct fixture *f = *state;
    struct genarm_error err = {0};
    const struct genarm_value_params value = args(f, 6, 1.0f);
    struct genarm_guide *g = make_guide(f->model, f->arm, 0.5f, 1, &value);
    struct genarm_session *s = value_session(g, 4, 1.0f);
    int32_t expected[ANSWER], tokens[ANSWER], other[ANSWER];
    answer(s, tokens, 5);
    const char *path = temp_path("value.session");
    must(genarm_session_save(s, path, NULL, &err), &err);
    answer(s, expected, ANSWER);
    prompt(s, 1); /* something else in between */
    answer(s, other, ANSWER);
    must(genarm_session_load(s, path, &err), &err);
    answer(s, tokens, ANSWER);
    assert_memory_equal(tokens, expected, sizeof tokens);
    end(g, s);
    g = make_guide(f->model, f->arm, 0.5f, 1, &value); /* and in another guide */
    s = value_session(g, 9, 1.0f);
    must(genarm_session_load(s, path, &err), &err);
    answer(s, tokens, ANSWER);
    assert_memory_equal(tokens, expected, sizeof tokens);
    end(g, s);
}

static void test_an_answer_outgrows_its_context(void **state) {
    const struct fixture *f = *state;
    struct genarm_error err = {0};
    enum { LONG = 120 };
    const struct genarm_value_params value = args(f, 4, 1.0f);
    int32_t tokens[2][LONG];
    for (int i = 0; i < 2; i++) {
        struct genarm_guide *g = NULL;
        const struct genarm_guide_params params = value_guide_params(72, 1);
        must(genarm_guide_new(&g, f->model, &params, &err), &err);
        must(genarm_guide_set_value(g, &value, &err), &err);
        struct genarm_session *s = value_session(g, 4, 1.0f);
        case_answer_on(s, -1, tokens[i], LONG);
        end(g, s);
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
        prompt(s, i % MANY);
        must(genarm_session_step(s, &left, &err), &err);
        must(genarm_session_load(s, temp_path("between.session"), &err), &err);
    } else if (i % 7 == 5) {
        prompt(s, i % MANY);
        must(genarm_session_prefill(s, 4, &left, &err), &err);
    }
}

static void test_branches_that_are_kept_are_as_if_they_were_not(void **state) {
    const struct fixture *f = *state;
    struct genarm_error err = {0};
    const struct genarm_value_params value = args(f, 4, 1.0f);
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
        answer(s[0], &tokens[0], 1);
        answer(s[1], &tokens[1], 1);
        assert_int_equal(tokens[0], tokens[1]);
        for (int32_t t = 0; t < f->model->hp.n_vocab; t++) {
            assert_true(s[0]->logp[t] == s[1]->logp[t] || fabsf(s[0]->logp[t] - s[1]->logp[t]) < 2e-5f);
        }
    }
    end(g[0], s[0]);
    end(g[1], s[1]);
}

/* Every token has been fed behind the first prompt, at the very place of the second one's last. */
static void test_what_another_prompt_was_followed_by_is_not_taken(void **state) {
    const struct fixture *f = *state;
    struct genarm_error err = {0};
    enum { N = 12 };
    const struct genarm_value_params value = args(f, f->model->hp.n_vocab, 1.0f);
    int32_t first[N], second[N + 1], token, left = 1;
    for (int i = 0; i < N; i++) {
        first[i] = 40 + i;
        second[i] = 100 + i;
    }
    second[N] = 99;
    struct genarm_guide *g[2];
    struct genarm_session *s[2];
    for (int i = 0; i < 2; i++) {
        g[i] = make_guide(f->model, NULL, 0.0f, 1, &value);
        s[i] = value_session(g[i], 4, 1.0f);
    }
    must(genarm_session_prompt_tokens(s[0], first, N, &err), &err);
    answer(s[0], &token, 1);
    must(genarm_session_prompt_tokens(s[0], second, N + 1, &err), &err);
    must(genarm_session_prefill(s[0], 1000, &left, &err), &err);
    must(genarm_session_prompt_tokens(s[1], second, N + 1, &err), &err);
    answer(s[0], &token, 1);
    answer(s[1], &token, 1);
    for (int32_t t = 0; t < f->model->hp.n_vocab; t++) {
        assert_true(fabsf(s[0]->logp[t] - s[1]->logp[t]) < 2e-5f);
    }
    end(g[0], s[0]);
    end(g[1], s[1]);
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
    const struct fixture *f = *state;
    struct genarm_error err = {0};
    struct genarm_guide *g = make_guide(f->model, NULL, 0.0f, 1, NULL);
    struct genarm_value_params p = args(f, 0, 1.0f);
    refused(g, p, GENARM_EINVAL, "candidates");
    p = args(f, 4, NAN);
    refused(g, p, GENARM_EINVAL, "finite");
    p.weight = INFINITY;
    refused(g, p, GENARM_EINVAL, "finite");
    p = args(f, 4, 1.0f);
    p.adapter = f->arm;
    refused(g, p, GENARM_EINVAL, "no head");
    p.adapter = NULL;
    refused(g, p, GENARM_EINVAL, "needs a reward model");
    p = args(f, 4, 1.0f);
    p.model = f->padded;
    refused(g, p, GENARM_EINVAL, "another model");
    p = args(f, 4, 1.0f);
    p.template_name = "no such template";
    refused(g, p, GENARM_EINVAL, "template");
    p = args(f, 4, 1.0f);
    p.indirect = true;
    refused(g, p, GENARM_EINVAL, "without roll-outs");
    p = args(f, 4, 1.0f);
    p.n_rollout = -1;
    refused(g, p, GENARM_EINVAL, "roll-outs");
    p.n_rollout = 4;
    p.baseline = f->reward;
    refused(g, p, GENARM_EINVAL, "rolls nothing out");
    p.baseline = NULL;
    p.indirect = true;
    refused(g, p, GENARM_EINVAL, "nothing to weigh it against");
    struct genarm_session *s = value_session(g, 1, 1.0f);
    refused(g, args(f, 4, 1.0f), GENARM_EINVAL, "before the first session");
    end(g, s);
    struct genarm_model *other = golden_model("llama-mismatch.gguf");
    g = make_guide(other, NULL, 0.0f, 1, NULL);
    refused(g, args(f, 4, 1.0f), GENARM_EMISMATCH, "token 290");
    genarm_guide_free(g);
    genarm_model_free(other);
    const struct genarm_value_params value = args(f, 4, 1.0f);
    g = make_guide(f->model, NULL, 0.0f, 1, &value);
    s = value_session(g, 1, 1.0f);
    const struct genarm_draft_params draft = genarm_draft_default_params();
    assert_int_equal(genarm_session_set_draft(s, &draft, &err), GENARM_EINVAL);
    must(genarm_session_set_draft(s, NULL, &err), &err);
    end(g, s);
}

static void test_what_is_set_last_counts(void **state) {
    const struct fixture *f = *state;
    struct genarm_error err = {0};
    const struct genarm_value_params first = args(f, 300, 9.0f), second = args(f, 5, 0.9f);
    struct genarm_guide *g = make_guide(f->model, NULL, 0.0f, 1, &first);
    must(genarm_guide_set_value(g, &second, &err), &err);
    struct genarm_session *s = value_session(g, 4, 0.0f);
    struct value_brute brute = {.value = value_args, .reward = f->brute, .k = 5, .weight = 0.9f};
    brute.plain = make_guide(f->model, NULL, 0.0f, 1, NULL);
    value_check_steps(&brute, s, 3);
    genarm_guide_free(brute.plain);
    end(g, s);
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
        cmocka_unit_test(test_sessions_of_a_batch_are_as_if_alone),
        cmocka_unit_test(test_a_session_that_fails_leaves_the_others),
        cmocka_unit_test(test_a_token_costs_k_rows_of_the_reward_model),
        cmocka_unit_test(test_padding_is_no_candidate),
        cmocka_unit_test(test_a_reward_model_with_padding_is_the_same),
        cmocka_unit_test(test_grammars_decide_what_is_a_candidate),
        cmocka_unit_test(test_weights_that_change_count_from_the_next_token),
        cmocka_unit_test(test_another_prompt_is_as_in_a_new_session),
        cmocka_unit_test(test_prompts_in_pieces_give_the_same_answer),
        cmocka_unit_test(test_a_saved_session_goes_on),
        cmocka_unit_test(test_an_answer_outgrows_its_context),
        cmocka_unit_test(test_branches_that_are_kept_are_as_if_they_were_not),
        cmocka_unit_test(test_what_another_prompt_was_followed_by_is_not_taken),
        cmocka_unit_test(test_wrong_use_is_refused),
        cmocka_unit_test(test_what_is_set_last_counts),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
