/* HTML pages of reports: one file that needs nothing else, for any width, light or dark. Callers are cli/report_page.c and the
 * report of src/eval. */
#ifndef PLOT_PAGE_H
#define PLOT_PAGE_H

#include "base/buf.h"

/* The page as it grows; after a failure nothing more is added. */
struct page {
    struct buf *b;
    struct genarm_error *err;
    int code;
};

void page_put(struct page *p, const char *html);   /* as it is */
void page_text(struct page *p, const char *text);  /* escaped */
void page_lines(struct page *p, const char *text); /* escaped; its line ends stay */

/* An element with a text in it; `open` is its whole start tag. */
void page_element(struct page *p, const char *open, const char *text, const char *close);

/* All up to and with the heading. `more_style` (or NULL): further rules. The page forbids everything but its own style. */
void page_open(struct page *p, const char *title, const char *more_style);
void page_close(struct page *p);

#endif
