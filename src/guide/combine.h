/* Arithmetic on distributions over the vocabulary: normalisation and the guided mixture. */
#ifndef GUIDE_COMBINE_H
#define GUIDE_COMBINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The largest of n numbers, whatever others are NaN; -inf if there is none. */
float largest(const float *x, size_t n);

/* log sum_t exp(logits[t]) over n > 0 entries; entries may be -inf, not all of them. Error below 1e-6 for n < 2^20. Not
 * finite when the entries are no logits: one is NaN or inf, or all are -inf. */
float log_sum_exp(const float *logits, size_t n);

/* Subtracts log_sum_exp, so that logits become log-probabilities; false, and nothing is meant by them, if that is not finite. */
bool normalize(float *logits, size_t n);

/* Entropy, in nats, of the distribution that n logits stand for; NaN when they are no logits. */
float entropy(const float *logits, size_t n);

/* One part of a mixture: raw logits and its weight. */
struct part {
    const float *logits; /* [n] */
    size_t n;            /* vocabulary of the part; tokens from here on it does not know */
    float weight;        /* alpha_i for ARM i, of either sign; 1 for the base, less those it is the reference of */
};

/* log pi(t) = sum_i weight_i log pi_i(t) - log Z over the tokens that every part with a weight other than 0 knows (GenARM, eq.
 * 9), that is to which it gives a probability: one of 0 is no reward without bound where the weight is negative. -inf for the
 * rest. parts[0] is the base and always counts. `out` [parts[0].n] must not overlap the logits.
 * False: that is no distribution, as the logits of a part are not finite or a weight drives them beyond what f32 holds. */
bool combine(float *out, const struct part *parts, size_t n_parts);

#endif
