/* See report_sheet.h. */
#include "eval/report_sheet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plot/plot.h"

enum { FORMATTED = 64 };

void sheet_init(struct sheet *s, struct pool *pool, const char *id, const char *title, size_t max_columns, size_t max_rows) {
    *s = (struct sheet){.id = id, .title = title, .pool = pool};
    s->columns = pool_array(pool, max_columns, sizeof *s->columns);
    s->cells = pool_array(pool, max_columns * max_rows, sizeof *s->cells);
    s->groups = pool_array(pool, max_rows, sizeof *s->groups);
    if (s->columns && s->cells && s->groups) {
        s->max_columns = max_columns;
        s->max_rows = max_rows;
    }
}

void sheet_column(struct sheet *s, enum sheet_better better, const char *heading) {
    if (s->n_columns < s->max_columns) {
        s->columns[s->n_columns++] = (struct sheet_column){heading, better};
    }
}

void sheet_row(struct sheet *s, size_t group) {
    if (s->n_rows < s->max_rows) {
        s->groups[s->n_rows++] = group;
        s->n_cells = 0;
    }
}

static void add(struct sheet *s, struct sheet_cell cell) {
    if (s->n_rows && s->n_cells < s->n_columns) {
        s->cells[(s->n_rows - 1) * s->max_columns + s->n_cells++] = cell;
    }
}

static const struct interval nothing = {NAN, NAN, NAN};

void sheet_text(struct sheet *s, const char *text) { add(s, (struct sheet_cell){.text = text, .number = nothing}); }

void sheet_count(struct sheet *s, double n) {
    add(s, (struct sheet_cell){.text = isfinite(n) ? pool_text(s->pool, "%.0f", n) : NULL, .number = {n, NAN, NAN}});
}

void sheet_number(struct sheet *s, double x) {
    char text[FORMATTED];
    plot_number(text, sizeof text, x, 4);
    add(s, (struct sheet_cell){.text = isfinite(x) ? pool_text(s->pool, "%s", text) : NULL, .number = {x, NAN, NAN}});
}

/* Decimals at which an interval of this width has two digits: 0.512 [0.473, 0.550], 23.1 [20.4, 25.9]. */
static int decimals_of(double width) {
    const double digits = 1 - floor(log10(width / 2));
    return digits < 0 ? 0 : digits > 6 ? 6 : (int)digits;
}

/* 0 for what would be shown as -0.00. */
static double rounded(double x, int decimals) { return fabs(x) < 0.5 * pow(10, -decimals) ? 0 : x; }

void sheet_format(char *text, char *range, const struct interval *x, double factor, int decimals) {
    const double value = factor * x->value, low = factor * x->low, high = factor * x->high;
    text[0] = range[0] = '\0';
    if (!isfinite(value)) {
        return;
    }
    if (!isfinite(low) || !isfinite(high) || fabs(low) > 1e12 || fabs(high) > 1e12 || fabs(value) > 1e12) {
        plot_number(text, FORMATTED, value, 4);
        return;
    }
    if (!(high > low) && decimals < 0) {
        plot_number(text, FORMATTED, value, 4);
        return;
    }
    decimals = decimals < 0 ? decimals_of(high - low) : decimals;
    snprintf(text, FORMATTED, "%.*f", decimals, rounded(value, decimals));
    if (!(high > low)) { /* all records are equal: there is no interval to speak of */
        return;
    }
    snprintf(range, FORMATTED, "[%.*f, %.*f]", decimals, rounded(low, decimals), decimals, rounded(high, decimals));
}

void sheet_interval(struct sheet *s, const struct interval *x, double factor) {
    add(s, (struct sheet_cell){.number = *x, .factor = factor});
}

static int by_value(const void *a, const void *b) {
    const int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

/* -1: no number of the column has an interval. */
static int column_decimals(const struct sheet *s, size_t column) {
    int *all = pool_array(s->pool, s->n_rows, sizeof *all);
    size_t n = 0;
    for (size_t i = 0; i < s->n_rows && all; i++) {
        const struct sheet_cell *c = &s->cells[i * s->max_columns + column];
        const double width = c->factor * (c->number.high - c->number.low);
        if (isfinite(width) && width > 0) {
            all[n++] = decimals_of(width);
        }
    }
    if (!n) {
        return -1;
    }
    qsort(all, n, sizeof *all, by_value);
    return all[n / 2];
}

static void format_column(struct sheet *s, size_t column) {
    const int decimals = column_decimals(s, column);
    for (size_t i = 0; i < s->n_rows; i++) {
        struct sheet_cell *c = &s->cells[i * s->max_columns + column];
        char text[FORMATTED], range[FORMATTED];
        if (fabs(c->factor) > 0) {
            sheet_format(text, range, &c->number, c->factor, decimals);
            c->text = *text ? pool_text(s->pool, "%s", text) : NULL;
            c->range = *range ? pool_text(s->pool, "%s", range) : NULL;
        }
    }
}

static bool apart(const struct interval *best, const struct interval *other, bool higher) {
    return !isfinite(other->value) || (higher ? best->low > other->high : best->high < other->low);
}

static void mark_column(struct sheet *s, size_t column) {
    const bool higher = s->columns[column].better == SHEET_HIGHER;
    struct sheet_cell *best = NULL;
    size_t group = 0, others = 0;
    for (size_t i = 0; i < s->n_rows; i++) {
        struct sheet_cell *c = &s->cells[i * s->max_columns + column];
        if (isfinite(c->number.low) && isfinite(c->number.high) &&
            (!best || (higher ? c->number.value > best->number.value : c->number.value < best->number.value))) {
            best = c;
            group = s->groups[i];
        }
    }
    for (size_t i = 0; i < s->n_rows && best; i++) {
        const struct sheet_cell *c = &s->cells[i * s->max_columns + column];
        if (s->groups[i] != group && isfinite(c->number.value)) {
            others++;
            if (!apart(&best->number, &c->number, higher)) {
                return;
            }
        }
    }
    if (best && others && best->number.high > best->number.low) { /* where all records are equal nothing tells how sure that is */
        best->best = true;
    }
}

bool sheet_is_empty(const struct sheet *s) {
    for (size_t row = 0; row < s->n_rows; row++) {
        for (size_t i = 1; i < s->n_columns; i++) {
            if (s->cells[row * s->max_columns + i].text) {
                return false;
            }
        }
    }
    return true;
}

void sheet_finish(struct sheet *s) {
    for (size_t i = 0; i < s->n_columns; i++) {
        format_column(s, i);
        if (s->columns[i].better == SHEET_HIGHER || s->columns[i].better == SHEET_LOWER) {
            mark_column(s, i);
        }
    }
}

/* ---- Markdown ---- */

int sheet_markdown_text(struct buf *b, const char *text, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (const char *at = text; *at && rc == GENARM_OK; at++) {
        if (strchr("\\|*_`<>[]", *at)) {
            rc = buf_puts(b, "\\", err);
        }
        rc = rc ? rc : (unsigned char)*at < 0x20 ? buf_puts(b, " ", err) : buf_append(b, at, 1, err);
    }
    return rc;
}

static int markdown_cell(struct buf *b, const struct sheet_cell *c, struct genarm_error *err) {
    int rc = buf_puts(b, c->best ? " **" : " ", err);
    rc = rc ? rc : sheet_markdown_text(b, c->text ? c->text : "\xE2\x80\x93", err);
    rc = rc ? rc : buf_puts(b, c->best ? "**" : "", err);
    return rc || !c->range ? rc : buf_printf(b, err, " %s", c->range);
}

int sheet_markdown(struct buf *b, const struct sheet *s, struct genarm_error *err) {
    int rc = buf_puts(b, "\n## ", err);
    rc = rc ? rc : sheet_markdown_text(b, s->title, err);
    rc = rc ? rc : buf_puts(b, "\n\n", err);
    for (size_t i = 0; i < s->n_columns && rc == GENARM_OK; i++) {
        rc = buf_puts(b, i ? " | " : "| ", err);
        rc = rc ? rc : sheet_markdown_text(b, s->columns[i].heading, err);
    }
    rc = rc ? rc : buf_puts(b, " |\n", err);
    for (size_t i = 0; i < s->n_columns && rc == GENARM_OK; i++) {
        rc = buf_puts(b, s->columns[i].better == SHEET_TEXT ? "|---" : "|--:", err);
    }
    rc = rc ? rc : buf_puts(b, "|\n", err);
    for (size_t row = 0; row < s->n_rows && rc == GENARM_OK; row++) {
        for (size_t i = 0; i < s->n_columns && rc == GENARM_OK; i++) {
            rc = buf_puts(b, i ? " |" : "|", err);
            rc = rc ? rc : markdown_cell(b, &s->cells[row * s->max_columns + i], err);
        }
        rc = rc ? rc : buf_puts(b, " |\n", err);
    }
    if (rc == GENARM_OK && s->note) {
        rc = buf_puts(b, "\n", err);
        rc = rc ? rc : sheet_markdown_text(b, s->note, err);
        rc = rc ? rc : buf_puts(b, "\n", err);
    }
    return rc;
}

/* ---- HTML ---- */

static void html_cell(struct page *p, const struct sheet_column *column, const struct sheet_cell *c, bool first) {
    const bool text = column->better == SHEET_TEXT;
    page_put(p, first ? "<th scope=\"row\">" : text ? "<td class=\"text\">" : "<td>");
    page_element(p, c->best ? "<b>" : "", c->text ? c->text : "\xE2\x80\x93", c->best ? "</b>" : "");
    if (c->range) {
        page_element(p, " <span>", c->range, "</span>");
    }
    page_put(p, first ? "</th>" : "</td>");
}

void sheet_html(struct page *p, const struct sheet *s) {
    page_element(p, "<section class=\"card sheet\" id=\"table-", s->id, "\">");
    page_element(p, "<h3>", s->title, "</h3>\n<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr>");
    for (size_t i = 0; i < s->n_columns; i++) {
        page_element(p, s->columns[i].better == SHEET_TEXT ? "<th scope=\"col\" class=\"text\">" : "<th scope=\"col\">",
                     s->columns[i].heading, "</th>");
    }
    page_put(p, "</tr></thead>\n<tbody>\n");
    for (size_t row = 0; row < s->n_rows; row++) {
        page_put(p, "<tr>");
        for (size_t i = 0; i < s->n_columns; i++) {
            html_cell(p, &s->columns[i], &s->cells[row * s->max_columns + i], i == 0);
        }
        page_put(p, "</tr>\n");
    }
    page_put(p, "</tbody></table></div>\n");
    if (s->note) {
        page_element(p, "<p class=\"sub\">", s->note, "</p>");
    }
    page_put(p, "</section>\n");
}
