/* See report_figures.h. */
#include "eval/report_figures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum { FRONT_BODY = 300, TITLE = 38, NAME = 44, MOST_LABEL = 20, MARGIN = 12 }; /* in characters: the middle three */

/* ---- the list ---- */

static struct figure *add(struct figures *f, struct pool *pool) {
    if (f->n == f->cap) {
        const size_t cap = f->cap ? 2 * f->cap : 16;
        struct figure *grown = realloc(f->items, cap * sizeof *grown);
        if (!grown) {
            pool->failed = true;
            return NULL;
        }
        f->items = grown;
        f->cap = cap;
    }
    f->items[f->n] = (struct figure){0};
    return &f->items[f->n++];
}

void figures_deinit(struct figures *f) {
    free(f->items);
    *f = (struct figures){0};
}

/* A name for files and identifiers; two names may become one, so the number of the thing is in it. */
static const char *slug(struct pool *pool, const char *kind, size_t number, const char *name) {
    char *text = pool_array(pool, strlen(name) + 1, 1);
    size_t n = 0;
    for (const char *at = name; *at && text && n < 40; at++) {
        const char c = *at >= 'A' && *at <= 'Z' ? (char)(*at - 'A' + 'a') : *at;
        const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (plain || (n && text[n - 1] != '-')) {
            text[n++] = plain ? c : '-';
        }
    }
    while (n && text[n - 1] == '-') {
        text[--n] = '\0';
    }
    return pool_text(pool, "%s-%zu%s%s", kind, number + 1, n ? "-" : "", n ? text : "");
}

static const char *short_name(const struct numbers *n, size_t reward, size_t characters) {
    return pool_short(n->pool, n->results->rewards[reward], characters);
}

/* A title of two names, both cut where they are too long together. */
static const char *title_of(struct pool *pool, const char *a, const char *between, const char *b) {
    const size_t room = TITLE - strlen(between);
    const bool fits = utf8_length(a, strlen(a)) + utf8_length(b, strlen(b)) <= room;
    return pool_text(pool, "%s%s%s", fits ? a : pool_short(pool, a, room / 2), between, fits ? b : pool_short(pool, b, room / 2));
}

static struct plot_axis axis(const char *label, bool log) {
    return (struct plot_axis){.label = label, .min = NAN, .max = NAN, .log = log};
}

/* ---- points of methods ---- */

/* Where a cell is in a figure. */
typedef bool place_cell(struct plot_point *at, struct plot_interval *across, const struct numbers *n, size_t cell,
                        const void *data);

/* The series of a method: its points, in the order of the sweep. `labels`: how a point is called, or NULL. */
static bool method_series(struct plot_series *s, const struct numbers *n, size_t method, place_cell *place, const void *data,
                          const char *(*label)(const struct numbers *n, size_t cell)) {
    const struct results_method *m = &n->results->methods[method];
    struct plot_point *points = pool_array(n->pool, m->n_cells, sizeof *points);
    struct plot_interval *across = pool_array(n->pool, m->n_cells, sizeof *across);
    const char **labels = pool_array(n->pool, m->n_cells, sizeof *labels);
    size_t count = 0;
    for (size_t i = 0; i < m->n_cells && points && across && labels; i++) {
        if (place(&points[count], &across[count], n, m->first_cell + i, data)) {
            labels[count] = label && m->n_cells > 1 ? label(n, m->first_cell + i) : NULL;
            count++;
        }
    }
    *s = (struct plot_series){.name = pool_short(n->pool, m->label, NAME),
                              .points = points,
                              .n = count,
                              .style = PLOT_POINTS | PLOT_WHISKERS | (count > 1 && label ? PLOT_LINE : 0),
                              .color = (int)(method % PLOT_COLORS),
                              .shape = (int)(method + method / PLOT_COLORS),
                              .across = across,
                              .labels = labels};
    return count > 0;
}

/* Series of all methods that have a point; NULL: there are none. */
static struct plot_series *all_series(struct plot_chart *c, const struct numbers *n, place_cell *place, const void *data,
                       const char *(*label)(const struct numbers *n, size_t cell)) {
    struct plot_series *series = pool_array(n->pool, n->results->n_methods, sizeof *series);
    size_t count = 0;
    for (size_t i = 0; i < n->results->n_methods && series; i++) {
        count += method_series(&series[count], n, i, place, data, label);
    }
    c->series = series;
    c->n_series = count;
    return count ? series : NULL;
}

static bool from_intervals(struct plot_point *at, struct plot_interval *across, const struct interval *x,
                           const struct interval *y) {
    *at = (struct plot_point){x->value, y->value, isfinite(y->low) ? y->low : y->value, isfinite(y->high) ? y->high : y->value};
    *across = (struct plot_interval){isfinite(x->low) ? x->low : x->value, isfinite(x->high) ? x->high : x->value};
    return isfinite(x->value) && isfinite(y->value);
}

static const char *point_label(const struct numbers *n, size_t cell) {
    return pool_short(n->pool, n->results->cells[cell].label, MOST_LABEL);
}

/* ---- fronts ---- */

static bool place_front(struct plot_point *at, struct plot_interval *across, const struct numbers *n, size_t cell,
                        const void *data) {
    const size_t *objectives = data;
    return from_intervals(at, across, &n->cells[cell].rewards[objectives[0]], &n->cells[cell].rewards[objectives[1]]);
}

/* "0.5/0.5": the weights in the order of the objectives; the whole point where they are not all. */
static const char *weights_label(const struct numbers *n, size_t cell) {
    const struct results_cell *c = &n->results->cells[cell];
    const char *text = "";
    size_t known = 0;
    for (size_t i = 0; i < n->n_objectives; i++) {
        const double weight = results_variable(c, n->variables[i]);
        if (isfinite(weight)) {
            text = pool_text(n->pool, "%s%s%.3g", text, known ? "/" : "", weight);
            known++;
        }
    }
    return known == json_object_size(c->values) && known ? text : point_label(n, cell);
}

static const char *weights_note(const struct numbers *n) {
    const char *text = "Points: ";
    for (size_t i = 0; i < n->n_objectives; i++) {
        text = pool_text(n->pool, "%s%s%s", text, i ? "/" : "", n->variables[i]);
    }
    return pool_short(n->pool, text, 56);
}

/* Whether points have weights as labels. */
static bool is_swept(const struct plot_chart *c, const struct numbers *n) {
    for (size_t i = 0; i < c->n_series; i++) {
        for (size_t k = 0; k < c->series[i].n && n->n_objectives; k++) {
            if (c->series[i].labels[k] && !strchr(c->series[i].labels[k], '=')) {
                return true;
            }
        }
    }
    return false;
}

static void front(struct figures *f, const struct numbers *n, size_t a, size_t b) {
    const size_t objectives[2] = {n->objectives[a], n->objectives[b]};
    struct plot_chart c = {.x = axis(short_name(n, objectives[0], NAME), false), .y = axis("", false), .body = FRONT_BODY};
    struct plot_series *series = all_series(&c, n, place_front, objectives, weights_label);
    struct figure *made = series ? add(f, n->pool) : NULL;
    if (made) {
        c.title = title_of(n->pool, n->results->rewards[objectives[1]], " against ", n->results->rewards[objectives[0]]);
        c.description = pool_text(n->pool, "Mean %s and mean %s of each method, at each of its points.",
                                  n->results->rewards[objectives[0]], n->results->rewards[objectives[1]]);
        c.note = is_swept(&c, n) ? weights_note(n) : NULL;
        for (size_t i = 0; i < c.n_series && n->n_objectives > 2; i++) { /* a sweep of three is no line */
            series[i].style &= ~(unsigned)PLOT_LINE;
        }
        made->name = c.id = slug(n->pool, "front", f->n - 1, n->results->rewards[objectives[1]]);
        made->chart = c;
        made->caption = n->n_objectives == 2
                            ? "Trade-off of two objectives: up and to the right is better. Bars: 95 % intervals. Lines join the "
                              "points of a sweep in its order."
                            : "Two of the objectives: up and to the right is better. Bars: 95 % intervals.";
    }
}

/* ---- judges ---- */

/* The point is never cut. */
static const char *bar_name(const struct numbers *n, size_t cell) {
    const struct results_cell *c = &n->results->cells[cell];
    const char *method = n->results->methods[c->method].label;
    const size_t point = utf8_length(c->label, strlen(c->label)), room = point + 12 < NAME ? NAME - point : 12;
    return pool_text(n->pool, "%s%s%s", pool_short(n->pool, method, room), point ? " " : "", c->label);
}

static void judge(struct figures *f, const struct numbers *n, size_t j) {
    static const char *const parts[] = {"win", "tie", "lose"};
    static const int colors[] = {2, 7, 1};
    const struct results *r = n->results;
    const char *name = r->judges[j].label;
    struct plot_bar *bars = pool_array(n->pool, r->n_cells, sizeof *bars);
    size_t count = 0;
    for (size_t i = 0; i < r->n_cells && bars; i++) {
        const struct judge_numbers *x = &n->judges[j * r->n_cells + i];
        double *values = x->judged ? pool_array(n->pool, 3, sizeof *values) : NULL;
        if (values) {
            const int64_t all = x->verdicts.wins + x->verdicts.ties + x->verdicts.losses;
            values[0] = (double)x->verdicts.wins;
            values[1] = (double)x->verdicts.ties;
            values[2] = (double)x->verdicts.losses;
            bars[count++] = (struct plot_bar){.name = bar_name(n, i),
                                              .after = pool_text(n->pool, "n = %lld", (long long)all),
                                              .values = values};
        }
    }
    struct figure *made = count ? add(f, n->pool) : NULL;
    if (made) {
        made->name = slug(n->pool, "judge", j, name);
        made->is_bars = true;
        made->caption = "Verdicts in per cent of those that are valid.";
        made->bars = (struct plot_bars){
            .title = r->judges[j].against < r->n_methods
                         ? title_of(n->pool, name, ": against ", r->methods[r->judges[j].against].label)
                         : pool_short(n->pool, name, TITLE),
            .description = pool_text(n->pool, "Shares of wins, ties and losses that the judge %s gave each method.", name),
            .id = made->name,
            .parts = parts,
            .colors = colors,
            .n_parts = 3,
            .bars = bars,
            .n_bars = count};
    }
}

/* ---- reward by KL, by cost ---- */

static bool place_kl(struct plot_point *at, struct plot_interval *across, const struct numbers *n, size_t cell,
                     const void *data) {
    return from_intervals(at, across, &n->cells[cell].kl, &n->cells[cell].rewards[*(const size_t *)data]);
}

static bool place_work(struct plot_point *at, struct plot_interval *across, const struct numbers *n, size_t cell,
                       const void *data) {
    return from_intervals(at, across, &n->cells[cell].all_work, &n->cells[cell].rewards[*(const size_t *)data]);
}

static bool place_ms(struct plot_point *at, struct plot_interval *across, const struct numbers *n, size_t cell,
                     const void *data) {
    return from_intervals(at, across, &n->cells[cell].ms, &n->cells[cell].rewards[*(const size_t *)data]);
}

/* A reward by something else of the same cells. */
struct by {
    const char *kind, *title, *x, *caption;
    place_cell *place;
    bool log;
    bool path; /* a sweep is a path through the figure */
};

static bool reward_by(struct figures *f, const struct numbers *n, size_t reward, const struct by *by) {
    struct plot_chart c = {.x = axis(by->x, by->log), .y = axis("", false), .body = 240};
    if (!all_series(&c, n, by->place, &reward, by->path ? weights_label : NULL)) {
        return false;
    }
    c.note = by->path && is_swept(&c, n) ? weights_note(n) : NULL;
    struct figure *made = add(f, n->pool);
    if (made) {
        made->name = c.id = slug(n->pool, by->kind, reward, n->results->rewards[reward]);
        c.title = pool_text(n->pool, "%s %s", short_name(n, reward, TITLE - strlen(by->title) - 1), by->title);
        c.description = pool_text(n->pool, "Mean %s of each method by %s.", n->results->rewards[reward], by->x);
        made->chart = c;
        made->caption = by->caption;
    }
    return true;
}

static void by_kl(struct figures *f, const struct numbers *n, size_t reward) {
    static const struct by kl = {.kind = "kl",
                                 .title = "against KL",
                                 .x = "KL to the base, nats an answer",
                                 .caption = "What a method gains for how far it moves from the base: up and left is better.",
                                 .place = place_kl,
                                 .path = true};
    (void)reward_by(f, n, reward, &kl);
}

static void by_cost(struct figures *f, const struct numbers *n, size_t reward) {
    static const struct by work = {.kind = "cost",
                                   .title = "against cost",
                                   .x = "tokens evaluated per token of the answer",
                                   .caption = "What a method gains for what it computes: up and to the left is better.",
                                   .place = place_work,
                                   .log = true},
                           ms = {.kind = "time",
                                 .title = "against time",
                                 .x = "ms per token",
                                 .caption = "What a method gains for the time that it takes: up and to the left is better.",
                                 .place = place_ms,
                                 .log = true};
    if (!reward_by(f, n, reward, &work)) {
        (void)reward_by(f, n, reward, &ms);
    }
}

/* ---- one swept variable ---- */

struct sweep {
    const char *variable;
    size_t reward;
};

/* The only variable of a method's points, if all of its values are numbers; or NULL. */
static const char *only_variable(const struct numbers *n, size_t method) {
    const struct results_method *m = &n->results->methods[method];
    const json_t *values = n->results->cells[m->first_cell].values;
    const char *name = json_object_size(values) == 1
                           ? json_object_iter_key(json_object_iter((json_t *)(uintptr_t)values)) /* nothing is changed */
                           : NULL;
    for (size_t i = 0; i < m->n_cells && name; i++) {
        name = isfinite(results_variable(&n->results->cells[m->first_cell + i], name)) ? name : NULL;
    }
    return m->n_cells > 1 ? name : NULL;
}

static bool place_sweep(struct plot_point *at, struct plot_interval *across, const struct numbers *n, size_t cell,
                        const void *data) {
    const struct sweep *sweep = data;
    const char *variable = only_variable(n, n->results->cells[cell].method);
    const double x = results_variable(&n->results->cells[cell], sweep->variable);
    const struct interval place = {x, x, x};
    return variable && strcmp(variable, sweep->variable) == 0 &&
           from_intervals(at, across, &place, &n->cells[cell].rewards[sweep->reward]);
}

static const char *no_label(const struct numbers *n, size_t cell) {
    (void)n;
    (void)cell;
    return NULL;
}

static void by_variable(struct figures *f, const struct numbers *n, const char *variable, size_t number) {
    for (size_t i = 0; i < n->results->n_rewards; i++) {
        const struct sweep sweep = {variable, i};
        struct plot_chart c = {.x = axis(pool_short(n->pool, variable, NAME), false), .y = axis("", false)};
        struct figure *made = i != n->kl_reward && all_series(&c, n, place_sweep, &sweep, no_label) ? add(f, n->pool) : NULL;
        if (made) {
            made->name = c.id = slug(n->pool, pool_text(n->pool, "sweep-%zu", number + 1), i, n->results->rewards[i]);
            c.title = title_of(n->pool, n->results->rewards[i], " by ", variable);
            c.description = pool_text(n->pool, "Mean %s of each method that sweeps %s.", n->results->rewards[i], variable);
            made->chart = c;
            made->caption = "One variable is swept; bars are 95 % intervals.";
        }
    }
}

static void sweeps(struct figures *f, const struct numbers *n) {
    size_t count = 0;
    for (size_t i = 0; i < n->results->n_methods; i++) {
        const char *variable = only_variable(n, i);
        bool is_new = variable != NULL;
        for (size_t k = 0; k < i && is_new; k++) {
            const char *before = only_variable(n, k);
            is_new = !before || strcmp(before, variable) != 0;
        }
        if (is_new) {
            by_variable(f, n, variable, count++);
        }
    }
}

/* ---- calibration ---- */

/* Wilson's 95 % interval of a share. */
static struct plot_interval wilson(double share, double n) {
    const double z = 1.959964, scale = 1 / (1 + z * z / n), middle = scale * (share + z * z / (2 * n)),
                 half = scale * z * sqrt(share * (1 - share) / n + z * z / (4 * n * n));
    return (struct plot_interval){middle - half, middle + half};
}

/* The bins from *i on that have a twelfth of all pairs together, as one: shares of a few pairs are 0 or 1, and say nothing.
 * What is left over at the end goes with the last. *i becomes the bin behind it. */
static struct calibration_bin next_bins(const struct calibration *c, int *i) {
    struct calibration_bin sum = {0};
    int64_t left = 0;
    for (int k = *i; k < c->n_bins; k++) {
        left += c->bins[k].n;
    }
    do {
        const struct calibration_bin *bin = &c->bins[(*i)++];
        if (bin->n > 0) {
            const double share = (double)bin->n / (double)(sum.n + bin->n);
            sum.confidence += share * (bin->confidence - sum.confidence);
            sum.accuracy += share * (bin->accuracy - sum.accuracy);
            sum.n += bin->n;
            left -= bin->n;
        }
    } while (*i < c->n_bins && (12 * sum.n < c->n || 12 * left < c->n));
    return sum;
}

static bool reliability(struct plot_series *s, const struct numbers *n, size_t pairs) {
    const struct calibration *c = &n->pairs[pairs];
    struct plot_point *points = pool_array(n->pool, CALIBRATION_MAX_BINS, sizeof *points);
    size_t count = 0;
    for (int i = 0; i < c->n_bins && points;) {
        const struct calibration_bin bin = next_bins(c, &i);
        if (bin.n > 0) {
            const struct plot_interval range = wilson(bin.accuracy, (double)bin.n);
            points[count++] = (struct plot_point){bin.confidence, bin.accuracy, fmin(range.low, bin.accuracy),
                                                  fmax(range.high, bin.accuracy)};
        }
    }
    *s = (struct plot_series){.name = pool_short(n->pool, numbers_pairs_name(n, pairs), NAME),
                              .points = points,
                              .n = count,
                              .style = PLOT_POINTS | PLOT_WHISKERS | PLOT_LINE,
                              .color = (int)(pairs % PLOT_COLORS),
                              .shape = (int)(pairs + pairs / PLOT_COLORS)};
    return count > 0;
}

static void calibration(struct figures *f, const struct numbers *n) {
    static const struct plot_point ideal[] = {{0.5, 0.5, 0.5, 0.5}, {1, 1, 1, 1}};
    struct plot_series *series = pool_array(n->pool, n->results->n_pairs + 1, sizeof *series);
    size_t count = 0;
    for (size_t i = 0; i < n->results->n_pairs && series; i++) {
        count += reliability(&series[count], n, i);
    }
    struct figure *made = count ? add(f, n->pool) : NULL;
    if (made) {
        series[count++] =
            (struct plot_series){.name = "calibrated", .points = ideal, .n = 2, .style = PLOT_LINE, .color = 7, .dash = 1};
        made->name = "calibration";
        made->chart = (struct plot_chart){.title = "Calibration of rewards",
                                          .description = "Share of held-out pairs that a reward ranks right, by how sure it is.",
                                          .id = made->name,
                                          .x = {.label = "confidence", .min = 0.5, .max = 1},
                                          .y = {.label = "accuracy", .min = NAN, .max = 1},
                                          .series = series,
                                          .n_series = count,
                                          .body = 240};
        made->caption = "Confidence: the larger of p and 1 \xE2\x88\x92 p, p = sigmoid(scaled margin). Below the dashed line a "
                        "reward is too sure. Bars: Wilson's 95 % intervals.";
    }
}

/* ---- all ---- */

int figures_make(struct figures *out, const struct numbers *n, struct genarm_error *err) {
    const struct results *r = n->results;
    *out = (struct figures){0};
    for (size_t a = 0; a < n->n_objectives; a++) {
        for (size_t b = a + 1; b < n->n_objectives; b++) {
            front(out, n, a, b);
        }
    }
    for (size_t j = 0; j < r->n_judges; j++) {
        judge(out, n, j);
    }
    for (size_t i = 0; i < r->n_rewards; i++) {
        if (i != n->kl_reward) {
            by_kl(out, n, i);
            by_cost(out, n, i);
        }
    }
    sweeps(out, n);
    calibration(out, n);
    const int rc = pool_check(n->pool, err);
    if (rc) {
        figures_deinit(out);
    }
    return rc;
}

int figure_svg(struct buf *b, const struct figure *f, struct genarm_error *err) {
    return f->is_bars ? plot_bars(b, &f->bars, 0, 0, err) : plot_chart(b, &f->chart, 0, 0, err);
}

int figure_picture(struct buf *b, const struct figure *f, struct genarm_error *err) {
    const int height = f->is_bars ? plot_bars_height(&f->bars) : plot_height(&f->chart);
    int rc = plot_picture(b, PLOT_WIDTH + 2 * MARGIN, height + 2 * MARGIN, err);
    rc = rc ? rc : f->is_bars ? plot_bars(b, &f->bars, MARGIN, MARGIN, err) : plot_chart(b, &f->chart, MARGIN, MARGIN, err);
    return rc ? rc : buf_puts(b, "</svg>\n", err);
}
