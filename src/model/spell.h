/* Tokens from text, and text from tokens. */
#ifndef MODEL_SPELL_H
#define MODEL_SPELL_H

#include "base/json.h"
#include "genarm/model.h"

bool spell_puts_space(const struct genarm_model *model); /* before a text: many vocabularies of SentencePiece do */

/* What a text is to what stands before it, where vocabularies put a space before a text. */
enum spell_start {
    SPELL_BOS,  /* nothing does: BOS, if the model wants one */
    SPELL_TEXT, /* a text of its own */
    SPELL_REST, /* it goes on from that, so that no space comes between */
};

/* Appends the tokens of a text to *n malloc'ed ones, *tokens, which may be NULL; there is room for one more behind them.
 * `special` as genarm_tokenize. GENARM_EINVAL: the text cannot be tokenised; *n is as before. */
int spell_append(int32_t **tokens, int32_t *n, const struct genarm_model *model, const char *text, size_t n_text,
                 enum spell_start start, bool special, struct genarm_error *err);

/* A whole text to tokens, as genarm_tokenize. *out is malloc'ed. GENARM_EINVAL: the text cannot be tokenised. */
int spell_tokens(int32_t **out, size_t *n, const struct genarm_model *model, const char *text, bool bos, bool special,
                 struct genarm_error *err);

/* Appends a token's bytes; those of control tokens only if `special`. */
int spell_bytes(struct buf *out, const struct genarm_model *model, int32_t token, bool special, struct genarm_error *err);

/* The text of tokens, control tokens left out; bytes that are no character become U+FFFD. *out is a new reference. */
int spell_json(json_t **out, const struct genarm_model *model, const int32_t *tokens, size_t n, struct genarm_error *err);

/* The text of tokens that were sampled: control tokens left out, valid UTF-8 without zero bytes, in whose place there is
 * U+FFFD as in that of bytes that are no character. `out` is appended to. */
int spell_sample(struct buf *out, const struct genarm_model *model, const int32_t *tokens, size_t n,
                 struct genarm_error *err);

/* The text of one token by itself, the spelling of a control token; bytes that are no whole character become U+FFFD. New
 * reference; NULL without memory. */
json_t *spell_token_json(const struct genarm_model *model, int32_t token);

#endif
