/* What the parts of the fused pass share; only fused*.c includes it. */
#ifndef ENGINE_FUSED_PARTS_H
#define ENGINE_FUSED_PARTS_H

#include "base/threads.h"
#include "engine/fused.h"
#include "ops/cpu.h"

struct fused {
    struct fused_params params;
    const struct hparams *hp;
    const struct weights *weights;
    const struct kernels *kernels;
    const struct few_int16 *few_int16; /* or NULL */
    const struct few_bf16 *few_bf16;   /* or NULL */
    bool bf16_is_fast;                 /* than whole numbers, for more rows than few_int16 takes at once */
    const struct many_kernel *many;    /* or NULL */
    int32_t max_rows;
    float **scratch; /* [n_threads], see struct work */
    size_t scratch_floats;

    float *x;         /* [n_embd, max_rows] the stream between layers, then what the head takes */
    float *mid;       /* [n_embd, max_rows] the stream after attention */
    float *qkv;       /* [n_embd_q + 2 n_embd_kv, max_rows] */
    float *attention; /* [n_embd_q, max_rows] */
    float *ff;        /* [n_ff, max_rows] */

    /* of the pass at hand */
    const struct fused_batch *batch;
    float *out;
};

/* Scratch of one thread. */
struct work {
    float *x;      /* [widest, max_rows] rows ready for a product, f32 */
    void *packed;  /* the same in the weights' own dot-product type */
    float *up;     /* [n_ff, max_rows] */
    float *low;    /* [rank_total, max_rows] A x of LoRA */
    float *rope;   /* [2 n_rot, max_rows] sines and cosines of the rows' positions */
    float *scores; /* [n_ctx, query group] */
    void *query;   /* the group's queries, packed */
    float *value;  /* [n_embd_head] */
    void *many;    /* of many_run */
};

enum { FUSED_MAX_HEAD = 1024 };

static inline int32_t fused_n_qkv(const struct hparams *hp) { return hparams_n_embd_q(hp) + 2 * hparams_n_embd_kv(hp); }
static inline int32_t fused_query_group(const struct hparams *hp) { return hp->n_head / hp->n_head_kv; }

/* ---- products ---- */

enum packing { PACKED_NOT = GGML_TYPE_COUNT, PACKED_BF16, PACKED_MANY, PACKED_INT16 /* + enum few_int16_form */ };

/* Input rows of one product: x f32 [n_in, n], and packed for the last kind of weights that it met. */
struct input {
    const float *x;
    int64_t n_in;
    int32_t n;
    int32_t adapters[FUSED_MAX_ROWS];
    const float *factors[FUSED_MAX_ROWS]; /* see struct row */
    void *packed;
    int packed_as; /* enum packing, or the enum ggml_type of ggml's dot product */
    float *low;
    void *many;
};

/* The pass's rows, or, with outputs_only, those whose output is wanted, in the order of the outputs. */
struct input fused_input(const struct fused *f, const struct work *w, const float *x, int64_t n_in, bool outputs_only);

/* y_r[j] = w_j x_r + bias_j + (B low_r)_j for j in [first, end). bias and stack may be NULL. y: rows `stride` apart */
void fused_product(const struct fused *f, const struct ggml_tensor *w, const struct ggml_tensor *bias,
                   const struct lora_stack *stack, struct input *in, float *y, int64_t stride, int64_t first, int64_t end);

/* ---- attention ---- */

/* Fills w->rope for the pass's rows; the same for all layers. */
void fused_rope(const struct fused *f, struct work *w);

/* Thread ith's share of a layer's attention: qkv -> attention, keys and values into the cache. */
void fused_attend(const struct fused *f, int32_t layer, struct work *w, int ith);

#endif
