/* What the files that emit nodes (ops*.c) share: struct ops, and making custom nodes. */
#ifndef OPS_NODE_H
#define OPS_NODE_H

#include <string.h>

#include "ops/kernels.h"
#include "ops/many.h"
#include "ops/ops.h"

struct ops {
    struct ops_params params;
    const struct kernels *kernels;
    const struct gemm_kernel *gemm; /* of weights; small f32 products take kernels->gemm */
    const struct many_kernel *many; /* of weights that it reads, where nothing is faster; or NULL */
    uint64_t dropout_key;
    void **scratch; /* [n_threads] */
};

/* A node's parameters lie in its own op_params, behind those that ggml keeps there for a custom op (a function, a number and
 * the ops): so they live exactly as long as the node. */
enum { NODE_PARAMS_AT = 32, NODE_PARAMS_MAX = GGML_MAX_OP_PARAMS - NODE_PARAMS_AT };

static inline void node_set_params(struct ggml_tensor *t, const void *params, size_t size) {
    GGML_ASSERT(size <= NODE_PARAMS_MAX);
    if (size == 0) {
        return;
    }
    memcpy((char *)t->op_params + NODE_PARAMS_AT, params, size);
}

static inline void node_get_params(const struct ggml_tensor *t, void *params, size_t size) {
    memcpy(params, (const char *)t->op_params + NODE_PARAMS_AT, size);
}

/* A node with memory of its own: f32 [ne0, ne1, ne2]. */
static inline struct ggml_tensor *node_new(struct ggml_context *ctx, struct ops *ops, ggml_custom_op_t run, const int64_t ne[3],
                                           struct ggml_tensor **args, int n_args, const void *params, size_t size) {
    struct ggml_tensor *t =
        ggml_custom_4d(ctx, GGML_TYPE_F32, ne[0], ne[1], ne[2], 1, args, n_args, run, GGML_N_TASKS_MAX, ops);
    node_set_params(t, params, size);
    return t;
}

/* A node that changes `target` in place: it is src[0] of the node, the args follow. */
static inline struct ggml_tensor *node_inplace(struct ggml_context *ctx, struct ops *ops, ggml_custom_op_t run,
                                               struct ggml_tensor *target, struct ggml_tensor **args, int n_args,
                                               const void *params, size_t size) {
    struct ggml_tensor *t = ggml_custom_inplace(ctx, target, args, n_args, run, GGML_N_TASKS_MAX, ops);
    node_set_params(t, params, size);
    return t;
}

/* How many of nth threads work on a node: those that have scratch. */
static inline int node_threads(const struct ops *ops, int nth) {
    return nth < ops->params.n_threads ? nth : ops->params.n_threads;
}

/* f32 with contiguous rows */
static inline void node_check_rows(const struct ggml_tensor *t) {
    GGML_ASSERT(t->type == GGML_TYPE_F32 && t->nb[0] == sizeof(float) && t->nb[1] % sizeof(float) == 0);
}

/* The row with the given index among all ne[1] * ne[2] * ne[3]. */
static inline float *node_row(const struct ggml_tensor *t, int64_t i) {
    const int64_t i1 = i % t->ne[1], i2 = i / t->ne[1] % t->ne[2], i3 = i / t->ne[1] / t->ne[2];
    return (float *)(void *)((char *)t->data + (size_t)i1 * t->nb[1] + (size_t)i2 * t->nb[2] + (size_t)i3 * t->nb[3]);
}

/* Thread ith's rows [*first, *end). */
static inline void node_share(int64_t n, int ith, int nth, int64_t *first, int64_t *end) {
    *first = n * ith / nth;
    *end = n * (ith + 1) / nth;
}

/* W as f32, for plain nodes that want no other type. */
static inline struct ggml_tensor *node_f32(struct ggml_context *ctx, struct ggml_tensor *w) {
    return w->type == GGML_TYPE_F32 ? w : ggml_cast(ctx, w, GGML_TYPE_F32);
}

#endif
