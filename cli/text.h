/* Text from tokens: bytes that arrive in pieces become valid UTF-8. */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include <jansson.h>

#include "base/buf.h"
#include "genarm/model.h"

/* Bytes of a character that is not complete yet. Zero-initialise. */
struct text_tail {
    unsigned char held[4];
    size_t n;
};

/* Appends the complete characters among the held and the new bytes to `out`; what can be no character becomes U+FFFD,
 * and the start of one is held. */
int text_push(struct text_tail *u, const char *bytes, size_t n, struct buf *out, struct genarm_error *err);
int text_end(struct text_tail *u, struct buf *out, struct genarm_error *err); /* a held start becomes U+FFFD */

/* Adds a token's bytes to a text; control tokens add nothing. */
int text_push_token(struct text_tail *u, const struct genarm_model *model, int32_t token, struct buf *out,
                    struct genarm_error *err);

/* A whole text to tokens, control tokens' spellings taken as plain text, no BOS. *out is malloc'ed. */
int text_tokenize(int32_t **out, size_t *n, const struct genarm_model *model, const char *text,
                  struct genarm_error *err);

/* A JSON string (new reference, NULL without memory); invalid UTF-8 becomes U+FFFD. */
json_t *text_json(const char *text);

#endif
