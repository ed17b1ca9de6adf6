/* The training graph of one micro-batch: forward, log-probabilities of what is scored (or, of an adapter with a head, its
 * rewards), and, when asked for, backward into the gradients of the adapter. Explicit, without automatic differentiation,
 * so that only what the adapter needs is computed: nothing flows below the lowest adapted map, the base has no gradients,
 * and only scored rows go on after the last attention.
 *
 * One graph does both passes without a return to the host: the head gives log p and its gradient by the hidden state for
 * every scored row; a node then turns the log-probabilities of whole pairs into coefficients d loss / d log p; these
 * scale the gradients, which flow back.
 *
 * Kept for the backward pass of an adapted layer: its input, q k v before rope, the attention's output, the stream
 * between the halves, gate and up. Norms, SwiGLU and dropout are computed again. With checkpoint_layers only the input of
 * every so many layers is kept, and the rest of them is computed again, to the bit, when the backward pass gets there.
 */
#ifndef TRAIN_GRAPH_H
#define TRAIN_GRAPH_H

#include "model/model.h"
#include "ops/ops.h"
#include "train/lora.h"

/* Computes coefficients[n_scored] = d loss / d log p (or reward) from logp[n_scored]; called once, on one thread. */
typedef void (*coefficients_fn)(const float *logp, float *coefficients, void *user);

/* What stays the same over micro-batches. */
struct train_graph_params {
    const struct genarm_model *model;
    struct ops *ops;
    bool plain;                      /* as in ops_params */
    const struct trainable *adapter; /* NULL: the base alone, without gradients */
    const struct trainable *reference; /* the adapter of reference graphs; NULL: the base alone */
    double temperature;              /* of the log-probabilities: logits are divided by it */
    float dropout;                   /* on the input of every A; forward-only graphs have none */
    int32_t checkpoint_layers;       /* layers between kept inputs; 0: all activations are kept */
    coefficients_fn coefficients;
    void *user;
};

struct train_graph_shape {
    int32_t n_rows, n_pairs, n_scored;
    bool gradient;  /* with the backward pass */
    bool reference; /* log-probabilities under the reference, forward only */
};

struct train_graph {
    struct ggml_context *ctx;
    struct ggml_cgraph *cgraph;
    struct train_graph_params params; /* a copy: the coefficients' node points to it */

    struct ggml_tensor *tokens;      /* i32 [n_rows] */
    struct ggml_tensor *positions;   /* i32 [n_rows] */
    struct ggml_tensor *trees;       /* i32 [4, n_pairs] */
    struct ggml_tensor *mask;        /* f32 [n_rows, n_rows], plain only, else NULL */
    struct ggml_tensor *scored_rows; /* i32 [n_scored] */
    struct ggml_tensor *targets;     /* i32 [n_scored] */
    struct ggml_tensor *row_keys;    /* i64 [n_rows], of dropout; NULL without */
    struct ggml_tensor *scored_keys; /* i64 [n_scored], as row_keys */
    struct ggml_tensor *logp;        /* f32 [n_scored], result: log p of the targets, or rewards */
};

/* Builds into *g (zeroed by the caller, at its final address); train_graph_deinit frees also after failure. */
int train_graph_build(struct train_graph *g, const struct train_graph_params *params,
                      const struct train_graph_shape *shape, struct genarm_error *err);
void train_graph_deinit(struct train_graph *g);

/* Upper bound of the nodes of a graph. */
size_t train_graph_max_nodes(const struct train_graph_params *params);

#endif
