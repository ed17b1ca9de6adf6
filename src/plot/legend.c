/* The upper part of a chart: its element, title, legend and note. */
#include <string.h>

#include "base/utf8.h"
#include "plot/parts.h"

enum {
    RIGHT = PLOT_RIGHT,
    TITLE = 30,  /* height of the title's line */
    LINE = 20,   /* of a line of the legend */
    SWATCH = 24, /* width of a legend's sample, with the space behind it */
    GAP = 14     /* between entries */
};

/* Of a character at 13 px in the wider ones of the fonts that pages are shown in. */
static double letter_width(const char *c, size_t bytes) {
    return bytes > 1                                   ? 9
           : strchr("mwMW%@", *c)                       ? 11.5
           : strchr("ijl.,:;|!'()[]/ fIrt-", *c)        ? 5
           : (*c >= 'A' && *c <= 'Z') || strchr("=+<>~_&#", *c) ? 9.5
                                                        : 7.7;
}

double plot_text_width(const char *text) {
    double width = 0;
    size_t left = strlen(text);
    while (left > 0) {
        const size_t step = utf8_char(text, left), taken = step ? step : 1;
        width += letter_width(text, taken);
        text += taken;
        left -= taken;
    }
    return width;
}

int plot_color(int color) { return color < 0 ? 0 : color % PLOT_COLORS; }

const char *plot_dash(const struct plot_series *s) {
    static const char *const patterns[] = {"", " stroke-dasharray=\"7 5\"", " stroke-dasharray=\"2 5\"",
                                           " stroke-dasharray=\"10 4 2 4\""};
    return patterns[s->dash <= 0 ? 0 : 1 + (s->dash - 1) % 3];
}

/* Place of the next entry; moves on to the line below where this one is full. */
struct flow {
    double x;
    int line;
};

static struct flow flow_next(const struct flow *at, const char *name, double start) {
    const double width = SWATCH + plot_text_width(name);
    const bool full = at->x > 0 && start + at->x + width > PLOT_WIDTH - RIGHT;
    return (struct flow){.x = full ? 0 : at->x, .line = at->line + full};
}

static void flow_advance(struct flow *at, const char *name) { at->x += SWATCH + plot_text_width(name) + GAP; }

int plot_legend_height(const struct plot_series *series, size_t n, const char *note, double start) {
    struct flow at = {0};
    int named = 0;
    for (size_t i = 0; i < n; i++) {
        if (series[i].name) {
            at = flow_next(&at, series[i].name, start);
            flow_advance(&at, series[i].name);
            named++;
        }
    }
    return TITLE + LINE * ((named ? at.line + 1 : 0) + (note ? 1 : 0));
}

int plot_dot(struct buf *b, const struct plot_series *s, double x, double y, double radius, struct genarm_error *err) {
    const int color = plot_color(s->color);
    const double r = radius;
    switch (s->shape < 0 ? 0 : s->shape % 4) {
    case 1:
        return buf_printf(b, err, "<rect class=\"dot f%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", color,
                          x - 0.9 * r, y - 0.9 * r, 1.8 * r, 1.8 * r);
    case 2:
        return buf_printf(b, err, "<polygon class=\"dot f%d\" points=\"%.1f,%.1f %.1f,%.1f %.1f,%.1f %.1f,%.1f\"/>", color, x,
                          y - 1.3 * r, x + 1.3 * r, y, x, y + 1.3 * r, x - 1.3 * r, y);
    case 3:
        return buf_printf(b, err, "<polygon class=\"dot f%d\" points=\"%.1f,%.1f %.1f,%.1f %.1f,%.1f\"/>", color, x,
                          y - 1.25 * r, x + 1.2 * r, y + 0.85 * r, x - 1.2 * r, y + 0.85 * r);
    default:
        return buf_printf(b, err, "<circle class=\"dot f%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"/>", color, x, y, r);
    }
}

static int sample(struct buf *b, const struct plot_series *s, double x, double y, struct genarm_error *err) {
    const int color = plot_color(s->color);
    int rc = GENARM_OK;
    if (s->style & (PLOT_LINE | PLOT_FAINT)) {
        rc = buf_printf(b, err, "<path class=\"%s s%d\"%s d=\"M%.1f %.1fh17\"/>", s->style & PLOT_LINE ? "line" : "faint",
                        color, plot_dash(s), x, y);
    }
    if (rc == GENARM_OK && s->style & PLOT_POINTS) {
        rc = plot_dot(b, s, x + 8.5, y, 4.2, err);
    }
    if (rc == GENARM_OK && s->style & PLOT_BLOCK) {
        rc = buf_printf(b, err, "<rect class=\"f%d\" x=\"%.1f\" y=\"%.1f\" width=\"14\" height=\"14\" rx=\"4\"/>", color, x,
                        y - 7);
    }
    return rc;
}

int plot_text(struct buf *b, const char *class, const char *anchor, double x, double y, const char *s,
              struct genarm_error *err) {
    int rc = buf_printf(b, err, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", class, x, y, anchor);
    if (rc == GENARM_OK) {
        rc = plot_escape(b, s, err);
    }
    return rc == GENARM_OK ? buf_puts(b, "</text>\n", err) : rc;
}

int plot_legend(struct buf *b, const char *title, const struct plot_series *series, size_t n, const char *note, double start,
                struct genarm_error *err) {
    struct flow at = {0};
    int rc = plot_text(b, "head", "start", start, 20, title, err), line = 0;
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        const struct plot_series *s = &series[i];
        if (!s->name) {
            continue;
        }
        at = flow_next(&at, s->name, start);
        const double y = TITLE + LINE * at.line + 10;
        rc = sample(b, s, start + at.x, y - 4.5, err);
        if (rc == GENARM_OK) {
            rc = plot_text(b, "name", "start", start + at.x + SWATCH, y, s->name, err);
        }
        flow_advance(&at, s->name);
        line = at.line + 1;
    }
    return rc == GENARM_OK && note ? plot_text(b, "note", "start", start, TITLE + LINE * line + 10, note, err) : rc;
}

int plot_open(struct buf *b, const char *title, const char *description, const char *id, int x, int y, int height,
              struct genarm_error *err) {
    int rc = buf_printf(b, err,
                        "<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" x=\"%d\" y=\"%d\" width=\"%d\" "
                        "height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\" aria-labelledby=\"%s-t %s-d\">\n"
                        "<title id=\"%s-t\">",
                        x, y, PLOT_WIDTH, height, PLOT_WIDTH, height, id, id, id);
    if (rc == GENARM_OK) {
        rc = plot_escape(b, title, err);
    }
    if (rc == GENARM_OK) {
        rc = buf_printf(b, err, "</title>\n<desc id=\"%s-d\">", id);
    }
    if (rc == GENARM_OK) {
        rc = plot_escape(b, description, err);
    }
    return rc == GENARM_OK ? buf_puts(b, "</desc>\n", err) : rc;
}

int plot_picture(struct buf *b, int width, int height, struct genarm_error *err) {
    int rc = buf_printf(b, err,
                        "<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
                        "viewBox=\"0 0 %d %d\">\n<style>\n",
                        width, height, width, height);
    if (rc == GENARM_OK) {
        rc = plot_style(b, err);
    }
    return rc == GENARM_OK ? buf_printf(b, err, "</style>\n<rect class=\"paper\" width=\"%d\" height=\"%d\"/>\n", width, height)
                           : rc;
}
