/* Files in the safetensors format: 8 bytes of header length, a JSON header, then the tensors' bytes without holes.
 *
 * A file is outside data: reading checks the header's length, its JSON (duplicate names are refused), every entry, the
 * size of each tensor against its shape and type, and that the tensors cover the data exactly, one after the other. */
#ifndef CONVERT_SAFETENSORS_H
#define CONVERT_SAFETENSORS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* name in the file, bytes of one number */
#define SAFETENSORS_TYPES(X)                                                                                          \
    X(BOOL, 1)                                                                                                        \
    X(U8, 1)                                                                                                          \
    X(I8, 1)                                                                                                          \
    X(F8_E5M2, 1)                                                                                                     \
    X(F8_E4M3, 1)                                                                                                     \
    X(I16, 2)                                                                                                         \
    X(U16, 2)                                                                                                         \
    X(F16, 2)                                                                                                         \
    X(BF16, 2)                                                                                                        \
    X(I32, 4)                                                                                                         \
    X(U32, 4)                                                                                                         \
    X(F32, 4)                                                                                                         \
    X(F64, 8)                                                                                                         \
    X(I64, 8)                                                                                                         \
    X(U64, 8)

enum safetensors_type {
#define SAFETENSORS_ENUM(name, size) SAFETENSORS_##name,
    SAFETENSORS_TYPES(SAFETENSORS_ENUM)
#undef SAFETENSORS_ENUM
        SAFETENSORS_TYPE_COUNT
};

const char *safetensors_type_name(enum safetensors_type type);

enum { SAFETENSORS_MAX_DIMS = 8 };

struct safetensors_tensor {
    const char *name; /* borrowed */
    enum safetensors_type type;
    int n_dims;
    int64_t shape[SAFETENSORS_MAX_DIMS]; /* the last is contiguous, as in PyTorch */
    const void *data;                    /* borrowed; aligned to nothing when read */
    size_t size;                         /* bytes; when writing, found from type and shape */
};

/* An open, checked file. */
struct safetensors {
    struct safetensors_tensor *tensors; /* [n_tensors] in the order of the header */
    size_t n_tensors;
    const json_t *metadata; /* "__metadata__", an object of strings; NULL: there is none */
    json_t *header;
    const uint8_t *map;
    size_t map_size;
};

/* Errors name the path and the tensor: GENARM_EIO, GENARM_EFORMAT. The file must not be cut or rewritten in place while it
 * is open. */
int safetensors_open(struct safetensors *st, const char *path, struct genarm_error *err);
void safetensors_close(struct safetensors *st); /* safe on a zeroed struct */

/* Writes a file atomically, tensors in the given order; `metadata` (an object of strings) may be NULL. */
int safetensors_write(const char *path, const struct safetensors_tensor *tensors, size_t n, json_t *metadata,
                      struct genarm_error *err);

#endif
