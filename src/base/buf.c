/* A growable byte buffer with a maximum. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *b, size_t max) { *b = (struct buf){.max = max}; }

void buf_deinit(struct buf *b) {
    free(b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}

void buf_clear(struct buf *b) {
    b->len = 0;
    if (b->data) {
        b->data[0] = '\0';
    }
}

/* Makes room for n more bytes and the NUL. */
static int reserve(struct buf *b, size_t n, struct genarm_error *err) {
    if (n > b->max || b->len > b->max - n) {
        return error_set(err, GENARM_EINVAL, "longer than the maximum of %zu bytes", b->max);
    }
    const size_t need = b->len + n + 1;
    if (need == 0) {
        return error_nomem(err, "a buffer");
    }
    if (b->data && need <= b->cap) {
        return GENARM_OK;
    }
    size_t cap = b->cap > SIZE_MAX / 2 ? SIZE_MAX : b->cap * 2;
    if (cap < 64) {
        cap = 64;
    }
    if (cap - 1 > b->max) {
        cap = b->max + 1;
    }
    if (cap < need) {
        cap = need;
    }
    char *data = realloc(b->data, cap);
    if (!data) {
        return error_nomem(err, "a buffer");
    }
    b->data = data;
    b->cap = cap;
    return GENARM_OK;
}

int buf_append(struct buf *b, const void *bytes, size_t n, struct genarm_error *err) {
    const int rc = reserve(b, n, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    if (n > 0) {
        memcpy(b->data + b->len, bytes, n);
    }
    b->len += n;
    b->data[b->len] = '\0';
    return GENARM_OK;
}

int buf_puts(struct buf *b, const char *s, struct genarm_error *err) { return buf_append(b, s, strlen(s), err); }

int buf_printf(struct buf *b, struct genarm_error *err, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    int rc = n < 0 ? error_set(err, GENARM_EINVAL, "text cannot be formatted") : reserve(b, (size_t)n, err);
    if (rc == GENARM_OK) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return rc;
}
