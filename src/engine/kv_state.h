/* The cached columns of one sequence as a whole: as bytes, from bytes, and moved down over positions that are forgotten.
 * On any backend, in any type of the cache; called by the row engine.
 */
#ifndef ENGINE_KV_STATE_H
#define ENGINE_KV_STATE_H

#include "base/buf.h"
#include "engine/graph.h"

/* A sequence's place in the cache: its columns of every layer start at seq * n_ctx. */
struct kv_sequence {
    const struct hparams *hp;
    const struct ggml_tensor *rope_freqs; /* as in struct weights */
    const struct kv_layer *layers;        /* [n_layer] */
    int64_t first;                        /* column of position 0 */
};

/* Appends positions [0, n_pos): a head that says of what shape and types they are, then of each layer the keys, the values. */
int kv_save(const struct kv_sequence *s, int32_t n_pos, struct buf *out, struct genarm_error *err);

/* Puts n bytes of kv_save in the place of positions [0, n_pos). What is not exactly that is an error, and nothing changes. */
int kv_load(const struct kv_sequence *s, int32_t n_pos, const void *data, size_t n, struct genarm_error *err);

/* Zeros all n_ctx positions. */
void kv_clear(const struct kv_sequence *s, int32_t n_ctx);

/* Positions [keep + n_drop, n_pos) become [keep, n_pos - n_drop): keys are rotated by the difference, values copied. */
int kv_shift(const struct kv_sequence *s, int32_t keep, int32_t n_drop, int32_t n_pos, struct genarm_error *err);

#endif
