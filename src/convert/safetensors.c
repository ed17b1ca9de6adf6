/* Reading safetensors: everything is checked before a byte of a tensor is used. Writing is in safetensors_write.c. */
#include "convert/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "convert/safetensors_types.h"

enum { MAX_HEADER = 100000000 /* bytes; the limit of the reference implementation */ };

struct reader {
    struct safetensors *st;
    const char *path;
    const uint8_t *data; /* of the tensors */
    size_t data_size;
    struct genarm_error *err;
};

static int damaged(const struct reader *r, int rc) {
    error_hint(r->err, rc, "the file is broken or cut off: copy or download it again");
    return error_at(r->err, rc, "%s", r->path);
}

/* `rc` of an error in one tensor's entry. */
static int at_tensor(const struct reader *r, int rc, const char *name) {
    error_at(r->err, rc, "%.150s: %.100s", r->path, name);
    return damaged(r, rc);
}

/* ---- the header ---- */

static int read_header(struct reader *r) {
    struct safetensors *st = r->st;
    uint64_t n = 0;
    if (st->map_size < sizeof n) {
        return damaged(r, error_set(r->err, GENARM_EFORMAT, "not a safetensors file: it has %zu bytes", st->map_size));
    }
    memcpy(&n, st->map, sizeof n); /* little-endian, as is every machine that this builds for */
    const char *text = (const char *)st->map + sizeof n;
    const size_t left = st->map_size - sizeof n;
    if (n < 2 || n > MAX_HEADER || (left > 0 && *text != '{')) {
        const int rc = error_set(r->err, GENARM_EFORMAT, "not a safetensors file: no header at its start");
        error_hint(r->err, rc, "save the adapter with safe_serialization=True");
        return error_at(r->err, rc, "%s", r->path);
    }
    if (n > left) {
        return damaged(r, error_set(r->err, GENARM_EFORMAT, "the header has %" PRIu64 " bytes, the file %zu", n, left));
    }
    const int rc = json_parse(&st->header, text, (size_t)n, r->path, r->err);
    if (rc != GENARM_OK) {
        return damaged(r, rc);
    }
    r->data = (const uint8_t *)text + n;
    r->data_size = left - (size_t)n;
    return json_is_object(st->header) ? GENARM_OK
                                      : damaged(r, error_set(r->err, GENARM_EFORMAT, "the header is no JSON object"));
}

static int read_metadata(struct reader *r, const json_t *value) {
    const char *key;
    json_t *member;
    if (!json_is_object(value)) {
        return damaged(r, error_set(r->err, GENARM_EFORMAT, "__metadata__ is no JSON object"));
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, member) {
        if (!json_is_string(member)) {
            return damaged(r, error_set(r->err, GENARM_EFORMAT, "__metadata__: \"%.80s\" is not a string", key));
        }
    }
    r->st->metadata = value;
    return GENARM_OK;
}

/* ---- entries ---- */

static int read_type(struct reader *r, struct safetensors_tensor *t, const json_t *entry) {
    const char *name;
    const int rc = json_get_string(&name, entry, "dtype", "", r->err);
    if (rc != GENARM_OK) {
        return rc;
    }
    for (int i = 0; i < SAFETENSORS_TYPE_COUNT; i++) {
        if (strcmp(name, safetensors_types[i].name) == 0) {
            t->type = (enum safetensors_type)i;
            return GENARM_OK;
        }
    }
    return error_set(r->err, GENARM_EFORMAT, "unknown dtype \"%.40s\"", name);
}

/* A whole number of at least 0. */
static bool read_size(uint64_t *out, const json_t *value) {
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return false;
    }
    *out = (uint64_t)json_integer_value(value);
    return true;
}

/* Fills in the shape; *size is the bytes that it takes. */
static int read_shape(struct reader *r, struct safetensors_tensor *t, uint64_t *size, const json_t *entry) {
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape) || json_array_size(shape) > SAFETENSORS_MAX_DIMS) {
        return error_set(r->err, GENARM_EFORMAT, "the shape is no list of at most %d numbers", SAFETENSORS_MAX_DIMS);
    }
    t->n_dims = (int)json_array_size(shape);
    *size = safetensors_types[t->type].size;
    for (int d = 0; d < t->n_dims; d++) {
        uint64_t n = 0;
        if (!read_size(&n, json_array_get(shape, (size_t)d))) {
            return error_set(r->err, GENARM_EFORMAT, "dimension %d of the shape is no whole number of at least 0", d);
        }
        if (n != 0 && *size > (uint64_t)INT64_MAX / n) {
            return error_set(r->err, GENARM_EFORMAT, "the shape is too large: dimension %d is %" PRIu64, d, n);
        }
        t->shape[d] = (int64_t)n;
        *size *= n;
    }
    return GENARM_OK;
}

static int read_offsets(struct reader *r, struct safetensors_tensor *t, uint64_t size, const json_t *entry) {
    const json_t *offsets = json_object_get(entry, "data_offsets");
    uint64_t begin = 0, end = 0;
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !read_size(&begin, json_array_get(offsets, 0)) ||
        !read_size(&end, json_array_get(offsets, 1)) || begin > end) {
        return error_set(r->err, GENARM_EFORMAT, "data_offsets is not [begin, end]");
    }
    if (end > r->data_size) {
        return error_set(r->err, GENARM_EFORMAT, "the data ends at byte %" PRIu64 " of %zu", end, r->data_size);
    }
    if (end - begin != size) {
        return error_set(r->err, GENARM_EFORMAT, "%" PRIu64 " bytes of data, but its shape takes %" PRIu64, end - begin,
                         size);
    }
    t->data = r->data + begin;
    t->size = (size_t)size;
    return GENARM_OK;
}

static int read_entry(struct reader *r, struct safetensors_tensor *t, const char *name, const json_t *entry) {
    uint64_t size = 0;
    *t = (struct safetensors_tensor){.name = name};
    int rc = GENARM_OK;
    if (!json_is_object(entry) || json_object_size(entry) != 3) {
        rc = error_set(r->err, GENARM_EFORMAT, "the entry is not {dtype, shape, data_offsets}");
    } else if (*name == '\0') {
        rc = error_set(r->err, GENARM_EFORMAT, "a tensor has no name");
    }
    rc = rc == GENARM_OK ? read_type(r, t, entry) : rc;
    rc = rc == GENARM_OK ? read_shape(r, t, &size, entry) : rc;
    return rc == GENARM_OK ? read_offsets(r, t, size, entry) : rc;
}

static int read_entries(struct reader *r) {
    struct safetensors *st = r->st;
    const char *name;
    json_t *entry;
    st->tensors = calloc(json_object_size(st->header) + 1, sizeof *st->tensors);
    if (!st->tensors) {
        return error_nomem(r->err, "a list of tensors");
    }
    json_object_foreach(st->header, name, entry) {
        int rc;
        if (strcmp(name, "__metadata__") == 0) {
            rc = read_metadata(r, entry);
        } else {
            rc = at_tensor(r, read_entry(r, &st->tensors[st->n_tensors], name, entry), name);
            st->n_tensors++;
        }
        if (rc != GENARM_OK) {
            return rc;
        }
    }
    return GENARM_OK;
}

/* ---- the data as a whole ---- */

static int by_place(const void *a, const void *b) {
    const struct safetensors_tensor *x = *(const struct safetensors_tensor *const *)a;
    const struct safetensors_tensor *y = *(const struct safetensors_tensor *const *)b;
    if (x->data != y->data) {
        return (const uint8_t *)x->data < (const uint8_t *)y->data ? -1 : 1;
    }
    return x->size < y->size ? -1 : x->size > y->size; /* an empty one may lie where another begins */
}

/* Tensors follow one another from the first byte to the last. */
static int check_cover(struct reader *r) {
    const struct safetensors *st = r->st;
    const struct safetensors_tensor **order = malloc((st->n_tensors + 1) * sizeof *order);
    if (!order) {
        return error_nomem(r->err, "a list of tensors");
    }
    for (size_t i = 0; i < st->n_tensors; i++) {
        order[i] = &st->tensors[i];
    }
    qsort(order, st->n_tensors, sizeof *order, by_place);
    const uint8_t *at = r->data;
    int rc = GENARM_OK;
    for (size_t i = 0; rc == GENARM_OK && i < st->n_tensors; i++) {
        const uint8_t *begin = order[i]->data;
        if (begin != at) {
            rc = error_set(r->err, GENARM_EFORMAT, "the data %s, byte %zu",
                           begin < at ? "overlaps that of another tensor" : "begins after a hole",
                           (size_t)(begin - r->data));
            at_tensor(r, rc, order[i]->name);
        }
        at = begin + order[i]->size;
    }
    free(order);
    if (rc == GENARM_OK && at != r->data + r->data_size) {
        rc = damaged(r, error_set(r->err, GENARM_EFORMAT, "%zu bytes at the end belong to no tensor",
                                  (size_t)(r->data + r->data_size - at)));
    }
    return rc;
}

int safetensors_open(struct safetensors *st, const char *path, struct genarm_error *err) {
    struct safetensors opened = {0};
    struct reader r = {.st = &opened, .path = path, .err = err};
    int rc = file_map(&opened.map, &opened.map_size, path, err);
    rc = rc == GENARM_OK ? read_header(&r) : rc;
    rc = rc == GENARM_OK ? read_entries(&r) : rc;
    rc = rc == GENARM_OK ? check_cover(&r) : rc;
    if (rc != GENARM_OK) {
        safetensors_close(&opened);
        return error_at(err, rc, "%s", path);
    }
    *st = opened;
    return GENARM_OK;
}

void safetensors_close(struct safetensors *st) {
    free(st->tensors);
    json_decref(st->header);
    file_unmap(st->map, st->map_size);
    *st = (struct safetensors){0};
}
