/* See report_page.h. */
#include "eval/report_page.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/report_sheet.h"

enum { MOST_MISSING = 12 }; /* methods that are said to lack answers */

static const char style[] =
    "main{max-width:1280px}.figures{columns:2 420px;column-gap:16px}.figures figure{break-inside:avoid;margin:0 0 16px;"
    "display:inline-block;width:100%}\n"
    ".sheet,.example{margin:0 0 16px}.sheet .sub,figcaption{margin:8px 0 0;font-size:13px;color:var(--soft)}"
    ".sheet table{width:auto}.sheet td,.sheet th{text-align:right;padding:5px 8px 5px 12px;white-space:nowrap}\n"
    ".sheet thead th{vertical-align:bottom;white-space:normal;min-width:70px}.sheet th.text,.sheet td.text,"
    ".sheet th:first-child{text-align:left}.sheet td.text{white-space:normal;overflow-wrap:anywhere;min-width:90px}\n"
    ".sheet thead th:first-child{padding-left:0}.sheet tbody th{color:var(--ink);position:sticky;left:0;"
    "background:var(--card);padding-left:0;min-width:min(200px,34vw);white-space:normal;overflow-wrap:anywhere}"
    ".sheet td span{color:var(--soft);font-size:12px}.sheet b{font-weight:700}\n"
    ".sheet tbody tr:hover>*{background:var(--page)}.found{margin:0 0 16px;padding-left:20px}.found li{margin:2px 0}\n"
    ".asked{border-left:3px solid var(--edge);padding:2px 0 2px 12px;margin:4px 0 12px;white-space:pre-wrap;"
    "overflow-wrap:anywhere;max-height:18em;overflow:auto}\n"
    ".answers{display:grid;gap:12px;grid-template-columns:repeat(auto-fill,minmax(min(100%,260px),1fr))}"
    ".answers article{border:1px solid var(--edge);border-radius:10px;padding:10px 12px;min-width:0;display:flex;"
    "flex-direction:column}\n"
    ".answers h4{margin:0 0 4px;font-size:13.5px;overflow-wrap:anywhere}.said{white-space:pre-wrap;overflow-wrap:anywhere;"
    "font-size:14px;max-height:17em;overflow:auto;flex:1}.said.empty{color:var(--soft);font-style:italic}\n"
    ".chips{list-style:none;display:flex;flex-wrap:wrap;gap:4px 10px;margin:8px 0 0;padding:0;font-size:12px;"
    "color:var(--soft)}.chips b{font-weight:600;color:var(--ink);font-variant-numeric:tabular-nums}\n"
    "h3 .sub{font-weight:400;font-size:13px}.terms dt{font-weight:600;margin-top:8px}.terms dd{margin:0}"
    "nav{font-size:14px;margin:8px 0 0}nav a{margin-right:14px}a{color:inherit}code{font-size:.92em}\n";

/* ---- what was run ---- */

static void fact(struct page *p, const char *key, const char *value) {
    if (value && *value) {
        page_element(p, "<tr><th scope=\"row\">", key, "</th>");
        page_element(p, "<td>", value, "</td></tr>\n");
    }
}

/* A value of unknown kind as text: what it is, or JSON. */
static void fact_json(struct page *p, const struct numbers *n, const char *key, const json_t *value) {
    if (json_is_string(value)) {
        fact(p, key, json_string_value(value));
    } else if (value && !json_is_null(value)) {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
        fact(p, key, text ? pool_short(n->pool, text, 300) : NULL);
        free(text);
    }
}

static const char *methods_text(const struct numbers *n) {
    const struct results *r = n->results;
    const char *text = "";
    for (size_t i = 0; i < r->n_methods; i++) {
        const struct results_method *m = &r->methods[i];
        text = pool_text(n->pool, "%s%s%s (%s%s)", text, i ? ", " : "", m->label, m->how,
                         m->n_cells > 1 ? pool_text(n->pool, ", %zu points", m->n_cells) : "");
    }
    return text;
}

static const char *names_text(const struct numbers *n, bool judges) {
    const struct results *r = n->results;
    const char *text = "";
    for (size_t i = 0; i < (judges ? r->n_judges : r->n_rewards); i++) {
        text = pool_text(n->pool, "%s%s%s", text, i ? ", " : "", judges ? r->judges[i].label : r->rewards[i]);
    }
    return text;
}

/* Programs and machines of the files; results of before these were recorded name those of the report. */
static void made_by(struct page *p, const struct numbers *n) {
    const struct results *r = n->results;
    const json_t *list = json_object_get(r->experiment, "made_by");
    const char *key;
    json_t *value;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *by = json_array_get(list, i);
        const char *version = json_string_value(json_object_get(by, "version"));
        const char *machine = json_string_value(json_object_get(by, "machine"));
        fact(p, version && *version ? pool_text(n->pool, "genarm %s", version) : "not recorded",
             pool_text(n->pool, "%lld files%s%s", (long long)json_integer_value(json_object_get(by, "files")),
                       machine && *machine ? ": " : "", machine ? machine : ""));
    }
    if (!list) {
        fact(p, "genarm", *r->version ? r->version : "not recorded");
    }
    json_object_foreach(json_object_get(r->experiment, "machine"), key, value) {
        fact_json(p, n, key, value);
    }
}

static void what_was_run(struct page *p, const struct numbers *n) {
    const struct results *r = n->results;
    page_put(p, "<h2 id=\"run\">What was run</h2>\n<div class=\"facts\">\n<section class=\"card\"><h3>Experiment</h3>"
                "<table><tbody>\n");
    fact(p, "Model", r->model);
    fact_json(p, n, "Prompts", json_object_get(r->experiment, "prompts"));
    fact(p, "Number of prompts", pool_text(n->pool, "%zu", r->n_prompts));
    fact_json(p, n, "Seed", json_object_get(r->experiment, "seed"));
    fact(p, "Methods", methods_text(n));
    fact(p, "Rewards", names_text(n, false));
    fact(p, "Judges", names_text(n, true));
    fact(p, "Compared with", r->n_cells ? r->cells[n->reference].name : "");
    page_put(p, "</tbody></table></section>\n<section class=\"card\"><h3>Program and machine</h3><table><tbody>\n");
    made_by(p, n);
    page_put(p, "</tbody></table></section>\n</div>\n");
}

/* What a reader has to know before he believes the numbers. */
static void warnings(struct page *p, const struct numbers *n) {
    const struct results *r = n->results;
    size_t missing = 0;
    for (size_t i = 0; i < n->n_notes; i++) {
        page_element(p, "<p class=\"note\">", n->notes[i], "</p>\n");
    }
    for (size_t i = 0; i < r->n_cells; i++) {
        if ((size_t)r->cells[i].n_answers < r->n_prompts && missing++ < MOST_MISSING) {
            page_element(p, "<p class=\"note\">",
                         pool_text(n->pool, "%s: %lld of %zu answers.", r->cells[i].name, (long long)r->cells[i].n_answers,
                                   r->n_prompts),
                         "</p>\n");
        }
    }
    if (missing > MOST_MISSING) {
        page_element(p, "<p class=\"note\">", pool_text(n->pool, "%zu more methods lack answers.", missing - MOST_MISSING),
                     "</p>\n");
    }
    if (r->n_other) {
        page_element(p, "<p class=\"note\">",
                     pool_text(n->pool, "%lld lines of the results are of kinds that this version does not know.",
                               (long long)r->n_other),
                     "</p>\n");
    }
}

/* ---- findings ---- */

static const char *value_text(const struct numbers *n, const struct interval *x, double factor, const char *unit) {
    char text[64], range[64];
    sheet_format(text, range, x, factor, -1);
    return pool_text(n->pool, "%s%s%s%s", text, unit, *range ? " " : "", range);
}

/* The highest mean of a reward, and what the reference has. */
static void found_reward(struct page *p, const struct numbers *n, size_t reward) {
    const struct results *r = n->results;
    size_t best = r->n_cells;
    for (size_t i = 0; i < r->n_cells; i++) {
        const double x = n->cells[i].rewards[reward].value;
        if (isfinite(x) && (best == r->n_cells || x > n->cells[best].rewards[reward].value)) {
            best = i;
        }
    }
    if (best == r->n_cells) {
        return;
    }
    page_element(p, "<li>", r->rewards[reward], ": ");
    page_element(p, "highest with <b>", r->cells[best].name, "</b>, ");
    page_text(p, value_text(n, &n->cells[best].rewards[reward], 1, ""));
    if (best != n->reference && isfinite(n->cells[best].difference[reward].value)) {
        page_element(p, "; difference to ", r->cells[n->reference].name, " ");
        const struct interval *d = &n->cells[best].difference[reward];
        page_text(p, value_text(n, d, 1, ""));
        page_text(p, d->low > 0 || d->high < 0 ? "" : ", which may be chance");
    }
    page_put(p, "</li>\n");
}

static void found_judge(struct page *p, const struct numbers *n, size_t judge) {
    const struct results *r = n->results;
    const struct judge_numbers *all = &n->judges[judge * r->n_cells];
    size_t best = r->n_cells;
    for (size_t i = 0; i < r->n_cells; i++) {
        const double x = all[i].judged ? all[i].verdicts.rate.value : NAN;
        if (isfinite(x) && (best == r->n_cells || x > all[best].verdicts.rate.value)) {
            best = i;
        }
    }
    if (best < r->n_cells) {
        const struct interval *rate = &all[best].verdicts.rate;
        const size_t against = r->judges[judge].against;
        page_element(p, "<li>", r->judges[judge].label, ": ");
        page_element(p, rate->value > 0.5 ? "prefers <b>" : "prefers none; the highest rate has <b>", r->cells[best].name, "</b>, ");
        page_element(p, "wins + ties/2 against ", against < r->n_methods ? r->methods[against].label : "another method", " ");
        page_text(p, value_text(n, rate, 100, " %"));
        page_text(p, rate->low <= 0.5 && rate->high >= 0.5 ? ", which may be chance" : "");
        page_put(p, "</li>\n");
    }
}

static void findings(struct page *p, const struct numbers *n, const struct tables *t) {
    page_put(p, "<h2 id=\"findings\">Findings</h2>\n<ul class=\"found\">\n");
    for (size_t i = 0; i < n->results->n_rewards; i++) {
        if (i != n->kl_reward) {
            found_reward(p, n, i);
        }
    }
    for (size_t j = 0; j < n->results->n_judges; j++) {
        found_judge(p, n, j);
    }
    page_put(p, "</ul>\n");
    sheet_html(p, &t->sheets[0]);
    page_element(p, "<p class=\"sub\">", tables_legend, "</p>\n");
}

/* ---- figures and tables ---- */

static void figures_html(struct page *p, const struct figures *f) {
    if (!f->n) {
        return;
    }
    page_put(p, "<h2 id=\"figures\">Figures</h2>\n<div class=\"figures\">\n");
    for (size_t i = 0; i < f->n; i++) {
        page_put(p, "<figure class=\"card\">");
        p->code = p->code ? p->code : figure_svg(p->b, &f->items[i], p->err);
        page_element(p, "<figcaption>", f->items[i].caption, "</figcaption></figure>\n");
    }
    page_put(p, "</div>\n");
}

static void tables_html(struct page *p, const struct tables *t) {
    page_put(p, "<h2 id=\"tables\">Tables</h2>\n");
    for (size_t i = 1; i < t->n; i++) {
        sheet_html(p, &t->sheets[i]);
    }
}

static void method_of_numbers(struct page *p) {
    page_put(p,
             "<h2 id=\"numbers\">How the numbers are computed</h2>\n<section class=\"card\">\n"
             "<p>Intervals are percentiles of 2000 bootstrap draws of prompts (200 for length-controlled rates), at a level of "
             "95 %, with a fixed seed. Differences, gaps, hypervolumes and mean inner products draw the same prompts for "
             "all that they compare. Nothing is corrected for many comparisons. <code>docs/metrics.md</code> of genarm "
             "has the formulas and where they are from.</p>\n<dl class=\"terms\">\n"
             "<dt>Reward</dt><dd>Mean over prompts. An answer for which a source abstained is left out of its mean.</dd>\n"
             "<dt>Wins + ties/2</dt><dd>Over all verdicts that are valid.</dd>\n"
             "<dt>Length-controlled</dt><dd>A logistic model of the verdict with the difference of lengths as a term, which is "
             "then put to 0 (Dubois et al., arXiv 2404.04475), without AlpacaEval's difficulties of prompts.</dd>\n"
             "<dt>Recovered gap</dt><dd>(mean \xE2\x88\x92 mean of from) / (mean of to \xE2\x88\x92 mean of from).</dd>\n"
             "<dt>Hypervolume</dt><dd>What the points of a method dominate above the reference point. It is in units of the "
             "rewards: compare it within this report only.</dd>\n"
             "<dt>Diversity</dt><dd>Product over n = 2, 3, 4 of the share of n-grams of words that are different within an "
             "answer; distinct-n is that share over all answers of a method.</dd>\n"
             "<dt>Tokens evaluated</dt><dd>Every token that went through a model, once for each policy that saw it, prompts "
             "included. Times depend on the machine and on what else it did.</dd>\n"
             "</dl></section>\n");
}

int eval_report_page(struct buf *b, const struct numbers *n, const struct tables *t, const struct figures *f,
                     struct genarm_error *err) {
    struct page p = {.b = b, .err = err};
    page_open(&p, n->results->title, style);
    if (*n->results->about) {
        page_element(&p, "<p class=\"sub\">", n->results->about, "</p>\n");
    }
    page_put(&p, "<nav><a href=\"#findings\">Findings</a>");
    page_put(&p, f->n ? "<a href=\"#figures\">Figures</a>" : "");
    page_put(&p, "<a href=\"#tables\">Tables</a><a href=\"#examples\">Examples</a><a href=\"#run\">What was run</a>"
                 "<a href=\"#numbers\">How the numbers are computed</a></nav>\n");
    warnings(&p, n);
    findings(&p, n, t);
    figures_html(&p, f);
    tables_html(&p, t);
    examples_html(&p, n);
    what_was_run(&p, n);
    method_of_numbers(&p);
    page_put(&p, "<footer>Made by genarm " GENARM_VERSION " from results.jsonl</footer>\n");
    page_close(&p);
    return p.code ? p.code : pool_check(n->pool, err);
}
