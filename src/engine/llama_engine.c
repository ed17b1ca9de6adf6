/* The engine of libllama: one of its contexts, which runs the rows of one adapter at a time.
 *
 * libllama keeps what a sequence holds and rewinds it where its kind of memory can: a cache of keys and values, not a recurrent
 * state, nor a window's cache that has dropped what lies before. This engine remembers every sequence's tokens, and feeds again
 * what libllama cannot rewind to: slower then, never wrong.
 */
#include <ggml.h>
#include <llama.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "model/llama_guard.h"
#include "model/runtime.h"

enum {
    MAX_OUTPUTS = 64, /* of one pass: libllama reserves memory for this many rows of logits */
    CTX_PAD = 256,    /* to what libllama rounds the positions of a sequence */
    ANY_ADAPTER = -2, /* of a sequence that was loaded: its first row says which */
};

struct llama_engine {
    struct engine base;
    struct engine_threads *own_threads; /* or NULL: the caller's */
    struct llama_context *ctx;
    llama_memory_t memory; /* of ctx */

    struct llama_adapter_lora **loras; /* [n_adapters], of the model, which would free them, but late */
    int32_t active;                    /* adapter that ctx applies */

    int32_t *tokens;       /* [n_ctx, n_seq] what each sequence holds */
    int32_t *seen_through; /* [n_seq] adapter, or ANY_ADAPTER */
    bool recurrent;        /* its state cannot be rewound, and knows when */
    bool shift_pending;    /* libllama moves positions with its next pass */

    struct llama_batch batch; /* [batch_max] rows of the pass at hand */
    float **to;               /* [batch_max] where their logits go, NULL: nowhere */
    int32_t n_outputs;        /* of the batch */
    int32_t max_outputs;
};

/* Adapters are entered in the model, which engines of several threads may share. */
static pthread_mutex_t adapters_lock = PTHREAD_MUTEX_INITIALIZER;

static int32_t *tokens_of(const struct llama_engine *e, int32_t seq) {
    return e->tokens + (size_t)seq * (size_t)e->base.params.n_ctx;
}

static int failed(struct genarm_error *err, int code, const char *what) {
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
        return failed(err, GENARM_EBACKEND, "libllama failed to run a batch");
    }
    e->shift_pending = false;
    for (int32_t i = 0; i < n_rows; i++) {
        const float *logits = e->to[i] ? llama_get_logits_ith(e->ctx, i) : NULL;
        if (e->to[i] && !logits) {
            return failed(err, GENARM_EBACKEND, "libllama has no logits of a row");
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
    tokens_of(e, seq)[pos] = token;
    return GENARM_OK;
}

/* ---- what sequences hold ---- */

static int32_t n_held(const struct llama_engine *e, int32_t seq) { return llama_memory_seq_pos_max(e->memory, seq) + 1; }

/* Makes libllama forget the positions from n_pos on. False: it cannot, or the window before n_pos is not whole. */
static bool rewind_to(struct llama_engine *e, int32_t seq, int32_t n_pos) {
    const int32_t window = llama_model_n_swa(e->base.model->llama), first = n_pos > window ? n_pos - window : 0;
    if (n_pos == 0 || !llama_memory_seq_rm(e->memory, seq, n_pos, -1) || n_held(e, seq) != n_pos) {
        return false;
    }
    return e->recurrent || window == 0 || llama_memory_seq_pos_min(e->memory, seq) <= first;
}

/* Makes libllama hold exactly the first n_pos positions of a sequence. Those that it lost are fed again. The batch is empty and
 * the adapter in use. */
static int hold(struct llama_engine *e, int32_t seq, int32_t n_pos, struct genarm_error *err) {
    if (n_held(e, seq) > n_pos && !rewind_to(e, seq, n_pos)) {
        llama_memory_seq_rm(e->memory, seq, -1, -1);
    }
    int rc = GENARM_OK;
    const int32_t from = n_held(e, seq);
    if (from < n_pos) {
        log_line(GENARM_LOG_DEBUG, "sequence %d: positions %d to %d are fed again", seq, from, n_pos - 1);
    }
    for (int32_t pos = from; pos < n_pos && rc == GENARM_OK; pos++) {
        rc = push(e, tokens_of(e, seq)[pos], seq, pos, NULL, err);
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
static int llama_forward(struct engine *base, const struct row *rows, int32_t n_rows, float *logits, struct genarm_error *err) {
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

static int llama_add_adapter(struct engine *base, const struct genarm_adapter *adapter, struct genarm_error *err) {
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
    return more[base->n_adapters] ? base->n_adapters : failed(err, GENARM_EFORMAT, "libllama cannot load the adapter");
}

static int llama_refresh_adapters(struct engine *base, struct genarm_error *err) {
    return base->n_adapters ? model_need_graph(base->model, "an adapter that is under training", err) : GENARM_OK;
}

/* ---- copies, shifts, files ---- */

/* What libllama holds of a sequence, malloc'ed. */
static int get_state(struct llama_engine *e, int32_t seq, void **bytes, size_t *n, struct genarm_error *err) {
    runtime_forget_error();
    const size_t size = guard_state_size(e->ctx, seq);
    void *state = size ? malloc(size) : NULL;
    if (size && !state) {
        return error_nomem(err, "a sequence's memory");
    }
    if (size == 0 || guard_state_get(e->ctx, seq, state, size) != size) {
        free(state);
        return failed(err, GENARM_EBACKEND, "libllama cannot copy a sequence's memory");
    }
    *bytes = state;
    *n = size;
    return GENARM_OK;
}

/* libllama copies between sequences only with its next pass, and whole caches: bytes are simpler. */
static int llama_copy_prefix(struct engine *base, int32_t from, int32_t to, int32_t n_pos, struct genarm_error *err) {
    struct llama_engine *e = (struct llama_engine *)base;
    void *bytes = NULL;
    size_t n = 0;
    int rc = n_pos > 0 && !e->shift_pending ? get_state(e, from, &bytes, &n, err) : GENARM_OK;
    if (rc != GENARM_OK) {
        return rc;
    }
    llama_memory_seq_rm(e->memory, to, -1, -1);
    if (n > 0 && guard_state_set(e->ctx, to, bytes, n) != n) {
        llama_memory_seq_rm(e->memory, to, -1, -1); /* the tokens are enough */
    }
    free(bytes);
    memcpy(tokens_of(e, to), tokens_of(e, from), (size_t)n_pos * sizeof *e->tokens);
    e->seen_through[to] = e->seen_through[from];
    return GENARM_OK;
}

/* Whether what is cached at one position is right at another. */
static bool can_shift(const struct llama_engine *e) {
    return !e->recurrent && llama_memory_can_shift(e->memory) &&
           llama_model_rope_type(e->base.model->llama) != LLAMA_ROPE_TYPE_NONE;
}

static int llama_shift(struct engine *base, int32_t seq, int32_t keep, int32_t n_drop, struct genarm_error *err) {
    struct llama_engine *e = (struct llama_engine *)base;
    const int32_t n_cached = base->n_cached[seq];
    if (!can_shift(e)) {
        const int rc = error_set(err, GENARM_EUNSUPPORTED, "models of architecture %s cannot forget the middle of a text",
                                 base->model->architecture);
        return error_hint(err, rc, "use a larger context (-c)");
    }
    if (n_drop == 0) {
        return GENARM_OK;
    }
    if (e->seen_through[seq] != ANY_ADAPTER) {
        use_adapter(e, e->seen_through[seq]);
    }
    int rc = hold(e, seq, n_cached, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    if (!llama_memory_seq_rm(e->memory, seq, keep, keep + n_drop)) {
        return error_set(err, GENARM_EUNSUPPORTED, "libllama cannot forget a part of a sequence");
    }
    llama_memory_seq_add(e->memory, seq, keep + n_drop, -1, -n_drop);
    int32_t *tokens = tokens_of(e, seq);
    memmove(tokens + keep, tokens + keep + n_drop, (size_t)(n_cached - keep - n_drop) * sizeof *tokens);
    e->shift_pending = true;
    return GENARM_OK;
}

/* Before the tokens and libllama's bytes of what engine_save wrote. */
struct saved {
    char magic[8];
    char fingerprint[20];
    int32_t kv_f32;
    int32_t n_pos; /* >= those asked for: libllama's bytes are of whole sequences */
};

static struct saved saved_header(const struct llama_engine *e, int32_t n_pos) {
    struct saved s = {.magic = "llama 1", .kv_f32 = e->base.params.kv_f32, .n_pos = n_pos};
    memcpy(s.fingerprint, e->base.model->fingerprint, sizeof e->base.model->fingerprint);
    return s;
}

static int llama_save(struct engine *base, int32_t seq, int32_t n_pos, struct buf *out, struct genarm_error *err) {
    struct llama_engine *e = (struct llama_engine *)base;
    const int32_t held = n_held(e, seq);
    const bool whole = !e->shift_pending && held >= n_pos; /* else the tokens are enough */
    const struct saved header = saved_header(e, whole ? held : n_pos);
    void *bytes = NULL;
    size_t n = 0;
    int rc = whole && held > 0 ? get_state(e, seq, &bytes, &n, err) : GENARM_OK;
    rc = rc == GENARM_OK ? buf_append(out, &header, sizeof header, err) : rc;
    rc = rc == GENARM_OK ? buf_append(out, tokens_of(e, seq), (size_t)header.n_pos * sizeof *e->tokens, err) : rc;
    rc = rc == GENARM_OK && n > 0 ? buf_append(out, bytes, n, err) : rc;
    free(bytes);
    return rc;
}

static int llama_load(struct engine *base, int32_t seq, int32_t n_pos, const void *data, size_t n, struct genarm_error *err) {
    struct llama_engine *e = (struct llama_engine *)base;
    struct saved s;
    const char *at = data;
    if (n < sizeof s) {
        return error_set(err, GENARM_EFORMAT, "a saved sequence of %zu bytes", n);
    }
    memcpy(&s, at, sizeof s);
    const struct saved expected = saved_header(e, s.n_pos);
    if (memcmp(&s, &expected, sizeof s) != 0) {
        return error_set(err, GENARM_EMISMATCH, "the sequence is of another engine, another model or another type of cache");
    }
    const size_t n_tokens = s.n_pos > 0 ? (size_t)s.n_pos * sizeof *e->tokens : 0;
    if (s.n_pos < n_pos || s.n_pos > base->params.n_ctx || n - sizeof s < n_tokens) {
        return error_set(err, GENARM_EFORMAT, "the saved sequence has %d positions, not %d", s.n_pos, n_pos);
    }
    int32_t *tokens = tokens_of(e, seq);
    const int32_t n_vocab = base->model->hp.n_vocab;
    for (size_t i = 0; i < n_tokens / sizeof *tokens; i++) {
        int32_t token;
        memcpy(&token, at + sizeof s + i * sizeof token, sizeof token);
        if (token < 0 || token >= n_vocab) {
            return error_set(err, GENARM_EFORMAT, "the saved sequence has the token %d in a vocabulary of %d", token, n_vocab);
        }
    }
    memcpy(tokens, at + sizeof s, n_tokens);
    llama_memory_seq_rm(e->memory, seq, -1, -1);
    const size_t n_state = n - sizeof s - n_tokens;
    if (n_state > 0 && (guard_state_set(e->ctx, seq, at + sizeof s + n_tokens, n_state) != n_state ||
                        n_held(e, seq) != s.n_pos)) {
        llama_memory_seq_rm(e->memory, seq, -1, -1); /* the tokens are enough */
    }
    e->seen_through[seq] = ANY_ADAPTER;
    return GENARM_OK;
}

/* ---- construction ---- */

static void llama_engine_free(struct engine *base) {
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
    .forward = llama_forward,
    .add_adapter = llama_add_adapter,
    .refresh_adapters = llama_refresh_adapters,
    .copy_prefix = llama_copy_prefix,
    .shift = llama_shift,
    .save = llama_save,
    .load = llama_load,
    .free = llama_engine_free,
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
    if (p->kv_f32) {
        c.type_k = c.type_v = GGML_TYPE_F32;
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
        const int rc = failed(err, GENARM_ENOMEM, "libllama cannot start the model");
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
        llama_engine_free(&e->base);
        return rc;
    }
    *out = &e->base;
    return GENARM_OK;
}
