/* What all kinds of charts are made of: the element around them, texts, title and legend. Inside of src/plot only. */
#ifndef PLOT_PARTS_H
#define PLOT_PARTS_H

#include "plot/plot.h"

enum { PLOT_LEFT = 54, PLOT_RIGHT = 16 }; /* of the frame, from the edges of a chart */

/* The start of the element, with title and description; "</svg>" is its end. */
int plot_open(struct buf *b, const char *title, const char *description, const char *id, int x, int y, int height,
              struct genarm_error *err);

/* About how wide a text is at 13 px: no fonts are measured here. */
double plot_text_width(const char *text);

/* anchor: "start", "middle" or "end". */
int plot_text(struct buf *b, const char *class, const char *anchor, double x, double y, const char *s,
              struct genarm_error *err);

/* Height of the title's line, the legend of the named series and the note (or NULL) below it. `start`: where they are on x. */
int plot_legend_height(const struct plot_series *series, size_t n, const char *note, double start);
int plot_legend(struct buf *b, const char *title, const struct plot_series *series, size_t n, const char *note, double start,
                struct genarm_error *err);

/* A dot of the series. */
int plot_dot(struct buf *b, const struct plot_series *s, double x, double y, double radius, struct genarm_error *err);

int plot_color(int color);                           /* the number of its class */
const char *plot_dash(const struct plot_series *s); /* attribute of its line, with a space before it, or "" */

#endif
