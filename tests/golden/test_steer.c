/* Steering beyond weights, on tiny models: identities between ways to say the same, and enumerations. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guide/combine.h"
#include "guide/grammar.h"
#include "guide/session.h"
#include "support/golden.h"

enum { ANSWER = 24, V_MAX = 1024 };

static const struct genarm_message hello[] = {{"user", "How are you, and what is the time?"}};

struct fixture {
    struct genarm_model *model;
    struct genarm_adapter *first, *second;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    f->model = golden_model("llama.gguf");
    f->first = golden_adapter(f->model, "llama.lora.gguf");
    f->second = golden_adapter(f->model, "llama.lora2.gguf");
    assert_true(f->model->hp.n_vocab <= V_MAX);
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

/* A session alone on a guide of its own. Names of ARMs are "a", "b". */
static struct genarm_session *make(const struct fixture *f, struct genarm_adapter *base_adapter,
                                   const struct genarm_arm_params *arms, size_t n_arms) {
    struct genarm_guide *g;
    struct genarm_session *s;
    struct genarm_error err = {0};
    struct genarm_guide_params params = genarm_guide_default_params();
    struct genarm_sampling sampling = genarm_sampling_default();
    params.n_ctx = 128;
    params.n_threads = 1;
    params.kv_type = GENARM_KV_F32;
    params.base_adapter = base_adapter;
    sampling.seed = 5;
    must(genarm_guide_new(&g, f->model, &params, &err), &err);
    for (size_t i = 0; i < n_arms; i++) {
        struct genarm_arm_params arm = arms[i];
        arm.name = i == 0 ? "a" : "b";
        arm.model = f->model;
        must(genarm_guide_add_arm(g, &arm, &err), &err);
    }
    must(genarm_session_new(&s, g, &sampling, &err), &err);
    must(genarm_session_prompt(s, hello, 1, &err), &err);
    return s;
}

static void drop(struct genarm_session *s) {
    struct genarm_guide *g = s->guide;
    genarm_session_free(s);
    genarm_guide_free(g);
}

static int32_t step(struct genarm_session *s) {
    int32_t token;
    struct genarm_error err = {0};
    must(genarm_session_step(s, &token, &err), &err);
    return token;
}

/* Steps both; the mixtures and tokens are the same all along. */
static void check_same(struct genarm_session *a, struct genarm_session *b, int n) {
    const int32_t n_vocab = a->guide->policies[0].model->hp.n_vocab;
    for (int i = 0; i < n; i++) {
        assert_int_equal(step(a), step(b));
        for (int32_t t = 0; t < n_vocab; t++) {
            assert_true(fabsf(a->logp[t] - b->logp[t]) < 2e-4f);
        }
    }
}

/* ---- weights below 0 ---- */

static void test_the_base_as_its_own_anti_expert_leaves_nothing_but_the_vocabulary(void **state) {
    struct fixture *f = *state;
    struct genarm_session *s = make(f, NULL, &(struct genarm_arm_params){.weight = -1.0f}, 1);
    step(s);
    for (int32_t t = 0; t < f->model->hp.n_vocab; t++) {
        assert_true(fabsf(s->logp[t] + logf((float)f->model->hp.n_vocab)) < 1e-4f);
    }
    drop(s);
}

static void test_an_expert_and_an_equal_anti_expert_cancel(void **state) {
    struct fixture *f = *state;
    const struct genarm_arm_params arms[] = {{.adapter = f->first, .weight = 1.5f}, {.adapter = f->first, .weight = -1.5f}};
    struct genarm_session *pair = make(f, NULL, arms, 2), *plain = make(f, NULL, NULL, 0);
    check_same(pair, plain, ANSWER);
    drop(pair);
    drop(plain);
}

/* ---- relative to a reference ---- */

/* alpha (log pi - log pi_reference) as one ARM and as two. */
static void check_minus_reference(const struct fixture *f, struct genarm_adapter *base_adapter, const char *template_name,
                                  int32_t n_hidden, int32_t reference) {
    const struct genarm_arm_params relative = {.adapter = f->first, .weight = 0.8f, .minus_reference = true,
                                               .template_name = template_name};
    const struct genarm_arm_params both[] = {{.adapter = f->first, .weight = 0.8f, .template_name = template_name},
                                             {.weight = -0.8f, .template_name = template_name}};
    struct genarm_session *one = make(f, base_adapter, &relative, 1), *two = make(f, base_adapter, both, 2);
    assert_int_equal(one->guide->n_policies, 2 + n_hidden);
    assert_int_equal(one->references[1], reference);
    assert_int_equal(genarm_guide_n_arms(one->guide), 1); /* what is hidden is not seen */
    assert_int_equal(genarm_guide_find_arm(one->guide, "b"), -1);
    check_same(one, two, ANSWER);
    assert_int_equal(session_counts(one, 1 + n_hidden, 1), reference != 0 || n_hidden == 0);
    drop(one);
    drop(two);
}

static void test_minus_reference_equals_an_anti_expert_and_the_base_serves_as_one(void **state) {
    check_minus_reference(*state, NULL, NULL, 0, 0);
}

static void test_minus_reference_under_another_template_runs_a_hidden_policy(void **state) {
    check_minus_reference(*state, NULL, "raw:{prompt}\\n", 1, 2);
}

static void test_a_template_of_another_name_that_writes_the_same_costs_nothing(void **state) {
    check_minus_reference(*state, NULL, "chatml", 1, 0);
}

static void test_minus_reference_beside_an_adapted_base_runs_a_hidden_policy(void **state) {
    struct fixture *f = *state;
    check_minus_reference(f, f->second, NULL, 1, 2);
}

static void test_arms_on_one_model_share_their_reference(void **state) {
    struct fixture *f = *state;
    const char *name = "raw:{prompt}\\n";
    const struct genarm_arm_params arms[] = {
        {.adapter = f->first, .weight = 0.8f, .minus_reference = true, .template_name = name},
        {.adapter = f->second, .weight = -0.8f, .minus_reference = true, .template_name = name}};
    struct genarm_session *s = make(f, NULL, arms, 2), *same;
    assert_int_equal(s->guide->n_policies, 4);
    assert_true(session_coefficient(s, 3, 0) == 0.0f); /* what one adds the other takes: it is not even run */
    assert_false(session_counts(s, 3, 1));
    same = make(f, NULL, (struct genarm_arm_params[]){{.adapter = f->first, .weight = 0.8f, .template_name = name},
                                                      {.adapter = f->second, .weight = -0.8f, .template_name = name}}, 2);
    check_same(s, same, ANSWER);
    drop(s);
    drop(same);
}

static void test_a_model_without_adapter_has_no_reference(void **state) {
    struct fixture *f = *state;
    struct genarm_guide *g;
    struct genarm_error err = {0};
    must(genarm_guide_new(&g, f->model, NULL, &err), &err);
    const struct genarm_arm_params p = {.name = "x", .model = f->model, .weight = 1.0f, .minus_reference = true};
    assert_int_equal(genarm_guide_add_arm(g, &p, &err), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "without an adapter"));
    genarm_guide_free(g);
}

struct collected {
    int n;
    float base[32], guided[32], arms[32][2], reference[32][2];
};

static int collect(const struct genarm_token_score *score, void *user) {
    struct collected *c = user;
    const int i = c->n++;
    c->base[i] = score->base;
    c->guided[i] = score->guided;
    c->arms[i][0] = score->arms[0];
    c->reference[i][0] = score->reference[0];
    return 0;
}

static struct collected score(struct genarm_session *s, const int32_t *tokens, size_t n) {
    struct collected c = {0};
    struct genarm_error err = {0};
    must(genarm_session_score(s, tokens, n, collect, &c, &err), &err);
    return c;
}

static void test_scores_with_a_hidden_reference_equal_those_without_and_of_two_arms(void **state) {
    struct fixture *f = *state;
    const char *name = "raw:{prompt}\\n";
    const struct genarm_arm_params relative = {.adapter = f->first, .weight = 0.8f, .minus_reference = true, .template_name = name};
    const struct genarm_arm_params both[] = {{.adapter = f->first, .weight = 0.8f, .template_name = name},
                                             {.weight = -0.8f, .template_name = name}};
    struct genarm_session *one = make(f, NULL, &relative, 1), *two = make(f, NULL, both, 2);
    const int32_t tokens[] = {40, 41, 50, 60, 45, 44, 43, 90};
    const struct collected x = score(one, tokens, 8), y = score(two, tokens, 8);
    assert_int_equal(x.n, 8);
    for (int i = 0; i < 8; i++) {
        assert_true(fabsf(x.guided[i] - y.guided[i]) < 2e-4f);
        assert_true(fabsf(x.arms[i][0] - y.arms[i][0]) < 2e-4f);
        assert_true(fabsf(x.reference[i][0] - y.reference[i][0]) < 2e-4f);
        assert_true(fabsf(x.reference[i][0] - x.arms[i][0]) > 1e-3f);
    }
    check_same(one, two, 4); /* and both go on from there */
    drop(one);
    drop(two);
}

/* ---- schedules ---- */

static void test_a_schedule_equals_weights_set_by_hand_at_every_token(void **state) {
    struct fixture *f = *state;
    static const struct genarm_knot knots[] = {{2, 0.0f}, {6, 2.0f}, {9, 1.0f}, {9, -0.5f}, {14, 0.0f}};
    static const float factors[ANSWER] = {0, 0, 0, 0.5f, 1, 1.5f, 2, 5.0f / 3, 4.0f / 3, -0.5f, -0.4f, -0.3f, -0.2f, -0.1f};
    const struct genarm_arm_params arm = {.adapter = f->first, .weight = 1.2f};
    struct genarm_session *s = make(f, NULL, &arm, 1), *by_hand = make(f, NULL, &arm, 1);
    struct genarm_error err = {0};
    must(genarm_session_set_schedule(s, 0, knots, 5, &err), &err);
    for (int i = 0; i < ANSWER; i++) {
        must(genarm_session_set_weight(by_hand, 0, 1.2f * factors[i], &err), &err);
        assert_int_equal(session_counts(s, 1, 1), factors[i] != 0.0f); /* not run where it does not count */
        check_same(s, by_hand, 1);
    }
    must(genarm_session_set_schedule(s, 0, NULL, 0, &err), &err);
    must(genarm_session_set_weight(by_hand, 0, 1.2f, &err), &err);
    check_same(s, by_hand, 4);
    drop(s);
    drop(by_hand);
}

static void test_a_policy_that_will_count_is_needed_ahead(void **state) {
    struct fixture *f = *state;
    struct genarm_session *s = make(f, NULL, &(struct genarm_arm_params){.adapter = f->first, .weight = 1.0f}, 1);
    struct genarm_error err = {0};
    must(genarm_session_set_schedule(s, 0, (struct genarm_knot[]){{3, 0.0f}, {4, 1.0f}}, 2, &err), &err);
    assert_false(session_counts(s, 1, 4));
    assert_true(session_counts(s, 1, 5));
    drop(s);
}

/* ---- the gate ---- */

static double exact_entropy(const float *logp, int32_t n) {
    double h = 0;
    for (int32_t t = 0; t < n; t++) {
        h -= exp((double)logp[t]) * (double)logp[t];
    }
    return h;
}

static void test_the_gate_steers_where_the_base_is_unsure_and_nowhere_else(void **state) {
    struct fixture *f = *state;
    const struct genarm_arm_params arm = {.adapter = f->first, .weight = 1.2f};
    const int32_t n_vocab = f->model->hp.n_vocab;
    struct genarm_error err = {0};
    struct genarm_session *base = make(f, NULL, NULL, 0), *s = make(f, NULL, &arm, 1), *guided = make(f, NULL, &arm, 1);
    struct genarm_session *const all[] = {base, guided};
    int n_open = 0;
    const float threshold = 4.0f;
    must(genarm_session_set_min_entropy(s, threshold, &err), &err);
    for (int i = 0; i < ANSWER; i++) {
        const int32_t token = step(s);
        step(base);
        step(guided);
        const bool open = exact_entropy(base->logp, n_vocab) >= (double)threshold;
        n_open += open;
        for (int32_t t = 0; t < n_vocab; t++) {
            assert_true(fabsf(s->logp[t] - (open ? guided : base)->logp[t]) < 2e-4f);
        }
        for (int k = 0; k < 2; k++) { /* all go on with the same answer */
            for (int32_t p = 0; p < all[k]->guide->n_policies; p++) {
                all[k]->timelines[p].tokens[all[k]->timelines[p].n - 1] = token;
            }
        }
    }
    assert_true(n_open > 2 && n_open < ANSWER - 2); /* or the test would prove little */
    drop(s);
    drop(base);
    drop(guided);
}

static void test_a_gate_of_0_is_always_open_and_one_of_infinity_never(void **state) {
    struct fixture *f = *state;
    const struct genarm_arm_params arm = {.adapter = f->first, .weight = 1.2f};
    struct genarm_error err = {0};
    struct genarm_session *plain = make(f, NULL, NULL, 0), *guided = make(f, NULL, &arm, 1);
    struct genarm_session *open = make(f, NULL, &arm, 1), *shut = make(f, NULL, &arm, 1);
    must(genarm_session_set_min_entropy(open, 0.0f, &err), &err);
    must(genarm_session_set_min_entropy(shut, INFINITY, &err), &err);
    check_same(open, guided, ANSWER);
    check_same(shut, plain, ANSWER);
    assert_int_equal(genarm_session_set_min_entropy(open, NAN, &err), GENARM_EINVAL);
    assert_int_equal(genarm_session_set_min_entropy(open, -1.0f, &err), GENARM_EINVAL);
    drop(plain);
    drop(guided);
    drop(open);
    drop(shut);
}

/* ---- biases and grammars ---- */

/* logp, changed, normalised anew. */
static void renormalize(double *logp, int32_t n) {
    double sum = 0;
    for (int32_t t = 0; t < n; t++) {
        sum += exp(logp[t]);
    }
    for (int32_t t = 0; t < n; t++) {
        logp[t] -= log(sum);
    }
}

static void check_equals(const float *logp, const double *want, int32_t n) {
    for (int32_t t = 0; t < n; t++) {
        if (isinf(want[t])) {
            assert_true(isinf(logp[t]) && logp[t] < 0);
        } else {
            assert_true(fabs((double)logp[t] - want[t]) < 2e-4);
        }
    }
}

static void test_a_bias_is_added_to_the_mixture_and_minus_infinity_forbids(void **state) {
    struct fixture *f = *state;
    const struct genarm_arm_params arm = {.adapter = f->first, .weight = 1.2f};
    const struct genarm_token_bias biases[] = {{40, 3.0f}, {41, -2.0f}, {42, -INFINITY}, {40, 1.0f}};
    const int32_t n_vocab = f->model->hp.n_vocab;
    struct genarm_error err = {0};
    struct genarm_session *s = make(f, NULL, &arm, 1), *plain = make(f, NULL, &arm, 1);
    double want[V_MAX];
    must(genarm_session_set_bias(s, biases, 4, &err), &err);
    step(s);
    step(plain);
    for (int32_t t = 0; t < n_vocab; t++) {
        want[t] = (double)plain->logp[t] + (t == 40 ? 4.0 : t == 41 ? -2.0 : t == 42 ? -INFINITY : 0.0);
    }
    renormalize(want, n_vocab);
    check_equals(s->logp, want, n_vocab);
    assert_int_equal(genarm_session_set_bias(s, &(struct genarm_token_bias){n_vocab, 1.0f}, 1, &err), GENARM_EINVAL);
    assert_int_equal(genarm_session_set_bias(s, &(struct genarm_token_bias){1, INFINITY}, 1, &err), GENARM_EINVAL);
    assert_int_equal(genarm_session_set_bias(s, &(struct genarm_token_bias){1, NAN}, 1, &err), GENARM_EINVAL);
    struct genarm_token_bias all[V_MAX];
    for (int32_t t = 0; t < n_vocab; t++) {
        all[t] = (struct genarm_token_bias){t, -INFINITY};
    }
    must(genarm_session_set_bias(s, all, (size_t)n_vocab, &err), &err);
    int32_t token;
    assert_int_equal(genarm_session_step(s, &token, &err), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "forbidden by their bias"));
    must(genarm_session_set_bias(s, NULL, 0, &err), &err);
    step(s);
    drop(s);
    drop(plain);
}

static struct genarm_grammar *make_grammar(const struct fixture *f, const char *text) {
    struct genarm_grammar *g;
    struct genarm_error err = {0};
    must(genarm_grammar_new(&g, f->model, text, &err), &err);
    return g;
}

static void test_a_grammar_leaves_the_mixture_of_what_it_allows(void **state) {
    struct fixture *f = *state;
    const struct genarm_arm_params arm = {.adapter = f->first, .weight = 1.2f};
    const int32_t n_vocab = f->model->hp.n_vocab;
    struct genarm_grammar *grammar = make_grammar(f, "root ::= [a-m]+ \" \" [n-z]{2,4} \".\"");
    struct genarm_error err = {0};
    struct genarm_session *s = make(f, NULL, &arm, 1), *plain = make(f, NULL, &arm, 1);
    int32_t at = GRAMMAR_START, token = -1, n = 0;
    must(genarm_session_set_grammar(s, grammar, &err), &err);
    for (; !genarm_token_ends(f->model, token) && n < 60; n++) {
        const uint8_t *allowed;
        double want[V_MAX];
        must(grammar_allowed(grammar, at, &allowed, &err), &err);
        step(plain);
        for (int32_t t = 0; t < n_vocab; t++) {
            want[t] = allowed[t / 8] >> (t % 8) & 1 ? (double)plain->logp[t] : -INFINITY;
        }
        renormalize(want, n_vocab);
        token = step(s);
        check_equals(s->logp, want, n_vocab);
        must(grammar_advance(grammar, &at, token, &err), &err);
        for (int32_t p = 0; p < 2; p++) {
            plain->timelines[p].tokens[plain->timelines[p].n - 1] = token;
        }
    }
    assert_true(genarm_token_ends(f->model, token) || n == 60);
    must(genarm_session_prompt(s, hello, 1, &err), &err); /* a new answer starts anew */
    char first[8];
    assert_int_equal(genarm_token_bytes(f->model, step(s), false, first, 8) > 0, 1);
    assert_true(first[0] >= 'a' && first[0] <= 'm');
    drop(s);
    drop(plain);
    genarm_grammar_free(grammar);
}

static void test_a_grammar_follows_tokens_that_are_only_drafted(void **state) {
    struct fixture *f = *state;
    const int32_t n_vocab = f->model->hp.n_vocab;
    struct genarm_grammar *grammar = make_grammar(f, "root ::= [a-z] [A-Z] [0-9]+");
    struct genarm_error err = {0};
    struct genarm_session *s = make(f, NULL, NULL, 0);
    must(genarm_session_set_grammar(s, grammar, &err), &err);
    step(s);
    float *logits = calloc((size_t)n_vocab, sizeof *logits), *out = calloc((size_t)n_vocab, sizeof *out);
    int32_t upper;
    assert_int_equal(genarm_tokenize(f->model, "Q", 1, false, false, &upper, 1) == 1, 1);
    for (int round = 0; round < 2; round++) { /* the draft leaves nothing behind */
        const float *const parts[] = {logits};
        struct timeline *t = &s->timelines[0];
        char bytes[8];
        must(session_mix(s, 1, parts, out, &err), &err);
        for (int32_t id = 0; id < n_vocab; id++) {
            const int32_t n = genarm_token_bytes(f->model, id, false, bytes, 8);
            assert_true(isinf(out[id]) || (n > 0 && bytes[0] >= 'A' && bytes[0] <= 'Z'));
        }
        t->tokens[t->n] = upper;
        must(session_mix(s, 2, parts, out, &err), &err);
        for (int32_t id = 0; id < n_vocab; id++) {
            const int32_t n = genarm_token_bytes(f->model, id, false, bytes, 8);
            assert_true(isinf(out[id]) || (n > 0 && bytes[0] >= '0' && bytes[0] <= '9'));
        }
    }
    free(logits);
    free(out);
    drop(s);
    genarm_grammar_free(grammar);
}

static void test_a_grammar_that_allows_nothing_possible_is_an_error(void **state) {
    struct fixture *f = *state;
    struct genarm_grammar *grammar = make_grammar(f, "root ::= \"a\"");
    struct genarm_error err = {0};
    struct genarm_session *s = make(f, NULL, NULL, 0);
    int32_t a, token;
    assert_true(genarm_tokenize(f->model, "a", 1, false, false, &a, 1) == 1);
    must(genarm_session_set_grammar(s, grammar, &err), &err);
    must(genarm_session_set_bias(s, &(struct genarm_token_bias){a, -INFINITY}, 1, &err), &err);
    assert_int_equal(genarm_session_step(s, &token, &err), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "token 1 of the answer: the grammar allows no token"));
    must(genarm_session_set_grammar(s, NULL, &err), &err);
    step(s);
    const int32_t wrong[] = {a, a, a};
    struct collected c = {0};
    must(genarm_session_set_bias(s, NULL, 0, &err), &err);
    must(genarm_session_set_grammar(s, grammar, &err), &err);
    assert_int_equal(genarm_session_score(s, wrong, 3, collect, &c, &err), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "the grammar does not allow"));
    drop(s);
    genarm_grammar_free(grammar);
}

/* ---- log-probabilities ---- */

static void test_log_probabilities_of_drawn_tokens_equal_their_scores(void **state) {
    struct fixture *f = *state;
    const struct genarm_arm_params arms[] = {{.adapter = f->first, .weight = 1.2f}, {.adapter = f->second, .weight = 0.0f}};
    struct genarm_session *s = make(f, NULL, arms, 2), *scored = make(f, NULL, arms, 2);
    struct genarm_error err = {0};
    struct collected kept = {0};
    int32_t tokens[16];
    size_t n;
    genarm_session_logprobs(s, &n);
    assert_int_equal(n, 0);
    must(genarm_session_keep_logprobs(s, 5, &err), &err);
    for (int i = 0; i < 16; i++) {
        tokens[i] = step(s);
        const struct genarm_token_logprob *all = genarm_session_logprobs(s, &n);
        assert_int_equal(n, 6);
        assert_int_equal(all[0].token, tokens[i]);
        collect(&(struct genarm_token_score){.base = all[0].base, .guided = all[0].guided, .arms = all[0].arms,
                                             .reference = all[0].arms + 1}, &kept);
        int32_t better = 0;
        for (int32_t t = 0; t < f->model->hp.n_vocab; t++) { /* none is left out */
            better += s->logp[t] > all[5].guided;
        }
        assert_true(better <= 4);
        for (size_t k = 1; k < n; k++) {
            assert_true(all[k].guided == s->logp[all[k].token]);
            assert_true(k == 1 || all[k - 1].guided > all[k].guided ||
                        (all[k - 1].guided == all[k].guided && all[k - 1].token < all[k].token));
        }
    }
    const struct collected want = score(scored, tokens, 16);
    for (int i = 0; i < 16; i++) {
        assert_true(fabsf(kept.guided[i] - want.guided[i]) < 2e-4f);
        assert_true(fabsf(kept.base[i] - want.base[i]) < 2e-4f);
        assert_true(fabsf(kept.arms[i][0] - want.arms[i][0]) < 2e-4f);
    }
    must(genarm_session_keep_logprobs(s, -1, &err), &err);
    step(s);
    genarm_session_logprobs(s, &n);
    assert_int_equal(n, 0);
    assert_int_equal(genarm_session_keep_logprobs(s, 1001, &err), GENARM_EINVAL);
    drop(s);
    drop(scored);
}

struct tops {
    struct genarm_token_logprob items[16][5];
    float arms[16][5];
    size_t n;
};

static int collect_tops(const struct genarm_token_score *score, void *user) {
    struct tops *t = user;
    assert_int_equal(score->n_top, 5);
    for (size_t k = 0; k < 5; k++) {
        t->items[t->n][k] = score->top[k];
        t->arms[t->n][k] = score->top[k].arms[0];
    }
    t->n++;
    return 0;
}

static void test_what_is_scored_has_the_likeliest_tokens_that_a_step_shows(void **state) {
    struct fixture *f = *state;
    const struct genarm_arm_params arm = {.adapter = f->first, .weight = 1.2f};
    struct genarm_session *s = make(f, NULL, &arm, 1), *scored = make(f, NULL, &arm, 1);
    struct genarm_error err = {0};
    struct tops stepped = {0}, tops = {0};
    int32_t tokens[16];
    size_t n;
    must(genarm_session_keep_logprobs(s, 5, &err), &err);
    must(genarm_session_keep_logprobs(scored, 5, &err), &err);
    for (int i = 0; i < 16; i++) {
        tokens[i] = step(s);
        const struct genarm_token_logprob *all = genarm_session_logprobs(s, &n);
        collect_tops(&(struct genarm_token_score){.top = all + 1, .n_top = n - 1}, &stepped);
    }
    must(genarm_session_score(scored, tokens, 16, collect_tops, &tops, &err), &err);
    assert_int_equal(tops.n, 16);
    for (int i = 0; i < 16; i++) {
        for (int k = 0; k < 5; k++) {
            assert_int_equal(tops.items[i][k].token, stepped.items[i][k].token);
            assert_true(fabsf(tops.items[i][k].guided - stepped.items[i][k].guided) < 2e-4f);
            assert_true(fabsf(tops.items[i][k].base - stepped.items[i][k].base) < 2e-4f);
            assert_true(fabsf(tops.arms[i][k] - stepped.arms[i][k]) < 2e-4f);
        }
    }
    must(genarm_session_keep_logprobs(scored, 0, &err), &err);
    assert_int_equal(score(scored, tokens, 16).n, 16);
    drop(s);
    drop(scored);
}

static void test_log_probabilities_show_arms_of_weight_0_too_and_change_nothing(void **state) {
    struct fixture *f = *state;
    struct genarm_session *s = make(f, NULL, &(struct genarm_arm_params){.adapter = f->first, .weight = 0.0f}, 1);
    struct genarm_session *plain = make(f, NULL, NULL, 0), *arm = make(f, f->first, NULL, 0);
    struct genarm_error err = {0};
    size_t n;
    must(genarm_session_keep_logprobs(s, 0, &err), &err);
    step(arm);
    for (int i = 0; i < 4; i++) {
        check_same(s, plain, 1);
        const struct genarm_token_logprob *own = genarm_session_logprobs(s, &n);
        assert_int_equal(n, 1);
        assert_true(i > 0 || fabsf(own->arms[0] - arm->logp[own->token]) < 2e-4f);
    }
    drop(s);
    drop(plain);
    drop(arm);
}

static void test_wrong_schedules_are_refused(void **state) {
    struct fixture *f = *state;
    struct genarm_session *s = make(f, NULL, &(struct genarm_arm_params){.adapter = f->first, .weight = 1.0f}, 1);
    struct genarm_error err = {0};
    struct genarm_knot many[40] = {{0}};
    const struct genarm_knot back[] = {{5, 1.0f}, {4, 1.0f}}, negative[] = {{-1, 1.0f}}, infinite[] = {{0, INFINITY}};
    assert_int_equal(genarm_session_set_schedule(s, 0, back, 2, &err), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "do not ascend: 4 after 5"));
    assert_int_equal(genarm_session_set_schedule(s, 0, negative, 1, &err), GENARM_EINVAL);
    assert_int_equal(genarm_session_set_schedule(s, 0, infinite, 1, &err), GENARM_EINVAL);
    assert_int_equal(genarm_session_set_schedule(s, 0, many, 40, &err), GENARM_EINVAL);
    assert_int_equal(genarm_session_set_schedule(s, 1, many, 1, &err), GENARM_EINVAL);
    assert_int_equal(genarm_session_set_weight(s, 0, NAN, &err), GENARM_EINVAL);
    drop(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_base_as_its_own_anti_expert_leaves_nothing_but_the_vocabulary),
        cmocka_unit_test(test_an_expert_and_an_equal_anti_expert_cancel),
        cmocka_unit_test(test_minus_reference_equals_an_anti_expert_and_the_base_serves_as_one),
        cmocka_unit_test(test_minus_reference_under_another_template_runs_a_hidden_policy),
        cmocka_unit_test(test_a_template_of_another_name_that_writes_the_same_costs_nothing),
        cmocka_unit_test(test_minus_reference_beside_an_adapted_base_runs_a_hidden_policy),
        cmocka_unit_test(test_arms_on_one_model_share_their_reference),
        cmocka_unit_test(test_a_model_without_adapter_has_no_reference),
        cmocka_unit_test(test_scores_with_a_hidden_reference_equal_those_without_and_of_two_arms),
        cmocka_unit_test(test_a_schedule_equals_weights_set_by_hand_at_every_token),
        cmocka_unit_test(test_a_policy_that_will_count_is_needed_ahead),
        cmocka_unit_test(test_the_gate_steers_where_the_base_is_unsure_and_nowhere_else),
        cmocka_unit_test(test_a_gate_of_0_is_always_open_and_one_of_infinity_never),
        cmocka_unit_test(test_a_bias_is_added_to_the_mixture_and_minus_infinity_forbids),
        cmocka_unit_test(test_a_grammar_leaves_the_mixture_of_what_it_allows),
        cmocka_unit_test(test_a_grammar_follows_tokens_that_are_only_drafted),
        cmocka_unit_test(test_a_grammar_that_allows_nothing_possible_is_an_error),
        cmocka_unit_test(test_log_probabilities_of_drawn_tokens_equal_their_scores),
        cmocka_unit_test(test_what_is_scored_has_the_likeliest_tokens_that_a_step_shows),
        cmocka_unit_test(test_log_probabilities_show_arms_of_weight_0_too_and_change_nothing),
        cmocka_unit_test(test_wrong_schedules_are_refused),
    };
    int n_failed = 0;
    for (golden_engine = GENARM_ENGINE_GENARM; golden_engine <= GENARM_ENGINE_LLAMA; golden_engine++) {
        n_failed += cmocka_run_group_tests_name(golden_engine_name(), tests, setup, teardown);
    }
    return n_failed;
}
