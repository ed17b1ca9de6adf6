/* See report_charts.h. */
#include "report_charts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    RAW_POINTS = 500,    /* groups of a light line: about one a pixel */
    SMOOTH_POINTS = 320, /* of a bold line */
    PAIRED_POINTS = 160, /* of one curve against another */
    FEW_POINTS = 40,     /* that are shown as dots */
    MAX_TEXT = 1 << 16,
    GAP = 28             /* between charts of a picture */
};

/* What is known of the numbers in logs; charts come in this order, unknown ones behind. */
static const struct kind {
    const char *key, *title, *unit;
    double min, max; /* of the axis; NaN: from the data */
    bool log;
    bool exact; /* no noise: never smoothed */
} kinds[] = {
    {"reward", "Reward", "", NAN, NAN, false, false},
    {"rewards", "Rewards by source", "", NAN, NAN, false, false},
    {"kl", "KL to the reference", "nats", NAN, NAN, false, false},
    {"reward_std", "Spread of the reward", "standard deviation", NAN, NAN, false, false},
    {"length", "Length of answers", "tokens", NAN, NAN, false, false},
    {"finished", "Answers that end by themselves", "share", 0, 1, false, false},
    {"clipped", "Ratios that are clipped", "share", 0, NAN, false, false},
    {"loss", "Loss", "", NAN, NAN, false, false},
    {"accuracy", "Accuracy", "share of pairs", 0, 1, false, false},
    {"margin", "Margin", "nats", NAN, NAN, false, false},
    {"responses", "Rewards of the responses", "nats", NAN, NAN, false, false},
    {"learning_rate", "Learning rate", "", 0, NAN, false, true},
    {"grad_norm", "Norm of the gradient", "before clipping", NAN, NAN, true, false},
    {"pairs_per_second", "Speed", "pairs a second", 0, NAN, false, false},
    {"tokens_per_second", "Speed", "tokens a second", 0, NAN, false, false},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static const char held_out_prefix[] = "val_";

static bool is_held_out(const char *key) { return strncmp(key, held_out_prefix, sizeof held_out_prefix - 1) == 0; }

static const struct kind *kind_of(const char *key) {
    for (size_t i = 0; i < N_KINDS; i++) {
        if (strcmp(kinds[i].key, key) == 0) {
            return &kinds[i];
        }
    }
    return NULL;
}

static bool is_response(const char *key) { return strcmp(key, "chosen") == 0 || strcmp(key, "rejected") == 0; }

/* What of its chart a key is: the name of a reward's source in "rewards/NAME", "reward/NAME" or "reward_NAME", or the response
 * that has the reward; NULL: all. */
static const char *source_of(const char *key) {
    static const char *const prefixes[] = {"rewards/", "reward/", "rewards_", "reward_"};
    if (is_response(key)) {
        return key;
    }
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes && !kind_of(key); i++) {
        const size_t n = strlen(prefixes[i]);
        if (strncmp(key, prefixes[i], n) == 0 && key[n]) {
            return key + n;
        }
    }
    return NULL;
}

/* The key of the chart that a curve belongs to. */
static const char *chart_key(const char *key) {
    const char *plain = is_held_out(key) ? key + sizeof held_out_prefix - 1 : key;
    return is_response(plain) ? "responses" : source_of(plain) ? "rewards" : plain;
}

const char *report_key_title(const char *key) {
    const struct kind *kind = kind_of(chart_key(key));
    return kind ? kind->title : key;
}

/* ---- numbers ---- */

static double end_of(const struct trace *t, bool last) {
    const size_t half = trace_half_window(t), from = last ? t->n - 1 - half : 0, to = last ? t->n : 1 + half;
    double sum = 0, n = 0;
    for (size_t i = from; i < to; i++) {
        sum += t->buckets[i].sum;
        n += (double)t->buckets[i].n;
    }
    return sum / n;
}

double report_curve_end(const struct trace *t) { return end_of(t, true); }
double report_curve_start(const struct trace *t) { return end_of(t, false); }

static double window_steps(const struct trace *t) { return (double)(2 * trace_half_window(t) + 1) * (double)t->per; }

/* ---- one chart ---- */

static int add_column(struct report_chart *c, const struct report_run *runs, size_t n_runs, size_t run,
                      const struct report_curve *curve, struct genarm_error *err) {
    struct report_column *grown = realloc(c->columns, (c->n_columns + 1) * sizeof *grown);
    if (!grown) {
        return error_nomem(err, "a chart");
    }
    c->columns = grown;
    struct report_column *column = &c->columns[c->n_columns++];
    *column = (struct report_column){.trace = &curve->trace, .run = run, .held_out = is_held_out(curve->key)};
    buf_init(&column->name, MAX_TEXT);
    buf_init(&column->legend, MAX_TEXT);
    const char *source = source_of(column->held_out ? curve->key + sizeof held_out_prefix - 1 : curve->key);
    const char *label = n_runs > 1 ? runs[run].label : "", *colon = n_runs > 1 && source ? ": " : "";
    source = source ? source : "";
    const char *part = column->held_out ? "held out" : n_runs > 1 || *source ? "" : "training";
    int code = buf_printf(&column->name, err, "%s%s%s%s%s", label, colon, source, (*label || *source) && *part ? ", " : "",
                          part);
    if (code == 0) {
        const char *end = n_runs == 1 && column->held_out && *source ? ", held out" : *label || *source ? "" : part;
        code = buf_printf(&column->legend, err, "%s%s%s%s", label, colon, source, end);
    }
    return code;
}

/* Half the window that a curve is smoothed over. */
static size_t half_window(const struct report_column *column, bool exact) {
    return column->held_out || exact ? 0 : trace_half_window(column->trace);
}

/* Curves of all runs that belong to the chart. */
static int find_columns(struct report_chart *c, const char *key, const struct report_run *runs, size_t n_runs,
                        struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < n_runs; i++) {
        for (size_t k = 0; k < runs[i].n_curves && code == 0; k++) {
            if (strcmp(chart_key(runs[i].curves[k].key), key) == 0) {
                code = add_column(c, runs, n_runs, i, &runs[i].curves[k], err);
            }
        }
    }
    return code;
}

/* Puts held-out curves behind the others, in their order. */
static void order_columns(struct report_chart *c) {
    for (size_t i = 1; i < c->n_columns; i++) {
        for (size_t k = i; k > 0 && c->columns[k - 1].held_out && !c->columns[k].held_out; k--) {
            const struct report_column swapped = c->columns[k];
            c->columns[k] = c->columns[k - 1];
            c->columns[k - 1] = swapped;
        }
    }
}

static int add_series(struct report_chart *c, const struct report_column *column, unsigned style, size_t max, size_t half,
                      struct genarm_error *err) {
    struct plot_point *points;
    struct plot_series *grown = realloc(c->series, (c->plot.n_series + 1) * sizeof *grown);
    if (!grown) {
        return error_nomem(err, "a chart");
    }
    c->series = grown;
    c->plot.series = grown;
    struct plot_series *s = &c->series[c->plot.n_series];
    *s = (struct plot_series){.style = style};
    const int code = trace_points(&points, &s->n, column->trace, max, half, err);
    if (code == 0) {
        s->points = points;
        c->plot.n_series++;
    }
    return code;
}

/* Colours tell runs apart, or, where there is one run, its curves; then dashes tell the curves of a run apart. */
static void set_look(struct report_chart *c, size_t first, const struct report_column *column, size_t n_runs) {
    int among = 0, of_kind = 0;
    for (const struct report_column *k = c->columns; k < column; k++) {
        among++;
        of_kind += k->run == column->run && k->held_out == column->held_out;
    }
    for (size_t i = first; i < c->plot.n_series; i++) {
        c->series[i].color = n_runs > 1 ? (int)column->run : among;
        c->series[i].dash = n_runs > 1 ? of_kind : 0;
        if (column->held_out && n_runs > 1) {
            c->series[i].dash = 2;
        }
    }
}

/* The series of one curve: a light line of all values under a bold one of the mean; dots for what is measured now and then. */
static int draw_column(struct report_chart *c, struct report_column *column, size_t n_runs, size_t n_training,
                       struct genarm_error *err) {
    const size_t half = half_window(column, c->exact), first = c->plot.n_series;
    const bool smooth = half > 0, alone = n_runs == 1 && n_training == 1 && !column->held_out;
    const unsigned dots = (size_t)column->trace->total <= FEW_POINTS && (column->held_out || !smooth) ? PLOT_POINTS : 0;
    char steps[32];
    int code = 0;
    if (smooth) {
        code = add_series(c, column, PLOT_FAINT, RAW_POINTS, 0, err);
        if (code == 0 && alone) {
            c->series[first].name = column->trace->per > 1 ? "lowest and highest" : "each step";
        }
    }
    if (code == 0) {
        code = add_series(c, column, PLOT_LINE | dots, smooth ? SMOOTH_POINTS : RAW_POINTS, half, err);
    }
    if (code == 0 && alone) {
        buf_clear(&column->legend);
        plot_number(steps, sizeof steps, window_steps(column->trace), 3);
        code = smooth ? buf_printf(&column->legend, err, "mean of %s steps around", steps)
                      : buf_puts(&column->legend, "each step", err);
    }
    if (code == 0) {
        c->series[c->plot.n_series - 1].name = n_runs > 1 && column->held_out && n_training ? NULL : column->legend.data;
        set_look(c, first, column, n_runs);
    }
    return code;
}

/* "light: each step; bold: mean of 9; dotted: held out", where the legend names runs or sources. */
static int make_note(struct report_chart *c, size_t n_runs, size_t n_training, struct genarm_error *err) {
    double least = INFINITY, most = 0;
    bool held_out = false;
    for (size_t i = 0; i < c->n_columns; i++) {
        const struct report_column *column = &c->columns[i];
        const double steps = window_steps(column->trace);
        held_out = held_out || column->held_out;
        if (half_window(column, c->exact) > 0) {
            least = fmin(least, steps);
            most = fmax(most, steps);
        }
    }
    if (n_runs == 1 && n_training <= 1) {
        return 0;
    }
    int code = 0;
    if (most > 0) {
        char low[32], high[32];
        plot_number(low, sizeof low, least, 3);
        plot_number(high, sizeof high, most, 3);
        code = buf_printf(&c->note, err, "light: each step; bold: mean of %s%s%s", low, most > least ? " to " : "",
                          most > least ? high : "");
    }
    if (code == 0 && n_runs > 1 && held_out && n_training) {
        code = buf_printf(&c->note, err, "%sdotted: held out", c->note.len ? "; " : "");
    }
    c->plot.note = c->note.len ? c->note.data : NULL;
    return code;
}

/* "training from 0.69 to 0.21, lowest 0.2 at step 90; held out from …" */
static int describe(struct report_chart *c, struct genarm_error *err) {
    int code = buf_printf(&c->description, err, "%s by step.", c->plot.title);
    for (size_t i = 0; i < c->n_columns && code == 0; i++) {
        const struct trace *t = c->columns[i].trace;
        char from[32], to[32];
        plot_number(from, sizeof from, report_curve_start(t), 4);
        plot_number(to, sizeof to, report_curve_end(t), 4);
        const char *name = c->columns[i].name.len ? c->columns[i].name.data : "training";
        code = buf_printf(&c->description, err, " %s: from %s at step %.0f to %s at step %.0f.", name, from,
                          t->buckets[0].first, to, t->buckets[t->n - 1].last);
    }
    c->plot.description = c->description.data;
    return code;
}

static void chart_deinit(struct report_chart *c) {
    for (size_t i = 0; i < c->plot.n_series; i++) {
        free((struct plot_point *)(uintptr_t)c->series[i].points);
    }
    for (size_t i = 0; i < c->n_columns; i++) {
        buf_deinit(&c->columns[i].name);
        buf_deinit(&c->columns[i].legend);
    }
    free(c->series);
    free(c->columns);
    buf_deinit(&c->title);
    buf_deinit(&c->description);
    buf_deinit(&c->note);
    *c = (struct report_chart){0};
}

static struct report_chart *new_chart(struct report_charts *charts, const char *title, struct genarm_error *err) {
    struct report_chart *grown = realloc(charts->items, (charts->n + 1) * sizeof *grown);
    if (!grown) {
        error_nomem(err, "a chart");
        return NULL;
    }
    charts->items = grown;
    struct report_chart *c = &grown[charts->n++];
    *c = (struct report_chart){0};
    buf_init(&c->title, MAX_TEXT);
    buf_init(&c->description, MAX_TEXT);
    buf_init(&c->note, MAX_TEXT);
    return buf_puts(&c->title, title, err) == GENARM_OK ? c : NULL;
}

static void set_axes(struct report_chart *c, const struct kind *kind) {
    c->plot.title = c->title.data;
    c->plot.x = (struct plot_axis){.label = "step", .min = NAN, .max = NAN};
    c->plot.y = (struct plot_axis){.label = kind ? kind->unit : "", .min = NAN, .max = NAN};
    if (kind) {
        c->plot.y.min = kind->min;
        c->plot.y.max = kind->max;
    }
    double low = INFINITY, high = 0;
    for (size_t i = 0; i < c->n_columns && kind && kind->log; i++) {
        for (size_t k = 0; k < c->columns[i].trace->n; k++) {
            low = fmin(low, c->columns[i].trace->buckets[k].min);
            high = fmax(high, c->columns[i].trace->buckets[k].max);
        }
    }
    c->plot.y.log = low > 0 && high > 30 * low;
}

/* The chart of a key, where a run has such a curve. */
static int add_chart(struct report_charts *charts, const char *key, const struct report_run *runs, size_t n_runs,
                     struct genarm_error *err) {
    const struct kind *kind = kind_of(key);
    struct report_chart *c = new_chart(charts, kind ? kind->title : key, err);
    if (!c) {
        return GENARM_ENOMEM;
    }
    c->exact = kind && kind->exact;
    int code = find_columns(c, key, runs, n_runs, err);
    if (code == 0 && c->n_columns == 0) {
        chart_deinit(c);
        charts->n--;
        return 0;
    }
    size_t n_training = 0;
    order_columns(c);
    for (size_t i = 0; i < c->n_columns; i++) {
        n_training += !c->columns[i].held_out;
    }
    n_training = n_runs > 1 ? n_training > 0 : n_training;
    for (size_t i = 0; i < c->n_columns && code == 0; i++) {
        code = draw_column(c, &c->columns[i], n_runs, n_training, err);
    }
    if (code == 0) {
        set_axes(c, kind);
        code = make_note(c, n_runs, n_training, err);
    }
    if (n_runs == 1) {
        c->plot.marks = runs[0].resumed;
        c->plot.n_marks = runs[0].n_resumed;
    }
    return code ? code : describe(c, err);
}

/* ---- reward against KL ---- */

/* The two curves as columns of the table. */
static int add_pair_columns(struct report_chart *c, const struct report_run *runs, size_t n_runs, size_t run,
                            struct genarm_error *err) {
    static const char *const keys[] = {"kl", "reward"}, *const names[] = {"KL", "reward"};
    int code = 0;
    for (size_t i = 0; i < 2 && code == 0; i++) {
        const struct report_curve curve = {.key = (char *)(uintptr_t)keys[i]};
        code = add_column(c, runs, n_runs, run, &curve, err);
        if (code == 0) {
            struct report_column *column = &c->columns[c->n_columns - 1];
            column->trace = report_run_curve(&runs[run], keys[i]);
            buf_clear(&column->name);
            code = buf_printf(&column->name, err, "%s%s%s", n_runs > 1 ? runs[run].label : "", n_runs > 1 ? ": " : "",
                              names[i]);
        }
    }
    return code;
}

/* A line of mean rewards by mean KL, and a dot at its end. */
static int add_pairs(struct report_chart *c, const struct report_run *runs, size_t n_runs, size_t run,
                     struct genarm_error *err) {
    const struct trace *reward = report_run_curve(&runs[run], "reward"), *kl = report_run_curve(&runs[run], "kl");
    struct report_column column = {.trace = reward, .run = run};
    struct plot_point *x = NULL;
    size_t n = 0;
    if (!reward || !kl || reward->total != kl->total) {
        return 0;
    }
    int code = add_series(c, &column, PLOT_LINE, PAIRED_POINTS, trace_half_window(reward), err);
    code = code ? code : add_series(c, &column, PLOT_POINTS, PAIRED_POINTS, trace_half_window(reward), err);
    code = code ? code : trace_points(&x, &n, kl, PAIRED_POINTS, trace_half_window(kl), err);
    for (size_t k = 0; k < 2 && code == 0; k++) {
        struct plot_series *s = &c->series[c->plot.n_series - 2 + k];
        struct plot_point *points = (struct plot_point *)(uintptr_t)s->points;
        for (size_t i = 0; i < n && i < s->n; i++) {
            points[i].x = x[i].y;
        }
        if (k == 1 && s->n > 0) {
            points[0] = points[s->n - 1];
            s->n = 1;
        }
        s->color = (int)run;
        s->name = k == 0 && n_runs > 1 ? runs[run].label : k == 1 && n_runs == 1 ? "where the run ends" : NULL;
    }
    free(x);
    return code ? code : add_pair_columns(c, runs, n_runs, run, err);
}

static int add_reward_by_kl(struct report_charts *charts, const struct report_run *runs, size_t n_runs,
                            struct genarm_error *err) {
    struct report_chart *c = new_chart(charts, "Reward against KL", err);
    int code = c ? 0 : GENARM_ENOMEM;
    for (size_t i = 0; i < n_runs && code == 0; i++) {
        code = add_pairs(c, runs, n_runs, i, err);
    }
    if (code == 0 && c->plot.n_series == 0) {
        chart_deinit(c);
        charts->n--;
        return 0;
    }
    if (code == 0) {
        set_axes(c, NULL);
        c->plot.x.label = "KL to the reference, nats";
        code = buf_printf(&c->description, err, "Mean reward by mean KL divergence to the reference, as training goes on.");
        c->plot.description = c->description.data;
    }
    return code;
}

/* ---- all charts ---- */

static bool is_known(const struct report_charts *charts, const char *key) {
    for (size_t i = 0; i < charts->n; i++) {
        if (strcmp(charts->items[i].title.data, key) == 0) {
            return true;
        }
    }
    return kind_of(key);
}

static int add_others(struct report_charts *charts, const struct report_run *runs, size_t n_runs, struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < n_runs; i++) {
        for (size_t k = 0; k < runs[i].n_curves && code == 0; k++) {
            const char *key = chart_key(runs[i].curves[k].key);
            if (!is_known(charts, key)) {
                code = add_chart(charts, key, runs, n_runs, err);
            }
        }
    }
    return code;
}

int report_charts_make(struct report_charts *charts, const struct report_run *runs, size_t n_runs, struct genarm_error *err) {
    *charts = (struct report_charts){0};
    int code = 0;
    for (size_t i = 0; i < N_KINDS && code == 0; i++) {
        code = add_chart(charts, kinds[i].key, runs, n_runs, err);
        if (code == 0 && strcmp(kinds[i].key, "kl") == 0) {
            code = add_reward_by_kl(charts, runs, n_runs, err);
        }
    }
    code = code ? code : add_others(charts, runs, n_runs, err);
    for (size_t i = 0; i < charts->n && code == 0; i++) { /* the items do not move any more */
        struct report_chart *c = &charts->items[i];
        snprintf(c->id, sizeof c->id, "chart-%zu", i + 1);
        c->plot.id = c->id;
    }
    if (code) {
        report_charts_deinit(charts);
    }
    return code;
}

void report_charts_deinit(struct report_charts *charts) {
    for (size_t i = 0; i < charts->n; i++) {
        chart_deinit(&charts->items[i]);
    }
    free(charts->items);
    *charts = (struct report_charts){0};
}

/* ---- one picture ---- */

int report_charts_svg(struct buf *b, const struct report_charts *charts, const char *title, struct genarm_error *err) {
    enum { TOP = 56, COLUMNS = 2 };
    const int width = COLUMNS * (PLOT_WIDTH + GAP) + GAP;
    int height = TOP;
    for (size_t i = 0; i < charts->n; i += COLUMNS) {
        const int left = plot_height(&charts->items[i].plot),
                  right = i + 1 < charts->n ? plot_height(&charts->items[i + 1].plot) : 0;
        height += (left > right ? left : right) + GAP;
    }
    int code = plot_picture(b, width, height, err);
    code = code ? code : buf_printf(b, err, "<text class=\"head\" x=\"%d\" y=\"36\">", GAP);
    code = code ? code : plot_escape(b, title, err);
    code = code ? code : buf_puts(b, "</text>\n", err);
    int y = TOP, row = 0;
    for (size_t i = 0; i < charts->n && code == 0; i++) {
        const int column = (int)(i % COLUMNS), tall = plot_height(&charts->items[i].plot);
        y += column == 0 ? row : 0;
        row = column == 0 || tall + GAP > row ? tall + GAP : row;
        code = plot_chart(b, &charts->items[i].plot, GAP + column * (PLOT_WIDTH + GAP), y, err);
    }
    return code ? code : buf_puts(b, "</svg>\n", err);
}
