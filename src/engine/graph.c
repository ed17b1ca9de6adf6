#include "engine/graph.h"

#include <math.h>
#include <stdlib.h>

struct builder {
    struct graph *g;
    struct ggml_context *ctx;
    const struct genarm_model *model;
    const struct hparams *hp;
    const struct lora_bank *bank;
    struct ops *ops; /* or NULL */
    const struct graph_shape *shape;
    int32_t n_ctx;
    int64_t n_apart; /* stretches of rows that ggml multiplies by themselves; 1: all rows at once */
};

static struct ggml_tensor *input(struct builder *b, enum ggml_type type, int64_t ne0, int64_t ne1, int64_t ne3) {
    struct ggml_tensor *t = ggml_new_tensor_4d(b->ctx, type, ne0, ne1, 1, ne3);
    ggml_set_input(t);
    return t;
}

/* x, weight: [n, rows], [n] -> [n, rows] */
static struct ggml_tensor *norm(struct builder *b, struct ggml_tensor *x, struct ggml_tensor *weight) {
    return ggml_mul(b->ctx, ggml_rms_norm(b->ctx, x, b->hp->norm_eps), weight);
}

/* ggml's product. w: [n_in, n_out], x: [n_in, rows] -> [n_out, rows] */
static struct ggml_tensor *mul_mat(struct builder *b, struct ggml_tensor *w, struct ggml_tensor *x) {
    const int64_t n = b->n_apart, rows = x->ne[1];
    if (n == 1 || rows % n != 0) {
        return ggml_mul_mat(b->ctx, w, x);
    }
    struct ggml_tensor *y = ggml_mul_mat(b->ctx, w, ggml_reshape_3d(b->ctx, x, x->ne[0], rows / n, n));
    return ggml_reshape_2d(b->ctx, y, w->ne[1], rows);
}

/* w: [n_in, n_out] any type, x: [n_in, rows] -> [n_out, rows] */
static struct ggml_tensor *product(struct builder *b, struct ggml_tensor *w, struct ggml_tensor *x) {
    const bool many = b->ops && x->ne[1] >= GRAPH_OPS_MIN_ROWS && ops_reads_weight(w);
    return many ? op_linear(b->ctx, b->ops, w, x) : mul_mat(b, w, x);
}

/* y += B (mask * (A x)) for one map; `ax` is mask * (A x): [rank_total, rows] */
static struct ggml_tensor *add_lora(struct builder *b, const struct lora_stack *stack, struct ggml_tensor *ax,
                                    struct ggml_tensor *y) {
    return ggml_add(b->ctx, y, product(b, stack->b, ax));
}

/* One linear map with its bias and every adapter's correction: x [n_in, rows] -> [n_out, rows].
 * `mask` is the LoRA mask of these rows, or NULL for none. */
static struct ggml_tensor *linear(struct builder *b, int32_t layer, enum linear t, struct ggml_tensor *x,
                                  struct ggml_tensor *mask) {
    const struct layer_weights *w = &b->model->weights.layers[layer];
    struct ggml_tensor *y = product(b, w->linear[t], x);
    if (mask && b->bank->layers[layer][t].a) {
        const struct lora_stack *stack = &b->bank->layers[layer][t];
        y = add_lora(b, stack, ggml_mul(b->ctx, product(b, stack->a, x), mask), y);
    }
    if (w->bias[t]) {
        y = ggml_add(b->ctx, y, w->bias[t]);
    }
    return y;
}

/* x: [n_embd_head, n_heads, rows] */
static struct ggml_tensor *rope(struct builder *b, struct ggml_tensor *x) {
    const struct hparams *hp = b->hp;
    return ggml_rope_ext(b->ctx, x, b->g->positions, b->model->weights.rope_freqs, hp->n_rot, hp->rope_mode, hp->n_ctx_orig,
                         hp->rope_freq_base, hp->rope_freq_scale, hp->rope_ext_factor, hp->rope_attn_factor,
                         hp->rope_beta_fast, hp->rope_beta_slow);
}

/* The part of a layer's cache that a run looks at: [n_embd_head, n_kv, n_head_kv, n_seq] */
static struct ggml_tensor *cache_view(struct builder *b, struct ggml_tensor *cache, const struct run *run) {
    const size_t column = cache->nb[1], head = column * (size_t)b->n_ctx, sequence = head * (size_t)b->hp->n_head_kv;
    return ggml_view_4d(b->ctx, cache, b->hp->n_embd_head, run->n_kv, b->hp->n_head_kv, run->n_seq, column, head, sequence,
                        sequence * (size_t)run->seq0);
}

/* Attention of one run: q [n_embd_head, n_head, all rows] -> [n_embd_q, rows of the run] */
static struct ggml_tensor *attend(struct builder *b, int32_t i_run, struct ggml_tensor *q, const struct kv_layer *kv) {
    const struct run *run = &b->shape->runs[i_run];
    struct ggml_tensor *k = cache_view(b, kv->k, run), *v = cache_view(b, kv->v, run);
    /* [n_embd_head, n_rows, n_head, n_seq] */
    q = ggml_view_4d(b->ctx, q, q->ne[0], q->ne[1], run->n_rows, run->n_seq, q->nb[1], q->nb[2],
                     q->nb[2] * (size_t)run->n_rows, q->nb[2] * (size_t)run->row0);
    q = ggml_permute(b->ctx, q, 0, 2, 1, 3);
    struct ggml_tensor *y = ggml_flash_attn_ext(b->ctx, q, k, v, b->g->masks[i_run], 1.0f / sqrtf((float)b->hp->n_embd_head),
                                                0.0f, 0.0f);
    ggml_prec_set_acc(y, GGML_PREC_F32);
    return ggml_reshape_2d(b->ctx, y, hparams_n_embd_q(b->hp), (int64_t)run->n_rows * run->n_seq);
}

/* x [n_embd, rows], normed -> attention output before the O map: [n_embd_q, rows]. NULL where only the cache had to be
 * written: in the last layer of a batch that wants no logits. */
static struct ggml_tensor *attention(struct builder *b, int32_t layer, struct ggml_tensor *x, const struct kv_layer *kv) {
    const struct hparams *hp = b->hp;
    const struct layer_weights *w = &b->model->weights.layers[layer];
    const int64_t n = b->shape->n_rows;
    struct ggml_tensor *q = linear(b, layer, LINEAR_Q, x, b->g->lora_mask);
    struct ggml_tensor *k = linear(b, layer, LINEAR_K, x, b->g->lora_mask);
    struct ggml_tensor *v = linear(b, layer, LINEAR_V, x, b->g->lora_mask);
    q = ggml_reshape_3d(b->ctx, q, hp->n_embd_head, hp->n_head, n);
    k = ggml_reshape_3d(b->ctx, k, hp->n_embd_head, hp->n_head_kv, n);
    if (w->q_norm) {
        q = norm(b, q, w->q_norm);
        k = norm(b, k, w->k_norm);
    }
    q = rope(b, q);
    k = ggml_reshape_2d(b->ctx, rope(b, k), hp->n_embd_head, hp->n_head_kv * n);
    v = ggml_reshape_2d(b->ctx, v, hp->n_embd_head, hp->n_head_kv * n);
    /* the cache is written before it is read: both only know it by address, so order is set here */
    ggml_build_forward_expand(b->g->cgraph, q);
    ggml_build_forward_expand(b->g->cgraph, ggml_set_rows(b->ctx, kv->k, k, b->g->kv_index));
    ggml_build_forward_expand(b->g->cgraph, ggml_set_rows(b->ctx, kv->v, v, b->g->kv_index));
    if (layer == hp->n_layer - 1 && b->shape->n_outputs == 0) {
        return NULL;
    }
    struct ggml_tensor *y = attend(b, 0, q, kv);
    for (int32_t i = 1; i < b->shape->n_runs; i++) {
        y = ggml_concat(b->ctx, y, attend(b, i, q, kv), 1);
    }
    return y;
}

static struct ggml_tensor *feed_forward(struct builder *b, int32_t layer, struct ggml_tensor *x, struct ggml_tensor *mask) {
    struct ggml_tensor *gate = linear(b, layer, LINEAR_GATE, x, mask);
    struct ggml_tensor *up = linear(b, layer, LINEAR_UP, x, mask);
    return linear(b, layer, LINEAR_DOWN, ggml_swiglu_split(b->ctx, gate, up), mask);
}

/* -> hidden state of the rows with output, [n_embd, n_outputs]; NULL if there are none */
static struct ggml_tensor *all_layers(struct builder *b, const struct kv_layer *kv) {
    struct graph *g = b->g;
    struct ggml_tensor *mask = g->lora_mask;
    struct ggml_tensor *x = ggml_get_rows(b->ctx, b->model->weights.token_embd, g->tokens); /* [n_embd, rows] */
    for (int32_t l = 0; l < b->hp->n_layer; l++) {
        const struct layer_weights *w = &b->model->weights.layers[l];
        struct ggml_tensor *y = attention(b, l, norm(b, x, w->attn_norm), kv + l);
        if (!y) {
            return NULL;
        }
        if (l == b->hp->n_layer - 1) { /* after the last attention only the rows with output go on */
            y = ggml_get_rows(b->ctx, y, g->outputs);
            x = ggml_get_rows(b->ctx, x, g->outputs);
            mask = mask ? ggml_get_rows(b->ctx, mask, g->outputs) : NULL;
        }
        x = ggml_add(b->ctx, x, linear(b, l, LINEAR_O, y, mask));
        x = ggml_add(b->ctx, x, feed_forward(b, l, norm(b, x, w->ffn_norm), mask));
    }
    return x;
}

/* Each output as the sum of its parts. x: [n_embd, n_outputs] -> [n_embd, n_mixed] */
static struct ggml_tensor *mix_shares(struct builder *b, struct ggml_tensor *x) {
    const int64_t n = b->shape->n_mixed;
    x = ggml_mul(b->ctx, ggml_get_rows(b->ctx, x, b->g->parts), b->g->shares);
    struct ggml_tensor *y = ggml_view_2d(b->ctx, x, x->ne[0], n, x->nb[1], 0);
    for (int32_t k = 1; k < b->shape->n_parts; k++) {
        y = ggml_add(b->ctx, y, ggml_view_2d(b->ctx, x, x->ne[0], n, x->nb[1], x->nb[1] * (size_t)(k * n)));
    }
    b->n_apart = b->shape->by_sequence ? n : 1;
    return y;
}

static void make_inputs(struct builder *b) {
    const struct graph_shape *s = b->shape;
    struct graph *g = b->g;
    g->tokens = input(b, GGML_TYPE_I32, s->n_rows, 1, 1);
    g->positions = input(b, GGML_TYPE_I32, s->n_rows, 1, 1);
    g->kv_index = input(b, GGML_TYPE_I64, (int64_t)b->hp->n_head_kv * s->n_rows, 1, 1);
    g->outputs = s->n_outputs ? input(b, GGML_TYPE_I32, s->n_outputs, 1, 1) : NULL;
    if (s->n_parts > 1) {
        g->parts = input(b, GGML_TYPE_I32, (int64_t)s->n_mixed * s->n_parts, 1, 1);
        g->shares = input(b, GGML_TYPE_F32, 1, (int64_t)s->n_mixed * s->n_parts, 1);
    }
    g->lora_mask = s->lora ? input(b, GGML_TYPE_F32, lora_bank_rank(b->bank), s->n_rows, 1) : NULL;
    for (int32_t i = 0; i < s->n_runs; i++) {
        g->masks[i] = input(b, GGML_TYPE_F16, s->runs[i].n_kv, s->runs[i].n_rows, s->runs[i].n_seq);
    }
}

int graph_build(struct graph *g, const struct genarm_model *model, const struct kv_layer *kv, int32_t n_ctx,
                const struct lora_bank *bank, struct ops *ops, const struct graph_shape *shape, struct genarm_error *err) {
    const size_t n_nodes = 128 + (size_t)model->hp.n_layer * (64 + 6 * LINEAR_COUNT + 8 * (size_t)shape->n_runs) +
                           2 * (size_t)shape->n_parts;
    g->ctx = ggml_init((struct ggml_init_params){
        .mem_size = n_nodes * ggml_tensor_overhead() + ggml_graph_overhead_custom(n_nodes, false), .no_alloc = true});
    g->masks = calloc((size_t)shape->n_runs, sizeof(struct ggml_tensor *));
    if (!g->ctx || !g->masks) {
        return error_nomem(err, "a compute graph");
    }
    g->cgraph = ggml_new_graph_custom(g->ctx, n_nodes, false);
    struct builder b = {.g = g, .ctx = g->ctx, .model = model, .hp = &model->hp, .bank = bank, .ops = ops, .shape = shape,
                        .n_ctx = n_ctx, .n_apart = shape->by_sequence ? shape->runs[0].n_seq : 1};
    make_inputs(&b);
    struct ggml_tensor *x = all_layers(&b, kv);
    if (x) {
        x = norm(&b, x, model->weights.output_norm);
        x = shape->n_parts > 1 ? mix_shares(&b, x) : x;
        g->logits = shape->hidden ? x : product(&b, model->weights.output, x);
        ggml_set_output(g->logits);
        ggml_build_forward_expand(g->cgraph, g->logits);
    }
    return GENARM_OK;
}

void graph_deinit(struct graph *g) {
    ggml_free(g->ctx);
    free(g->masks);
    *g = (struct graph){0};
}
