#include "eval/win_rate.h"

#include <math.h>
#include <stdlib.h>

const char *win_rate_verdict_name(enum win_rate_verdict verdict) {
    static const char *const names[] = {"invalid", "win", "tie", "lose"};
    return verdict >= WIN_RATE_INVALID && verdict <= WIN_RATE_LOSE ? names[verdict] : "invalid";
}

/* Counts by the shares of a win, from 0 to 1; NaN: invalid. */
static void count(struct win_rate *r, const double *shares, size_t n) {
    for (size_t i = 0; i < n; i++) {
        r->invalid += isnan(shares[i]);
        r->wins += shares[i] > 0.5;
        r->ties += shares[i] == 0.5;
        r->losses += shares[i] < 0.5;
    }
}

/* Draws of records that are all alike are alike too, and tell nothing. Where all won, or all lost, the interval is the exact one
 * of n independent records (Clopper and Pearson, 1934). */
static void widen(struct win_rate *r, double level) {
    const int64_t n = r->wins + r->ties + r->losses;
    const double beyond = n > 0 ? pow((1 - level) / 2, 1 / (double)n) : NAN;
    if (n > 0 && r->rate.value == 1) {
        r->rate.low = beyond;
        r->rate.high = 1;
    } else if (n > 0 && r->rate.value == 0) {
        r->rate.low = 0;
        r->rate.high = 1 - beyond;
    }
}

static int of_shares(struct win_rate *out, const double *shares, size_t n, const struct bootstrap_params *params,
                     struct genarm_error *err) {
    struct win_rate made = {0};
    count(&made, shares, n);
    const int code = bootstrap_mean(&made.rate, shares, n, params, err);
    if (code == 0) {
        widen(&made, params ? params->level : bootstrap_default_params().level);
        *out = made;
    }
    return code;
}

static int shares_new(double **shares, size_t n, struct genarm_error *err) {
    *shares = calloc(n + 1, sizeof **shares);
    return *shares ? 0 : error_nomem(err, "a win rate");
}

int win_rate_of_verdicts(struct win_rate *out, const enum win_rate_verdict *verdicts, size_t n,
                         const struct bootstrap_params *params, struct genarm_error *err) {
    double *shares;
    int code = shares_new(&shares, n, err);
    for (size_t i = 0; i < n && code == 0; i++) {
        const enum win_rate_verdict v = verdicts[i];
        shares[i] = v == WIN_RATE_WIN ? 1 : v == WIN_RATE_TIE ? 0.5 : v == WIN_RATE_LOSE ? 0 : NAN;
    }
    code = code ? code : of_shares(out, shares, n, params, err);
    free(shares);
    return code;
}

int win_rate_of_rewards(struct win_rate *out, const double *a, const double *b, size_t n, double tie_margin,
                        const struct bootstrap_params *params, struct genarm_error *err) {
    double *shares;
    if (!(tie_margin >= 0)) {
        return error_set(err, GENARM_EINVAL, "the margin of a tie, %g, is negative", tie_margin);
    }
    int code = shares_new(&shares, n, err);
    for (size_t i = 0; i < n && code == 0; i++) {
        const double margin = a[i] - b[i];
        shares[i] = isnan(margin) ? NAN : margin > tie_margin ? 1 : margin < -tie_margin ? 0 : 0.5;
    }
    code = code ? code : of_shares(out, shares, n, params, err);
    free(shares);
    return code;
}

int win_rate_of_preferences(struct win_rate *out, const double *preferences, size_t n, const struct bootstrap_params *params,
                            struct genarm_error *err) {
    double *shares;
    int code = shares_new(&shares, n, err);
    for (size_t i = 0; i < n && code == 0; i++) {
        const double p = preferences[i];
        if (p != 0 && (p < 1 || p > 2)) {
            code = error_set(err, GENARM_EINVAL, "preference %zu is %g, not from 1 to 2", i, p);
        }
        shares[i] = p == 0 ? 0.5 : p - 1;
    }
    code = code ? code : of_shares(out, shares, n, params, err);
    free(shares);
    return code;
}
