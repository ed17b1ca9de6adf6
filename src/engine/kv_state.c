#include "engine/kv_state.h"

#include <ggml-cpu.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/cpu.h"
#include "ops/rope.h"

#define MAGIC "KVROWS1" /* with its NUL: 8 bytes */

struct kv_head {
    char magic[8];
    int32_t n_layer, n_embd_kv, n_pos, type_k, type_v; /* types are ggml's numbers */
    int32_t unused;
};

static struct kv_head head_of(const struct kv_sequence *s, int32_t n_pos) {
    return (struct kv_head){.magic = MAGIC,
                            .n_layer = s->hp->n_layer,
                            .n_embd_kv = hparams_n_embd_kv(s->hp),
                            .n_pos = n_pos,
                            .type_k = (int32_t)s->layers[0].k->type,
                            .type_v = (int32_t)s->layers[0].v->type};
}

/* Bytes of n_pos columns, and where a position's column is. */
static size_t size_of(const struct ggml_tensor *cache, int32_t n_pos) { return cache->nb[1] * (size_t)n_pos; }
static size_t at(const struct kv_sequence *s, const struct ggml_tensor *cache, int32_t pos) {
    return cache->nb[1] * (size_t)(s->first + pos);
}

/* ---- bytes ---- */

int kv_save(const struct kv_sequence *s, int32_t n_pos, struct buf *out, struct genarm_error *err) {
    const struct kv_head head = head_of(s, n_pos);
    const size_t n_k = size_of(s->layers[0].k, n_pos), n_v = size_of(s->layers[0].v, n_pos);
    char *columns = malloc(n_k + n_v + 1);
    int rc = columns ? buf_append(out, &head, sizeof head, err) : error_nomem(err, "a copy of the KV cache");
    for (int32_t l = 0; l < s->hp->n_layer && rc == GENARM_OK; l++) {
        const struct kv_layer *kv = &s->layers[l];
        if (n_pos > 0) {
            ggml_backend_tensor_get(kv->k, columns, at(s, kv->k, 0), n_k);
            ggml_backend_tensor_get(kv->v, columns + n_k, at(s, kv->v, 0), n_v);
        }
        rc = buf_append(out, columns, n_k + n_v, err);
    }
    free(columns);
    return rc;
}

static const char *type_text(int32_t type) {
    return type >= 0 && type < GGML_TYPE_COUNT ? ggml_type_name((enum ggml_type)type) : "an unknown type";
}

static int check_saved(const struct kv_sequence *s, int32_t n_pos, const struct kv_head *is, size_t n,
                       struct genarm_error *err) {
    const struct kv_head want = head_of(s, n_pos);
    if (memcmp(is->magic, want.magic, sizeof want.magic) != 0) {
        const int rc = error_set(err, GENARM_EMISMATCH, "the saved KV cache is of another kind of engine");
        return error_hint(err, rc, "use the engine that it was saved with (--engine)");
    }
    if (is->n_layer != want.n_layer || is->n_embd_kv != want.n_embd_kv) {
        return error_set(err, GENARM_EMISMATCH, "the saved KV cache is of %d layers of %d numbers, the model has %d of %d",
                         is->n_layer, is->n_embd_kv, want.n_layer, want.n_embd_kv);
    }
    if (is->type_k != want.type_k || is->type_v != want.type_v) {
        const int rc =
            error_set(err, GENARM_EMISMATCH, "the saved KV cache holds keys in %s and values in %s, not in %s and %s",
                      type_text(is->type_k), type_text(is->type_v), type_text(want.type_k), type_text(want.type_v));
        return error_hint(err, rc, "use the types that it was saved with (-ctk, -ctv)");
    }
    const size_t columns = size_of(s->layers[0].k, n_pos) + size_of(s->layers[0].v, n_pos);
    if (is->n_pos != n_pos || n != sizeof want + columns * (size_t)want.n_layer) {
        return error_set(err, GENARM_EFORMAT, "the saved KV cache has another size than %d positions have", n_pos);
    }
    return GENARM_OK;
}

void kv_clear(const struct kv_sequence *s, int32_t n_ctx) {
    for (int32_t l = 0; l < s->hp->n_layer; l++) {
        struct ggml_tensor *const both[] = {s->layers[l].k, s->layers[l].v};
        for (int i = 0; i < 2; i++) {
            ggml_backend_tensor_memset(both[i], 0, at(s, both[i], 0), size_of(both[i], n_ctx));
        }
    }
}

int kv_load(const struct kv_sequence *s, int32_t n_pos, const void *data, size_t n, struct genarm_error *err) {
    struct kv_head head;
    if (n < sizeof head) {
        return error_set(err, GENARM_EFORMAT, "the saved KV cache is cut short");
    }
    memcpy(&head, data, sizeof head);
    const int rc = check_saved(s, n_pos, &head, n, err);
    const char *columns = (const char *)data + sizeof head;
    for (int32_t l = 0; l < s->hp->n_layer && rc == GENARM_OK && n_pos > 0; l++) {
        struct ggml_tensor *both[] = {s->layers[l].k, s->layers[l].v};
        for (int i = 0; i < 2; i++) {
            ggml_backend_tensor_set(both[i], columns, at(s, both[i], 0), size_of(both[i], n_pos));
            columns += size_of(both[i], n_pos);
        }
    }
    return rc;
}

/* ---- moving down ---- */

/* Rotations add up, so a key at p becomes one at p - n_drop by the rotation of position -n_drop, whatever scales the
 * frequencies. The magnitude that YaRN gives keys is in them already: here it is 1. */
static void rotation_back(const struct kv_sequence *s, int32_t n_drop, const float *factors, float *table) {
    const struct hparams *hp = s->hp;
    const struct rope_params params = {
        .n_rot = hp->n_rot, .neox = hp->rope_mode == GGML_ROPE_TYPE_NEOX, .n_ctx_orig = hp->n_ctx_orig,
        .freq_base = hp->rope_freq_base, .freq_scale = hp->rope_freq_scale, .ext_factor = hp->rope_ext_factor,
        .attn_factor = hp->rope_ext_factor != 0 ? 1.0f / (1.0f + 0.1f * logf(1.0f / hp->rope_freq_scale)) : 1.0f,
        .beta_fast = hp->rope_beta_fast, .beta_slow = hp->rope_beta_slow,
    };
    rope_table(&params, factors, -n_drop, table);
}

/* Rotates the heads of n columns in place, in f32; `key` [n_embd_kv] is scratch. */
static void rotate_columns(const struct kv_sequence *s, const float *table, enum ggml_type type, char *columns, size_t column,
                           int32_t n, float *key) {
    const struct hparams *hp = s->hp;
    const struct kernels *kernels = cpu_kernels(NULL);
    const int64_t n_embd = hparams_n_embd_kv(hp);
    for (int32_t i = 0; i < n; i++, columns += column) {
        if (type == GGML_TYPE_F32) {
            memcpy(key, columns, column);
        } else {
            ggml_get_type_traits(type)->to_float(columns, key, n_embd);
        }
        for (int32_t h = 0; h < hp->n_head_kv; h++) {
            float *head = key + (ptrdiff_t)h * hp->n_embd_head;
            kernels->rope(head, head, table, hp->n_embd_head, hp->n_rot, hp->rope_mode == GGML_ROPE_TYPE_NEOX, false);
        }
        if (type == GGML_TYPE_F32) {
            memcpy(columns, key, column);
        } else {
            ggml_get_type_traits_cpu(type)->from_float(key, columns, n_embd);
        }
    }
}

int kv_shift(const struct kv_sequence *s, int32_t keep, int32_t n_drop, int32_t n_pos, struct genarm_error *err) {
    const int32_t from = keep + n_drop, n = n_pos - from;
    const size_t n_k = size_of(s->layers[0].k, n), n_v = size_of(s->layers[0].v, n);
    const size_t n_table = 2 * (size_t)s->hp->n_rot, n_key = (size_t)hparams_n_embd_kv(s->hp);
    if (n <= 0 || n_drop == 0) {
        return GENARM_OK;
    }
    float *table = malloc((n_table + n_key + (size_t)s->hp->n_rot) * sizeof *table), *key = table ? table + n_table : NULL;
    char *columns = malloc(n_k > n_v ? n_k : n_v);
    if (!table || !columns) {
        free(table);
        free(columns);
        return error_nomem(err, "a copy of the KV cache");
    }
    float *factors = s->rope_freqs ? key + n_key : NULL;
    if (factors) {
        ggml_backend_tensor_get(s->rope_freqs, factors, 0, ggml_nbytes(s->rope_freqs));
    }
    rotation_back(s, n_drop, factors, table);
    for (int32_t l = 0; l < s->hp->n_layer; l++) {
        struct ggml_tensor *k = s->layers[l].k, *v = s->layers[l].v;
        ggml_backend_tensor_get(k, columns, at(s, k, from), n_k);
        rotate_columns(s, table, k->type, columns, k->nb[1], n, key);
        ggml_backend_tensor_set(k, columns, at(s, k, keep), n_k);
        ggml_backend_tensor_get(v, columns, at(s, v, from), n_v);
        ggml_backend_tensor_set(v, columns, at(s, v, keep), n_v);
    }
    free(table);
    free(columns);
    return GENARM_OK;
}
