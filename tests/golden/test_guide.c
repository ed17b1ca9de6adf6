/* Guided decoding on tiny models: the identities that hold whatever the weights are, and PyTorch's numbers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guide/combine.h"
#include "guide/session.h"
#include "support/edit.h"
#include "support/golden.h"
#include "support/temp.h"

enum { ANSWER = 24 };

static const struct genarm_message hello[] = {{"user", "How are you, and what is the time?"}};

struct arm {
    struct genarm_model *model;
    struct genarm_adapter *adapter;
    float weight;
};

static struct genarm_guide *make_guide(struct genarm_model *base, const struct arm *arms, int n_arms,
                                       struct genarm_guide_params params) {
    struct genarm_guide *g;
    struct genarm_error err = {0};
    must(genarm_guide_new(&g, base, &params, &err), &err);
    for (int i = 0; i < n_arms; i++) {
        const char name[] = {(char)('a' + i), '\0'};
        const struct genarm_arm_params p = {.name = name, .model = arms[i].model, .adapter = arms[i].adapter,
                                            .weight = arms[i].weight};
        must(genarm_guide_add_arm(g, &p, &err), &err);
    }
    return g;
}

static struct genarm_guide_params small(void) {
    struct genarm_guide_params p = genarm_guide_default_params();
    p.n_ctx = 128;
    p.n_threads = 1;
    p.kv_type = GENARM_KV_F32; /* identities hold to f32 rounding, whatever path a batch takes */
    return p;
}

static struct genarm_session *make_session(struct genarm_guide *g, uint64_t seed) {
    struct genarm_session *s;
    struct genarm_error err = {0};
    struct genarm_sampling sampling = genarm_sampling_default();
    sampling.seed = seed;
    must(genarm_session_new(&s, g, &sampling, &err), &err);
    must(genarm_session_prompt(s, hello, 1, &err), &err);
    return s;
}

static void answer(struct genarm_session *s, int32_t *tokens, int n) {
    struct genarm_error err = {0};
    for (int i = 0; i < n; i++) {
        must(genarm_session_step(s, &tokens[i], &err), &err);
    }
}

/* The answer of a fresh guide and session. */
static void answer_of(struct genarm_model *base, const struct arm *arms, int n_arms, int32_t *tokens) {
    struct genarm_guide *g = make_guide(base, arms, n_arms, small());
    struct genarm_session *s = make_session(g, 5);
    answer(s, tokens, ANSWER);
    genarm_session_free(s);
    genarm_guide_free(g);
}

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

static void test_guided_with_zero_weights_equals_base(void **state) {
    struct fixture *f = *state;
    int32_t base[ANSWER], guided[ANSWER];
    answer_of(f->model, NULL, 0, base);
    answer_of(f->model, (struct arm[]){{f->model, f->first, 0.0f}, {f->model, f->second, 0.0f}}, 2, guided);
    assert_memory_equal(base, guided, sizeof base);
    answer_of(f->model, (struct arm[]){{f->model, f->first, 1.0f}}, 1, guided);
    assert_memory_not_equal(base, guided, sizeof base); /* or the test would prove nothing */
}

static void test_two_equal_arms_at_half_weight_are_one(void **state) {
    struct fixture *f = *state;
    int32_t one[ANSWER], two[ANSWER];
    answer_of(f->model, (struct arm[]){{f->model, f->first, 0.8f}}, 1, one);
    answer_of(f->model, (struct arm[]){{f->model, f->first, 0.4f}, {f->model, f->first, 0.4f}}, 2, two);
    assert_memory_equal(one, two, sizeof one);
}

static void test_arm_on_a_second_copy_of_the_model_equals_arm_on_the_base(void **state) {
    struct fixture *f = *state;
    struct genarm_model *copy = golden_model("llama.gguf");
    struct genarm_adapter *adapter = golden_adapter(copy, "llama.lora.gguf");
    int32_t shared[ANSWER], separate[ANSWER];
    answer_of(f->model, (struct arm[]){{f->model, f->first, 0.8f}}, 1, shared);
    answer_of(f->model, (struct arm[]){{copy, adapter, 0.8f}}, 1, separate);
    assert_memory_equal(shared, separate, sizeof shared);
    genarm_adapter_free(adapter);
    genarm_model_free(copy);
}

static void test_base_as_its_own_arm_halves_the_temperature(void **state) {
    struct fixture *f = *state;
    struct genarm_guide *guided = make_guide(f->model, (struct arm[]){{f->model, NULL, 1.0f}}, 1, small());
    struct genarm_guide *plain = make_guide(f->model, NULL, 0, small());
    struct genarm_error err = {0};
    struct genarm_sampling sampling = genarm_sampling_default();
    struct genarm_session *a, *b;
    int32_t x[ANSWER], y[ANSWER];
    sampling.seed = 9;
    must(genarm_session_new(&a, guided, &sampling, &err), &err);
    sampling.temperature = 0.5f;
    must(genarm_session_new(&b, plain, &sampling, &err), &err);
    must(genarm_session_prompt(a, hello, 1, &err), &err);
    must(genarm_session_prompt(b, hello, 1, &err), &err);
    answer(a, x, ANSWER);
    answer(b, y, ANSWER);
    assert_memory_equal(x, y, sizeof x);
    genarm_session_free(a);
    genarm_session_free(b);
    genarm_guide_free(guided);
    genarm_guide_free(plain);
}

static void test_mixture_follows_pytorchs_logits(void **state) {
    struct fixture *f = *state;
    struct golden golden;
    golden_open(&golden, "llama");
    struct genarm_guide *g = make_guide(f->model, (struct arm[]){{f->model, f->first, 0.7f}, {f->model, f->second, 1.3f}}, 2, small());
    struct genarm_session *s = make_session(g, 1);
    size_t n_tokens;
    const int32_t *tokens = golden_i32(&golden, &n_tokens, "seq1.tokens");
    const size_t V = (size_t)f->model->hp.n_vocab;
    const float *logits[] = {golden_f32(&golden, NULL, "seq1.logits"), golden_f32(&golden, NULL, "seq1.logits_lora"),
                             golden_f32(&golden, NULL, "seq1.logits_lora2")};
    const float weights[] = {1.0f, 0.7f, 1.3f};
    for (int32_t p = 0; p < g->n_policies; p++) { /* put PyTorch's sequence in place of the conversation */
        memcpy(s->timelines[p].tokens, tokens, n_tokens * sizeof *tokens);
        s->timelines[p].n = s->timelines[p].n_prompt = (int32_t)n_tokens;
        s->timelines[p].n_cached = 0;
    }
    int32_t token;
    struct genarm_error err = {0};
    must(genarm_session_step(s, &token, &err), &err);
    float *want = calloc(V, sizeof *want);
    struct part parts[3];
    for (int p = 0; p < 3; p++) {
        parts[p] = (struct part){.logits = logits[p] + (n_tokens - 1) * V, .n = V, .weight = weights[p]};
    }
    combine(want, parts, 3);
    for (size_t t = 0; t < V; t++) {
        assert_true(fabsf(want[t] - s->logp[t]) < 2e-2f);
    }
    free(want);
    genarm_session_free(s);
    genarm_guide_free(g);
    golden_close(&golden);
}

static void test_weight_changed_between_tokens_takes_effect_and_catches_up(void **state) {
    struct fixture *f = *state;
    struct genarm_error err = {0};
    int32_t base[ANSWER], switched[ANSWER], guided[ANSWER];
    struct genarm_guide *g = make_guide(f->model, (struct arm[]){{f->model, f->first, 0.0f}}, 1, small());
    answer_of(f->model, NULL, 0, base);
    struct genarm_session *s = make_session(g, 5);
    answer(s, switched, ANSWER / 2);
    must(genarm_session_set_weight(s, 0, 2.0f, &err), &err);
    answer(s, switched + ANSWER / 2, ANSWER / 2);
    assert_memory_equal(base, switched, ANSWER / 2 * sizeof *base);
    assert_memory_not_equal(base, switched, sizeof base);
    /* the same with the ARM's cache kept up from the start: a weight too small to matter */
    struct genarm_session *kept;
    genarm_session_free(s);
    kept = make_session(g, 5);
    must(genarm_session_set_weight(kept, 0, 1e-30f, &err), &err);
    answer(kept, guided, ANSWER / 2);
    must(genarm_session_set_weight(kept, 0, 2.0f, &err), &err);
    answer(kept, guided + ANSWER / 2, ANSWER / 2);
    assert_memory_equal(switched, guided, sizeof switched);
    genarm_session_free(kept);
    genarm_guide_free(g);
}

static void test_sessions_together_equal_sessions_alone(void **state) {
    struct fixture *f = *state;
    struct genarm_guide_params params = small();
    params.n_slots = 3;
    const struct arm arms[] = {{f->model, f->first, 1.0f}, {f->model, f->second, 0.5f}};
    struct genarm_guide *g = make_guide(f->model, arms, 2, params);
    struct genarm_session *s[3];
    int32_t together[ANSWER][3], alone[ANSWER];
    struct genarm_error err = {0};
    for (int i = 0; i < 3; i++) {
        s[i] = make_session(g, (uint64_t)(20 + i));
    }
    for (int t = 0; t < ANSWER; t++) {
        must(genarm_sessions_step(s, 3, together[t], &err), &err);
    }
    for (int i = 0; i < 3; i++) {
        genarm_session_free(s[i]);
        s[i] = make_session(g, (uint64_t)(20 + i));
        answer(s[i], alone, ANSWER);
        for (int t = 0; t < ANSWER; t++) {
            assert_int_equal(alone[t], together[t][i]);
        }
    }
    for (int i = 0; i < 3; i++) {
        genarm_session_free(s[i]);
    }
    genarm_guide_free(g);
}

static void test_next_turn_on_a_reused_cache_equals_a_fresh_session(void **state) {
    struct fixture *f = *state;
    struct genarm_guide *g = make_guide(f->model, (struct arm[]){{f->model, f->first, 1.0f}}, 1, small());
    const struct genarm_message turns[] = {{"user", "How are you, and what is the time?"}, {"assistant", "Late."}, {"user", "Go on"}};
    int32_t reused[ANSWER], fresh[ANSWER];
    struct genarm_error err = {0};
    struct genarm_sampling greedy = genarm_sampling_default();
    greedy.temperature = 0.0f;
    struct genarm_session *s;
    must(genarm_session_new(&s, g, &greedy, &err), &err);
    must(genarm_session_prompt(s, turns, 1, &err), &err);
    answer(s, reused, 6);
    must(genarm_session_prompt(s, turns, 3, &err), &err);
    assert_true(s->timelines[0].n_cached > 4);
    answer(s, reused, ANSWER);
    genarm_session_free(s);
    must(genarm_session_new(&s, g, &greedy, &err), &err);
    must(genarm_session_prompt(s, turns, 3, &err), &err);
    answer(s, fresh, ANSWER);
    assert_memory_equal(reused, fresh, sizeof fresh);
    genarm_session_free(s);
    genarm_guide_free(g);
}

/* ---- mixing before the head ---- */

static struct genarm_session *greedy_session(struct genarm_guide *g) {
    struct genarm_session *s;
    struct genarm_error err = {0};
    struct genarm_sampling greedy = genarm_sampling_default();
    greedy.temperature = 0.0f;
    must(genarm_session_new(&s, g, &greedy, &err), &err);
    must(genarm_session_prompt(s, hello, 1, &err), &err);
    return s;
}

/* A session that keeps the parts' log-probabilities has logits of every part; the other one has them mixed by the engine. */
static void check_mixed_early(struct genarm_guide *g, const struct genarm_draft_params *draft) {
    struct genarm_session *early = greedy_session(g), *apart = greedy_session(g);
    struct genarm_error err = {0};
    must(genarm_session_set_draft(early, draft, &err), &err);
    must(genarm_session_keep_logprobs(apart, 0, &err), &err);
    assert_int_equal(session_mixes_early(early), golden_engine != GENARM_ENGINE_LLAMA);
    assert_false(session_mixes_early(apart));
    for (int i = 0; i < ANSWER; i++) {
        int32_t a, b;
        must(genarm_session_step(early, &a, &err), &err);
        must(genarm_session_step(apart, &b, &err), &err);
        assert_int_equal(a, b);
        for (int32_t t = 0; t < early->sampler.n_vocab; t++) {
            assert_true(fabsf(early->logp[t] - apart->logp[t]) < 1e-3f);
        }
    }
    genarm_session_free(early);
    genarm_session_free(apart);
}

static void test_mixing_before_the_head_equals_mixing_logits(void **state) {
    struct fixture *f = *state;
    struct genarm_guide_params params = small();
    struct genarm_draft_params draft = genarm_draft_default_params();
    params.n_slots = 2;
    draft.n_min = draft.n_max = 3;
    draft.n_lookup = 1;
    const struct arm arms[] = {{f->model, f->first, 0.8f}, {f->model, NULL, -0.3f}};
    for (int adapted = 0; adapted <= 1; adapted++) { /* an adapter on the base too: the same for it */
        params.base_adapter = adapted ? f->second : NULL;
        struct genarm_guide *g = make_guide(f->model, arms, 2, params);
        check_mixed_early(g, NULL);
        check_mixed_early(g, &draft); /* an output for each drafted token */
        genarm_guide_free(g);
    }
    params.base_adapter = NULL;
    params.n_batch = 2;
    struct genarm_guide *g = make_guide(f->model, arms, 2, params);
    struct genarm_session *s = greedy_session(g);
    assert_false(session_mixes_early(s)); /* no three rows in a pass of two */
    genarm_session_free(s);
    genarm_guide_free(g);
}

static void test_parts_are_mixed_before_the_head_only_where_nobody_looks_at_them(void **state) {
    struct fixture *f = *state;
    struct genarm_error err = {0};
    struct genarm_model *copy = golden_model("llama.gguf");
    struct genarm_guide *g = make_guide(f->model, (struct arm[]){{f->model, f->first, 1.0f}, {copy, NULL, 0.0f}}, 2, small());
    struct genarm_session *s = greedy_session(g);
    const bool mixes = golden_engine != GENARM_ENGINE_LLAMA;
    assert_int_equal(session_mixes_early(s), mixes);
    must(genarm_session_set_weight(s, 1, 0.5f, &err), &err); /* on an engine of its own */
    assert_false(session_mixes_early(s));
    must(genarm_session_set_weight(s, 1, 0.0f, &err), &err);
    must(genarm_session_set_min_entropy(s, 0.1f, &err), &err); /* looks at the base */
    assert_false(session_mixes_early(s));
    must(genarm_session_set_min_entropy(s, 0.0f, &err), &err);
    must(genarm_session_set_weight(s, 0, 0.0f, &err), &err); /* the base alone */
    assert_false(session_mixes_early(s));
    for (int i = 0; i < 2; i++) { /* no share of a base can be so large, or so small */
        must(genarm_session_set_weight(s, 0, i ? 1e6f : 1e-45f, &err), &err);
        assert_int_equal(session_mixes_early(s), mixes && i == 0);
    }
    genarm_session_free(s);
    genarm_guide_free(g);
    genarm_model_free(copy);
}

static void test_a_damaged_adapter_is_named_where_its_logits_are_mixed_before_the_head(void **state) {
    struct fixture *f = *state;
    struct genarm_error err = {0};
    struct genarm_guide_params params = small();
    struct edit e;
    params.n_slots = 2;
    edit_open(&e, golden_path("llama.lora.gguf"));
    gguf_set_val_f32(e.gguf, "adapter.lora.alpha", 1e38f);
    struct genarm_adapter *absurd = NULL;
    must(genarm_adapter_load(&absurd, f->model, edit_save(&e, temp_path("absurd.gguf")), &err), &err);
    const struct arm arms[] = {{f->model, absurd, 1.0f}, {f->model, f->second, 1.0f}};
    struct genarm_guide *g = make_guide(f->model, arms, 2, params);
    struct genarm_session *s[] = {greedy_session(g), greedy_session(g)};
    int32_t tokens[2];
    memset(&err, 0, sizeof err);
    assert_int_equal(genarm_session_step(s[0], tokens, &err), GENARM_EFORMAT);
    assert_string_equal(err.where, absurd->path);
    memset(&err, 0, sizeof err);
    assert_int_equal(genarm_sessions_step(s, 2, tokens, &err), GENARM_EFORMAT);
    assert_string_equal(err.where, absurd->path);
    for (int i = 0; i < 2; i++) { /* and all is well without it */
        must(genarm_session_set_weight(s[i], 0, 0.0f, &err), &err);
    }
    must(genarm_sessions_step(s, 2, tokens, &err), &err);
    assert_int_equal(tokens[0], tokens[1]);
    genarm_session_free(s[0]);
    genarm_session_free(s[1]);
    genarm_guide_free(g);
    genarm_adapter_free(absurd);
}

/* ---- vocabularies ---- */

static void test_padded_vocabulary_guides_like_the_exact_one(void **state) {
    struct fixture *f = *state;
    struct genarm_model *padded = golden_model("llama-padded.gguf");
    int32_t exact[ANSWER], with_padded_arm[ANSWER], with_padded_base[ANSWER];
    answer_of(f->model, (struct arm[]){{f->model, NULL, 1.0f}}, 1, exact);
    answer_of(f->model, (struct arm[]){{padded, NULL, 1.0f}}, 1, with_padded_arm);
    answer_of(padded, (struct arm[]){{f->model, NULL, 1.0f}}, 1, with_padded_base);
    for (int t = 0; t < ANSWER; t++) {
        assert_true(with_padded_arm[t] < f->model->hp.n_vocab);
        assert_true(with_padded_base[t] < f->model->hp.n_vocab);
    }
    /* the padded copy's normaliser does not depend on the token: the mixture over common tokens is the same */
    assert_memory_equal(exact, with_padded_arm, sizeof exact);
    assert_memory_equal(exact, with_padded_base, sizeof exact);
    genarm_model_free(padded);
}

static void test_other_vocabulary_is_refused_naming_the_token(void **state) {
    struct fixture *f = *state;
    struct genarm_model *other = golden_model("llama-mismatch.gguf");
    struct genarm_guide *g = make_guide(f->model, NULL, 0, small());
    struct genarm_error err = {0};
    const struct genarm_arm_params p = {.name = "x", .model = other, .weight = 1.0f};
    assert_int_equal(genarm_guide_add_arm(g, &p, &err), GENARM_EMISMATCH);
    assert_non_null(strstr(err.what, "290"));
    genarm_guide_free(g);
    genarm_model_free(other);
}

/* ---- scores ---- */

struct collected {
    int n;
    struct genarm_token_score at[32];
    float arms[32][2], reference[32][2];
};

static int collect(const struct genarm_token_score *score, void *user) {
    struct collected *c = user;
    c->at[c->n] = *score;
    memcpy(c->arms[c->n], score->arms, sizeof c->arms[0]);
    memcpy(c->reference[c->n++], score->reference, sizeof c->reference[0]);
    return 0;
}

/* Scores of the golden pairs under a guide with the two adapters as ARMs of weight 0. `adapted`: its base has the first one. */
static void check_scores(struct fixture *f, bool adapted) {
    struct golden golden;
    struct genarm_guide_params params = small();
    golden_open(&golden, "llama");
    params.base_adapter = adapted ? f->first : NULL;
    struct genarm_guide *g = make_guide(f->model, (struct arm[]){{f->model, f->first, 0.0f}, {f->model, f->second, 0.0f}}, 2, params);
    for (int pair = 0; pair < 3; pair++) {
        struct genarm_session *s = make_session(g, 1);
        size_t n_prompt, n;
        const int32_t *prompt = golden_i32(&golden, &n_prompt, "pair%d.prompt", pair);
        const int32_t *response = golden_i32(&golden, &n, "pair%d.chosen", pair);
        const float *reference = golden_f32(&golden, NULL, "pair%d.chosen_logp_base", pair);
        const float *arm = golden_f32(&golden, NULL, "pair%d.chosen_logp", pair), *base = adapted ? arm : reference;
        for (int32_t p = 0; p < g->n_policies; p++) {
            memcpy(s->timelines[p].tokens, prompt, n_prompt * sizeof *prompt);
            s->timelines[p].n = s->timelines[p].n_prompt = (int32_t)n_prompt;
        }
        struct collected c = {0};
        struct genarm_error err = {0};
        assert_true(session_scores_apart(s) == adapted);
        must(genarm_session_score(s, response, n, collect, &c, &err), &err);
        assert_int_equal(c.n, n);
        for (int t = 0; t < c.n; t++) {
            assert_int_equal(c.at[t].token, response[t]);
            assert_true(fabsf(c.at[t].base - base[t]) < 1e-2f);
            assert_true(fabsf(c.arms[t][0] - arm[t]) < 1e-2f);
            assert_true(fabsf(c.reference[t][0] - reference[t]) < 1e-2f);
            assert_true(fabsf(c.reference[t][1] - reference[t]) < 1e-2f);
            assert_true(fabsf(c.at[t].guided - c.at[t].base) < 1e-5f); /* weights are 0 */
        }
        genarm_session_free(s);
    }
    genarm_guide_free(g);
    golden_close(&golden);
}

static void test_scores_equal_pytorchs_log_probabilities(void **state) { check_scores(*state, false); }

static void test_scores_of_an_adapted_base_equal_pytorchs_and_references_are_without_adapters(void **state) {
    check_scores(*state, true);
}

static void test_an_adapter_that_changes_in_place_is_taken_when_told(void **state) {
    struct fixture *f = *state;
    int32_t base[ANSWER], before[ANSWER], after[ANSWER];
    struct genarm_error err = {0};
    struct genarm_guide_params params = small();
    answer_of(f->model, NULL, 0, base);
    params.base_adapter = f->first;
    struct genarm_guide *g = make_guide(f->model, NULL, 0, params);
    struct genarm_session *s = make_session(g, 5);
    answer(s, before, ANSWER);
    genarm_session_free(s);
    assert_memory_not_equal(before, base, sizeof base);
    for (int32_t l = 0; l < f->first->n_layer; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            struct ggml_tensor *b = f->first->layers[l][t].b;
            ggml_backend_tensor_memset(b, 0, 0, ggml_nbytes(b));
        }
    }
    if (golden_engine == GENARM_ENGINE_LLAMA) { /* it reads the adapter's file */
        assert_int_equal(guide_refresh_adapters(g, &err), GENARM_EUNSUPPORTED);
        genarm_guide_free(g);
        return;
    }
    must(guide_refresh_adapters(g, &err), &err);
    s = make_session(g, 5);
    answer(s, after, ANSWER);
    genarm_session_free(s);
    genarm_guide_free(g);
    assert_memory_equal(after, base, sizeof base); /* B = 0 adds nothing */
}

static void test_an_adapter_of_another_model_is_refused_for_the_base(void **state) {
    struct fixture *f = *state;
    struct genarm_model *copy = golden_model("llama.gguf");
    struct genarm_guide_params params = small();
    struct genarm_guide *g = NULL;
    struct genarm_error err = {0};
    params.base_adapter = f->first;
    assert_int_equal(genarm_guide_new(&g, copy, &params, &err), GENARM_EINVAL);
    assert_null(g);
    genarm_model_free(copy);
}

static void test_score_of_an_own_answer_equals_what_it_was_sampled_from(void **state) {
    struct fixture *f = *state;
    struct genarm_guide *g = make_guide(f->model, (struct arm[]){{f->model, f->first, 0.9f}, {f->model, f->second, 0.4f}}, 2, small());
    struct genarm_session *s = make_session(g, 3);
    int32_t tokens[ANSWER];
    float logp[ANSWER];
    struct genarm_error err = {0};
    for (int t = 0; t < ANSWER; t++) {
        must(genarm_session_step(s, &tokens[t], &err), &err);
        logp[t] = s->logp[tokens[t]];
    }
    must(genarm_session_prompt(s, hello, 1, &err), &err);
    struct collected c = {0};
    must(genarm_session_score(s, tokens, ANSWER, collect, &c, &err), &err);
    for (int t = 0; t < ANSWER; t++) {
        assert_true(fabsf(c.at[t].guided - logp[t]) < 1e-2f);
    }
    genarm_session_free(s);
    genarm_guide_free(g);
}

static void test_reference_under_another_template_is_the_arm_without_adapter(void **state) {
    struct fixture *f = *state;
    struct genarm_guide *g;
    struct genarm_error err = {0};
    struct genarm_guide_params params = small();
    must(genarm_guide_new(&g, f->model, &params, &err), &err);
    const struct genarm_arm_params with = {.name = "with", .model = f->model, .adapter = f->first, .weight = 1.0f,
                                           .template_name = "raw:Q: {prompt}\\nA:"};
    const struct genarm_arm_params without = {.name = "without", .model = f->model, .weight = 1.0f,
                                              .template_name = "raw:Q: {prompt}\\nA:"};
    must(genarm_guide_add_arm(g, &with, &err), &err);
    must(genarm_guide_add_arm(g, &without, &err), &err);
    struct genarm_session *s = make_session(g, 3);
    const int32_t response[] = {40, 50, 60, 2};
    struct collected c = {0}, pieces = {0};
    assert_true(session_scores_apart(s));
    must(genarm_session_score(s, response, 4, collect, &c, &err), &err);
    must(genarm_session_prompt(s, hello, 1, &err), &err);
    must(genarm_session_score(s, response, 1, collect, &pieces, &err), &err);
    must(genarm_session_score(s, response + 1, 3, collect, &pieces, &err), &err);
    for (int t = 0; t < 4; t++) {
        assert_true(fabsf(c.reference[t][0] - pieces.reference[t][0]) < 1e-3f);
        assert_true(fabsf(c.arms[t][0] - pieces.arms[t][0]) < 1e-3f);
        assert_true(fabsf(c.reference[t][0] - c.arms[t][1]) < 1e-3f);
        assert_true(fabsf(c.reference[t][1] - c.arms[t][1]) == 0.0f);
        assert_true(fabsf(c.reference[t][0] - c.at[t].base) > 1e-3f); /* another prompt: another number */
    }
    genarm_session_free(s);
    genarm_guide_free(g);
}

/* ---- bounds ---- */

static void test_full_context_is_an_error_not_a_crash(void **state) {
    struct fixture *f = *state;
    struct genarm_guide_params params = small();
    struct genarm_error err = {0};
    params.n_ctx = 100;
    struct genarm_guide *g = make_guide(f->model, (struct arm[]){{f->model, f->first, 1.0f}}, 1, params);
    struct genarm_session *s = make_session(g, 3);
    int32_t token;
    while (genarm_session_n_left(s) > 0) {
        must(genarm_session_step(s, &token, &err), &err);
    }
    assert_int_equal(genarm_session_n_prompt(s) + genarm_session_n_tokens(s), 100);
    assert_int_equal(genarm_session_step(s, &token, &err), GENARM_ECONTEXT);
    char text[512];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(genarm_session_prompt(s, (struct genarm_message[]){{"user", text}}, 1, &err), GENARM_ECONTEXT);
    genarm_session_free(s);
    genarm_guide_free(g);
}

static int ignore(const struct genarm_token_score *score, void *user) {
    (void)score;
    (void)user;
    return 0;
}

/* Nothing is sampled or scored from logits that are no numbers, and whose they are is said. */
static void test_logits_that_are_not_finite_are_an_error(void **state) {
    struct fixture *f = *state;
    struct genarm_error err = {0};
    struct genarm_model *broken = NULL;
    struct edit e;
    int32_t token = 5;
    edit_open(&e, golden_path("llama.gguf"));
    ((float *)edit_tensor(&e, "output_norm.weight")->data)[3] = NAN;
    must(genarm_model_load(&broken, edit_save(&e, temp_path("nan.gguf")), NULL, &err), &err);
    const struct arm arms[] = {{broken, NULL, 1.0f}};
    struct genarm_guide *g = make_guide(f->model, arms, 1, small());
    struct genarm_session *s = make_session(g, 1);
    assert_int_equal(genarm_session_step(s, &token, &err), GENARM_EFORMAT);
    assert_string_equal(err.where, broken->path);
    assert_int_equal(genarm_session_n_tokens(s), 0);
    must(genarm_session_set_weight(s, 0, 0.0f, &err), &err);
    must(genarm_session_step(s, &token, &err), &err); /* it is not asked */
    memset(&err, 0, sizeof err);
    assert_int_equal(genarm_session_score(s, &token, 1, ignore, NULL, &err), GENARM_EFORMAT);
    assert_string_equal(err.where, broken->path);
    genarm_session_free(s);
    genarm_guide_free(g);
    g = make_guide(f->model, (struct arm[]){{f->model, f->first, 3e38f}}, 1, small());
    s = make_session(g, 1);
    assert_int_equal(genarm_session_step(s, &token, &err), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "weights of the reward models"));
    genarm_session_free(s);
    genarm_guide_free(g);
    genarm_model_free(broken);
}

static void test_templates_that_cannot_be_applied_are_found_when_an_arm_is_added(void **state) {
    struct fixture *f = *state;
    struct genarm_error err = {0};
    struct genarm_guide_params params = small();
    struct genarm_guide *g = make_guide(f->model, NULL, 0, params);
    const struct genarm_arm_params arm = {
        .name = "a", .model = f->model, .adapter = f->first, .weight = 1.0f, .template_name = "chattml"};
    assert_int_equal(genarm_guide_add_arm(g, &arm, &err), GENARM_EINVAL);
    assert_string_equal(err.where, "ARM a");
    genarm_guide_free(g);
    params.template_name = "chattml";
    g = NULL;
    assert_int_equal(genarm_guide_new(&g, f->model, &params, &err), GENARM_EINVAL);
    assert_null(g);
}

static void test_bad_weights_names_and_slots_are_refused(void **state) {
    struct fixture *f = *state;
    struct genarm_guide *g = make_guide(f->model, (struct arm[]){{f->model, f->first, 1.0f}}, 1, small());
    struct genarm_error err = {0};
    const float bad[] = {-INFINITY, NAN, INFINITY};
    struct genarm_session *s = make_session(g, 1), *second;
    int32_t token;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(genarm_session_set_weight(s, 0, bad[i], &err), GENARM_EINVAL);
        assert_int_equal(genarm_guide_set_weight(g, 0, bad[i], &err), GENARM_EINVAL);
    }
    assert_int_equal(genarm_session_set_weight(s, 1, 1.0f, &err), GENARM_EINVAL);
    assert_int_equal(genarm_session_new(&second, g, NULL, &err), GENARM_EINVAL); /* one slot */
    genarm_session_free(s);
    must(genarm_session_new(&s, g, NULL, &err), &err);
    assert_int_equal(genarm_session_step(s, &token, &err), GENARM_EINVAL); /* no prompt */
    genarm_session_free(s);
    genarm_guide_free(g);
    g = make_guide(f->model, (struct arm[]){{f->model, f->first, 1.0f}}, 1, small());
    const struct genarm_arm_params twice = {.name = "a", .model = f->model, .weight = 1.0f};
    const struct genarm_arm_params endless = {.name = "b", .model = f->model, .weight = INFINITY};
    assert_int_equal(genarm_guide_add_arm(g, &twice, &err), GENARM_EINVAL);
    assert_int_equal(genarm_guide_add_arm(g, &endless, &err), GENARM_EINVAL);
    genarm_guide_free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guided_with_zero_weights_equals_base),
        cmocka_unit_test(test_two_equal_arms_at_half_weight_are_one),
        cmocka_unit_test(test_arm_on_a_second_copy_of_the_model_equals_arm_on_the_base),
        cmocka_unit_test(test_base_as_its_own_arm_halves_the_temperature),
        cmocka_unit_test(test_mixture_follows_pytorchs_logits),
        cmocka_unit_test(test_weight_changed_between_tokens_takes_effect_and_catches_up),
        cmocka_unit_test(test_sessions_together_equal_sessions_alone),
        cmocka_unit_test(test_next_turn_on_a_reused_cache_equals_a_fresh_session),
        cmocka_unit_test(test_mixing_before_the_head_equals_mixing_logits),
        cmocka_unit_test(test_parts_are_mixed_before_the_head_only_where_nobody_looks_at_them),
        cmocka_unit_test(test_a_damaged_adapter_is_named_where_its_logits_are_mixed_before_the_head),
        cmocka_unit_test(test_padded_vocabulary_guides_like_the_exact_one),
        cmocka_unit_test(test_other_vocabulary_is_refused_naming_the_token),
        cmocka_unit_test(test_scores_equal_pytorchs_log_probabilities),
        cmocka_unit_test(test_scores_of_an_adapted_base_equal_pytorchs_and_references_are_without_adapters),
        cmocka_unit_test(test_an_adapter_that_changes_in_place_is_taken_when_told),
        cmocka_unit_test(test_an_adapter_of_another_model_is_refused_for_the_base),
        cmocka_unit_test(test_score_of_an_own_answer_equals_what_it_was_sampled_from),
        cmocka_unit_test(test_reference_under_another_template_is_the_arm_without_adapter),
        cmocka_unit_test(test_full_context_is_an_error_not_a_crash),
        cmocka_unit_test(test_logits_that_are_not_finite_are_an_error),
        cmocka_unit_test(test_templates_that_cannot_be_applied_are_found_when_an_arm_is_added),
        cmocka_unit_test(test_bad_weights_names_and_slots_are_refused),
    };
    int n_failed = 0;
    for (golden_engine = GENARM_ENGINE_GENARM; golden_engine <= GENARM_ENGINE_LLAMA; golden_engine++) {
        n_failed += cmocka_run_group_tests_name(golden_engine_name(), tests, setup, teardown);
    }
    return n_failed;
}
