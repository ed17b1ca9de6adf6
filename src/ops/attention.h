/* Attention over the trees of a packed micro-batch, forward and backward, with exact softmax and no score matrix in memory.
 *
 * A tree is a run of rows: a prompt and two branches. A row sees the prompt up to itself and its own branch up to itself. Work
 * goes by query blocks: up to nr rows of one head, a row in each lane, so that softmax needs no sum across lanes:
 *
 *     S^T [key, row] = K Q^T          P^T = exp(scale S^T - max)             O^T [n_embd_head, row] = V^T P^T
 *
 * The backward pass (Dao et al., FlashAttention, alg. 4) recomputes P from the log-sum-exp, with D = sum_d dO O:
 *
 *     dV = P^T dO     dP^T = V dO^T     dS^T = P^T (dP^T - D) scale     dQ^T = K^T dS^T     dK = dS^T Q
 *
 * Blocks of keys that a query block does not see are never touched. Threads split query blocks forward, pairs of (tree, key
 * head) backward; nothing is shared between them, and results do not depend on their number.
 */
#ifndef OPS_ATTENTION_H
#define OPS_ATTENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ATTENTION_MAX_HEAD = 256, ATTENTION_MAX_TREE = 8192 };

/* Rows of heads: element d of head h of row i at data[i * row_stride + h * head_stride + d]. */
struct heads {
    float *data;
    size_t row_stride, head_stride;
};

struct attention {
    int n_embd_head, n_head, n_head_kv;
    int64_t n_rows;
    const int32_t *trees; /* [n_trees][4]: first row, n_prompt, n_chosen, n_rejected; ascending */
    int n_trees;
    const float *table; /* [n_rows][2][n_rot]: the factor of each rotated element itself (cos), then that of its partner (sin,
                           with sign); NULL: q and k are rotated already */
    int n_rot;
    bool neox;
    float scale;
    struct heads q, k, v;
    struct heads out; /* result of the forward pass */
    float *lse;       /* [n_rows][n_head]; likewise */
    struct heads dout, dq, dk, dv; /* backward only */
};

/* Some rows of one head against the keys that they see. Rows and keys count from the tree's first row. */
struct attention_block {
    const struct attention *at;
    int64_t tree_row; /* of the batch */
    int head;
    int first, n; /* rows; n at most the kernel's nr */
    struct {
        int first, end;
    } seen[3]; /* ranges of keys: the last one is the block itself, where row i sees keys up to i */
};

struct kernels;

/* Bytes of scratch that each thread needs for heads of this size. */
size_t attention_scratch_bytes(int n_embd_head);

/* Thread ith's share of nth. */
void attention_run(const struct kernels *kernels, const struct attention *at, void *scratch, int ith, int nth);
void attention_back_run(const struct kernels *kernels, const struct attention *at, void *scratch, int ith, int nth);

#endif
