/* Logits of libllama in f32: F32 KV cache, no flash attention. Failures fail the running cmocka test. */
#ifndef SUPPORT_LIBLLAMA_H
#define SUPPORT_LIBLLAMA_H

#include <stddef.h>
#include <stdint.h>

/* [n_vocab, n_tokens], malloc'ed: after each token, with the adapters (paths) at their scales. */
float *libllama_logits(const char *model, const char *const *adapters, const float *scales, size_t n_adapters,
                       const int32_t *tokens, size_t n_tokens);

#endif
