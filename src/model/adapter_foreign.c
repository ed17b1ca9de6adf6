/* An adapter of a model that libllama runs: checked here, read by libllama when an engine wants it. */
#include <ggml.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "model/adapter.h"
#include "model/model.h"

enum { MAX_RANK = 1 << 16 };

/* "blk.0.attn_qkv.weight.lora_a" -> "blk.0.attn_qkv.weight" and whether it is an A. False: not of this form. */
static bool map_of(char map[GGML_MAX_NAME], bool *is_a, const char *name) {
    const size_t n = strlen(name), suffix = sizeof ".lora_a" - 1;
    const char *end = n > suffix ? name + n - suffix : "";
    if (n >= GGML_MAX_NAME || (strcmp(end, ".lora_a") != 0 && strcmp(end, ".lora_b") != 0)) {
        return false;
    }
    *is_a = name[n - 1] == 'a';
    memcpy(map, name, n - suffix);
    map[n - suffix] = '\0';
    return true;
}

static const struct ggml_tensor *partner(const struct gguf_file *file, const char *map, bool of_a) {
    char name[GGML_MAX_NAME + 8];
    snprintf(name, sizeof name, "%s.lora_%c", map, of_a ? 'b' : 'a');
    return ggml_get_tensor(file->tensors, name);
}

static int another_model(struct genarm_error *err, int rc) {
    return error_hint(err, rc, "the adapter was made for another model: give the one it was trained on");
}

/* a [n_in, rank] and b [rank, n_out] on w [n_in, n_out]; of the embeddings, whose rows are looked up, it is the other way
 * round: a [rank, n_out], b [rank, n_in]. A stack of experts is a third axis. */
static int check_shapes(const struct ggml_tensor *a, const struct ggml_tensor *b, const struct ggml_tensor *w,
                        struct genarm_error *err) {
    const bool looked_up = strcmp(w->name, "token_embd.weight") == 0;
    const int64_t rank = b->ne[0];
    const bool fits = looked_up ? a->ne[1] == w->ne[1] && b->ne[1] == w->ne[0] && a->ne[0] == rank
                                : a->ne[0] == w->ne[0] && b->ne[1] == w->ne[1] && a->ne[1] == rank;
    if (!fits || a->ne[2] != b->ne[2] || (a->ne[2] != 1 && a->ne[2] != w->ne[2]) || a->ne[3] != 1 || b->ne[3] != 1) {
        const int rc = error_set(err, GENARM_EMISMATCH,
                                 "tensor %s has shape [%lld, %lld], its lora_b [%lld, %lld]; the model's map has [%lld, %lld]",
                                 a->name, (long long)a->ne[0], (long long)a->ne[1], (long long)b->ne[0], (long long)b->ne[1],
                                 (long long)w->ne[0], (long long)w->ne[1]);
        return another_model(err, rc);
    }
    return rank <= MAX_RANK ? GENARM_OK : error_set(err, GENARM_EFORMAT, "tensor %s has rank %lld", a->name, (long long)rank);
}

/* Continues *hash over the numbers. */
static int check_values(const struct gguf_file *file, const struct ggml_tensor *t, uint64_t *hash, struct genarm_error *err) {
    const int64_t n = ggml_nelements(t);
    if (adapter_check_type(t, err) != GENARM_OK) {
        return GENARM_EUNSUPPORTED;
    }
    float *f32 = malloc((size_t)n * sizeof *f32);
    if (!f32) {
        return error_nomem(err, "an adapter");
    }
    if (t->type == GGML_TYPE_F32) {
        memcpy(f32, gguf_file_data(file, t->name), (size_t)n * sizeof *f32);
    } else {
        ggml_get_type_traits(t->type)->to_float(gguf_file_data(file, t->name), f32, n);
    }
    int rc = GENARM_OK;
    for (int64_t i = 0; i < n && rc == GENARM_OK; i++) {
        if (!isfinite(f32[i])) {
            rc = error_set(err, GENARM_EFORMAT, "tensor %s has a value that is not finite (%g at %lld)", t->name,
                           (double)f32[i], (long long)i);
        }
    }
    *hash = hash_bytes(*hash, f32, (size_t)n * sizeof *f32);
    free(f32);
    return rc;
}

static int check_tensor(struct genarm_adapter *ad, const struct gguf_file *file, const struct ggml_tensor *t,
                        struct genarm_error *err) {
    char map[GGML_MAX_NAME];
    bool is_a;
    if (!map_of(map, &is_a, t->name)) {
        return error_set(err, GENARM_EUNSUPPORTED, "tensor %s is neither a lora_a nor a lora_b", t->name);
    }
    const struct ggml_tensor *w = ggml_get_tensor(ad->model->weights.file.tensors, map), *other = partner(file, map, is_a);
    if (!w) {
        return another_model(err, error_set(err, GENARM_EMISMATCH, "tensor %s: the model has no %s", t->name, map));
    }
    if (!other) {
        return error_set(err, GENARM_EFORMAT, "tensor %s has no counterpart lora_%c", t->name, is_a ? 'b' : 'a');
    }
    int rc = is_a ? check_shapes(t, other, w, err) : GENARM_OK;
    ad->hash = hash_bytes(ad->hash, t->name, strlen(t->name) + 1);
    rc = rc == GENARM_OK ? check_values(file, t, &ad->hash, err) : rc;
    if (rc == GENARM_OK) {
        ad->rank = !is_a && t->ne[0] > ad->rank ? (int32_t)t->ne[0] : ad->rank;
        ad->n_params += ggml_nelements(t);
    }
    return rc;
}

int adapter_check_foreign(struct genarm_adapter *ad, const struct gguf_file *file, struct genarm_error *err) {
    int rc = GENARM_OK;
    ad->hash = hash_bytes(HASH_START, &ad->alpha, sizeof ad->alpha);
    for (struct ggml_tensor *t = ggml_get_first_tensor(file->tensors); t && rc == GENARM_OK;
         t = ggml_get_next_tensor(file->tensors, t)) {
        rc = adapter_reads(ad, t) ? check_tensor(ad, file, t, err) : GENARM_OK;
    }
    return rc;
}
