/* The forward pass of a few rows on the CPU in five nodes a layer.
 *
 * A step of decoding has a handful of rows, so it is bound by how fast the weights stream by, and by how often the threads
 * meet. Here each node does as much as needs no meeting:
 *
 *     norm, q k v with LoRA | positions, cache, attention | o with LoRA, + x | norm, gate up with LoRA, swiglu | down, + x
 *
 * Each thread takes a share of the outputs and does the small common parts (norm, quantising the rows, A x of LoRA) for
 * itself. A weight row is read and unpacked once for all rows: F16 as f32, quantised types as bf16 where the processor
 * multiplies that (few_bf16.h), else by ggml's own dot product of the type. graph.c has the same mathematics for any backend
 * and any number of rows.
 */
#ifndef ENGINE_FUSED_H
#define ENGINE_FUSED_H

#include "engine/engine.h"
#include "engine/graph.h"

enum { FUSED_MAX_ROWS = 32 };

struct fused; /* what the nodes of one engine share: scratch of its threads */

int fused_new(struct fused **out, const struct genarm_model *model, int32_t n_threads, struct genarm_error *err);
void fused_free(struct fused *f);

/* Up to how many rows these nodes are worth it, at most FUSED_MAX_ROWS. */
int32_t fused_max_rows(const struct fused *f);

/* Whether the nodes can read the model's weights: in host memory, in ggml's own layout. */
bool fused_reads(const struct genarm_model *model);

/* As graph_build, for at most fused_max_rows rows. The nodes read `rows` [n_rows], sorted by sequence, when the graph is
 * computed: of its inputs only `tokens` is to be set, the others are NULL. */
int fused_build(struct graph *g, struct fused *f, const struct kv_layer *kv, int32_t n_ctx, const struct lora_bank *bank,
                const struct graph_shape *shape, const struct row *rows, struct genarm_error *err);

#endif
