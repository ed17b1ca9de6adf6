/* libllama as oracle on the default model: base and adapter rows of one step against two contexts of
 * libllama, three prompts, 64 steps each. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "guide/combine.h"
#include "support/golden.h"
#include "support/random_adapter.h"

enum { STEPS = 64, CTX = 128, THREADS = 2 };

static const char *const prompts[] = {
    "<|im_start|>user\nHow do I keep bread fresh for a week?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>system\nYou are terse.<|im_end|>\n<|im_start|>user\nName three rivers.<|im_end|>\n<|im_start|>assistant\n",
    "The quick brown fox",
};

/* How far logits may be off. F32 weights are compared without any other rounding: f32 cache, exact attention. */
struct limits {
    const char *file;
    float max_difference;
    double max_kl;
};

static const struct limits f32_limits = {"SmolLM2-135M-Instruct-F32.gguf", 1e-3f, 1e-5};

struct oracle {
    struct llama_model *model;
    struct llama_adapter_lora *lora;
    struct llama_context *base, *adapted;
};

static struct llama_context *oracle_context(struct llama_model *model) {
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = CTX;
    p.n_batch = p.n_ubatch = CTX;
    p.n_threads = p.n_threads_batch = THREADS;
    p.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    p.type_k = p.type_v = GGML_TYPE_F32;
    struct llama_context *ctx = llama_init_from_model(model, p);
    assert_non_null(ctx);
    return ctx;
}

static void oracle_open(struct oracle *o, const char *path, const char *adapter) {
    o->model = llama_model_load_from_file(path, llama_model_default_params());
    assert_non_null(o->model);
    o->lora = llama_adapter_lora_init(o->model, adapter);
    assert_non_null(o->lora);
    o->base = oracle_context(o->model);
    o->adapted = oracle_context(o->model);
    float scale = 1.0f;
    assert_int_equal(llama_set_adapters_lora(o->adapted, &o->lora, 1, &scale), 0);
}

static void oracle_close(struct oracle *o) {
    llama_free(o->base);
    llama_free(o->adapted);
    llama_model_free(o->model);
}

static const float *oracle_step(struct llama_context *ctx, int32_t *tokens, int32_t n) {
    assert_int_equal(llama_decode(ctx, llama_batch_get_one(tokens, n)), 0);
    return llama_get_logits_ith(ctx, -1);
}

static int32_t best(const float *x, int32_t n) {
    int32_t b = 0;
    for (int32_t i = 1; i < n; i++) {
        b = x[i] > x[b] ? i : b;
    }
    return b;
}

struct worst {
    float difference;
    double kl;
    int top_changed; /* the likeliest token differs by more than a near tie */
};

/* KL(want || got), largest difference, and whether the likeliest token is another one. */
static void compare(struct worst *w, const float *got, const float *want, int32_t n) {
    const double zg = (double)log_sum_exp(got, (size_t)n), zw = (double)log_sum_exp(want, (size_t)n);
    double kl = 0.0;
    for (int32_t i = 0; i < n; i++) {
        const float d = fabsf(got[i] - want[i]);
        w->difference = d > w->difference || isnan(d) ? d : w->difference;
        kl += exp((double)want[i] - zw) * (((double)want[i] - zw) - ((double)got[i] - zg));
    }
    w->kl = kl > w->kl || isnan(kl) ? kl : w->kl;
    const int32_t bg = best(got, n), bw = best(want, n);
    w->top_changed += bg != bw && want[bw] - want[bg] > 0.02f;
}

static void push(struct row *rows, const int32_t *tokens, int32_t n, int32_t pos, int32_t seq, int32_t adapter) {
    for (int32_t i = 0; i < n; i++) {
        rows[i] = (struct row){.token = tokens[i], .seq = seq, .pos = pos + i, .adapter = adapter, .output = i == n - 1};
    }
}

/* Follows libllama's greedy answer (of the adapter for every other prompt), comparing both rows at every step. */
static void follow(struct engine *e, struct oracle *o, int prompt, struct worst *w) {
    const int32_t n_vocab = e->model->hp.n_vocab;
    int32_t tokens[CTX], pos = 0;
    int32_t n = genarm_tokenize(e->model, prompts[prompt], strlen(prompts[prompt]), true, true, tokens, CTX);
    float *logits = calloc(2 * (size_t)n_vocab, sizeof *logits);
    struct row rows[2 * CTX];
    struct genarm_error err = {0};
    assert_in_range(n, 1, CTX - STEPS);
    llama_memory_clear(llama_get_memory(o->base), true);
    llama_memory_clear(llama_get_memory(o->adapted), true);
    for (int step = 0; step <= STEPS; step++) {
        push(rows, tokens, n, pos, 0, ENGINE_NO_ADAPTER);
        push(rows + n, tokens, n, pos, 1, 0);
        must(engine_forward(e, rows, 2 * n, logits, &err), &err);
        const float *base = oracle_step(o->base, tokens, n);
        const float *adapted = oracle_step(o->adapted, tokens, n);
        compare(w, logits, base, n_vocab);
        compare(w, logits + n_vocab, adapted, n_vocab);
        pos += n;
        n = 1;
        tokens[0] = best(prompt % 2 ? adapted : base, n_vocab);
    }
    free(logits);
}

static void test_rows_equal_libllama(void **state) {
    const struct limits *limits = *state;
    char path[512], adapter_path[64];
    struct genarm_model *model;
    struct genarm_adapter *adapter;
    struct engine *engine;
    struct oracle oracle;
    struct genarm_error err = {0};
    snprintf(path, sizeof path, "%s/%s", GENARM_MODEL_DIR, limits->file);
    snprintf(adapter_path, sizeof adapter_path, "/tmp/genarm-oracle-%d.gguf", (int)getpid());
    must(genarm_model_load(&model, path, NULL, &err), &err);
    must(random_adapter_write(adapter_path, model, 8, (1u << LINEAR_COUNT) - 1, 0.01f, 7, &err), &err);
    must(genarm_adapter_load(&adapter, model, adapter_path, &err), &err);
    const struct engine_params params = {.n_seq = 2, .n_ctx = CTX, .n_threads = THREADS, .kv_f32 = true};
    must(engine_rows_new(&engine, model, &params, &err), &err);
    must(engine_add_adapter(engine, adapter, &err), &err);
    oracle_open(&oracle, path, adapter_path);
    struct worst w = {0};
    for (int p = 0; p < 3; p++) {
        follow(engine, &oracle, p, &w);
    }
    print_message("%s: max difference %.2g, KL %.2g\n", limits->file, (double)w.difference, w.kl);
    oracle_close(&oracle);
    engine_free(engine);
    genarm_adapter_free(adapter);
    genarm_model_free(model);
    unlink(adapter_path);
    assert_true(w.difference <= limits->max_difference);
    assert_true(w.kl <= limits->max_kl);
    assert_int_equal(w.top_changed, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        {"F32 rows equal libllama", test_rows_equal_libllama, NULL, NULL, (void *)(uintptr_t)&f32_limits},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
