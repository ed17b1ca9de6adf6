/* Transfer Q* on tiny models: every distribution against roll-outs of separate guides, one token at a time. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/edit.h"
#include "support/golden.h"
#include "support/temp.h"
#include "support/value_case.h"

enum { ANSWER = 8, MANY = 3, ROLLOUT = 4 };

struct fixture {
    struct genarm_model *model, *ending; /* the same, which likes to end its turn */
    struct genarm_adapter *baseline, *baseline_ending, *reward, *reward_ending;
};

/* The model of an untied head, with the row of the token that ends the turn scaled. */
static struct genarm_model *model_that_ends(void) {
    struct edit e;
    struct genarm_model *model = NULL;
    struct genarm_error err = {0};
    const int32_t eos = 2;
    edit_open(&e, golden_path("mistral.gguf"));
    struct ggml_tensor *head = edit_tensor(&e, "output.weight");
    for (int64_t i = 0; i < head->ne[0]; i++) {
        ((float *)head->data)[eos * head->ne[0] + i] *= 3.0f;
    }
    must(genarm_model_load(&model, edit_save(&e, temp_path("ending.gguf")), NULL, &err), &err);
    assert_int_equal(genarm_token_eos(model), eos);
    return model;
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    f->model = golden_model("llama.gguf");
    f->baseline = golden_adapter(f->model, "llama.lora2.gguf");
    f->reward = value_adapter(f->model, "llama.lora.gguf", "reward.gguf");
    f->ending = model_that_ends();
    f->baseline_ending = golden_adapter(f->ending, "mistral.lora.gguf");
    f->reward_ending = value_adapter(f->ending, "mistral.lora.gguf", "reward-ending.gguf");
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    genarm_adapter_free(f->baseline);
    genarm_adapter_free(f->baseline_ending);
    genarm_adapter_free(f->reward);
    genarm_adapter_free(f->reward_ending);
    genarm_model_free(f->model);
    genarm_model_free(f->ending);
    free(f);
    return 0;
}

static struct genarm_guide *make_guide(const struct genarm_model *base, struct genarm_adapter *base_adapter, int32_t n_slots,
                                       int32_t n_ctx, const struct genarm_value_params *value) {
    struct genarm_guide *g = NULL;
    struct genarm_error err = {0};
    struct genarm_guide_params params = value_guide_params(n_ctx, n_slots);
    params.base_adapter = base_adapter;
    must(genarm_guide_new(&g, base, &params, &err), &err);
    if (value) {
        must(genarm_guide_set_value(g, value, &err), &err);
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

static int n_ended; /* roll-outs of the running test that ended before their length */

/* The value of a candidate: the baseline's greedy tokens after it, each from a pass of its own over everything before. */
static double value_rolled_out(const struct value_brute *b, const int32_t *context, int32_t n, int32_t n_prompt, int32_t token) {
    const struct genarm_model *model = b->plain->policies[0].model;
    const int32_t n_vocab = model->hp.n_vocab;
    int32_t all[VALUE_MAX], last = token, n_rolled = 0;
    double log_ratio = 0;
    memcpy(all, context, (size_t)n * sizeof *all);
    all[n++] = genarm_token_ends(model, token) ? genarm_token_eos(model) : token;
    for (; n_rolled < b->n_rollout && !genarm_token_ends(model, last); n_rolled++) {
        float logp[VALUE_MAX], against[VALUE_MAX];
        value_plain(b->baseline, all, n, logp);
        last = 0;
        for (int32_t t = 1; t < n_vocab; t++) {
            last = logp[t] > logp[last] ? t : last;
        }
        if (b->beta > 0) {
            value_plain(b->reference, all, n, against);
            log_ratio += (double)logp[last] - (double)against[last];
        }
        all[n++] = genarm_token_ends(model, last) ? genarm_token_eos(model) : last;
    }
    n_ended += n_rolled > 0 && n_rolled < b->n_rollout;
    const double reward = value_reward(b, all + n_prompt, n - n_prompt);
    return b->beta > 0 ? exp(reward / b->beta - log_ratio) * reward : reward;
}

struct roll_case {
    struct genarm_model *model;
    struct genarm_adapter *reward, *base_adapter, *baseline;
    bool indirect;
    float weight;
};

static struct genarm_value_params params_of(const struct roll_case *c) {
    struct genarm_value_params p = genarm_value_default_params();
    p.model = c->model;
    p.adapter = c->reward;
    p.n_candidates = 5;
    p.weight = c->weight;
    p.n_rollout = ROLLOUT;
    p.baseline = c->baseline;
    p.indirect = c->indirect;
    p.beta = 3.0f;
    return p;
}

static int check(struct roll_case c, float temperature) {
    struct genarm_error err = {0};
    const struct genarm_value_params p = params_of(&c);
    struct genarm_adapter *baseline = c.baseline ? c.baseline : c.base_adapter;
    struct genarm_reward_params reward = genarm_reward_default_params();
    reward.n_threads = 1;
    reward.n_ctx = 256;
    struct value_brute b = {.value = value_rolled_out, .k = p.n_candidates, .weight = p.weight, .n_rollout = ROLLOUT,
                            .beta = c.indirect ? (double)p.beta : 0,
                            .plain = make_guide(c.model, c.base_adapter, 1, 128, NULL),
                            .baseline = make_guide(c.model, baseline, 1, 128, NULL),
                            .reference = make_guide(c.model, baseline != c.base_adapter ? c.base_adapter : NULL, 1, 128, NULL)};
    must(genarm_reward_new(&b.reward, c.model, c.reward, &reward, &err), &err);
    struct genarm_guide *g = make_guide(c.model, c.base_adapter, 1, 128, &p);
    struct genarm_session *s = value_session(g, 7, temperature);
    const int n_changed = value_check_steps(&b, s, ANSWER);
    end(g, s);
    genarm_reward_free(b.reward);
    genarm_guide_free(b.plain);
    genarm_guide_free(b.baseline);
    genarm_guide_free(b.reference);
    return n_changed;
}

static void test_direct_roll_outs_of_the_base(void **state) {
    const struct fixture *f = *state;
    assert_true(check((struct roll_case){f->model, f->reward, NULL, NULL, false, 0.8f}, 0.0f) > 0);
    assert_true(check((struct roll_case){f->model, f->reward, f->baseline, NULL, false, 0.8f}, 0.9f) > 0);
}

static void test_direct_roll_outs_of_an_adapter(void **state) {
    const struct fixture *f = *state;
    assert_true(check((struct roll_case){f->model, f->reward, NULL, f->baseline, false, 0.8f}, 0.0f) > 0);
    assert_true(check((struct roll_case){f->model, f->reward, NULL, f->baseline, false, 0.8f}, 0.9f) > 0);
}

static void test_indirect_roll_outs_are_weighed_against_the_base(void **state) {
    const struct fixture *f = *state;
    assert_true(check((struct roll_case){f->model, f->reward, NULL, f->baseline, true, 0.8f}, 0.0f) > 0);
    assert_true(check((struct roll_case){f->model, f->reward, NULL, f->baseline, true, -8.0f}, 0.9f) > 0);
}

static void test_indirect_roll_outs_of_the_bases_adapter_are_weighed_against_its_model(void **state) {
    const struct fixture *f = *state;
    assert_true(check((struct roll_case){f->model, f->reward, f->baseline, NULL, true, 0.8f}, 0.0f) > 0);
    assert_true(check((struct roll_case){f->model, f->reward, f->baseline, f->baseline, true, 0.8f}, 0.9f) > 0);
}

static void test_roll_outs_end_with_the_turn(void **state) {
    const struct fixture *f = *state;
    n_ended = 0;
    check((struct roll_case){f->ending, f->reward_ending, NULL, f->baseline_ending, false, 0.3f}, 0.0f);
    check((struct roll_case){f->ending, f->reward_ending, NULL, NULL, false, 0.3f}, 0.9f);
    check((struct roll_case){f->ending, f->reward_ending, NULL, f->baseline_ending, true, 0.3f}, 0.9f);
    assert_true(n_ended > 3);
}

/* ---- identities ---- */

static void answer_of(const struct genarm_value_params *p, int32_t n_ctx, int32_t *tokens, int n) {
    struct genarm_guide *g = make_guide(p->model, NULL, 1, n_ctx, p);
    struct genarm_session *s = value_session(g, 2, 0.7f);
    answer(s, tokens, n);
    end(g, s);
}

static void test_a_baseline_that_is_the_base_needs_no_policy_of_its_own(void **state) {
    const struct fixture *f = *state;
    struct roll_case c = {f->model, f->reward, f->baseline, NULL, false, 0.8f};
    int32_t tokens[2][ANSWER];
    for (int i = 0; i < 2; i++) {
        const struct genarm_value_params p = params_of(&c);
        struct genarm_guide *g = make_guide(f->model, f->baseline, 1, 128, &p);
        struct genarm_session *s = value_session(g, 2, 0.7f);
        assert_int_equal(g->n_policies, 2); /* base and reward model */
        answer(s, tokens[i], ANSWER);
        end(g, s);
        c.baseline = f->baseline;
    }
    assert_memory_equal(tokens[0], tokens[1], sizeof tokens[0]);
}

static void test_sessions_of_a_batch_are_as_if_alone(void **state) {
    const struct fixture *f = *state;
    static const struct genarm_message prompts[MANY] = {{"user", "Hello."}, {"user", "What?"}, {"user", "Why is it so late?"}};
    struct genarm_error err = {0};
    const struct roll_case c = {f->ending, f->reward_ending, NULL, f->baseline_ending, true, 0.5f};
    const struct genarm_value_params p = params_of(&c);
    int32_t alone[MANY][ANSWER];
    struct genarm_session *s[MANY];
    for (int i = 0; i < MANY; i++) {
        struct genarm_guide *g = make_guide(c.model, NULL, 1, 128, &p);
        struct genarm_session *one = value_session(g, (uint64_t)i, 1.0f);
        must(genarm_session_prompt(one, &prompts[i], 1, &err), &err);
        answer(one, alone[i], ANSWER);
        end(g, one);
    }
    struct genarm_guide *g = make_guide(c.model, NULL, MANY, 128, &p);
    for (int i = 0; i < MANY; i++) {
        s[i] = value_session(g, (uint64_t)i, 1.0f);
        must(genarm_session_prompt(s[i], &prompts[i], 1, &err), &err);
    }
    value_check_together(g, s, MANY, alone[0], ANSWER);
}

static void test_work_of_roll_outs(void **state) {
    const struct fixture *f = *state;
    const struct roll_case c = {f->model, f->reward, NULL, f->baseline, false, 0.8f};
    const struct genarm_value_params p = params_of(&c);
    struct genarm_guide *g = make_guide(f->model, NULL, 1, 128, &p);
    struct genarm_session *s = value_session(g, 2, 0.7f);
    const int64_t n_prompt = genarm_session_n_prompt(s), n_each = p.n_candidates * ROLLOUT;
    for (int i = 1; i <= ANSWER; i++) {
        struct genarm_work work;
        struct genarm_guide_stats stats;
        int32_t token;
        answer(s, &token, 1);
        genarm_session_get_work(s, &work);
        genarm_guide_get_stats(g, &stats);
        assert_int_equal(stats.n_evaluated, work.base + work.arms + work.value + work.rollout);
        assert_int_equal(work.base, n_prompt + i - 1);
        assert_int_equal(work.arms, 0);
        assert_in_range(work.rollout, n_prompt + 1, n_prompt + n_each * i); /* fewer where a candidate ends the turn */
        assert_in_range(work.value, n_prompt + 1, n_prompt + (n_each + p.n_candidates) * i);
        assert_true(work.value >= work.rollout);
    }
    end(g, s);
}

/* Roll-outs that the context cuts, up to the last place in it. */
static void test_the_end_of_the_context_ends_roll_outs(void **state) {
    const struct fixture *f = *state;
    struct genarm_error err = {0};
    const struct roll_case c = {f->model, f->reward, NULL, f->baseline, true, 0.8f};
    const struct genarm_value_params p = params_of(&c);
    struct genarm_guide *g = make_guide(f->model, NULL, 1, 64, &p);
    struct genarm_session *s = value_session(g, 2, 0.7f);
    int32_t token;
    while (genarm_session_n_left(s) > 0) {
        answer(s, &token, 1);
    }
    assert_int_equal(genarm_session_step(s, &token, &err), GENARM_ECONTEXT);
    must(genarm_session_shift(s, -1, &err), &err);
    answer(s, &token, 1);
    end(g, s);
}

static void test_a_base_of_libllama_is_rolled_out_alike(void **state) {
    const struct fixture *f = *state;
    struct genarm_error err = {0};
    int32_t own[ANSWER], theirs[ANSWER];
    const struct roll_case c = {f->model, f->reward, NULL, f->baseline, false, 0.8f};
    struct genarm_value_params p = params_of(&c);
    p.n_candidates = 3;
    answer_of(&p, 128, own, ANSWER);
    golden_engine = GENARM_ENGINE_LLAMA;
    struct genarm_model *model = golden_model("llama.gguf");
    struct genarm_adapter *baseline = golden_adapter(model, "llama.lora2.gguf");
    golden_engine = GENARM_ENGINE_AUTO;
    p.baseline = baseline;
    struct genarm_guide *g = make_guide(model, NULL, 1, 128, &p);
    struct genarm_session *s = value_session(g, 2, 0.7f);
    answer(s, theirs, ANSWER);
    assert_memory_equal(own, theirs, sizeof own);
    end(g, s);
    p.model = model; /* but libllama gives no hidden states */
    p.baseline = NULL;
    p.adapter = NULL;
    struct genarm_adapter *reward = NULL;
    must(genarm_adapter_load(&reward, model, f->reward->path, &err), &err);
    p.adapter = reward;
    g = make_guide(model, NULL, 1, 128, NULL);
    assert_int_equal(genarm_guide_set_value(g, &p, &err), GENARM_EUNSUPPORTED);
    genarm_guide_free(g);
    genarm_adapter_free(reward);
    genarm_adapter_free(baseline);
    genarm_model_free(model);
}

static void test_values_that_are_not_finite_fail_the_session(void **state) {
    const struct fixture *f = *state;
    struct genarm_error err = {0};
    const struct roll_case c = {f->model, f->reward, NULL, f->baseline, true, 0.8f};
    struct genarm_value_params p = params_of(&c);
    p.beta = 1e-6f;
    struct genarm_guide *g = make_guide(f->model, NULL, 1, 128, &p);
    struct genarm_session *s = value_session(g, 2, 0.7f);
    int32_t token;
    assert_int_equal(genarm_session_step(s, &token, &err), GENARM_EINVAL);
    assert_non_null(strstr(err.hint, "beta"));
    assert_int_equal(genarm_session_n_tokens(s), 0);
    end(g, s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_direct_roll_outs_of_the_base),
        cmocka_unit_test(test_direct_roll_outs_of_an_adapter),
        cmocka_unit_test(test_indirect_roll_outs_are_weighed_against_the_base),
        cmocka_unit_test(test_indirect_roll_outs_of_the_bases_adapter_are_weighed_against_its_model),
        cmocka_unit_test(test_roll_outs_end_with_the_turn),
        cmocka_unit_test(test_a_baseline_that_is_the_base_needs_no_policy_of_its_own),
        cmocka_unit_test(test_sessions_of_a_batch_are_as_if_alone),
        cmocka_unit_test(test_work_of_roll_outs),
        cmocka_unit_test(test_the_end_of_the_context_ends_roll_outs),
        cmocka_unit_test(test_a_base_of_libllama_is_rolled_out_alike),
        cmocka_unit_test(test_values_that_are_not_finite_fail_the_session),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
