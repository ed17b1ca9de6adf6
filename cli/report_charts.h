/* The charts of a report: which curves belong together, what they are called, how they are drawn. */
#ifndef CLI_REPORT_CHARTS_H
#define CLI_REPORT_CHARTS_H

#include "report_log.h"

/* One curve of a chart. */
struct report_column {
    struct buf name;           /* for tables and the description: "run: held out" */
    struct buf legend;         /* what the chart calls it */
    const struct trace *trace; /* borrowed from its run */
    size_t run;                /* index */
    bool held_out;
};

struct report_chart {
    struct plot_chart plot;
    struct plot_series *series; /* the plot's */
    struct report_column *columns;
    size_t n_columns;
    bool exact; /* without noise: never smoothed */
    struct buf title, description, note;
    char id[32];
};

struct report_charts {
    struct report_chart *items;
    size_t n;
};

/* All charts of the runs, which must stay as they are. On failure *charts is empty. */
int report_charts_make(struct report_charts *charts, const struct report_run *runs, size_t n_runs, struct genarm_error *err);
void report_charts_deinit(struct report_charts *charts);

/* What a key of the log is called, for people. */
const char *report_key_title(const char *key);

/* The value at the end of a curve and at its start, as the bold line has it. */
double report_curve_end(const struct trace *t);
double report_curve_start(const struct trace *t);

/* Appends all charts as one picture, two in a row, with a style sheet of its own. */
int report_charts_svg(struct buf *b, const struct report_charts *charts, const char *title, struct genarm_error *err);

#endif
