/* Both engines against Hugging Face's models: every architecture, with and without LoRA, however rows are batched. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "support/edit.h"
#include "support/golden.h"
#include "support/temp.h"

static const char *const names[] = {"llama", "llama-linear", "llama3", "llama-yarn", "mistral", "qwen2", "qwen3"};

struct fixture {
    struct golden golden;
    struct genarm_model *model;
    struct genarm_adapter *adapter;
    struct engine *engine;
};

static void setup(struct fixture *f, const char *name, const struct engine_params *params) {
    struct engine_params p = *params;
    char file[64];
    struct genarm_error err = {0};
    golden_open(&f->golden, name);
    snprintf(file, sizeof file, "%s.gguf", name);
    f->model = golden_model(file);
    snprintf(file, sizeof file, "%s.lora.gguf", name);
    f->adapter = golden_adapter(f->model, file);
    if (golden_engine == GENARM_ENGINE_LLAMA) {
        p.n_threads = 1; /* ggml's spin for each other within a graph, minutes on a busy core */
    }
    must(engine_new(&f->engine, f->model, &p, &err), &err);
    must(engine_add_adapter(f->engine, f->adapter, &err), &err);
}

static void teardown(struct fixture *f) {
    engine_free(f->engine);
    genarm_adapter_free(f->adapter);
    genarm_model_free(f->model);
    golden_close(&f->golden);
}

static float max_difference(const float *a, const float *b, size_t n) {
    float max = 0.0f;
    for (size_t i = 0; i < n; i++) {
        const float d = fabsf(a[i] - b[i]);
        max = d > max || isnan(d) ? d : max;
    }
    return max;
}

static void push_tokens(struct row *rows, int32_t *n, const int32_t *tokens, int32_t from, int32_t to, int32_t seq,
                        int32_t adapter) {
    for (int32_t p = from; p < to; p++) {
        rows[(*n)++] = (struct row){.token = tokens[p], .seq = seq, .pos = p, .adapter = adapter, .output = true};
    }
}

/* With the KV cache in f32 the engine is f32 throughout. In f16, rounding of keys, values and of the queries that meet
 * them costs up to 1e-2 on these models, whose weights are far larger than a real model's. */
static const float tolerance = 2e-4f, tolerance_f16 = 3e-2f;

static void check_within(float limit, const char *what, const char *name, const float *got, const float *want, size_t n) {
    const float d = max_difference(got, want, n);
    if (!(d <= limit)) {
        fail_msg("%s: %s differs by %g", name, what, (double)d);
    }
}

static void check(const char *what, const char *name, const float *got, const float *want, size_t n) {
    check_within(tolerance, what, name, got, want, n);
}

/* Both sequences, base and adapter, in one batch: four sequences of two lengths. */
static void test_one_batch_equals_pytorch(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct fixture f;
        setup(&f, names[i], &(struct engine_params){.n_seq = 4, .n_ctx = 64, .n_batch = 512, .n_threads = 2, .kv_type = GENARM_KV_F32});
        size_t n0, n1;
        const int32_t *s0 = golden_i32(&f.golden, &n0, "seq0.tokens"), *s1 = golden_i32(&f.golden, &n1, "seq1.tokens");
        const size_t V = (size_t)f.model->hp.n_vocab;
        struct row rows[256];
        int32_t n = 0;
        push_tokens(rows, &n, s0, 0, (int32_t)n0, 0, ENGINE_NO_ADAPTER);
        push_tokens(rows, &n, s1, 0, (int32_t)n1, 3, 0);
        push_tokens(rows, &n, s1, 0, (int32_t)n1, 2, ENGINE_NO_ADAPTER);
        push_tokens(rows, &n, s0, 0, (int32_t)n0, 1, 0);
        float *logits = calloc((size_t)n * V, sizeof *logits);
        struct genarm_error err = {0};
        must(engine_forward(f.engine, rows, n, logits, &err), &err);
        check("seq0", names[i], logits, golden_f32(&f.golden, NULL, "seq0.logits"), n0 * V);
        check("seq1 with LoRA", names[i], logits + n0 * V, golden_f32(&f.golden, NULL, "seq1.logits_lora"), n1 * V);
        check("seq1", names[i], logits + (n0 + n1) * V, golden_f32(&f.golden, NULL, "seq1.logits"), n1 * V);
        check("seq0 with LoRA", names[i], logits + (n0 + 2 * n1) * V, golden_f32(&f.golden, NULL, "seq0.logits_lora"), n0 * V);
        free(logits);
        teardown(&f);
    }
}

/* Prompt in pieces of three rows, then token by token, base and adapter as two rows of a step. */
static void test_cached_steps_equal_pytorch(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct fixture f;
        setup(&f, names[i], &(struct engine_params){.n_seq = 2, .n_ctx = 40, .n_batch = 3, .n_threads = 2, .kv_type = GENARM_KV_F32});
        size_t n_tokens;
        const int32_t *tokens = golden_i32(&f.golden, &n_tokens, "seq1.tokens");
        const int32_t n_prompt = (int32_t)golden_number(&f.golden, "golden.seq1.n_prompt");
        const size_t V = (size_t)f.model->hp.n_vocab;
        const float *base = golden_f32(&f.golden, NULL, "seq1.logits"), *lora = golden_f32(&f.golden, NULL, "seq1.logits_lora");
        float *logits = calloc(2 * n_tokens * V, sizeof *logits);
        struct row rows[128];
        struct genarm_error err = {0};
        for (int32_t p = 0, to; p < (int32_t)n_tokens; p = to) {
            int32_t n = 0;
            to = p == 0 ? n_prompt : p + 1;
            push_tokens(rows, &n, tokens, p, to, 0, ENGINE_NO_ADAPTER);
            push_tokens(rows, &n, tokens, p, to, 1, 0);
            must(engine_forward(f.engine, rows, n, logits, &err), &err);
            check("base", names[i], logits, base + (size_t)p * V, (size_t)(to - p) * V);
            check("LoRA", names[i], logits + (size_t)(to - p) * V, lora + (size_t)p * V, (size_t)(to - p) * V);
        }
        free(logits);
        teardown(&f);
    }
}

/* The fused step and the plain graph; of more rows, of types that tiny models do not have: tests/oracle/test_engine_batch.c. */
static void test_fused_equals_plain(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct fixture f, plain;
        setup(&f, names[i], &(struct engine_params){.n_seq = 4, .n_ctx = 64, .n_threads = 3, .kv_type = GENARM_KV_F32});
        setup(&plain, names[i], &(struct engine_params){.n_seq = 4, .n_ctx = 64, .n_threads = 2, .kv_type = GENARM_KV_F32, .plain = true});
        size_t n_tokens;
        const int32_t *tokens = golden_i32(&f.golden, &n_tokens, "seq1.tokens");
        const size_t V = (size_t)f.model->hp.n_vocab;
        float *a = calloc(8 * V, sizeof *a), *b = calloc(8 * V, sizeof *b);
        struct genarm_error err = {0};
        int32_t pos = 0;
        for (int32_t each = 1; each <= 4; each++) { /* 1, 2, 3, 4 new rows of two sequences, one with LoRA */
            struct row rows[8];
            int32_t n = 0;
            push_tokens(rows, &n, tokens, pos, pos + each, 1, 0);
            push_tokens(rows, &n, tokens, pos, pos + each, 3, ENGINE_NO_ADAPTER);
            rows[0].output = n <= 2;
            pos += each;
            must(engine_forward(f.engine, rows, n, a, &err), &err);
            must(engine_forward(plain.engine, rows, n, b, &err), &err);
            check("fused", names[i], a, b, (size_t)(n - !rows[0].output) * V);
        }
        free(a);
        free(b);
        teardown(&f);
        teardown(&plain);
    }
}

/* The llama of the golden files under its two adapters; teardown_two frees the second one. */
static struct genarm_adapter *setup_two(struct fixture *f, int32_t n_seq, int32_t n_threads) {
    struct genarm_error err = {0};
    setup(f, "llama", &(struct engine_params){.n_seq = n_seq, .n_ctx = 64, .n_threads = n_threads, .kv_type = GENARM_KV_F32});
    struct genarm_adapter *second = golden_adapter(f->model, "llama.lora2.gguf");
    must(engine_add_adapter(f->engine, second, &err), &err);
    return second;
}

static void teardown_two(struct fixture *f, struct genarm_adapter *second) {
    engine_free(f->engine);
    f->engine = NULL;
    genarm_adapter_free(second);
    teardown(f);
}

static void test_two_adapters_share_a_batch(void **state) {
    (void)state;
    struct fixture f;
    struct genarm_error err = {0};
    struct genarm_adapter *second = setup_two(&f, 3, 1);
    size_t n_tokens;
    const int32_t *tokens = golden_i32(&f.golden, &n_tokens, "seq1.tokens");
    const size_t V = (size_t)f.model->hp.n_vocab;
    struct row rows[128];
    int32_t n = 0;
    push_tokens(rows, &n, tokens, 0, (int32_t)n_tokens, 1, 1);
    push_tokens(rows, &n, tokens, 0, (int32_t)n_tokens, 0, ENGINE_NO_ADAPTER);
    push_tokens(rows, &n, tokens, 0, (int32_t)n_tokens, 2, 0);
    float *logits = calloc((size_t)n * V, sizeof *logits);
    must(engine_forward(f.engine, rows, n, logits, &err), &err);
    check("second LoRA", "llama", logits, golden_f32(&f.golden, NULL, "seq1.logits_lora2"), n_tokens * V);
    check("base", "llama", logits + n_tokens * V, golden_f32(&f.golden, NULL, "seq1.logits"), n_tokens * V);
    check("first LoRA", "llama", logits + 2 * n_tokens * V, golden_f32(&f.golden, NULL, "seq1.logits_lora"), n_tokens * V);
    free(logits);
    teardown_two(&f, second);
}

/* A row of each sequence at a time. Which of them have an adapter in common is in no order. */
static void test_adapters_in_any_order_of_sequences(void **state) {
    (void)state;
    enum { N_SEQ = 7 };
    static const int32_t adapters[N_SEQ] = {1, 0, 1, 1, ENGINE_NO_ADAPTER, 0, 1};
    static const char *const wanted[] = {"seq1.logits", "seq1.logits_lora", "seq1.logits_lora2"};
    struct fixture f;
    struct genarm_error err = {0};
    struct genarm_adapter *second = setup_two(&f, N_SEQ, 2);
    size_t n_tokens;
    const int32_t *tokens = golden_i32(&f.golden, &n_tokens, "seq1.tokens");
    const size_t V = (size_t)f.model->hp.n_vocab;
    float *logits = calloc(N_SEQ * V, sizeof *logits);
    for (int32_t pos = 0; pos < (int32_t)n_tokens; pos++) {
        struct row rows[N_SEQ];
        int32_t n = 0;
        for (int32_t s = 0; s < N_SEQ; s++) {
            push_tokens(rows, &n, tokens, pos, pos + 1, s, adapters[s]);
        }
        must(engine_forward(f.engine, rows, n, logits, &err), &err);
        for (int32_t s = 0; s < N_SEQ; s++) {
            const float *want = golden_f32(&f.golden, NULL, "%s", wanted[adapters[s] + 1]);
            check("one of several", "llama", logits + (size_t)s * V, want + (size_t)pos * V, V);
        }
    }
    free(logits);
    teardown_two(&f, second);
}

static void test_copied_prefix_continues_as_the_original(void **state) {
    (void)state;
    struct fixture f;
    setup(&f, "qwen3", &(struct engine_params){.n_seq = 2, .n_ctx = 64, .n_threads = 1, .kv_type = GENARM_KV_F32});
    size_t n_tokens;
    const int32_t *tokens = golden_i32(&f.golden, &n_tokens, "seq1.tokens");
    const size_t V = (size_t)f.model->hp.n_vocab;
    struct row rows[128];
    int32_t n = 0;
    float *logits = calloc(n_tokens * V, sizeof *logits);
    struct genarm_error err = {0};
    push_tokens(rows, &n, tokens, 0, 11, 0, ENGINE_NO_ADAPTER);
    must(engine_forward(f.engine, rows, n, logits, &err), &err);
    must(engine_copy_prefix(f.engine, 0, 1, 11, &err), &err);
    n = 0;
    push_tokens(rows, &n, tokens, 11, (int32_t)n_tokens, 1, ENGINE_NO_ADAPTER);
    must(engine_forward(f.engine, rows, n, logits, &err), &err);
    check("continuation", "qwen3", logits, golden_f32(&f.golden, NULL, "seq1.logits") + 11 * V, (n_tokens - 11) * V);
    free(logits);
    teardown(&f);
}

static void test_cache_in_f16_stays_close(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct fixture f;
        setup(&f, names[i], &(struct engine_params){.n_seq = 1, .n_ctx = 64, .n_threads = 2});
        size_t n_tokens;
        const int32_t *tokens = golden_i32(&f.golden, &n_tokens, "seq1.tokens");
        const size_t V = (size_t)f.model->hp.n_vocab;
        struct row rows[64];
        int32_t n = 0;
        float *logits = calloc(n_tokens * V, sizeof *logits);
        struct genarm_error err = {0};
        push_tokens(rows, &n, tokens, 0, (int32_t)n_tokens, 0, 0);
        must(engine_forward(f.engine, rows, n, logits, &err), &err);
        check_within(tolerance_f16, "LoRA", names[i], logits, golden_f32(&f.golden, NULL, "seq1.logits_lora"), n_tokens * V);
        free(logits);
        teardown(&f);
    }
}

static void test_rows_without_output_only_fill_the_cache(void **state) {
    (void)state;
    struct fixture f;
    setup(&f, "qwen2", &(struct engine_params){.n_seq = 1, .n_ctx = 64, .n_threads = 1, .kv_type = GENARM_KV_F32});
    size_t n_tokens;
    const int32_t *tokens = golden_i32(&f.golden, &n_tokens, "seq0.tokens");
    const size_t V = (size_t)f.model->hp.n_vocab;
    struct row rows[64];
    int32_t n = 0;
    float *logits = calloc(V, sizeof *logits);
    struct genarm_error err = {0};
    push_tokens(rows, &n, tokens, 0, (int32_t)n_tokens, 0, ENGINE_NO_ADAPTER);
    for (int32_t i = 0; i < n; i++) {
        rows[i].output = false;
    }
    must(engine_forward(f.engine, rows, n - 1, NULL, &err), &err);
    rows[n - 1].output = true;
    must(engine_forward(f.engine, rows + n - 1, 1, logits, &err), &err);
    check("last row", "qwen2", logits, golden_f32(&f.golden, NULL, "seq0.logits") + (n_tokens - 1) * V, V);
    free(logits);
    teardown(&f);
}

/* What of an adapter lies behind the last attention, in which rows without output have no part. */
static void test_an_adapter_may_have_nothing_to_do_in_a_pass_without_outputs(void **state) {
    (void)state;
    if (golden_engine == GENARM_ENGINE_LLAMA) {
        skip();
    }
    for (int plain = 0; plain < 2; plain++) {
        const struct engine_params params = {
            .n_seq = 2, .n_ctx = 64, .n_threads = 1, .kv_type = GENARM_KV_F32, .plain = plain != 0};
        struct fixture f;
        struct engine *e;
        struct genarm_error err = {0};
        size_t n_tokens;
        setup(&f, "llama", &params);
        struct lora (*layers)[LINEAR_COUNT] = f.adapter->layers;
        struct lora down = layers[f.model->hp.n_layer - 1][LINEAR_DOWN];
        assert_non_null(down.a);
        memset(layers, 0, (size_t)f.model->hp.n_layer * sizeof *layers);
        layers[f.model->hp.n_layer - 1][LINEAR_DOWN] = down;
        must(engine_new(&e, f.model, &params, &err), &err);
        must(engine_add_adapter(e, f.adapter, &err), &err);
        const int32_t *tokens = golden_i32(&f.golden, &n_tokens, "seq0.tokens");
        const size_t V = (size_t)f.model->hp.n_vocab;
        float *whole = calloc(n_tokens * V, sizeof *whole), *last = calloc(V, sizeof *last);
        struct row rows[64];
        int32_t n = 0;
        push_tokens(rows, &n, tokens, 0, (int32_t)n_tokens, 0, 0);
        must(engine_forward(e, rows, n, whole, &err), &err);
        n = 0;
        push_tokens(rows, &n, tokens, 0, (int32_t)n_tokens, 1, 0);
        for (int32_t i = 0; i < n - 1; i++) {
            rows[i].output = false;
        }
        must(engine_forward(e, rows, n - 1, NULL, &err), &err);
        must(engine_forward(e, rows + n - 1, 1, last, &err), &err);
        check("last row", "llama", last, whole + (n_tokens - 1) * V, V);
        free(whole);
        free(last);
        engine_free(e);
        teardown(&f);
    }
}

/* Positions that hold what is no number reach rows that look past them, until they are cleared. */
static void test_a_cleared_sequence_leaves_nothing_behind(void **state) {
    (void)state;
    if (golden_engine == GENARM_ENGINE_LLAMA) {
        skip();
    }
    enum { N = 96, AGAIN = 70 };
    struct fixture f;
    struct buf saved;
    struct genarm_error err = {0};
    setup(&f, "llama", &(struct engine_params){.n_seq = 2, .n_ctx = 256, .n_threads = 1, .kv_type = GENARM_KV_F16});
    const size_t V = (size_t)f.model->hp.n_vocab;
    float *want = calloc(V, sizeof *want), *got = calloc(V, sizeof *got);
    struct row rows[N];
    for (int32_t i = 0; i < N; i++) {
        rows[i] = (struct row){.token = 3 + i % 40, .pos = i, .adapter = ENGINE_NO_ADAPTER, .output = i == AGAIN - 1};
    }
    must(engine_forward(f.engine, rows, AGAIN, want, &err), &err);
    rows[AGAIN - 1].output = false;
    must(engine_forward(f.engine, rows + AGAIN, N - AGAIN, NULL, &err), &err);
    buf_init(&saved, 1 << 24);
    must(engine_save(f.engine, 0, N, &saved, &err), &err);
    char *bytes = saved.data;
    memset(bytes + saved.len / 2, 0xff, saved.len - saved.len / 2); /* NaN in the layers of the second half */
    must(engine_load(f.engine, 0, N, saved.data, saved.len, &err), &err);
    engine_clear(f.engine, 0);
    rows[AGAIN - 1].output = true;
    must(engine_forward(f.engine, rows, AGAIN, got, &err), &err);
    assert_true(max_difference(want, got, V) <= 0.0f);
    buf_deinit(&saved);
    free(want);
    free(got);
    teardown(&f);
}

/* ---- shares of an output ---- */

/* Position `pos` of the base (sequence 0), of it through LoRA (1), and of another text (2). Every third output is the base's
 * alone, every third has a share of the second, every third of both. */
static void push_position(struct row *rows, int32_t *n, const int32_t *text, const int32_t *other, int32_t pos, bool mixed) {
    const int32_t n_parts = mixed ? 1 + pos % 3 : 3;
    const float shares[] = {0.0f, 0.7f, -0.4f};
    for (int32_t i = 2; i >= n_parts; i--) {
        push_tokens(rows, n, i == 2 ? other : text, pos, pos + 1, i, i == 1 ? 0 : ENGINE_NO_ADAPTER);
        rows[*n - 1].output = false;
    }
    for (int32_t i = 0; i < n_parts; i++) {
        push_tokens(rows, n, i == 2 ? other : text, pos, pos + 1, i, i == 1 ? 0 : ENGINE_NO_ADAPTER);
        rows[*n - 1].share = mixed ? shares[i] : 0.0f;
    }
}

/* Passes of 1, 2, 4, … positions: every way to compute, a number of rows for each. */
static void check_shares_within(float limit, const char *name, const struct fixture *f) {
    enum { N = 20 };
    const int32_t *text = golden_i32(&f->golden, NULL, "seq1.tokens"), *other = golden_i32(&f->golden, NULL, "seq0.tokens");
    const size_t V = (size_t)engine_n_output(f->engine);
    float *parts = calloc(3 * N * V, sizeof *parts), *want = calloc(N * V, sizeof *want), *got = calloc(N * V, sizeof *got);
    struct genarm_error err = {0};
    struct row rows[3 * N];
    int32_t n = 0;
    for (int32_t pos = 0; pos < N; pos++) {
        push_position(rows, &n, text, other, pos, false);
    }
    must(engine_forward(f->engine, rows, n, parts, &err), &err);
    for (size_t i = 0; i < N * V; i++) {
        const size_t pos = i / V;
        const float *p = parts + pos * 3 * V + i % V;
        want[i] = p[0] + (pos % 3 >= 1 ? 0.7f * p[V] : 0.0f) - (pos % 3 == 2 ? 0.4f * p[2 * V] : 0.0f);
    }
    for (int32_t pos = 0, each = 1; pos < N; each *= 2) {
        const int32_t from = pos;
        n = 0;
        for (; pos < from + each && pos < N; pos++) {
            push_position(rows, &n, text, other, pos, true);
        }
        must(engine_forward(f->engine, rows, n, got + (size_t)from * V, &err), &err);
    }
    check_within(limit, "mixture", name, got, want, N * V);
    free(parts);
    free(want);
    free(got);
}

static void check_shares(const char *name, const struct engine_params *params) {
    struct fixture f;
    setup(&f, name, params);
    check_shares_within(tolerance, name, &f);
    teardown(&f);
}

/* The embedding, which is the head too, in 8 bits: what meets it is rounded before or after the sum. */
static void test_shares_of_an_output_under_a_quantised_head_stay_close(void **state) {
    (void)state;
    for (int plain = 0; plain <= 1 && golden_engine != GENARM_ENGINE_LLAMA; plain++) {
        struct fixture f = {0};
        struct genarm_error err = {0};
        struct edit e;
        golden_open(&f.golden, "llama");
        edit_open(&e, golden_path("llama.gguf"));
        edit_convert(&e, "token_embd.weight", GGML_TYPE_Q8_0);
        must(genarm_model_load(&f.model, edit_save(&e, temp_path("head.gguf")), NULL, &err), &err);
        f.adapter = golden_adapter(f.model, "llama.lora.gguf");
        const struct engine_params p = {.n_seq = 3, .n_ctx = 64, .n_threads = 1, .kv_type = GENARM_KV_F32, .plain = plain};
        must(engine_new(&f.engine, f.model, &p, &err), &err);
        must(engine_add_adapter(f.engine, f.adapter, &err), &err);
        check_shares_within(0.15f, "llama", &f); /* ggml's products round it to 8 bits */
        teardown(&f);
    }
}

static void test_shares_of_an_output_equal_outputs_added_up(void **state) {
    (void)state;
    if (golden_engine == GENARM_ENGINE_LLAMA) {
        return; /* it refuses them, see below */
    }
    struct engine_params p = {.n_seq = 3, .n_ctx = 64, .n_batch = 512, .n_threads = 1, .kv_type = GENARM_KV_F32};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        p.n_threads = i == 0 ? 3 : 1;
        check_shares(names[i], &p);
    }
    p.plain = true;
    check_shares("llama", &p);
    p.n_batch = 4; /* cuts between mixtures */
    check_shares("llama", &p);
    p.hidden = true;
    check_shares("llama", &p);
    p.plain = false;
    check_shares("llama", &p);
}

static void test_shares_of_no_output_are_refused(void **state) {
    (void)state;
    struct fixture f;
    setup(&f, "llama", &(struct engine_params){.n_seq = 3, .n_ctx = 8, .n_batch = 2, .n_threads = 1, .kv_type = GENARM_KV_F32});
    float *logits = calloc(3 * (size_t)f.model->hp.n_vocab, sizeof *logits);
    struct genarm_error err = {0};
    const bool mixes = engine_mixes(f.engine, 2);
    assert_int_equal(mixes, golden_engine != GENARM_ENGINE_LLAMA);
    assert_false(engine_mixes(f.engine, 3)); /* more than a pass */
    struct row rows[3];
    for (int32_t i = 0; i < 3; i++) {
        rows[i] = (struct row){.token = 5, .seq = i, .adapter = ENGINE_NO_ADAPTER, .output = true, .share = i ? 0.5f : 0.0f};
    }
    assert_int_equal(engine_forward(f.engine, rows, 2, logits, &err), mixes ? GENARM_OK : GENARM_EINVAL);
    assert_int_equal(engine_forward(f.engine, rows, 3, logits, &err), GENARM_EINVAL);
    assert_int_equal(engine_forward(f.engine, rows + 1, 1, logits, &err), GENARM_EINVAL);
    rows[0].output = false;
    assert_int_equal(engine_forward(f.engine, rows, 2, logits, &err), GENARM_EINVAL);
    rows[0].output = true;
    rows[1].output = false;
    assert_int_equal(engine_forward(f.engine, rows, 2, logits, &err), GENARM_EINVAL);
    free(logits);
    teardown(&f);
}

static void test_rows_out_of_range_are_refused(void **state) {
    (void)state;
    struct fixture f;
    setup(&f, "llama", &(struct engine_params){.n_seq = 2, .n_ctx = 8, .n_threads = 1, .kv_type = GENARM_KV_F32});
    float *logits = calloc((size_t)f.model->hp.n_vocab, sizeof *logits);
    const struct row good = {.token = 5, .seq = 0, .pos = 0, .adapter = ENGINE_NO_ADAPTER, .output = true};
    const struct {
        struct row row;
        int code;
    } bad[] = {
        {{.token = -1, .seq = 0, .pos = 0, .adapter = -1}, GENARM_EINVAL},
        {{.token = 301, .seq = 0, .pos = 0, .adapter = -1}, GENARM_EINVAL},
        {{.token = 5, .seq = 2, .pos = 0, .adapter = -1}, GENARM_EINVAL},
        {{.token = 5, .seq = -1, .pos = 0, .adapter = -1}, GENARM_EINVAL},
        {{.token = 5, .seq = 0, .pos = 8, .adapter = -1}, GENARM_ECONTEXT},
        {{.token = 5, .seq = 0, .pos = 1, .adapter = -1}, GENARM_EINVAL}, /* a gap */
        {{.token = 5, .seq = 0, .pos = 0, .adapter = 1}, GENARM_EINVAL},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct genarm_error err = {0};
        assert_int_equal(engine_forward(f.engine, &bad[i].row, 1, logits, &err), bad[i].code);
        assert_true(err.what[0] != '\0');
    }
    struct genarm_error err = {0};
    must(engine_forward(f.engine, &good, 1, logits, &err), &err);
    free(logits);
    teardown(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_batch_equals_pytorch),
        cmocka_unit_test(test_cached_steps_equal_pytorch),
        cmocka_unit_test(test_fused_equals_plain),
        cmocka_unit_test(test_two_adapters_share_a_batch),
        cmocka_unit_test(test_adapters_in_any_order_of_sequences),
        cmocka_unit_test(test_copied_prefix_continues_as_the_original),
        cmocka_unit_test(test_cache_in_f16_stays_close),
        cmocka_unit_test(test_rows_without_output_only_fill_the_cache),
        cmocka_unit_test(test_an_adapter_may_have_nothing_to_do_in_a_pass_without_outputs),
        cmocka_unit_test(test_a_cleared_sequence_leaves_nothing_behind),
        cmocka_unit_test(test_shares_of_an_output_equal_outputs_added_up),
        cmocka_unit_test(test_shares_of_an_output_under_a_quantised_head_stay_close),
        cmocka_unit_test(test_shares_of_no_output_are_refused),
        cmocka_unit_test(test_rows_out_of_range_are_refused),
    };
    int n_failed = 0;
    for (golden_engine = GENARM_ENGINE_GENARM; golden_engine <= GENARM_ENGINE_LLAMA; golden_engine++) {
        n_failed += cmocka_run_group_tests_name(golden_engine_name(), tests, NULL, NULL);
    }
    return n_failed;
}
