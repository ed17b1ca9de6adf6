/* The logistic model, fitted as the package alpaca_eval has scikit-learn fit it: minimise |w|_1 + C * sum of the losses, C
 * from ten values between 1e-4 and 1e4 by the mean loss of what each fold leaves out. A sum over probabilities as targets is
 * what the package makes of two weighted copies of each row, one of either label. */
#include "eval/length_control.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum { TERMS = LENGTH_CONTROL_TERMS, LENGTH = 0, DIFFICULTY = 1, MODEL = 2, N_PENALTIES = 10 };

struct length_control_params length_control_default_params(void) {
    return (struct length_control_params){.lambda = 0.2, .n_folds = 5};
}

double length_control_length(const char *text) { return (double)utf8_length(text, strlen(text)); }

/* ---- the fit ---- */

static double sigma(double z) { return z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z)); }

/* log(1 + e^z) */
static double softplus(double z) { return (z > 0 ? z : 0) + log1p(exp(-fabs(z))); }

static double dot(const double *a, const double *b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

static double norm1(const double *w) { return fabs(w[0]) + fabs(w[1]) + fabs(w[2]); }

double length_control_objective(const double *w, const struct length_control_sample *samples, size_t n, double inverse_penalty,
                                double *gradient) {
    double sum = 0, g[TERMS] = {0};
    for (size_t i = 0; i < n; i++) {
        const struct length_control_sample *s = &samples[i];
        const double z = dot(w, s->features), slope = s->weight * (sigma(z) - s->target);
        sum += s->weight * (softplus(z) - s->target * z);
        for (int k = 0; k < TERMS; k++) {
            g[k] += slope * s->features[k];
        }
    }
    if (gradient) {
        memcpy(gradient, g, sizeof g);
    }
    return norm1(w) + inverse_penalty * sum;
}

/* Of the sum of the losses. */
static void curvature(double h[TERMS][TERMS], const double *w, const struct length_control_sample *samples, size_t n) {
    memset(h, 0, TERMS * sizeof h[0]);
    for (size_t i = 0; i < n; i++) {
        const double *x = samples[i].features, p = sigma(dot(w, x));
        for (int k = 0; k < TERMS; k++) {
            for (int m = 0; m < TERMS; m++) {
                h[k][m] += samples[i].weight * p * (1 - p) * x[k] * x[m];
            }
        }
    }
}

/* step: minimises g . step + step . h step / 2 + |w + step|_1, one term after the other. */
static void newton_step(double *step, const double *w, const double *g, double h[TERMS][TERMS]) {
    memset(step, 0, TERMS * sizeof *step);
    for (int sweep = 0; sweep < 1000; sweep++) {
        double moved = 0;
        for (int k = 0; k < TERMS; k++) {
            if (h[k][k] <= 0) {
                continue; /* a feature that is 0 everywhere */
            }
            const double slope = g[k] + dot(h[k], step), at = w[k] + step[k], pull = h[k][k] * at - slope;
            const double best = pull > 1 ? (pull - 1) / h[k][k] : pull < -1 ? (pull + 1) / h[k][k] : 0;
            moved = fmax(moved, fabs(best - at));
            step[k] = best - w[k];
        }
        if (moved < 1e-13) {
            break;
        }
    }
}

void length_control_fit(double *w, const struct length_control_sample *samples, size_t n, double inverse_penalty) {
    for (int iteration = 0; iteration < 200; iteration++) {
        double g[TERMS], h[TERMS][TERMS], step[TERMS], next[TERMS], share = 1;
        const double before = length_control_objective(w, samples, n, inverse_penalty, g);
        curvature(h, w, samples, n);
        for (int k = 0; k < TERMS; k++) {
            g[k] *= inverse_penalty;
            for (int m = 0; m < TERMS; m++) {
                h[k][m] = inverse_penalty * h[k][m] + (k == m && h[k][m] > 0 ? 1e-12 : 0);
            }
        }
        newton_step(step, w, g, h);
        for (int k = 0; k < TERMS; k++) {
            next[k] = w[k] + step[k];
        }
        const double promised = dot(g, step) + norm1(next) - norm1(w); /* <= 0 */
        while (share > 1e-12 && length_control_objective(next, samples, n, inverse_penalty, NULL) >
                                    before + 1e-4 * share * promised + 1e-15 * fabs(before)) {
            share /= 2;
            for (int k = 0; k < TERMS; k++) {
                next[k] = w[k] + share * step[k];
            }
        }
        memcpy(w, next, sizeof next);
        if (norm1(step) < 1e-9 || promised > -1e-13 * (1 + fabs(before))) {
            break;
        }
    }
}

/* ---- the penalty ---- */

/* Mean loss of samples as scikit-learn's scorer has it: probabilities are kept 1e-15 away from 0 and 1. */
static double mean_loss(const double *w, const struct length_control_sample *samples, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double p = fmin(fmax(sigma(dot(w, samples[i].features)), 1e-15), 1 - 1e-15), t = samples[i].target;
        sum -= samples[i].weight * (t * log(p) + (1 - t) * log(1 - p));
    }
    return sum / (double)n;
}

/* Mean loss of fold `fold` under a fit of the others. scratch[n]. */
static double held_out_loss(const struct length_control_sample *samples, size_t n, size_t n_folds, size_t fold,
                            double inverse_penalty, struct length_control_sample *scratch) {
    double w[TERMS] = {0};
    size_t n_train = 0, n_test = 0;
    for (size_t i = 0; i < n; i++) {
        if (i % n_folds == fold) { /* as scikit-learn's GroupKFold deals groups of equal size out, but for their order */
            scratch[n - ++n_test] = samples[i];
        } else {
            scratch[n_train++] = samples[i];
        }
    }
    length_control_fit(w, scratch, n_train, inverse_penalty);
    return mean_loss(w, scratch + n_train, n_test);
}

static double choose_penalty(const struct length_control_sample *samples, size_t n, size_t n_folds,
                             struct length_control_sample *scratch) {
    double best = INFINITY, chosen = NAN;
    for (int i = 0; i < N_PENALTIES; i++) {
        const double inverse_penalty = pow(10, -4 + 8.0 * i / (N_PENALTIES - 1));
        double loss = 0;
        for (size_t fold = 0; fold < n_folds; fold++) {
            loss += held_out_loss(samples, n, n_folds, fold, inverse_penalty, scratch);
        }
        if (loss < best) {
            best = loss;
            chosen = inverse_penalty;
        }
    }
    return chosen;
}

/* ---- rows ---- */

/* Samples: those of the gamed baselines that count, then those of rows. */
struct fit {
    struct length_control_sample *samples; /* [n_gamed + n_rows] */
    struct length_control_sample *scratch; /* [n_gamed + n_rows] */
    size_t n_gamed, n_rows;                /* a row whose target is NaN is invalid */
    double inverse_penalty;
    double w[TERMS];
};

/* Standard deviation of baseline_length - length, of n - 1; 0 where only rounding tells them apart. */
static double length_deviation(const struct length_control_row *rows, size_t n) {
    double mean = 0, squares = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        mean += (rows[i].baseline_length - rows[i].length) / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        const double x = rows[i].baseline_length - rows[i].length - mean;
        squares += x * x;
        largest = fmax(largest, fmax(fabs(rows[i].length), fabs(rows[i].baseline_length)));
    }
    const double deviation = n > 1 ? sqrt(squares / (double)(n - 1)) : 0;
    return deviation > 1e-9 * largest ? deviation : 0;
}

static bool know_difficulties(const struct length_control_row *rows, size_t n, const struct length_control_params *p) {
    bool known = true;
    for (size_t i = 0; i < n && known; i++) {
        known = isfinite(rows[i].difficulty);
    }
    for (size_t i = 0; i < p->n_gamed && known; i++) {
        known = isfinite(p->gamed[i].difficulty);
    }
    return known;
}

static void fill(struct fit *f, const struct length_control_row *rows, size_t n, const struct length_control_params *p,
                 bool with_difficulty) {
    const double deviation = length_deviation(rows, n);
    for (size_t i = 0; i < p->n_gamed; i++) {
        const struct length_control_gamed *g = &p->gamed[i];
        if (!isnan(g->preference)) {
            f->samples[f->n_gamed++] = (struct length_control_sample){
                {tanh(g->std_delta), with_difficulty ? g->difficulty : 0, 0}, g->preference, p->lambda / 2};
        }
    }
    for (size_t i = 0; i < n; i++) {
        const struct length_control_row *r = &rows[i];
        const double delta = deviation > 0 ? (r->baseline_length - r->length) / deviation : 0;
        f->samples[f->n_gamed + f->n_rows++] = (struct length_control_sample){
            {tanh(delta), with_difficulty ? r->difficulty : 0, 1}, r->preference, 1};
    }
}

/* What sigma gives for a row if both answers were equally long. */
static double without_length(const double *w, const struct length_control_sample *s) {
    return sigma(w[DIFFICULTY] * s->features[DIFFICULTY] + w[MODEL] * s->features[MODEL]);
}

/* Mean of what the fit of the rows index[n] says of them. */
static double refitted(const size_t *index, size_t n, const void *data) {
    const struct fit *f = data;
    double w[TERMS], sum = 0;
    size_t n_samples = f->n_gamed;
    memcpy(w, f->w, sizeof w);
    memcpy(f->scratch, f->samples, f->n_gamed * sizeof *f->scratch);
    for (size_t i = 0; i < n; i++) {
        const struct length_control_sample *s = &f->samples[f->n_gamed + index[i]];
        if (!isnan(s->target)) {
            f->scratch[n_samples++] = *s;
        }
    }
    length_control_fit(w, f->scratch, n_samples, f->inverse_penalty);
    for (size_t i = 0; i < n; i++) {
        sum += without_length(w, &f->samples[f->n_gamed + index[i]]);
    }
    return n_samples > f->n_gamed ? sum / (double)n : NAN;
}

static double standard_error(const struct fit *f, double mean) {
    double squares = 0;
    for (size_t i = 0; i < f->n_rows; i++) {
        const double x = without_length(f->w, &f->samples[f->n_gamed + i]) - mean;
        squares += x * x;
    }
    const double n = (double)f->n_rows;
    return n > 1 ? sqrt(squares / (n - 1) / n) : NAN;
}

/* Chooses the penalty and fits all rows that are judged. */
static void solve(struct fit *f, size_t n_folds) {
    size_t n = 0;
    struct length_control_sample *judged = f->scratch; /* those, then as many again for the folds */
    for (size_t i = 0; i < f->n_gamed + f->n_rows; i++) {
        if (!isnan(f->samples[i].target)) {
            judged[n++] = f->samples[i];
        }
    }
    f->inverse_penalty = choose_penalty(judged, n, n_folds, judged + n);
    length_control_fit(f->w, judged, n, f->inverse_penalty);
}

static int compute(struct length_control *out, struct fit *f, const struct length_control_params *p, struct genarm_error *err) {
    struct length_control made = *out;
    solve(f, (size_t)p->n_folds);
    const int code = bootstrap(&made.win_rate, f->n_rows, refitted, f, p->bootstrap, err);
    if (code == 0) {
        made.standard_error = standard_error(f, made.win_rate.value);
        made.theta = f->w[MODEL];
        made.phi = f->w[LENGTH];
        made.psi = f->w[DIFFICULTY];
        made.inverse_penalty = f->inverse_penalty;
        *out = made;
    }
    return code;
}

/* ---- the whole ---- */

static int check(const struct length_control_row *rows, size_t n, const struct length_control_params *p, size_t *n_judged,
                 struct genarm_error *err) {
    *n_judged = 0;
    for (size_t i = 0; i < n; i++) {
        const struct length_control_row *r = &rows[i];
        if (r->preference < 0 || r->preference > 1) {
            return error_set(err, GENARM_EINVAL, "the preference of row %zu is %g, not from 0 to 1", i, r->preference);
        }
        if (!isfinite(r->length) || !isfinite(r->baseline_length)) {
            return error_set(err, GENARM_EINVAL, "a length of row %zu is not finite", i);
        }
        *n_judged += isnan(r->preference) ? 0 : 1;
    }
    for (size_t i = 0; i < p->n_gamed; i++) {
        if (p->gamed[i].preference < 0 || p->gamed[i].preference > 1 || !isfinite(p->gamed[i].std_delta)) {
            return error_set(err, GENARM_EINVAL, "row %zu of the gamed baselines is out of range", i);
        }
    }
    if (p->n_folds < 2 || (*n_judged > 0 && *n_judged < (size_t)p->n_folds)) {
        return error_set(err, GENARM_EINVAL, "%zu judged answers cannot be dealt out to %d folds", *n_judged, p->n_folds);
    }
    if (!(p->lambda >= 0 && isfinite(p->lambda))) {
        return error_set(err, GENARM_EINVAL, "the weight of the gamed baselines, %g, is negative", p->lambda);
    }
    return 0;
}

int length_control_win_rate(struct length_control *out, const struct length_control_row *rows, size_t n,
                            const struct length_control_params *params, struct genarm_error *err) {
    const struct length_control_params p = params ? *params : length_control_default_params();
    struct length_control made = {{NAN, NAN, NAN}, NAN, NAN, NAN, NAN, NAN, know_difficulties(rows, n, &p)};
    struct fit f = {0};
    size_t n_judged;
    int code = check(rows, n, &p, &n_judged, err);
    if (code == 0 && n_judged > 0) {
        const size_t size = p.n_gamed + n;
        f.samples = calloc(3 * size, sizeof *f.samples);
        f.scratch = f.samples ? f.samples + size : NULL;
        code = f.samples ? 0 : error_nomem(err, "a length-controlled win rate");
        if (code == 0) {
            fill(&f, rows, n, &p, made.has_difficulty);
            code = compute(&made, &f, &p, err);
        }
        free(f.samples);
    }
    if (code == 0) {
        *out = made;
    }
    return code;
}
