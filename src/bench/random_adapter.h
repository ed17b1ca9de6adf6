/* A LoRA adapter with random A and B, for tests and benchmarks that need one that does something. */
#ifndef BENCH_RANDOM_ADAPTER_H
#define BENCH_RANDOM_ADAPTER_H

#include "model/adapter.h"
#include "model/model.h"

/* Writes an adapter of all layers to `path`. `targets`: bits 1 << LINEAR_*. The size of B sets how far logits move:
 * about 0.02 moves those of a small model by a few units. */
int random_adapter_write(const char *path, const struct genarm_model *model, int32_t rank, unsigned targets, float size_b,
                         uint64_t seed, struct genarm_error *err);

#endif
