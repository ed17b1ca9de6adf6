/* Which tables a report has. */
#ifndef EVAL_REPORT_TABLES_H
#define EVAL_REPORT_TABLES_H

#include "eval/report_numbers.h"
#include "eval/report_sheet.h"

struct tables {
    struct sheet *sheets; /* [n] the first one has the main findings */
    size_t n;
};

/* Those that there are numbers for. Memory is the pool's of the numbers. */
int tables_make(struct tables *out, const struct numbers *n, struct genarm_error *err);

/* What bold and brackets mean. */
extern const char tables_legend[];

#endif
