/* What makes two runs the same: options, data, model and reference, as an object of names and values that a checkpoint
 * keeps and that ranks which train together compare. */
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H

#include <jansson.h>

#include "model/model.h"
#include "train/lora.h"

/* The object of options, taken over, with the model, the reference's adapter by its numbers and the data by its hash;
 * `reference` may be a zeroed one: there is none. NULL when out of memory, or when options is NULL. */
json_t *run_describe(json_t *options, const struct genarm_model *model, const struct trainable *reference, uint64_t data);

/* Adds the numbers of an adapter, by their hash: its path may be another. False when out of memory. */
bool run_add_adapter(json_t *run, const char *name, const struct trainable *adapter);

/* A hash as text. */
void run_hex(char text[17], uint64_t hash);

/* A member's value as text for a message. */
void run_print(char *text, size_t size, const json_t *value);

/* Where two runs part. */
struct run_difference {
    const char *name; /* borrowed from `wanted` */
    char found[96], wanted[96];
};

/* Whether both have the same members; if not, *d is the first that differs. */
bool run_same(const json_t *found, const json_t *wanted, struct run_difference *d);

#endif
