/* How well a reward ranks preference pairs, and whether its margins mean what they say.
 *
 * Under Bradley-Terry, sigma(margin), margin = reward of the chosen minus reward of the rejected response, is the probability
 * that the chosen one is preferred. A reward that is right in 80 % of the pairs where it is 80 % sure is calibrated.
 */
#ifndef EVAL_CALIBRATION_H
#define EVAL_CALIBRATION_H

#include "eval/bootstrap.h"

enum { CALIBRATION_MAX_BINS = 50 };

/* Pairs whose confidence, max(sigma, 1 - sigma), lies in [low, high), the last also at high. */
struct calibration_bin {
    double low, high; /* in [0.5, 1] */
    int64_t n;
    double confidence; /* mean; NaN where n = 0 */
    double accuracy;   /* ranked as labelled; a tie counts half; NaN where n = 0 */
};

struct calibration {
    int64_t n;                /* pairs; those with a margin that is NaN are left out */
    struct interval accuracy; /* margin > 0; a tie counts half */
    struct interval margin;   /* mean, in the unit of the rewards, not scaled */
    struct interval log_loss; /* mean of -log sigma(scale * margin), nats; log 2 of a reward that says nothing */
    struct interval ece;      /* expected calibration error (Guo et al., arXiv 1706.04599): sum over bins of
                                 n_bin / n |accuracy - confidence|; biased upwards where pairs are few */
    int n_bins;               /* of equal width over [0.5, 1] */
    struct calibration_bin bins[CALIBRATION_MAX_BINS];
};

struct calibration_params {
    int n_bins;   /* 1 to CALIBRATION_MAX_BINS; default 10 */
    double scale; /* of margins before sigma: beta of an ARM's log-probabilities, 1 of a Bradley-Terry model; > 0; default 1 */
    const struct bootstrap_params *bootstrap; /* NULL: the default ones */
};
struct calibration_params calibration_default_params(void);

/* Of margins[n]. `params` may be NULL. n = 0: numbers NaN. */
int calibration_of_margins(struct calibration *out, const double *margins, size_t n, const struct calibration_params *params,
                           struct genarm_error *err);

#endif
