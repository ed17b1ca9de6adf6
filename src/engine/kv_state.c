#include "engine/kv_state.h"

#include <ggml-cpu.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/cpu.h"
#include "ops/rope.h"

#define MAGIC "KVROWS2" /* with its NUL: 8 bytes */

struct kv_head {
    char magic[8];
    int32_t n_layer, n_embd_kv, n_pos, type_k, type_v; /* types are ggml's numbers */
    int32_t n_embd_head;
};

static struct kv_head head_of(const struct kv_sequence *s, int32_t n_pos) {
    return (struct kv_head){.magic = MAGIC,
                            .n_layer = s->hp->n_layer,
                            .n_embd_kv = hparams_n_embd_kv(s->hp),
                            .n_embd_head = s->hp->n_embd_head,
                            .n_pos = n_pos,
                            .type_k = (int32_t)s->layers[0].k->type,
                            .type_v = (int32_t)s->layers[0].v->type};
}

/* ---- positions of a sequence ---- */

/* Bytes of n positions of all heads */
static size_t size_of(const struct ggml_tensor *cache, const struct hparams *hp, int32_t n) {
    return cache->nb[1] * (size_t)hp->n_head_kv * (size_t)n;
}

static size_t at(const struct kv_sequence *s, const struct ggml_tensor *cache, int32_t head, int32_t pos) {
    return cache->nb[1] * (size_t)kv_column(s->hp, s->n_ctx, s->seq, head, pos);
}

/* n positions of each head from `pos` on, heads one after the other */
static void get(const struct kv_sequence *s, const struct ggml_tensor *cache, int32_t pos, int32_t n, char *columns) {
    if (n > 0) {
        ggml_backend_tensor_get_2d(cache, columns, at(s, cache, 0, pos), cache->nb[1] * (size_t)n, (size_t)s->hp->n_head_kv,
                                   at(s, cache, 1, pos) - at(s, cache, 0, pos), cache->nb[1] * (size_t)n);
    }
}

static void put(const struct kv_sequence *s, struct ggml_tensor *cache, int32_t pos, int32_t n, const char *columns) {
    if (n > 0) {
        ggml_backend_tensor_set_2d(cache, columns, at(s, cache, 0, pos), cache->nb[1] * (size_t)n, (size_t)s->hp->n_head_kv,
                                   at(s, cache, 1, pos) - at(s, cache, 0, pos), cache->nb[1] * (size_t)n);
    }
}

/* Room for n positions of keys or of values; the caller frees it. */
static char *room(const struct kv_sequence *s, int32_t n, struct genarm_error *err) {
    const size_t n_k = size_of(s->layers[0].k, s->hp, n), n_v = size_of(s->layers[0].v, s->hp, n);
    char *p = malloc((n_k > n_v ? n_k : n_v) + 1);
    if (!p) {
        error_nomem(err, "a copy of the KV cache");
    }
    return p;
}

int kv_copy(const struct kv_sequence *from, const struct kv_sequence *to, int32_t first, int32_t n_pos,
            struct genarm_error *err) {
    char *columns = room(from, n_pos - first, err);
    for (int32_t l = 0; l < from->hp->n_layer && columns; l++) {
        struct ggml_tensor *const both[] = {from->layers[l].k, from->layers[l].v};
        for (int i = 0; i < 2; i++) {
            get(from, both[i], first, n_pos - first, columns);
            put(to, both[i], first, n_pos - first, columns);
        }
    }
    free(columns);
    return columns ? GENARM_OK : GENARM_ENOMEM;
}

void kv_clear(const struct kv_sequence *s) {
    for (int32_t l = 0; l < s->hp->n_layer; l++) {
        struct ggml_tensor *const both[] = {s->layers[l].k, s->layers[l].v};
        for (int i = 0; i < 2; i++) {
            ggml_backend_tensor_memset(both[i], 0, at(s, both[i], 0, 0), size_of(both[i], s->hp, s->n_ctx));
        }
    }
}

/* ---- bytes ---- */

int kv_save(const struct kv_sequence *s, int32_t n_pos, struct buf *out, struct genarm_error *err) {
    const struct kv_head head = head_of(s, n_pos);
    char *columns = room(s, n_pos, err);
    int rc = columns ? buf_append(out, &head, sizeof head, err) : GENARM_ENOMEM;
    for (int32_t l = 0; l < s->hp->n_layer; l++) {
        struct ggml_tensor *const both[] = {s->layers[l].k, s->layers[l].v};
        for (int i = 0; i < 2 && rc == GENARM_OK; i++) {
            get(s, both[i], 0, n_pos, columns);
            rc = buf_append(out, columns, size_of(both[i], s->hp, n_pos), err);
        }
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
    if (is->n_layer != want.n_layer || is->n_embd_kv != want.n_embd_kv || is->n_embd_head != want.n_embd_head) {
        return error_set(err, GENARM_EMISMATCH,
                         "the saved KV cache is of %d layers of %d numbers in heads of %d, the model has %d of %d in heads of %d",
                         is->n_layer, is->n_embd_kv, is->n_embd_head, want.n_layer, want.n_embd_kv, want.n_embd_head);
    }
    if (is->type_k != want.type_k || is->type_v != want.type_v) {
        const int rc =
            error_set(err, GENARM_EMISMATCH, "the saved KV cache holds keys in %s and values in %s, not in %s and %s",
                      type_text(is->type_k), type_text(is->type_v), type_text(want.type_k), type_text(want.type_v));
        return error_hint(err, rc, "use the types that it was saved with (-ctk, -ctv)");
    }
    const size_t columns = size_of(s->layers[0].k, s->hp, n_pos) + size_of(s->layers[0].v, s->hp, n_pos);
    if (is->n_pos != n_pos || n != sizeof want + columns * (size_t)want.n_layer) {
        return error_set(err, GENARM_EFORMAT, "the saved KV cache has another size than %d positions have", n_pos);
    }
    return GENARM_OK;
}

int kv_load(const struct kv_sequence *s, int32_t n_pos, const void *data, size_t n, struct genarm_error *err) {
    struct kv_head head;
    if (n < sizeof head) {
        return error_set(err, GENARM_EFORMAT, "the saved KV cache is cut short");
    }
    memcpy(&head, data, sizeof head);
    const int rc = check_saved(s, n_pos, &head, n, err);
    const char *columns = (const char *)data + sizeof head;
    for (int32_t l = 0; l < s->hp->n_layer && rc == GENARM_OK; l++) {
        struct ggml_tensor *const both[] = {s->layers[l].k, s->layers[l].v};
        for (int i = 0; i < 2; i++) {
            put(s, both[i], 0, n_pos, columns);
            columns += size_of(both[i], s->hp, n_pos);
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

/* Rotates n columns in place, in f32; `key` [n_embd_head] is scratch. */
static void rotate_columns(const struct kv_sequence *s, const float *table, enum ggml_type type, char *columns, size_t column,
                           int64_t n, float *key) {
    const struct hparams *hp = s->hp;
    const struct kernels *kernels = cpu_kernels(NULL);
    for (int64_t i = 0; i < n; i++, columns += column) {
        if (type == GGML_TYPE_F32) {
            memcpy(key, columns, column);
        } else {
            ggml_get_type_traits(type)->to_float(columns, key, hp->n_embd_head);
        }
        kernels->rope(key, key, table, hp->n_embd_head, hp->n_rot, hp->rope_mode == GGML_ROPE_TYPE_NEOX, false);
        if (type == GGML_TYPE_F32) {
            memcpy(columns, key, column);
        } else {
            ggml_get_type_traits_cpu(type)->from_float(key, columns, hp->n_embd_head);
        }
    }
}

int kv_shift(const struct kv_sequence *s, int32_t keep, int32_t n_drop, int32_t n_pos, struct genarm_error *err) {
    const int32_t from = keep + n_drop, n = n_pos - from;
    const size_t n_table = 2 * (size_t)s->hp->n_rot, n_key = (size_t)s->hp->n_embd_head;
    if (n <= 0 || n_drop == 0) {
        return GENARM_OK;
    }
    char *columns = room(s, n, err);
    float *table = columns ? malloc((n_table + n_key + (size_t)s->hp->n_rot) * sizeof *table) : NULL;
    if (!table) {
        free(columns);
        return error_nomem(err, "a copy of the KV cache");
    }
    float *key = table + n_table, *factors = s->rope_freqs ? key + n_key : NULL;
    if (factors) {
        ggml_backend_tensor_get(s->rope_freqs, factors, 0, ggml_nbytes(s->rope_freqs));
    }
    rotation_back(s, n_drop, factors, table);
    for (int32_t l = 0; l < s->hp->n_layer; l++) {
        struct ggml_tensor *k = s->layers[l].k, *v = s->layers[l].v;
        get(s, k, from, n, columns);
        rotate_columns(s, table, k->type, columns, k->nb[1], (int64_t)s->hp->n_head_kv * n, key);
        put(s, k, keep, n, columns);
        get(s, v, from, n, columns);
        put(s, v, keep, n, columns);
    }
    free(table);
    free(columns);
    return GENARM_OK;
}
