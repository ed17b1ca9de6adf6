/* The tokens of a vocabulary as byte strings in their order, so that what many of them start with is looked at once. */
#ifndef MODEL_WORDS_H
#define MODEL_WORDS_H

#include "genarm/model.h"

struct word {
    const uint8_t *bytes;
    int32_t n, token;
    int32_t shared; /* leading bytes that it has in common with the word before it */
};

struct words {
    struct word *sorted; /* [n] tokens with bytes that do not end a turn */
    int32_t n, longest, n_vocab;
    int32_t *ends; /* [n_ends] tokens that do */
    int32_t n_ends;
    uint8_t *bytes;   /* of all tokens, one after the other */
    size_t *offsets;  /* [n_vocab + 1] */
};

/* Those of a model. They are made when they are first asked for, by any thread, and go with the model. */
int model_words(const struct words **out, const struct genarm_model *model, struct genarm_error *err);
void words_free(struct words *w); /* NULL is fine */

/* Bytes of a token; 0: it has none, as a control token, or is outside the vocabulary. */
int32_t words_bytes(const struct words *w, int32_t token, const uint8_t **bytes);

#endif
