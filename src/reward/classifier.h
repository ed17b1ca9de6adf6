/* A classifier or reranker that libllama runs: a GGUF with an output layer for whole texts (cls.output). */
#ifndef REWARD_CLASSIFIER_H
#define REWARD_CLASSIFIER_H

#include <llama.h>
#include <stdbool.h>

#include "genarm/source.h"
#include "model/rpc.h"

struct classifier {
    struct rpc_devices remote; /* held open for libllama */
    struct llama_model *model;
    struct llama_context *ctx;
    const struct llama_vocab *vocab;
    int32_t n_vocab, n_ctx;
    int32_t n_piece; /* most tokens of one forward pass */
    int32_t n_out;   /* outputs, each with a label, or a single one without */
    bool pieces;     /* a text can be computed in pieces: causal attention over a cache */
};

/* Checks the file, then lets libllama load it. Errors name the path. */
int classifier_open(struct classifier *out, const char *path, const struct genarm_source_params *params,
                    struct genarm_error *err);
void classifier_close(struct classifier *c); /* safe on a zeroed struct */

/* out[n_out] of a text of 1 to n_ctx tokens of the vocabulary: logits, of qwen3 probabilities. */
int classifier_run(struct classifier *c, int32_t *tokens, int32_t n, float *out, struct genarm_error *err);

#endif
