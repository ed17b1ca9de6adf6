#include "engine/fused.h"

#include <ggml-cpu.h>
#include <stdlib.h>
#include <string.h>

#include "engine/fused_parts.h"

enum { DOT_MAX_ROWS = 8 /* otherwise */, ALIGN = 64 /* bytes */, ALIGN_FLOATS = 16 };

static size_t round_up(size_t n) { return (n + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS; }

static float *new_floats(size_t n) {
    void *p = NULL;
    return posix_memalign(&p, ALIGN, n * sizeof(float)) == 0 ? p : NULL;
}

/* ---- scratch of a thread ---- */

static int32_t widest(const struct hparams *hp) {
    int32_t n = hp->n_ff;
    n = hp->n_embd > n ? hp->n_embd : n;
    return hparams_n_embd_q(hp) > n ? hparams_n_embd_q(hp) : n;
}

/* Lays a thread's scratch out from `base` on; returns the floats it takes. */
static size_t lay_out(const struct fused *f, float *base, struct work *w) {
    const size_t rows = (size_t)f->max_rows, x = round_up((size_t)widest(f->hp) * rows);
    const size_t group = (size_t)fused_query_group(f->hp);
    const size_t sizes[] = {
        x,
        x + ALIGN_FLOATS, /* packed rows may have a little more than 4 bytes an element */
        round_up((size_t)f->hp->n_ff * rows),
        round_up((f->params.bank->n_adapters ? (size_t)lora_bank_rank(f->params.bank) : 0) * rows),
        round_up(2 * (size_t)f->hp->n_rot * rows),
        round_up(group * (size_t)f->params.n_ctx),
        round_up(group * ((size_t)f->hp->n_embd_head + 2 * ALIGN_FLOATS)), /* as much as packed rows have */
        round_up((size_t)f->hp->n_embd_head),
        f->many ? round_up(many_scratch_bytes() / sizeof(float)) : 0, /* pages count only once they are touched */
    };
    size_t at[sizeof sizes / sizeof *sizes + 1] = {0};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        at[i + 1] = at[i] + sizes[i];
    }
    if (base) {
        *w = (struct work){.x = base + at[0], .packed = base + at[1], .up = base + at[2],
                           .low = base + at[3], .rope = base + at[4], .scores = base + at[5],
                           .query = base + at[6], .value = base + at[7],
                           .many = base + at[8]};
    }
    return at[sizeof sizes / sizeof *sizes];
}

static int reserve(struct fused *f, struct genarm_error *err) {
    const size_t floats = lay_out(f, NULL, NULL);
    for (int32_t i = 0; floats > f->scratch_floats && i < f->params.n_threads; i++) {
        float *p = new_floats(floats);
        if (!p) {
            return error_nomem(err, "scratch of the engine");
        }
        free(f->scratch[i]);
        f->scratch[i] = p;
    }
    f->scratch_floats = floats > f->scratch_floats ? floats : f->scratch_floats;
    return GENARM_OK;
}

/* ---- steps: each thread does its share ---- */

/* Shares start at multiples of 16 floats: no two threads write to one cache line of an output row. */
static void share(const struct fused *f, int ith, int64_t n, int64_t *first, int64_t *end) {
    const int64_t blocks = (n + ALIGN_FLOATS - 1) / ALIGN_FLOATS, nth = f->params.n_threads;
    *first = blocks * ith / nth * ALIGN_FLOATS;
    *end = blocks * (ith + 1) / nth * ALIGN_FLOATS;
    *first = *first < n ? *first : n;
    *end = *end < n ? *end : n;
}

static const struct lora_stack *stack_of(const struct fused *f, int32_t layer, enum linear t) {
    return f->params.bank->n_adapters ? &f->params.bank->layers[layer][t] : NULL;
}

/* n rows of x normed into the thread's scratch. */
static const float *normed(const struct fused *f, const struct work *w, const float *x, int32_t n,
                           const struct ggml_tensor *weight) {
    const int64_t n_embd = f->hp->n_embd;
    for (int64_t r = 0; r < n; r++) {
        f->kernels->rms_norm(w->x + r * n_embd, x + r * n_embd, weight->data, n_embd, f->hp->norm_eps);
    }
    return w->x;
}

/* x = rows of the token embedding */
static void embed(const struct fused *f, int ith) {
    const struct ggml_tensor *e = f->weights->token_embd;
    const ggml_to_float_t to_float = ggml_get_type_traits(e->type)->to_float;
    for (int32_t r = ith; r < f->batch->n_rows; r += f->params.n_threads) {
        const char *row = (const char *)e->data + (size_t)f->batch->rows[r].token * e->nb[1];
        float *x = f->x + (int64_t)r * f->hp->n_embd;
        if (e->type == GGML_TYPE_F32) {
            memcpy(x, row, (size_t)f->hp->n_embd * sizeof *x);
        } else {
            to_float(row, x, f->hp->n_embd);
        }
    }
}

/* qkv = the maps q, k, v of norm(x), one after the other: this thread's share of all of them. */
static void project(const struct fused *f, int32_t layer, struct work *w, int ith) {
    const struct layer_weights *l = &f->weights->layers[layer];
    const int64_t n_qkv = fused_n_qkv(f->hp);
    struct input in = fused_input(f, w, normed(f, w, f->x, f->batch->n_rows, l->attn_norm), f->hp->n_embd, false);
    int64_t first, end, at = 0;
    share(f, ith, n_qkv, &first, &end);
    for (int t = LINEAR_Q; t <= LINEAR_V; t++) {
        const int64_t n = linear_n_out((enum linear)t, f->hp);
        const int64_t from = first > at ? first - at : 0, to = end - at < n ? end - at : n;
        if (from < to) {
            fused_product(f, l->linear[t], l->bias[t], stack_of(f, layer, (enum linear)t), &in, f->qkv + at, n_qkv, from, to);
        }
        at += n;
    }
}

/* y = x + W in */
static void add_product(const struct fused *f, int32_t layer, enum linear t, struct input *in, const float *const *x, float *y,
                        int ith) {
    const struct layer_weights *l = &f->weights->layers[layer];
    const int64_t n_embd = f->hp->n_embd;
    int64_t first, end;
    share(f, ith, n_embd, &first, &end);
    fused_product(f, l->linear[t], l->bias[t], stack_of(f, layer, t), in, y, n_embd, first, end);
    for (int32_t i = 0; i < in->n; i++) {
        for (int64_t j = first; j < end; j++) {
            y[i * n_embd + j] += x[i][j];
        }
    }
}

/* mid = x + o(attention). After the last attention only rows with output go on, in the order of the outputs. */
static void leave_attention(const struct fused *f, int32_t layer, struct work *w, int ith) {
    const bool last = layer == f->hp->n_layer - 1;
    const int64_t n_q = hparams_n_embd_q(f->hp);
    const float *rows = f->attention, *x[FUSED_MAX_ROWS];
    const int32_t n = last ? f->batch->n_outputs : f->batch->n_rows;
    for (int32_t i = 0; i < n; i++) {
        const int32_t r = last ? f->batch->outputs[i] : i;
        x[i] = f->x + (int64_t)r * f->hp->n_embd;
        if (last) {
            memcpy(w->x + i * n_q, f->attention + r * n_q, (size_t)n_q * sizeof *w->x);
            rows = w->x;
        }
    }
    struct input in = fused_input(f, w, rows, n_q, last);
    add_product(f, layer, LINEAR_O, &in, x, f->mid, ith);
}

/* ff = silu(gate) up of norm(mid) */
static void widen(const struct fused *f, int32_t layer, struct work *w, int ith) {
    const struct layer_weights *l = &f->weights->layers[layer];
    const bool last = layer == f->hp->n_layer - 1;
    const int64_t n_ff = f->hp->n_ff;
    const int32_t n = last ? f->batch->n_outputs : f->batch->n_rows;
    struct input in = fused_input(f, w, normed(f, w, f->mid, n, l->ffn_norm), f->hp->n_embd, last);
    int64_t first, end;
    share(f, ith, n_ff, &first, &end);
    fused_product(f, l->linear[LINEAR_GATE], l->bias[LINEAR_GATE], stack_of(f, layer, LINEAR_GATE), &in, f->ff, n_ff, first, end);
    fused_product(f, l->linear[LINEAR_UP], l->bias[LINEAR_UP], stack_of(f, layer, LINEAR_UP), &in, w->up, n_ff, first, end);
    for (int32_t i = 0; i < in.n; i++) {
        float *gate = f->ff + i * n_ff + first;
        f->kernels->swiglu(gate, gate, w->up + i * n_ff + first, end - first);
    }
}

/* x = mid + down(ff) */
static void narrow(const struct fused *f, int32_t layer, struct work *w, int ith) {
    const bool last = layer == f->hp->n_layer - 1;
    struct input in = fused_input(f, w, f->ff, f->hp->n_ff, last);
    const float *mid[FUSED_MAX_ROWS];
    for (int32_t i = 0; i < in.n; i++) {
        mid[i] = f->mid + (int64_t)i * f->hp->n_embd;
    }
    add_product(f, layer, LINEAR_DOWN, &in, mid, f->x, ith);
}

/* Adds up, in place, the rows of x that have shares of one output. x: [n_embd, n_outputs] -> [n_embd, n_mixed] */
static void mix_shares(const struct fused *f, float *x) {
    const int64_t n_embd = f->hp->n_embd;
    float *to = x;
    for (int32_t i = 0; i < f->batch->n_outputs; i++, x += n_embd) {
        const float share = f->batch->rows[f->batch->outputs[i]].share;
        if (share == 0.0f) {
            to = i == 0 ? x : to + n_embd;
            memmove(to, x, (size_t)n_embd * sizeof *x);
            continue;
        }
        for (int64_t j = 0; j < n_embd; j++) {
            to[j] += share * x[j];
        }
    }
}

/* out = the head, or the hidden states, of norm(x) */
static void finish(const struct fused *f, struct work *w, int ith) {
    const int32_t n = f->batch->n_mixed;
    const int64_t n_embd = f->hp->n_embd, n_vocab = f->hp->n_vocab;
    const float *x = normed(f, w, f->x, f->batch->n_outputs, f->weights->output_norm);
    if (n < f->batch->n_outputs) {
        mix_shares(f, w->x);
    }
    if (f->params.hidden) {
        if (ith == 0) {
            memcpy(f->out, x, (size_t)(n * n_embd) * sizeof *x);
        }
        return;
    }
    struct input in = fused_input(f, w, x, n_embd, true);
    in.n = n;
    int64_t first, end;
    share(f, ith, n_vocab, &first, &end);
    fused_product(f, f->weights->output, NULL, NULL, &in, f->out, n_vocab, first, end);
}

/* The whole pass, as each thread runs it. */
static void run(int ith, void *user) {
    const struct fused *f = user;
    struct threads *threads = f->params.threads;
    struct work w;
    lay_out(f, f->scratch[ith], &w);
    embed(f, ith);
    fused_rope(f, &w);
    threads_meet(threads);
    for (int32_t layer = 0; layer < f->hp->n_layer; layer++) {
        project(f, layer, &w, ith);
        threads_meet(threads);
        fused_attend(f, layer, &w, ith);
        if (layer == f->hp->n_layer - 1 && f->batch->n_outputs == 0) {
            return;
        }
        threads_meet(threads);
        leave_attention(f, layer, &w, ith);
        threads_meet(threads);
        widen(f, layer, &w, ith);
        threads_meet(threads);
        narrow(f, layer, &w, ith);
        threads_meet(threads);
    }
    finish(f, &w, ith);
}

int fused_forward(struct fused *f, const struct fused_batch *batch, float *out, struct genarm_error *err) {
    int rc = reserve(f, err); /* adapters may have come */
    if (rc == GENARM_OK) {
        f->batch = batch;
        f->out = out;
        threads_run(f->params.threads, run, f);
    }
    return rc;
}

/* ---- life ---- */

static bool readable(const struct ggml_tensor *t, const void *user) {
    (void)user;
    return !t || (t->buffer && ggml_backend_buffer_is_host(t->buffer) && ggml_get_type_traits_cpu(t->type)->vec_dot);
}

bool fused_reads(const struct genarm_model *model) {
    return model->hp.n_embd_head <= FUSED_MAX_HEAD && readable(model->weights.token_embd, NULL) &&
           weights_all_maps(&model->weights, model->hp.n_layer, readable, NULL);
}

/* Whether a map has a kernel of ours, which unpacks weights for several rows at once. F32 has nothing to unpack: prompts of such
 * weights, with which others are compared, go through the graph. */
static bool unpacked_once(const struct ggml_tensor *map, const void *user) {
    const struct fused *f = user;
    if (map->type == GGML_TYPE_F16) {
        return f->kernels->few_product_f16 != NULL;
    }
    return (f->few_bf16 && f->few_bf16->reads(map->type, map->ne[0])) ||
           (f->few_int16 && f->few_int16->form(map->type, map->ne[0]) != FEW_INT16_NONE);
}

int32_t fused_max_rows(const struct fused *f) { return f->max_rows; }

int fused_new(struct fused **out, const struct fused_params *params, struct genarm_error *err) {
    const struct genarm_model *model = params->model;
    const int rc = cpu_check_limit(err);
    if (rc != GENARM_OK) {
        return rc;
    }
    struct fused *f = calloc(1, sizeof *f);
    if (!f) {
        return error_nomem(err, "an engine");
    }
    *f = (struct fused){.params = *params, .hp = &model->hp, .weights = &model->weights,
                        .kernels = cpu_kernels(NULL), .few_int16 = cpu_few_int16(NULL), .few_bf16 = cpu_few_bf16(),
                        .bf16_is_fast = cpu_bf16_is_fast(), .many = cpu_many(NULL)};
    f->max_rows = weights_all_maps(&model->weights, model->hp.n_layer, unpacked_once, f) ? FUSED_MAX_ROWS : DOT_MAX_ROWS;
    const size_t rows = (size_t)f->max_rows;
    f->scratch = calloc((size_t)params->n_threads, sizeof *f->scratch);
    f->x = new_floats((size_t)f->hp->n_embd * rows);
    f->mid = new_floats((size_t)f->hp->n_embd * rows);
    f->qkv = new_floats((size_t)fused_n_qkv(f->hp) * rows);
    f->attention = new_floats((size_t)hparams_n_embd_q(f->hp) * rows);
    f->ff = new_floats((size_t)f->hp->n_ff * rows);
    if (!f->scratch || !f->x || !f->mid || !f->qkv || !f->attention || !f->ff) {
        fused_free(f);
        return error_nomem(err, "an engine");
    }
    *out = f;
    return GENARM_OK;
}

void fused_free(struct fused *f) {
    if (!f) {
        return;
    }
    for (int32_t i = 0; f->scratch && i < f->params.n_threads; i++) {
        free(f->scratch[i]);
    }
    free(f->scratch);
    free(f->x);
    free(f->mid);
    free(f->qkv);
    free(f->attention);
    free(f->ff);
    free(f);
}
