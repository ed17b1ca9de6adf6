#include "eval/pareto.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_finite(const double *point, size_t d) {
    for (size_t i = 0; i < d; i++) {
        if (!isfinite(point[i])) {
            return false;
        }
    }
    return true;
}

/* a is nowhere worse than b. */
static bool covers(const double *a, const double *b, size_t d) {
    for (size_t i = 0; i < d; i++) {
        if (!(a[i] >= b[i])) {
            return false;
        }
    }
    return true;
}

bool pareto_dominates(const double *a, const double *b, size_t n_objectives) {
    return covers(a, b, n_objectives) && !covers(b, a, n_objectives);
}

size_t pareto_front(bool *on_front, const double *points, size_t n, size_t n_objectives) {
    size_t n_front = 0;
    for (size_t i = 0; i < n; i++) {
        const double *p = points + i * n_objectives;
        bool ok = is_finite(p, n_objectives);
        for (size_t j = 0; j < n && ok; j++) {
            const double *q = points + j * n_objectives;
            ok = !(is_finite(q, n_objectives) && pareto_dominates(q, p, n_objectives));
        }
        on_front[i] = ok;
        n_front += ok;
    }
    return n_front;
}

/* ---- hypervolume ---- */

/* The last of d objectives, from the worst. */
static int by_last(const void *a, const void *b, void *context) {
    const size_t last = *(const size_t *)context - 1;
    const double x = ((const double *)a)[last], y = ((const double *)b)[last];
    return (x > y) - (x < y);
}

/* Keeps those that no other covers, of equal ones one, and packs them. Returns how many. */
static size_t keep_front(double *points, size_t n, size_t d) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        const double *p = points + i * d;
        bool ok = true;
        for (size_t j = 0; j < kept && ok; j++) {
            ok = !covers(points + j * d, p, d);
        }
        for (size_t j = i + 1; j < n && ok; j++) {
            ok = !pareto_dominates(points + j * d, p, d);
        }
        if (ok) {
            memmove(points + kept++ * d, p, d * sizeof *p);
        }
    }
    return kept;
}

/* Of a front: the staircase, from the point that is best in x on. */
static double area(double *points, size_t n) {
    const size_t d = 2;
    double sum = 0, x = 0;
    qsort_r(points, n, d * sizeof *points, by_last, (void *)&d);
    for (size_t i = n; i-- > 0;) { /* y falls, x grows */
        if (points[2 * i] > x) {
            sum += (points[2 * i] - x) * points[2 * i + 1];
            x = points[2 * i];
        }
    }
    return sum;
}

/* Volume between 0 and a front of d objectives, all above 0; reorders the points. Beginning with the worst in the last
 * objective, a point's own volume is its box without what the points that follow cover of it: they reach as high as it does
 * in the last objective, so that one objective less remains. space: n * (d - 1) numbers for each objective above the second.
 */
static double volume(double *points, size_t n, size_t d, double *space) {
    if (d == 2) {
        return area(points, n);
    }
    double sum = 0;
    qsort_r(points, n, d * sizeof *points, by_last, &d);
    for (size_t i = 0; i < n; i++) {
        const double *p = points + i * d;
        const size_t rest = n - i - 1, less = d - 1;
        double box = 1;
        for (size_t k = 0; k < less; k++) {
            box *= p[k];
            for (size_t j = 0; j < rest; j++) {
                space[j * less + k] = fmin(p[k], p[(j + 1) * d + k]);
            }
        }
        const size_t kept = keep_front(space, rest, less);
        sum += p[less] * (box - volume(space, kept, less, space + n * less));
    }
    return sum;
}

static double longest(const double *points, size_t n) {
    double best = 0;
    for (size_t i = 0; i < n; i++) {
        best = fmax(best, points[i]);
    }
    return best;
}

/* work: n * d * (d + 1) numbers. */
static double hypervolume(const double *points, size_t n, size_t d, const double *reference, double *work) {
    size_t n_inside = 0;
    for (size_t i = 0; i < n; i++) {
        double *q = work + n_inside * d;
        bool inside = is_finite(points + i * d, d);
        for (size_t k = 0; k < d && inside; k++) {
            q[k] = points[i * d + k] - reference[k];
            inside = q[k] > 0;
        }
        n_inside += inside;
    }
    n_inside = keep_front(work, n_inside, d);
    return d == 1 ? longest(work, n_inside) : volume(work, n_inside, d, work + n * d);
}

static int check_objectives(size_t n_objectives, struct genarm_error *err) {
    if (n_objectives < 1 || n_objectives > PARETO_MAX_OBJECTIVES) {
        return error_set(err, GENARM_EINVAL, "%zu objectives, not 1 to %d", n_objectives, PARETO_MAX_OBJECTIVES);
    }
    return 0;
}

static int check_reference(const double *reference, size_t n_objectives, struct genarm_error *err) {
    const int code = check_objectives(n_objectives, err);
    if (code == 0 && !is_finite(reference, n_objectives)) {
        return error_set(err, GENARM_EINVAL, "a reference point that is not finite");
    }
    return code;
}

int pareto_hypervolume(double *out, const double *points, size_t n, size_t n_objectives, const double *reference,
                       struct genarm_error *err) {
    const int code = check_reference(reference, n_objectives, err);
    if (code) {
        return code;
    }
    double *work = calloc(n * n_objectives * (n_objectives + 1) + 1, sizeof *work);
    if (!work) {
        return error_nomem(err, "a hypervolume");
    }
    *out = hypervolume(points, n, n_objectives, reference, work);
    free(work);
    return 0;
}

void pareto_worst(double *reference, const double *points, size_t n, size_t n_objectives) {
    struct pareto_scale scale;
    pareto_scale_of(&scale, points, n, n_objectives);
    memcpy(reference, scale.low, n_objectives * sizeof *reference);
}

/* ---- what follows a preference ---- */

void pareto_scale_of(struct pareto_scale *out, const double *points, size_t n, size_t n_objectives) {
    for (size_t k = 0; k < n_objectives; k++) {
        out->low[k] = out->high[k] = NAN;
    }
    for (size_t i = 0; i < n; i++) {
        const double *p = points + i * n_objectives;
        for (size_t k = 0; k < n_objectives && is_finite(p, n_objectives); k++) {
            out->low[k] = fmin(out->low[k], p[k]); /* of a NaN and a number: the number */
            out->high[k] = fmax(out->high[k], p[k]);
        }
    }
}

double pareto_mip(const double *preferences, const double *points, size_t n_points, size_t n_objectives,
                  const struct pareto_scale *scale) {
    double sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < n_points; i++) {
        const double *p = preferences + i * n_objectives, *x = points + i * n_objectives;
        double weights = 0, product = 0;
        for (size_t k = 0; k < n_objectives; k++) {
            const double range = scale ? scale->high[k] - scale->low[k] : 1;
            weights += p[k];
            product += p[k] * (!scale ? x[k] : range > 0 ? (x[k] - scale->low[k]) / range : 0 * x[k]);
        }
        if (weights > 0 && isfinite(weights) && is_finite(x, n_objectives)) {
            sum += product / weights;
            n++;
        }
    }
    return n ? sum / (double)n : NAN;
}

/* ---- over prompts ---- */

/* points: the means over prompts index[n], or over all of them. */
static void means(double *points, const struct pareto_rewards *r, const size_t *index, size_t n) {
    for (size_t i = 0; i < r->n_points * r->n_objectives; i++) {
        const double *x = r->rewards + i * r->n_prompts;
        double sum = 0;
        size_t known = 0;
        for (size_t j = 0; j < n; j++) {
            const double value = x[index ? index[j] : j];
            if (!isnan(value)) {
                sum += value;
                known++;
            }
        }
        points[i] = known ? sum / (double)known : NAN;
    }
}

void pareto_means(double *points, const struct pareto_rewards *r) { means(points, r, NULL, r->n_prompts); }

struct statistic {
    const struct pareto_rewards *r;
    const double *reference, *preferences;
    const struct pareto_scale *scale;
    double *points, *work;
};

static double hypervolume_of(const size_t *index, size_t n, const void *data) {
    const struct statistic *s = data;
    means(s->points, s->r, index, n);
    return hypervolume(s->points, s->r->n_points, s->r->n_objectives, s->reference, s->work);
}

static double mip_of(const size_t *index, size_t n, const void *data) {
    const struct statistic *s = data;
    means(s->points, s->r, index, n);
    return pareto_mip(s->preferences, s->points, s->r->n_points, s->r->n_objectives, s->scale);
}

/* Gives the statistic its memory for the call. */
static int over_prompts(struct interval *out, struct statistic *s, bootstrap_statistic *f,
                        const struct bootstrap_params *params, struct genarm_error *err) {
    const size_t size = s->r->n_points * s->r->n_objectives;
    int code = check_objectives(s->r->n_objectives, err);
    if (code) {
        return code;
    }
    s->points = calloc(size * (s->r->n_objectives + 2) + 1, sizeof *s->points);
    if (!s->points) {
        return error_nomem(err, "means over prompts");
    }
    s->work = s->points + size;
    code = bootstrap(out, s->r->n_prompts, f, s, params, err);
    free(s->points);
    return code;
}

int pareto_hypervolume_interval(struct interval *out, const struct pareto_rewards *r, const double *reference,
                                const struct bootstrap_params *params, struct genarm_error *err) {
    struct statistic s = {.r = r, .reference = reference};
    const int code = check_reference(reference, r->n_objectives, err);
    return code ? code : over_prompts(out, &s, hypervolume_of, params, err);
}

int pareto_mip_interval(struct interval *out, const double *preferences, const struct pareto_rewards *r,
                        const struct pareto_scale *scale, const struct bootstrap_params *params, struct genarm_error *err) {
    struct statistic s = {.r = r, .preferences = preferences, .scale = scale};
    return over_prompts(out, &s, mip_of, params, err);
}
