/* How often answers are preferred to others: wins and half of the ties, over what was judged.
 *
 * Rates are fractions of 1. Verdicts that say nothing (invalid) are counted and belong to no rate.
 */
#ifndef EVAL_WIN_RATE_H
#define EVAL_WIN_RATE_H

#include "eval/bootstrap.h"

enum win_rate_verdict { WIN_RATE_INVALID, WIN_RATE_WIN, WIN_RATE_TIE, WIN_RATE_LOSE };

struct win_rate {
    int64_t wins, ties, losses, invalid;
    struct interval rate; /* (wins + ties / 2) / (wins + ties + losses), in [0, 1]; NaN where nothing was judged. By the
                             bootstrap; of nothing but wins, or losses, Clopper and Pearson's */
};

/* "win", "tie", "lose" or "invalid". */
const char *win_rate_verdict_name(enum win_rate_verdict verdict);

/* Of n verdicts, one a prompt. */
int win_rate_of_verdicts(struct win_rate *out, const enum win_rate_verdict *verdicts, size_t n,
                         const struct bootstrap_params *params, struct genarm_error *err);

/* Of two rewards of each prompt: a wins where a[i] - b[i] > tie_margin, loses where it is below -tie_margin. tie_margin >= 0,
 * in the unit of the rewards. NaN on either side: invalid. */
int win_rate_of_rewards(struct win_rate *out, const double *a, const double *b, size_t n, double tie_margin,
                        const struct bootstrap_params *params, struct genarm_error *err);

/* Of AlpacaEval's preferences: 1: the baseline is preferred, 2: the model, between: how sure the judge is of it; 0 or 1.5: a
 * draw; NaN: invalid. `rate` is the mean of preference - 1, AlpacaEval 2's raw win rate; the counts are of what is above and
 * below 1.5, as its discrete win rate has them. Outside [1, 2] and not 0: GENARM_EINVAL. */
int win_rate_of_preferences(struct win_rate *out, const double *preferences, size_t n, const struct bootstrap_params *params,
                            struct genarm_error *err);

#endif
