/* See labels.h. */
#include "plot/labels.h"

#include <math.h>
#include <stdlib.h>

#include "plot/parts.h"

#define SCALE 0.85 /* of the width of a text at 13 px: labels have 11 px */

enum { HEIGHT = 11, DOT = 4, AWAY = 7, PIECE = 4 /* of a line */ };

static int take(struct labels *l, struct label_box box, struct genarm_error *err) {
    if (l->n == l->cap) {
        const size_t cap = l->cap ? 2 * l->cap : 64;
        struct label_box *grown = realloc(l->taken, cap * sizeof *grown);
        if (!grown) {
            return error_nomem(err, "labels");
        }
        l->taken = grown;
        l->cap = cap;
    }
    l->taken[l->n++] = box;
    return GENARM_OK;
}

int labels_keep_off(struct labels *l, double x, double y, struct genarm_error *err) {
    return take(l, (struct label_box){x - DOT, y - DOT, x + DOT, y + DOT, false}, err);
}

int labels_keep_off_line(struct labels *l, double x0, double y0, double x1, double y1, struct genarm_error *err) {
    const int n = 1 + (int)(fmax(fabs(x1 - x0), fabs(y1 - y0)) / PIECE);
    int rc = GENARM_OK;
    for (int i = 0; i < n && rc == GENARM_OK; i++) {
        const double x = x0 + (x1 - x0) * (i + 0.5) / n, y = y0 + (y1 - y0) * (i + 0.5) / n;
        rc = take(l, (struct label_box){x - 1, y - 1, x + 1, y + 1, true}, err);
    }
    return rc;
}

static bool is_free(const struct labels *l, const struct label_box *box, bool of_lines) {
    if (box->x0 < l->left || box->x1 > l->right || box->y0 < l->top || box->y1 > l->bottom) {
        return false;
    }
    for (size_t i = 0; i < l->n; i++) {
        const struct label_box *t = &l->taken[i];
        if (t->line && !of_lines) {
            continue;
        }
        if (box->x0 < t->x1 && box->x1 > t->x0 && box->y0 < t->y1 && box->y1 > t->y0) {
            return false;
        }
    }
    return true;
}

int labels_put(struct buf *b, struct labels *l, double x, double y, const char *text, struct genarm_error *err) {
    /* Where the text lies from the point: sideways (-1 left of it, 0 above or below, 1 right of it) and down. */
    static const struct {
        int across, down;
    } places[] = {{1, -1}, {1, 1}, {-1, -1}, {-1, 1}, {1, 0}, {-1, 0}, {0, -1}, {0, 1}};
    enum { PLACES = sizeof places / sizeof *places };
    const double width = SCALE * plot_text_width(text);
    for (int i = 0; i < 2 * PLACES; i++) { /* off lines first */
        const int across = places[i % PLACES].across, down = places[i % PLACES].down;
        const double near = down ? DOT + 1 : AWAY;
        const double left = across > 0 ? x + near : across < 0 ? x - near - width : x - width / 2;
        const double middle = y + down * (across ? AWAY : AWAY + 4);
        const struct label_box box = {left, middle - HEIGHT / 2.0, left + width, middle + HEIGHT / 2.0, false};
        if (is_free(l, &box, i < PLACES)) {
            const int rc = take(l, box, err);
            return rc ? rc : plot_text(b, "at", "start", left, middle + HEIGHT / 2.0 - 1.5, text, err);
        }
    }
    return GENARM_OK;
}

void labels_deinit(struct labels *l) { free(l->taken); }
