/* A conditioned adapter under training: one that depends on a preference a among k objectives (PARM, Lin et al., ICML 2025).
 *
 * Between the A [n_in, r1 + r2] and the B [r1 + r2, n_out] of every map stands M(a) = blockdiag(W1, sum_i a_i T_i). M is
 * computed on the host from theta whenever the preference or theta changes, the graph sees one more small matrix and adds up
 * its gradient, and that becomes gradients of W1 and T on the host: a is the same for all rows of a graph.
 * What is written to a file is the stack of plain LoRA parts of model/objectives.h.
 */
#ifndef TRAIN_CONDITIONED_H
#define TRAIN_CONDITIONED_H

#include "train/lora.h"

/* M of all maps for this preference, [n_objectives] on the simplex. What their gradients have added up goes to W1 and T first,
 * by the preference that it is of. Nothing happens to a plain adapter. */
void trainable_set_preference(struct trainable *t, const float *preference);

/* Writes the adapter as objectives.h lays it out; `info` says the rest of its metadata. */
int conditioned_save(const char *path, const struct hparams *hp, const struct trainable *t, const struct objectives *objectives,
                     const struct adapter_info *info, struct genarm_error *err);

/* A preference drawn from the symmetric Dirichlet distribution with this concentration (1: uniform on the simplex; less: nearer
 * to its corners): a function of seed, step and index. */
void conditioned_draw(float *preference, int32_t n_objectives, double concentration, uint64_t seed, uint64_t step,
                      uint64_t index);

/* ---- for lora.c ---- */

/* Numbers that W1 and T of all maps take in theta; ranks [n_layer]. */
size_t conditioned_numbers(const struct conditioning *c, const struct hparams *hp, const int32_t (*ranks)[LINEAR_COUNT]);

/* Tensors (without memory yet) and scratch of an adapter whose theta has its place. */
int conditioned_make(struct trainable *t, const int32_t (*ranks)[LINEAR_COUNT], struct genarm_error *err);

void conditioned_fill_fresh(struct trainable *t, uint64_t seed);

/* M from theta, at the same preference. */
void conditioned_compute(struct trainable *t);

/* Moves the gradients of M to those of W1 and T. */
void conditioned_collect(struct trainable *t);

#endif
