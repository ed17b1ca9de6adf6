#include "eval/kl.h"

#include <math.h>
#include <stdlib.h>

int kl_per_answer(struct interval *out, const double *logprob, const double *base, size_t n,
                  const struct bootstrap_params *params, struct genarm_error *err) {
    return bootstrap_difference(out, logprob, base, n, params, err);
}

int kl_per_token(struct interval *out, const double *logprob, const double *base, const double *n_tokens, size_t n,
                 const struct bootstrap_params *params, struct genarm_error *err) {
    double *differences = calloc(n + 1, sizeof *differences);
    if (!differences) {
        return error_nomem(err, "a divergence");
    }
    for (size_t i = 0; i < n; i++) {
        differences[i] = logprob[i] - base[i];
    }
    const int code = bootstrap_ratio(out, differences, n_tokens, n, params, err);
    free(differences);
    return code;
}

double kl_best_of(int64_t n) { return n >= 1 ? log((double)n) - (double)(n - 1) / (double)n : NAN; }
