/* Drawing a token from log-probabilities: temperature, then top-k, top-p, min-p. */
#ifndef GUIDE_SAMPLE_H
#define GUIDE_SAMPLE_H

#include "base/rng.h"
#include "genarm/guide.h"

struct sampler {
    struct genarm_sampling params;
    struct rng rng;
    const struct kernels *kernels;
    struct candidate *candidates; /* [n_vocab] scratch */
    int32_t n_vocab;
};

struct candidate {
    float p;
    int32_t token;
};

/* Checks the parameters: temperature >= 0, top_k >= 0, top_p in (0, 1], min_p in [0, 1). */
int sampler_init(struct sampler *s, const struct genarm_sampling *params, int32_t n_vocab, struct genarm_error *err);
void sampler_deinit(struct sampler *s);

/* Draws from logp [n_vocab] (need not be normalised; -inf excludes). One random number per token unless greedy.
 * Ties are broken by the lower token id. */
int32_t sampler_draw(struct sampler *s, const float *logp);

/* The k foremost of the first n tokens that are not -inf, likeliest first, become the first of s->candidates with their logp
 * as p; ties: the lower token id. Returns how many there are. */
int32_t sampler_foremost(struct sampler *s, const float *logp, int32_t n, int32_t k);

/* The distribution that sampler_draw draws from: p [n_vocab], all of it on one token when it is greedy. */
void sampler_distribution(struct sampler *s, const float *logp, float *p);

/* Draws a token in proportion to p [n_vocab] >= 0; -1, without a random number, when all are 0. */
int32_t sampler_draw_from(struct sampler *s, const float *p);

#endif
