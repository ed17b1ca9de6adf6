/* The cached columns of one sequence as a whole: as bytes, from bytes, as those of another, and moved
 * down over positions that are forgotten.
 * On any backend, in any type of the cache; called by the row engine.
 */
#ifndef ENGINE_KV_STATE_H
#define ENGINE_KV_STATE_H

#include "base/buf.h"
#include "engine/graph.h"

struct kv_sequence {
    const struct hparams *hp;
    const struct ggml_tensor *rope_freqs; /* as in struct weights */
    const struct kv_layer *layers;        /* [n_layer] */
    int32_t n_ctx, seq;
};

/* Appends positions [0, n_pos): a head that says of what shape and types they are, then of each layer the keys, the values. */
int kv_save(const struct kv_sequence *s, int32_t n_pos, struct buf *out, struct genarm_error *err);

/* Puts n bytes of kv_save in the place of positions [0, n_pos). What is not exactly that is an error, and nothing changes. */
int kv_load(const struct kv_sequence *s, int32_t n_pos, const void *data, size_t n, struct genarm_error *err);

/* Zeros all positions. */
void kv_clear(const struct kv_sequence *s);

/* Positions [first, n_pos) of a sequence become those of another one of the same cache. */
int kv_copy(const struct kv_sequence *from, const struct kv_sequence *to, int32_t first, int32_t n_pos,
            struct genarm_error *err);

/* Positions [keep + n_drop, n_pos) become [keep, n_pos - n_drop): keys are rotated by the difference, values copied. */
int kv_shift(const struct kv_sequence *s, int32_t keep, int32_t n_drop, int32_t n_pos, struct genarm_error *err);

#endif
