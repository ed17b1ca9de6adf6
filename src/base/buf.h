/* A growable byte buffer with a maximum, always NUL-terminated: strings under construction, files read whole. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct buf {
    char *data; /* NUL-terminated; NULL until the first append */
    size_t len; /* bytes before the NUL */
    size_t cap;
    size_t max; /* appending beyond this many bytes fails with GENARM_EINVAL */
};

void buf_init(struct buf *b, size_t max);
void buf_deinit(struct buf *b);
void buf_clear(struct buf *b); /* length 0, memory kept */
int buf_append(struct buf *b, const void *bytes, size_t n, struct genarm_error *err);
int buf_puts(struct buf *b, const char *s, struct genarm_error *err);
int buf_printf(struct buf *b, struct genarm_error *err, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
