/* GGUF files from outside, checked before ggml or libllama sees a byte of them (both abort on what they dislike).
 *
 * The check parses the header itself: magic, version, counts, key and value types, string and array lengths against
 * the file's size, tensor names, dimensions (overflow, block sizes), types, alignment, offsets that overlap or run
 * past the end of the file, duplicate keys and tensor names.
 */
#ifndef MODEL_GGUF_CHECK_H
#define MODEL_GGUF_CHECK_H

#include <gguf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Checks the structure of a file that is n bytes in memory. Errors name the path and the key, tensor or byte that is
 * wrong: GENARM_EFORMAT, or GENARM_EUNSUPPORTED for another version or byte order. */
int gguf_check_bytes(const void *bytes, size_t n, const char *path, struct genarm_error *err);

/* An open, checked GGUF: metadata and tensor infos by ggml's reader, data mapped read-only. */
struct gguf_file {
    char *path;
    struct gguf_context *gguf;
    struct ggml_context *tensors; /* no_alloc tensors: names, types, shapes; data is NULL */
    const uint8_t *map;           /* whole file, page-aligned, read-only */
    size_t size;
};
/* Maps, checks, parses. The file must not be cut or rewritten in place while it is open. */
int gguf_file_open(struct gguf_file *f, const char *path, struct genarm_error *err);
void gguf_file_close(struct gguf_file *f); /* safe on a zeroed struct */

/* Whether a GGUF file says that it is an adapter. Checks the whole file. */
int file_is_adapter(const char *path, bool *is_adapter, struct genarm_error *err);

/* Bytes of a value of a gguf_type; 0 of strings, arrays and what is no type. */
size_t gguf_value_size(uint32_t type);

/* Pointer to a tensor's bytes in the map; NULL if there is no such tensor. */
const void *gguf_file_data(const struct gguf_file *f, const char *tensor);

/* Metadata look-ups that check the type: a wrong one is GENARM_EFORMAT, an array where a number belongs (layers that
 * differ) GENARM_EUNSUPPORTED. Missing: *out is the fallback, or, for the `need` forms, an error that names the key. */
int gguf_need_u32(uint32_t *out, const struct gguf_context *g, const char *key, struct genarm_error *err);
int gguf_opt_u32(uint32_t *out, const struct gguf_context *g, const char *key, uint32_t fallback,
                 struct genarm_error *err);
int gguf_need_f32(float *out, const struct gguf_context *g, const char *key, struct genarm_error *err);
int gguf_opt_f32(float *out, const struct gguf_context *g, const char *key, float fallback, struct genarm_error *err);
int gguf_opt_bool(bool *out, const struct gguf_context *g, const char *key, bool fallback, struct genarm_error *err);
int gguf_need_str(const char **out, const struct gguf_context *g, const char *key, struct genarm_error *err);
int gguf_opt_str(const char **out, const struct gguf_context *g, const char *key, const char *fallback,
                 struct genarm_error *err);

#endif
