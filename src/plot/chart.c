/* One chart: the frame with its axes, the series in it, title and legend above it. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "plot/axis.h"
#include "plot/plot.h"

enum {
    LEFT = 54,
    RIGHT = 16,
    TITLE = 30,  /* height of the title's line */
    LINE = 20,   /* of a line of the legend */
    BODY = 200,  /* of the frame */
    BOTTOM = 42, /* below it: numbers and the label of x */
    SWATCH = 24, /* width of a legend's sample, with the space behind it */
    GAP = 14,    /* between entries */
    X_TICKS = 6,
    Y_TICKS = 5
};

#define LETTER 7.0 /* mean width of one at 13 px: no fonts are measured here */

/* Where the frame is and what its axes are. */
struct frame {
    const struct plot_chart *chart;
    struct axis x, y;
    int top;
};

static size_t n_letters(const char *text) {
    size_t n = 0, left = strlen(text);
    while (left > 0) {
        const size_t step = utf8_char(text, left), taken = step ? step : 1;
        text += taken;
        left -= taken;
        n++;
    }
    return n;
}

static double text_width(const char *text) { return LETTER * (double)n_letters(text); }

/* ---- legend ---- */

/* Place of the next entry; moves on to the line below where this one is full. */
struct flow {
    double x;
    int line;
};

static struct flow flow_next(const struct flow *at, const char *name) {
    const double width = SWATCH + text_width(name);
    const bool full = at->x > 0 && LEFT + at->x + width > PLOT_WIDTH - RIGHT;
    return (struct flow){.x = full ? 0 : at->x, .line = at->line + full};
}

static void flow_advance(struct flow *at, const char *name) { at->x += SWATCH + text_width(name) + GAP; }

static int legend_lines(const struct plot_chart *c) {
    struct flow at = {0};
    int named = 0;
    for (size_t i = 0; i < c->n_series; i++) {
        if (c->series[i].name) {
            at = flow_next(&at, c->series[i].name);
            flow_advance(&at, c->series[i].name);
            named++;
        }
    }
    return (named ? at.line + 1 : 0) + (c->note ? 1 : 0);
}

static const char *dash_of(const struct plot_series *s) {
    static const char *const patterns[] = {"", " stroke-dasharray=\"7 5\"", " stroke-dasharray=\"2 5\"",
                                           " stroke-dasharray=\"10 4 2 4\""};
    return patterns[s->dash <= 0 ? 0 : 1 + (s->dash - 1) % 3];
}

static int color_of(const struct plot_series *s) { return s->color < 0 ? 0 : s->color % PLOT_COLORS; }

static int sample(struct buf *b, const struct plot_series *s, double x, double y, struct genarm_error *err) {
    const int color = color_of(s);
    int rc = GENARM_OK;
    if (s->style & (PLOT_LINE | PLOT_FAINT)) {
        rc = buf_printf(b, err, "<path class=\"%s s%d\"%s d=\"M%.1f %.1fh17\"/>", s->style & PLOT_LINE ? "line" : "faint",
                        color, dash_of(s), x, y);
    }
    if (rc == GENARM_OK && s->style & PLOT_POINTS) {
        rc = buf_printf(b, err, "<circle class=\"dot f%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.2\"/>", color, x + 8.5, y);
    }
    return rc;
}

static int text(struct buf *b, const char *class, const char *anchor, double x, double y, const char *s,
                struct genarm_error *err) {
    int rc = buf_printf(b, err, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", class, x, y, anchor);
    if (rc == GENARM_OK) {
        rc = plot_escape(b, s, err);
    }
    return rc == GENARM_OK ? buf_puts(b, "</text>\n", err) : rc;
}

static int legend(struct buf *b, const struct plot_chart *c, struct genarm_error *err) {
    struct flow at = {0};
    int rc = text(b, "head", "start", LEFT, 20, c->title, err), line = 0;
    for (size_t i = 0; i < c->n_series && rc == GENARM_OK; i++) {
        const struct plot_series *s = &c->series[i];
        if (!s->name) {
            continue;
        }
        at = flow_next(&at, s->name);
        const double y = TITLE + LINE * at.line + 10;
        rc = sample(b, s, LEFT + at.x, y - 4.5, err);
        if (rc == GENARM_OK) {
            rc = text(b, "name", "start", LEFT + at.x + SWATCH, y, s->name, err);
        }
        flow_advance(&at, s->name);
        line = at.line + 1;
    }
    return rc == GENARM_OK && c->note ? text(b, "note", "start", LEFT, TITLE + LINE * line + 10, c->note, err) : rc;
}

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
            }
        }
    }
}

static struct frame frame_of(const struct plot_chart *c) {
    struct frame f = {.chart = c, .top = TITLE + LINE * legend_lines(c) + 8};
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

static double at_y(const struct frame *f, double y) { return f->top + (1 - axis_place(&f->y, y)) * BODY; }

static int axes(struct buf *b, const struct frame *f, struct genarm_error *err) {
    char number[32];
    int rc = GENARM_OK;
    for (int i = 0; i < f->y.n_ticks && rc == GENARM_OK; i++) {
        const double y = at_y(f, f->y.ticks[i]);
        plot_number(number, sizeof number, f->y.ticks[i], 6);
        rc = buf_printf(b, err, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>", LEFT, y, PLOT_WIDTH - RIGHT);
        rc = rc == GENARM_OK ? text(b, "tick", "end", LEFT - 8, y + 4.5, number, err) : rc;
    }
    for (int i = 0; i < f->x.n_ticks && rc == GENARM_OK; i++) {
        plot_number(number, sizeof number, f->x.ticks[i], 6);
        const double x = at_x(f, f->x.ticks[i]), half = text_width(number) / 2;
        if (x + half <= PLOT_WIDTH) {
            rc = text(b, "tick", "middle", x, f->top + BODY + 18, number, err);
        }
    }
    for (size_t i = 0; i < f->chart->n_marks && rc == GENARM_OK; i++) {
        rc = buf_printf(b, err, "<path class=\"mark\" d=\"M%.1f %dv%d\"/>\n", at_x(f, f->chart->marks[i]), f->top, BODY);
    }
    if (rc == GENARM_OK) {
        rc = text(b, "label", "middle", (LEFT + PLOT_WIDTH - RIGHT) / 2.0, f->top + BODY + 36, f->chart->x.label, err);
    }
    return rc == GENARM_OK && *f->chart->y.label
               ? text(b, "label", "end", PLOT_WIDTH - RIGHT, 20, f->chart->y.label, err)
               : rc;
}

/* ---- series ---- */

/* One path; `faint` goes through both ends of every interval. A gap in the numbers is one in the line. */
static int path(struct buf *b, const struct frame *f, const struct plot_series *s, bool faint, struct genarm_error *err) {
    bool pen = false;
    int rc = buf_printf(b, err, "<path class=\"%s s%d\"%s d=\"", faint ? "faint" : "line", color_of(s), dash_of(s));
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
    const int color = color_of(s);
    int rc = GENARM_OK;
    for (size_t i = 0; i < s->n && rc == GENARM_OK; i++) {
        const struct plot_point *p = &s->points[i];
        if (!is_shown(p)) {
            continue;
        }
        const double x = at_x(f, p->x);
        if (s->style & PLOT_WHISKERS && p->high > p->low) {
            rc = buf_printf(b, err, "<path class=\"whisker s%d\" d=\"M%.1f %.1fV%.1f\"/>", color, x, at_y(f, p->low),
                            at_y(f, p->high));
        }
        if (rc == GENARM_OK) {
            rc = buf_printf(b, err, "<circle class=\"dot f%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\"/>\n", color, x,
                            at_y(f, p->y), s->n > 60 ? "2.6" : "4.2");
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

/* ---- the chart ---- */

int plot_height(const struct plot_chart *c) { return TITLE + LINE * legend_lines(c) + 8 + BODY + BOTTOM; }

static int head(struct buf *b, const struct plot_chart *c, int x, int y, struct genarm_error *err) {
    const int height = plot_height(c);
    int rc = buf_printf(b, err,
                        "<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" x=\"%d\" y=\"%d\" width=\"%d\" "
                        "height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\" aria-labelledby=\"%s-t %s-d\">\n"
                        "<title id=\"%s-t\">",
                        x, y, PLOT_WIDTH, height, PLOT_WIDTH, height, c->id, c->id, c->id);
    if (rc == GENARM_OK) {
        rc = plot_escape(b, c->title, err);
    }
    if (rc == GENARM_OK) {
        rc = buf_printf(b, err, "</title>\n<desc id=\"%s-d\">", c->id);
    }
    if (rc == GENARM_OK) {
        rc = plot_escape(b, c->description, err);
    }
    return rc == GENARM_OK ? buf_puts(b, "</desc>\n", err) : rc;
}

int plot_chart(struct buf *b, const struct plot_chart *c, int x, int y, struct genarm_error *err) {
    const struct frame f = frame_of(c);
    int rc = head(b, c, x, y, err);
    if (rc == GENARM_OK) {
        rc = legend(b, c, err);
    }
    if (rc == GENARM_OK) {
        rc = axes(b, &f, err);
    }
    if (rc == GENARM_OK) {
        rc = draw(b, &f, err);
    }
    return rc == GENARM_OK ? buf_puts(b, "</svg>\n", err) : rc;
}
