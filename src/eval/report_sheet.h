/* A table of a report: rows of texts and of numbers with intervals, as Markdown and as HTML. */
#ifndef EVAL_REPORT_SHEET_H
#define EVAL_REPORT_SHEET_H

#include "eval/bootstrap.h"
#include "eval/report_pool.h"
#include "plot/page.h"

enum sheet_better { SHEET_TEXT, SHEET_NUMBER, SHEET_HIGHER, SHEET_LOWER }; /* the last two have a best value */

struct sheet_column {
    const char *heading;
    enum sheet_better better;
};

struct sheet_cell {
    const char *text;  /* NULL: nothing is known */
    const char *range; /* its interval, or NULL */
    struct interval number;
    double factor; /* of the number as it is shown; 0: `text` is there already */
    bool best;
};

struct sheet {
    const char *id, *title, *note; /* id: [a-z0-9-]; note: below it, or NULL */
    struct sheet_column *columns;  /* [n_columns] */
    size_t n_columns, max_columns;
    struct sheet_cell *cells; /* [n_rows, max_columns] */
    size_t *groups;           /* [n_rows] */
    size_t n_rows, max_rows;
    size_t n_cells; /* of the last row */
    struct pool *pool;
};

/* Room for so many; what is beyond is left out. Memory is the pool's, whose check comes at the end. */
void sheet_init(struct sheet *s, struct pool *pool, const char *id, const char *title, size_t max_columns, size_t max_rows);
void sheet_column(struct sheet *s, enum sheet_better better, const char *heading);

/* A row, and its cells from the left. Rows of one group are the points of one method: none of them keeps another from being
 * best. */
void sheet_row(struct sheet *s, size_t group);
void sheet_text(struct sheet *s, const char *text);
void sheet_count(struct sheet *s, double n);       /* a whole number; NaN: not known */
void sheet_number(struct sheet *s, double x);      /* four digits */
void sheet_interval(struct sheet *s, const struct interval *x, double factor); /* as many digits as the intervals warrant */

/* When all is there: numbers of a column get as many decimals as its median interval warrants, and the best value of each
 * column that has one is marked, if its interval overlaps with that of no row of another group. */
void sheet_finish(struct sheet *s);

/* Whether nothing is known beside the names of the rows. */
bool sheet_is_empty(const struct sheet *s);

/* `text` of a number and of its interval, "" where there is none; both at least 64 bytes. decimals < 0: those at which the
 * interval has two digits. */
void sheet_format(char *text, char *range, const struct interval *x, double factor, int decimals);

/* A text with what Markdown would take for its own escaped. */
int sheet_markdown_text(struct buf *b, const char *text, struct genarm_error *err);
int sheet_markdown(struct buf *b, const struct sheet *s, struct genarm_error *err);
void sheet_html(struct page *p, const struct sheet *s);

#endif
