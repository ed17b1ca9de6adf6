/* See axis.h. */
#include "plot/axis.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "plot/plot.h"

#define MARGIN 0.04 /* of the range, beyond ends that are not fixed */

/* 1, 2 or 5 times a power of ten: the one that divides the range into at most about `wanted` parts. */
static double nice_step(double range, int wanted) {
    const double rough = range / wanted, power = pow(10, floor(log10(rough))), part = rough / power;
    return (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10) * power;
}

static void linear_ticks(struct axis *a, int wanted) {
    const double step = nice_step(a->max - a->min, wanted), slack = 1e-9 * (a->max - a->min);
    const double first = ceil((a->min - slack) / step);
    for (int i = 0; i < AXIS_MAX_TICKS && (first + i) * step <= a->max + slack; i++) {
        a->ticks[a->n_ticks++] = fabs(first + i) < 0.5 ? 0 : (first + i) * step;
    }
}

/* Powers of ten, and twice and five times those where there are few. */
static void log_ticks(struct axis *a, int wanted) {
    const double low = floor(log10(a->min)), high = ceil(log10(a->max));
    const double decades = log10(a->max / a->min);
    const int every = decades > wanted ? (int)ceil(decades / wanted) : 1;
    static const double parts[] = {1, 2, 5};
    const size_t n_parts = decades < 3 ? 3 : 1;
    for (double power = low; power <= high; power += every) { /* at most some hundred */
        for (size_t i = 0; i < n_parts; i++) {
            const double tick = parts[i] * pow(10, power);
            if (tick >= a->min * (1 - 1e-9) && tick <= a->max * (1 + 1e-9) && a->n_ticks < AXIS_MAX_TICKS) {
                a->ticks[a->n_ticks++] = tick;
            }
        }
    }
}

void axis_init(struct axis *a, double low, double high, bool low_fixed, bool high_fixed, bool log, int wanted) {
    if (!isfinite(low) || !isfinite(high) || low > high) {
        low = 0;
        high = 1;
    }
    *a = (struct axis){.log = log && low > 0};
    if (a->log) {
        const double margin = pow(high / low > 1.1 ? high / low : 2, MARGIN);
        a->min = low_fixed ? low : low / margin;
        a->max = high_fixed ? high : high * margin;
    } else {
        const double least = 1e-9 * fmax(fabs(low), fabs(high));
        const double range = high - low > least ? high - low : least > 0 ? 0.1 * fmax(fabs(low), fabs(high)) : 1;
        a->min = low_fixed ? low : low - MARGIN * range;
        a->max = high_fixed && high > low ? high : high + MARGIN * range;
    }
    if (!(a->max > a->min)) { /* both ends fixed to one number */
        a->max = a->min + fmax(1, 0.1 * fabs(a->min));
    }
    if (a->log) {
        log_ticks(a, wanted);
    }
    if (a->n_ticks < 2) { /* too narrow for powers of ten */
        a->n_ticks = 0;
        linear_ticks(a, wanted);
    }
}

double axis_place(const struct axis *a, double x) {
    const double place = a->log ? log(fmax(x, a->min) / a->min) / log(a->max / a->min) : (x - a->min) / (a->max - a->min);
    return place < 0 ? 0 : place > 1 ? 1 : place;
}

void plot_number(char *text, size_t size, double x, int digits) {
    static const struct {
        double unit;
        const char *suffix;
    } units[] = {{1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (fabs(x) >= 1e4 && fabs(x) < 1e13 && fabs(x) >= units[i].unit) {
            snprintf(text, size, "%.*g%s", digits, x / units[i].unit, units[i].suffix);
            if (!strchr(text, 'e')) {
                return;
            }
        }
    }
    if (fabs(x) >= 1e-3 || !(fabs(x) > 0)) {
        snprintf(text, size, "%.*g", digits, x);
    } else {
        int power = (int)floor(log10(fabs(x)) + 1e-9);
        snprintf(text, size, "%.*ge%d", digits, x / pow(10, power), power);
    }
}
