/* Nodes of linear maps: ops.h. */
#include "ops/node.h"

struct linear_params {
    float scale;
    int32_t n_w;
    int32_t in_place; /* then src[0] is the target */
    int32_t weights;  /* in the ops' precision, not f32 */
};

static void set_weights(struct gemm *g, struct ggml_tensor *const *w, int n_w) {
    g->n_parts = n_w;
    for (int i = 0; i < n_w; i++) {
        g->parts[i] = (struct gemm_part){w[i]->data, w[i]->type, w[i]->nb[1], w[i]->ne[1]};
    }
}

static size_t row_stride(const struct ggml_tensor *t) { return t->nb[1] / sizeof(float); }

/* Whether y = W x is computed by many.h. */
static bool reads_all(const struct ggml_tensor *dst, const struct linear_params *p, const struct ops *ops) {
    bool reads = ops->many && p->weights && !p->in_place;
    for (int i = 0; i < p->n_w && reads; i++) {
        reads = many_reads(ops->many, dst->src[1 + i]->type, dst->src[0]->ne[0]);
    }
    return reads;
}

static void run_many(struct ggml_tensor *dst, const struct linear_params *p, int ith, int nth, const struct ops *ops) {
    const struct ggml_tensor *x = dst->src[0];
    float *y = dst->data;
    nth = node_threads(ops, nth);
    for (int i = 0; i < p->n_w && ith < nth; y += dst->src[1 + i++]->ne[1]) {
        const struct ggml_tensor *w = dst->src[1 + i];
        const struct many_product product = {
            .w = w->data, .type = w->type, .w_stride = w->nb[1], .n_w = w->ne[1],
            .n = x->ne[0], .n_rows = x->ne[1],
            .x = x->data, .y = y, .x_stride = row_stride(x), .y_stride = row_stride(dst),
        };
        many_run(ops->many, &product, ops->scratch[ith], ith, nth);
    }
}

/* y = W x, or dx = W^T dy: the same but for the orientation */
static void run_linear(struct ggml_tensor *dst, enum gemm_orientation orientation, int ith, int nth, struct ops *ops) {
    struct linear_params p;
    node_get_params(dst, &p, sizeof(p));
    struct ggml_tensor *const *src = dst->src + p.in_place;
    const struct ggml_tensor *x = src[0];
    struct gemm g = {
        .m = x->ne[1], .n = dst->ne[0], .depth = x->ne[0],
        .a = x->data, .a_i_stride = row_stride(x), .a_p_stride = 1,
        .orientation = orientation,
        .c = dst->data, .c_i_stride = row_stride(dst), .c_j_stride = 1,
        .scale = p.scale, .accumulate = p.in_place,
    };
    set_weights(&g, src + 1, p.n_w);
    nth = node_threads(ops, nth);
    if (ith < nth) {
        gemm_run(p.weights ? ops->gemm : &ops->kernels->gemm, &g, ops->scratch[ith], ith, nth);
    }
}

static void run_forward(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    struct ops *ops = userdata;
    struct linear_params p;
    node_get_params(dst, &p, sizeof(p));
    if (reads_all(dst, &p, ops)) {
        run_many(dst, &p, ith, nth, ops);
    } else {
        run_linear(dst, GEMM_ROWS_ARE_COLUMNS, ith, nth, ops);
    }
}

static void run_back(struct ggml_tensor *dst, int ith, int nth, void *ops) {
    run_linear(dst, GEMM_ROWS_ARE_DEPTH, ith, nth, ops);
}

/* dw[o][i] += scale sum_row dy[row][o] x[row][i]. The thinner of the two becomes A, so that vectors run along the wider. */
static void run_grad(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    struct ops *ops = userdata;
    struct linear_params p;
    node_get_params(dst, &p, sizeof(p));
    const struct ggml_tensor *dy = dst->src[1], *x = dst->src[2];
    const bool along_in = x->ne[0] >= dy->ne[0];
    const struct ggml_tensor *thin = along_in ? dy : x, *wide = along_in ? x : dy;
    const size_t n_in = (size_t)x->ne[0];
    struct gemm g = {
        .m = thin->ne[0], .n = wide->ne[0], .depth = x->ne[1],
        .a = thin->data, .a_i_stride = 1, .a_p_stride = row_stride(thin),
        .orientation = GEMM_ROWS_ARE_DEPTH,
        .parts = {{wide->data, GGML_TYPE_F32, wide->nb[1], wide->ne[1]}}, .n_parts = 1,
        .c = dst->data, .c_i_stride = along_in ? n_in : 1, .c_j_stride = along_in ? 1 : n_in,
        .scale = p.scale, .accumulate = true,
    };
    nth = node_threads(ops, nth);
    if (ith < nth) {
        gemm_run(&ops->kernels->gemm, &g, ops->scratch[ith], ith, nth);
    }
}

/* ---- emitters ------------------------------------------------------------------------------------------------- */

static void check_weights(struct ggml_tensor *const *w, int n_w) {
    GGML_ASSERT(n_w >= 1 && n_w <= OP_MAX_STACK);
    for (int i = 0; i < n_w; i++) {
        GGML_ASSERT(ops_reads_weight(w[i]) && w[i]->ne[0] == w[0]->ne[0]);
    }
}

/* A map of few inputs or outputs, as adapters have: worth the precision of f32 in any mode. */
static bool is_thin(const struct ggml_tensor *w) {
    return w->type == GGML_TYPE_F32 && (w->ne[0] <= OP_THIN || w->ne[1] <= OP_THIN);
}

static int64_t total_out(struct ggml_tensor *const *w, int n_w) {
    int64_t n = 0;
    for (int i = 0; i < n_w; i++) {
        n += w[i]->ne[1];
    }
    return n;
}

static struct ggml_tensor *node_linear(struct ggml_context *ctx, struct ops *ops, ggml_custom_op_t run, int64_t n_result,
                                       struct ggml_tensor *const *w, int n_w, struct ggml_tensor *x) {
    check_weights(w, n_w);
    node_check_rows(x);
    struct ggml_tensor *args[1 + OP_MAX_STACK] = {x};
    memcpy(args + 1, w, (size_t)n_w * sizeof(*w));
    const struct linear_params p = {.scale = 1, .n_w = n_w, .weights = !is_thin(w[0])};
    return node_new(ctx, ops, run, (const int64_t[]){n_result, x->ne[1], 1}, args, 1 + n_w, &p, sizeof(p));
}

static struct ggml_tensor *node_linear_acc(struct ggml_context *ctx, struct ops *ops, ggml_custom_op_t run,
                                           struct ggml_tensor *target, struct ggml_tensor *w, struct ggml_tensor *x,
                                           float scale) {
    check_weights(&w, 1);
    node_check_rows(target);
    node_check_rows(x);
    const struct linear_params p = {.scale = scale, .n_w = 1, .in_place = 1};
    return node_inplace(ctx, ops, run, target, (struct ggml_tensor *[]){x, w}, 2, &p, sizeof(p));
}

/* W^T dy */
static struct ggml_tensor *plain_back(struct ggml_context *ctx, struct ggml_tensor *w, struct ggml_tensor *dy) {
    return ggml_out_prod(ctx, node_f32(ctx, w), ggml_transpose(ctx, dy));
}

struct ggml_tensor *op_linear_stack(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *const *w, int n_w,
                                    struct ggml_tensor *x) {
    GGML_ASSERT(x->ne[0] == w[0]->ne[0]);
    if (!ops->params.plain) {
        return node_linear(ctx, ops, run_forward, total_out(w, n_w), w, n_w, x);
    }
    struct ggml_tensor *y = ggml_mul_mat(ctx, w[0], x);
    for (int i = 1; i < n_w; i++) {
        y = ggml_concat(ctx, y, ggml_mul_mat(ctx, w[i], x), 0);
    }
    return y;
}

struct ggml_tensor *op_linear(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *w, struct ggml_tensor *x) {
    return op_linear_stack(ctx, ops, &w, 1, x);
}

struct ggml_tensor *op_linear_acc(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *y, struct ggml_tensor *w,
                                  struct ggml_tensor *x, float scale) {
    GGML_ASSERT(x->ne[0] == w->ne[0] && y->ne[0] == w->ne[1] && y->ne[1] == x->ne[1]);
    if (!ops->params.plain) {
        return node_linear_acc(ctx, ops, run_forward, y, w, x, scale);
    }
    return ggml_add(ctx, y, ggml_scale(ctx, ggml_mul_mat(ctx, w, x), scale));
}

struct ggml_tensor *op_linear_back_stack(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *const *w, int n_w,
                                         struct ggml_tensor *dy) {
    GGML_ASSERT(dy->ne[0] == total_out(w, n_w));
    if (!ops->params.plain) {
        return node_linear(ctx, ops, run_back, w[0]->ne[0], w, n_w, dy);
    }
    struct ggml_tensor *dx = NULL;
    for (int64_t i = 0, first = 0; i < n_w; first += w[i++]->ne[1]) {
        struct ggml_tensor *one = plain_back(ctx, w[i], op_part(ctx, dy, first, w[i]->ne[1]));
        dx = dx ? ggml_add(ctx, dx, one) : one;
    }
    return dx;
}

struct ggml_tensor *op_linear_back(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *w, struct ggml_tensor *dy) {
    return op_linear_back_stack(ctx, ops, &w, 1, dy);
}

struct ggml_tensor *op_linear_back_acc(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *dx,
                                       struct ggml_tensor *w, struct ggml_tensor *dy, float scale) {
    GGML_ASSERT(dy->ne[0] == w->ne[1] && dx->ne[0] == w->ne[0] && dx->ne[1] == dy->ne[1]);
    if (!ops->params.plain) {
        return node_linear_acc(ctx, ops, run_back, dx, w, dy, scale);
    }
    return ggml_add(ctx, dx, ggml_scale(ctx, plain_back(ctx, w, dy), scale));
}

struct ggml_tensor *op_linear_grad_plain(struct ggml_context *ctx, struct ggml_tensor *dy, struct ggml_tensor *x, float scale) {
    return ggml_scale(ctx, ggml_out_prod(ctx, x, dy), scale);
}

struct ggml_tensor *op_add_in_place_plain(struct ggml_context *ctx, struct ggml_tensor *dw, struct ggml_tensor *sum) {
    return ggml_cpy(ctx, ggml_add(ctx, dw, sum), dw);
}

struct ggml_tensor *op_linear_grad_acc(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *dw,
                                       struct ggml_tensor *dy, struct ggml_tensor *x, float scale) {
    GGML_ASSERT(dw->ne[0] == x->ne[0] && dw->ne[1] == dy->ne[0] && x->ne[1] == dy->ne[1] && ggml_is_contiguous(dw));
    node_check_rows(dw);
    node_check_rows(dy);
    node_check_rows(x);
    if (ops->params.plain) {
        return op_add_in_place_plain(ctx, dw, op_linear_grad_plain(ctx, dy, x, scale));
    }
    const struct linear_params p = {.scale = scale, .in_place = 1};
    return node_inplace(ctx, ops, run_grad, dw, (struct ggml_tensor *[]){dy, x}, 2, &p, sizeof(p));
}
