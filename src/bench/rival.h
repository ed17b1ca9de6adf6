/* libllama by itself on the model of a guide: who a guide's time is held against. It gets as many threads, the same context,
 * cache types and devices, and takes the likeliest token, with nothing beyond that to do. */
#ifndef BENCH_RIVAL_H
#define BENCH_RIVAL_H

#include <llama.h>

#include "guide/guide.h"

struct rival {
    struct llama_model *model;
    struct llama_context *ctx;
    struct ggml_threadpool *threads;
    ggml_backend_dev_t devices[PLACEMENT_MAX_DEVICES + 1];
    int32_t n_vocab, n_batch;
    int (*stop)(void);
};

/* The guide must have been started. `stop` is asked before each batch, and a return other than 0 ends rival_decode with
 * GENARM_ECANCELED; NULL: nobody asks. rival_close frees also after failure. */
int rival_open(struct rival *r, const struct genarm_guide *guide, int (*stop)(void), struct genarm_error *err);
void rival_close(struct rival *r); /* safe on a zeroed struct */

/* Forgets all but the first n tokens. False: this model forgets only everything, which is done. */
bool rival_keep(struct rival *r, int32_t n);

/* Appends n >= 1 tokens to those that it holds; *next becomes the likeliest one after them. */
int rival_decode(struct rival *r, int32_t *tokens, int32_t n, int32_t *next, struct genarm_error *err);

#endif
