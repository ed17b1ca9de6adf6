/* Exceptions of ggml and libllama stop here. */
#include "model/llama_guard.h"

#include <cstdio>
#include <exception>

static thread_local char reason[256];

const char *guard_reason(void) { return reason; }

/* Calls f; an exception becomes `failed`, its text goes to `reason`. */
template <typename R, typename F> static R guarded(R failed, F f) noexcept {
    reason[0] = '\0';
    try {
        return f();
    } catch (const std::exception &e) {
        std::snprintf(reason, sizeof reason, "%s", e.what());
    } catch (...) {
        std::snprintf(reason, sizeof reason, "unknown exception");
    }
    return failed;
}

struct gguf_context *guard_gguf_parse(const void *bytes, size_t n, struct ggml_context **tensors) {
    const gguf_init_params params = {/*no_alloc*/ true, /*ctx*/ tensors};
    return guarded<gguf_context *>(nullptr, [&] { return gguf_init_from_buffer(bytes, n, params); });
}

struct llama_model *guard_vocab_load(struct gguf_context *metadata) {
    ggml_backend_dev_t no_devices[] = {nullptr};
    llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    params.devices = no_devices; /* do not wake a GPU for a vocabulary */
    return guarded<llama_model *>(nullptr,
                                  [&] { return llama_model_init_from_user(metadata, nullptr, nullptr, params); });
}

struct llama_model *guard_model_load(const char *path, struct llama_model_params params) {
    return guarded<llama_model *>(nullptr, [&] { return llama_model_load_from_file(path, params); });
}

struct llama_context *guard_context_new(struct llama_model *model, struct llama_context_params params) {
    return guarded<llama_context *>(nullptr, [&] { return llama_init_from_model(model, params); });
}

int32_t guard_decode(struct llama_context *ctx, int32_t *tokens, int32_t n) {
    return guarded<int32_t>(GUARD_FAILED, [&] { return llama_decode(ctx, llama_batch_get_one(tokens, n)); });
}

int32_t guard_decode_batch(struct llama_context *ctx, struct llama_batch batch) {
    return guarded<int32_t>(GUARD_FAILED, [&] { return llama_decode(ctx, batch); });
}

struct llama_adapter_lora *guard_adapter_load(struct llama_model *model, const char *path) {
    return guarded<llama_adapter_lora *>(nullptr, [&] { return llama_adapter_lora_init(model, path); });
}

size_t guard_state_size(struct llama_context *ctx, int32_t seq) {
    return guarded<size_t>(0, [&] { return llama_state_seq_get_size(ctx, seq); });
}

size_t guard_state_get(struct llama_context *ctx, int32_t seq, void *bytes, size_t n) {
    return guarded<size_t>(0, [&] { return llama_state_seq_get_data(ctx, static_cast<uint8_t *>(bytes), n, seq); });
}

size_t guard_state_set(struct llama_context *ctx, int32_t seq, const void *bytes, size_t n) {
    return guarded<size_t>(0, [&] { return llama_state_seq_set_data(ctx, static_cast<const uint8_t *>(bytes), n, seq); });
}

int32_t guard_tokenize(const struct llama_vocab *vocab, const char *text, int32_t n_text, int32_t *tokens, int32_t max,
                       bool special) {
    return guarded<int32_t>(GUARD_FAILED,
                            [&] { return llama_tokenize(vocab, text, n_text, tokens, max, false, special); });
}

int32_t guard_token_to_piece(const struct llama_vocab *vocab, int32_t token, char *bytes, int32_t max, bool special) {
    return guarded<int32_t>(GUARD_FAILED, [&] { return llama_token_to_piece(vocab, token, bytes, max, 0, special); });
}

int32_t guard_chat_apply(const char *tmpl, const struct llama_chat_message *chat, size_t n_chat, char *text,
                         int32_t max) {
    return guarded<int32_t>(GUARD_FAILED,
                            [&] { return llama_chat_apply_template(tmpl, chat, n_chat, true, text, max); });
}
