/* Charts as SVG: lines, points with intervals, stacked bars, axes, a legend, and a title and description for readers of the
 * screen.
 *
 * A chart is a struct of borrowed data and becomes text in a buffer: an <svg> element that stands alone in a page or, beside
 * others, in one picture. Colours come from the style sheet of plot_style, which has to be in the same document once and
 * follows prefers-color-scheme. All texts are escaped. Knows src/base only; callers are the reports of the program.
 */
#ifndef PLOT_PLOT_H
#define PLOT_PLOT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

enum { PLOT_COLORS = 8 };

/* What is not finite is left out. low <= y <= high where an interval is drawn. */
struct plot_point {
    double x, y, low, high;
};

/* How a series is drawn; flags. */
enum plot_style {
    PLOT_LINE = 1,    /* a bold line through the points */
    PLOT_FAINT = 2,   /* a thin, light line through low and high of every point */
    PLOT_POINTS = 4,  /* dots */
    PLOT_WHISKERS = 8, /* a bar from low to high at every dot, and across it where the series has `across` */
    PLOT_BLOCK = 16    /* in a legend only: a filled square */
};

struct plot_interval {
    double low, high;
};

struct plot_series {
    const char *name; /* in the legend; NULL: not there */
    const struct plot_point *points;
    size_t n;
    unsigned style;
    int color; /* from 0; taken modulo PLOT_COLORS */
    int dash;  /* 0: solid; else one of three patterns */
    int shape; /* of its dots: 0: circle; modulo 4: square, diamond, triangle */
    const struct plot_interval *across; /* [n] intervals on x, with PLOT_WHISKERS; or NULL */
    const char *const *labels;          /* [n] texts beside the points, where there is room; NULL, also of one: none */
};

struct plot_axis {
    const char *label; /* "" for none */
    double min, max;   /* NaN: from the data */
    bool log;          /* where all is positive, else it is linear */
};

struct plot_chart {
    const char *title, *description;
    const char *note; /* a line under the legend, or NULL */
    const char *id;   /* prefix of the identifiers in the document, [A-Za-z0-9-] */
    struct plot_axis x, y;
    const struct plot_series *series;
    size_t n_series;
    const double *marks; /* [n_marks] places on x that get a dashed line */
    size_t n_marks;
    int body; /* height of the frame; 0: that of most charts */
};

/* Rows of stacked bars of the same length: shares of a whole. */
struct plot_bar {
    const char *name;     /* above the bar */
    const char *after;    /* at the right of the name, or NULL */
    const double *values; /* [n_parts] not negative; a row without any is empty */
};

struct plot_bars {
    const char *title, *description, *note, *id; /* as of a chart */
    const char *const *parts;                    /* [n_parts] what the parts are, for the legend */
    const int *colors;                           /* [n_parts] */
    size_t n_parts;
    const struct plot_bar *bars;
    size_t n_bars;
};

enum { PLOT_WIDTH = 460 }; /* of every chart, in units of the picture */

/* Height that the chart has: the legend may take several lines. */
int plot_height(const struct plot_chart *c);

/* Appends the chart as an <svg> element whose upper left corner is at (x, y) of what it is in. */
int plot_chart(struct buf *b, const struct plot_chart *c, int x, int y, struct genarm_error *err);

int plot_bars_height(const struct plot_bars *c);
int plot_bars(struct buf *b, const struct plot_bars *c, int x, int y, struct genarm_error *err);

/* Appends the start of a picture that stands alone, <svg> with style sheet and paper; "</svg>" is its end. */
int plot_picture(struct buf *b, int width, int height, struct genarm_error *err);

/* Appends the rules of the style sheet, without the <style> around them. */
int plot_style(struct buf *b, struct genarm_error *err);

/* Appends text for the inside of an element or of a quoted attribute. Bytes that are not UTF-8 become U+FFFD, control
 * characters spaces. */
int plot_escape(struct buf *b, const char *text, struct genarm_error *err);
int plot_escape_lines(struct buf *b, const char *text, struct genarm_error *err); /* line ends stay */

/* A number as axes and tables show it, with so many significant digits: 0.0005 is 5e-4, 120000 is 120k. */
void plot_number(char *text, size_t size, double x, int digits);

#endif
