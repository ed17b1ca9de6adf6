/* The log-probabilities of a token that was drawn and of the likeliest ones, under the mixture and its parts. */
#ifndef GUIDE_LOGPROBS_H
#define GUIDE_LOGPROBS_H

#include "genarm/steer.h"

struct part_logits {
    const float *logits; /* [n] */
    size_t n;
};

struct logprobs {
    int32_t n_top;                  /* likeliest tokens that are kept; -1: nothing is */
    int32_t n_arms;
    size_t n;                       /* items that there are */
    struct genarm_token_logprob *items; /* [n_top + 1] */
    float *arms;                    /* [n_top + 1, n_arms] what they point into */
};

/* Room for n_top tokens, -1: none; empty. On failure as before. */
int logprobs_reserve(struct logprobs *c, int32_t n_top, int32_t n_arms, struct genarm_error *err);
void logprobs_deinit(struct logprobs *c);

/* Fills in the token drawn and the likeliest ones of logp [n_vocab], which is normalised. parts[0] is the base, parts[i + 1]
 * is ARM i. Call only with room. */
void logprobs_take(struct logprobs *c, int32_t token, const float *logp, size_t n_vocab, const struct part_logits *parts);

#endif
