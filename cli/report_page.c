/* See report_page.h. All texts that come from logs and names of files go through text(). */
#include "report_page.h"

#include <stdlib.h>
#include <string.h>

#include "plot/page.h"

enum {
    TABLE_ROWS = 16, /* of a curve that is longer */
    MOST_ROWS = 48   /* with what was held out */
};

static void number(struct page *p, double x, int digits) {
    char s[32];
    plot_number(s, sizeof s, x, digits);
    page_put(p, s);
}

/* A step, exactly. */
static void step(struct page *p, double x) {
    char s[32];
    snprintf(s, sizeof s, "%.10g", x);
    page_put(p, s);
}

/* ---- head ---- */

static const char *fact(const struct report *r, size_t run, const char *section, const char *key) {
    for (size_t i = 0; i < r->facts.n; i++) {
        const struct report_fact *f = &r->facts.items[i];
        if (strcmp(f->section, section) == 0 && strcmp(f->key, key) == 0) {
            return f->values[run];
        }
    }
    return NULL;
}

/* "arm loss on SmolLM2-135M-Instruct, Q4_1; started 2026-…" */
static void subtitle(struct page *p, const struct report *r) {
    static const struct {
        const char *section, *key, *before, *after;
    } parts[] = {{"Options", "loss", "", " loss"},
                 {"Model", "name", " on ", ""},
                 {"Model", "type", ", ", ""},
                 {"Run", "started", "; started ", ""}};
    if (r->n_runs != 1 || !r->runs[0].facts) {
        return;
    }
    page_put(p, "<p class=\"sub\">");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const char *value = fact(r, 0, parts[i].section, parts[i].key);
        if (value) {
            page_put(p, parts[i].before);
            page_text(p, value);
            page_put(p, parts[i].after);
        }
    }
    page_put(p, "</p>\n");
}

/* What a reader has to know of a log before he believes the curves. */
static void warnings(struct page *p, const struct report *r) {
    for (size_t i = 0; i < r->n_runs; i++) {
        const struct report_run *run = &r->runs[i];
        char s[160];
        if (run->torn_line) {
            snprintf(s, sizeof s, ": line %ld, the last one, is cut off, as when a run is killed; it is left out.",
                     run->torn_line);
            page_element(p, "<p class=\"note\">", run->path, "");
            page_element(p, "", s, "</p>\n");
        }
        if (!run->facts) {
            page_element(p, "<p class=\"note\">", run->path, "");
            page_put(p, " does not say how the run was configured: older logs have no such line.</p>\n");
        }
    }
}

/* ---- results ---- */

/* What is told of a run before its curves, where it is known. */
static const char *const result_keys[] = {"reward", "kl", "val_loss", "val_accuracy", "val_margin", "loss", "accuracy",
                                          "pairs_per_second", "tokens_per_second"};
enum { N_RESULTS = sizeof result_keys / sizeof *result_keys };

static bool has_result(const struct report_run *run, size_t i) {
    const char *key = result_keys[i];
    char held_out[64];
    snprintf(held_out, sizeof held_out, "val_%s", key);
    return report_run_curve(run, key) && !report_run_curve(run, held_out); /* held-out pairs tell more */
}

static bool is_held_out(const char *key) { return strncmp(key, "val_", 4) == 0; }

static void result_name(struct page *p, const char *key) {
    page_text(p, report_key_title(key));
    page_put(p, is_held_out(key)                          ? ", held out"
                : strcmp(key, "pairs_per_second") == 0  ? ", pairs/s"
                : strcmp(key, "tokens_per_second") == 0 ? ", tokens/s"
                                                          : "");
}

static double last_of(const struct report_run *run, const char *key) {
    const struct trace *t = report_run_curve(run, key);
    const struct trace_bucket *b = &t->buckets[t->n - 1];
    return is_held_out(key) ? b->sum / (double)b->n : report_curve_end(t);
}

static double first_of(const struct report_run *run, const char *key) {
    const struct trace *t = report_run_curve(run, key);
    return is_held_out(key) ? t->buckets[0].sum / (double)t->buckets[0].n : report_curve_start(t);
}

static void tile_steps(struct page *p, const struct report *r) {
    const char *steps = fact(r, 0, "Run", "steps");
    page_put(p, "<div class=\"tile\"><dt>Steps</dt><dd>");
    step(p, r->runs[0].last_step < 0 ? 0 : r->runs[0].last_step);
    if (steps) {
        page_element(p, "</dd><dd class=\"was\">of ", steps, "</dd></div>\n");
    } else {
        page_put(p, "</dd></div>\n");
    }
}

static void tiles(struct page *p, const struct report *r) {
    page_put(p, "<dl class=\"tiles\">\n");
    tile_steps(p, r);
    for (size_t i = 0; i < N_RESULTS; i++) {
        if (has_result(&r->runs[0], i)) {
            const char *key = result_keys[i];
            page_put(p, "<div class=\"tile\"><dt>");
            result_name(p, key);
            page_put(p, "</dt><dd>");
            number(p, last_of(&r->runs[0], key), 4);
            page_put(p, "</dd><dd class=\"was\">from ");
            number(p, first_of(&r->runs[0], key), 4);
            page_put(p, "</dd></div>\n");
        }
    }
    page_put(p, "</dl>\n");
}

/* The colour of a run beside its name. */
static void run_names(struct page *p, const struct report *r) {
    for (size_t i = 0; i < r->n_runs; i++) {
        char key[160];
        snprintf(key, sizeof key,
                 "<th scope=\"col\"><svg class=\"plot key\" aria-hidden=\"true\" viewBox=\"0 0 1 1\"><rect class=\"f%zu\" "
                 "width=\"1\" height=\"1\"/></svg>",
                 i % PLOT_COLORS);
        page_element(p, key, r->runs[i].label, "</th>");
    }
}

static void result_table(struct page *p, const struct report *r) {
    page_put(p, "<div class=\"card scroll\" style=\"margin-top:20px\"><table class=\"runs\"><caption>Results</caption>\n"
                "<thead><tr><td></td>");
    run_names(p, r);
    page_put(p, "</tr></thead>\n<tbody><tr><th scope=\"row\">Last step</th>");
    for (size_t i = 0; i < r->n_runs; i++) {
        page_put(p, "<td>");
        step(p, r->runs[i].last_step < 0 ? 0 : r->runs[i].last_step);
        page_put(p, "</td>");
    }
    page_put(p, "</tr>\n");
    for (size_t i = 0; i < N_RESULTS; i++) {
        bool any = false;
        for (size_t k = 0; k < r->n_runs; k++) {
            any = any || has_result(&r->runs[k], i);
        }
        if (!any) {
            continue;
        }
        page_put(p, "<tr><th scope=\"row\">");
        result_name(p, result_keys[i]);
        page_put(p, "</th>");
        for (size_t k = 0; k < r->n_runs; k++) {
            page_put(p, "<td>");
            if (report_run_curve(&r->runs[k], result_keys[i])) {
                number(p, last_of(&r->runs[k], result_keys[i]), 4);
                page_put(p, " <span class=\"sub\">from ");
                number(p, first_of(&r->runs[k], result_keys[i]), 4);
                page_put(p, "</span>");
            } else {
                page_put(p, "–");
            }
            page_put(p, "</td>");
        }
        page_put(p, "</tr>\n");
    }
    page_put(p, "</tbody></table></div>\n");
}

/* ---- charts ---- */

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static size_t add_steps(double *steps, size_t n, size_t max, const struct trace *t, size_t rows) {
    const size_t every = (t->n + rows - 1) / rows;
    for (size_t i = 0; i < t->n && n < max; i += every) {
        steps[n++] = t->buckets[i].last;
    }
    if (n < max) {
        steps[n++] = t->buckets[t->n - 1].last;
    }
    return n;
}

/* Steps that get a row, ascending: those of the first curve at even distances, and those of what was held out. */
static size_t table_steps(double *steps, size_t max, const struct report_chart *c) {
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < c->n_columns; i++) {
        n = add_steps(steps, n, max, c->columns[i].trace, i == 0 ? TABLE_ROWS : TABLE_ROWS / 2);
    }
    qsort(steps, n, sizeof *steps, compare);
    for (size_t i = 0; i < n; i++) {
        if (kept == 0 || steps[i] > steps[kept - 1]) {
            steps[kept++] = steps[i];
        }
    }
    return kept;
}

static void curve_table(struct page *p, const struct report_chart *c) {
    double steps[MOST_ROWS];
    const size_t n = table_steps(steps, MOST_ROWS, c);
    page_put(p, "<details><summary>Table</summary><div class=\"scroll\"><table class=\"curve\"><thead><tr>"
                "<th scope=\"col\">step</th>");
    for (size_t i = 0; i < c->n_columns; i++) {
        page_element(p, "<th scope=\"col\">", c->columns[i].name.len ? c->columns[i].name.data : c->plot.title, "</th>");
    }
    page_put(p, "</tr></thead>\n<tbody>\n");
    for (size_t k = 0; k < n; k++) {
        page_put(p, "<tr><th scope=\"row\">");
        step(p, steps[k]);
        page_put(p, "</th>");
        for (size_t i = 0; i < c->n_columns; i++) {
            double y;
            page_put(p, "<td>");
            if (trace_at(c->columns[i].trace, steps[k], &y)) {
                number(p, y, 4);
            } else {
                page_put(p, "–");
            }
            page_put(p, "</td>");
        }
        page_put(p, "</tr>\n");
    }
    page_put(p, "</tbody></table></div></details>\n");
}

static void charts(struct page *p, const struct report *r) {
    page_put(p, "<h2>Curves</h2>\n<div class=\"charts\">\n");
    for (size_t i = 0; i < r->charts.n; i++) {
        const struct report_chart *c = &r->charts.items[i];
        page_put(p, "<figure class=\"card\">");
        p->code = p->code ? p->code : plot_chart(p->b, &c->plot, 0, 0, p->err);
        if (c->n_columns) {
            curve_table(p, c);
        }
        page_put(p, "</figure>\n");
    }
    page_put(p, "</div>\n");
    if (r->n_runs == 1 && r->runs[0].n_resumed) {
        page_put(p, "<p class=\"sub\">Dashed lines: the run was stopped and went on after step");
        for (size_t i = 0; i < r->runs[0].n_resumed; i++) {
            char s[48];
            snprintf(s, sizeof s, "%s %.0f", i ? "," : "", r->runs[0].resumed[i]);
            page_put(p, s);
        }
        page_put(p, ".</p>\n");
    }
}

/* ---- facts ---- */

/* Tables of one run, one for each section. */
static void sections(struct page *p, const struct report *r) {
    const char *section = NULL;
    if (!r->facts.n) {
        return;
    }
    page_put(p, "<h2>Configuration and data</h2>\n<div class=\"facts\">\n");
    for (size_t i = 0; i < r->facts.n; i++) {
        const struct report_fact *f = &r->facts.items[i];
        if (!section || strcmp(section, f->section) != 0) {
            page_put(p, section ? "</tbody></table></section>\n" : "");
            page_element(p, "<section class=\"card\"><h3>", f->section, "</h3><table><tbody>\n");
            section = f->section;
        }
        page_element(p, "<tr><th scope=\"row\">", f->key, "</th>");
        page_element(p, "<td>", f->values[0] ? f->values[0] : "–", "</td></tr>\n");
    }
    page_put(p, "</tbody></table></section>\n</div>\n");
}

/* Facts of several runs: those that differ between them, or those that do not. */
static void comparison(struct page *p, const struct report *r, bool differing) {
    size_t n = 0;
    for (size_t i = 0; i < r->facts.n; i++) {
        const struct report_fact *f = &r->facts.items[i];
        if (f->differs != differing) {
            continue;
        }
        if (n++ == 0) {
            page_put(p, differing ? "<h2>What differs</h2>\n<div class=\"card scroll\"><table class=\"runs\"><thead><tr><td></td>"
                                  : "<details><summary>All else</summary><div class=\"card scroll\"><table "
                                    "class=\"runs\"><thead><tr><td></td>");
            run_names(p, r);
            page_put(p, "</tr></thead>\n<tbody>\n");
        }
        page_element(p, "<tr><th scope=\"row\">", f->section, ": ");
        page_element(p, "", f->key, "</th>");
        for (size_t k = 0; k < r->n_runs; k++) {
            page_element(p, "<td>", f->values[k] ? f->values[k] : "–", "</td>");
        }
        page_put(p, "</tr>\n");
    }
    if (n) {
        page_put(p, differing ? "</tbody></table></div>\n" : "</tbody></table></div></details>\n");
    } else if (differing && r->facts.n) {
        page_put(p, "<h2>What differs</h2>\n<p class=\"sub\">Nothing that the logs know of.</p>\n");
    }
}

/* ---- the page ---- */

int report_page(struct buf *b, const struct report *r, struct genarm_error *err) {
    struct page p = {.b = b, .err = err};
    page_open(&p, r->title, NULL);
    subtitle(&p, r);
    warnings(&p, r);
    if (r->n_runs == 1) {
        tiles(&p, r);
        charts(&p, r);
        sections(&p, r);
    } else {
        result_table(&p, r);
        comparison(&p, r, true);
        charts(&p, r);
        comparison(&p, r, false);
    }
    page_put(&p, "<footer>From ");
    for (size_t i = 0; i < r->n_runs; i++) {
        page_element(&p, i ? ", " : "", r->runs[i].path, "");
    }
    page_put(&p, "; genarm " GENARM_VERSION "</footer>\n");
    page_close(&p);
    return p.code;
}
