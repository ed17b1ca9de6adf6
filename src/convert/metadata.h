/* GGUF metadata as JSON and back, without loss: {"genarm.beta": ["f32", 0.05], "some.list": ["str[]", ["a", "b"]], …}, in
 * the file's order. It travels in a PEFT adapter, so that the way back gives the same file. */
#ifndef CONVERT_METADATA_H
#define CONVERT_METADATA_H

#include <gguf.h>
#include <jansson.h>

#include "base/error.h"

/* *out is a new reference. A value that JSON cannot hold (not finite, not UTF-8) is GENARM_EUNSUPPORTED and names the key.
 * general.alignment, which is about the bytes of one file, is left out. */
int metadata_to_json(json_t **out, const struct gguf_context *g, struct genarm_error *err);

/* Adds every key of an object that may come from outside. Errors name the key: GENARM_EFORMAT. */
int metadata_from_json(struct gguf_context *g, json_t *object, struct genarm_error *err);

#endif
