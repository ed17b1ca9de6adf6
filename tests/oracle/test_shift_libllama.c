/* A shift against libllama's: the same tokens, the same forgotten positions, and the logits of what follows. libllama in F32,
 * ours with a cache in f32 or of 8 bits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <llama.h>

#include "engine/engine.h"
#include "support/golden.h"

enum { CTX = 96, FILL = 90, KEEP = 4, DROP = 40, MORE = 30 };

static int32_t token_at(int32_t i) { return 300 + 977 * i % 20000; }

static struct llama_context *context_of(struct llama_model *model) {
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = p.n_batch = p.n_ubatch = CTX;
    p.n_threads = p.n_threads_batch = 1;
    p.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    p.type_k = p.type_v = GGML_TYPE_F32;
    struct llama_context *ctx = llama_init_from_model(model, p);
    assert_non_null(ctx);
    return ctx;
}

static const float *decode(struct llama_context *ctx, int32_t from, int32_t to) {
    int32_t tokens[CTX];
    for (int32_t i = from; i < to; i++) {
        tokens[i - from] = token_at(i);
    }
    assert_int_equal(llama_decode(ctx, llama_batch_get_one(tokens, to - from)), 0);
    return llama_get_logits_ith(ctx, -1);
}

static void forward(struct engine *e, int32_t from, int32_t to, int32_t pos, float *logits) {
    struct row rows[CTX];
    struct genarm_error err = {0};
    for (int32_t i = from; i < to; i++) {
        rows[i - from] = (struct row){.token = token_at(i), .pos = pos + i - from, .adapter = ENGINE_NO_ADAPTER,
                                      .output = i == to - 1};
    }
    must(engine_forward(e, rows, to - from, logits, &err), &err);
}

static float largest_difference(const float *a, const float *b, int32_t n) {
    float largest = 0.0f;
    for (int32_t i = 0; i < n; i++) {
        const float d = fabsf(a[i] - b[i]);
        largest = d > largest || isnan(d) ? d : largest;
    }
    return largest;
}

static void check_shift(enum genarm_kv_type kv_type, float most) {
    const struct engine_params params = {.n_seq = 1, .n_ctx = CTX, .n_threads = 1, .kv_type = kv_type};
    char path[512];
    struct genarm_model *model;
    struct engine *e;
    struct genarm_error err = {0};
    snprintf(path, sizeof path, "%s/SmolLM2-135M-Instruct-F32.gguf", GENARM_MODEL_DIR);
    must(genarm_model_load(&model, path, NULL, &err), &err);
    must(engine_rows_new(&e, model, &params, &err), &err);
    struct llama_model *theirs = llama_model_load_from_file(path, llama_model_default_params());
    assert_non_null(theirs);
    struct llama_context *ctx = context_of(theirs);
    float *logits = calloc((size_t)model->hp.n_vocab, sizeof *logits);
    forward(e, 0, FILL, 0, logits);
    const float *want = decode(ctx, 0, FILL);
    float largest = largest_difference(logits, want, model->hp.n_vocab);
    must(engine_shift(e, 0, KEEP, DROP, &err), &err);
    llama_memory_t memory = llama_get_memory(ctx);
    assert_true(llama_memory_seq_rm(memory, 0, KEEP, KEEP + DROP));
    llama_memory_seq_add(memory, 0, KEEP + DROP, -1, -DROP);
    for (int32_t i = FILL; i < FILL + MORE; i++) {
        forward(e, i, i + 1, i - DROP, logits);
        want = decode(ctx, i, i + 1);
        const float d = largest_difference(logits, want, model->hp.n_vocab);
        largest = d > largest || isnan(d) ? d : largest;
    }
    print_message("largest difference of a logit %.2g\n", (double)largest);
    assert_true(largest <= most);
    free(logits);
    llama_free(ctx);
    llama_model_free(theirs);
    engine_free(e);
    genarm_model_free(model);
}

static void test_what_follows_a_shift_has_libllamas_logits(void **state) {
    (void)state;
    check_shift(GENARM_KV_F32, 1e-3f);
}

static void test_keys_of_8_bits_are_shifted_nearly_so(void **state) {
    (void)state;
    check_shift(GENARM_KV_Q8_0, 0.9f);
}

static void quiet(enum ggml_log_level level, const char *text, void *data) {
    (void)data;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

int main(void) {
    llama_log_set(quiet, NULL);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_follows_a_shift_has_libllamas_logits),
                                       cmocka_unit_test(test_keys_of_8_bits_are_shifted_nearly_so)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
