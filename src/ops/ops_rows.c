/* Nodes of row-wise ops and of rotary positions: ops.h. Threads share rows. */
#include "ops/node.h"
#include "ops/rope.h"

static int64_t n_rows(const struct ggml_tensor *t) { return t->ne[1] * t->ne[2] * t->ne[3]; }

/* ---- norm ----------------------------------------------------------------------------------------------------- */

static void run_rms_norm(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    const struct ops *ops = userdata;
    float eps;
    int64_t i, end;
    node_get_params(dst, &eps, sizeof(eps));
    for (node_share(n_rows(dst), ith, nth, &i, &end); i < end; i++) {
        ops->kernels->rms_norm(node_row(dst, i), node_row(dst->src[0], i), dst->src[1]->data, dst->ne[0], eps);
    }
}

static void run_rms_norm_back(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    const struct ops *ops = userdata;
    const struct ggml_tensor *x = dst->src[0], *w = dst->src[1], *dy = dst->src[2], *add = dst->src[3];
    float eps;
    int64_t i, end;
    node_get_params(dst, &eps, sizeof(eps));
    for (node_share(n_rows(dst), ith, nth, &i, &end); i < end; i++) {
        ops->kernels->rms_norm_back(node_row(dst, i), node_row(x, i), w->data, node_row(dy, i), add ? node_row(add, i) : NULL,
                                    dst->ne[0], eps);
    }
}

struct ggml_tensor *op_rms_norm(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *x, struct ggml_tensor *w,
                                float eps) {
    GGML_ASSERT(w->type == GGML_TYPE_F32 && ggml_nelements(w) == x->ne[0] && ggml_is_contiguous(w));
    node_check_rows(x);
    if (ops->params.plain) {
        return ggml_mul(ctx, ggml_rms_norm(ctx, x, eps), w);
    }
    return node_new(ctx, ops, run_rms_norm, x->ne, (struct ggml_tensor *[]){x, w}, 2, &eps, sizeof(eps));
}

struct ggml_tensor *op_rms_norm_back(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *x, struct ggml_tensor *w,
                                     struct ggml_tensor *dy, struct ggml_tensor *add, float eps) {
    GGML_ASSERT(ggml_are_same_shape(x, dy) && (!add || ggml_are_same_shape(x, add)));
    node_check_rows(x);
    node_check_rows(dy);
    if (ops->params.plain) {
        struct ggml_tensor *dx = ggml_rms_norm_back(ctx, ggml_mul(ctx, dy, w), x, eps);
        return add ? ggml_add(ctx, add, dx) : dx;
    }
    struct ggml_tensor *args[] = {x, w, dy, add};
    return node_new(ctx, ops, run_rms_norm_back, x->ne, args, add ? 4 : 3, &eps, sizeof(eps));
}

/* ---- swiglu --------------------------------------------------------------------------------------------------- */

static void run_swiglu(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    const struct ops *ops = userdata;
    int64_t i, end;
    for (node_share(dst->ne[1], ith, nth, &i, &end); i < end; i++) {
        ops->kernels->swiglu(node_row(dst, i), node_row(dst->src[0], i), node_row(dst->src[1], i), dst->ne[0]);
    }
}

static void run_swiglu_back(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    const struct ops *ops = userdata;
    const int64_t n = dst->ne[0] / 2;
    int64_t i, end;
    for (node_share(dst->ne[1], ith, nth, &i, &end); i < end; i++) {
        float *d = node_row(dst, i);
        ops->kernels->swiglu_back(d, d + n, node_row(dst->src[0], i), node_row(dst->src[1], i), node_row(dst->src[2], i), n);
    }
}

struct ggml_tensor *op_swiglu(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *gate, struct ggml_tensor *up) {
    GGML_ASSERT(ggml_are_same_shape(gate, up) && ggml_is_matrix(gate));
    node_check_rows(gate);
    node_check_rows(up);
    if (ops->params.plain) {
        return ggml_mul(ctx, ggml_silu(ctx, ggml_cont(ctx, gate)), up);
    }
    return node_new(ctx, ops, run_swiglu, gate->ne, (struct ggml_tensor *[]){gate, up}, 2, NULL, 0);
}

struct ggml_tensor *op_swiglu_back(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *gate,
                                   struct ggml_tensor *up, struct ggml_tensor *dy) {
    GGML_ASSERT(ggml_are_same_shape(gate, up) && ggml_are_same_shape(gate, dy) && ggml_is_matrix(gate));
    node_check_rows(gate);
    node_check_rows(up);
    node_check_rows(dy);
    if (ops->params.plain) {
        struct ggml_tensor *g = ggml_cont(ctx, gate);
        struct ggml_tensor *dgate = ggml_silu_back(ctx, ggml_mul(ctx, dy, up), g);
        return ggml_concat(ctx, dgate, ggml_mul(ctx, dy, ggml_silu(ctx, g)), 0);
    }
    struct ggml_tensor *args[] = {gate, up, dy};
    return node_new(ctx, ops, run_swiglu_back, (const int64_t[]){2 * gate->ne[0], gate->ne[1], 1}, args, 3, NULL, 0);
}

/* ---- dropout -------------------------------------------------------------------------------------------------- */

struct dropout_params {
    float p;
    uint32_t stream;
};

static void run_dropout(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    const struct ops *ops = userdata;
    struct dropout_params p;
    node_get_params(dst, &p, sizeof(p));
    const uint64_t key = ops->dropout_key + (uint64_t)p.stream * 0x9e3779b97f4a7c15u;
    const uint32_t threshold = (uint32_t)((double)p.p * 4294967296.0);
    const int64_t *rows = dst->src[1]->data;
    int64_t i, end;
    for (node_share(dst->ne[1], ith, nth, &i, &end); i < end; i++) {
        ops->kernels->dropout(node_row(dst, i), node_row(dst->src[0], i), dst->ne[0], (uint64_t)rows[i], key, threshold,
                              1.0f / (1.0f - p.p));
    }
}

struct ggml_tensor *op_dropout(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *x, struct ggml_tensor *keys,
                               float p, uint32_t stream) {
    GGML_ASSERT(p >= 0 && p < 1 && ggml_is_matrix(x));
    GGML_ASSERT(keys->type == GGML_TYPE_I64 && keys->ne[0] == x->ne[1] && ggml_is_contiguous(keys));
    node_check_rows(x);
    const struct dropout_params params = {p, stream};
    return node_new(ctx, ops, run_dropout, x->ne, (struct ggml_tensor *[]){x, keys}, 2, &params, sizeof(params));
}

/* splitmix64's finaliser: every bit of the result depends on every bit of x */
static uint64_t mix64(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

void ops_set_dropout(struct ops *ops, uint64_t seed, uint64_t step) { ops->dropout_key = mix64(mix64(seed) + step); }

/* ---- rotary positions ----------------------------------------------------------------------------------------- */

/* What of rope_params is not told by the op's shape; as wide as a node's parameters may be */
struct table_params {
    float freq_base, freq_scale, ext_factor, attn_factor, beta_fast, beta_slow;
    int32_t n_ctx_orig, neox;
};

static void run_table(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    (void)userdata;
    struct table_params p;
    node_get_params(dst, &p, sizeof(p));
    const struct rope_params rope = {
        .n_rot = (int32_t)dst->ne[0] / 2, .neox = p.neox, .n_ctx_orig = p.n_ctx_orig,
        .freq_base = p.freq_base, .freq_scale = p.freq_scale, .ext_factor = p.ext_factor, .attn_factor = p.attn_factor,
        .beta_fast = p.beta_fast, .beta_slow = p.beta_slow,
    };
    const int32_t *positions = dst->src[0]->data;
    const float *factors = dst->src[1] ? dst->src[1]->data : NULL;
    int64_t i, end;
    for (node_share(dst->ne[1], ith, nth, &i, &end); i < end; i++) {
        rope_table(&rope, factors, positions[i], node_row(dst, i));
    }
}

void op_rope_init(struct ggml_context *ctx, struct ops *ops, struct op_rope *rope) {
    GGML_ASSERT(rope->mode == GGML_ROPE_TYPE_NORMAL || rope->mode == GGML_ROPE_TYPE_NEOX);
    GGML_ASSERT(rope->n_rot > 0 && rope->n_rot % 2 == 0);
    rope->table = NULL;
    if (ops->params.plain) {
        return;
    }
    const struct table_params p = {rope->freq_base, rope->freq_scale, rope->ext_factor, rope->attn_factor,
                                   rope->beta_fast, rope->beta_slow,  rope->n_ctx_orig,  rope->mode == GGML_ROPE_TYPE_NEOX};
    struct ggml_tensor *args[] = {rope->positions, rope->freq_factors};
    const int64_t ne[] = {2 * rope->n_rot, rope->positions->ne[0], 1};
    rope->table = node_new(ctx, ops, run_table, ne, args, rope->freq_factors ? 2 : 1, &p, sizeof(p));
}

struct rotate_params {
    int32_t neox, back;
};

static void run_rope(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    const struct ops *ops = userdata;
    const struct ggml_tensor *table = dst->src[1];
    struct rotate_params p;
    node_get_params(dst, &p, sizeof(p));
    int64_t i, end;
    for (node_share(dst->ne[1] * dst->ne[2], ith, nth, &i, &end); i < end; i++) {
        float *x = node_row(dst, i);
        ops->kernels->rope(x, x, node_row(table, i / dst->ne[1]), dst->ne[0], (int)table->ne[0] / 2, p.neox, p.back);
    }
}

static struct ggml_tensor *rotate(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *x,
                                  const struct op_rope *rope, bool back) {
    node_check_rows(x);
    GGML_ASSERT(x->ne[0] >= rope->n_rot && x->ne[2] == rope->positions->ne[0] && x->ne[3] == 1);
    if (ops->params.plain) {
        struct ggml_tensor *(*emit)(struct ggml_context *, struct ggml_tensor *, struct ggml_tensor *, struct ggml_tensor *,
                                    int, int, int, float, float, float, float, float, float) =
            back ? ggml_rope_ext_back : ggml_rope_ext;
        return emit(ctx, x, rope->positions, rope->freq_factors, rope->n_rot, rope->mode, rope->n_ctx_orig, rope->freq_base,
                    rope->freq_scale, rope->ext_factor, rope->attn_factor, rope->beta_fast, rope->beta_slow);
    }
    const struct rotate_params p = {rope->mode == GGML_ROPE_TYPE_NEOX, back};
    struct ggml_tensor *table = rope->table;
    return node_inplace(ctx, ops, run_rope, x, &table, 1, &p, sizeof(p));
}

struct ggml_tensor *op_rope(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *x, const struct op_rope *rope) {
    return rotate(ctx, ops, x, rope, false);
}

struct ggml_tensor *op_rope_back(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *dy,
                                 const struct op_rope *rope) {
    return rotate(ctx, ops, dy, rope, true);
}
