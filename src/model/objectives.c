/* See objectives.h. */
#include "model/objectives.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "model/adapter.h"

enum { MAX_RANK = 1 << 16 };

static const char key_names[] = "genarm.objectives", key_rank[] = "genarm.objectives.rank";

/* ---- names ---- */

int objectives_check_name(const char *name, struct genarm_error *err) {
    const size_t n = strlen(name);
    bool plain = n > 0 && n <= OBJECTIVES_NAME_MAX && utf8_valid(name, n);
    for (const char *c = name; *c && plain; c++) {
        plain = (unsigned char)*c > ' ' && *c != 0x7F && !strchr(",=:@/", *c);
    }
    if (plain) {
        return GENARM_OK;
    }
    char shown[OBJECTIVES_NAME_MAX + 1];
    snprintf(shown, sizeof shown, "%s", name);
    utf8_clean(shown);
    return error_set(err, GENARM_EINVAL,
                     "\"%s\" is no name of an objective: at most %d bytes, without spaces and any of ,=:@/", shown,
                     OBJECTIVES_NAME_MAX);
}

int32_t objectives_find(const struct objectives *o, const char *name, size_t n) {
    for (int32_t i = 0; i < o->n; i++) {
        if (strlen(o->names[i]) == n && memcmp(o->names[i], name, n) == 0) {
            return i;
        }
    }
    return -1;
}

int objectives_add(struct objectives *o, const char *name, struct genarm_error *err) {
    int rc = objectives_check_name(name, err);
    if (rc == GENARM_OK && o->n == OBJECTIVES_MAX) {
        rc = error_set(err, GENARM_EINVAL, "more than %d objectives", OBJECTIVES_MAX);
    }
    if (rc == GENARM_OK && objectives_find(o, name, strlen(name)) >= 0) {
        rc = error_set(err, GENARM_EINVAL, "two objectives are called \"%s\"", name);
    }
    if (rc != GENARM_OK) {
        return rc;
    }
    o->names[o->n] = strdup(name);
    if (!o->names[o->n]) {
        return error_nomem(err, "objectives");
    }
    o->n++;
    return GENARM_OK;
}

void objectives_deinit(struct objectives *o) {
    for (int32_t i = 0; i < o->n; i++) {
        free(o->names[i]);
    }
    *o = (struct objectives){0};
}

/* ---- metadata ---- */

static int read_names(struct objectives *o, const struct gguf_context *g, int64_t id, struct genarm_error *err) {
    if (gguf_get_kv_type(g, id) != GGUF_TYPE_ARRAY || gguf_get_arr_type(g, id) != GGUF_TYPE_STRING) {
        return error_set(err, GENARM_EFORMAT, "%s is not an array of strings", key_names);
    }
    const size_t n = gguf_get_arr_n(g, id);
    if (n < 1 || n > OBJECTIVES_MAX) {
        return error_set(err, GENARM_EFORMAT, "%s has %zu names, not 1 to %d", key_names, n, OBJECTIVES_MAX);
    }
    int rc = GENARM_OK;
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        rc = objectives_add(o, gguf_get_arr_str(g, id, i), err);
    }
    if (rc == GENARM_EINVAL) { /* here it is the file that is wrong */
        rc = error_set(err, GENARM_EFORMAT, "%s holds a name that is empty, repeated or has characters that it must not have",
                       key_names);
    }
    return rc;
}

int objectives_read(struct objectives *o, const struct gguf_context *g, struct genarm_error *err) {
    const int64_t id = gguf_find_key(g, key_names);
    uint32_t rank = 0;
    if (id < 0) {
        return GENARM_OK;
    }
    int rc = read_names(o, g, id, err);
    if (rc == GENARM_OK) {
        rc = gguf_need_u32(&rank, g, key_rank, err);
    }
    if (rc == GENARM_OK && (rank < 1 || rank > MAX_RANK)) {
        rc = error_set(err, GENARM_EFORMAT, "%s is %u, not 1 to %d", key_rank, rank, MAX_RANK);
    }
    o->rank = rc == GENARM_OK ? (int32_t)rank : 0;
    return rc;
}

void objectives_write(struct gguf_context *g, const struct objectives *o) {
    const char *names[OBJECTIVES_MAX];
    for (int32_t i = 0; i < o->n; i++) {
        names[i] = o->names[i];
    }
    if (o->n > 0) {
        gguf_set_arr_str(g, key_names, names, (size_t)o->n);
        gguf_set_val_u32(g, key_rank, (uint32_t)o->rank);
    }
}

/* ---- preferences ---- */

void objectives_prefer_evenly(struct objective_weights *p, const struct objectives *o) {
    *p = (struct objective_weights){0};
    for (int32_t i = 0; i < o->n; i++) {
        p->weights[i] = (float)(1.0 / o->n);
        p->factors[i] = 1;
    }
}

int objectives_prefer(struct objective_weights *p, const struct objectives *o, const float *weights, size_t n,
                      struct genarm_error *err) {
    double sum = 0;
    if (o->n == 0) {
        return error_hint(err, error_set(err, GENARM_EINVAL, "the reward model has no objectives to prefer"),
                          "only adapters of genarm train --objective have them");
    }
    if (n != (size_t)o->n) {
        return error_set(err, GENARM_EINVAL, "%zu weights for %d objectives", n, o->n);
    }
    for (size_t i = 0; i < n; i++) {
        if (!(weights[i] >= 0.0f) || !isfinite(weights[i])) {
            return error_set(err, GENARM_EINVAL, "weight %g of objective %s is not a finite number >= 0", (double)weights[i],
                             o->names[i]);
        }
        sum += (double)weights[i];
    }
    if (sum <= 0) {
        return error_set(err, GENARM_EINVAL, "the weights of all objectives are 0");
    }
    *p = (struct objective_weights){0};
    for (size_t i = 0; i < n; i++) {
        p->weights[i] = (float)((double)weights[i] / sum);
        p->factors[i] = (float)(o->n * (double)weights[i] / sum);
    }
    return GENARM_OK;
}

void objectives_weigh(const struct objectives *o, const float *factors, int64_t rank, float *slots, size_t stride) {
    slots += (size_t)(rank - (int64_t)o->n * o->rank) * stride;
    for (int32_t i = 0; i < o->n; i++) {
        for (int32_t r = 0; r < o->rank; r++, slots += stride) {
            *slots *= factors[i];
        }
    }
}

/* Columns of one B [rank, n_out], row by row. */
static int weigh_map(const struct objectives *o, const float *factors, struct ggml_tensor *b, struct genarm_error *err) {
    const size_t rank = (size_t)b->ne[0], n_out = (size_t)b->ne[1];
    float *values = malloc(ggml_nbytes(b));
    if (!values) {
        return error_nomem(err, "an adapter");
    }
    ggml_backend_tensor_get(b, values, 0, ggml_nbytes(b));
    for (size_t j = 0; j < n_out; j++) {
        objectives_weigh(o, factors, (int64_t)rank, values + j * rank, 1);
    }
    ggml_backend_tensor_set(b, values, 0, ggml_nbytes(b));
    free(values);
    return GENARM_OK;
}

int adapter_fix_preference(struct genarm_adapter *adapter, const float *weights, size_t n, struct genarm_error *err) {
    struct objectives *o = &adapter->info.objectives;
    struct objective_weights p;
    objectives_prefer_evenly(&p, o);
    int rc = weights ? objectives_prefer(&p, o, weights, n, err) : GENARM_OK;
    for (int32_t l = 0; l < adapter->n_layer && o->n > 0; l++) {
        for (int t = 0; t < LINEAR_COUNT && rc == GENARM_OK; t++) {
            if (adapter->layers[l][t].a) {
                rc = weigh_map(o, p.factors, adapter->layers[l][t].b, err);
            }
        }
    }
    if (rc == GENARM_OK) {
        objectives_deinit(o);
    }
    return error_at(err, rc, "%s", adapter->path);
}
