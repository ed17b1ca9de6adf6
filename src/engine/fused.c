#include "engine/fused.h"

#include <ggml-cpu.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/cpu.h"
#include "ops/rope.h"

enum { MAX_HEAD = 1024, NODES_PER_LAYER = 5, DOT_MAX_ROWS = 8 /* with a dot product for each row */ };

struct fused {
    const struct genarm_model *model;
    const struct kernels *kernels;
    const struct few_bf16 *few; /* or NULL */
    int32_t n_threads, max_rows;
    float **scratch; /* [n_threads], see struct work */
    size_t scratch_floats;

    /* of the graph at hand */
    const struct kv_layer *kv;
    int32_t n_ctx;
    const struct lora_bank *bank;
    const struct row *rows;
    int32_t n_rows, n_outputs;
    struct step *steps; /* [n_layer] userdata of the nodes */
};

struct step {
    struct fused *f;
    int32_t layer;
};

/* ---- scratch of a thread ---- */

struct work {
    float *x;      /* [widest, max_rows] rows ready for a product, f32 */
    void *packed;  /* the same in the weights' own dot-product type */
    float *up;     /* [n_ff, max_rows] */
    float *low;    /* [rank_total, max_rows] A x of LoRA */
    float *scores; /* [n_ctx] and more: see attend */
};

static int32_t widest(const struct hparams *hp) {
    int32_t n = hp->n_ff;
    n = hp->n_embd > n ? hp->n_embd : n;
    return hparams_n_embd_q(hp) > n ? hparams_n_embd_q(hp) : n;
}

/* Rows of a share start at multiples of 16 floats: no two threads write to one cache line of an output row. */
static void share(int64_t n, int ith, int nth, int64_t *first, int64_t *end) {
    const int64_t blocks = (n + 15) / 16;
    *first = blocks * ith / nth * 16;
    *end = blocks * (ith + 1) / nth * 16;
    *first = *first < n ? *first : n;
    *end = *end < n ? *end : n;
}

static int32_t max_query_group(const struct hparams *hp) { return hp->n_head / hp->n_head_kv; }

static size_t scratch_floats(const struct fused *f, int32_t n_ctx, int32_t rank) {
    const size_t x = (size_t)widest(&f->model->hp) * (size_t)f->max_rows;
    const size_t group = (size_t)max_query_group(&f->model->hp);
    return 3 * x + 64 + (size_t)rank * (size_t)f->max_rows + group * ((size_t)n_ctx + 3 * MAX_HEAD) + 2 * MAX_HEAD;
}

static struct work work_of(const struct fused *f, int ith) {
    const size_t x = (size_t)widest(&f->model->hp) * (size_t)f->max_rows;
    struct work w = {.x = f->scratch[ith]};
    w.packed = w.x + x;
    w.up = w.x + 2 * x + 64; /* packed rows may have a little more than 4 bytes an element */
    w.low = w.up + x;
    w.scores = w.low + (size_t)(f->bank->n_adapters ? lora_bank_rank(f->bank) : 0) * (size_t)f->max_rows;
    return w;
}

static int reserve(struct fused *f, size_t floats, struct genarm_error *err) {
    for (int32_t i = 0; floats > f->scratch_floats && i < f->n_threads; i++) {
        void *p = NULL;
        if (posix_memalign(&p, 64, floats * sizeof(float)) != 0) {
            return error_nomem(err, "scratch of the engine");
        }
        free(f->scratch[i]);
        f->scratch[i] = p;
    }
    f->scratch_floats = floats > f->scratch_floats ? floats : f->scratch_floats;
    return GENARM_OK;
}

/* ---- products of a few rows ---- */

/* Which row of the batch the i-th row of a node is: behind the last attention only rows with output go on. */
static int32_t batch_row(const struct fused *f, bool outputs_only, int32_t i) {
    if (!outputs_only) {
        return i;
    }
    int32_t r = 0;
    for (int32_t n = 0;; r++) {
        n += f->rows[r].output;
        if (n > i) {
            return r;
        }
    }
}

/* Input rows of one product: x f32 [n_in, n], and packed for weights of `type` when the pointer is set. */
struct input {
    const float *x;
    int64_t n_in;
    int32_t n;
    int32_t adapters[FUSED_MAX_ROWS];
    void *packed;
    enum ggml_type packed_type; /* GGML_TYPE_COUNT: nothing packed yet */
    float *low;
};

/* Rows of x for the few rows' products in bf16. */
static void pack_bf16(const struct few_bf16 *few, struct input *in) {
    if (in->packed_type == GGML_TYPE_BF16) {
        return;
    }
    for (int32_t r = 0; r < in->n; r++) {
        few->pack((uint16_t *)in->packed + r * in->n_in, in->x + r * in->n_in, in->n_in);
    }
    in->packed_type = GGML_TYPE_BF16;
}

static void pack(struct input *in, enum ggml_type weight_type) {
    const enum ggml_type type = ggml_get_type_traits_cpu(weight_type)->vec_dot_type;
    if (in->packed_type == type || type == GGML_TYPE_F32) {
        return;
    }
    const size_t row = ggml_row_size(type, in->n_in);
    for (int32_t r = 0; r < in->n; r++) {
        ggml_get_type_traits_cpu(type)->from_float(in->x + r * in->n_in, (char *)in->packed + (size_t)r * row, in->n_in);
    }
    in->packed_type = type;
}

/* low[r] = A x_r on the rank slots of row r's adapter */
static void shrink(const struct fused *f, const struct lora_stack *stack, struct input *in) {
    const int32_t total = lora_bank_rank(f->bank);
    const ggml_vec_dot_t dot = ggml_get_type_traits_cpu(GGML_TYPE_F32)->vec_dot;
    for (int32_t r = 0; r < in->n; r++) {
        const int32_t a = in->adapters[r];
        for (int32_t s = a < 0 ? 0 : f->bank->first_rank[a]; a >= 0 && s < f->bank->first_rank[a + 1]; s++) {
            dot((int)in->n_in, in->low + r * total + s, 0, (const float *)stack->a->data + s * in->n_in, 0,
                in->x + r * in->n_in, 0, 1);
        }
    }
}

/* y_r[j] = w_j x_r by ggml's dot product of the type */
static void dot_product(const struct ggml_tensor *w, struct input *in, float *y, int64_t stride, int64_t first, int64_t end) {
    const struct ggml_type_traits_cpu *traits = ggml_get_type_traits_cpu(w->type);
    const size_t row = ggml_row_size(traits->vec_dot_type, in->n_in);
    pack(in, w->type);
    const char *x = traits->vec_dot_type == GGML_TYPE_F32 ? (const char *)in->x : in->packed;
    for (int64_t j = first; j < end; j++) {
        const char *wj = (const char *)w->data + (size_t)j * w->nb[1];
        for (int32_t r = 0; r < in->n; r++) {
            traits->vec_dot((int)in->n_in, &y[r * stride + j], 0, wj, 0, x + (size_t)r * row, 0, 1);
        }
    }
}

/* y_r[j] = w_j x_r + bias_j + (B low_r)_j for j in [first, end) */
static void product(const struct fused *f, const struct ggml_tensor *w, const struct ggml_tensor *bias,
                    const struct lora_stack *stack, struct input *in, float *y, int64_t stride, int64_t first, int64_t end) {
    const bool lora = stack && stack->a;
    const int32_t total = lora ? lora_bank_rank(f->bank) : 0;
    if (lora) {
        shrink(f, stack, in);
    }
    if (w->type == GGML_TYPE_F16 && f->kernels->few_product_f16) {
        f->kernels->few_product_f16(y, stride, w->data, w->nb[1], in->x, in->n_in, in->n_in, in->n, first, end);
    } else if (f->few && f->few->reads(w->type, in->n_in)) {
        pack_bf16(f->few, in);
        f->few->product(y, stride, w->data, w->type, w->nb[1], in->packed, in->n_in, in->n_in, in->n, first, end);
    } else {
        dot_product(w, in, y, stride, first, end);
    }
    for (int32_t r = 0; r < in->n; r++) {
        float *yr = y + r * stride;
        for (int64_t j = first; bias && j < end; j++) {
            yr[j] += ((const float *)bias->data)[j];
        }
        const int32_t a = lora ? in->adapters[r] : ENGINE_NO_ADAPTER;
        if (a >= 0) {
            const int64_t slot = f->bank->first_rank[a], n_out = stack->b_slots->ne[0];
            f->kernels->add_scaled(yr + first, in->low + r * total + slot,
                                   (const float *)stack->b_slots->data + slot * n_out + first, n_out, end - first,
                                   f->bank->first_rank[a + 1] - slot);
        }
    }
}

static const struct lora_stack *stack_of(const struct fused *f, int32_t layer, enum linear t) {
    return f->bank->n_adapters ? &f->bank->layers[layer][t] : NULL;
}

static struct input input_of(const struct fused *f, const struct work *w, const float *x, int64_t n_in, int32_t n,
                             bool outputs_only) {
    struct input in = {.x = x, .n_in = n_in, .n = n, .packed = w->packed, .packed_type = GGML_TYPE_COUNT, .low = w->low};
    for (int32_t i = 0; i < n; i++) {
        in.adapters[i] = f->rows[batch_row(f, outputs_only, i)].adapter;
    }
    return in;
}

/* All rows of x normed into the thread's scratch. */
static const float *normed(const struct fused *f, const struct work *w, const struct ggml_tensor *x,
                           const struct ggml_tensor *weight) {
    for (int64_t r = 0; r < x->ne[1]; r++) {
        f->kernels->rms_norm(w->x + r * x->ne[0], (const float *)x->data + r * x->ne[0], weight->data, x->ne[0], f->model->hp.norm_eps);
    }
    return w->x;
}

/* ---- nodes ---- */

/* The map t of the stacked outputs [q | k | v] for this thread's share [first, end) of all of them. */
static void node_qkv(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    const struct step *step = userdata;
    const struct fused *f = step->f;
    const struct layer_weights *l = &f->model->weights.layers[step->layer];
    const struct ggml_tensor *x = dst->src[0];
    const struct work w = work_of(f, ith);
    struct input in = input_of(f, &w, normed(f, &w, x, l->attn_norm), x->ne[0], f->n_rows, false);
    int64_t first, end, at = 0;
    share(dst->ne[0], ith, nth, &first, &end);
    for (int t = LINEAR_Q; t <= LINEAR_V; t++) {
        const int64_t n = linear_n_out((enum linear)t, &f->model->hp);
        const int64_t from = first > at ? first - at : 0, to = end - at < n ? end - at : n;
        if (from < to) {
            product(f, l->linear[t], l->bias[t], stack_of(f, step->layer, (enum linear)t), &in, (float *)dst->data + at,
                    dst->ne[0], from, to);
        }
        at += n;
    }
}

static struct rope_params rope_params(const struct hparams *hp) {
    return (struct rope_params){
        .n_rot = hp->n_rot, .neox = hp->rope_mode == GGML_ROPE_TYPE_NEOX, .n_ctx_orig = hp->n_ctx_orig,
        .freq_base = hp->rope_freq_base, .freq_scale = hp->rope_freq_scale, .ext_factor = hp->rope_ext_factor,
        .attn_factor = hp->rope_attn_factor, .beta_fast = hp->rope_beta_fast, .beta_slow = hp->rope_beta_slow,
    };
}

static void rotate_head(const struct fused *f, float *head, const struct ggml_tensor *norm, const float *table) {
    const struct hparams *hp = &f->model->hp;
    if (norm) {
        f->kernels->rms_norm(head, head, norm->data, hp->n_embd_head, hp->norm_eps);
    }
    f->kernels->rope(head, head, table, hp->n_embd_head, hp->n_rot, hp->rope_mode == GGML_ROPE_TYPE_NEOX, false);
}

/* Element 0 of a head's key or value at a position of a sequence. */
static char *cached(const struct fused *f, const struct ggml_tensor *cache, int32_t seq, int32_t pos, int32_t kv_head) {
    const size_t column = (size_t)seq * (size_t)f->n_ctx + (size_t)pos;
    return (char *)cache->data + column * cache->nb[1] + (size_t)kv_head * (size_t)f->model->hp.n_embd_head * cache->nb[0];
}

static void store_head(const struct ggml_tensor *cache, char *to, const float *head, int64_t n) {
    if (cache->type == GGML_TYPE_F32) {
        memcpy(to, head, (size_t)n * sizeof *head);
    } else {
        ggml_cpu_fp32_to_fp16(head, (ggml_fp16_t *)(void *)to, n);
    }
}

/* softmax of scores[n] in place */
static void softmax(float *scores, int32_t n) {
    float max = scores[0], sum = 0.0f;
    for (int32_t i = 1; i < n; i++) {
        max = scores[i] > max ? scores[i] : max;
    }
    for (int32_t i = 0; i < n; i++) {
        scores[i] = expf(scores[i] - max);
        sum += scores[i];
    }
    for (int32_t i = 0; i < n; i++) {
        scores[i] /= sum;
    }
}

/* scores[g][p] = k_p q_g for the query heads g that share a key head and positions p in [0, n_pos) */
static void score_keys(const struct fused *f, const struct ggml_tensor *k, const char *keys, const float *q, float *packed_q,
                       float *scores, int32_t n_pos) {
    const int32_t n = f->model->hp.n_embd_head, group = max_query_group(&f->model->hp);
    if (k->type == GGML_TYPE_F16 && f->kernels->few_product_f16) {
        f->kernels->few_product_f16(scores, f->n_ctx, keys, k->nb[1], q, n, n, group, 0, n_pos);
        return;
    }
    const ggml_vec_dot_t dot = ggml_get_type_traits_cpu(k->type)->vec_dot;
    for (int32_t g = 0; g < group; g++) {
        store_head(k, (char *)packed_q, q + g * n, n);
        for (int32_t p = 0; p < n_pos; p++) {
            dot(n, &scores[(size_t)g * (size_t)f->n_ctx + (size_t)p], 0, keys + (size_t)p * k->nb[1], 0, packed_q, 0, 1);
        }
    }
}

/* out[d] = sum_p scores[p] v[p][d] */
static void weigh_values(const struct fused *f, const struct ggml_tensor *v, const char *values, const float *scores,
                         float *value, float *out, int32_t n_pos) {
    const int32_t n = f->model->hp.n_embd_head;
    memset(out, 0, (size_t)n * sizeof *out);
    if (v->type == GGML_TYPE_F16 && f->kernels->few_add_f16) {
        f->kernels->few_add_f16(out, scores, values, v->nb[1], n, n_pos);
        return;
    }
    for (int32_t p = 0; p < n_pos; p++) {
        const char *row = values + (size_t)p * v->nb[1];
        const float *x = (const float *)(const void *)row;
        if (v->type == GGML_TYPE_F16) {
            ggml_cpu_fp16_to_fp32((const ggml_fp16_t *)(const void *)row, value, n);
            x = value;
        }
        for (int32_t d = 0; d < n; d++) {
            out[d] += scores[p] * x[d];
        }
    }
}

/* One row under one key head: its key and value into the cache, then all its query heads of the group. */
static void attend_head(const struct fused *f, const struct step *step, struct work *w, const float *table, float *qkv,
                        float *out, const struct row *row, int32_t kv_head) {
    const struct hparams *hp = &f->model->hp;
    const struct layer_weights *l = &f->model->weights.layers[step->layer];
    const struct kv_layer *kv = &f->kv[step->layer];
    const int32_t n = hp->n_embd_head, group = max_query_group(hp);
    float *k = qkv + hparams_n_embd_q(hp) + kv_head * n, *v = k + hparams_n_embd_kv(hp);
    rotate_head(f, k, l->k_norm, table);
    store_head(kv->k, cached(f, kv->k, row->seq, row->pos, kv_head), k, n);
    store_head(kv->v, cached(f, kv->v, row->seq, row->pos, kv_head), v, n);
    float *q = qkv + kv_head * group * n, *packed_q = w->scores + (size_t)group * (size_t)f->n_ctx;
    const float scale = 1.0f / sqrtf((float)n);
    for (int32_t g = 0; g < group; g++) {
        rotate_head(f, q + g * n, l->q_norm, table);
        for (int32_t d = 0; d < n; d++) {
            q[g * n + d] *= scale;
        }
    }
    const int32_t n_pos = row->pos + 1;
    score_keys(f, kv->k, cached(f, kv->k, row->seq, 0, kv_head), q, packed_q, w->scores, n_pos);
    for (int32_t g = 0; g < group; g++) {
        float *scores = w->scores + (size_t)g * (size_t)f->n_ctx;
        softmax(scores, n_pos);
        weigh_values(f, kv->v, cached(f, kv->v, row->seq, 0, kv_head), scores, packed_q + MAX_HEAD,
                     out + (kv_head * group + g) * n, n_pos);
    }
}

/* Threads split pairs of (sequence, key head): rows of one sequence see each other's keys, so they go in order. */
static void node_attend(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    const struct step *step = userdata;
    const struct fused *f = step->f;
    const struct ggml_tensor *qkv = dst->src[0];
    struct work w = work_of(f, ith);
    float *tables = w.x; /* [2 n_rot, n_rows] */
    const struct rope_params rope = rope_params(&f->model->hp);
    const float *factors = f->model->weights.rope_freqs ? f->model->weights.rope_freqs->data : NULL;
    const int32_t n = 2 * rope.n_rot;
    for (int32_t r = 0; r < f->n_rows; r++) {
        if (r > 0 && f->rows[r].pos == f->rows[r - 1].pos) {
            memcpy(tables + r * n, tables + (r - 1) * n, (size_t)n * sizeof *tables);
        } else {
            rope_table(&rope, factors, f->rows[r].pos, tables + r * n);
        }
    }
    int32_t unit = 0;
    for (int32_t first = 0, next; first < f->n_rows; first = next) {
        for (next = first + 1; next < f->n_rows && f->rows[next].seq == f->rows[first].seq; next++) {
        }
        for (int32_t h = 0; h < f->model->hp.n_head_kv; h++) {
            if (unit++ % nth != ith) {
                continue;
            }
            for (int32_t r = first; r < next; r++) {
                attend_head(f, step, &w, tables + r * n, (float *)qkv->data + r * qkv->ne[0],
                            (float *)dst->data + r * dst->ne[0], &f->rows[r], h);
            }
        }
    }
}

/* y = x + W in: O and down. In the last layer's O only the rows with output are taken along. */
static void add_product(struct ggml_tensor *dst, int ith, int nth, const struct step *step, enum linear t, bool gather) {
    const struct fused *f = step->f;
    const struct layer_weights *l = &f->model->weights.layers[step->layer];
    const struct ggml_tensor *in = dst->src[0], *x = dst->src[1];
    const struct work w = work_of(f, ith);
    const float *rows = in->data;
    const int32_t n = (int32_t)dst->ne[1];
    const bool last = step->layer == f->model->hp.n_layer - 1;
    for (int32_t i = 0; gather && i < n; i++) {
        memcpy(w.x + i * in->ne[0], rows + batch_row(f, true, i) * in->ne[0], (size_t)in->ne[0] * sizeof *rows);
    }
    struct input input = input_of(f, &w, gather ? w.x : rows, in->ne[0], n, last);
    int64_t first, end;
    share(dst->ne[0], ith, nth, &first, &end);
    product(f, l->linear[t], l->bias[t], stack_of(f, step->layer, t), &input, dst->data, dst->ne[0], first, end);
    for (int32_t i = 0; i < n; i++) {
        float *y = (float *)dst->data + i * dst->ne[0];
        const float *xr = (const float *)x->data + (gather ? batch_row(f, true, i) : i) * x->ne[0];
        for (int64_t j = first; j < end; j++) {
            y[j] += xr[j];
        }
    }
}

static void node_out(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    const struct step *step = userdata;
    add_product(dst, ith, nth, step, LINEAR_O, step->layer == step->f->model->hp.n_layer - 1);
}

static void node_down(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    add_product(dst, ith, nth, userdata, LINEAR_DOWN, false);
}

static void node_gate_up(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    const struct step *step = userdata;
    const struct fused *f = step->f;
    const struct layer_weights *l = &f->model->weights.layers[step->layer];
    const struct ggml_tensor *x = dst->src[0];
    const struct work w = work_of(f, ith);
    const int64_t n_ff = f->model->hp.n_ff;
    struct input in = input_of(f, &w, normed(f, &w, x, l->ffn_norm), x->ne[0], (int32_t)x->ne[1],
                               step->layer == f->model->hp.n_layer - 1);
    int64_t first, end;
    share(n_ff, ith, nth, &first, &end);
    product(f, l->linear[LINEAR_GATE], l->bias[LINEAR_GATE], stack_of(f, step->layer, LINEAR_GATE), &in, dst->data, n_ff, first, end);
    product(f, l->linear[LINEAR_UP], l->bias[LINEAR_UP], stack_of(f, step->layer, LINEAR_UP), &in, w.up, n_ff, first, end);
    for (int32_t i = 0; i < in.n; i++) {
        float *gate = (float *)dst->data + i * n_ff + first;
        f->kernels->swiglu(gate, gate, w.up + i * n_ff + first, end - first);
    }
}

static void node_head(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    const struct step *step = userdata;
    const struct fused *f = step->f;
    const struct ggml_tensor *x = dst->src[0];
    const struct work w = work_of(f, ith);
    struct input in = input_of(f, &w, normed(f, &w, x, f->model->weights.output_norm), x->ne[0], (int32_t)x->ne[1], true);
    int64_t first, end;
    share(dst->ne[0], ith, nth, &first, &end);
    product(f, f->model->weights.output, NULL, NULL, &in, dst->data, dst->ne[0], first, end);
}

static void node_hidden(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    const struct step *step = userdata;
    const struct work w = work_of(step->f, ith);
    (void)nth;
    if (ith == 0) {
        memcpy(dst->data, normed(step->f, &w, dst->src[0], step->f->model->weights.output_norm), ggml_nbytes(dst));
    }
}

/* ---- the graph ---- */

static struct ggml_tensor *node(struct graph *g, struct step *step, ggml_custom_op_t run, int64_t n, int64_t n_rows,
                                struct ggml_tensor *a, struct ggml_tensor *b) {
    struct ggml_tensor *args[] = {a, b};
    return ggml_custom_4d(g->ctx, GGML_TYPE_F32, n, n_rows, 1, 1, args, b ? 2 : 1, run, step->f->n_threads, step);
}

static void build(struct graph *g, struct fused *f, bool hidden) {
    const struct hparams *hp = &f->model->hp;
    const int64_t n_qkv = hparams_n_embd_q(hp) + 2 * hparams_n_embd_kv(hp);
    struct ggml_tensor *x = ggml_get_rows(g->ctx, f->model->weights.token_embd, g->tokens), *y = NULL;
    for (int32_t i = 0; i < hp->n_layer; i++) {
        struct step *step = &f->steps[i];
        const bool last = i == hp->n_layer - 1;
        const int64_t n = last ? f->n_outputs : f->n_rows;
        y = node(g, step, node_qkv, n_qkv, f->n_rows, x, NULL);
        y = node(g, step, node_attend, hparams_n_embd_q(hp), f->n_rows, y, NULL);
        if (last && n == 0) {
            ggml_build_forward_expand(g->cgraph, y);
            return;
        }
        x = node(g, step, node_out, hp->n_embd, n, y, x);
        y = node(g, step, node_gate_up, hp->n_ff, n, x, NULL);
        x = node(g, step, node_down, hp->n_embd, n, y, x);
    }
    g->logits = hidden ? node(g, &f->steps[0], node_hidden, hp->n_embd, f->n_outputs, x, NULL)
                       : node(g, &f->steps[0], node_head, hp->n_vocab, f->n_outputs, x, NULL);
    ggml_set_output(g->logits);
    ggml_build_forward_expand(g->cgraph, g->logits);
}

int fused_build(struct graph *g, struct fused *f, const struct kv_layer *kv, int32_t n_ctx, const struct lora_bank *bank,
                const struct graph_shape *shape, const struct row *rows, struct genarm_error *err) {
    const size_t n_nodes = 64 + (size_t)f->model->hp.n_layer * (NODES_PER_LAYER + 1) * 2;
    int rc = reserve(f, scratch_floats(f, n_ctx, bank->n_adapters ? lora_bank_rank(bank) : 0), err);
    if (rc != GENARM_OK) {
        return rc;
    }
    g->ctx = ggml_init((struct ggml_init_params){
        .mem_size = n_nodes * ggml_tensor_overhead() + ggml_graph_overhead_custom(n_nodes, false), .no_alloc = true});
    if (!g->ctx) {
        return error_nomem(err, "a compute graph");
    }
    g->cgraph = ggml_new_graph_custom(g->ctx, n_nodes, false);
    g->tokens = ggml_new_tensor_1d(g->ctx, GGML_TYPE_I32, shape->n_rows);
    ggml_set_input(g->tokens);
    f->kv = kv;
    f->n_ctx = n_ctx;
    f->bank = bank;
    f->rows = rows;
    f->n_rows = shape->n_rows;
    f->n_outputs = shape->n_outputs;
    build(g, f, shape->hidden);
    return GENARM_OK;
}

/* ---- life ---- */

static bool readable(const struct ggml_tensor *t, const void *user) {
    (void)user;
    return !t || (t->buffer && ggml_backend_buffer_is_host(t->buffer) && ggml_get_type_traits_cpu(t->type)->vec_dot);
}

bool fused_reads(const struct genarm_model *model) {
    return model->hp.n_embd_head <= MAX_HEAD && readable(model->weights.token_embd, NULL) &&
           weights_all_maps(&model->weights, model->hp.n_layer, readable, NULL);
}

static bool few_reads(const struct ggml_tensor *map, const void *few) {
    return ((const struct few_bf16 *)few)->reads(map->type, map->ne[0]);
}

int32_t fused_max_rows(const struct fused *f) { return f->max_rows; }

int fused_new(struct fused **out, const struct genarm_model *model, int32_t n_threads, struct genarm_error *err) {
    struct fused *f = calloc(1, sizeof *f);
    if (!f) {
        return error_nomem(err, "an engine");
    }
    *f = (struct fused){.model = model, .kernels = cpu_kernels(NULL), .few = cpu_few_bf16(), .n_threads = n_threads};
    /* products of few_bf16.h unpack a weight once however many rows there are */
    const bool unpacks_once = f->few && weights_all_maps(&model->weights, model->hp.n_layer, few_reads, f->few);
    f->max_rows = unpacks_once ? FUSED_MAX_ROWS : DOT_MAX_ROWS;
    f->scratch = calloc((size_t)n_threads, sizeof *f->scratch);
    f->steps = calloc((size_t)model->hp.n_layer, sizeof *f->steps);
    if (!f->scratch || !f->steps) {
        fused_free(f);
        return error_nomem(err, "an engine");
    }
    for (int32_t i = 0; i < model->hp.n_layer; i++) {
        f->steps[i] = (struct step){.f = f, .layer = i};
    }
    *out = f;
    return GENARM_OK;
}

void fused_free(struct fused *f) {
    if (!f) {
        return;
    }
    for (int32_t i = 0; f->scratch && i < f->n_threads; i++) {
        free(f->scratch[i]);
    }
    free(f->scratch);
    free(f->steps);
    free(f);
}
