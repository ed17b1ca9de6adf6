/* See trace.h. */
#include "plot/trace.h"

#include <stdlib.h>

enum {
    FIRST_CAP = 64,
    FEW = 12,          /* points that need no running mean */
    WINDOW_SHARE = 50, /* of a curve's length in half a window */
    SHORT_SHARE = 12,  /* of that of a short one, to this many buckets */
    SHORT_WINDOW = 4
};

static void merge(struct trace_bucket *to, const struct trace_bucket *from) {
    to->last = from->last;
    to->sum_x += from->sum_x;
    to->sum += from->sum;
    to->min = from->min < to->min ? from->min : to->min;
    to->max = from->max > to->max ? from->max : to->max;
    to->n += from->n;
}

static void halve(struct trace *t) {
    for (size_t i = 0; i < t->n; i += 2) {
        struct trace_bucket b = t->buckets[i];
        if (i + 1 < t->n) {
            merge(&b, &t->buckets[i + 1]);
        }
        t->buckets[i / 2] = b;
    }
    t->n = (t->n + 1) / 2;
    t->per *= 2;
}

static int grow(struct trace *t, struct genarm_error *err) {
    const size_t cap = t->cap ? 2 * t->cap : FIRST_CAP;
    struct trace_bucket *grown = realloc(t->buckets, cap * sizeof *grown);
    if (!grown) {
        return error_nomem(err, "a curve");
    }
    t->buckets = grown;
    t->cap = cap;
    return GENARM_OK;
}

int trace_add(struct trace *t, double x, double y, struct genarm_error *err) {
    const struct trace_bucket point = {.first = x, .last = x, .sum_x = x, .sum = y, .min = y, .max = y, .n = 1};
    if (!t->per) {
        t->per = 1;
    }
    if (t->n == TRACE_MAX && t->buckets[t->n - 1].n >= t->per) {
        halve(t);
    }
    t->total++;
    if (t->n > 0 && t->buckets[t->n - 1].n < t->per) {
        merge(&t->buckets[t->n - 1], &point);
        return GENARM_OK;
    }
    const int rc = t->n == t->cap ? grow(t, err) : GENARM_OK;
    if (rc == GENARM_OK) {
        t->buckets[t->n++] = point;
    }
    return rc;
}

void trace_deinit(struct trace *t) {
    free(t->buckets);
    *t = (struct trace){0};
}

bool trace_at(const struct trace *t, double x, double *y) {
    size_t low = 0, high = t->n;
    while (low < high) { /* the first bucket that does not end before x */
        const size_t middle = low + (high - low) / 2;
        if (t->buckets[middle].last < x) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == t->n || t->buckets[low].first > x) {
        return false;
    }
    *y = t->buckets[low].sum / (double)t->buckets[low].n;
    return true;
}

size_t trace_half_window(const struct trace *t) {
    const size_t some = t->n / SHORT_SHARE < SHORT_WINDOW ? t->n / SHORT_SHARE : SHORT_WINDOW, share = t->n / WINDOW_SHARE;
    return t->n < FEW ? 0 : share > some ? share : some;
}

/* The mean over buckets [from, to). */
static double mean(const struct trace *t, size_t from, size_t to) {
    double sum = 0;
    int64_t n = 0;
    for (size_t i = from; i < to && i < t->n; i++) {
        sum += t->buckets[i].sum;
        n += t->buckets[i].n;
    }
    return sum / (double)n;
}

int trace_points(struct plot_point **out, size_t *n, const struct trace *t, size_t max, size_t half_window,
                 struct genarm_error *err) {
    const size_t group = (t->n + max - 1) / max, count = group ? (t->n + group - 1) / group : 0;
    struct plot_point *points = malloc((count ? count : 1) * sizeof *points);
    if (!points) {
        return error_nomem(err, "a curve");
    }
    for (size_t i = 0; i < count; i++) {
        const size_t from = i * group, to = from + group < t->n ? from + group : t->n;
        struct trace_bucket b = t->buckets[from];
        for (size_t j = from + 1; j < to; j++) {
            merge(&b, &t->buckets[j]);
        }
        points[i] = (struct plot_point){.x = b.sum_x / (double)b.n,
                                        .y = mean(t, from > half_window ? from - half_window : 0, to + half_window),
                                        .low = b.min,
                                        .high = b.max};
    }
    *out = points;
    *n = count;
    return GENARM_OK;
}
