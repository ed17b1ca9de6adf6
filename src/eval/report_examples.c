/* A few prompts with the answers of every method side by side: the first ones, and those where a method differs most from the
 * reference. Texts are read again from the results, one prompt at a time. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/report_page.h"
#include "plot/plot.h"

enum {
    FIRST = 3,       /* prompts */
    EXTREMES = 2,    /* of gains, and of losses */
    MOST_METHODS = 16,
    MOST_TEXT = 3000 /* characters */
};

struct example {
    size_t prompt;
    const char *why;
};

/* The reward by which examples are chosen: the first objective, else the first reward. */
static size_t main_reward(const struct numbers *n) {
    if (n->n_objectives) {
        return n->objectives[0];
    }
    return n->kl_reward == 0 && n->results->n_rewards > 1 ? 1 : 0;
}

/* One point of each method: the middle of its sweep. */
static size_t cell_shown(const struct results_method *m) { return m->first_cell + m->n_cells / 2; }

/* Of the cells that are shown the one that gains most over the reference; n_cells: none. */
static size_t best_cell(const struct numbers *n, size_t reward) {
    const struct results *r = n->results;
    size_t best = r->n_cells;
    for (size_t i = 0; i < r->n_methods && i < MOST_METHODS && reward < r->n_rewards; i++) {
        const size_t cell = cell_shown(&r->methods[i]);
        const double gain = n->cells[cell].difference[reward].value;
        if (isfinite(gain) && (best == r->n_cells || gain > n->cells[best].difference[reward].value)) {
            best = cell;
        }
    }
    return best;
}

static bool is_chosen(const struct example *list, size_t n, size_t prompt) {
    for (size_t i = 0; i < n; i++) {
        if (list[i].prompt == prompt) {
            return true;
        }
    }
    return false;
}

/* Adds the prompt whose difference times `sign` is largest; 0 or less is none. */
static size_t add_extreme(struct example *list, size_t count, const double *x, const double *reference, size_t n, double sign,
                          const char *why) {
    size_t best = n;
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        const double difference = sign * (x[i] - reference[i]);
        if (difference > most && !is_chosen(list, count, i)) {
            best = i;
            most = difference;
        }
    }
    if (best < n) {
        list[count++] = (struct example){best, why};
    }
    return count;
}

static size_t choose(struct example *list, const struct numbers *n) {
    const struct results *r = n->results;
    const size_t reward = main_reward(n), cell = best_cell(n, reward);
    size_t count = 0;
    for (; count < FIRST && count < r->n_prompts; count++) {
        list[count] = (struct example){count, ""};
    }
    if (cell == r->n_cells) {
        return count;
    }
    const double *x = results_rewards(r, &r->cells[cell], reward),
                 *reference = results_rewards(r, &r->cells[n->reference], reward);
    for (int i = 0; i < 2 * EXTREMES; i++) {
        const bool gain = i < EXTREMES;
        count = add_extreme(list, count, x, reference, r->n_prompts, gain ? 1 : -1,
                            pool_text(n->pool, "largest %s of %s in %s", gain ? "gain" : "loss", r->cells[cell].name,
                                      r->rewards[reward]));
    }
    return count;
}

/* ---- one answer ---- */

static void chip(struct page *p, const char *name, double x) {
    char number[32];
    plot_number(number, sizeof number, x, 4);
    page_element(p, "<li>", name, " ");
    page_element(p, "<b>", isfinite(x) ? number : "\xE2\x80\x93", "</b></li>");
}

static void chips(struct page *p, const struct numbers *n, size_t cell, size_t prompt) {
    const struct results *r = n->results;
    const struct results_cell *c = &r->cells[cell];
    page_put(p, "<ul class=\"chips\">");
    for (size_t i = 0; i < r->n_rewards; i++) {
        if (i != n->kl_reward) {
            chip(p, r->rewards[i], results_rewards(r, c, i)[prompt]);
        }
    }
    for (size_t j = 0; j < r->n_judges; j++) {
        const struct results_verdicts *v = &r->judges[j].cells[cell];
        if (v->n && v->verdicts[prompt] != RESULTS_NO_VERDICT) {
            page_element(p, "<li>", r->judges[j].label, " ");
            page_element(p, "<b>", win_rate_verdict_name((enum win_rate_verdict)v->verdicts[prompt]), "</b></li>");
        }
    }
    const double tokens = results_column(r, c, RESULTS_TOKENS)[prompt];
    if (isfinite(tokens)) {
        chip(p, "tokens", tokens);
    }
    if (results_column(r, c, RESULTS_FINISHED)[prompt] == 0) {
        page_put(p, "<li>cut off</li>");
    }
    page_put(p, "</ul>");
}

/* Answers are all there is to show: one that cannot be read again is left out. */
static void answer(struct page *p, const struct numbers *n, size_t cell, size_t prompt, FILE *stream) {
    const struct results *r = n->results;
    const struct results_cell *c = &r->cells[cell];
    struct results_texts t = {0};
    if (!c->offsets || c->offsets[prompt] < 0 || p->code) {
        return;
    }
    p->code = results_text(&t, stream, r, c, prompt, p->err);
    if (p->code == GENARM_OK) {
        page_element(p, "<article><h4>", c->name, "</h4>");
        page_put(p, *t.response ? "<div class=\"said\">" : "<div class=\"said empty\">(empty)");
        page_lines(p, pool_short(n->pool, t.response, MOST_TEXT));
        page_put(p, "</div>");
        chips(p, n, cell, prompt);
        page_put(p, "</article>\n");
    }
    results_texts_deinit(&t);
}

static void prompt_text(struct page *p, const struct numbers *n, size_t prompt, FILE *stream) {
    const struct results *r = n->results;
    for (size_t i = 0; i < r->n_cells && p->code == GENARM_OK; i++) {
        const struct results_cell *c = &r->cells[i];
        struct results_texts t = {0};
        if (c->offsets && c->offsets[prompt] >= 0) {
            p->code = results_text(&t, stream, r, c, prompt, p->err);
            if (p->code == GENARM_OK) {
                page_put(p, "<div class=\"asked\">");
                page_lines(p, pool_short(n->pool, t.prompt, MOST_TEXT));
                page_put(p, "</div>\n");
            }
            results_texts_deinit(&t);
            return;
        }
    }
}

static void example_html(struct page *p, const struct numbers *n, const struct example *e, FILE *stream) {
    const struct results *r = n->results;
    char number[64];
    snprintf(number, sizeof number, "Prompt %zu", e->prompt);
    page_element(p, "<section class=\"card example\"><h3>", number, "");
    if (*e->why) {
        page_element(p, " <span class=\"sub\">", e->why, "</span>");
    }
    page_put(p, "</h3>\n");
    prompt_text(p, n, e->prompt, stream);
    page_put(p, "<div class=\"answers\">\n");
    for (size_t i = 0; i < r->n_methods && i < MOST_METHODS; i++) {
        answer(p, n, cell_shown(&r->methods[i]), e->prompt, stream);
    }
    page_put(p, "</div></section>\n");
}

void examples_html(struct page *p, const struct numbers *n) {
    struct example list[FIRST + 2 * EXTREMES];
    const size_t count = choose(list, n);
    FILE *stream = fopen(n->results->path, "rbe");
    bool swept = false;
    if (!stream) {
        p->code = p->code ? p->code : error_at(p->err, error_set(p->err, GENARM_EIO, "cannot open the file again"), "%s",
                                               n->results->path);
        return;
    }
    for (size_t i = 0; i < n->results->n_methods; i++) {
        swept = swept || n->results->methods[i].n_cells > 1;
    }
    page_put(p, "<h2 id=\"examples\">Examples</h2>\n<p class=\"sub\">The first prompts, and those with the largest differences.");
    page_put(p, swept ? " Of a sweep its middle point.</p>\n" : "</p>\n");
    for (size_t i = 0; i < count; i++) {
        example_html(p, n, &list[i], stream);
    }
    fclose(stream);
}
