#include "eval/bootstrap.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"

struct bootstrap_params bootstrap_default_params(void) {
    return (struct bootstrap_params){.n_resamples = 2000, .seed = 1, .level = 0.95};
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The quantile q of sorted x[n], linear between neighbours. */
static double quantile(const double *x, size_t n, double q) {
    const double at = q * (double)(n - 1);
    const size_t i = (size_t)at;
    return i + 1 < n ? x[i] + (at - (double)i) * (x[i + 1] - x[i]) : x[n - 1];
}

static int check(const struct bootstrap_params *p, struct genarm_error *err) {
    if (p->n_resamples < 100 || p->n_resamples > 100000000) {
        return error_set(err, GENARM_EINVAL, "%d draws of a bootstrap: it takes at least 100", p->n_resamples);
    }
    if (!(p->level > 0 && p->level < 1)) {
        return error_set(err, GENARM_EINVAL, "the level of an interval, %g, is not between 0 and 1", p->level);
    }
    return 0;
}

/* Fills index[n] with a draw of n records. */
static void draw(size_t *index, size_t n, struct rng *rng) {
    for (size_t i = 0; i < n; i++) {
        index[i] = (size_t)rng_below(rng, n);
    }
}

int bootstrap(struct interval *out, size_t n, bootstrap_statistic *statistic, const void *data,
              const struct bootstrap_params *params, struct genarm_error *err) {
    const struct bootstrap_params p = params ? *params : bootstrap_default_params();
    struct interval result = {NAN, NAN, NAN};
    int code = check(&p, err);
    if (code || n == 0) {
        *out = code ? *out : result;
        return code;
    }
    const size_t n_draws = (size_t)p.n_resamples;
    size_t *index = calloc(n, sizeof *index), n_values = 0;
    double *values = calloc(n_draws, sizeof *values);
    if (!index || !values) {
        code = error_nomem(err, "a bootstrap");
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        index[i] = i;
    }
    result.value = statistic(index, n, data);
    struct rng rng;
    rng_seed(&rng, p.seed);
    for (size_t i = 0; i < n_draws && n > 1; i++) {
        draw(index, n, &rng);
        const double value = statistic(index, n, data);
        if (!isnan(value)) {
            values[n_values++] = value;
        }
    }
    if (2 * n_values > n_draws && !isnan(result.value)) {
        qsort(values, n_values, sizeof *values, by_value);
        result.low = quantile(values, n_values, (1 - p.level) / 2);
        result.high = quantile(values, n_values, (1 + p.level) / 2);
    }
    *out = result;
done:
    free(values);
    free(index);
    return code;
}

/* ---- statistics of columns ---- */

/* Records that are complete: a[n], b[n]. */
struct columns {
    double *a, *b;
    size_t n;
};

/* Copies the records of which neither column is NaN; b NULL: there is one column. */
static int columns_new(struct columns *c, const double *a, const double *b, size_t n, struct genarm_error *err) {
    *c = (struct columns){.a = calloc(2 * n + 1, sizeof *c->a)};
    if (!c->a) {
        return error_nomem(err, "a bootstrap");
    }
    c->b = c->a + n;
    for (size_t i = 0; i < n; i++) {
        if (!isnan(a[i]) && !(b && isnan(b[i]))) {
            c->a[c->n] = a[i];
            c->b[c->n++] = b ? b[i] : 0;
        }
    }
    return 0;
}

static double mean_difference(const size_t *index, size_t n, const void *data) {
    const struct columns *c = data;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += c->a[index[i]] - c->b[index[i]];
    }
    return sum / (double)n;
}

static double ratio_of_sums(const size_t *index, size_t n, const void *data) {
    const struct columns *c = data;
    double above = 0, below = 0;
    for (size_t i = 0; i < n; i++) {
        above += c->a[index[i]];
        below += c->b[index[i]];
    }
    return below != 0 ? above / below : NAN;
}

static int of_columns(struct interval *out, const double *a, const double *b, size_t n, bootstrap_statistic *statistic,
                      const struct bootstrap_params *params, struct genarm_error *err) {
    struct columns c;
    int code = columns_new(&c, a, b, n, err);
    code = code ? code : bootstrap(out, c.n, statistic, &c, params, err);
    free(c.a);
    return code;
}

int bootstrap_mean(struct interval *out, const double *x, size_t n, const struct bootstrap_params *params,
                   struct genarm_error *err) {
    return of_columns(out, x, NULL, n, mean_difference, params, err);
}

int bootstrap_difference(struct interval *out, const double *a, const double *b, size_t n,
                         const struct bootstrap_params *params, struct genarm_error *err) {
    return of_columns(out, a, b, n, mean_difference, params, err);
}

int bootstrap_ratio(struct interval *out, const double *a, const double *b, size_t n, const struct bootstrap_params *params,
                    struct genarm_error *err) {
    return of_columns(out, a, b, n, ratio_of_sums, params, err);
}
