/* The page of an experiment: one HTML file that needs nothing else. */
#ifndef EVAL_REPORT_PAGE_H
#define EVAL_REPORT_PAGE_H

#include "eval/report_figures.h"
#include "eval/report_tables.h"
#include "plot/page.h"

int eval_report_page(struct buf *b, const struct numbers *n, const struct tables *t, const struct figures *f,
                     struct genarm_error *err);

/* Answers of the methods to a few prompts, side by side (report_examples.c). */
void examples_html(struct page *p, const struct numbers *n);

#endif
