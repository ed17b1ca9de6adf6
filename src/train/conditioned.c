/* See conditioned.h. */
#include "train/conditioned.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/rng.h"
#include "model/draft.h"

enum { ALIGN = 16 }; /* numbers: each M starts on a cache line */

/* ---- places ---- */

/* Ranks of one map's parts, and where its numbers are. */
struct shape {
    int32_t rank, r1, r2, k;
    size_t m; /* in the scratch of all M */
    size_t w; /* W1 in the scratch of all W1 and T */
};

static struct shape shape_of(const struct trainable *t, int32_t layer, int i) {
    const struct core *core = &t->cores[layer][i];
    const int32_t rank = (int32_t)core->m->ne[0], r2 = t->conditioning.rank;
    return (struct shape){.rank = rank,
                          .r1 = rank - r2,
                          .r2 = r2,
                          .k = t->conditioning.n_objectives,
                          .m = core->m->view_offs / sizeof(float),
                          .w = core->at - t->first_core};
}

static size_t numbers_of(const struct conditioning *c, int32_t rank) {
    const size_t r1 = (size_t)(rank - c->rank), r2 = (size_t)c->rank;
    return r1 * r1 + (size_t)c->n_objectives * r2 * r2;
}

size_t conditioned_numbers(const struct conditioning *c, const struct hparams *hp, const int32_t (*ranks)[LINEAR_COUNT]) {
    size_t n = 0;
    for (int32_t l = 0; l < hp->n_layer; l++) {
        for (int i = 0; i < LINEAR_COUNT; i++) {
            n += ranks[l][i] ? numbers_of(c, ranks[l][i]) : 0;
        }
    }
    return n;
}

static size_t padded_square(int32_t rank) { return ((size_t)rank * (size_t)rank + ALIGN - 1) / ALIGN * ALIGN; }

static struct ggml_tensor *square(struct ggml_context *ctx, struct ggml_tensor *flat, int32_t rank, size_t at) {
    return ggml_view_2d(ctx, flat, rank, rank, (size_t)rank * sizeof(float), at * sizeof(float));
}

int conditioned_make(struct trainable *t, const int32_t (*ranks)[LINEAR_COUNT], struct genarm_error *err) {
    size_t n = 0;
    for (int32_t l = 0; l < t->n_layer; l++) {
        for (int i = 0; i < LINEAR_COUNT; i++) {
            n += padded_square(ranks[l][i]);
        }
    }
    t->cores = calloc((size_t)t->n_layer, sizeof *t->cores);
    t->host_core = calloc(t->n_core, sizeof *t->host_core);
    t->host_m = calloc(n, sizeof *t->host_m);
    if (!t->cores || !t->host_core || !t->host_m) {
        return error_nomem(err, "the adapter");
    }
    t->m = ggml_new_tensor_1d(t->ctx, GGML_TYPE_F32, (int64_t)n);
    t->m_gradient = ggml_new_tensor_1d(t->ctx, GGML_TYPE_F32, (int64_t)n);
    size_t at = t->first_core, at_m = 0;
    for (int32_t l = 0; l < t->n_layer; l++) {
        for (int i = 0; i < LINEAR_COUNT; i++) {
            if (ranks[l][i]) {
                t->cores[l][i] = (struct core){.m = square(t->ctx, t->m, ranks[l][i], at_m),
                                               .gradient = square(t->ctx, t->m_gradient, ranks[l][i], at_m),
                                               .at = at};
                at += numbers_of(&t->conditioning, ranks[l][i]);
                at_m += padded_square(ranks[l][i]);
            }
        }
    }
    for (int32_t i = 0; i < t->conditioning.n_objectives; i++) {
        t->preference[i] = (float)(1.0 / t->conditioning.n_objectives);
    }
    return GENARM_OK;
}

/* Calls `each` for every map, with its shape. */
static void for_maps(struct trainable *t, void (*each)(struct trainable *t, const struct shape *s)) {
    for (int32_t l = 0; l < t->n_layer; l++) {
        for (int i = 0; i < LINEAR_COUNT; i++) {
            if (t->cores[l][i].m) {
                const struct shape s = shape_of(t, l, i);
                each(t, &s);
            }
        }
    }
}

/* ---- M and its gradient ---- */

static void compute_map(struct trainable *t, const struct shape *s) {
    const float *w = t->host_core + s->w;
    float *m = t->host_m + s->m;
    for (int32_t j = 0; j < s->r1; j++) {
        for (int32_t i = 0; i < s->r1; i++) {
            m[j * s->rank + i] = *w++;
        }
    }
    for (int32_t o = 0; o < s->k; o++) {
        for (int32_t j = s->r1; j < s->rank; j++) {
            for (int32_t i = s->r1; i < s->rank; i++) {
                m[j * s->rank + i] += t->preference[o] * *w++;
            }
        }
    }
}

static void collect_map(struct trainable *t, const struct shape *s) {
    const float *m = t->host_m + s->m;
    float *w = t->host_core + s->w;
    for (int32_t j = 0; j < s->r1; j++) {
        for (int32_t i = 0; i < s->r1; i++) {
            *w++ += m[j * s->rank + i];
        }
    }
    for (int32_t o = 0; o < s->k; o++) {
        for (int32_t j = s->r1; j < s->rank; j++) {
            for (int32_t i = s->r1; i < s->rank; i++) {
                *w++ += t->preference[o] * m[j * s->rank + i];
            }
        }
    }
}

void conditioned_compute(struct trainable *t) {
    if (!t->cores) {
        return;
    }
    ggml_backend_tensor_get(t->theta, t->host_core, t->first_core * sizeof(float), t->n_core * sizeof(float));
    memset(t->host_m, 0, ggml_nbytes(t->m));
    for_maps(t, compute_map);
    ggml_backend_tensor_set(t->m, t->host_m, 0, ggml_nbytes(t->m));
}

void conditioned_collect(struct trainable *t) {
    if (!t->cores) {
        return;
    }
    ggml_backend_tensor_get(t->m_gradient, t->host_m, 0, ggml_nbytes(t->m_gradient));
    ggml_backend_tensor_get(t->gradient, t->host_core, t->first_core * sizeof(float), t->n_core * sizeof(float));
    for_maps(t, collect_map);
    ggml_backend_tensor_set(t->gradient, t->host_core, t->first_core * sizeof(float), t->n_core * sizeof(float));
    ggml_backend_tensor_memset(t->m_gradient, 0, 0, ggml_nbytes(t->m_gradient));
}

void trainable_set_preference(struct trainable *t, const float *preference) {
    if (t->cores) {
        conditioned_collect(t);
        memcpy(t->preference, preference, (size_t)t->conditioning.n_objectives * sizeof *preference);
        conditioned_compute(t);
    }
}

/* ---- start values ---- */

void conditioned_fill_fresh(struct trainable *t, uint64_t seed) {
    for (int32_t l = 0; l < t->n_layer; l++) {
        for (int i = 0; i < LINEAR_COUNT; i++) {
            if (!t->cores[l][i].m) {
                continue;
            }
            const struct shape s = shape_of(t, l, i);
            const size_t n_w1 = (size_t)s.r1 * (size_t)s.r1, n_t = (size_t)s.r2 * (size_t)s.r2;
            struct rng rng;
            rng_seed(&rng, rng_hash(seed, (uint64_t)l, (uint64_t)(i + LINEAR_COUNT))); /* A has the streams before */
            for (size_t j = 0; j < n_w1 + (size_t)s.k * n_t; j++) {
                const double bound = 1 / (j < n_w1 ? sqrt((double)s.r1) : (double)s.r2);
                t->host_core[s.w + j] = (float)((2 * rng_uniform(&rng) - 1) * bound);
            }
        }
    }
    ggml_backend_tensor_set(t->theta, t->host_core, t->first_core * sizeof(float), t->n_core * sizeof(float));
    conditioned_compute(t);
}

/* ---- the plain adapter ---- */

/* A [n_in, r1 + r2] -> [n_in, r1 + k r2]: the last r2 rows for every objective. */
static void export_a(const struct shape *s, const float *a, size_t n_in, float *out) {
    memcpy(out, a, (size_t)s->rank * n_in * sizeof *out);
    for (int32_t o = 1; o < s->k; o++) {
        memcpy(out + (size_t)(s->r1 + o * s->r2) * n_in, a + (size_t)s->r1 * n_in, (size_t)s->r2 * n_in * sizeof *out);
    }
}

/* One row of B times W [n, n], row by row, and `factor`. */
static void export_row(const float *row, const float *w, int32_t n, double factor, float *out) {
    for (int32_t c = 0; c < n; c++) {
        double sum = 0;
        for (int32_t i = 0; i < n; i++) {
            sum += (double)row[i] * (double)w[i * n + c];
        }
        out[c] = (float)(factor * sum);
    }
}

/* B [r1 + r2, n_out] -> [r1 + k r2, n_out]: [B1 W1, B2 T_1 / k, ..., B2 T_k / k] */
static void export_b(const struct shape *s, const float *b, size_t n_out, const float *w, float *out) {
    const size_t n_w1 = (size_t)s->r1 * (size_t)s->r1, n_t = (size_t)s->r2 * (size_t)s->r2;
    const int32_t rank_out = s->r1 + s->k * s->r2;
    for (size_t j = 0; j < n_out; j++, b += s->rank, out += rank_out) {
        export_row(b, w, s->r1, 1, out);
        for (int32_t o = 0; o < s->k; o++) {
            export_row(b + s->r1, w + n_w1 + (size_t)o * n_t, s->r2, 1.0 / s->k, out + s->r1 + o * s->r2);
        }
    }
}

/* Makes, of the plain adapter that a conditioned one is at the even preference, one map and alpha. */
static int export_map(struct adapter_draft *draft, float *alpha, const struct trainable *t, int32_t layer, int i,
                      struct genarm_error *err) {
    const struct lora *from = &t->layers[layer][i], *to = &draft->layers[layer][i];
    const struct shape s = shape_of(t, layer, i);
    const int64_t rank = s.r1 + s.k * s.r2, shape[] = {from->a->ne[0], rank, from->b->ne[1]};
    int rc = draft_map(draft, layer, i, shape, from->scale, err);
    float *a = malloc(ggml_nbytes(from->a)), *b = malloc(ggml_nbytes(from->b));
    if (rc == GENARM_OK && (!a || !b)) {
        rc = error_nomem(err, "the adapter");
    }
    if (rc == GENARM_OK) {
        ggml_backend_tensor_get(from->a, a, 0, ggml_nbytes(from->a));
        ggml_backend_tensor_get(from->b, b, 0, ggml_nbytes(from->b));
        export_a(&s, a, (size_t)from->a->ne[0], to->a->data);
        export_b(&s, b, (size_t)from->b->ne[1], t->host_core + s.w, to->b->data);
        *alpha = (float)((double)t->alpha * (double)rank / s.rank); /* the scale, alpha / rank, stays */
    }
    free(a);
    free(b);
    return rc;
}

int conditioned_save(const char *path, const struct hparams *hp, const struct trainable *t, const struct objectives *objectives,
                     const struct adapter_info *info, struct genarm_error *err) {
    struct adapter_info with_objectives = *info;
    with_objectives.objectives = *objectives;
    with_objectives.objectives.rank = t->conditioning.rank;
    struct adapter_draft draft = {0};
    float alpha = 0;
    int rc = draft_init(&draft, t->n_layer, err);
    ggml_backend_tensor_get(t->theta, t->host_core, t->first_core * sizeof(float), t->n_core * sizeof(float));
    for (int32_t l = 0; l < t->n_layer; l++) {
        for (int i = 0; i < LINEAR_COUNT && rc == GENARM_OK; i++) {
            rc = t->cores[l][i].m ? export_map(&draft, &alpha, t, l, i, err) : GENARM_OK;
        }
    }
    rc = rc == GENARM_OK ? adapter_save(path, hp, draft.layers, alpha, &with_objectives, err) : rc;
    draft_deinit(&draft);
    return rc;
}

/* ---- drawing ---- */

/* Gamma(shape, 1): Marsaglia & Tsang, "A simple method for generating gamma variables", 2000; below 1 by their boost. Its
 * logarithm, as small shapes give numbers that a double cannot hold. */
static double log_gamma_draw(struct rng *rng, double shape) {
    const double boost = shape < 1 ? log(1 - rng_uniform(rng)) / shape : 0;
    const double d = (shape < 1 ? shape + 1 : shape) - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        const double x = rng_normal(rng), v = pow(1 + c * x, 3);
        if (v > 0 && log(1 - rng_uniform(rng)) < 0.5 * x * x + d - d * v + d * log(v)) {
            return log(d * v) + boost;
        }
    }
}

void conditioned_draw(float *preference, int32_t n_objectives, double concentration, uint64_t seed, uint64_t step,
                      uint64_t index) {
    double logs[OBJECTIVES_MAX], largest = -INFINITY, sum = 0;
    struct rng rng;
    rng_seed(&rng, rng_hash(seed, step, index));
    for (int32_t i = 0; i < n_objectives; i++) {
        logs[i] = log_gamma_draw(&rng, concentration);
        largest = fmax(largest, logs[i]);
    }
    for (int32_t i = 0; i < n_objectives; i++) {
        sum += exp(logs[i] - largest);
    }
    for (int32_t i = 0; i < n_objectives; i++) {
        preference[i] = (float)(exp(logs[i] - largest) / sum);
    }
}
