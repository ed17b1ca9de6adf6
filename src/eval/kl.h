/* KL divergence of a method from the base, in nats: how far it has moved.
 *
 * Of answers y that the method sampled at temperature 1, untruncated: KL(pi || base) = E[log pi(y) - log base(y)]. Answers
 * drawn otherwise estimate something else: the caller says so.
 */
#ifndef EVAL_KL_H
#define EVAL_KL_H

#include "eval/bootstrap.h"

/* Of n answers: their log-probabilities under the method and under the base, summed over tokens, nats. Answers that lack one
 * (NaN) are left out. An estimate may be below 0 although the divergence is not. */
int kl_per_answer(struct interval *out, const double *logprob, const double *base, size_t n,
                  const struct bootstrap_params *params, struct genarm_error *err);

/* The same over all tokens: sum of the differences / sum of n_tokens[n], nats a token. */
int kl_per_token(struct interval *out, const double *logprob, const double *base, const double *n_tokens, size_t n,
                 const struct bootstrap_params *params, struct genarm_error *err);

/* log n - (n - 1) / n: of the best of n samples from the base, nats, per answer; an upper bound where samples may be equal
 * (Beirami et al., arXiv 2401.01879). n >= 1. */
double kl_best_of(int64_t n);

#endif
