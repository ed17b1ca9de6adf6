/* All adapters of an engine side by side, so that rows of different adapters share two matrix products.
 *
 * For each linear map the A of all adapters are stacked to [n_in, rank_total] and their B, scaled by alpha / rank, to
 * [rank_total, n_out]. A row's correction is B (m * (A x)), m being 1 on the rank slots of the row's own adapter and 0
 * elsewhere: exact zeros for the base, whatever the order of the rows. q, k and v share one A product.
 * On the slots of a conditioned adapter's objectives m is the row's preference (objectives.h), so that rows of one batch may
 * have different ones.
 */
#ifndef ENGINE_LORA_BANK_H
#define ENGINE_LORA_BANK_H

#include "engine/backends.h"
#include "model/adapter.h"

enum { LORA_BANK_MAX_ADAPTERS = 64 };

struct lora_stack {
    struct ggml_tensor *a; /* f32 [n_in, rank_total], NULL when no adapter touches the map */
    struct ggml_tensor *b; /* f32 [rank_total, n_out] */
    struct ggml_tensor *b_slots; /* the same as [n_out, rank_total]: what a rank slot adds to an output row, for fused.c */
};

struct lora_bank {
    const struct genarm_adapter *adapters[LORA_BANK_MAX_ADAPTERS];
    int32_t first_rank[LORA_BANK_MAX_ADAPTERS + 1]; /* slots [first_rank[i], first_rank[i + 1]) belong to adapter i */
    int32_t n_adapters;
    struct lora_stack (*layers)[LINEAR_COUNT]; /* [n_layer] */
    struct layer_tensors memory;
};

/* Adds an adapter and rebuilds the stacks, each where its layer is. On failure the bank is as before. Returns its index. */
int lora_bank_add(struct lora_bank *bank, const struct genarm_adapter *adapter, struct genarm_error *err);
/* Copies the adapters' numbers into the stacks again, after they changed in place; ranks and maps are as they were. */
int lora_bank_refresh(struct lora_bank *bank, struct genarm_error *err);
void lora_bank_deinit(struct lora_bank *bank);

static inline int32_t lora_bank_rank(const struct lora_bank *bank) { return bank->first_rank[bank->n_adapters]; }

/* Mask column of a row: out[rank_total]; adapter < 0 is the base. `factors` as in struct row. */
void lora_bank_mask(const struct lora_bank *bank, int32_t adapter, const float *factors, float *out);

/* Multiplies an adapter's own slots [first_rank[adapter + 1] - first_rank[adapter]] by what its objectives weigh. */
void lora_bank_weigh(const struct lora_bank *bank, int32_t adapter, const float *factors, float *slots);

#endif
