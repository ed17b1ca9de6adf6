/* What both ways of merging share: which adapters, with which weights. */
#include <math.h>
#include <string.h>

#include "convert/merge.h"

int merge_check_parts(const struct genarm_merge_part *parts, size_t n, struct genarm_error *err) {
    bool any = false;
    if (n == 0 || n > MERGE_MAX_PARTS) {
        return error_set(err, GENARM_EINVAL, "%zu adapters to merge; 1 to %d are possible", n, MERGE_MAX_PARTS);
    }
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(parts[i].weight) || fabs(parts[i].weight) > 1e6) {
            return error_at(err, error_set(err, GENARM_EINVAL, "the weight %g is out of range", parts[i].weight), "%s",
                            parts[i].path);
        }
        any = any || parts[i].weight != 0;
    }
    return any ? GENARM_OK : error_set(err, GENARM_EINVAL, "all weights are 0: nothing would be merged");
}

int merge_describe(struct buf *text, const struct genarm_merge_part *parts, size_t n, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (size_t i = 0; rc == GENARM_OK && i < n; i++) {
        const char *slash = strrchr(parts[i].path, '/');
        rc = buf_printf(text, err, "%s%g %s", i ? " + " : "", parts[i].weight, slash ? slash + 1 : parts[i].path);
    }
    return rc;
}
