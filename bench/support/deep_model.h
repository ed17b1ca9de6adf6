/* A model that computes nearly what a given one does, at several times its cost: something strong for it to draft for. */
#ifndef BENCH_DEEP_MODEL_H
#define BENCH_DEEP_MODEL_H

#include <ggml.h>

/* Writes the model at `like`, which must have F32 tensors, with `times` as many layers, matrices in `type`. Each layer is
 * followed by copies of itself whose output projections are zero, so that they pass on what they get. To the matrices of the
 * others noise is added, of `noise` times the size of each row's entries: without it, the two would agree on every token.
 * Prints why and exits when it cannot. */
void deep_model_write(const char *path, const char *like, int times, float noise, enum ggml_type type);

#endif
