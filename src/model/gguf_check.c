/* Checks a GGUF file's structure in a map of the file, before any other code reads it. */
#include "model/gguf_check.h"

#include <ggml.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/strset.h"

enum {
    MAX_KEYS = 1 << 16,
    MAX_TENSORS = 1 << 20,
    MAX_KEY_BYTES = 65535,
    MAX_ALIGNMENT = 1 << 20,
    SHOWN_NAME = 64, /* bytes of a name that an error shows */
};

/* A place in the file. Numbers are little-endian, as is every machine that this builds for. */
struct cursor {
    const char *bytes;
    size_t size, at;
    const char *path, *part; /* for errors: the file, and what of it is being read */
    uint32_t alignment;
    struct genarm_error *err;
};

static int bad(struct cursor *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
static int bad(struct cursor *c, const char *fmt, ...) {
    char what[384];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    const int rc = error_set(c->err, GENARM_EFORMAT, "damaged GGUF: %s (%s, byte %zu)", what, c->part, c->at);
    return error_hint(c->err, rc, "the file is broken or cut off: copy or download it again");
}

static int truncated(struct cursor *c) {
    const int rc = error_set(c->err, GENARM_EFORMAT, "the file ends too early, at byte %zu (%s)", c->size, c->part);
    return error_hint(c->err, rc, "the file is cut off: copy or download it again");
}

static int take(struct cursor *c, void *out, size_t n) {
    if (n > c->size - c->at) {
        return truncated(c);
    }
    memcpy(out, c->bytes + c->at, n);
    c->at += n;
    return GENARM_OK;
}

static int take_u32(struct cursor *c, uint32_t *out) { return take(c, out, sizeof *out); }
static int take_u64(struct cursor *c, uint64_t *out) { return take(c, out, sizeof *out); }

struct text {
    const char *data; /* not NUL-terminated */
    size_t len;
};

static int take_text(struct cursor *c, struct text *out) {
    uint64_t len = 0;
    const int rc = take_u64(c, &len);
    if (rc != GENARM_OK) {
        return rc;
    }
    if (len > c->size) {
        return bad(c, "a string of %" PRIu64 " bytes in a file of %zu", len, c->size);
    }
    if (len > c->size - c->at) {
        return truncated(c);
    }
    *out = (struct text){.data = c->bytes + c->at, .len = (size_t)len};
    c->at += (size_t)len;
    return GENARM_OK;
}

/* A key or tensor name: not empty, no control characters (it will be shown), at most max bytes, not seen before. */
static int take_name(struct cursor *c, struct text *out, size_t max, struct strset *seen) {
    int rc = take_text(c, out);
    if (rc != GENARM_OK) {
        return rc;
    }
    if (out->len == 0 || out->len > max) {
        return bad(c, "a name of %zu bytes, 1 to %zu are allowed", out->len, max);
    }
    for (size_t i = 0; i < out->len; i++) {
        if ((unsigned char)out->data[i] < 0x20 || out->data[i] == 0x7F) {
            return bad(c, "a name with a control character");
        }
    }
    rc = strset_add(seen, out->data, out->len, NULL, c->err);
    if (rc == 0) {
        return bad(c, "%.*s appears twice", (int)(out->len < SHOWN_NAME ? out->len : SHOWN_NAME), out->data);
    }
    return rc < 0 ? rc : GENARM_OK;
}

/* ---- metadata ---- */

size_t gguf_value_size(uint32_t type) {
    static const uint8_t sizes[GGUF_TYPE_COUNT] = {
        [GGUF_TYPE_UINT8] = 1,  [GGUF_TYPE_INT8] = 1,  [GGUF_TYPE_UINT16] = 2,  [GGUF_TYPE_INT16] = 2,
        [GGUF_TYPE_UINT32] = 4, [GGUF_TYPE_INT32] = 4, [GGUF_TYPE_FLOAT32] = 4, [GGUF_TYPE_BOOL] = 1,
        [GGUF_TYPE_UINT64] = 8, [GGUF_TYPE_INT64] = 8, [GGUF_TYPE_FLOAT64] = 8,
    };
    return type < GGUF_TYPE_COUNT ? sizes[type] : 0;
}

static int check_bools(struct cursor *c, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        const char value = c->bytes[c->at++];
        if (value != 0 && value != 1) {
            return bad(c, "a boolean of value %d", value);
        }
    }
    return GENARM_OK;
}

/* n values of one type, which is no array. */
static int skip_values(struct cursor *c, uint32_t type, uint64_t n) {
    if (type == GGUF_TYPE_STRING) {
        if (n > c->size / sizeof(uint64_t)) {
            return bad(c, "%" PRIu64 " strings in a file of %zu bytes", n, c->size);
        }
        struct text text;
        int rc = GENARM_OK;
        for (uint64_t i = 0; rc == GENARM_OK && i < n; i++) {
            rc = take_text(c, &text);
        }
        return rc;
    }
    const size_t size = gguf_value_size(type);
    if (size == 0) {
        return bad(c, "a value of unknown type %" PRIu32, type);
    }
    if (n > c->size / size) {
        return bad(c, "%" PRIu64 " values in a file of %zu bytes", n, c->size);
    }
    if (n > (c->size - c->at) / size) {
        return truncated(c);
    }
    if (type == GGUF_TYPE_BOOL) {
        return check_bools(c, n);
    }
    c->at += (size_t)n * size;
    return GENARM_OK;
}

static bool text_is(const struct text *t, const char *s) {
    return t->len == strlen(s) && memcmp(t->data, s, t->len) == 0;
}

static int check_alignment(struct cursor *c, uint32_t type, size_t at) {
    if (type != GGUF_TYPE_UINT32) {
        return bad(c, "general.alignment is no 32-bit number");
    }
    memcpy(&c->alignment, c->bytes + at, sizeof c->alignment);
    if (c->alignment == 0 || c->alignment > MAX_ALIGNMENT || (c->alignment & (c->alignment - 1)) != 0) {
        return bad(c, "general.alignment is %" PRIu32 ", not a power of two up to %d", c->alignment, MAX_ALIGNMENT);
    }
    return GENARM_OK;
}

static int check_value(struct cursor *c, const struct text *key) {
    uint32_t type = 0;
    uint64_t n = 1;
    int rc = take_u32(c, &type);
    const size_t at = c->at;
    const uint32_t outer = type;
    if (rc == GENARM_OK && type == GGUF_TYPE_ARRAY) {
        rc = take_u32(c, &type);
        rc = rc == GENARM_OK ? take_u64(c, &n) : rc;
        if (rc == GENARM_OK && type == GGUF_TYPE_ARRAY) {
            rc = bad(c, "an array of arrays");
        }
    }
    rc = rc == GENARM_OK ? skip_values(c, type, n) : rc;
    if (rc == GENARM_OK && text_is(key, GGUF_KEY_GENERAL_ALIGNMENT)) {
        rc = check_alignment(c, outer, at);
    }
    const int shown = (int)(key->len < SHOWN_NAME ? key->len : SHOWN_NAME);
    return error_at(c->err, rc, "%s: %.*s", c->path, shown, key->data);
}

static int check_metadata(struct cursor *c, uint64_t n_keys) {
    c->part = "metadata";
    struct strset seen = {0};
    int rc = GENARM_OK;
    for (uint64_t i = 0; rc == GENARM_OK && i < n_keys; i++) {
        struct text key = {0};
        rc = take_name(c, &key, MAX_KEY_BYTES, &seen);
        rc = rc == GENARM_OK ? check_value(c, &key) : rc;
    }
    strset_deinit(&seen);
    return rc;
}

/* ---- tensors ---- */

/* Reads dimensions and type; *size is the tensor's bytes. */
static int check_shape(struct cursor *c, uint64_t *size) {
    uint32_t n_dims = 0, type = 0;
    int rc = take_u32(c, &n_dims);
    if (rc != GENARM_OK) {
        return rc;
    }
    if (n_dims < 1 || n_dims > GGML_MAX_DIMS) {
        return bad(c, "%" PRIu32 " dimensions, 1 to %d are allowed", n_dims, GGML_MAX_DIMS);
    }
    uint64_t ne[GGML_MAX_DIMS] = {0}, n = 1;
    for (uint32_t d = 0; d < n_dims; d++) {
        rc = take_u64(c, &ne[d]);
        if (rc != GENARM_OK) {
            return rc;
        }
        if (ne[d] == 0 || ne[d] > INT64_MAX || n > INT64_MAX / ne[d]) {
            return bad(c, "dimension %" PRIu32 " is %" PRIu64 "%s", d, ne[d], ne[d] ? ": too many weights" : "");
        }
        n *= ne[d];
    }
    rc = take_u32(c, &type);
    if (rc != GENARM_OK) {
        return rc;
    }
    const uint64_t block = type < GGML_TYPE_COUNT ? (uint64_t)ggml_blck_size((enum ggml_type)type) : 0;
    const uint64_t block_size = block ? ggml_type_size((enum ggml_type)type) : 0;
    if (block_size == 0) {
        return bad(c, "weights of unknown type %" PRIu32, type);
    }
    if (ne[0] % block != 0) {
        return bad(c, "rows of %" PRIu64 " weights in blocks of %" PRIu64, ne[0], block);
    }
    if (n / block > c->size / block_size) {
        return bad(c, "%" PRIu64 " weights in a file of %zu bytes", n, c->size);
    }
    *size = n / block * block_size;
    return GENARM_OK;
}

/* One tensor's entry. *end: where the data of the tensors so far ends, counted from the start of the data. */
static int check_tensor(struct cursor *c, uint64_t *end) {
    uint64_t size = 0, offset = 0;
    int rc = check_shape(c, &size);
    rc = rc == GENARM_OK ? take_u64(c, &offset) : rc;
    if (rc != GENARM_OK) {
        return rc;
    }
    const uint64_t expected = (*end + c->alignment - 1) / c->alignment * c->alignment;
    if (offset % c->alignment != 0) {
        return bad(c, "offset %" PRIu64 " is not aligned to %" PRIu32, offset, c->alignment);
    }
    if (offset != expected) {
        return bad(c, "offset %" PRIu64 " %s, expected %" PRIu64, offset,
                   offset < expected ? "overlaps the tensor before" : "leaves a gap or runs out of the file", expected);
    }
    *end = offset + size; /* both at most the size of the file */
    return *end > c->size ? truncated(c) : GENARM_OK;
}

static int check_tensors(struct cursor *c, uint64_t n_tensors) {
    c->part = "tensor table";
    struct strset seen = {0};
    uint64_t end = 0;
    int rc = GENARM_OK;
    for (uint64_t i = 0; rc == GENARM_OK && i < n_tensors; i++) {
        struct text name = {0};
        rc = take_name(c, &name, GGML_MAX_NAME - 1, &seen);
        if (rc == GENARM_OK) {
            rc = error_at(c->err, check_tensor(c, &end), "%s: %.*s", c->path, (int)name.len, name.data);
        }
    }
    strset_deinit(&seen);
    if (rc != GENARM_OK || n_tensors == 0) {
        return rc;
    }
    c->part = "weights";
    const uint64_t start = (c->at + c->alignment - 1) / c->alignment * c->alignment;
    return end > c->size || start > c->size - end ? truncated(c) : GENARM_OK;
}

/* ---- the file ---- */

static int not_gguf(struct cursor *c) {
    const int rc = error_set(c->err, GENARM_EFORMAT, "not a GGUF file");
    static const char lfs[] = "version https://git-lfs";
    if (c->size >= sizeof lfs - 1 && memcmp(c->bytes, lfs, sizeof lfs - 1) == 0) {
        return error_hint(c->err, rc, "this is a pointer of Git LFS: get the file itself with git lfs pull");
    }
    return error_hint(c->err, rc,
                      "models and adapters are read in llama.cpp's GGUF format: convert it with llama.cpp's scripts");
}

static int check_version(struct cursor *c, uint32_t version) {
    if (version == 2 || version == GGUF_VERSION) {
        return GENARM_OK;
    }
    if ((version & 0xFFFF) == 0 && version != 0) {
        const int rc = error_set(c->err, GENARM_EUNSUPPORTED, "the file is big-endian, this machine is little-endian");
        return error_hint(c->err, rc, "convert it with llama.cpp's gguf_convert_endian.py");
    }
    const int rc =
        error_set(c->err, GENARM_EUNSUPPORTED, "GGUF version %" PRIu32 ", 2 and %d can be read", version, GGUF_VERSION);
    return error_hint(c->err, rc, version < 2 ? "convert the model again" : "a newer genarm may read it");
}

int gguf_check_bytes(const void *bytes, size_t n, const char *path, struct genarm_error *err) {
    struct cursor c = {
        .bytes = bytes, .size = n, .path = path, .part = "header", .alignment = GGUF_DEFAULT_ALIGNMENT, .err = err};
    char magic[4] = {0};
    uint32_t version = 0;
    uint64_t n_tensors = 0, n_keys = 0;
    int rc = n == 0 ? error_set(err, GENARM_EFORMAT, "the file is empty") : GENARM_OK;
    if (rc == GENARM_OK && (n < sizeof magic || memcmp(bytes, GGUF_MAGIC, sizeof magic) != 0)) {
        rc = not_gguf(&c);
    }
    rc = rc == GENARM_OK ? take(&c, magic, sizeof magic) : rc;
    rc = rc == GENARM_OK ? take_u32(&c, &version) : rc;
    rc = rc == GENARM_OK ? check_version(&c, version) : rc;
    rc = rc == GENARM_OK ? take_u64(&c, &n_tensors) : rc;
    rc = rc == GENARM_OK ? take_u64(&c, &n_keys) : rc;
    if (rc == GENARM_OK && (n_tensors > MAX_TENSORS || n_keys > MAX_KEYS)) {
        rc = bad(&c, "%" PRIu64 " tensors and %" PRIu64 " keys, at most %d and %d can be", n_tensors, n_keys,
                 MAX_TENSORS, MAX_KEYS);
    }
    rc = rc == GENARM_OK ? check_metadata(&c, n_keys) : rc;
    rc = rc == GENARM_OK ? check_tensors(&c, n_tensors) : rc;
    return error_at(err, rc, "%s", path);
}
