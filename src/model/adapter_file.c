/* Writing a LoRA adapter in llama.cpp's GGUF format. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/adapter.h"

struct writer {
    struct gguf_context *gguf;
    struct ggml_context *names; /* no_alloc: the tensors as the file calls them, in its order */
    int32_t n_layer;
    struct lora (*layers)[LINEAR_COUNT];
    struct file_writer file;
    const char *path;
    struct genarm_error *err;
};

static void set_optional(struct gguf_context *g, const char *key, const char *value) {
    if (value) {
        gguf_set_val_str(g, key, value);
    }
}

void adapter_metadata(struct gguf_context *g, enum arch arch, float alpha, const struct adapter_info *info) {
    gguf_set_val_str(g, "general.architecture", arch_name(arch));
    gguf_set_val_str(g, "general.type", "adapter");
    gguf_set_val_str(g, "adapter.type", "lora");
    if (alpha != 0.0f) {
        gguf_set_val_f32(g, "adapter.lora.alpha", alpha);
    }
    if (info) {
        set_optional(g, "genarm.loss", info->loss);
        set_optional(g, "genarm.template", info->template_);
        set_optional(g, "genarm.base", info->base_hash);
        set_optional(g, "genarm.data", info->data_hash);
        if (info->beta != 0.0f) {
            gguf_set_val_f32(g, "genarm.beta", info->beta);
        }
        objectives_write(g, &info->objectives);
    }
    if (info && info->head) {
        gguf_set_arr_data(g, "genarm.head", GGUF_TYPE_FLOAT32, info->head, info->n_head);
    }
}

static int check_head(struct writer *w) {
    const int64_t id = gguf_find_key(w->gguf, "genarm.head");
    const bool there = id >= 0 && gguf_get_kv_type(w->gguf, id) == GGUF_TYPE_ARRAY &&
                       gguf_get_arr_type(w->gguf, id) == GGUF_TYPE_FLOAT32;
    const float *head = there ? gguf_get_arr_data(w->gguf, id) : NULL;
    for (size_t i = 0; there && i < gguf_get_arr_n(w->gguf, id); i++) {
        if (!isfinite(head[i])) {
            const int rc = error_set(w->err, GENARM_EDIVERGED,
                                     "genarm.head has a value that is not finite, so the adapter was not written");
            return error_at(w->err, rc, "%s", w->path);
        }
    }
    return GENARM_OK;
}

/* Calls `each` for every A and B, in the order of the file; stops at the first failure. */
static int for_tensors(struct writer *w, int (*each)(struct writer *w, const struct ggml_tensor *t, const char *name)) {
    int rc = GENARM_OK;
    for (int32_t i = 0; i < w->n_layer; i++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            const struct lora *x = &w->layers[i][t];
            for (int b = 0; rc == GENARM_OK && x->a && b < 2; b++) {
                char name[GGML_MAX_NAME];
                snprintf(name, sizeof name, "blk.%d.%s.weight.lora_%c", i, linear_tensor_name((enum linear)t),
                         b ? 'b' : 'a');
                rc = each(w, b ? x->b : x->a, name);
            }
        }
    }
    return rc;
}

static int add_name(struct writer *w, const struct ggml_tensor *t, const char *name) {
    struct ggml_tensor *named = ggml_new_tensor_2d(w->names, GGML_TYPE_F32, t->ne[0], t->ne[1]);
    ggml_set_name(named, name);
    gguf_add_tensor(w->gguf, named);
    return GENARM_OK;
}

/* Writes a tensor's values and the padding after it. */
static int write_values(struct writer *w, const struct ggml_tensor *t, const char *name) {
    const size_t n = (size_t)ggml_nelements(t), size = n * sizeof(float), align = gguf_get_alignment(w->gguf);
    float *copy = malloc(size);
    if (!copy) {
        return error_nomem(w->err, "an adapter");
    }
    if (t->buffer) {
        ggml_backend_tensor_get(t, copy, 0, size);
    } else {
        memcpy(copy, t->data, size);
    }
    int rc = GENARM_OK;
    for (size_t i = 0; rc == GENARM_OK && i < n; i++) {
        if (!isfinite(copy[i])) {
            rc = error_set(w->err, GENARM_EDIVERGED,
                           "tensor %s has a value that is not finite, so the adapter was not written", name);
            error_at(w->err, rc, "%s", w->path);
        }
    }
    static const char zeros[64];
    fwrite(copy, 1, size, w->file.stream); /* failures are collected by file_commit */
    for (size_t pad = (align - size % align) % align; pad > 0;) {
        const size_t some = pad < sizeof zeros ? pad : sizeof zeros;
        fwrite(zeros, 1, some, w->file.stream);
        pad -= some;
    }
    free(copy);
    return rc;
}

static int write_file(struct writer *w) {
    int rc = file_open(&w->file, w->path, w->err);
    if (rc != GENARM_OK) {
        return rc;
    }
    const size_t size = gguf_get_meta_size(w->gguf);
    void *meta = malloc(size);
    if (meta) {
        gguf_get_meta_data(w->gguf, meta);
        fwrite(meta, 1, size, w->file.stream);
    }
    rc = meta ? for_tensors(w, write_values) : error_nomem(w->err, "an adapter");
    free(meta);
    if (rc == GENARM_OK) {
        return file_commit(&w->file, w->err);
    }
    file_abort(&w->file);
    return rc;
}

int adapter_write(const char *path, int32_t n_layer, struct lora (*layers)[LINEAR_COUNT],
                  const struct gguf_context *metadata, struct genarm_error *err) {
    const size_t n = 2 * LINEAR_COUNT * (size_t)n_layer;
    struct writer w = {
        .gguf = gguf_init_empty(),
        .names = ggml_init((struct ggml_init_params){.mem_size = n * ggml_tensor_overhead(), .no_alloc = true}),
        .n_layer = n_layer,
        .layers = layers,
        .path = path,
        .err = err,
    };
    int rc = w.gguf && w.names ? GENARM_OK : error_nomem(err, "an adapter");
    if (rc == GENARM_OK) {
        gguf_set_kv(w.gguf, metadata);
        rc = check_head(&w);
    }
    rc = rc == GENARM_OK ? for_tensors(&w, add_name) : rc;
    if (rc == GENARM_OK && gguf_get_n_tensors(w.gguf) == 0) {
        rc = error_set(err, GENARM_EINVAL, "an adapter without a target cannot be written");
    }
    rc = rc == GENARM_OK ? write_file(&w) : rc;
    ggml_free(w.names);
    gguf_free(w.gguf);
    return rc;
}

int adapter_save(const char *path, const struct hparams *hp, struct lora (*layers)[LINEAR_COUNT], float alpha,
                 const struct adapter_info *info, struct genarm_error *err) {
    struct gguf_context *metadata = gguf_init_empty();
    if (!metadata) {
        return error_nomem(err, "an adapter");
    }
    adapter_metadata(metadata, hp->arch, alpha, info);
    const int rc = adapter_write(path, hp->n_layer, layers, metadata, err);
    gguf_free(metadata);
    return rc;
}
