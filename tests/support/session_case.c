/* See session_case.h. */
#include "session_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "conditioned_case.h"
#include "golden.h"
#include "temp.h"

const struct genarm_message case_hello[1] = {{"user", "How are you, and what is the time?"}};

int session_case_setup(void **state) {
    struct session_case *f = calloc(1, sizeof *f);
    f->model = golden_model("llama.gguf");
    f->first = golden_adapter(f->model, "llama.lora.gguf");
    f->second = golden_adapter(f->model, "llama.lora2.gguf");
    *state = f;
    if (golden_engine == GENARM_ENGINE_LLAMA) {
        return 0;
    }
    struct conditioned_case c;
    struct genarm_error err = {0};
    conditioned_case_open(&c, "llama", false);
    conditioned_case_save(&c, temp_path("conditioned.gguf"));
    conditioned_case_close(&c);
    must(genarm_adapter_load(&f->conditioned, f->model, temp_path("conditioned.gguf"), &err), &err);
    return 0;
}

int session_case_teardown(void **state) {
    struct session_case *f = *state;
    genarm_adapter_free(f->conditioned);
    genarm_adapter_free(f->first);
    genarm_adapter_free(f->second);
    genarm_model_free(f->model);
    free(f);
    return 0;
}

struct genarm_guide_params case_params(int32_t n_ctx, enum genarm_kv_type kv_type) {
    struct genarm_guide_params p = genarm_guide_default_params();
    p.n_ctx = n_ctx;
    p.n_threads = 1;
    p.kv_type = kv_type;
    return p;
}

struct genarm_guide *case_guide(struct genarm_model *model, const struct case_arm *arms, int n_arms,
                                struct genarm_guide_params params) {
    struct genarm_guide *g;
    struct genarm_error err = {0};
    must(genarm_guide_new(&g, model, &params, &err), &err);
    for (int i = 0; i < n_arms; i++) {
        const char name[] = {(char)('a' + i), '\0'};
        const struct genarm_arm_params p = {.name = name, .model = model, .adapter = arms[i].adapter, .weight = arms[i].weight,
                                            .template_name = arms[i].template_name};
        must(genarm_guide_add_arm(g, &p, &err), &err);
    }
    return g;
}

struct genarm_guide *case_guide_first(const struct session_case *f, int32_t n_ctx, enum genarm_kv_type kv_type) {
    const struct case_arm arm = {.adapter = f->first, .weight = 1.0f};
    return case_guide(f->model, &arm, 1, case_params(n_ctx, kv_type));
}

struct genarm_session *case_session(struct genarm_guide *g, uint64_t seed) {
    struct genarm_session *s;
    struct genarm_error err = {0};
    struct genarm_sampling sampling = genarm_sampling_default();
    sampling.seed = seed;
    sampling.top_k = 60;
    must(genarm_session_new(&s, g, &sampling, &err), &err);
    return s;
}

void case_prompt(struct genarm_session *s, const struct genarm_message *messages, size_t n) {
    struct genarm_error err = {0};
    must(genarm_session_prompt(s, messages, n, &err), &err);
}

void case_answer(struct genarm_session *s, int32_t *tokens, int n) {
    struct genarm_error err = {0};
    for (int i = 0; i < n; i++) {
        must(genarm_session_step(s, &tokens[i], &err), &err);
    }
}

/* What a policy holds after answer token i. */
static void check_newest(const struct genarm_session *s, int32_t policy, const int32_t *tokens, int i) {
    const struct timeline *t = &s->timelines[policy];
    assert_in_range(t->n, 1, s->guide->params.n_ctx);
    assert_in_range(t->n_cached, 0, t->n + s->n_ahead);
    assert_int_equal(t->tokens[t->n - 1], tokens[i]);
    for (int back = 0; back <= i && t->n - 1 - back >= t->n_given; back++) {
        assert_int_equal(t->tokens[t->n - 1 - back], tokens[i - back]);
        assert_int_equal(t->tokens[t->n_prompt + i - back], tokens[i - back]);
    }
}

void case_answer_on(struct genarm_session *s, int32_t keep, int32_t *tokens, int n) {
    struct genarm_error err = {0};
    const int32_t n_ctx = s->guide->params.n_ctx;
    for (int i = 0; i < n; i++) {
        if (genarm_session_n_left(s) == 0) {
            assert_int_equal(genarm_session_step(s, &tokens[i], &err), GENARM_ECONTEXT);
            must(genarm_session_shift(s, keep, &err), &err);
            assert_in_range(genarm_session_n_left(s), 1, n_ctx - 2);
        }
        must(genarm_session_step(s, &tokens[i], &err), &err);
        assert_int_equal(genarm_session_n_tokens(s), i + 1);
        for (int32_t p = 0; p < s->guide->n_policies; p++) {
            check_newest(s, p, tokens, i);
        }
    }
}

void case_end(struct genarm_guide *g, struct genarm_session *s) {
    genarm_session_free(s);
    genarm_guide_free(g);
}
