/* The vocabulary of a model: checked in the metadata, then opened by libllama. */
#ifndef MODEL_VOCAB_H
#define MODEL_VOCAB_H

#include <gguf.h>
#include <llama.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* What is checked before libllama sees a model's vocabulary. */
int vocab_check(const struct gguf_context *gguf, int32_t n_vocab, struct genarm_error *err);

/* Opens the vocabulary described by a model's metadata, which must hold n_vocab tokens. *out is owned by the caller
 * (llama_model_free). Errors: GENARM_EFORMAT, GENARM_EUNSUPPORTED (another kind of tokenizer). */
int vocab_open(struct llama_model **out, struct gguf_context *gguf, int32_t n_vocab, struct genarm_error *err);

/* The tokens, their scores and types, whatever the kind of tokenizer: what libllama would abort on. */
int vocab_check_tokens(const struct gguf_context *gguf, int32_t n_vocab, struct genarm_error *err);

/* The token that ends a turn: what the metadata says, else what libllama finds; -1: there is none. */
int32_t vocab_turn_end(const struct llama_vocab *vocab, const struct gguf_context *gguf);

/* What the length of a text tells of the number of its tokens. */
struct vocab_measure {
    bool counts[256]; /* bytes that some token of a text holds: not white space, which control tokens swallow, nor what the
                         vocabulary has no token for, which is left out */
    size_t longest;   /* a token holds so many of them at most; 0: nothing is known of this kind of tokenizer */
};
void vocab_measure(struct vocab_measure *out, const struct llama_vocab *vocab);

/* Tokens that a text has at least, without making them: what is far too long need not be tokenised to be refused. */
size_t vocab_at_least(const struct vocab_measure *m, const char *text, size_t n);

/* Continues a hash over every token's text. */
uint64_t vocab_hash(uint64_t hash, const struct llama_vocab *vocab);

#endif
