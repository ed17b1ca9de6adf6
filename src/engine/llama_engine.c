/* The engine of libllama: one of its contexts, which runs the rows of one adapter at a time.
 *
 * libllama keeps what a sequence holds and rewinds it where its kind of memory can: a cache of keys and values, not a recurrent
 * state, nor a window's cache that has dropped what lies before. This engine remembers every sequence's tokens, and feeds again
 * what libllama cannot rewind to: slower then, never wrong.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/llama_engine.h"
#include "model/llama_guard.h"
#include "model/runtime.h"

enum {
    MAX_OUTPUTS = 64, /* of one pass: libllama reserves memory for this many rows of logits */
    CTX_PAD = 256,    /* to what libllama rounds the positions of a sequence */
};

/* Adapters are entered in the model, which engines of several threads may share. */
static pthread_mutex_t adapters_lock = PTHREAD_MUTEX_INITIALIZER;

int engine_llama_failed(struct genarm_error *err, int code, const char *what) {
    const char *why = *guard_reason() ? guard_reason() : runtime_first_error();
    return *why ? error_set(err, code, "%s: %s", what, why) : error_set(err, code, "%s", what);
}

/* ---- one pass ---- */

static void use_adapter(struct llama_engine *e, int32_t adapter) {
    float scale = 1.0f;
    if (e->active != adapter) {
        llama_set_adapters_lora(e->ctx, adapter == ENGINE_NO_ADAPTER ? NULL : &e->loras[adapter], adapter != ENGINE_NO_ADAPTER,
                                adapter == ENGINE_NO_ADAPTER ? NULL : &scale);
        e->active = adapter;
    }
}

/* Runs the rows of the batch and empties it. */
static int flush(struct llama_engine *e, struct genarm_error *err) {
    const int32_t n_rows = e->batch.n_tokens;
    if (n_rows == 0) {
        return GENARM_OK;
    }
    runtime_forget_error();
    const int32_t status = guard_decode_batch(e->ctx, e->batch);
    e->batch.n_tokens = e->n_outputs = 0;
    if (status == 1) {
        return error_set(err, GENARM_EBACKEND, "libllama has no room in its memory for %d rows", n_rows);
    }
    if (status != 0) {
        return engine_llama_failed(err, GENARM_EBACKEND, "libllama failed to run a batch");
    }
    e->shift_pending = false;
    for (int32_t i = 0; i < n_rows; i++) {
        const float *logits = e->to[i] ? llama_get_logits_ith(e->ctx, i) : NULL;
        if (e->to[i] && !logits) {
            return engine_llama_failed(err, GENARM_EBACKEND, "libllama has no logits of a row");
        }
        if (logits) {
            memcpy(e->to[i], logits, (size_t)e->base.model->hp.n_vocab * sizeof *logits);
        }
    }
    return GENARM_OK;
}

/* Puts a row into the batch. `to`: where its logits go, or NULL. */
static int push(struct llama_engine *e, int32_t token, int32_t seq, int32_t pos, float *to, struct genarm_error *err) {
    struct llama_batch *b = &e->batch;
    if (b->n_tokens == e->base.params.n_batch || (to && e->n_outputs == e->max_outputs)) {
        const int rc = flush(e, err);
        if (rc != GENARM_OK) {
            return rc;
        }
    }
    const int32_t i = b->n_tokens++;
    b->token[i] = token;
    b->pos[i] = pos;
    b->n_seq_id[i] = 1;
    b->seq_id[i][0] = seq;
    b->logits[i] = to != NULL;
    e->to[i] = to;
    e->n_outputs += to != NULL;
    sequence_tokens(e, seq)[pos] = token;
    return GENARM_OK;
}

/* ---- what sequences hold ---- */

/* Makes libllama hold exactly the first n_pos positions of a sequence. The batch is empty and the adapter in use. */
static int hold(struct llama_engine *e, int32_t seq, int32_t n_pos, struct genarm_error *err) {
    int rc = GENARM_OK;
    sequence_rewind(e, seq, n_pos);
    const int32_t from = sequence_held(e, seq);
    if (from < n_pos) {
        log_line(GENARM_LOG_DEBUG, "sequence %d: positions %d to %d are fed again", seq, from, n_pos - 1);
    }
    for (int32_t pos = from; pos < n_pos && rc == GENARM_OK; pos++) {
        rc = push(e, sequence_tokens(e, seq)[pos], seq, pos, NULL, err);
    }
    return rc == GENARM_OK ? flush(e, err) : rc;
}

/* Gets a sequence ready for a row at `pos`: its first of a batch. */
static int prepare(struct llama_engine *e, const struct row *row, struct genarm_error *err) {
    int32_t *through = &e->seen_through[row->seq];
    if (*through == ANY_ADAPTER || row->pos == 0) {
        *through = row->adapter;
    }
    if (*through != row->adapter) {
        return error_set(err, GENARM_EINVAL, "sequence %d was seen through another adapter up to position %d", row->seq,
                         row->pos);
    }
    return hold(e, row->seq, row->pos, err);
}

/* ---- the engine ---- */

/* Whether row i is the first of its sequence among the rows. */
static bool is_first(const struct row *rows, int32_t i) {
    for (int32_t j = i - 1; j >= 0; j--) {
        if (rows[j].seq == rows[i].seq) {
            return false;
        }
    }
    return true;
}

static int check_order(const struct row *rows, int32_t n_rows, struct genarm_error *err) {
    for (int32_t i = 0; i < n_rows; i++) {
        int32_t j = i - 1;
        for (; j >= 0 && rows[j].seq != rows[i].seq; j--) {
        }
        if (j >= 0 && (rows[j].pos + 1 != rows[i].pos || rows[j].adapter != rows[i].adapter)) {
            return error_set(err, GENARM_EINVAL, "position %d of sequence %d follows %d, or comes through another adapter",
                             rows[i].pos, rows[i].seq, rows[j].pos);
        }
    }
    return GENARM_OK;
}

/* The rows of one adapter. */
static int run_adapter(struct llama_engine *e, int32_t adapter, const struct row *rows, int32_t n_rows, float *logits,
                       struct genarm_error *err) {
    int rc = GENARM_OK;
    for (int32_t i = 0; i < n_rows && rc == GENARM_OK; i++) {
        if (rows[i].adapter == adapter && is_first(rows, i)) {
            use_adapter(e, adapter);
            rc = prepare(e, &rows[i], err);
        }
    }
    for (int32_t i = 0; i < n_rows && rc == GENARM_OK; i++) {
        if (rows[i].adapter == adapter) {
            rc = push(e, rows[i].token, rows[i].seq, rows[i].pos, rows[i].output ? logits : NULL, err);
        }
        logits += rows[i].output ? engine_n_output(&e->base) : 0;
    }
    return rc == GENARM_OK ? flush(e, err) : rc;
}

/* Another adapter means that libllama plans its graphs anew: the one in use comes first, so that a step of a base and an ARM
 * changes once. */
static int forward(struct engine *base, const struct row *rows, int32_t n_rows, float *logits, struct genarm_error *err) {
    struct llama_engine *e = (struct llama_engine *)base;
    int rc = check_order(rows, n_rows, err);
    const int32_t first = e->active;
    if (rc == GENARM_OK) {
        rc = run_adapter(e, first, rows, n_rows, logits, err);
    }
    for (int32_t a = ENGINE_NO_ADAPTER; a < base->n_adapters && rc == GENARM_OK; a++) {
        rc = a == first ? GENARM_OK : run_adapter(e, a, rows, n_rows, logits, err);
    }
    e->batch.n_tokens = e->n_outputs = 0;
    return rc;
}

static int add_adapter(struct engine *base, const struct genarm_adapter *adapter, struct genarm_error *err) {
    struct llama_engine *e = (struct llama_engine *)base;
    if (adapter->info.objectives.n > 0) {
        const int rc = error_set(err, GENARM_EUNSUPPORTED, "libllama runs this model: it cannot weigh an adapter's objectives");
        return error_hint(err, rc, "genarm merge --into adapter --preference makes a plain adapter of it");
    }
    if (!adapter->path) {
        return model_need_graph(base->model, "an adapter that is under training", err);
    }
    struct llama_adapter_lora **more = realloc(e->loras, ((size_t)base->n_adapters + 1) * sizeof(struct llama_adapter_lora *));
    if (!more) {
        return error_nomem(err, "an adapter");
    }
    e->loras = more;
    runtime_forget_error();
    pthread_mutex_lock(&adapters_lock);
    more[base->n_adapters] = guard_adapter_load(base->model->llama, adapter->path);
    pthread_mutex_unlock(&adapters_lock);
    return more[base->n_adapters] ? base->n_adapters
                                  : engine_llama_failed(err, GENARM_EFORMAT, "libllama cannot load the adapter");
}

static int refresh_adapters(struct engine *base, struct genarm_error *err) {
    return base->n_adapters ? model_need_graph(base->model, "an adapter that is under training", err) : GENARM_OK;
}

/* ---- construction ---- */

static void engine_llama_free(struct engine *base) {
    struct llama_engine *e = (struct llama_engine *)base;
    if (e->ctx) {
        llama_detach_threadpool(e->ctx);
        llama_free(e->ctx);
    }
    pthread_mutex_lock(&adapters_lock);
    for (int32_t i = 0; i < base->n_adapters; i++) {
        llama_adapter_lora_free(e->loras[i]);
    }
    pthread_mutex_unlock(&adapters_lock);
    if (e->batch.token) {
        llama_batch_free(e->batch);
    }
    engine_threads_free(e->own_threads);
    free(e->loras);
    free(e->tokens);
    free(e->seen_through);
    free(e->to);
    engine_deinit(base);
    free(e);
}

static const struct engine_vtable llama_vtable = {
    .name = "llama",
    .forward = forward,
    .add_adapter = add_adapter,
    .refresh_adapters = refresh_adapters,
    .copy_prefix = sequence_copy_prefix,
    .shift = sequence_shift,
    .save = sequence_save,
    .load = sequence_load,
    .clear = sequence_clear,
    .free = engine_llama_free,
};

static int check_params(const struct engine_params *p, const struct genarm_model *model, struct genarm_error *err) {
    if (p->hidden) {
        return model_need_graph(model, "a reward model with a head", err);
    }
    if ((size_t)p->n_seq > llama_max_parallel_sequences()) {
        const int rc = error_set(err, GENARM_EUNSUPPORTED, "libllama runs this model, and has room for %zu sequences, not %d",
                                 llama_max_parallel_sequences(), p->n_seq);
        return error_hint(err, rc, "use fewer slots (-np), or fewer ARMs on one model");
    }
    if ((int64_t)p->n_seq * p->n_ctx > INT32_MAX) {
        const int rc = error_set(err, GENARM_ENOMEM, "%d sequences of %d positions are too many", p->n_seq, p->n_ctx);
        return error_hint(err, rc, "use a smaller context (-c) or fewer slots (-np)");
    }
    return GENARM_OK;
}

static struct llama_context_params context_params(const struct llama_engine *e) {
    const struct engine_params *p = &e->base.params;
    struct llama_context_params c = llama_context_default_params();
    const uint32_t per_seq = ((uint32_t)p->n_ctx + CTX_PAD - 1) / CTX_PAD * CTX_PAD;
    c.n_ctx = per_seq * (uint32_t)p->n_seq;
    c.n_batch = c.n_ubatch = (uint32_t)p->n_batch;
    c.n_seq_max = (uint32_t)p->n_seq;
    c.n_outputs_max = (uint32_t)e->max_outputs;
    c.n_threads = c.n_threads_batch = p->n_threads;
    c.kv_unified = false; /* a sequence attends to its own cells only: others cost it nothing */
    c.swa_full = true;    /* or positions before the window could not be rewound to */
    c.no_perf = true;
    c.type_k = c.type_v = engine_kv_type(p->kv_type);
    if (c.type_k == GGML_TYPE_F32) {
        c.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED; /* it rounds to f16 */
    }
    return c;
}

static int open_threads(struct llama_engine *e, struct genarm_error *err) {
    struct engine_params *p = &e->base.params;
    const int rc = p->threads ? GENARM_OK : engine_threads_new(&e->own_threads, p->n_threads, err);
    if (rc == GENARM_OK) {
        p->threads = p->threads ? p->threads : e->own_threads;
        p->n_threads = p->threads->n;
    }
    return rc;
}

static int open_context(struct llama_engine *e, struct genarm_error *err) {
    const struct genarm_model *model = e->base.model;
    e->max_outputs = e->base.params.n_seq > MAX_OUTPUTS ? e->base.params.n_seq : MAX_OUTPUTS;
    runtime_forget_error();
    e->ctx = guard_context_new(model->llama, context_params(e));
    if (!e->ctx) {
        const int rc = engine_llama_failed(err, GENARM_ENOMEM, "libllama cannot start the model");
        return error_hint(err, rc, "use a smaller context (-c), a smaller batch (-b) or fewer slots (-np)");
    }
    e->memory = llama_get_memory(e->ctx);
    if (!e->memory) {
        return error_set(err, GENARM_EUNSUPPORTED, "models of architecture %s do not continue text token by token",
                         model->architecture);
    }
    if (llama_n_ctx_seq(e->ctx) < (uint32_t)e->base.params.n_ctx) {
        return error_set(err, GENARM_EBACKEND, "libllama gives a sequence %u positions, not %d", llama_n_ctx_seq(e->ctx),
                         e->base.params.n_ctx);
    }
    if (llama_n_batch(e->ctx) < (uint32_t)e->base.params.n_batch) { /* it takes no more rows than positions */
        e->base.params.n_batch = (int32_t)llama_n_batch(e->ctx);
    }
    e->recurrent = llama_model_is_recurrent(model->llama) || llama_model_is_hybrid(model->llama);
    llama_attach_threadpool(e->ctx, e->base.params.threads->ggml, e->base.params.threads->ggml);
    return GENARM_OK;
}

static int make_scratch(struct llama_engine *e, struct genarm_error *err) {
    const struct engine_params *p = &e->base.params;
    e->tokens = calloc((size_t)p->n_seq * (size_t)p->n_ctx, sizeof *e->tokens);
    e->seen_through = calloc((size_t)p->n_seq, sizeof *e->seen_through);
    e->to = calloc((size_t)p->n_batch, sizeof *e->to);
    e->batch = llama_batch_init(p->n_batch, 0, 1);
    for (int32_t s = 0; e->seen_through && s < p->n_seq; s++) {
        e->seen_through[s] = ANY_ADAPTER;
    }
    return e->tokens && e->seen_through && e->to && e->batch.token ? GENARM_OK : error_nomem(err, "a batch");
}

int engine_llama_new(struct engine **out, const struct genarm_model *model, const struct engine_params *params,
                     struct genarm_error *err) {
    struct llama_engine *e = calloc(1, sizeof *e);
    if (!e) {
        return error_nomem(err, "an engine");
    }
    e->active = ENGINE_NO_ADAPTER;
    int rc = engine_init(&e->base, &llama_vtable, model, params, err);
    rc = rc == GENARM_OK ? check_params(&e->base.params, model, err) : rc;
    rc = rc == GENARM_OK ? open_threads(e, err) : rc;
    rc = rc == GENARM_OK ? open_context(e, err) : rc;
    rc = rc == GENARM_OK ? make_scratch(e, err) : rc;
    if (rc != GENARM_OK) {
        engine_llama_free(&e->base);
        return rc;
    }
    *out = &e->base;
    return GENARM_OK;
}
