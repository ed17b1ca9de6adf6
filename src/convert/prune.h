/* Layers that a copy of a model leaves out, and what that means for the names of tensors and the metadata of the rest. */
#ifndef CONVERT_PRUNE_H
#define CONVERT_PRUNE_H

#include <gguf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define PRUNE_KEY "genarm.pruned" /* GGUF key: the model's layers that are left out, e.g. "3,10-19" */

enum { PRUNE_MAX_LAYERS = 1024 };

struct prune {
    int32_t n_layer; /* of the model */
    int32_t n_kept;
    int32_t number[PRUNE_MAX_LAYERS]; /* [n_layer]: of a layer in the copy, -1 when it is left out */
};

/* GENARM_EINVAL when there is no such layer, or none would be left. Layers may be in any order and repeated; n = 0 keeps all. */
int prune_init(struct prune *p, int32_t n_layer, const int32_t *layers, size_t n, struct genarm_error *err);

/* Writes to `to` the name that a tensor has in the copy. False when it is left out. */
bool prune_rename(const struct prune *p, const char *name, char *to, size_t max);

/* The metadata of the copy: counts of layers, arrays with a value for each layer, PRUNE_KEY. Nothing when all are kept. */
int prune_metadata(const struct prune *p, struct gguf_context *g, const char *architecture, struct genarm_error *err);

#endif
