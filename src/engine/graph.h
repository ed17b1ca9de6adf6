/* The forward graph of the row engine, in plain ggml operations that every backend has.
 *
 * Rows arrive sorted by sequence. A run is a stretch of them that one attention node can serve: neighbouring sequences
 * with equally many rows. One step of decoding is one run; so is the prefill of one prompt under k adapters.
 */
#ifndef ENGINE_GRAPH_H
#define ENGINE_GRAPH_H

#include <ggml.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/lora_bank.h"
#include "model/model.h"
#include "ops/ops.h"

struct run {
    int32_t row0;   /* first row of the batch */
    int32_t n_rows; /* rows of each sequence */
    int32_t seq0;   /* first sequence */
    int32_t n_seq;  /* sequences */
    int32_t n_kv;   /* cache positions that are looked at: a multiple of GRAPH_KV_PAD, or all */
};

enum { GRAPH_KV_PAD = 256 };

/* KV cache of one layer, of f16, f32 or q8_0: columns of n_embd_head. Attention reads a head of a sequence at all its positions,
 * so these lie together. */
struct kv_layer {
    struct ggml_tensor *k, *v; /* [n_embd_head, n_ctx * n_head_kv * n_seq] */
};

static inline int64_t kv_column(const struct hparams *hp, int32_t n_ctx, int32_t seq, int32_t kv_head, int32_t pos) {
    return ((int64_t)seq * hp->n_head_kv + kv_head) * n_ctx + pos;
}

/* What the shape of the graph depends on: equal shapes, same graph. */
struct graph_shape {
    int32_t n_rows, n_outputs, n_runs;
    int32_t n_mixed; /* outputs that the n_outputs rows make: fewer where some have shares of one (struct row) */
    int32_t n_parts; /* most rows of one; 1: none are mixed */
    bool lora; /* some row has an adapter */
    bool hidden; /* as in engine_params */
    bool by_sequence; /* one run, on the CPU: ggml multiplies each sequence's rows by themselves. It picks kernels that sum in
                         another order by the number of rows; so a row does not depend on what else is in the batch */
    const struct run *runs;
};

struct graph {
    struct ggml_context *ctx;
    struct ggml_cgraph *cgraph;
    struct ggml_tensor *tokens;    /* i32 [n_rows] */
    struct ggml_tensor *positions; /* i32 [n_rows] */
    struct ggml_tensor *kv_index;  /* i64 [n_head_kv * n_rows] columns of the cache that the row's heads are written to */
    struct ggml_tensor *outputs;   /* i32 [n_outputs] rows whose logits are wanted; NULL if none are */
    struct ggml_tensor *lora_mask; /* f32 [rank_total, n_rows] 1 where the row's adapter owns the rank slot; or NULL */
    struct ggml_tensor **masks;    /* [n_runs] f16 [n_kv, n_rows, 1, n_seq] 0 or -inf */
    struct ggml_tensor *parts;     /* i32 [n_mixed * n_parts] row that is part k of output i, at k * n_mixed + i; or NULL */
    struct ggml_tensor *shares;    /* f32 [1, n_mixed * n_parts] how much of it; 0: there is no such part */
    struct ggml_tensor *logits;    /* f32 [n_vocab, n_mixed], `hidden`: [n_embd, n_mixed], or NULL */
};

/* From how many rows on a product of weights of any type pays for unpacking them. */
enum { GRAPH_OPS_MIN_ROWS = 12 };

/* Builds into *g (zeroed by the caller); graph_deinit frees also after failure. n_ctx: positions of a sequence. `ops`: our
 * own products for many rows on the CPU, or NULL for plain ggml throughout. */
int graph_build(struct graph *g, const struct genarm_model *model, const struct kv_layer *kv, int32_t n_ctx,
                const struct lora_bank *bank, struct ops *ops, const struct graph_shape *shape, struct genarm_error *err);
void graph_deinit(struct graph *g);

#endif
