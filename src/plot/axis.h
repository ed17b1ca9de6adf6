/* Axes: which part of the numbers is shown, where its ticks are, where a number comes to lie. */
#ifndef PLOT_AXIS_H
#define PLOT_AXIS_H

#include <stdbool.h>
#include <stddef.h>

enum { AXIS_MAX_TICKS = 16 };

struct axis {
    double min, max; /* min < max; both positive when log */
    bool log;
    double ticks[AXIS_MAX_TICKS]; /* ascending */
    int n_ticks;
};

/* Of the range [low, high] of the data; `low_fixed` and `high_fixed`: the end is shown as it is, without a margin. About
 * `wanted` ticks. A range that is empty or not finite becomes one around it. */
void axis_init(struct axis *a, double low, double high, bool low_fixed, bool high_fixed, bool log, int wanted);

/* Place of x: 0 at min, 1 at max, and the nearer end beyond them. */
double axis_place(const struct axis *a, double x);

#endif
