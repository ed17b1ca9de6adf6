/* Runs micro-batches: losses of pairs and, when asked for, the adapter's gradients, which add up over runs.
 *
 * Owns the threads, the memory of activations (kept over runs) and the ops. One thread at a time.
 */
#ifndef TRAIN_BACKPROP_H
#define TRAIN_BACKPROP_H

#include "model/model.h"
#include "train/lora.h"
#include "train/loss.h"
#include "train/pack.h"

struct backprop_params {
    const struct loss *loss; /* of pairs; NULL: every job with a gradient brings its own derivatives */
    struct loss_params loss_params;
    const struct trainable *reference; /* adapter of the reference, outlives it; NULL: the base alone */
    float dropout;
    double temperature; /* log-probabilities are log softmax(logits / temperature); 0: 1 */
    int32_t checkpoint_layers; /* see genarm_train_params */
    int32_t n_threads; /* 0: number of cores */
    bool bf16;         /* see genarm_train_params */
    bool plain;        /* plain ggml nodes, also where custom ones would do */
};

/* What is computed of a micro-batch. */
struct backprop_job {
    bool gradient;
    double weight;       /* of each pair's loss in the gradient: 1 / pairs of the optimiser's step */
    uint64_t seed, step; /* of dropout: its masks are functions of both, of pair, map, row and column */
    const double (*reference)[SIDES]; /* [n_pairs] of the pack, from backprop_reference; NULL: the loss has none */
    const double *objective_weights; /* of the pairs of each objective, beside `weight`; NULL: 1 */
    /* In the place of the loss: the derivatives of an objective by the log-probability of each scored row, [n_scored],
     * `weight` included. The objective may look at tokens, not only at sums. NULL: the loss. */
    void (*derivatives)(const struct pack *p, const float *logp, float *derivatives, void *user);
    void *user;
};

/* Where time went, by the labels of graph.c; for measurements. */
struct backprop_profile {
    struct {
        char name[GGML_MAX_NAME];
        double seconds;
        int64_t nodes;
    } kinds[48];
    int n_kinds;
};

struct backprop;

/* model and adapter must outlive it. An adapter with a head takes packs of PACK_ENDS and a loss that uses a head. */
int backprop_new(struct backprop **out, const struct genarm_model *model, const struct trainable *adapter,
                 const struct backprop_params *params, struct genarm_error *err);
void backprop_free(struct backprop *b); /* NULL is fine */

/* values[p->n_pairs] is written for every pair of the pack; NULL: not wanted. With job->gradient the adapter's gradients grow by
 * weight * d loss / d theta of every pair. */
int backprop_run(struct backprop *b, const struct pack *p, const struct backprop_job *job, struct loss_value *values,
                 struct genarm_error *err);

/* The summed log-probabilities of the pack's responses under the reference, sums[p->n_pairs]; NULL: only those of
 * backprop_logp are wanted. */
int backprop_reference(struct backprop *b, const struct pack *p, double (*sums)[SIDES], struct genarm_error *err);

/* Whether a pair's numbers are the same, to the bit, whatever other pairs are in its pack: true of custom nodes. */
bool backprop_ignores_packing(const struct backprop *b);

/* log p of each scored row of the last run (of an adapter with a head its reward), [n_scored]; valid until the next. */
const float *backprop_logp(const struct backprop *b);

/* Times every node of later runs into *profile; NULL stops. */
void backprop_set_profile(struct backprop *b, struct backprop_profile *profile);

/* Bytes of the activations' buffer. */
size_t backprop_memory(const struct backprop *b);

#endif
