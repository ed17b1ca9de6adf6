/* Texts beside points, so that none lies on a point or on another text, nor, if there is another place, on a line: each tries
 * the places around its point and is left out where all are taken. Inside of src/plot only. */
#ifndef PLOT_LABELS_H
#define PLOT_LABELS_H

#include "plot/plot.h"

struct label_box {
    double x0, y0, x1, y1;
    bool line; /* a piece of a line, which a text may lie on where there is no other place */
};

struct labels {
    double left, right, top, bottom; /* texts stay within */
    struct label_box *taken;         /* [n] */
    size_t n, cap;
};

int labels_keep_off(struct labels *l, double x, double y, struct genarm_error *err); /* of the dot there */
int labels_keep_off_line(struct labels *l, double x0, double y0, double x1, double y1, struct genarm_error *err);
int labels_put(struct buf *b, struct labels *l, double x, double y, const char *text, struct genarm_error *err);
void labels_deinit(struct labels *l);

#endif
