/* A GGUF adapter becomes a PEFT adapter. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "convert/metadata.h"
#include "convert/peft.h"
#include "convert/safetensors.h"
#include "model/adapter.h"
#include "model/model.h"

enum { MAX_TEXT = 64 << 20 /* bytes of metadata */ };

struct exporter {
    const struct genarm_model *model;
    struct genarm_adapter *adapter;
    struct gguf_file file; /* the adapter's, for its metadata */
    const char *base_model;
    struct safetensors_tensor *tensors; /* [n_tensors], A and B of each map */
    char (*names)[PEFT_NAME_MAX];       /* [n_tensors] */
    float **values;                     /* [n_tensors] */
    size_t n_tensors;
    struct genarm_error *err;
};

/* ---- tensors ---- */

/* Copies A or B to the host, rows in PyTorch's order. */
static int copy_values(struct exporter *ex, float **out, const struct ggml_tensor *t, int32_t heads) {
    const size_t size = ggml_nbytes(t);
    float *values = malloc(size), *rows = heads ? malloc(size) : NULL;
    if (!values || (heads && !rows)) {
        free(values);
        free(rows);
        return error_nomem(ex->err, "an adapter");
    }
    ggml_backend_tensor_get(t, heads ? rows : values, 0, size);
    if (heads) {
        peft_rows_from_gguf(values, rows, t->ne[1], t->ne[0], heads);
    }
    free(rows);
    *out = values;
    return GENARM_OK;
}

static int add_tensor(struct exporter *ex, const struct peft_place *p, const struct ggml_tensor *t) {
    const size_t i = ex->n_tensors;
    const int32_t heads = p->is_b ? peft_permuted_heads(&ex->model->hp, p->linear) : 0;
    const int rc = copy_values(ex, &ex->values[i], t, heads);
    if (rc != GENARM_OK) {
        return rc;
    }
    peft_tensor_name(ex->names[i], p);
    ex->tensors[i] = (struct safetensors_tensor){.name = ex->names[i],
                                                 .type = SAFETENSORS_F32,
                                                 .n_dims = 2,
                                                 .shape = {t->ne[1], t->ne[0]},
                                                 .data = ex->values[i]};
    ex->n_tensors++;
    return GENARM_OK;
}

static int add_tensors(struct exporter *ex) {
    const int32_t n_layer = ex->adapter->n_layer;
    const size_t n = 2 * LINEAR_COUNT * (size_t)n_layer + 1; /* and a head */
    ex->tensors = calloc(n, sizeof *ex->tensors);
    ex->names = calloc(n, sizeof *ex->names);
    ex->values = calloc(n, sizeof *ex->values);
    int rc = ex->tensors && ex->names && ex->values ? GENARM_OK : error_nomem(ex->err, "an adapter");
    for (int32_t l = 0; l < n_layer; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            const struct lora *x = &ex->adapter->layers[l][t];
            for (int b = 0; rc == GENARM_OK && x->a && b < 2; b++) {
                const struct peft_place place = {.layer = l, .linear = (enum linear)t, .is_b = b};
                rc = add_tensor(ex, &place, b ? x->b : x->a);
            }
        }
    }
    return rc;
}

/* The head of a reward model, as PEFT keeps a module that was trained whole. */
static int add_head(struct exporter *ex) {
    const struct adapter_info *info = &ex->adapter->info;
    const size_t i = ex->n_tensors, size = info->n_head * sizeof *info->head;
    ex->values[i] = malloc(size);
    if (!ex->values[i]) {
        return error_nomem(ex->err, "an adapter");
    }
    memcpy(ex->values[i], info->head, size);
    ex->tensors[i] = (struct safetensors_tensor){.name = PEFT_HEAD,
                                                 .type = SAFETENSORS_F32,
                                                 .n_dims = 2,
                                                 .shape = {1, (int64_t)info->n_head},
                                                 .data = ex->values[i]};
    ex->n_tensors++;
    return GENARM_OK;
}

static int write_tensors(struct exporter *ex, const char *path) {
    json_t *kept = NULL, *metadata = NULL;
    struct buf text;
    buf_init(&text, MAX_TEXT);
    int rc = metadata_to_json(&kept, ex->file.gguf, ex->err);
    rc = rc == GENARM_OK ? json_dump(&text, kept, ex->err) : rc;
    if (rc == GENARM_OK) {
        metadata = json_pack("{s:s, s:s}", "format", "pt", PEFT_METADATA, text.data);
        rc = metadata ? safetensors_write(path, ex->tensors, ex->n_tensors, metadata, ex->err)
                      : error_nomem(ex->err, "metadata");
    }
    json_decref(metadata);
    json_decref(kept);
    buf_deinit(&text);
    return rc;
}

/* ---- adapter_config.json ---- */

/* Whether all layers adapt this map. */
static bool in_all_layers(const struct genarm_adapter *ad, int l) {
    int32_t n = 0;
    for (int32_t i = 0; i < ad->n_layer; i++) {
        n += ad->layers[i][l].a != NULL;
    }
    return n == ad->n_layer;
}

/* Names that hold for all layers, and whole paths where only some are adapted. */
static json_t *target_modules(const struct genarm_adapter *ad) {
    json_t *list = json_array();
    char path[PEFT_NAME_MAX];
    for (int t = 0; t < LINEAR_COUNT; t++) {
        if (in_all_layers(ad, t)) {
            json_array_append_new(list, json_string(peft_module_name((enum linear)t)));
            continue;
        }
        for (int32_t l = 0; l < ad->n_layer; l++) {
            if (ad->layers[l][t].a) {
                snprintf(path, sizeof path, "model.layers.%d.%s", l, peft_module_path((enum linear)t));
                json_array_append_new(list, json_string(path));
            }
        }
    }
    return list;
}

/* Module -> rank, for those whose rank is another than `rank`. */
static json_t *rank_pattern(const struct genarm_adapter *ad, int64_t rank) {
    json_t *object = json_object();
    char path[PEFT_NAME_MAX];
    for (int32_t l = 0; l < ad->n_layer; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            const struct lora *x = &ad->layers[l][t];
            if (x->a && x->a->ne[1] != rank) {
                snprintf(path, sizeof path, "layers.%d.%s", l, peft_module_path((enum linear)t));
                json_object_set_new(object, path, json_integer((json_int_t)x->a->ne[1]));
            }
        }
    }
    return object;
}

/* PEFT expects a whole number where it can be one. */
static json_t *alpha_json(float alpha) {
    return alpha == truncf(alpha) && fabsf(alpha) < 1e15f ? json_integer((json_int_t)alpha) : json_real((double)alpha);
}

static json_t *make_config(const struct exporter *ex) {
    const struct genarm_adapter *ad = ex->adapter;
    const int64_t rank = ex->tensors[0].shape[0]; /* the first A's */
    json_t *ranks = rank_pattern(ad, rank);
    /* Without an alpha every scale is 1: each module's alpha is its rank. */
    json_t *alphas = ad->alpha == 0 ? json_deep_copy(ranks) : json_object();
    json_t *alpha = ad->alpha == 0 ? json_integer((json_int_t)rank) : alpha_json(ad->alpha);
    const bool head = ad->info.head != NULL;
    json_t *saved = head ? json_pack("[s]", PEFT_HEAD_MODULE) : json_null();
    return json_pack("{s:s, s:s, s:s?, s:I, s:o, s:o, s:o, s:o, s:f, s:s, s:b, s:b, s:b, s:o, s:b, s:b}", "peft_type",
                     "LORA", "task_type", head ? "SEQ_CLS" : "CAUSAL_LM", "base_model_name_or_path", ex->base_model,
                     "r", (json_int_t)rank, "lora_alpha", alpha, "target_modules", target_modules(ad), "rank_pattern",
                     ranks, "alpha_pattern", alphas, "lora_dropout", 0.0, "bias", "none", "fan_in_fan_out", 0,
                     "use_rslora", 0, "use_dora", 0, "modules_to_save", saved, "init_lora_weights", 1, "inference_mode",
                     1);
}

static int write_config(const struct exporter *ex, const char *path) {
    json_t *config = make_config(ex);
    char *text = config ? json_dumps(config, JSON_INDENT(2)) : NULL;
    json_decref(config);
    if (!text) {
        return error_nomem(ex->err, "a configuration");
    }
    struct file_writer file;
    int rc = file_open(&file, path, ex->err);
    if (rc == GENARM_OK) {
        fprintf(file.stream, "%s\n", text); /* failures are collected by file_commit */
        rc = file_commit(&file, ex->err);
    }
    free(text);
    return rc;
}

/* ---- all of it ---- */

/* Puts the tensors in place without the configuration of an adapter that was there before: no new numbers meet an old scale. */
static int place_tensors(const struct exporter *ex, const char *staged, const char *tensors, const char *config) {
    if ((unlink(config) != 0 && errno != ENOENT) || rename(staged, tensors) != 0 || !file_sync_folder(tensors)) {
        const int rc = error_set(ex->err, GENARM_EIO, "cannot put the file in place: %s", strerror(errno));
        unlink(staged);
        return error_at(ex->err, rc, "%s", tensors);
    }
    return GENARM_OK;
}

/* The tensors first: with its configuration the folder is whole. Until they are on disk what was there before stays. */
static int write_folder(struct exporter *ex, const char *folder) {
    const size_t size = strlen(folder) + sizeof "/" PEFT_TENSORS ".new";
    char *paths = malloc(3 * size), *staged = paths, *tensors = paths + size, *config = paths + 2 * size;
    if (!paths) {
        return error_nomem(ex->err, "a file name");
    }
    snprintf(staged, size, "%s/" PEFT_TENSORS ".new", folder);
    snprintf(tensors, size, "%s/" PEFT_TENSORS, folder);
    snprintf(config, size, "%s/" PEFT_CONFIG, folder);
    int rc = file_make_folder(folder, ex->err);
    rc = rc == GENARM_OK ? write_tensors(ex, staged) : rc;
    rc = rc == GENARM_OK ? place_tensors(ex, staged, tensors, config) : rc;
    rc = rc == GENARM_OK ? write_config(ex, config) : rc;
    free(paths);
    return rc;
}

int genarm_adapter_to_peft(const struct genarm_model *model, const char *adapter, const char *folder,
                           const char *base_model, struct genarm_error *err) {
    struct exporter ex = {.model = model, .base_model = base_model, .err = err};
    int rc = model_need_graph(model, "converting an adapter", err);
    rc = rc == GENARM_OK ? genarm_adapter_load(&ex.adapter, model, adapter, err) : rc;
    rc = rc == GENARM_OK ? gguf_file_open(&ex.file, adapter, err) : rc;
    if (rc == GENARM_OK && !base_model) {
        rc = error_at(err, gguf_opt_str(&ex.base_model, ex.file.gguf, PEFT_BASE_KEY, NULL, err), "%s", adapter);
    }
    rc = rc == GENARM_OK ? add_tensors(&ex) : rc;
    rc = rc == GENARM_OK && ex.adapter->info.head ? add_head(&ex) : rc;
    rc = rc == GENARM_OK ? error_at(err, write_folder(&ex, folder), "%s", adapter) : rc;
    for (size_t i = 0; i < ex.n_tensors; i++) {
        free(ex.values[i]);
    }
    free(ex.values);
    free(ex.names);
    free(ex.tensors);
    gguf_file_close(&ex.file);
    genarm_adapter_free(ex.adapter);
    return rc;
}
