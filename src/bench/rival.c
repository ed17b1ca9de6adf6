#include "bench/rival.h"

#include <ggml-cpu.h>

#include "model/llama_guard.h"
#include "model/model.h"

enum { MAX_SHARES = 64 };

static const char *reason(void) { return *guard_reason() ? guard_reason() : runtime_first_error(); }

/* The same layers on the same devices. */
static void place(struct rival *r, struct llama_model_params *params, float *shares, const struct genarm_model *model) {
    const struct placement *p = &model->placement;
    const int32_t n_units = model->hp.n_layer + 1; /* layers, and the head */
    for (int i = 0; i < p->n_devices; i++) {
        r->devices[i] = p->devices[i];
        shares[i] = (float)(p->first[i + 1] - p->first[i]);
    }
    params->devices = r->devices; /* an empty list: the CPU */
    params->n_gpu_layers = p->n_devices ? n_units - p->first[0] : 0;
    params->tensor_split = p->n_devices && llama_max_devices() <= MAX_SHARES ? shares : NULL;
}

static int load(struct rival *r, const struct genarm_model *model, struct genarm_error *err) {
    float shares[MAX_SHARES] = {0};
    struct llama_model_params params = llama_model_default_params();
    place(r, &params, shares, model);
    runtime_forget_error();
    r->model = guard_model_load(model->path, params);
    if (!r->model) {
        return error_set(err, GENARM_EFORMAT, "libllama cannot load it: %s", reason());
    }
    r->n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(r->model));
    return GENARM_OK;
}

static int make_context(struct rival *r, const struct genarm_guide *guide, struct genarm_error *err) {
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t)guide->params.n_ctx;
    params.n_threads = params.n_threads_batch = guide->threads->n;
    params.type_k = params.type_v = engine_kv_type(guide->params.kv_type);
    params.no_perf = true;
    runtime_forget_error();
    r->ctx = guard_context_new(r->model, params);
    if (!r->ctx) {
        return error_set(err, GENARM_EBACKEND, "libllama makes no context: %s", reason());
    }
    /* Threads of its own that stay: without, libllama starts new ones for each pass. */
    struct ggml_threadpool_params threads = ggml_threadpool_params_default(guide->threads->n);
    r->threads = ggml_threadpool_new(&threads);
    if (!r->threads) {
        return error_set(err, GENARM_EBACKEND, "cannot start %d threads", guide->threads->n);
    }
    llama_attach_threadpool(r->ctx, r->threads, r->threads);
    r->n_batch = (int32_t)llama_n_batch(r->ctx);
    return GENARM_OK;
}

int rival_open(struct rival *r, const struct genarm_guide *guide, int (*stop)(void), struct genarm_error *err) {
    const struct genarm_model *model = guide->policies[0].model;
    *r = (struct rival){.stop = stop};
    int rc = load(r, model, err);
    rc = rc == GENARM_OK ? make_context(r, guide, err) : rc;
    return error_at(err, rc, "%s", model->path);
}

void rival_close(struct rival *r) {
    if (r->ctx) {
        llama_free(r->ctx);
    }
    if (r->model) {
        llama_model_free(r->model);
    }
    ggml_threadpool_free(r->threads);
    *r = (struct rival){0};
}

bool rival_keep(struct rival *r, int32_t n) {
    const llama_memory_t memory = llama_get_memory(r->ctx);
    if (memory && n > 0 && llama_memory_seq_rm(memory, 0, n, -1)) {
        return true;
    }
    if (memory) {
        llama_memory_clear(memory, false);
    }
    return n == 0;
}

static int32_t likeliest(const float *logits, int32_t n) {
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

int rival_decode(struct rival *r, int32_t *tokens, int32_t n, int32_t *next, struct genarm_error *err) {
    for (int32_t i = 0; i < n; i += r->n_batch) {
        const int32_t left = n - i;
        if (r->stop && r->stop() != 0) {
            return error_set(err, GENARM_ECANCELED, "stopped");
        }
        runtime_forget_error();
        if (guard_decode(r->ctx, tokens + i, left < r->n_batch ? left : r->n_batch) != 0) {
            return error_set(err, GENARM_EBACKEND, "libllama cannot compute %d tokens: %s", n, reason());
        }
    }
    const float *logits = llama_get_logits_ith(r->ctx, -1);
    if (!logits) {
        return error_set(err, GENARM_EBACKEND, "libllama gives no logits");
    }
    *next = likeliest(logits, r->n_vocab);
    return GENARM_OK;
}
