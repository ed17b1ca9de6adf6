/* What is common to all engines: arguments checked once, sequences kept gapless. */
#include "engine/engine.h"

#include <ggml-cpu.h>
#include <stdlib.h>

#include "base/cores.h"
#include "base/threads.h"

int engine_threads_new(struct engine_threads **out, int32_t n_threads, struct genarm_error *err) {
    const int32_t n_cores = cores_usable(), n_default = n_cores < THREADS_MAX ? n_cores : THREADS_MAX;
    const int32_t n = n_threads ? n_threads : n_default;
    struct engine_threads *t = calloc(1, sizeof *t);
    if (!t) {
        return error_nomem(err, "threads");
    }
    t->n = n;
    int rc = threads_new(&t->pool, n, err);
    if (rc == GENARM_OK) {
        struct ggml_threadpool_params params = ggml_threadpool_params_default(n);
        params.poll = 0; /* a graph is long: its threads sleep between two of them, and leave the cores to the pool's */
        t->ggml = ggml_threadpool_new(&params);
        rc = t->ggml ? GENARM_OK : error_set(err, GENARM_EBACKEND, "cannot start %d threads", n);
    }
    if (rc != GENARM_OK) {
        engine_threads_free(t);
        return rc;
    }
    *out = t;
    return GENARM_OK;
}

void engine_threads_free(struct engine_threads *t) {
    if (t) {
        ggml_threadpool_free(t->ggml);
        threads_free(t->pool);
        free(t);
    }
}

int engine_init(struct engine *e, const struct engine_vtable *vtable, const struct genarm_model *model,
                const struct engine_params *params, struct genarm_error *err) {
    struct engine_params p = *params;
    p.n_ctx = p.n_ctx ? p.n_ctx : model->hp.n_ctx_train;
    p.n_batch = p.n_batch ? p.n_batch : 512;
    if (p.n_seq < 1 || p.n_ctx < 1 || p.n_batch < 1) {
        return error_set(err, GENARM_EINVAL, "%d sequences of %d positions, batches of %d rows: out of range", p.n_seq, p.n_ctx,
                         p.n_batch);
    }
    *e = (struct engine){.vtable = vtable, .model = model, .params = p};
    e->n_cached = calloc((size_t)p.n_seq, sizeof *e->n_cached);
    e->n_same = calloc((size_t)p.n_seq, sizeof *e->n_same);
    return e->n_cached && e->n_same ? GENARM_OK : error_nomem(err, "an engine");
}

void engine_deinit(struct engine *e) {
    free(e->n_cached);
    free(e->n_same);
}

/* Positions of a sequence from `first` on are written. */
static void changes(struct engine *e, int32_t seq, int32_t first) {
    e->n_same[seq] = first < e->n_same[seq] ? first : e->n_same[seq];
}

int32_t engine_unchanged(struct engine *e, int32_t seq) {
    const int32_t n = e->n_same[seq];
    e->n_same[seq] = INT32_MAX;
    return n;
}

enum ggml_type engine_kv_type(enum genarm_kv_type type) {
    switch (type) {
    case GENARM_KV_F32: return GGML_TYPE_F32;
    case GENARM_KV_Q8_0: return GGML_TYPE_Q8_0;
    default: return GGML_TYPE_F16;
    }
}

static int check_kv_type(const struct genarm_model *model, const struct engine_params *params, struct genarm_error *err) {
    const int32_t n = model->hp.n_embd_head, block = (int32_t)ggml_blck_size(GGML_TYPE_Q8_0);
    if (params->kv_type == GENARM_KV_Q8_0 && n % block != 0) {
        const int rc = error_set(err, GENARM_EUNSUPPORTED, "heads of %d numbers cannot be cached in blocks of %d", n, block);
        return error_hint(err, rc, "cache them as f16 (-ctk f16 -ctv f16)");
    }
    return GENARM_OK;
}

int engine_new(struct engine **out, const struct genarm_model *model, const struct engine_params *params,
               struct genarm_error *err) {
    const int rc = check_kv_type(model, params, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    return model->engine == GENARM_ENGINE_LLAMA ? engine_llama_new(out, model, params, err)
                                                : engine_rows_new(out, model, params, err);
}

void engine_free(struct engine *e) {
    if (e) {
        e->vtable->free(e);
    }
}

int engine_add_adapter(struct engine *e, const struct genarm_adapter *adapter, struct genarm_error *err) {
    if (adapter->model != e->model) {
        return error_set(err, GENARM_EINVAL, "the adapter was loaded for another model");
    }
    int index = e->vtable->add_adapter(e, adapter, err);
    if (index >= 0) {
        e->n_adapters = index + 1;
    }
    return index;
}

void engine_clear(struct engine *e, int32_t seq) {
    if (e->vtable->clear) {
        e->vtable->clear(e, seq);
    }
    changes(e, seq, 0);
    e->n_cached[seq] = 0;
}

int engine_refresh_adapters(struct engine *e, struct genarm_error *err) { return e->vtable->refresh_adapters(e, err); }

bool engine_mixes(const struct engine *e, int32_t n_rows) { return e->vtable->mixes && n_rows <= e->params.n_batch; }

/* Whether row i can add its share to an output. `n_mixed`: rows that have one, with this one. */
static int check_share(const struct engine *e, const struct row *rows, int32_t i, int32_t n_mixed, struct genarm_error *err) {
    if (!rows[i].output || i == 0 || !rows[i - 1].output) {
        return error_set(err, GENARM_EINVAL, "row %d has a share of no output", i);
    }
    if (!engine_mixes(e, n_mixed)) {
        return error_set(err, GENARM_EINVAL, "an output of %d rows: the engine does not mix them", n_mixed);
    }
    return GENARM_OK;
}

static int check_row(const struct engine *e, const struct row *r, struct genarm_error *err) {
    if (r->seq < 0 || r->seq >= e->params.n_seq) {
        return error_set(err, GENARM_EINVAL, "sequence %d is outside [0, %d)", r->seq, e->params.n_seq);
    }
    if (r->token < 0 || r->token >= e->model->hp.n_vocab) {
        return error_set(err, GENARM_EINVAL, "token %d is outside the vocabulary of %d", r->token, e->model->hp.n_vocab);
    }
    if (r->adapter < ENGINE_NO_ADAPTER || r->adapter >= e->n_adapters) {
        return error_set(err, GENARM_EINVAL, "adapter %d does not exist", r->adapter);
    }
    if (r->pos < 0 || r->pos >= e->params.n_ctx) {
        return error_set(err, GENARM_ECONTEXT, "position %d is outside the context of %d tokens", r->pos, e->params.n_ctx);
    }
    if (r->pos > e->n_cached[r->seq]) {
        return error_set(err, GENARM_EINVAL, "position %d of sequence %d leaves a gap after %d", r->pos, r->seq,
                         e->n_cached[r->seq]);
    }
    return GENARM_OK;
}

int engine_forward(struct engine *e, const struct row *rows, int32_t n_rows, float *logits, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (int32_t i = 0, n_mixed = 0; i < n_rows && rc == GENARM_OK; i++) {
        rc = check_row(e, &rows[i], err);
        n_mixed = rows[i].share == 0.0f ? 1 : n_mixed + 1;
        if (rc == GENARM_OK && rows[i].share != 0.0f) {
            rc = check_share(e, rows, i, n_mixed, err);
        }
        if (rc == GENARM_OK) {
            e->n_cached[rows[i].seq] = rows[i].pos + 1;
            changes(e, rows[i].seq, rows[i].pos);
        }
    }
    if (rc == GENARM_OK && n_rows > 0) {
        rc = e->vtable->forward(e, rows, n_rows, logits, err);
    }
    for (int32_t i = 0; i < n_rows && rc != GENARM_OK; i++) { /* nothing of these rows counts as cached */
        if (rows[i].seq >= 0 && rows[i].seq < e->params.n_seq && rows[i].pos < e->n_cached[rows[i].seq]) {
            e->n_cached[rows[i].seq] = rows[i].pos < 0 ? 0 : rows[i].pos;
        }
    }
    return rc;
}

int engine_copy_prefix(struct engine *e, int32_t from, int32_t to, int32_t n_pos, struct genarm_error *err) {
    if (from < 0 || from >= e->params.n_seq || to < 0 || to >= e->params.n_seq || n_pos < 0 || n_pos > e->n_cached[from]) {
        return error_set(err, GENARM_EINVAL, "cannot copy %d positions of sequence %d to %d", n_pos, from, to);
    }
    int rc = from == to ? GENARM_OK : e->vtable->copy_prefix(e, from, to, n_pos, err);
    if (from != to) {
        changes(e, to, 0);
    }
    if (rc == GENARM_OK) {
        e->n_cached[to] = n_pos;
    }
    return rc;
}

int engine_copy_range(struct engine *e, int32_t from, int32_t to, int32_t first, int32_t n_pos, struct genarm_error *err) {
    if (from < 0 || from >= e->params.n_seq || to < 0 || to >= e->params.n_seq || from == to || first < 0 || first > n_pos ||
        n_pos > e->n_cached[from] || first > e->n_cached[to]) {
        return error_set(err, GENARM_EINVAL, "cannot copy positions %d to %d of sequence %d to %d", first, n_pos, from, to);
    }
    int rc = GENARM_OK;
    if (first < n_pos) {
        rc = e->vtable->copy_range ? e->vtable->copy_range(e, from, to, first, n_pos, err)
                                   : e->vtable->copy_prefix(e, from, to, n_pos, err);
    }
    changes(e, to, first);
    e->n_cached[to] = rc == GENARM_OK ? n_pos : first;
    return rc;
}

int engine_shift(struct engine *e, int32_t seq, int32_t keep, int32_t n_drop, struct genarm_error *err) {
    if (seq < 0 || seq >= e->params.n_seq || keep < 0 || n_drop < 0 || keep > e->n_cached[seq] ||
        n_drop > e->n_cached[seq] - keep) {
        return error_set(err, GENARM_EINVAL, "cannot forget %d positions of sequence %d after %d", n_drop, seq, keep);
    }
    const int rc = e->vtable->shift(e, seq, keep, n_drop, err);
    changes(e, seq, keep);
    if (rc == GENARM_OK) {
        e->n_cached[seq] -= n_drop;
    }
    return rc;
}

int engine_save(struct engine *e, int32_t seq, int32_t n_pos, struct buf *out, struct genarm_error *err) {
    if (seq < 0 || seq >= e->params.n_seq || n_pos < 0 || n_pos > e->n_cached[seq]) {
        return error_set(err, GENARM_EINVAL, "cannot save %d positions of sequence %d", n_pos, seq);
    }
    return e->vtable->save(e, seq, n_pos, out, err);
}

int engine_load(struct engine *e, int32_t seq, int32_t n_pos, const void *data, size_t n, struct genarm_error *err) {
    if (seq < 0 || seq >= e->params.n_seq || n_pos < 0 || n_pos > e->params.n_ctx) {
        return error_set(err, GENARM_EINVAL, "cannot load %d positions of sequence %d", n_pos, seq);
    }
    const int rc = e->vtable->load(e, seq, n_pos, data, n, err);
    changes(e, seq, 0);
    if (rc == GENARM_OK) {
        e->n_cached[seq] = n_pos;
    }
    return rc;
}
