/* A model of random weights in the shape of a well-known 1.1B one, so that speed at that size can be measured without having one. */
#ifndef BENCH_RANDOM_MODEL_H
#define BENCH_RANDOM_MODEL_H

#include <ggml.h>

/* Writes it (n_embd 2048, 22 layers, 32 heads on 4, n_ff 5632) with all matrices in `type`, with the vocabulary of the model
 * at `like`, which must be of the llama architecture. Only a few different rows a matrix: nothing depends on their values.
 * Prints why and exits when it cannot. */
void random_model_write(const char *path, const char *like, enum ggml_type type);

#endif
