#include "train/lora.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/rng.h"
#include "model/model.h"
#include "train/conditioned.h"

enum { ALIGN = 16 }; /* numbers: each matrix starts on a cache line */

/* ---- targets ---- */

static int find_target(const char *name, size_t n) {
    for (int t = 0; t < LINEAR_COUNT; t++) {
        const char *known = linear_name((enum linear)t);
        if (strlen(known) == n && memcmp(known, name, n) == 0) {
            return t;
        }
    }
    return -1;
}

void targets_print(char *text, size_t size, uint32_t targets) {
    size_t n = 0;
    text[0] = '\0';
    for (int t = 0; t < LINEAR_COUNT && n < size; t++) {
        if (targets >> t & 1) {
            n += (size_t)snprintf(text + n, size - n, "%s%s", n ? "," : "", linear_name((enum linear)t));
        }
    }
}

int targets_parse(uint32_t *targets, const char *names, struct genarm_error *err) {
    char known[64];
    uint32_t found = 0;
    targets_print(known, sizeof known, (1u << LINEAR_COUNT) - 1);
    for (const char *p = names;; p++) {
        const size_t n = strcspn(p, ",");
        const int t = find_target(p, n);
        if (t < 0) {
            return error_hint(err, error_set(err, GENARM_EINVAL, "unknown LoRA target \"%.*s\"", (int)n, p),
                              "a list of %s", known);
        }
        if (found >> t & 1) {
            return error_set(err, GENARM_EINVAL, "LoRA target %.*s is named twice", (int)n, p);
        }
        found |= 1u << t;
        p += n;
        if (*p == '\0') {
            break;
        }
    }
    *targets = found;
    return GENARM_OK;
}

/* ---- memory ---- */

static size_t padded(int64_t n) { return ((size_t)n + ALIGN - 1) / ALIGN * ALIGN; }

/* Ranks of all maps, [n_layer][LINEAR_COUNT]; 0: not adapted. */
typedef int32_t layer_ranks[LINEAR_COUNT];

static size_t count_numbers(const struct hparams *hp, const layer_ranks *ranks) {
    size_t n = 0;
    for (int32_t l = 0; l < hp->n_layer; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            n += padded((int64_t)linear_n_in((enum linear)t, hp) * ranks[l][t]);
            n += padded((int64_t)linear_n_out((enum linear)t, hp) * ranks[l][t]);
        }
    }
    return n;
}

/* The matrices of one map as views of a flat tensor, from *offset on. */
static struct lora view_map(struct ggml_context *ctx, struct ggml_tensor *flat, size_t *offset, int64_t n_in,
                            int64_t n_out, int64_t rank, float scale) {
    struct lora m = {.scale = scale};
    m.a = ggml_view_2d(ctx, flat, n_in, rank, (size_t)n_in * sizeof(float), *offset * sizeof(float));
    *offset += padded(n_in * rank);
    m.b = ggml_view_2d(ctx, flat, rank, n_out, (size_t)rank * sizeof(float), *offset * sizeof(float));
    *offset += padded(n_out * rank);
    return m;
}

static struct ggml_tensor *view_head(struct ggml_context *ctx, struct ggml_tensor *flat, int64_t n_embd) {
    const size_t first = (size_t)ggml_nelements(flat) - padded(n_embd);
    return ggml_view_2d(ctx, flat, n_embd, 1, (size_t)n_embd * sizeof(float), first * sizeof(float));
}

/* `conditioning` may be NULL: a plain adapter. */
static int allocate(struct trainable *t, const struct hparams *hp, const layer_ranks *ranks, float alpha, bool head,
                    const struct conditioning *conditioning, ggml_backend_buffer_type_t type, struct genarm_error *err) {
    const size_t n_layer = (size_t)hp->n_layer;
    *t = (struct trainable){.alpha = alpha, .n_layer = hp->n_layer, .n = count_numbers(hp, ranks)};
    if (t->n == 0) {
        return error_set(err, GENARM_EINVAL, "the adapter adapts nothing");
    }
    if (conditioning && conditioning->n_objectives > 0) {
        t->conditioning = *conditioning;
        t->first_core = t->n;
        t->n_core = conditioned_numbers(conditioning, hp, ranks);
        t->n += padded((int64_t)t->n_core);
    }
    t->n += head ? padded(hp->n_embd) : 0;
    t->layers = calloc(n_layer, sizeof *t->layers);
    t->gradients = calloc(n_layer, sizeof *t->gradients);
    t->ctx = ggml_init((struct ggml_init_params){.mem_size = (6 + 6 * n_layer * LINEAR_COUNT) * ggml_tensor_overhead(),
                                                 .no_alloc = true});
    if (!t->layers || !t->gradients || !t->ctx) {
        return error_nomem(err, "the adapter");
    }
    t->theta = ggml_new_tensor_1d(t->ctx, GGML_TYPE_F32, (int64_t)t->n);
    t->gradient = ggml_new_tensor_1d(t->ctx, GGML_TYPE_F32, (int64_t)t->n);
    if (head) {
        t->head = view_head(t->ctx, t->theta, hp->n_embd);
        t->head_gradient = view_head(t->ctx, t->gradient, hp->n_embd);
    }
    for (size_t l = 0, at = 0, at_gradient = 0; l < n_layer; l++) {
        for (int i = 0; i < LINEAR_COUNT; i++) {
            if (ranks[l][i] == 0) {
                continue;
            }
            const int64_t n_in = linear_n_in((enum linear)i, hp), n_out = linear_n_out((enum linear)i, hp);
            const float scale = alpha / (float)ranks[l][i];
            t->layers[l][i] = view_map(t->ctx, t->theta, &at, n_in, n_out, ranks[l][i], scale);
            t->gradients[l][i] = view_map(t->ctx, t->gradient, &at_gradient, n_in, n_out, ranks[l][i], scale);
        }
    }
    int rc = t->n_core > 0 ? conditioned_make(t, ranks, err) : GENARM_OK;
    if (rc != GENARM_OK) {
        return rc;
    }
    t->buffer = ggml_backend_alloc_ctx_tensors_from_buft(t->ctx, type);
    if (!t->buffer) {
        return error_nomem(err, "the adapter");
    }
    ggml_backend_buffer_clear(t->buffer, 0);
    return GENARM_OK;
}

void trainable_deinit(struct trainable *t) {
    ggml_backend_buffer_free(t->buffer);
    ggml_free(t->ctx);
    free(t->layers);
    free(t->gradients);
    free(t->cores);
    free(t->host_core);
    free(t->host_m);
    *t = (struct trainable){0};
}

void trainable_adapter(struct genarm_adapter *adapter, const struct trainable *t, const struct genarm_model *model) {
    static char path[] = "the adapter under training";
    *adapter = (struct genarm_adapter){.model = model,
                                       .arch = model->hp.arch,
                                       .n_layer = t->n_layer,
                                       .path = path,
                                       .alpha = t->alpha,
                                       .layers = t->layers};
}

/* ---- start values ---- */

static int fill_uniform(struct ggml_tensor *a, uint64_t seed, struct genarm_error *err) {
    const size_t n = (size_t)ggml_nelements(a);
    const double bound = 1 / sqrt((double)a->ne[0]);
    float *values = malloc(n * sizeof *values);
    if (!values) {
        return error_nomem(err, "the adapter");
    }
    struct rng rng;
    rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++) {
        values[i] = (float)((2 * rng_uniform(&rng) - 1) * bound);
    }
    ggml_backend_tensor_set(a, values, 0, n * sizeof *values);
    free(values);
    return GENARM_OK;
}

static int fill_fresh(struct trainable *t, uint64_t seed, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (int32_t l = 0; l < t->n_layer; l++) {
        for (int i = 0; i < LINEAR_COUNT && rc == GENARM_OK; i++) {
            if (t->layers[l][i].a) {
                rc = fill_uniform(t->layers[l][i].a, rng_hash(seed, (uint64_t)l, (uint64_t)i), err);
            }
        }
    }
    return rc;
}

static int init_fresh(struct trainable *t, const struct hparams *hp, uint32_t targets, int32_t rank, float alpha, bool head,
                      const struct conditioning *conditioning, uint64_t seed, ggml_backend_buffer_type_t type,
                      struct genarm_error *err) {
    layer_ranks *ranks = calloc((size_t)hp->n_layer, sizeof *ranks);
    if (!ranks) {
        return error_nomem(err, "the adapter");
    }
    for (int32_t l = 0; l < hp->n_layer; l++) {
        for (int i = 0; i < LINEAR_COUNT; i++) {
            ranks[l][i] = targets >> i & 1 ? rank : 0;
        }
    }
    int rc = allocate(t, hp, (const layer_ranks *)ranks, alpha, head, conditioning, type, err);
    if (rc == GENARM_OK) {
        rc = fill_fresh(t, seed, err);
    }
    if (rc == GENARM_OK && t->n_core > 0) {
        conditioned_fill_fresh(t, seed);
    }
    if (rc != GENARM_OK) {
        trainable_deinit(t);
    }
    free(ranks);
    return rc;
}

int trainable_init(struct trainable *t, const struct hparams *hp, uint32_t targets, int32_t rank, float alpha, bool head,
                   uint64_t seed, ggml_backend_buffer_type_t type, struct genarm_error *err) {
    return init_fresh(t, hp, targets, rank, alpha, head, NULL, seed, type, err);
}

int trainable_init_conditioned(struct trainable *t, const struct hparams *hp, uint32_t targets, int32_t rank, float alpha,
                               const struct conditioning *conditioning, uint64_t seed, ggml_backend_buffer_type_t type,
                               struct genarm_error *err) {
    return init_fresh(t, hp, targets, rank, alpha, false, conditioning, seed, type, err);
}

static int copy_matrix(struct ggml_tensor *to, const struct ggml_tensor *from, struct genarm_error *err) {
    const size_t size = ggml_nbytes(to);
    void *bytes = malloc(size);
    if (!bytes) {
        return error_nomem(err, "the adapter");
    }
    ggml_backend_tensor_get(from, bytes, 0, size);
    ggml_backend_tensor_set(to, bytes, 0, size);
    free(bytes);
    return GENARM_OK;
}

static int copy_adapter(struct trainable *t, const struct genarm_adapter *adapter, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (int32_t l = 0; l < t->n_layer; l++) {
        for (int i = 0; i < LINEAR_COUNT && rc == GENARM_OK; i++) {
            if (t->layers[l][i].a) {
                rc = copy_matrix(t->layers[l][i].a, adapter->layers[l][i].a, err);
                rc = rc == GENARM_OK ? copy_matrix(t->layers[l][i].b, adapter->layers[l][i].b, err) : rc;
            }
        }
    }
    return rc;
}

/* Alpha of an adapter, also of one whose file gives none and whose scales say it. */
static int find_alpha(float *alpha, const struct genarm_adapter *adapter, int32_t n_layer, struct genarm_error *err) {
    *alpha = adapter->alpha;
    for (int32_t l = 0; l < n_layer; l++) {
        for (int i = 0; i < LINEAR_COUNT; i++) {
            const struct lora *m = &adapter->layers[l][i];
            const float of_map = m->a ? m->scale * (float)m->a->ne[1] : *alpha;
            *alpha = *alpha > 0 ? *alpha : of_map;
            if (fabsf(of_map - *alpha) > 1e-5f * *alpha) {
                return error_at(err, error_set(err, GENARM_EUNSUPPORTED, "the adapter has no alpha and several ranks"),
                                "%s", adapter->path);
            }
        }
    }
    return GENARM_OK;
}

int trainable_init_from(struct trainable *t, const struct hparams *hp, const struct genarm_adapter *adapter, bool head,
                        ggml_backend_buffer_type_t type, struct genarm_error *err) {
    layer_ranks *ranks = calloc((size_t)hp->n_layer, sizeof *ranks);
    if (!ranks) {
        return error_nomem(err, "the adapter");
    }
    for (int32_t l = 0; l < hp->n_layer; l++) {
        for (int i = 0; i < LINEAR_COUNT; i++) {
            ranks[l][i] = adapter->layers[l][i].a ? (int32_t)adapter->layers[l][i].a->ne[1] : 0;
        }
    }
    float alpha;
    int rc = find_alpha(&alpha, adapter, hp->n_layer, err);
    if (rc == GENARM_OK) {
        rc = allocate(t, hp, (const layer_ranks *)ranks, alpha, head, NULL, type, err);
    }
    if (rc == GENARM_OK) {
        rc = copy_adapter(t, adapter, err);
    }
    if (rc == GENARM_OK && head && adapter->info.head) {
        ggml_backend_tensor_set(t->head, adapter->info.head, 0, ggml_nbytes(t->head));
    }
    if (rc != GENARM_OK) {
        trainable_deinit(t);
    }
    free(ranks);
    return rc;
}

/* ---- whole arrays ---- */

void trainable_get(const struct trainable *t, float *theta) {
    ggml_backend_tensor_get(t->theta, theta, 0, t->n * sizeof *theta);
}

void trainable_set(struct trainable *t, const float *theta) {
    ggml_backend_tensor_set(t->theta, theta, 0, t->n * sizeof *theta);
    conditioned_compute(t);
}

void trainable_get_gradient(struct trainable *t, float *gradient) {
    conditioned_collect(t);
    ggml_backend_tensor_get(t->gradient, gradient, 0, t->n * sizeof *gradient);
}

void trainable_zero_gradient(struct trainable *t) {
    ggml_backend_tensor_memset(t->gradient, 0, 0, t->n * sizeof(float));
    if (t->m_gradient) {
        ggml_backend_tensor_memset(t->m_gradient, 0, 0, ggml_nbytes(t->m_gradient));
    }
}
