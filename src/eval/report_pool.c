/* See report_pool.h. */
#include "eval/report_pool.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

void *pool_array(struct pool *p, size_t n, size_t size) {
    if (p->n == p->cap) {
        const size_t cap = p->cap ? 2 * p->cap : 256;
        void **grown = realloc(p->items, cap * sizeof *grown);
        if (!grown) {
            p->failed = true;
            return NULL;
        }
        p->items = grown;
        p->cap = cap;
    }
    void *made = calloc(n ? n : 1, size);
    p->failed = p->failed || !made;
    if (made) {
        p->items[p->n++] = made;
    }
    return made;
}

const char *pool_text(struct pool *p, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, fmt, args);
    char *text = n < 0 ? NULL : pool_array(p, (size_t)n + 1, 1);
    if (text) {
        vsnprintf(text, (size_t)n + 1, fmt, again);
    }
    va_end(again);
    va_end(args);
    return text ? text : "";
}

const char *pool_short(struct pool *p, const char *text, size_t characters) {
    size_t at = 0, seen = 0, left = strlen(text), keep = 0;
    while (left > 0 && seen < characters) {
        const size_t n = utf8_char(text + at, left), step = n ? n : 1;
        keep = seen + 1 < characters ? at + step : keep;
        at += step;
        left -= step;
        seen++;
    }
    return left == 0 ? text : pool_text(p, "%.*s\xE2\x80\xA6", (int)keep, text);
}

int pool_check(const struct pool *p, struct genarm_error *err) {
    return p->failed ? error_nomem(err, "a report") : GENARM_OK;
}

void pool_deinit(struct pool *p) {
    for (size_t i = 0; i < p->n; i++) {
        free(p->items[i]);
    }
    free(p->items);
    *p = (struct pool){0};
}
