/* A curve as it is read: any number of points in bounded memory. Neighbouring points share a bucket that keeps their mean,
 * minimum and maximum; when there are too many buckets, pairs of them become one. So peaks stay visible. */
#ifndef PLOT_TRACE_H
#define PLOT_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "plot/plot.h"

enum { TRACE_MAX = 4096 }; /* buckets */

struct trace_bucket {
    double first, last; /* x of its points, ascending */
    double sum_x, sum, min, max;
    int64_t n;
};

/* Starts as a zeroed struct. */
struct trace {
    struct trace_bucket *buckets; /* [n] ascending in x */
    size_t n, cap;
    int64_t per;   /* points of a full bucket: a power of two */
    int64_t total; /* points in all */
};

/* x must not be less than that of the point before; both are finite. */
int trace_add(struct trace *t, double x, double y, struct genarm_error *err);
void trace_deinit(struct trace *t);

/* Mean of the bucket that x falls in; false: it falls in none. */
bool trace_at(const struct trace *t, double x, double *y);

/* Half the width, in buckets, of a running mean that suits the curve; 0: too few points for one. */
size_t trace_half_window(const struct trace *t);

/* Points, malloc'ed, of at most `max` groups of buckets: low and high are the extremes of a group, y is the mean of the
 * buckets that are at most `half_window` away from it. */
int trace_points(struct plot_point **out, size_t *n, const struct trace *t, size_t max, size_t half_window,
                 struct genarm_error *err);

#endif
