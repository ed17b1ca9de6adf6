/* The adapter under training: its matrices, their gradients, where they start from.
 *
 * All A and B, and the scalar head of a reward model behind them, lie in one flat tensor and their gradients in another of
 * the same layout, so that the optimiser and the checkpoint see two arrays; so do the small matrices by which a
 * conditioned adapter depends on a preference. Both live in a backend buffer, where the graph
 * reads and adds to them.
 */
#ifndef TRAIN_LORA_H
#define TRAIN_LORA_H

#include "model/adapter.h"

/* What an adapter is conditioned on; see conditioned.h. */
struct conditioning {
    int32_t n_objectives; /* k; 0: nothing, the adapter is a plain one */
    int32_t rank;         /* r2: A's last rows and B's last columns, which depend on the preference */
};

/* What stands between A and B of a conditioned map, dW(a) = s B M(a) A: its part of theta and what that makes of M. */
struct core {
    struct ggml_tensor *m;        /* f32 [rank, rank] M at the preference at hand; NULL: the map has none */
    struct ggml_tensor *gradient; /* f32 [rank, rank] of M; not yet in `gradient` of the adapter */
    size_t at;                    /* in theta: W1 [r1, r1], then T_1 to T_k [r2, r2], each row by row */
};

struct trainable {
    float alpha;
    size_t n;                               /* numbers in theta, padding between matrices included (it stays 0) */
    struct ggml_tensor *theta;              /* f32 [n] */
    struct ggml_tensor *gradient;           /* f32 [n] */
    struct lora (*layers)[LINEAR_COUNT];    /* [n_layer] views into theta */
    struct lora (*gradients)[LINEAR_COUNT]; /* [n_layer] views into gradient, same scale */
    struct ggml_tensor *head;               /* f32 [n_embd, 1] view into theta; NULL: log-probabilities are trained */
    struct ggml_tensor *head_gradient;      /* f32 [n_embd, 1] view into gradient, or NULL */
    int32_t n_layer;
    struct conditioning conditioning;
    struct core (*cores)[LINEAR_COUNT];       /* [n_layer]; NULL: a plain adapter. The next five are theirs */
    size_t first_core, n_core;                /* numbers of theta that are W1 and T */
    struct ggml_tensor *m, *m_gradient;       /* f32, what the M and their gradients are views of */
    float *host_core, *host_m;                /* scratch: [n_core], all M */
    float preference[OBJECTIVES_MAX];         /* a, that the M are of */
    struct ggml_context *ctx;
    ggml_backend_buffer_t buffer;
};

/* Bits of enum linear from "q,k,v"; an unknown or repeated name is GENARM_EINVAL and the error lists the known ones. */
int targets_parse(uint32_t *targets, const char *names, struct genarm_error *err);
/* Back to "q,k,v"; `text` holds at least 64 bytes. */
void targets_print(char *text, size_t size, uint32_t targets);

/* A fresh adapter as PEFT makes it: A uniform in +-1/sqrt(n_in) (kaiming_uniform with a = sqrt(5)), B zero, so that the
 * model starts unchanged. The numbers depend on the seed, layer and map only. A head starts at zero: all responses have
 * the same reward, and its first gradient is the difference of hidden states, not a random direction. */
int trainable_init(struct trainable *t, const struct hparams *hp, uint32_t targets, int32_t rank, float alpha, bool head,
                   uint64_t seed, ggml_backend_buffer_type_t type, struct genarm_error *err);

/* A fresh conditioned adapter, as PARM makes it: A and B as above, W1 and T uniform in +-1/sqrt(r1) and +-1/r2. The preference
 * is the even one. 0 < conditioning->rank <= rank. */
int trainable_init_conditioned(struct trainable *t, const struct hparams *hp, uint32_t targets, int32_t rank, float alpha,
                               const struct conditioning *conditioning, uint64_t seed, ggml_backend_buffer_type_t type,
                               struct genarm_error *err);

/* A copy of an adapter: its ranks, alpha and maps, and, with `head`, its head, zero if it has none. */
int trainable_init_from(struct trainable *t, const struct hparams *hp, const struct genarm_adapter *adapter, bool head,
                        ggml_backend_buffer_type_t type, struct genarm_error *err);

void trainable_deinit(struct trainable *t); /* safe on a zeroed struct */

/* What is trained as an adapter that engines take, with the numbers of the moment: after a change they are told
 * (engine_refresh_adapters). *adapter only points to `t` and `model`: nothing of it is to be freed. */
void trainable_adapter(struct genarm_adapter *adapter, const struct trainable *t, const struct genarm_model *model);

/* Whole arrays of n numbers to and from the host. */
void trainable_get(const struct trainable *t, float *theta);
void trainable_set(struct trainable *t, const float *theta);
void trainable_get_gradient(struct trainable *t, float *gradient);
void trainable_zero_gradient(struct trainable *t);

#endif
