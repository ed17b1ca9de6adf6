/* Text from tokens and tokens from text. */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include "base/json.h"
#include "base/utf8.h"
#include "genarm/model.h"

/* The text of one token by itself, the spelling of a control token; bytes that are no whole character become U+FFFD. New
 * reference; NULL without memory. */
json_t *token_text_json(const struct genarm_model *model, int32_t token);

/* A whole text to tokens, control tokens' spellings taken as plain text, no BOS. *out is malloc'ed. */
int text_tokenize(int32_t **out, size_t *n, const struct genarm_model *model, const char *text,
                  struct genarm_error *err);

#endif
