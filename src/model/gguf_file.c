/* An open GGUF: mapped, checked, parsed by ggml; and look-ups in its metadata. */
#include <errno.h>
#include <fcntl.h>
#include <ggml.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/utf8.h"
#include "model/gguf_check.h"
#include "model/llama_guard.h"
#include "model/runtime.h"

static int io_error(struct genarm_error *err, const char *doing) {
    const int number = errno;
    const int rc = error_set(err, GENARM_EIO, "cannot %s: %s", doing, strerror(number));
    return number == ENOENT ? error_hint(err, rc, "is the path right?") : rc;
}

static int map_file(struct gguf_file *f, struct genarm_error *err) {
    const int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO would make us wait for its writer */
    if (fd < 0) {
        return io_error(err, "open the file");
    }
    struct stat st;
    int rc = fstat(fd, &st) == 0 ? GENARM_OK : io_error(err, "open the file");
    if (rc == GENARM_OK && !S_ISREG(st.st_mode)) {
        rc = error_set(err, GENARM_EIO, S_ISDIR(st.st_mode) ? "is a folder" : "is not a regular file");
    } else if (rc == GENARM_OK && st.st_size == 0) {
        rc = error_set(err, GENARM_EFORMAT, "the file is empty");
    }
    if (rc == GENARM_OK) {
        void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) {
            rc = io_error(err, "map the file");
        } else {
            f->map = map;
            f->size = (size_t)st.st_size;
        }
    }
    close(fd);
    return rc;
}

int gguf_file_open(struct gguf_file *f, const char *path, struct genarm_error *err) {
    model_runtime_init();
    struct gguf_file opened = {.path = strdup(path)};
    int rc = opened.path ? map_file(&opened, err) : error_nomem(err, "a file name");
    rc = rc == GENARM_OK ? gguf_check_bytes(opened.map, opened.size, path, err) : rc;
    if (rc == GENARM_OK) {
        runtime_forget_error();
        opened.gguf = guard_gguf_parse(opened.map, opened.size, &opened.tensors);
        if (!opened.gguf) { /* the check is meant to find everything that ggml refuses */
            rc = error_set(err, GENARM_EFORMAT, "ggml cannot read the file: %s%s", runtime_first_error(),
                           guard_reason());
        }
    }
    if (rc != GENARM_OK) {
        gguf_file_close(&opened);
        return error_at(err, rc, "%s", path);
    }
    *f = opened;
    return GENARM_OK;
}

void gguf_file_close(struct gguf_file *f) {
    gguf_free(f->gguf);
    ggml_free(f->tensors);
    if (f->map) {
        munmap((void *)(uintptr_t)f->map, f->size);
    }
    free(f->path);
    *f = (struct gguf_file){0};
}

const void *gguf_file_data(const struct gguf_file *f, const char *tensor) {
    const int64_t id = gguf_find_tensor(f->gguf, tensor);
    return id < 0 ? NULL : f->map + gguf_get_data_offset(f->gguf) + gguf_get_tensor_offset(f->gguf, id);
}

/* ---- metadata ---- */

/* *id: of a key with a value of this type, or -1 when there is none. */
static int find(int64_t *id, const struct gguf_context *g, const char *key, enum gguf_type type, bool required,
                struct genarm_error *err) {
    *id = gguf_find_key(g, key);
    if (*id < 0) {
        return required ? error_set(err, GENARM_EFORMAT, "the metadata has no %s", key) : GENARM_OK;
    }
    const enum gguf_type got = gguf_get_kv_type(g, *id);
    if (got == GGUF_TYPE_ARRAY) {
        return error_set(err, GENARM_EUNSUPPORTED, "%s is an array: one value for all layers is supported", key);
    }
    return got == type ? GENARM_OK
                       : error_set(err, GENARM_EFORMAT, "%s has type %s, not %s", key, gguf_type_name(got),
                                   gguf_type_name(type));
}

static int get_u32(uint32_t *out, const struct gguf_context *g, const char *key, bool required, uint32_t fallback,
                   struct genarm_error *err) {
    int64_t id;
    const int rc = find(&id, g, key, GGUF_TYPE_UINT32, required, err);
    if (rc == GENARM_OK) {
        *out = id < 0 ? fallback : gguf_get_val_u32(g, id);
    }
    return rc;
}

int gguf_need_u32(uint32_t *out, const struct gguf_context *g, const char *key, struct genarm_error *err) {
    return get_u32(out, g, key, true, 0, err);
}

int gguf_opt_u32(uint32_t *out, const struct gguf_context *g, const char *key, uint32_t fallback,
                 struct genarm_error *err) {
    return get_u32(out, g, key, false, fallback, err);
}

static int get_f32(float *out, const struct gguf_context *g, const char *key, bool required, float fallback,
                   struct genarm_error *err) {
    int64_t id;
    const int rc = find(&id, g, key, GGUF_TYPE_FLOAT32, required, err);
    if (rc == GENARM_OK) {
        *out = id < 0 ? fallback : gguf_get_val_f32(g, id);
    }
    return rc;
}

int gguf_need_f32(float *out, const struct gguf_context *g, const char *key, struct genarm_error *err) {
    return get_f32(out, g, key, true, 0.0f, err);
}

int gguf_opt_f32(float *out, const struct gguf_context *g, const char *key, float fallback, struct genarm_error *err) {
    return get_f32(out, g, key, false, fallback, err);
}

int gguf_opt_bool(bool *out, const struct gguf_context *g, const char *key, bool fallback, struct genarm_error *err) {
    int64_t id;
    const int rc = find(&id, g, key, GGUF_TYPE_BOOL, false, err);
    if (rc == GENARM_OK) {
        *out = id < 0 ? fallback : gguf_get_val_bool(g, id);
    }
    return rc;
}

static int get_str(const char **out, const struct gguf_context *g, const char *key, bool required, const char *fallback,
                   struct genarm_error *err) {
    int64_t id;
    const int rc = find(&id, g, key, GGUF_TYPE_STRING, required, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    const char *value = id < 0 ? fallback : gguf_get_val_str(g, id);
    if (id >= 0 && !utf8_valid(value, strlen(value))) {
        return error_set(err, GENARM_EFORMAT, "%s is not UTF-8 text", key);
    }
    *out = value;
    return GENARM_OK;
}

int gguf_need_str(const char **out, const struct gguf_context *g, const char *key, struct genarm_error *err) {
    return get_str(out, g, key, true, NULL, err);
}

int gguf_opt_str(const char **out, const struct gguf_context *g, const char *key, const char *fallback,
                 struct genarm_error *err) {
    return get_str(out, g, key, false, fallback, err);
}
