/* The functions of ggml and libllama that may throw C++ exceptions, with every exception turned into a failure.
 * Implemented in the project's only C++ file. Failures are NULL or GUARD_FAILED; guard_reason says why. */
#ifndef MODEL_LLAMA_GUARD_H
#define MODEL_LLAMA_GUARD_H

#include <gguf.h>
#include <llama.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GUARD_FAILED INT32_MIN

/* Why the last guarded call of this thread failed: what() of the exception; "" when it threw none. */
const char *guard_reason(void);

/* gguf_init_from_buffer with no_alloc; *tensors is owned by the caller. */
struct gguf_context *guard_gguf_parse(const void *bytes, size_t n, struct ggml_context **tensors);

/* A model with a vocabulary and nothing else, from metadata, which may be freed afterwards. */
struct llama_model *guard_vocab_load(struct gguf_context *metadata);

/* As llama_model_load_from_file, llama_init_from_model and, for n tokens of sequence 0 after those that it holds,
 * llama_decode. */
struct llama_model *guard_model_load(const char *path, struct llama_model_params params);
struct llama_context *guard_context_new(struct llama_model *model, struct llama_context_params params);
int32_t guard_decode(struct llama_context *ctx, int32_t *tokens, int32_t n);

/* As llama_decode, llama_adapter_lora_init, and, for a whole sequence on the host, llama_state_seq_get_size, _get_data and
 * _set_data: 0 is a failure. */
int32_t guard_decode_batch(struct llama_context *ctx, struct llama_batch batch);
struct llama_adapter_lora *guard_adapter_load(struct llama_model *model, const char *path);
size_t guard_state_size(struct llama_context *ctx, int32_t seq);
size_t guard_state_get(struct llama_context *ctx, int32_t seq, void *bytes, size_t n);
size_t guard_state_set(struct llama_context *ctx, int32_t seq, const void *bytes, size_t n);

/* As llama_tokenize, without BOS and EOS. */
int32_t guard_tokenize(const struct llama_vocab *vocab, const char *text, int32_t n_text, int32_t *tokens, int32_t max,
                       bool special);
/* As llama_token_to_piece with lstrip 0. */
int32_t guard_token_to_piece(const struct llama_vocab *vocab, int32_t token, char *bytes, int32_t max, bool special);
/* As llama_chat_apply_template with the assistant's turn opened. */
int32_t guard_chat_apply(const char *tmpl, const struct llama_chat_message *chat, size_t n_chat, char *text,
                         int32_t max);

#ifdef __cplusplus
}
#endif
#endif
