#include "support/libllama.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <llama.h>

#include "model/runtime.h"

enum { CTX = 64, MAX_ADAPTERS = 4 };

static float *run(struct llama_model *model, struct llama_context *ctx, const int32_t *tokens, size_t n_tokens) {
    const size_t n_vocab = (size_t)llama_vocab_n_tokens(llama_model_get_vocab(model));
    float *logits = malloc(n_vocab * n_tokens * sizeof *logits);
    assert_non_null(logits);
    struct llama_batch batch = llama_batch_init((int32_t)n_tokens, 0, 1);
    batch.n_tokens = (int32_t)n_tokens;
    for (size_t i = 0; i < n_tokens; i++) {
        batch.token[i] = tokens[i];
        batch.pos[i] = (llama_pos)i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
    }
    assert_int_equal(llama_decode(ctx, batch), 0);
    for (size_t i = 0; i < n_tokens; i++) {
        memcpy(logits + i * n_vocab, llama_get_logits_ith(ctx, (int32_t)i), n_vocab * sizeof *logits);
    }
    llama_batch_free(batch);
    return logits;
}

float *libllama_logits(const char *model_path, const char *const *adapters, const float *scales, size_t n_adapters,
                       const int32_t *tokens, size_t n_tokens) {
    assert_true(n_tokens <= CTX && n_adapters <= MAX_ADAPTERS);
    model_runtime_init();
    struct llama_model *model = llama_model_load_from_file(model_path, llama_model_default_params());
    if (!model) {
        fail_msg("libllama refuses %s", model_path);
    }
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = p.n_batch = p.n_ubatch = CTX;
    p.n_threads = p.n_threads_batch = 1;
    p.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    p.type_k = p.type_v = GGML_TYPE_F32;
    struct llama_context *ctx = llama_init_from_model(model, p);
    assert_non_null(ctx);
    struct llama_adapter_lora *loras[MAX_ADAPTERS];
    float copy[MAX_ADAPTERS];
    for (size_t i = 0; i < n_adapters; i++) {
        loras[i] = llama_adapter_lora_init(model, adapters[i]);
        if (!loras[i]) {
            fail_msg("libllama refuses %s", adapters[i]);
        }
        copy[i] = scales[i];
    }
    if (n_adapters > 0) {
        assert_int_equal(llama_set_adapters_lora(ctx, loras, n_adapters, copy), 0);
    }
    float *logits = run(model, ctx, tokens, n_tokens);
    llama_free(ctx);
    llama_model_free(model); /* frees its adapters */
    return logits;
}
