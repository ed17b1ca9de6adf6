/* Memory of a report: all of it is freed at once, and one check at the end tells whether any was lacking. */
#ifndef EVAL_REPORT_POOL_H
#define EVAL_REPORT_POOL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct pool {
    void **items; /* [n] */
    size_t n, cap;
    bool failed;
};

/* n zeroed elements; NULL without memory, and pool_check says so. */
void *pool_array(struct pool *p, size_t n, size_t size);

/* A text; "" without memory, so that it can be used at once. */
const char *pool_text(struct pool *p, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* At most so many characters of a text, an ellipsis for the rest. */
const char *pool_short(struct pool *p, const char *text, size_t characters);

int pool_check(const struct pool *p, struct genarm_error *err);
void pool_deinit(struct pool *p);

#endif
