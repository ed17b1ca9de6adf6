/* See value_case.h. */
#include "value_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "golden.h"
#include "model/adapter.h"
#include "temp.h"

const struct genarm_message value_hello[1] = {{"user", "How are you, and what is the time?"}};

struct genarm_adapter *value_adapter(const struct genarm_model *model, const char *lora, const char *name) {
    struct genarm_adapter *ad = golden_adapter(model, lora), *with_head = NULL;
    struct genarm_error err = {0};
    float *head = malloc((size_t)model->hp.n_embd * sizeof *head);
    assert_non_null(head);
    for (int32_t i = 0; i < model->hp.n_embd; i++) {
        head[i] = sinf(1.0f + (float)i) / 4;
    }
    const struct adapter_info info = {.head = head, .n_head = (size_t)model->hp.n_embd};
    must(adapter_save(temp_path(name), &model->hp, ad->layers, ad->alpha, &info, &err), &err);
    must(genarm_adapter_load(&with_head, model, temp_path(name), &err), &err);
    free(head);
    genarm_adapter_free(ad);
    return with_head;
}

struct genarm_guide_params value_guide_params(int32_t n_ctx, int32_t n_slots) {
    struct genarm_guide_params p = genarm_guide_default_params();
    p.n_ctx = n_ctx;
    p.n_slots = n_slots;
    p.n_threads = 1;
    p.kv_type = GENARM_KV_F32;
    return p;
}

struct genarm_reward *value_new_reward(const struct genarm_model *model, const struct genarm_adapter *adapter,
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

int value_case_setup(void **state) {
    struct value_case *f = calloc(1, sizeof *f);
    f->model = golden_model("llama.gguf");
    f->padded = golden_model("llama-padded.gguf");
    f->arm = golden_adapter(f->model, "llama.lora2.gguf");
    f->reward = value_adapter(f->model, "llama.lora.gguf", "reward.gguf");
    f->brute = value_new_reward(f->model, f->reward, NULL);
    *state = f;
    return 0;
}

int value_case_teardown(void **state) {
    struct value_case *f = *state;
    genarm_reward_free(f->brute);
    genarm_adapter_free(f->reward);
    genarm_adapter_free(f->arm);
    genarm_model_free(f->model);
    genarm_model_free(f->padded);
    free(f);
    return 0;
}

struct genarm_value_params value_params(const struct value_case *f, int32_t k, float weight) {
    struct genarm_value_params p = genarm_value_default_params();
    p.model = f->model;
    p.adapter = f->reward;
    p.n_candidates = k;
    p.weight = weight;
    return p;
}

struct genarm_guide *value_guide(struct genarm_model *base, struct genarm_adapter *arm, float alpha, int32_t n_slots,
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

void value_answer(struct genarm_session *s, int32_t *tokens, int n) {
    struct genarm_error err = {0};
    for (int i = 0; i < n; i++) {
        must(genarm_session_step(s, &tokens[i], &err), &err);
    }
}

void value_end(struct genarm_guide *g, struct genarm_session *s) {
    genarm_session_free(s);
    genarm_guide_free(g);
}

void value_prompt(struct genarm_session *s, int i) {
    static const struct genarm_message prompts[VALUE_PROMPTS] = {
        {"user", "Hello."}, {"user", "What is the time, and why is it so late?"}, {"user", "Hello. And what now?"}};
    struct genarm_error err = {0};
    must(genarm_session_prompt(s, &prompts[i], 1, &err), &err);
}

struct genarm_session *value_session(struct genarm_guide *g, uint64_t seed, float temperature) {
    struct genarm_session *s = NULL;
    struct genarm_error err = {0};
    struct genarm_sampling sampling = genarm_sampling_default();
    sampling.seed = seed;
    sampling.temperature = temperature;
    must(genarm_session_new(&s, g, &sampling, &err), &err);
    must(genarm_session_prompt(s, value_hello, 1, &err), &err);
    return s;
}

int32_t value_context(const struct genarm_session *s, int32_t *tokens) {
    assert_in_range(s->timelines[0].n, 1, VALUE_MAX);
    memcpy(tokens, s->timelines[0].tokens, (size_t)s->timelines[0].n * sizeof *tokens);
    return s->timelines[0].n;
}

void value_plain(struct genarm_guide *plain, const int32_t *tokens, int32_t n, float *logp) {
    struct genarm_session *s = NULL;
    struct genarm_error err = {0};
    int32_t token;
    must(genarm_session_new(&s, plain, NULL, &err), &err);
    must(genarm_session_prompt_tokens(s, tokens, (size_t)n, &err), &err);
    must(genarm_session_step(s, &token, &err), &err);
    memcpy(logp, s->logp, (size_t)plain->policies[0].model->hp.n_vocab * sizeof *logp);
    genarm_session_free(s);
}

double value_reward(const struct value_brute *b, const int32_t *answer, int32_t n) {
    struct genarm_error err = {0};
    double reward = (double)NAN;
    must(genarm_reward_tokens(b->reward, value_hello, 1, answer, (size_t)n, &reward, &err), &err);
    return reward;
}

double value_args(const struct value_brute *b, const int32_t *context, int32_t n, int32_t n_prompt, int32_t token) {
    const struct genarm_model *model = b->plain->policies[0].model;
    int32_t answer[VALUE_MAX];
    memcpy(answer, context + n_prompt, (size_t)(n - n_prompt) * sizeof *answer);
    answer[n - n_prompt] = genarm_token_ends(model, token) ? genarm_token_eos(model) : token;
    return value_reward(b, answer, n - n_prompt + 1);
}

/* Whether fewer than k tokens are likelier. */
static bool is_candidate(const float *plain, int32_t n_vocab, int32_t token, int32_t k) {
    int32_t n_before = 0;
    for (int32_t t = 0; t < n_vocab; t++) {
        n_before += plain[t] > plain[token] || (plain[t] == plain[token] && t < token);
    }
    return n_before < k && plain[token] > -INFINITY;
}

int32_t value_expected(const struct value_brute *b, const struct genarm_session *s, double *logp) {
    const int32_t n_vocab = b->plain->policies[0].model->hp.n_vocab;
    int32_t context[VALUE_MAX], best = -1;
    float plain[VALUE_MAX];
    double sum = 0;
    const int32_t n = value_context(s, context), n_prompt = genarm_session_n_prompt(s);
    value_plain(b->plain, context, n, plain);
    for (int32_t t = 0; t < n_vocab; t++) {
        logp[t] = -INFINITY;
        if (is_candidate(plain, n_vocab, t, b->k)) {
            logp[t] = (double)plain[t] + (double)b->weight * b->value(b, context, n, n_prompt, t);
            best = best < 0 || logp[t] > logp[best] ? t : best;
        }
    }
    assert_true(best >= 0);
    for (int32_t t = 0; t < n_vocab; t++) {
        sum += exp(logp[t] - logp[best]);
    }
    const double norm = logp[best] + log(sum);
    for (int32_t t = 0; t < n_vocab; t++) {
        logp[t] -= norm;
    }
    return best;
}

int value_check_steps(const struct value_brute *b, struct genarm_session *s, int n) {
    const int32_t n_vocab = b->plain->policies[0].model->hp.n_vocab;
    double expected[VALUE_MAX];
    float plain[VALUE_MAX];
    int n_changed = 0;
    for (int i = 0; i < n; i++) {
        struct genarm_error err = {0};
        int32_t context[VALUE_MAX], token = -1, likeliest = 0;
        value_plain(b->plain, context, value_context(s, context), plain);
        const int32_t best = value_expected(b, s, expected);
        must(genarm_session_step(s, &token, &err), &err);
        for (int32_t t = 0; t < n_vocab; t++) {
            likeliest = plain[t] > plain[likeliest] ? t : likeliest;
            assert_int_equal(isfinite(expected[t]), isfinite(s->logp[t]));
            assert_true(!isfinite(expected[t]) || fabs(expected[t] - (double)s->logp[t]) < 1e-4 + 1e-5 * fabs(expected[t]));
        }
        if (s->sampler.params.temperature == 0.0f) {
            assert_int_equal(token, best);
        }
        n_changed += best != likeliest;
    }
    return n_changed;
}

void value_check_together(struct genarm_guide *g, struct genarm_session **s, int n, const int32_t *alone, int n_tokens) {
    int32_t tokens[16];
    struct genarm_error err;
    assert_true(n <= 16);
    for (int t = 0; t < n_tokens; t++) {
        must(genarm_sessions_step(s, (size_t)n, tokens, &err), &err);
        for (int i = 0; i < n; i++) {
            assert_int_equal(tokens[i], alone[i * n_tokens + t]);
        }
    }
    for (int i = 0; i < n; i++) {
        genarm_session_free(s[i]);
    }
    genarm_guide_free(g);
}
