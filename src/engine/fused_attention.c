/* Attention of a few rows: rotation, the KV cache, scores and values. */
#include <ggml-cpu.h>
#include <math.h>
#include <string.h>

#include "engine/fused_parts.h"
#include "ops/rope.h"

void fused_rope(const struct fused *f, struct work *w) {
    const struct hparams *hp = f->hp;
    const struct rope_params params = {
        .n_rot = hp->n_rot, .neox = hp->rope_mode == GGML_ROPE_TYPE_NEOX, .n_ctx_orig = hp->n_ctx_orig,
        .freq_base = hp->rope_freq_base, .freq_scale = hp->rope_freq_scale, .ext_factor = hp->rope_ext_factor,
        .attn_factor = hp->rope_attn_factor, .beta_fast = hp->rope_beta_fast, .beta_slow = hp->rope_beta_slow,
    };
    const float *factors = f->weights->rope_freqs ? f->weights->rope_freqs->data : NULL;
    const int32_t n = 2 * hp->n_rot;
    const struct row *rows = f->batch->rows;
    for (int32_t r = 0; r < f->batch->n_rows; r++) {
        if (r > 0 && rows[r].pos == rows[r - 1].pos) {
            memcpy(w->rope + r * n, w->rope + (r - 1) * n, (size_t)n * sizeof *w->rope);
        } else {
            rope_table(&params, factors, rows[r].pos, w->rope + r * n);
        }
    }
}

static void rotate_head(const struct fused *f, float *head, const struct ggml_tensor *norm, const float *table) {
    const struct hparams *hp = f->hp;
    if (norm) {
        f->kernels->rms_norm(head, head, norm->data, hp->n_embd_head, hp->norm_eps);
    }
    f->kernels->rope(head, head, table, hp->n_embd_head, hp->n_rot, hp->rope_mode == GGML_ROPE_TYPE_NEOX, false);
}

/* A head's key or value at a position of a sequence. */
static char *cached(const struct fused *f, const struct ggml_tensor *cache, int32_t seq, int32_t kv_head, int32_t pos) {
    return (char *)cache->data + (size_t)kv_column(f->hp, f->params.n_ctx, seq, kv_head, pos) * cache->nb[1];
}

static void store_head(const struct ggml_tensor *cache, char *to, const float *head, int64_t n) {
    if (cache->type == GGML_TYPE_F32) {
        memcpy(to, head, (size_t)n * sizeof *head);
    } else {
        ggml_get_type_traits_cpu(cache->type)->from_float(head, to, n);
    }
}

/* Keys of 8 bits as weights that meet a few rows: the queries. */
static void score_keys_int16(const struct fused *f, enum few_int16_form form, const char *keys, size_t stride, const float *q,
                             void *packed_q, float *scores, int32_t n_pos) {
    const int32_t n = f->hp->n_embd_head, group = fused_query_group(f->hp);
    const size_t bytes = f->few_int16->packed_bytes(n);
    for (int32_t g = 0; g < group; g++) {
        f->few_int16->pack(form, (char *)packed_q + (size_t)g * bytes, q + g * n, n);
    }
    for (int32_t g = 0; g < group; g += FEW_INT16_MAX_ROWS) {
        const int32_t some = group - g < FEW_INT16_MAX_ROWS ? group - g : FEW_INT16_MAX_ROWS;
        f->few_int16->product(scores + (size_t)g * (size_t)f->params.n_ctx, f->params.n_ctx, keys, GGML_TYPE_Q8_0, stride,
                              (char *)packed_q + (size_t)g * bytes, n, some, 0, n_pos);
    }
}

/* scores[g][p] = k_p q_g for the query heads g that share a key head and positions p in [0, n_pos) */
static void score_keys(const struct fused *f, const struct ggml_tensor *k, const char *keys, const float *q, void *packed_q,
                       float *scores, int32_t n_pos, const char *next) {
    const int32_t n = f->hp->n_embd_head, group = fused_query_group(f->hp);
    const enum few_int16_form form = f->few_int16 && k->type == GGML_TYPE_Q8_0 ? f->few_int16->form(k->type, n) : FEW_INT16_NONE;
    if (form != FEW_INT16_NONE) {
        score_keys_int16(f, form, keys, k->nb[1], q, packed_q, scores, n_pos);
        return;
    }
    if (k->type == GGML_TYPE_F16 && f->kernels->few_product_f16) {
        f->kernels->few_product_f16(scores, f->params.n_ctx, keys, k->nb[1], q, n, n, group, 0, n_pos, next);
        return;
    }
    const ggml_vec_dot_t dot = ggml_get_type_traits_cpu(k->type)->vec_dot; /* of two rows of the cache's own type */
    for (int32_t g = 0; g < group; g++) {
        store_head(k, packed_q, q + g * n, n);
        for (int32_t p = 0; p < n_pos; p++) {
            dot(n, &scores[(size_t)g * (size_t)f->params.n_ctx + (size_t)p], 0, keys + (size_t)p * k->nb[1], 0, packed_q, 0, 1);
        }
    }
}

/* out[g][d] = sum_p scores[g][p] v[p][d] for the query heads g */
static void weigh_values(const struct fused *f, const struct ggml_tensor *v, const char *values, const float *scores,
                         float *value, float *out, int32_t n_pos, const char *next) {
    const int32_t n = f->hp->n_embd_head, group = fused_query_group(f->hp);
    const few_sum_t few_sum = v->type == GGML_TYPE_F16    ? f->kernels->few_sum_f16
                              : v->type == GGML_TYPE_Q8_0 ? f->kernels->few_sum_q8_0
                                                          : NULL;
    if (few_sum) {
        few_sum(out, n, scores, f->params.n_ctx, values, v->nb[1], n, n_pos, group, next);
        return;
    }
    const ggml_to_float_t to_float = ggml_get_type_traits(v->type)->to_float;
    memset(out, 0, (size_t)(group * n) * sizeof *out);
    for (int32_t p = 0; p < n_pos; p++) {
        const char *row = values + (size_t)p * v->nb[1];
        const float *x = (const float *)(const void *)row;
        if (v->type != GGML_TYPE_F32) {
            to_float(row, value, n);
            x = value;
        }
        for (int32_t g = 0; g < group; g++) {
            for (int32_t d = 0; d < n; d++) {
                out[g * n + d] += scores[(size_t)g * (size_t)f->params.n_ctx + (size_t)p] * x[d];
            }
        }
    }
}

/* One row under one key head: its key and value into the cache, then all its query heads of the group. Attention waits for the
 * memory: values are fetched while keys are read, and then the next keys, where the kernels can. */
static void attend_head(const struct fused *f, int32_t layer, struct work *w, int32_t r, int32_t kv_head, const char *next_keys) {
    const struct hparams *hp = f->hp;
    const struct layer_weights *l = &f->weights->layers[layer];
    const struct kv_layer *kv = &f->params.kv[layer];
    const struct row *row = &f->batch->rows[r];
    const float *table = w->rope + r * 2 * hp->n_rot;
    float *qkv = f->qkv + r * fused_n_qkv(hp), *out = f->attention + r * hparams_n_embd_q(hp);
    const int32_t n = hp->n_embd_head, group = fused_query_group(hp);
    float *k = qkv + hparams_n_embd_q(hp) + kv_head * n, *v = k + hparams_n_embd_kv(hp);
    rotate_head(f, k, l->k_norm, table);
    store_head(kv->k, cached(f, kv->k, row->seq, kv_head, row->pos), k, n);
    store_head(kv->v, cached(f, kv->v, row->seq, kv_head, row->pos), v, n);
    float *q = qkv + kv_head * group * n;
    const float scale = 1.0f / sqrtf((float)n);
    for (int32_t g = 0; g < group; g++) {
        rotate_head(f, q + g * n, l->q_norm, table);
        for (int32_t d = 0; d < n; d++) {
            q[g * n + d] *= scale;
        }
    }
    const int32_t n_pos = row->pos + 1;
    const char *keys = cached(f, kv->k, row->seq, kv_head, 0), *values = cached(f, kv->v, row->seq, kv_head, 0);
    score_keys(f, kv->k, keys, q, w->query, w->scores, n_pos, values);
    for (int32_t g = 0; g < group; g++) {
        f->kernels->softmax(w->scores + (size_t)g * (size_t)f->params.n_ctx, n_pos);
    }
    weigh_values(f, kv->v, values, w->scores, w->value, out + kv_head * group * n, n_pos, next_keys);
}

/* Work that threads split: the rows of a sequence under one key head. They see each other's keys, so they go in order. */
struct unit {
    int32_t first_row, end_row, kv_head;
    int64_t n_pos, before; /* positions that its rows read, and those of the units before */
};

static struct unit first_unit(const struct fused *f, int32_t row, int64_t before) {
    const struct row *rows = f->batch->rows;
    struct unit u = {.first_row = row, .end_row = row, .before = before};
    for (; u.end_row < f->batch->n_rows && rows[u.end_row].seq == rows[row].seq; u.end_row++) {
        u.n_pos += rows[u.end_row].pos + 1;
    }
    return u;
}

static struct unit unit_after(const struct fused *f, struct unit u) {
    const int64_t before = u.before + u.n_pos;
    if (u.kv_head + 1 == f->hp->n_head_kv) {
        return first_unit(f, u.end_row, before);
    }
    u.before = before;
    u.kv_head++;
    return u;
}

/* A thread's units are neighbours, whose keys lie together, of as many positions as others'. */
void fused_attend(const struct fused *f, int32_t layer, struct work *w, int ith) {
    const struct row *rows = f->batch->rows;
    int64_t total = 0;
    for (int32_t r = 0; r < f->batch->n_rows; r++) {
        total += (int64_t)f->hp->n_head_kv * (rows[r].pos + 1);
    }
    struct unit next;
    for (struct unit u = first_unit(f, 0, 0); u.n_pos > 0; u = next) {
        const int64_t nth = f->params.n_threads;
        next = unit_after(f, u);
        if ((u.before + u.n_pos / 2) * nth / total != ith) {
            continue;
        }
        const bool goes_on = next.n_pos > 0 && (next.before + next.n_pos / 2) * nth / total == ith;
        const char *keys = goes_on ? cached(f, f->params.kv[layer].k, rows[next.first_row].seq, next.kv_head, 0) : NULL;
        for (int32_t r = u.first_row; r < u.end_row; r++) {
            attend_head(f, layer, w, r, u.kv_head, r + 1 == u.end_row ? keys : NULL);
        }
    }
}
