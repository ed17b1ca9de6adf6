/* Length-controlled win rate: what the win rate would be if both answers were equally long (Dubois et al., "Length-Controlled
 * AlpacaEval", arXiv 2404.04475; formulas and fitting as in the package alpaca_eval, metrics/glm_winrate.py).
 *
 * A logistic model of the judge's preference for the model m over the baseline b, by prompt x:
 *
 *     P(m preferred) = sigma(theta + phi tanh((len_b - len_m) / std(len_b - len_m)) + psi difficulty_x)
 *
 * with an L1 penalty, whose strength is chosen by cross-validation over prompts. The win rate is the mean over the prompts of
 * sigma(theta + psi difficulty_x): the term of the lengths is put to 0. difficulty_x is a number of AlpacaEval's own 805
 * prompts; where any row lacks it the model is without that term (the package's "length_controlled_minimal").
 *
 * AlpacaEval 2 also regularises towards its two "gamed" baselines, the baseline told to be concise and to be verbose: rows in
 * which theta is left out, of weight lambda / 2. They are given as `gamed` (the package's "length_controlled_v1"); without
 * them it is its "length_controlled_noreg".
 */
#ifndef EVAL_LENGTH_CONTROL_H
#define EVAL_LENGTH_CONTROL_H

#include <stdbool.h>

#include "eval/bootstrap.h"

/* A prompt. */
struct length_control_row {
    double preference; /* for the model, in [0, 1]; 0.5: a draw; NaN: invalid, no part of the fit, but of the mean */
    double length, baseline_length; /* of the answers, in Unicode characters; any unit, the same for all */
    double difficulty;              /* of the prompt; NaN: not known */
};

/* A prompt answered by a gamed baseline. */
struct length_control_gamed {
    double preference; /* for it over the baseline, in [0, 1]; NaN: left out */
    double std_delta;  /* (len_b - len_m) / std, as the package's table has it */
    double difficulty; /* NaN: not known, which leaves the term out for all */
};

struct length_control_params {
    const struct length_control_gamed *gamed; /* [n_gamed]; NULL (default): none */
    size_t n_gamed;
    double lambda;    /* weight of both gamed baselines together; default 0.2 */
    int32_t n_folds;  /* of the cross-validation; default 5; at least 2, and no more than rows that are judged */
    const struct bootstrap_params *bootstrap; /* NULL (default): the default ones */
};
struct length_control_params length_control_default_params(void);

struct length_control {
    struct interval win_rate; /* in [0, 1]; NaN where no row was judged. The bootstrap fits each draw of rows with the std
                                 and the penalty of all */
    double standard_error;    /* AlpacaEval's: standard deviation over prompts of sigma(theta + psi difficulty) / sqrt(n) */
    double theta, phi, psi;   /* psi: 0 without difficulties */
    double inverse_penalty;   /* C of |w|_1 + C * sum of the losses, which the cross-validation chose */
    bool has_difficulty;
};

/* Of rows[n]. `params` may be NULL. Fewer judged rows than folds: GENARM_EINVAL, except none, which gives NaN. A preference
 * outside [0, 1] or a length that is not finite: GENARM_EINVAL. */
int length_control_win_rate(struct length_control *out, const struct length_control_row *rows, size_t n,
                            const struct length_control_params *params, struct genarm_error *err);

/* Length of an answer as the package measures it: Unicode characters of UTF-8. */
double length_control_length(const char *text);

/* ---- the parts, for tests ---- */

enum { LENGTH_CONTROL_TERMS = 3 };

/* A row of the fit: weight * cross-entropy(target, sigma(features . w)). */
struct length_control_sample {
    double features[LENGTH_CONTROL_TERMS]; /* tanh of the length difference, difficulty, model */
    double target;                         /* in [0, 1] */
    double weight;                         /* >= 0 */
};

/* |w|_1 + inverse_penalty * sum of the losses; gradient[LENGTH_CONTROL_TERMS], unless NULL, of the sum of the losses alone. */
double length_control_objective(const double *w, const struct length_control_sample *samples, size_t n, double inverse_penalty,
                                double *gradient);

/* Minimises it from w, which becomes the minimiser; features that are 0 everywhere keep w = 0. */
void length_control_fit(double *w, const struct length_control_sample *samples, size_t n, double inverse_penalty);

#endif
