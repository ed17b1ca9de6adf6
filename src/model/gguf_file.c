/* An open GGUF: mapped, checked, parsed by ggml; and look-ups in its metadata. */
#include <ggml.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/utf8.h"
#include "model/gguf_check.h"
#include "model/llama_guard.h"
#include "model/runtime.h"

/* Those who come from Hugging Face name its folders: they are told what makes a GGUF file of them. */
static int check_no_folder(const char *path, struct genarm_error *err) {
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        return GENARM_OK;
    }
    const bool adapter = file_exists_in(path, "adapter_config.json"), model = !adapter && file_exists_in(path, "config.json");
    const int rc = error_set(err, GENARM_EIO, "is a folder%s",
                             adapter ? " with a PEFT adapter" : model ? " with a Hugging Face model" : "");
    if (adapter) {
        error_hint(err, rc, "make a GGUF file of it: genarm convert -m BASE.gguf %s -o ARM.gguf", path);
    } else if (model) {
        error_hint(err, rc, "make a GGUF file of it with llama.cpp's convert_hf_to_gguf.py");
    }
    return error_at(err, rc, "%s", path);
}

int gguf_file_open(struct gguf_file *f, const char *path, struct genarm_error *err) {
    model_runtime_init();
    struct gguf_file opened = {.path = strdup(path)};
    int rc = opened.path ? check_no_folder(path, err) : error_nomem(err, "a file name");
    rc = rc == GENARM_OK ? file_map(&opened.map, &opened.size, path, err) : rc;
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
    file_unmap(f->map, f->size);
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

int file_is_adapter(const char *path, bool *is_adapter, struct genarm_error *err) {
    struct gguf_file file = {0};
    const char *type;
    int rc = gguf_file_open(&file, path, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    rc = error_at(err, gguf_opt_str(&type, file.gguf, "general.type", "model", err), "%s", path);
    if (rc == GENARM_OK) {
        *is_adapter = strcmp(type, "adapter") == 0;
    }
    gguf_file_close(&file);
    return rc;
}
