/* The page of genarm report: one HTML file that needs nothing else, for any width, light or dark, with a table behind every
 * chart. */
#ifndef CLI_REPORT_PAGE_H
#define CLI_REPORT_PAGE_H

#include "report_charts.h"
#include "report_facts.h"

struct report {
    const char *title;
    struct report_run *runs; /* [n_runs] */
    size_t n_runs;
    struct report_charts charts;
    struct report_facts facts;
};

int report_page(struct buf *b, const struct report *r, struct genarm_error *err);

#endif
