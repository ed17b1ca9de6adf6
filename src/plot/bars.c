/* Stacked bars: a row is a name and, below it, a bar that its parts share. Names are as long as they are: they have a line of
 * their own. */
#include <math.h>
#include <stdio.h>

#include "plot/parts.h"

enum { ROW = 42, NAME = 15, BAR = 18, BOTTOM = 24, MAX_PARTS = PLOT_COLORS };

#define LEFT 16.0
#define GAP 12.0 /* least, between a name and what stands after it; without room that is left out */
#define WIDTH (PLOT_WIDTH - LEFT - PLOT_RIGHT)

static size_t n_parts(const struct plot_bars *c) { return c->n_parts < MAX_PARTS ? c->n_parts : MAX_PARTS; }

static void legend_of(struct plot_series series[MAX_PARTS], const struct plot_bars *c) {
    for (size_t i = 0; i < n_parts(c); i++) {
        series[i] = (struct plot_series){.name = c->parts[i], .style = PLOT_BLOCK, .color = c->colors[i]};
    }
}

static int top_of(const struct plot_bars *c) {
    struct plot_series series[MAX_PARTS];
    legend_of(series, c);
    return plot_legend_height(series, n_parts(c), c->note, LEFT) + 6;
}

int plot_bars_height(const struct plot_bars *c) { return top_of(c) + ROW * (int)c->n_bars + BOTTOM; }

static int part(struct buf *b, int color, double x, double y, double share, struct genarm_error *err) {
    char percent[16];
    int rc = buf_printf(b, err, "<rect class=\"f%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\"/>", plot_color(color),
                        x, y, share * WIDTH, BAR);
    snprintf(percent, sizeof percent, "%.0f", 100 * share);
    if (rc == GENARM_OK && share * WIDTH > plot_text_width(percent) + 6) {
        rc = plot_text(b, "inside", "middle", x + share * WIDTH / 2, y + BAR / 2.0 + 4.5, percent, err);
    }
    return rc;
}

static int row(struct buf *b, const struct plot_bars *c, const struct plot_bar *bar, double y, struct genarm_error *err) {
    double sum = 0, x = LEFT;
    int rc = plot_text(b, "name", "start", LEFT, y + 11, bar->name, err);
    if (rc == GENARM_OK && bar->after && plot_text_width(bar->name) + plot_text_width(bar->after) + GAP < WIDTH) {
        rc = plot_text(b, "label", "end", PLOT_WIDTH - PLOT_RIGHT, y + 11, bar->after, err);
    }
    if (rc == GENARM_OK) { /* half of the length, at both edges of the bar */
        rc = buf_printf(b, err, "<path class=\"mark\" d=\"M%.1f %.1fv-3m0 %dv3\"/>", LEFT + WIDTH / 2, y + NAME, BAR + 3);
    }
    for (size_t i = 0; i < n_parts(c); i++) {
        sum += isfinite(bar->values[i]) && bar->values[i] > 0 ? bar->values[i] : 0;
    }
    for (size_t i = 0; i < n_parts(c) && rc == GENARM_OK && sum > 0; i++) {
        const double share = isfinite(bar->values[i]) && bar->values[i] > 0 ? bar->values[i] / sum : 0;
        if (share > 0) {
            rc = part(b, c->colors[i], x, y + NAME, share, err);
            x += share * WIDTH;
        }
    }
    return rc;
}

/* What the length is. */
static int scale(struct buf *b, const struct plot_bars *c, int top, struct genarm_error *err) {
    int rc = GENARM_OK;
    const int end = top + ROW * (int)c->n_bars;
    for (int i = 0; i <= 4 && rc == GENARM_OK; i++) {
        char percent[16];
        snprintf(percent, sizeof percent, "%d%s", 25 * i, i == 4 ? " %" : "");
        rc = plot_text(b, "tick", i == 0 ? "start" : i == 4 ? "end" : "middle", LEFT + WIDTH * i / 4, end + 8, percent, err);
    }
    return rc;
}

int plot_bars(struct buf *b, const struct plot_bars *c, int x, int y, struct genarm_error *err) {
    struct plot_series series[MAX_PARTS];
    const int top = top_of(c);
    legend_of(series, c);
    int rc = plot_open(b, c->title, c->description, c->id, x, y, plot_bars_height(c), err);
    if (rc == GENARM_OK) {
        rc = plot_legend(b, c->title, series, n_parts(c), c->note, LEFT, err);
    }
    if (rc == GENARM_OK) {
        rc = scale(b, c, top, err);
    }
    for (size_t i = 0; i < c->n_bars && rc == GENARM_OK; i++) {
        rc = row(b, c, &c->bars[i], top + ROW * (int)i, err);
    }
    return rc == GENARM_OK ? buf_puts(b, "</svg>\n", err) : rc;
}
