#include "eval/calibration.h"

#include <math.h>
#include <stdlib.h>

struct calibration_params calibration_default_params(void) { return (struct calibration_params){.n_bins = 10, .scale = 1}; }

/* ---- of one pair ---- */

static double right(double margin) { return isnan(margin) ? NAN : margin > 0 ? 1 : margin < 0 ? 0 : 0.5; }

/* max(sigma(z), 1 - sigma(z)) in [0.5, 1]. */
static double confidence(double z) { return 1 / (1 + exp(-fabs(z))); }

/* -log sigma(z), without overflow. */
static double log_loss(double z) { return (z < 0 ? -z : 0) + log1p(exp(-fabs(z))); }

static int bin_of(double p, int n_bins) {
    const int bin = (int)((p - 0.5) * 2 * n_bins);
    return bin < n_bins ? bin : n_bins - 1;
}

/* ---- of all ---- */

/* Complete pairs. */
struct pairs {
    double *confidences, *right;
    size_t n;
    int n_bins;
};

/* Counts and sums of each bin for the pairs of index[n]; the means come later. */
static void fill(struct calibration_bin *bins, const size_t *index, size_t n, const struct pairs *p) {
    for (int i = 0; i < p->n_bins; i++) {
        bins[i] = (struct calibration_bin){.low = 0.5 + 0.5 * i / p->n_bins, .high = 0.5 + 0.5 * (i + 1) / p->n_bins};
    }
    for (size_t i = 0; i < n; i++) {
        const size_t k = index ? index[i] : i;
        struct calibration_bin *bin = &bins[bin_of(p->confidences[k], p->n_bins)];
        bin->n++;
        bin->confidence += p->confidences[k];
        bin->accuracy += p->right[k];
    }
}

static double ece(const size_t *index, size_t n, const void *data) {
    const struct pairs *p = data;
    struct calibration_bin bins[CALIBRATION_MAX_BINS];
    double sum = 0;
    fill(bins, index, n, p);
    for (int i = 0; i < p->n_bins; i++) {
        sum += fabs(bins[i].accuracy - bins[i].confidence);
    }
    return sum / (double)n;
}

static int compute(struct calibration *c, struct pairs *p, double *losses, const double *margins, size_t n,
                   const struct calibration_params *params, struct genarm_error *err) {
    double *rights = losses + n;
    for (size_t i = 0; i < n; i++) {
        losses[i] = log_loss(params->scale * margins[i]);
        rights[i] = right(margins[i]);
        if (!isnan(margins[i])) {
            p->confidences[p->n] = confidence(params->scale * margins[i]);
            p->right[p->n++] = rights[i];
        }
    }
    c->n = (int64_t)p->n;
    c->n_bins = p->n_bins;
    fill(c->bins, NULL, p->n, p);
    for (int i = 0; i < p->n_bins; i++) {
        struct calibration_bin *bin = &c->bins[i];
        bin->confidence = bin->n ? bin->confidence / (double)bin->n : NAN;
        bin->accuracy = bin->n ? bin->accuracy / (double)bin->n : NAN;
    }
    int code = bootstrap_mean(&c->accuracy, rights, n, params->bootstrap, err);
    code = code ? code : bootstrap_mean(&c->margin, margins, n, params->bootstrap, err);
    code = code ? code : bootstrap_mean(&c->log_loss, losses, n, params->bootstrap, err);
    return code ? code : bootstrap(&c->ece, p->n, ece, p, params->bootstrap, err);
}

int calibration_of_margins(struct calibration *out, const double *margins, size_t n, const struct calibration_params *params,
                           struct genarm_error *err) {
    const struct calibration_params p = params ? *params : calibration_default_params();
    if (p.n_bins < 1 || p.n_bins > CALIBRATION_MAX_BINS) {
        return error_set(err, GENARM_EINVAL, "%d bins, not from 1 to %d", p.n_bins, CALIBRATION_MAX_BINS);
    }
    if (!(p.scale > 0 && isfinite(p.scale))) {
        return error_set(err, GENARM_EINVAL, "the scale of margins, %g, is not positive", p.scale);
    }
    double *columns = calloc(4 * n + 1, sizeof *columns);
    if (!columns) {
        return error_nomem(err, "a calibration");
    }
    struct calibration made = {0};
    struct pairs pairs = {.confidences = columns + 2 * n, .right = columns + 3 * n, .n_bins = p.n_bins};
    const int code = compute(&made, &pairs, columns, margins, n, &p, err);
    if (code == 0) {
        *out = made;
    }
    free(columns);
    return code;
}
