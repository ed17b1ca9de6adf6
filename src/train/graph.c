#include "train/graph.h"

#include <math.h>
#include <stdlib.h>

#include "base/error.h"

enum { NODES_PER_LAYER = 720 /* at most, of plain nodes, forward twice */, MAX_TOGETHER = 3 /* maps of one input: q, k, v */ };

/* What the forward pass leaves of one layer. */
struct tape {
    struct ggml_tensor *x;         /* [n_embd, n_rows] input */
    struct ggml_tensor *q0, *k0;   /* before the q/k norm; same as q, k without one */
    struct ggml_tensor *q, *k, *v; /* [n_embd_head, heads, n_rows] before rope */
    struct op_attention attention;
    struct ggml_tensor *o_in;            /* [n_embd_q, n_rows]; in the last layer [n_embd_q, n_scored] */
    struct ggml_tensor *mid;             /* [n_embd, as o_in] stream after attention */
    struct ggml_tensor *gate, *up;       /* [n_ff, as o_in] */
    struct ggml_tensor *u[LINEAR_COUNT]; /* [rank, rows of the map] A x */
    struct ggml_tensor *mu[LINEAR_COUNT]; /* the same, what B takes: M A x of a conditioned adapter, else u */
};

/* Gradients lie on the CPU: to add to each where it comes up would leave the device of its layer and enter it again, with all
 * that is needed on both sides. So sums are computed there, and added at the end of the graph. */
struct late_sum {
    struct ggml_tensor *to, *sum;
};

struct builder {
    struct train_graph *g;
    struct ggml_context *ctx;
    struct ops *ops;
    const struct hparams *hp;
    const struct weights *weights;
    const struct trainable *adapter;
    float dropout;
    struct op_tree tree;
    struct op_rope rope;
    struct tape *tapes;           /* [n_layer] */
    struct ggml_tensor *labelled; /* the last tensor that has its label */
    struct late_sum *late;        /* [n_late] of gradients, plain only */
    size_t n_late;
};

static void expand(struct builder *b, struct ggml_tensor *node) { ggml_build_forward_expand(b->g->cgraph, node); }

/* Names all tensors that were made since the last call, for profiles. */
static void label(struct builder *b, const char *kind) {
    struct ggml_tensor *t = b->labelled ? ggml_get_next_tensor(b->ctx, b->labelled) : ggml_get_first_tensor(b->ctx);
    for (; t; t = ggml_get_next_tensor(b->ctx, t)) {
        ggml_set_name(t, kind);
        b->labelled = t;
    }
}

/* gradient += scale sum_rows dy x^T */
static void add_gradient(struct builder *b, struct ggml_tensor *gradient, struct ggml_tensor *dy, struct ggml_tensor *x,
                         float scale) {
    if (!b->g->params.plain) {
        expand(b, op_linear_grad_acc(b->ctx, b->ops, gradient, dy, x, scale));
        return;
    }
    struct late_sum *late = &b->late[b->n_late++];
    *late = (struct late_sum){.to = gradient, .sum = op_linear_grad_plain(b->ctx, dy, x, scale)};
    expand(b, late->sum);
}

static void add_late_sums(struct builder *b) {
    for (size_t i = 0; i < b->n_late; i++) {
        expand(b, op_add_in_place_plain(b->ctx, b->late[i].to, b->late[i].sum));
    }
    label(b, "lora back");
}

/* ---- linear maps and their LoRA ---- */

static const struct lora *lora_of(const struct builder *b, int32_t layer, enum linear t) {
    const struct lora *lora = b->adapter ? &b->adapter->layers[layer][t] : NULL;
    return lora && lora->a ? lora : NULL;
}

static bool adapts(const struct builder *b, int32_t layer, enum linear first, enum linear last) {
    for (int t = (int)first; t <= (int)last; t++) {
        if (lora_of(b, layer, (enum linear)t)) {
            return true;
        }
    }
    return false;
}

/* The same mask for the same map, forward and backward: x [n, n_rows] -> [n, n_rows] */
static struct ggml_tensor *drop(struct builder *b, int32_t layer, enum linear t, struct ggml_tensor *x) {
    const uint32_t stream = (uint32_t)layer * LINEAR_COUNT + (uint32_t)t;
    const bool scored = layer == b->hp->n_layer - 1 && t >= LINEAR_O;
    struct ggml_tensor *keys = scored ? b->g->scored_keys : b->g->row_keys;
    return b->dropout > 0 ? op_dropout(b->ctx, b->ops, x, keys, b->dropout, stream) : x;
}

/* What stands between A and B, NULL where there is nothing. */
static const struct core *core_of(const struct builder *b, int32_t layer, enum linear t) {
    return b->adapter->cores ? &b->adapter->cores[layer][t] : NULL;
}

/* y += scale B M A drop(x), in place. x: [n_in, n_rows], y: [n_out, n_rows] */
static struct ggml_tensor *add_lora(struct builder *b, int32_t layer, enum linear t, struct ggml_tensor *x,
                                    struct ggml_tensor *y) {
    const struct lora *lora = lora_of(b, layer, t);
    if (!lora) {
        return y;
    }
    struct ggml_tensor *u = op_linear(b->ctx, b->ops, lora->a, drop(b, layer, t, x));
    const struct core *core = core_of(b, layer, t);
    struct ggml_tensor *v = core ? op_linear(b->ctx, b->ops, core->m, u) : u;
    b->tapes[layer].u[t] = u;
    b->tapes[layer].mu[t] = v;
    y = op_linear_acc(b->ctx, b->ops, y, lora->b, v, lora->scale);
    label(b, "lora");
    return y;
}

/* y[i] = map first + i of x, for n neighbouring maps. x: [n_in, n_rows], y[i]: [n_out_i, n_rows] */
static void maps(struct builder *b, int32_t layer, enum linear first, int n, struct ggml_tensor *x,
                 struct ggml_tensor **y) {
    const struct layer_weights *w = &b->weights->layers[layer];
    struct ggml_tensor *all = op_linear_stack(b->ctx, b->ops, &w->linear[first], n, x);
    label(b, "weights");
    for (int64_t i = 0, at = 0; i < n; i++) {
        const enum linear t = (enum linear)((int)first + (int)i);
        const int64_t n_out = w->linear[t]->ne[1];
        y[i] = op_part(b->ctx, all, at, n_out);
        if (w->bias[t]) {
            y[i] = ggml_add_inplace(b->ctx, y[i], w->bias[t]);
        }
        label(b, "bias");
        y[i] = add_lora(b, layer, t, x, y[i]);
        at += n_out;
    }
}

/* The gradient of u = A x from that of v = M u, which grows M's own. dv: [rank, n_rows], also -> */
static struct ggml_tensor *core_back(struct builder *b, int32_t layer, enum linear t, struct ggml_tensor *dv) {
    const struct core *core = core_of(b, layer, t);
    if (!core) {
        return dv;
    }
    add_gradient(b, core->gradient, dv, b->tapes[layer].u[t], lora_of(b, layer, t)->scale);
    return op_linear_back(b->ctx, b->ops, core->m, dv);
}

/* Gradients of the LoRA matrices of n neighbouring maps of x, and, with `need_dx`, the gradient of x, else NULL.
 * dy: [sum n_out_i, n_rows] -> [n_in, n_rows] */
static struct ggml_tensor *maps_back(struct builder *b, int32_t layer, enum linear first, int n, struct ggml_tensor *x,
                                     struct ggml_tensor *dy, bool need_dx) {
    const struct layer_weights *w = &b->weights->layers[layer];
    struct ggml_tensor *dx = need_dx ? op_linear_back_stack(b->ctx, b->ops, &w->linear[first], n, dy) : NULL;
    label(b, "weights back");
    for (int64_t i = 0, at = 0; i < n; i++) {
        const enum linear t = (enum linear)((int)first + (int)i);
        const struct lora *lora = lora_of(b, layer, t);
        const int64_t n_out = w->linear[t]->ne[1];
        if (lora) {
            const struct lora *gradient = &b->adapter->gradients[layer][t];
            struct ggml_tensor *dy_t = op_part(b->ctx, dy, at, n_out);
            struct ggml_tensor *dv = op_linear_back(b->ctx, b->ops, lora->b, dy_t); /* [rank, n_rows] */
            add_gradient(b, gradient->b, dy_t, b->tapes[layer].mu[t], lora->scale);
            struct ggml_tensor *du = core_back(b, layer, t, dv); /* [rank, n_rows] */
            add_gradient(b, gradient->a, du, drop(b, layer, t, x), lora->scale);
            if (dx && b->dropout > 0) {
                struct ggml_tensor *dropped = op_linear_back(b->ctx, b->ops, lora->a, du); /* [n_in, n_rows] */
                dropped = drop(b, layer, t, ggml_scale(b->ctx, dropped, lora->scale));
                dx = ggml_add(b->ctx, dx, dropped);
            } else if (dx) {
                dx = op_linear_back_acc(b->ctx, b->ops, dx, lora->a, du, lora->scale);
            }
        }
        at += n_out;
    }
    label(b, "lora back");
    return dx;
}

/* ---- one layer forward ---- */

static struct ggml_tensor *norm(struct builder *b, struct ggml_tensor *x, struct ggml_tensor *w) {
    struct ggml_tensor *y = op_rms_norm(b->ctx, b->ops, x, w, b->hp->norm_eps);
    label(b, "norm");
    return y;
}

/* `add`: the gradient that goes round the norm, or NULL. */
static struct ggml_tensor *norm_back(struct builder *b, struct ggml_tensor *x, struct ggml_tensor *w,
                                     struct ggml_tensor *dy, struct ggml_tensor *add) {
    struct ggml_tensor *dx = op_rms_norm_back(b->ctx, b->ops, x, w, dy, add, b->hp->norm_eps);
    label(b, "norm back");
    return dx;
}

/* [n_embd_head * heads, n_rows] -> [n_embd_head, heads, n_rows], any row stride */
static struct ggml_tensor *heads(struct builder *b, struct ggml_tensor *x) {
    const int64_t n = b->hp->n_embd_head;
    return ggml_view_3d(b->ctx, x, n, x->ne[0] / n, x->ne[1], (size_t)n * sizeof(float), x->nb[1], 0);
}

static float attention_scale(const struct hparams *hp) { return 1.0f / sqrtf((float)hp->n_embd_head); }

/* x: [n_embd, n_rows] -> [n_embd_q, n_rows] */
static struct ggml_tensor *attention(struct builder *b, int32_t layer, struct ggml_tensor *x) {
    const struct layer_weights *w = &b->weights->layers[layer];
    struct tape *t = &b->tapes[layer];
    struct ggml_tensor *qkv[MAX_TOGETHER];
    maps(b, layer, LINEAR_Q, 3, norm(b, x, w->attn_norm), qkv);
    t->q = t->q0 = heads(b, qkv[0]);
    t->k = t->k0 = heads(b, qkv[1]);
    t->v = heads(b, qkv[2]);
    if (w->q_norm) {
        t->q = norm(b, t->q0, w->q_norm);
        t->k = norm(b, t->k0, w->k_norm);
    }
    t->attention = op_attention(b->ctx, b->ops, t->q, t->k, t->v, &b->tree, &b->rope, attention_scale(b->hp));
    label(b, "attention");
    return t->attention.out;
}

/* x: [n_embd, n_rows] -> [n_embd, n_rows], after the last layer [n_embd, n_scored] */
static struct ggml_tensor *layer_forward(struct builder *b, int32_t layer, struct ggml_tensor *x) {
    const struct layer_weights *w = &b->weights->layers[layer];
    struct tape *t = &b->tapes[layer];
    struct ggml_tensor *y, *gate_up[MAX_TOGETHER];
    t->x = x;
    t->o_in = attention(b, layer, x);
    if (layer == b->hp->n_layer - 1) { /* other rows have done their part as keys and values */
        t->o_in = ggml_get_rows(b->ctx, t->o_in, b->g->scored_rows);
        x = ggml_get_rows(b->ctx, x, b->g->scored_rows);
        label(b, "gather");
    }
    maps(b, layer, LINEAR_O, 1, t->o_in, &y);
    t->mid = ggml_add(b->ctx, x, y);
    label(b, "add");
    maps(b, layer, LINEAR_GATE, 2, norm(b, t->mid, w->ffn_norm), gate_up);
    t->gate = gate_up[0];
    t->up = gate_up[1];
    y = op_swiglu(b->ctx, b->ops, t->gate, t->up);
    label(b, "swiglu");
    maps(b, layer, LINEAR_DOWN, 1, y, &y);
    y = ggml_add(b->ctx, t->mid, y);
    label(b, "add");
    return y;
}

/* ---- one layer backward ---- */

/* The gradient of q0 k0 v0 from that of q k v: undoes the q/k norm. dqkv: [n_embd_q + 2 n_embd_kv, n_rows], also -> */
static struct ggml_tensor *qk_norm_back(struct builder *b, int32_t layer, struct ggml_tensor *dqkv) {
    const struct layer_weights *w = &b->weights->layers[layer];
    const struct tape *t = &b->tapes[layer];
    const int64_t n_q = hparams_n_embd_q(b->hp), n_kv = hparams_n_embd_kv(b->hp);
    if (!w->q_norm) {
        return dqkv;
    }
    struct ggml_tensor *dq = heads(b, op_part(b->ctx, dqkv, 0, n_q)), *dk = heads(b, op_part(b->ctx, dqkv, n_q, n_kv));
    dq = norm_back(b, t->q0, w->q_norm, dq, NULL);
    dk = norm_back(b, t->k0, w->k_norm, dk, NULL);
    dq = ggml_reshape_2d(b->ctx, dq, n_q, dq->ne[2]);
    dk = ggml_reshape_2d(b->ctx, dk, n_kv, dk->ne[2]);
    struct ggml_tensor *dv = op_part(b->ctx, dqkv, n_q + n_kv, n_kv);
    dqkv = ggml_concat(b->ctx, ggml_concat(b->ctx, dq, dk, 0), dv, 0);
    label(b, "norm back");
    return dqkv;
}

/* Through down, SwiGLU, gate and up. dx: [n_embd, n_rows], of the layer's output -> of t->mid; NULL when nothing
 * below needs it. */
static struct ggml_tensor *feed_forward_back(struct builder *b, int32_t layer, struct ggml_tensor *dx, bool need_mid) {
    const struct layer_weights *w = &b->weights->layers[layer];
    const struct tape *t = &b->tapes[layer];
    const bool gate_up = adapts(b, layer, LINEAR_GATE, LINEAR_UP), need_y = need_mid || gate_up;
    struct ggml_tensor *y =
        adapts(b, layer, LINEAR_DOWN, LINEAR_DOWN) ? op_swiglu(b->ctx, b->ops, t->gate, t->up) : NULL;
    label(b, "swiglu");
    struct ggml_tensor *dy = maps_back(b, layer, LINEAR_DOWN, 1, y, dx, need_y);
    if (!need_y) {
        return NULL;
    }
    dy = op_swiglu_back(b->ctx, b->ops, t->gate, t->up, dy); /* [2 n_ff, n_rows] */
    label(b, "swiglu back");
    dy = maps_back(b, layer, LINEAR_GATE, 2, gate_up ? norm(b, t->mid, w->ffn_norm) : NULL, dy, need_mid);
    return need_mid ? norm_back(b, t->mid, w->ffn_norm, dy, dx) : NULL;
}

/* The gradient of all rows from that of the scored ones; a row that is scored twice gets both. [n, n_scored] -> [n, n_rows] */
static struct ggml_tensor *scatter(struct builder *b, struct ggml_tensor *d, struct ggml_tensor *like) {
    return ggml_get_rows_back(b->ctx, d, b->g->scored_rows, like);
}

/* Through o, attention, q, k and v. dmid: of t->mid -> of t->x, or NULL when nothing below needs it. */
static struct ggml_tensor *attention_back(struct builder *b, int32_t layer, struct ggml_tensor *dmid, bool need_x) {
    const struct layer_weights *w = &b->weights->layers[layer];
    const struct tape *t = &b->tapes[layer];
    const bool qkv = adapts(b, layer, LINEAR_Q, LINEAR_V), need_attention = need_x || qkv;
    struct ggml_tensor *dy = maps_back(b, layer, LINEAR_O, 1, t->o_in, dmid, need_attention);
    if (!need_attention) {
        return NULL;
    }
    if (layer == b->hp->n_layer - 1) {
        dy = scatter(b, dy, t->attention.out);
        dmid = need_x ? scatter(b, dmid, t->x) : NULL;
        label(b, "gather");
    }
    dy = op_attention_back(b->ctx, b->ops, t->q, t->k, t->v, &t->attention, dy, &b->tree, &b->rope,
                           attention_scale(b->hp));
    label(b, "attention back");
    dy = qk_norm_back(b, layer, dy);
    dy = maps_back(b, layer, LINEAR_Q, 3, qkv ? norm(b, t->x, w->attn_norm) : NULL, dy, need_x);
    return need_x ? norm_back(b, t->x, w->attn_norm, dy, dmid) : NULL;
}

/* dx: gradient of the layer's output -> of its input, or NULL when no lower layer is adapted */
static struct ggml_tensor *layer_backward(struct builder *b, int32_t layer, struct ggml_tensor *dx, bool need_x) {
    struct ggml_tensor *dmid = feed_forward_back(b, layer, dx, need_x || adapts(b, layer, LINEAR_Q, LINEAR_O));
    return dmid ? attention_back(b, layer, dmid, need_x) : NULL;
}

/* Before the backward pass of `layer`: what it and the layers below it, down to the next kept input, left on their tapes
 * is computed again, unless the forward pass has just left it. Layers are grouped from the lowest adapted one on. `dx`: what
 * must be done before, so that the memory of the layers above is free again. */
static void restore_tapes(struct builder *b, int32_t layer, int32_t lowest, struct ggml_tensor *dx) {
    const int32_t every = b->g->params.checkpoint_layers, top = b->hp->n_layer - 1;
    if (every == 0 || (layer + 1 - lowest) % every != 0 || layer == top) {
        return;
    }
    expand(b, dx);
    struct ggml_tensor *x = b->tapes[layer + 1 - every].x;
    for (int32_t l = layer + 1 - every; l <= layer; l++) {
        x = layer_forward(b, l, x);
    }
}

static int32_t lowest_adapted_layer(const struct builder *b) {
    int32_t layer = 0;
    while (layer < b->hp->n_layer && !adapts(b, layer, LINEAR_Q, LINEAR_DOWN)) {
        layer++;
    }
    return layer;
}

/* ---- head ---- */

static void compute_coefficients(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    (void)nth;
    const struct train_graph_params *p = userdata;
    if (ith == 0) {
        p->coefficients(dst->src[0]->data, dst->data, p->user);
    }
}

/* d loss / d log p of each scored row: [n_scored] -> [1, n_scored] */
static struct ggml_tensor *coefficients(struct builder *b, struct ggml_tensor *logp) {
    return ggml_custom_4d(b->ctx, GGML_TYPE_F32, 1, logp->ne[0], 1, 1, &logp, 1, compute_coefficients, 1,
                          &b->g->params);
}

/* The scalar head of a reward model, r = w . h: x: [n_embd, n_scored] -> gradient of x, or NULL */
static struct ggml_tensor *reward_head(struct builder *b, struct ggml_tensor *x, bool gradient) {
    const struct weights *w = b->weights;
    struct ggml_tensor *h = norm(b, x, w->output_norm);
    struct ggml_tensor *r = op_linear(b->ctx, b->ops, b->adapter->head, h); /* [1, n_scored] */
    b->g->logp = ggml_reshape_1d(b->ctx, r, r->ne[1]);
    ggml_set_output(b->g->logp);
    label(b, "head");
    expand(b, b->g->logp);
    if (!gradient) {
        return NULL;
    }
    struct ggml_tensor *dr = coefficients(b, b->g->logp);
    add_gradient(b, b->adapter->head_gradient, dr, h, 1);
    struct ggml_tensor *dh = op_linear_back(b->ctx, b->ops, b->adapter->head, dr); /* [n_embd, n_scored] */
    label(b, "head");
    return norm_back(b, x, w->output_norm, dh, NULL);
}

/* x: [n_embd, n_scored] -> gradient of x, same shape; NULL without `gradient` */
static struct ggml_tensor *head(struct builder *b, struct ggml_tensor *x, bool gradient) {
    const struct weights *w = b->weights;
    const float scale = (float)(1 / b->g->params.temperature);
    const bool scaled = scale < 1 || scale > 1; /* logits / T = W (h / T) */
    struct ggml_tensor *h = norm(b, x, w->output_norm);
    h = scaled ? ggml_scale(b->ctx, h, scale) : h;
    struct op_head head = op_head(b->ctx, b->ops, w->output, h, b->g->targets, gradient);
    b->g->logp = head.logp;
    ggml_set_output(b->g->logp);
    label(b, "head");
    expand(b, b->g->logp);
    if (!gradient) {
        return NULL;
    }
    struct ggml_tensor *dy = ggml_mul(b->ctx, head.grad, coefficients(b, head.logp));
    dy = scaled ? ggml_scale(b->ctx, dy, scale) : dy;
    label(b, "head");
    return norm_back(b, x, w->output_norm, dy, NULL);
}

/* ---- the whole ---- */

static struct ggml_tensor *input(struct builder *b, enum ggml_type type, int64_t ne0, int64_t ne1) {
    struct ggml_tensor *t =
        ne1 == 1 ? ggml_new_tensor_1d(b->ctx, type, ne0) : ggml_new_tensor_2d(b->ctx, type, ne0, ne1);
    ggml_set_input(t);
    return t;
}

static void make_inputs(struct builder *b, const struct train_graph_shape *s) {
    struct train_graph *g = b->g;
    const struct hparams *hp = b->hp;
    g->tokens = input(b, GGML_TYPE_I32, s->n_rows, 1);
    g->positions = input(b, GGML_TYPE_I32, s->n_rows, 1);
    g->trees = ggml_new_tensor_2d(b->ctx, GGML_TYPE_I32, 4, s->n_pairs);
    ggml_set_input(g->trees);
    g->mask = g->params.plain ? ggml_new_tensor_2d(b->ctx, GGML_TYPE_F32, s->n_rows, s->n_rows) : NULL;
    if (g->mask) {
        ggml_set_input(g->mask);
    }
    g->scored_rows = input(b, GGML_TYPE_I32, s->n_scored, 1);
    g->targets = input(b, GGML_TYPE_I32, s->n_scored, 1);
    if (b->dropout > 0) {
        g->row_keys = input(b, GGML_TYPE_I64, s->n_rows, 1);
        g->scored_keys = input(b, GGML_TYPE_I64, s->n_scored, 1);
    }
    b->tree = (struct op_tree){.trees = g->trees, .mask = g->mask};
    b->rope = (struct op_rope){.positions = g->positions,
                               .freq_factors = b->weights->rope_freqs,
                               .n_rot = hp->n_rot,
                               .mode = hp->rope_mode,
                               .n_ctx_orig = hp->n_ctx_orig,
                               .freq_base = hp->rope_freq_base,
                               .freq_scale = hp->rope_freq_scale,
                               .ext_factor = hp->rope_ext_factor,
                               .attn_factor = hp->rope_attn_factor,
                               .beta_fast = hp->rope_beta_fast,
                               .beta_slow = hp->rope_beta_slow};
    op_rope_init(b->ctx, b->ops, &b->rope);
    label(b, "input");
}

static void build(struct builder *b, const struct train_graph_shape *shape) {
    make_inputs(b, shape);
    struct ggml_tensor *x = ggml_get_rows(b->ctx, b->weights->token_embd, b->g->tokens); /* [n_embd, n_rows] */
    label(b, "embedding");
    for (int32_t l = 0; l < b->hp->n_layer; l++) {
        x = layer_forward(b, l, x);
    }
    const bool rewards = b->adapter && b->adapter->head;
    struct ggml_tensor *dx = rewards ? reward_head(b, x, shape->gradient) : head(b, x, shape->gradient);
    const int32_t lowest = shape->gradient ? lowest_adapted_layer(b) : b->hp->n_layer;
    for (int32_t l = b->hp->n_layer - 1; l >= lowest; l--) {
        restore_tapes(b, l, lowest, dx);
        dx = layer_backward(b, l, dx, l > lowest);
    }
    add_late_sums(b);
}

size_t train_graph_max_nodes(const struct train_graph_params *params) {
    return 256 + NODES_PER_LAYER * (size_t)params->model->hp.n_layer;
}

int train_graph_build(struct train_graph *g, const struct train_graph_params *params,
                      const struct train_graph_shape *shape, struct genarm_error *err) {
    const struct hparams *hp = &params->model->hp;
    const size_t n_nodes = train_graph_max_nodes(params);
    g->params = *params;
    g->ctx = ggml_init((struct ggml_init_params){.mem_size = 2 * n_nodes * ggml_tensor_overhead() +
                                                             ggml_graph_overhead_custom(n_nodes, false),
                                                 .no_alloc = true});
    struct builder b = {.g = g,
                        .ctx = g->ctx,
                        .ops = params->ops,
                        .hp = hp,
                        .weights = &params->model->weights,
                        .adapter = shape->reference ? params->reference : params->adapter,
                        .dropout = shape->gradient ? params->dropout : 0,
                        .tapes = calloc((size_t)hp->n_layer, sizeof *b.tapes),
                        .late = calloc(3 * LINEAR_COUNT * (size_t)hp->n_layer + 1, sizeof *b.late)};
    if (!g->ctx || !b.tapes || !b.late) {
        free(b.tapes);
        free(b.late);
        return error_nomem(err, "a training graph");
    }
    g->cgraph = ggml_new_graph_custom(g->ctx, n_nodes, false);
    build(&b, shape);
    free(b.tapes);
    free(b.late);
    return GENARM_OK;
}

void train_graph_deinit(struct train_graph *g) {
    ggml_free(g->ctx);
    *g = (struct train_graph){0};
}
