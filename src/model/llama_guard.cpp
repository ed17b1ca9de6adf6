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
