/* The forward pass of a few rows on the CPU, in five steps a layer between which the threads meet.
 *
 * Decoding has a handful of rows, so it is bound by how fast the weights stream by, and by how often the threads meet. Each
 * step does as much as needs no meeting:
 *
 *     norm, q k v with LoRA | positions, cache, attention | o with LoRA, + x | norm, gate up with LoRA, swiglu | down, + x
 *
 * Each thread takes a share of the outputs and does the small common parts (norm, quantising the rows, A x of LoRA) for
 * itself. A weight row is read and unpacked once for all rows: F16 and F32 as f32, quantised types as whole numbers (few_int16.h,
 * of more rows many.h) or, where that is faster, as bf16 (few_bf16.h); what the processor cannot, by ggml's own dot product.
 * graph.c has the same mathematics for any backend and any number of rows. There is no graph here, and nothing is allocated in a
 * pass.
 */
#ifndef ENGINE_FUSED_H
#define ENGINE_FUSED_H

#include "base/threads.h"
#include "engine/engine.h"
#include "engine/graph.h"

enum { FUSED_MAX_ROWS = 48 };

struct fused;

/* What an engine's passes have in common; all of it outlives them. */
struct fused_params {
    const struct genarm_model *model;
    const struct kv_layer *kv; /* [n_layer], in host memory */
    const struct lora_bank *bank;
    int32_t n_ctx;
    struct threads *threads;
    int32_t n_threads; /* of the pool */
    bool hidden;       /* as in engine_params */
};

struct fused_batch {
    const struct row *rows; /* [n_rows] sorted by sequence */
    int32_t n_rows;         /* at most fused_max_rows */
    const int32_t *outputs; /* [n_outputs] which rows' outputs are wanted, in the order of the outputs */
    int32_t n_outputs;
    int32_t n_mixed;        /* outputs that they make: n_outputs unless some have shares of one (struct row) */
};

int fused_new(struct fused **out, const struct fused_params *params, struct genarm_error *err);
void fused_free(struct fused *f);

/* Up to how many rows this way is worth it, at most FUSED_MAX_ROWS. */
int32_t fused_max_rows(const struct fused *f);

/* Whether the model's weights can be read: in host memory, in ggml's own layout. */
bool fused_reads(const struct genarm_model *model);

/* Keys and values of the rows go into the cache, outputs to out [n_output, n_mixed]: logits or hidden states. */
int fused_forward(struct fused *f, const struct fused_batch *batch, float *out, struct genarm_error *err);

#endif
