/* A chart of points: the frame with its axes, the series in it, title and legend above it. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "plot/axis.h"
#include "plot/labels.h"
#include "plot/parts.h"

enum {
    LEFT = PLOT_LEFT,
    RIGHT = PLOT_RIGHT,
    BODY = 200,  /* of the frame */
    BOTTOM = 42, /* below it: numbers and the label of x */
    X_TICKS = 6,
    Y_TICKS = 5
};

/* Where the frame is and what its axes are. */
struct frame {
    const struct plot_chart *chart;
    struct axis x, y;
    int top, body;
};

/* ---- axes ---- */

struct range {
    double low, high;
};

static void take(struct range *r, double v) {
    if (isfinite(v)) {
        r->low = v < r->low ? v : r->low;
        r->high = v > r->high ? v : r->high;
    }
}

static bool is_shown(const struct plot_point *p) { return isfinite(p->x) && isfinite(p->y); }

/* Ranges of what is drawn. */
static void find_ranges(const struct plot_chart *c, struct range *x, struct range *y) {
    *x = *y = (struct range){INFINITY, -INFINITY};
    for (size_t i = 0; i < c->n_series; i++) {
        const struct plot_series *s = &c->series[i];
        for (size_t k = 0; k < s->n; k++) {
            if (is_shown(&s->points[k])) {
                take(x, s->points[k].x);
                take(y, s->points[k].y);
                if (s->style & (PLOT_FAINT | PLOT_WHISKERS)) {
                    take(y, s->points[k].low);
                    take(y, s->points[k].high);
                }
                if (s->across && s->style & PLOT_WHISKERS) {
                    take(x, s->across[k].low);
                    take(x, s->across[k].high);
                }
            }
        }
    }
}

static struct frame frame_of(const struct plot_chart *c) {
    const int legend = plot_legend_height(c->series, c->n_series, c->note, LEFT);
    struct frame f = {.chart = c, .top = legend + 8, .body = c->body > 0 ? c->body : BODY};
    struct range x, y;
    find_ranges(c, &x, &y);
    const bool x_min = isfinite(c->x.min), x_max = isfinite(c->x.max), y_min = isfinite(c->y.min),
               y_max = isfinite(c->y.max);
    axis_init(&f.x, x_min ? c->x.min : x.low, x_max ? c->x.max : x.high, x_min, x_max, c->x.log, X_TICKS);
    axis_init(&f.y, y_min ? c->y.min : y.low, y_max ? c->y.max : y.high, y_min, y_max, c->y.log, Y_TICKS);
    return f;
}

static double at_x(const struct frame *f, double x) {
    return LEFT + axis_place(&f->x, x) * (PLOT_WIDTH - LEFT - RIGHT);
}

static double at_y(const struct frame *f, double y) { return f->top + (1 - axis_place(&f->y, y)) * f->body; }

static int axes(struct buf *b, const struct frame *f, struct genarm_error *err) {
    char number[32];
    int rc = GENARM_OK;
    for (int i = 0; i < f->y.n_ticks && rc == GENARM_OK; i++) {
        const double y = at_y(f, f->y.ticks[i]);
        plot_number(number, sizeof number, f->y.ticks[i], 6);
        rc = buf_printf(b, err, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>", LEFT, y, PLOT_WIDTH - RIGHT);
        rc = rc == GENARM_OK ? plot_text(b, "tick", "end", LEFT - 8, y + 4.5, number, err) : rc;
    }
    for (int i = 0; i < f->x.n_ticks && rc == GENARM_OK; i++) {
        plot_number(number, sizeof number, f->x.ticks[i], 6);
        const double x = at_x(f, f->x.ticks[i]), half = plot_text_width(number) / 2;
        if (x + half <= PLOT_WIDTH) {
            rc = plot_text(b, "tick", "middle", x, f->top + f->body + 18, number, err);
        }
    }
    for (size_t i = 0; i < f->chart->n_marks && rc == GENARM_OK; i++) {
        rc = buf_printf(b, err, "<path class=\"mark\" d=\"M%.1f %dv%d\"/>\n", at_x(f, f->chart->marks[i]), f->top, f->body);
    }
    if (rc == GENARM_OK) {
        rc = plot_text(b, "label", "middle", (LEFT + PLOT_WIDTH - RIGHT) / 2.0, f->top + f->body + 36, f->chart->x.label, err);
    }
    return rc == GENARM_OK && *f->chart->y.label
               ? plot_text(b, "label", "end", PLOT_WIDTH - RIGHT, 20, f->chart->y.label, err)
               : rc;
}

/* ---- series ---- */

/* One path; `faint` goes through both ends of every interval. A gap in the numbers is one in the line. */
static int path(struct buf *b, const struct frame *f, const struct plot_series *s, bool faint, struct genarm_error *err) {
    bool pen = false;
    int rc = buf_printf(b, err, "<path class=\"%s s%d\"%s d=\"", faint ? "faint" : "line", plot_color(s->color), plot_dash(s));
    for (size_t i = 0; i < s->n && rc == GENARM_OK; i++) {
        const struct plot_point *p = &s->points[i];
        if (!is_shown(p)) {
            pen = false;
            continue;
        }
        rc = buf_printf(b, err, "%c%.1f %.1f", pen ? 'L' : 'M', at_x(f, p->x), at_y(f, faint ? p->low : p->y));
        if (faint && p->high > p->low && rc == GENARM_OK) {
            rc = buf_printf(b, err, "V%.1f", at_y(f, p->high));
        }
        pen = true;
    }
    return rc == GENARM_OK ? buf_puts(b, "\"/>\n", err) : rc;
}

static int dots(struct buf *b, const struct frame *f, const struct plot_series *s, struct genarm_error *err) {
    const int color = plot_color(s->color);
    int rc = GENARM_OK;
    for (size_t i = 0; i < s->n && rc == GENARM_OK; i++) {
        const struct plot_point *p = &s->points[i];
        if (!is_shown(p)) {
            continue;
        }
        const double x = at_x(f, p->x);
        const struct plot_interval *across = s->across && s->style & PLOT_WHISKERS ? &s->across[i] : NULL;
        if (s->style & PLOT_WHISKERS && p->high > p->low) {
            rc = buf_printf(b, err, "<path class=\"whisker s%d\" d=\"M%.1f %.1fV%.1f\"/>", color, x, at_y(f, p->low),
                            at_y(f, p->high));
        }
        if (rc == GENARM_OK && across && across->high > across->low) {
            rc = buf_printf(b, err, "<path class=\"whisker s%d\" d=\"M%.1f %.1fH%.1f\"/>", color, at_x(f, across->low),
                            at_y(f, p->y), at_x(f, across->high));
        }
        if (rc == GENARM_OK) {
            rc = plot_dot(b, s, x, at_y(f, p->y), s->n > 60 ? 2.6 : 4.2, err);
            rc = rc ? rc : buf_puts(b, "\n", err);
        }
    }
    return rc;
}

/* Light lines lie below bold ones, dots above both. */
static int draw(struct buf *b, const struct frame *f, struct genarm_error *err) {
    static const unsigned layers[] = {PLOT_FAINT, PLOT_LINE, PLOT_POINTS};
    int rc = GENARM_OK;
    for (size_t layer = 0; layer < sizeof layers / sizeof *layers; layer++) {
        for (size_t i = 0; i < f->chart->n_series && rc == GENARM_OK; i++) {
            const struct plot_series *s = &f->chart->series[i];
            if (s->style & layers[layer]) {
                rc = layers[layer] == PLOT_POINTS ? dots(b, f, s, err) : path(b, f, s, layers[layer] == PLOT_FAINT, err);
            }
        }
    }
    return rc;
}

/* What texts keep off of a series: its dots, its line, its intervals. */
static int keep_off(struct labels *l, const struct frame *f, const struct plot_series *s, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (size_t k = 0; k < s->n && rc == GENARM_OK; k++) {
        const struct plot_point *p = &s->points[k], *before = k ? p - 1 : NULL;
        const struct plot_interval *across = s->across ? &s->across[k] : NULL;
        if (!is_shown(p)) {
            continue;
        }
        const double x = at_x(f, p->x), y = at_y(f, p->y);
        rc = s->style & PLOT_POINTS ? labels_keep_off(l, x, y, err) : 0;
        if (rc == GENARM_OK && s->style & PLOT_LINE && before && is_shown(before)) {
            rc = labels_keep_off_line(l, at_x(f, before->x), at_y(f, before->y), x, y, err);
        }
        if (rc == GENARM_OK && s->style & PLOT_WHISKERS && p->high > p->low) {
            rc = labels_keep_off_line(l, x, at_y(f, p->low), x, at_y(f, p->high), err);
        }
        if (rc == GENARM_OK && s->style & PLOT_WHISKERS && across && across->high > across->low) {
            rc = labels_keep_off_line(l, at_x(f, across->low), y, at_x(f, across->high), y, err);
        }
    }
    return rc;
}

static int put_labels(struct buf *b, struct labels *l, const struct frame *f, const struct plot_series *s,
                      struct genarm_error *err) {
    int rc = GENARM_OK;
    for (size_t k = 0; k < s->n && s->labels && s->style & PLOT_POINTS && rc == GENARM_OK; k++) {
        const struct plot_point *p = &s->points[k];
        if (s->labels[k] && is_shown(p)) {
            rc = labels_put(b, l, at_x(f, p->x), at_y(f, p->y), s->labels[k], err);
        }
    }
    return rc;
}

static int labels(struct buf *b, const struct frame *f, struct genarm_error *err) {
    struct labels l = {.left = LEFT, .right = PLOT_WIDTH - 2, .top = f->top, .bottom = f->top + f->body};
    int rc = GENARM_OK;
    for (size_t i = 0; i < f->chart->n_series && rc == GENARM_OK; i++) {
        rc = keep_off(&l, f, &f->chart->series[i], err);
    }
    for (size_t i = 0; i < f->chart->n_series && rc == GENARM_OK; i++) {
        rc = put_labels(b, &l, f, &f->chart->series[i], err);
    }
    labels_deinit(&l);
    return rc;
}

/* ---- the chart ---- */

int plot_height(const struct plot_chart *c) {
    const int legend = plot_legend_height(c->series, c->n_series, c->note, LEFT);
    return legend + 8 + (c->body > 0 ? c->body : BODY) + BOTTOM;
}

int plot_chart(struct buf *b, const struct plot_chart *c, int x, int y, struct genarm_error *err) {
    const struct frame f = frame_of(c);
    int rc = plot_open(b, c->title, c->description, c->id, x, y, plot_height(c), err);
    if (rc == GENARM_OK) {
        rc = plot_legend(b, c->title, c->series, c->n_series, c->note, LEFT, err);
    }
    if (rc == GENARM_OK) {
        rc = axes(b, &f, err);
    }
    if (rc == GENARM_OK) {
        rc = draw(b, &f, err);
    }
    if (rc == GENARM_OK) {
        rc = labels(b, &f, err);
    }
    return rc == GENARM_OK ? buf_puts(b, "</svg>\n", err) : rc;
}
