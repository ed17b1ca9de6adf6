/* What both ways of merging share. */
#ifndef CONVERT_MERGE_H
#define CONVERT_MERGE_H

#include <ggml.h>

#include "base/buf.h"
#include "genarm/convert.h"

#define MERGE_KEY "genarm.merged" /* GGUF key: what was merged, e.g. "0.3 helpful.gguf + 0.7 concise.gguf" */

enum { MERGE_MAX_PARTS = 256 };

/* GENARM_EINVAL unless there are parts, their weights finite and one of them not 0. */
int merge_check_parts(const struct genarm_merge_part *parts, size_t n, struct genarm_error *err);

/* Makes a part's adapter the plain one of its preference. */
int merge_fix_preference(struct genarm_adapter *adapter, const struct genarm_merge_part *part, struct genarm_error *err);

/* Appends the value of MERGE_KEY. */
int merge_describe(struct buf *text, const struct genarm_merge_part *parts, size_t n, struct genarm_error *err);

/* Rows of weights with their change, on several threads (merge_rows.c). */
struct merge_change {
    const float *a; /* [n_in, rank] */
    const float *b; /* [rank, n_out] */
    int64_t rank;
    double scale; /* times B A */
};

struct merge_rows {
    const void *from; /* [n_in, n_out] of type `from_type` */
    enum ggml_type from_type, to_type;
    int64_t n_in, n_out;
    const struct merge_change *changes; /* [n_changes] */
    size_t n_changes;
    int n_threads;
};

/* Rows first .. first + n of the sum go to `to`, in to_type. Errors: GENARM_ENOMEM; GENARM_EDIVERGED when a sum is not
 * finite or too large for the type. */
int merge_rows_run(const struct merge_rows *m, int64_t first, int64_t n, void *to, struct genarm_error *err);

#endif
