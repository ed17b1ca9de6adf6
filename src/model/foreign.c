#include "model/foreign.h"

#include <stdio.h>
#include <string.h>

#include "model/llama_guard.h"
#include "model/vocab.h"

static const char embeddings[] = "token_embd.weight";

/* libllama's own rule: of n offloaded units the head is the first, while ours is the last. */
static int place(struct genarm_model *m, int32_t n_offloaded, const char *tensor_split, struct genarm_error *err) {
    struct placement *p = &m->placement;
    const bool all = n_offloaded > m->hp.n_layer;
    const int rc = placement_split(p, m->hp.n_layer, n_offloaded, tensor_split, err);
    for (int d = 0; rc == GENARM_OK && !all && d <= p->n_devices; d++) {
        p->first[d]++;
    }
    return rc;
}

/* The parameters that make libllama place units as m->placement says. devices[PLACEMENT_MAX_DEVICES + 1] and shares[of
 * llama_max_devices()] are theirs. */
static struct llama_model_params load_params(const struct genarm_model *m, ggml_backend_dev_t *devices, float *shares) {
    const struct placement *p = &m->placement;
    struct llama_model_params params = llama_model_default_params();
    for (int d = 0; d < p->n_devices; d++) {
        devices[d] = p->devices[d];
        shares[d] = (float)(p->first[d + 1] - p->first[d]);
    }
    params.devices = devices; /* none: do not wake a GPU */
    params.n_gpu_layers = p->n_devices ? m->hp.n_layer + 1 - p->first[0] : 0;
    params.tensor_split = p->n_devices ? shares : NULL;
    return params;
}

/* BERT and its like, encoders with a decoder, and models that fill in blanks. */
static int check_continues(const struct llama_model *model, const char *architecture, struct genarm_error *err) {
    if (llama_model_has_decoder(model) && !llama_model_has_encoder(model) && !llama_model_is_diffusion(model)) {
        return GENARM_OK;
    }
    return error_set(err, GENARM_EUNSUPPORTED, "models of architecture %s do not continue text token by token", architecture);
}

static void take_sizes(struct hparams *hp, const struct llama_model *model) {
    hp->n_head = llama_model_n_head(model);
    hp->n_head_kv = llama_model_n_head_kv(model);
}

static int load(struct genarm_model *m, bool known, enum genarm_load_mode mode, struct genarm_error *err) {
    ggml_backend_dev_t devices[PLACEMENT_MAX_DEVICES + 1] = {NULL};
    float shares[128] = {0};
    if (llama_max_devices() > sizeof shares / sizeof *shares) {
        return error_set(err, GENARM_EBACKEND, "libllama wants shares of %zu devices", llama_max_devices());
    }
    runtime_forget_error();
    struct llama_model_params params = load_params(m, devices, shares);
    params.load_mode = mode == GENARM_LOAD_NONE ? LLAMA_LOAD_MODE_NONE : LLAMA_LOAD_MODE_MMAP; /* its copies have no huge pages */
    m->llama = guard_model_load(m->path, params);
    if (!m->llama) {
        const char *why = guard_reason();
        return error_set(err, GENARM_EUNSUPPORTED, "libllama cannot load the model: %s", *why ? why : runtime_first_error());
    }
    if (llama_vocab_n_tokens(llama_model_get_vocab(m->llama)) != m->hp.n_vocab) {
        return error_set(err, GENARM_EFORMAT, "libllama finds another number of tokens than %d", m->hp.n_vocab);
    }
    if (!known) {
        take_sizes(&m->hp, m->llama);
    }
    return check_continues(m->llama, m->architecture, err);
}

int foreign_open(struct genarm_model *m, struct gguf_file *file, int32_t n_offloaded,
                 const struct genarm_model_params *params, struct genarm_error *err) {
    m->weights = (struct weights){.file = *file};
    *file = (struct gguf_file){0};
    m->engine = GENARM_ENGINE_LLAMA;
    struct gguf_file *f = &m->weights.file;
    const bool known = hparams_read(&m->hp, f->gguf, NULL) == GENARM_OK;
    int rc = known ? GENARM_OK : hparams_read_any(&m->hp, f->gguf, err);
    rc = rc == GENARM_OK ? hparams_check_any(f->gguf, err) : rc;
    const struct ggml_tensor *t = rc == GENARM_OK ? ggml_get_tensor(f->tensors, embeddings) : NULL;
    if (rc == GENARM_OK && (!t || t->ne[1] > INT32_MAX)) {
        rc = error_set(err, GENARM_EFORMAT, "tensor %s is missing", embeddings);
    }
    if (rc == GENARM_OK) {
        m->hp.n_vocab = (int32_t)t->ne[1];
        rc = gguf_need_str(&m->architecture, f->gguf, "general.architecture", err);
    }
    rc = rc == GENARM_OK ? vocab_check(f->gguf, m->hp.n_vocab, err) : rc;
    rc = rc == GENARM_OK ? place(m, n_offloaded, params->tensor_split, err) : rc;
    return rc == GENARM_OK ? load(m, known, params->load_mode, err) : rc;
}

/* The layer of a tensor, n_layer for what is in none. */
static int32_t unit_of(const struct ggml_tensor *t, int32_t n_layer) {
    int32_t layer = n_layer;
    return sscanf(t->name, "blk.%8d.", &layer) == 1 && layer >= 0 && layer < n_layer ? layer : n_layer;
}

size_t foreign_unit_size(const struct genarm_model *m, int32_t unit) {
    size_t size = 0;
    const struct gguf_file *f = &m->weights.file;
    for (struct ggml_tensor *t = ggml_get_first_tensor(f->tensors); t; t = ggml_get_next_tensor(f->tensors, t)) {
        size += unit_of(t, m->hp.n_layer) == unit && strcmp(t->name, embeddings) != 0 ? ggml_nbytes(t) : 0;
    }
    return size;
}

size_t foreign_embeddings_size(const struct genarm_model *m) {
    return ggml_nbytes(ggml_get_tensor(m->weights.file.tensors, embeddings));
}
