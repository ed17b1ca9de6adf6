/* What both ways of merging share: which adapters, with which weights. */
#include <math.h>
#include <string.h>

#include "convert/merge.h"
#include "model/adapter.h"

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

int merge_fix_preference(struct genarm_adapter *adapter, const struct genarm_merge_part *part, struct genarm_error *err) {
    return adapter_fix_preference(adapter, part->preference, part->n_preference, err);
}

static int describe_preference(struct buf *text, const struct genarm_merge_part *part, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (size_t i = 0; rc == GENARM_OK && part->preference && i < part->n_preference; i++) {
        rc = buf_printf(text, err, "%s%g%s", i ? "," : " (", (double)part->preference[i],
                        i + 1 == part->n_preference ? ")" : "");
    }
    return rc;
}

int merge_describe(struct buf *text, const struct genarm_merge_part *parts, size_t n, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (size_t i = 0; rc == GENARM_OK && i < n; i++) {
        const char *slash = strrchr(parts[i].path, '/');
        rc = buf_printf(text, err, "%s%g %s", i ? " + " : "", parts[i].weight, slash ? slash + 1 : parts[i].path);
        rc = rc == GENARM_OK ? describe_preference(text, &parts[i], err) : rc;
    }
    return rc;
}
