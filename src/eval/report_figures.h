/* Which figures a report has. */
#ifndef EVAL_REPORT_FIGURES_H
#define EVAL_REPORT_FIGURES_H

#include "eval/report_numbers.h"
#include "plot/plot.h"

struct figure {
    const char *name;    /* of its file, without the ending: [a-z0-9-] */
    const char *caption; /* what it shows */
    bool is_bars;
    struct plot_chart chart;
    struct plot_bars bars; /* where is_bars */
};

struct figures {
    struct figure *items; /* [n] */
    size_t n, cap;
};

/* Those that there are numbers for. Memory is the pool's of the numbers, but for the list. */
int figures_make(struct figures *out, const struct numbers *n, struct genarm_error *err);
void figures_deinit(struct figures *f);

int figure_svg(struct buf *b, const struct figure *f, struct genarm_error *err);     /* as an element of a page */
int figure_picture(struct buf *b, const struct figure *f, struct genarm_error *err); /* as a file */

#endif
