/* Compute operations that ggml lacks or does slowly on a CPU, as nodes of a ggml graph.
 *
 * Each op_* function adds a node (or a few) to a graph, like the ggml_* functions, and has two emitters of the same
 * mathematics: custom nodes of the CPU backend, computed by the kernels of this folder, and, with ops_params.plain, nodes
 * of plain ggml, for other backends and as the reference in tests. Prefill and training use the same ones.
 *
 *   linear      y = W x with W of any type that models come in, its gradient in x, the gradient of a small f32 W
 *   norm, rope, swiglu, dropout, attention over trees (one prompt, two responses), the log-probability head
 *
 * Activations are f32 with contiguous rows; any row stride, so that parts of a stacked tensor are used where they lie.
 * Shapes are in ggml order. n_rows counts token positions.
 *
 * A custom node's result has memory of its own, except where "in place" is said: then the result is a view of the named
 * argument, whose old values are gone. Always go on with the returned tensor, never with the argument: the plain emitter
 * does not work in place, and only the result tells the graph's order.
 *
 * The results of custom nodes do not depend, to the bit, on the number of threads, nor those of a row on which other rows
 * are in the batch.
 *
 * A struct ops outlives the graphs that were made with it. It owns the threads' scratch memory, so two graphs with the
 * same ops must not compute at the same time.
 */
#ifndef OPS_OPS_H
#define OPS_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include <ggml.h>

#include "base/error.h"

struct ops;

/* How weights meet activations. A processor without fast instructions for bf16 computes nearly exactly instead: forwards with
 * quantised weights in whole numbers (many.h) where it has those, else in f32. */
enum ops_precision {
    OPS_F32,    /* faithful to f32: FMA, or split bf16 with three products where a matrix unit makes that faster */
    OPS_BF16,   /* both operands rounded to bf16, sums in f32 */
};

struct ops_params {
    int32_t n_threads;             /* most threads a graph is computed with; further ones idle in custom nodes */
    enum ops_precision precision;  /* of op_linear, op_linear_back and op_head; everything else is f32 */
    bool plain;                    /* emit plain ggml nodes */
    const char *instructions;      /* "avx512", "avx2" or "plain", to pin what is otherwise the best the processor has: NULL */
};

struct ops_params ops_default_params(void); /* 1 thread, OPS_F32, custom nodes */

/* Fails with GENARM_EUNSUPPORTED when the processor lacks the instructions asked for. */
int ops_new(struct ops **out, const struct ops_params *params, struct genarm_error *err);
void ops_free(struct ops *ops);

/* Name of the products of many rows in use, e.g. "avx512bf16"; static storage. Quantised weights may have another (cpu.h). */
const char *ops_gemm_name(const struct ops *ops);

/* Whether custom nodes can read a weight where it lies: a type that ggml converts to f32, in host memory, in ggml's own
 * layout (the buffers of "repacked" and matrix-unit weights have another). True for a tensor without a buffer yet. */
bool ops_reads_weight(const struct ggml_tensor *w);

/* ---- linear maps ---------------------------------------------------------------------------------------------- */

enum {
    OP_MAX_STACK = 7,
    OP_THIN = 64, /* an f32 map with no more inputs or outputs than this is computed in f32 whatever the precision */
};

/* y = W x.  w: [n_in, n_out] any type, x: [n_in, n_rows] -> [n_out, n_rows] */
struct ggml_tensor *op_linear(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *w, struct ggml_tensor *x);

/* Several maps of the same x as one product.  w[i]: [n_in, n_out_i] of any types -> [sum n_out_i, n_rows] */
struct ggml_tensor *op_linear_stack(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *const *w, int n_w,
                                    struct ggml_tensor *x);

/* y += scale W x, in place on y (which may be a part of a stacked tensor); w: f32, thin (an adapter's). */
struct ggml_tensor *op_linear_acc(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *y, struct ggml_tensor *w,
                                  struct ggml_tensor *x, float scale);

/* dx = W^T dy, from the same W: no transposed copy.  dy: [n_out, n_rows] -> [n_in, n_rows] */
struct ggml_tensor *op_linear_back(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *w, struct ggml_tensor *dy);

/* dx = sum_i W_i^T dy_i.  dy: [sum n_out_i, n_rows] -> [n_in, n_rows] */
struct ggml_tensor *op_linear_back_stack(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *const *w, int n_w,
                                         struct ggml_tensor *dy);

/* dx += scale W^T dy, in place on dx; w: f32, thin. */
struct ggml_tensor *op_linear_back_acc(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *dx,
                                       struct ggml_tensor *w, struct ggml_tensor *dy, float scale);

/* dw += scale sum_rows dy x^T, in place on dw, also by the plain emitter: dw keeps its memory, so that gradients add up over
 * graphs.  dw: f32 [n_in, n_out] contiguous, dy: [n_out, n_rows], x: [n_in, n_rows] */
struct ggml_tensor *op_linear_grad_acc(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *dw,
                                       struct ggml_tensor *dy, struct ggml_tensor *x, float scale);

/* The two halves of what the plain emitter makes of it: the sum [n_in, n_out], computed where dy and x are, and the adding,
 * where dw is. So a graph over devices can leave the adding for its end. */
struct ggml_tensor *op_linear_grad_plain(struct ggml_context *ctx, struct ggml_tensor *dy, struct ggml_tensor *x, float scale);
struct ggml_tensor *op_add_in_place_plain(struct ggml_context *ctx, struct ggml_tensor *dw, struct ggml_tensor *sum);

/* The part [first, first + n) of each row of a stacked t: a view [n, n_rows]. */
struct ggml_tensor *op_part(struct ggml_context *ctx, struct ggml_tensor *t, int64_t first, int64_t n);

/* ---- row-wise ops --------------------------------------------------------------------------------------------- */

/* y = w * x / rms(x), rms(x) = sqrt(mean(x^2) + eps).  x: [n, n_rows] or [n, n_heads, n_rows], w: [n] f32 */
struct ggml_tensor *op_rms_norm(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *x, struct ggml_tensor *w,
                                float eps);

/* dx of op_rms_norm, plus `add` (the gradient that goes round the norm; NULL for none). dx, dy, add: shaped as x. */
struct ggml_tensor *op_rms_norm_back(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *x, struct ggml_tensor *w,
                                     struct ggml_tensor *dy, struct ggml_tensor *add, float eps);

/* y = silu(gate) * up.  gate, up: [n, n_rows] (parts of a stacked tensor are fine) -> [n, n_rows] */
struct ggml_tensor *op_swiglu(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *gate, struct ggml_tensor *up);

/* dy: [n, n_rows] -> [2 n, n_rows]: each row is d gate, then d up */
struct ggml_tensor *op_swiglu_back(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *gate,
                                   struct ggml_tensor *up, struct ggml_tensor *dy);

/* Dropout: each element is 0 with probability p, else x / (1 - p). Which ones is a function of (seed, step, stream, key of
 * the row, column) only, so the op on a gradient with the same stream is its own backward. Keys are well-mixed numbers, such
 * as rng_hash gives. Not available in plain ggml: the plain emitter still makes a custom node.
 * x: [n, n_rows], keys: i64 [n_rows], p in [0, 1) -> [n, n_rows] */
struct ggml_tensor *op_dropout(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *x, struct ggml_tensor *keys,
                               float p, uint32_t stream);

/* The (seed, step) of every op_dropout node from the next compute on. */
void ops_set_dropout(struct ops *ops, uint64_t seed, uint64_t step);

/* ---- rotary positions ----------------------------------------------------------------------------------------- */

/* Arguments of ggml_rope_ext. op_rope_init adds the node that turns positions into sines and cosines, once per graph. */
struct op_rope {
    struct ggml_tensor *positions;    /* i32 [n_rows] */
    struct ggml_tensor *freq_factors; /* f32 [n_rot / 2] divisors of the frequencies, or NULL */
    int32_t n_rot;
    int32_t mode; /* GGML_ROPE_TYPE_NORMAL or GGML_ROPE_TYPE_NEOX */
    int32_t n_ctx_orig;
    float freq_base, freq_scale, ext_factor, attn_factor, beta_fast, beta_slow;

    struct ggml_tensor *table; /* set by op_rope_init: [2 n_rot, n_rows] of cos and sin; NULL when plain */
};

void op_rope_init(struct ggml_context *ctx, struct ops *ops, struct op_rope *rope);

/* Rotates x, in place; and back (the transposed rotation: the gradient).  x: [n_embd_head, n_heads, n_rows] */
struct ggml_tensor *op_rope(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *x, const struct op_rope *rope);
struct ggml_tensor *op_rope_back(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *dy,
                                 const struct op_rope *rope);

/* ---- attention over trees ------------------------------------------------------------------------------------- */

/* The rows of a packed micro-batch are trees, one a preference pair: n_prompt rows of the prompt, n_chosen of one
 * continuation, n_rejected of another. A row sees the prompt's rows and the rows of its own branch up to itself. Rows outside
 * every tree (padding) come out as 0, see nothing and are not seen (the plain emitter makes no promise for them). A causal
 * sequence is a tree with a prompt only. */
struct op_tree {
    struct ggml_tensor *trees; /* i32 [4, n_trees]: first row, n_prompt, n_chosen, n_rejected */
    struct ggml_tensor *mask;  /* f32 [n_rows, n_rows] of op_tree_mask; used by the plain emitter only, else NULL */
};

/* Checks that trees ascend, do not overlap and end within n_rows. n_trees x 4 numbers as above. */
int op_tree_check(const int32_t *trees, int32_t n_trees, int32_t n_rows, struct genarm_error *err);

/* Fills mask[n_rows * n_rows]: 0 where row i (slow axis) sees row j, -INFINITY elsewhere. Padding sees itself. */
void op_tree_mask(const int32_t *trees, int32_t n_trees, int32_t n_rows, float *mask);

/* With rope, q and k are rotated inside (and their gradients back); NULL: they are taken as they are.
 * q: [n_embd_head, n_head, n_rows], k, v: [n_embd_head, n_head_kv, n_rows], n_head a multiple of n_head_kv.
 * n_embd_head: at most 256. scale > 0. */
struct op_attention {
    struct ggml_tensor *out; /* [n_embd_head * n_head, n_rows] */
    struct ggml_tensor *lse; /* [n_head, n_rows] log-sum-exp of each row's scaled scores; NULL when plain */
};

struct op_attention op_attention(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *q, struct ggml_tensor *k,
                                 struct ggml_tensor *v, const struct op_tree *tree, const struct op_rope *rope, float scale);

/* dout: [n_embd_head * n_head, n_rows] -> [n_embd_head * (n_head + 2 n_head_kv), n_rows], each row dq, then dk, then dv;
 * take them apart with op_part. `att` is what op_attention gave for the same q, k, v. */
struct ggml_tensor *op_attention_back(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *q, struct ggml_tensor *k,
                                      struct ggml_tensor *v, const struct op_attention *att, struct ggml_tensor *dout,
                                      const struct op_tree *tree, const struct op_rope *rope, float scale);

/* ---- the head ------------------------------------------------------------------------------------------------- */

enum { OP_HEAD_CHUNK = 256 }; /* rows whose logits exist at one time */

struct op_head {
    struct ggml_tensor *logp; /* [n_rows] log p(target): logit[target] - logsumexp(logits) */
    struct ggml_tensor *grad; /* [n_embd, n_rows] d logp / d h = W[target] - W^T p; NULL unless asked for */
};

/* w: [n_embd, n_vocab] any type (a tied embedding too), h: [n_embd, n_rows], targets: i32 [n_rows].
 * The gradient of a loss is grad times the row's d loss / d logp, known later (ggml_mul by [1, n_rows]).
 * The plain emitter's logp is exact down to -87 and no lower than that. */
struct op_head op_head(struct ggml_context *ctx, struct ops *ops, struct ggml_tensor *w, struct ggml_tensor *h,
                       struct ggml_tensor *targets, bool with_grad);

#endif
