/* Nodes of attention over trees: ops.h. */
#include <math.h>

#include "ops/node.h"

int op_tree_check(const int32_t *trees, int32_t n_trees, int32_t n_rows, struct genarm_error *err) {
    int64_t row = 0;
    for (int32_t i = 0; i < n_trees; i++) {
        const int32_t *t = trees + (size_t)i * 4;
        const int64_t size = (int64_t)t[1] + t[2] + t[3];
        if (t[0] < row || t[1] < 0 || t[2] < 0 || t[3] < 0 || t[0] + size > n_rows) {
            return error_set(err, GENARM_EINVAL, "tree %d (row %d: %d + %d + %d rows) does not fit between row %lld and %d", i,
                             t[0], t[1], t[2], t[3], (long long)row, n_rows);
        }
        if (size > ATTENTION_MAX_TREE) {
            return error_set(err, GENARM_EINVAL, "a tree of %lld rows; the most is %d", (long long)size, ATTENTION_MAX_TREE);
        }
        row = t[0] + size;
    }
    return GENARM_OK;
}

void op_tree_mask(const int32_t *trees, int32_t n_trees, int32_t n_rows, float *mask) {
    const size_t n = (size_t)n_rows;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            mask[i * n + j] = i == j ? 0.0f : -INFINITY;
        }
    }
    for (int32_t i = 0; i < n_trees; i++) {
        const int32_t *t = trees + (size_t)i * 4;
        const int32_t rejected = t[1] + t[2], end = rejected + t[3];
        for (int32_t row = 0; row < end; row++) {
            const int32_t branch = row < t[1] ? 0 : row < rejected ? t[1] : rejected;
            for (int32_t key = 0; key <= row; key++) {
                if (key < t[1] || key >= branch) {
                    mask[(size_t)(t[0] + row) * n + (size_t)(t[0] + key)] = 0.0f;
                }
            }
        }
    }
}

/* ---- running -------------------------------------------------------------------------------------------------- */

struct attention_params {
    int32_t n_embd_head, n_head, n_head_kv;
    int32_t n_rot; /* 0: nothing is rotated */
    int32_t neox;
    float scale;
};

/* The heads of t [n_embd_head, n_heads, n_rows] */
static struct heads heads_of(const struct ggml_tensor *t) {
    return (struct heads){t->data, t->nb[2] / sizeof(float), t->nb[1] / sizeof(float)};
}

/* src: q, k, v, trees, ..., and the table last when there is one */
static struct attention attention_of(const struct ggml_tensor *dst, const struct attention_params *p, int table) {
    return (struct attention){
        .n_embd_head = p->n_embd_head, .n_head = p->n_head, .n_head_kv = p->n_head_kv,
        .n_rows = dst->src[0]->ne[2],
        .trees = dst->src[3]->data, .n_trees = (int)dst->src[3]->ne[1],
        .table = p->n_rot ? dst->src[table]->data : NULL, .n_rot = p->n_rot, .neox = p->neox,
        .scale = p->scale,
        .q = heads_of(dst->src[0]), .k = heads_of(dst->src[1]), .v = heads_of(dst->src[2]),
    };
}

/* dst: [n_embd_head * n_head * n_rows] outputs, then [n_head * n_rows] log-sum-exps */
static void run_attention(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    struct ops *ops = userdata;
    struct attention_params p;
    node_get_params(dst, &p, sizeof(p));
    struct attention at = attention_of(dst, &p, 4);
    const size_t width = (size_t)p.n_embd_head * (size_t)p.n_head;
    at.out = (struct heads){dst->data, width, (size_t)p.n_embd_head};
    at.lse = at.out.data + width * (size_t)at.n_rows;
    nth = node_threads(ops, nth);
    if (ith < nth) {
        attention_run(ops->kernels, &at, ops->scratch[ith], ith, nth);
    }
}

static void run_attention_back(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    struct ops *ops = userdata;
    struct attention_params p;
    node_get_params(dst, &p, sizeof(p));
    struct attention at = attention_of(dst, &p, 7);
    const struct ggml_tensor *out = dst->src[4], *lse = dst->src[5], *dout = dst->src[6];
    const size_t d = (size_t)p.n_embd_head, stride = dst->nb[1] / sizeof(float);
    at.out = (struct heads){out->data, out->nb[1] / sizeof(float), d};
    at.dout = (struct heads){dout->data, dout->nb[1] / sizeof(float), d};
    at.lse = lse->data;
    at.dq = (struct heads){dst->data, stride, d};
    at.dk = (struct heads){at.dq.data + d * (size_t)p.n_head, stride, d};
    at.dv = (struct heads){at.dk.data + d * (size_t)p.n_head_kv, stride, d};
    nth = node_threads(ops, nth);
    if (ith < nth) {
        attention_back_run(ops->kernels, &at, ops->scratch[ith], ith, nth);
    }
}

/* ---- plain ggml ----------------------------------------------------------------------------------------------- */

/* [n_embd_head, n_heads, n_rows] -> [n_embd_head, n_rows, n_heads] */
static struct ggml_tensor *by_head(struct ggml_context *ctx, struct ggml_tensor *t) {
    return ggml_permute(ctx, t, 0, 2, 1, 3);
}

/* The other way, the heads of a row side by side: [n_embd_head, n_rows, n_heads] -> [n_embd_head * n_heads, n_rows] */
static struct ggml_tensor *by_row(struct ggml_context *ctx, struct ggml_tensor *t) {
    return ggml_cont_2d(ctx, ggml_permute(ctx, t, 0, 2, 1, 3), t->ne[0] * t->ne[2], t->ne[1]);
}

/* The first two axes swapped, contiguous */
static struct ggml_tensor *swapped(struct ggml_context *ctx, struct ggml_tensor *t) {
    return ggml_cont(ctx, ggml_transpose(ctx, t));
}

/* q, k, v by head -> softmax of the scaled, masked scores: [n_rows (keys), n_rows, n_head] */
static struct ggml_tensor *plain_softmax(struct ggml_context *ctx, struct ggml_tensor *q, struct ggml_tensor *k,
                                         const struct op_tree *tree, float scale) {
    struct ggml_tensor *s = ggml_mul_mat(ctx, ggml_cont(ctx, k), q);
    return ggml_soft_max_ext(ctx, s, tree->mask, scale, 0.0f);
}

static struct op_attention plain_attention(struct ggml_context *ctx, struct ggml_tensor *q, struct ggml_tensor *k,
                                           struct ggml_tensor *v, const struct op_tree *tree, float scale) {
    struct ggml_tensor *p = plain_softmax(ctx, by_head(ctx, q), by_head(ctx, k), tree, scale);
    struct ggml_tensor *out = ggml_mul_mat(ctx, swapped(ctx, by_head(ctx, v)), p); /* [n_embd_head, n_rows, n_head] */
    return (struct op_attention){.out = by_row(ctx, out)};
}

/* sum over the rows of all heads of a group: x [n_embd_head, n_rows, n_head], p [n_rows (keys), n_rows, n_head]
 * -> [n_embd_head, n_rows (keys), n_head_kv] */
static struct ggml_tensor *sum_group(struct ggml_context *ctx, struct ggml_tensor *x, struct ggml_tensor *p,
                                     int64_t n_head_kv) {
    const int64_t rows = x->ne[1] * x->ne[2] / n_head_kv; /* of a group's heads one after the other */
    x = ggml_reshape_3d(ctx, ggml_cont(ctx, x), x->ne[0], rows, n_head_kv);
    p = ggml_reshape_3d(ctx, p, p->ne[0], rows, n_head_kv);
    return ggml_mul_mat(ctx, swapped(ctx, x), swapped(ctx, p));
}

static struct ggml_tensor *plain_attention_back(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *q,
                                                struct ggml_tensor *k, struct ggml_tensor *v, struct ggml_tensor *dout,
                                                const struct op_tree *tree, const struct op_rope *rope, float scale) {
    const int64_t d = q->ne[0], n_head = q->ne[1], n_head_kv = k->ne[1], n_rows = q->ne[2];
    struct ggml_tensor *qh = by_head(ctx, q), *kh = by_head(ctx, k), *vh = by_head(ctx, v);
    struct ggml_tensor *doh = by_head(ctx, ggml_reshape_3d(ctx, ggml_cont(ctx, dout), d, n_head, n_rows));
    struct ggml_tensor *p = plain_softmax(ctx, qh, kh, tree, scale);
    struct ggml_tensor *dp = ggml_mul_mat(ctx, ggml_cont(ctx, vh), doh);
    struct ggml_tensor *ds = ggml_soft_max_ext_back(ctx, dp, p, scale, 0.0f);
    struct ggml_tensor *dq = by_row(ctx, ggml_mul_mat(ctx, swapped(ctx, kh), ds));
    struct ggml_tensor *dk = by_row(ctx, sum_group(ctx, qh, ds, n_head_kv));
    struct ggml_tensor *dv = by_row(ctx, sum_group(ctx, doh, p, n_head_kv));
    if (rope) {
        dq = op_rope_back(ctx, ops, ggml_reshape_3d(ctx, dq, d, n_head, n_rows), rope);
        dk = op_rope_back(ctx, ops, ggml_reshape_3d(ctx, dk, d, n_head_kv, n_rows), rope);
        dq = ggml_reshape_2d(ctx, dq, d * n_head, n_rows);
        dk = ggml_reshape_2d(ctx, dk, d * n_head_kv, n_rows);
    }
    return ggml_concat(ctx, ggml_concat(ctx, dq, dk, 0), dv, 0);
}

/* ---- emitters ------------------------------------------------------------------------------------------------- */

static struct attention_params check(const struct ggml_tensor *q, const struct ggml_tensor *k, const struct ggml_tensor *v,
                                     const struct op_tree *tree, const struct op_rope *rope, float scale) {
    node_check_rows(q);
    node_check_rows(k);
    node_check_rows(v);
    GGML_ASSERT(ggml_are_same_shape(k, v) && q->ne[0] == k->ne[0] && q->ne[2] == k->ne[2]);
    GGML_ASSERT(q->ne[0] <= ATTENTION_MAX_HEAD && q->ne[1] % k->ne[1] == 0 && scale > 0);
    GGML_ASSERT(tree->trees->type == GGML_TYPE_I32 && tree->trees->ne[0] == 4);
    return (struct attention_params){
        .n_embd_head = (int32_t)q->ne[0], .n_head = (int32_t)q->ne[1], .n_head_kv = (int32_t)k->ne[1],
        .n_rot = rope ? rope->n_rot : 0, .neox = rope && rope->mode == GGML_ROPE_TYPE_NEOX, .scale = scale,
    };
}

struct op_attention op_attention(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *q, struct ggml_tensor *k,
                                 struct ggml_tensor *v, const struct op_tree *tree, const struct op_rope *rope, float scale) {
    const struct attention_params p = check(q, k, v, tree, rope, scale);
    const int64_t width = q->ne[0] * q->ne[1], n_rows = q->ne[2];
    if (ops->params.plain) {
        q = rope ? op_rope(ctx, ops, q, rope) : q;
        k = rope ? op_rope(ctx, ops, k, rope) : k;
        return plain_attention(ctx, q, k, v, tree, scale);
    }
    struct ggml_tensor *args[] = {q, k, v, tree->trees, rope ? rope->table : NULL};
    const int64_t ne[] = {(width + q->ne[1]) * n_rows, 1, 1};
    struct ggml_tensor *both = node_new(ctx, ops, run_attention, ne, args, rope ? 5 : 4, &p, sizeof(p));
    const size_t row = (size_t)width * sizeof(float), lse_row = (size_t)q->ne[1] * sizeof(float);
    return (struct op_attention){
        .out = ggml_view_2d(ctx, both, width, n_rows, row, 0),
        .lse = ggml_view_2d(ctx, both, q->ne[1], n_rows, lse_row, row * (size_t)n_rows),
    };
}

struct ggml_tensor *op_attention_back(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *q, struct ggml_tensor *k,
                                      struct ggml_tensor *v, const struct op_attention *att, struct ggml_tensor *dout,
                                      const struct op_tree *tree, const struct op_rope *rope, float scale) {
    const struct attention_params p = check(q, k, v, tree, rope, scale);
    GGML_ASSERT(dout->ne[0] == q->ne[0] * q->ne[1] && dout->ne[1] == q->ne[2]);
    node_check_rows(dout);
    if (ops->params.plain) {
        q = rope ? op_rope(ctx, ops, q, rope) : q;
        k = rope ? op_rope(ctx, ops, k, rope) : k;
        return plain_attention_back(ctx, ops, q, k, v, dout, tree, rope, scale);
    }
    struct ggml_tensor *args[] = {q, k, v, tree->trees, att->out, att->lse, dout, rope ? rope->table : NULL};
    const int64_t ne[] = {q->ne[0] * (q->ne[1] + 2 * k->ne[1]), q->ne[2], 1};
    return node_new(ctx, ops, run_attention_back, ne, args, rope ? 8 : 7, &p, sizeof(p));
}
