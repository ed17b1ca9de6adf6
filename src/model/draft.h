/* An adapter in the making: its maps in memory, until adapter_write writes them. */
#ifndef MODEL_DRAFT_H
#define MODEL_DRAFT_H

#include "model/adapter.h"

struct adapter_draft {
    struct lora (*layers)[LINEAR_COUNT]; /* [n_layer]; none adapted at first */
    int32_t n_layer;
    struct ggml_context *ctx; /* of the tensors, whose numbers are allocated one by one: for its own, ggml gets memory or aborts */
};

/* Zeroed, a draft may be deinitialised. GENARM_ENOMEM. */
int draft_init(struct adapter_draft *draft, int32_t n_layer, struct genarm_error *err);

/* Makes A [n_in, rank] and B [rank, n_out] of a map that has none yet, all zero, and its scale. GENARM_ENOMEM. */
int draft_map(struct adapter_draft *draft, int32_t layer, int linear, const int64_t shape[3], float scale,
              struct genarm_error *err);

void draft_deinit(struct adapter_draft *draft);

#endif
