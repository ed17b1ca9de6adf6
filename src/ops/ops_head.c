/* Nodes of the log-probability head: ops.h.
 *
 * By chunks of rows: logits = W h; logp = logit[target] - logsumexp(logits); then, in the logits' memory, the residual
 * onehot(target) - softmax(logits), whose product with W is the gradient d logp / d h.
 */
#include <math.h>

#include "ops/node.h"

/* Negative or too large a target has no probability. */
static bool is_target(int32_t t, int64_t n_vocab) { return t >= 0 && t < n_vocab; }

/* dst: [n_rows]; src: logits [n_vocab, n_rows], targets */
static void run_logp(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    const struct ops *ops = userdata;
    const struct ggml_tensor *logits = dst->src[0];
    const int32_t *targets = dst->src[1]->data;
    float *logp = dst->data;
    int64_t i, end;
    for (node_share(dst->ne[0], ith, nth, &i, &end); i < end; i++) {
        const float *x = node_row(logits, i);
        logp[i] = is_target(targets[i], logits->ne[0]) ? x[targets[i]] - ops->kernels->log_sum_exp(x, logits->ne[0]) : NAN;
    }
}

/* In place on logits: src: logits, logp, targets */
static void run_residual(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
    const struct ops *ops = userdata;
    const float *logp = dst->src[1]->data;
    const int32_t *targets = dst->src[2]->data;
    int64_t i, end;
    for (node_share(dst->ne[1], ith, nth, &i, &end); i < end; i++) {
        float *x = node_row(dst, i);
        const bool valid = is_target(targets[i], dst->ne[0]);
        ops->kernels->negate_softmax(x, dst->ne[0], valid ? x[targets[i]] - logp[i] : NAN);
        if (valid) {
            x[targets[i]] += 1.0f;
        }
    }
}

/* logp = -log sum_v exp(logit_v - logit_target). A term beyond e^75 stays there: logp is then too large, but no -inf, and the
 * difference of two such no NaN. */
static struct op_head plain_head(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *w, struct ggml_tensor *h,
                                 struct ggml_tensor *targets, bool with_grad) {
    struct ggml_tensor *logits = ggml_mul_mat(ctx, w, h);
    struct ggml_tensor *w_target = ggml_get_rows(ctx, w, targets); /* [n_embd, n_rows] */
    struct ggml_tensor *target = ggml_sum_rows(ctx, ggml_mul(ctx, w_target, h)); /* [1, n_rows] */
    struct ggml_tensor *above = ggml_clamp(ctx, ggml_sub(ctx, logits, target), -INFINITY, 75.0f);
    struct ggml_tensor *sum = ggml_sum_rows(ctx, ggml_exp(ctx, above));
    struct op_head head = {.logp = ggml_reshape_1d(ctx, ggml_neg(ctx, ggml_log(ctx, sum)), h->ne[1])};
    if (with_grad) {
        head.grad = ggml_sub(ctx, w_target, op_linear_back(ctx, ops, w, ggml_soft_max(ctx, logits)));
    }
    return head;
}

static struct op_head chunk(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *w, struct ggml_tensor *h,
                            struct ggml_tensor *targets, bool with_grad) {
    if (ops->params.plain) {
        return plain_head(ctx, ops, w, h, targets, with_grad);
    }
    struct ggml_tensor *logits = op_linear(ctx, ops, w, h);
    struct op_head head = {
        .logp = node_new(ctx, ops, run_logp, (const int64_t[]){h->ne[1], 1, 1}, (struct ggml_tensor *[]){logits, targets}, 2,
                         NULL, 0)};
    if (with_grad) {
        struct ggml_tensor *residual =
            node_inplace(ctx, ops, run_residual, logits, (struct ggml_tensor *[]){head.logp, targets}, 2, NULL, 0);
        head.grad = op_linear_back(ctx, ops, w, residual);
    }
    return head;
}

struct op_head op_head(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *w, struct ggml_tensor *h,
                       struct ggml_tensor *targets, bool with_grad) {
    node_check_rows(h);
    GGML_ASSERT(targets->type == GGML_TYPE_I32 && targets->ne[0] == h->ne[1] && w->ne[0] == h->ne[0]);
    const int64_t n = h->ne[1], n_chunks = (n + OP_HEAD_CHUNK - 1) / OP_HEAD_CHUNK;
    struct op_head all = {0};
    for (int64_t i = 0; i < n_chunks; i++) {
        const int64_t first = n * i / n_chunks, rows = n * (i + 1) / n_chunks - first;
        struct ggml_tensor *hi = ggml_view_2d(ctx, h, h->ne[0], rows, h->nb[1], (size_t)first * h->nb[1]);
        struct ggml_tensor *ti = ggml_view_1d(ctx, targets, rows, (size_t)first * sizeof(int32_t));
        const struct op_head one = chunk(ctx, ops, w, hi, ti, with_grad);
        all.logp = all.logp ? ggml_concat(ctx, all.logp, one.logp, 0) : one.logp;
        all.grad = all.grad ? ggml_concat(ctx, all.grad, one.grad, 1) : one.grad;
    }
    return all;
}
