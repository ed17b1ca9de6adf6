/* Writing safetensors, and the table of types. */
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "convert/safetensors_types.h"

enum { MAX_HEADER = 100000000, ALIGN = 8 /* of the data, as the reference implementation aligns it */ };

const struct safetensors_type_info safetensors_types[SAFETENSORS_TYPE_COUNT] = {
#define SAFETENSORS_ROW(name, size) {#name, size},
    SAFETENSORS_TYPES(SAFETENSORS_ROW)
#undef SAFETENSORS_ROW
};

const char *safetensors_type_name(enum safetensors_type type) { return safetensors_types[type].name; }

static size_t tensor_bytes(const struct safetensors_tensor *t) {
    size_t size = safetensors_types[t->type].size;
    for (int d = 0; d < t->n_dims; d++) {
        size *= (size_t)t->shape[d];
    }
    return size;
}

/* Adds one tensor whose data begins at `begin`. False: no memory, or its name is no UTF-8. */
static bool add_entry(json_t *header, const struct safetensors_tensor *t, size_t begin) {
    json_t *shape = json_array();
    for (int d = 0; d < t->n_dims; d++) {
        json_array_append_new(shape, json_integer((json_int_t)t->shape[d]));
    }
    const size_t end = begin + tensor_bytes(t);
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", safetensors_type_name(t->type), "shape", shape,
                              "data_offsets", (json_int_t)begin, (json_int_t)end);
    return json_object_set_new(header, t->name, entry) == 0;
}

/* The text of the header, padded with spaces. */
static int make_header(struct buf *text, const struct safetensors_tensor *tensors, size_t n, json_t *metadata,
                       struct genarm_error *err) {
    json_t *header = json_object();
    size_t begin = 0;
    int rc = header && (!metadata || json_object_set(header, "__metadata__", metadata) == 0)
                 ? GENARM_OK
                 : error_nomem(err, "a header");
    for (size_t i = 0; rc == GENARM_OK && i < n; i++) {
        if (json_object_get(header, tensors[i].name)) {
            rc = error_set(err, GENARM_EINVAL, "tensor %s is there twice", tensors[i].name);
        } else if (!add_entry(header, &tensors[i], begin)) {
            rc = error_nomem(err, "a header");
        }
        begin += tensor_bytes(&tensors[i]);
    }
    rc = rc == GENARM_OK ? json_dump(text, header, err) : rc;
    while (rc == GENARM_OK && text->len % ALIGN != 0) {
        rc = buf_puts(text, " ", err);
    }
    json_decref(header);
    return rc;
}

int safetensors_write(const char *path, const struct safetensors_tensor *tensors, size_t n, json_t *metadata,
                      struct genarm_error *err) {
    struct buf header;
    struct file_writer file;
    buf_init(&header, MAX_HEADER);
    int rc = make_header(&header, tensors, n, metadata, err);
    rc = rc == GENARM_OK ? file_open(&file, path, err) : rc;
    if (rc == GENARM_OK) {
        const uint64_t size = header.len; /* little-endian, as is every machine that this builds for */
        fwrite(&size, sizeof size, 1, file.stream); /* failures are collected by file_commit */
        fwrite(header.data, 1, header.len, file.stream);
        for (size_t i = 0; i < n; i++) {
            if (tensors[i].data) { /* may be NULL where there is nothing */
                fwrite(tensors[i].data, 1, tensor_bytes(&tensors[i]), file.stream);
            }
        }
        rc = file_commit(&file, err);
    }
    buf_deinit(&header);
    return error_at(err, rc, "%s", path);
}
