/* See classifier.h. libllama aborts on some of what a file can hold: that is found out here before it sees the file. */
#include "reward/classifier.h"

#include <string.h>

#include "base/cores.h"
#include "model/gguf_check.h"
#include "model/hparams.h"
#include "model/llama_guard.h"
#include "model/placement.h"
#include "model/runtime.h"
#include "model/vocab.h"

enum {
    DEFAULT_CTX_MAX = 4096,
    PIECE = 256, /* tokens: libllama computes logits of the vocabulary for each token of a causal model's batch */
    MAX_LAYERS = 512,
    MAX_SIZE = 1 << 20,
    MAX_SHARES = 64, /* libllama reads as many as llama_max_devices, 16 */
};

/* What libllama knows how to classify with. */
static const struct family {
    const char *arch;
    bool decoder; /* has a cache; the output comes from the last token, else from the first or the mean of all */
    bool softmax; /* libllama puts the outputs through a softmax */
} families[] = {{"bert", false, false}, {"modern-bert", false, false}, {"neo-bert", false, false}, {"qwen3", true, true}};

static const char output_name[] = "cls.output.weight";

/* ---- checks ---- */

static int find_family(const struct family **out, const struct gguf_context *gguf, struct genarm_error *err) {
    const char *arch;
    int rc = gguf_need_str(&arch, gguf, "general.architecture", err);
    for (size_t i = 0; rc == GENARM_OK && i < sizeof families / sizeof *families; i++) {
        if (strcmp(arch, families[i].arch) == 0) {
            *out = &families[i];
            return GENARM_OK;
        }
    }
    if (rc == GENARM_OK) {
        rc = error_set(err, GENARM_EUNSUPPORTED, "general.architecture: there are no classifiers \"%s\"", arch);
        error_hint(err, rc, "rank: takes bert, modern-bert, neo-bert and qwen3; arm: takes language models");
    }
    return rc;
}

static int check_size(uint32_t *out, const struct gguf_context *gguf, const char *arch, const char *suffix, uint32_t max,
                      struct genarm_error *err) {
    char key[80];
    snprintf(key, sizeof key, "%s.%s", arch, suffix);
    const int rc = gguf_need_u32(out, gguf, key, err);
    return rc == GENARM_OK && (*out < 1 || *out > max)
               ? error_set(err, GENARM_EFORMAT, "%s is %u, not within 1 and %u", key, *out, max)
               : rc;
}

/* Of either kind of norm; libllama says which of them is missing. */
static int check_epsilon(const struct gguf_context *gguf, const char *arch, const char *suffix, struct genarm_error *err) {
    char key[80];
    float epsilon;
    snprintf(key, sizeof key, "%s.%s", arch, suffix);
    const int rc = gguf_opt_f32(&epsilon, gguf, key, 0, err);
    return rc == GENARM_OK && !(epsilon >= 0 && epsilon < 1)
               ? error_set(err, GENARM_EFORMAT, "%s is %g, not within 0 and 1", key, (double)epsilon)
               : rc;
}

static int check_sizes(const struct gguf_context *gguf, const struct family *family, struct genarm_error *err) {
    uint32_t n_embd, n_head, n_other;
    int rc = check_size(&n_embd, gguf, family->arch, "embedding_length", MAX_SIZE, err);
    rc = rc == GENARM_OK ? check_size(&n_head, gguf, family->arch, "attention.head_count", 1024, err) : rc;
    rc = rc == GENARM_OK ? check_size(&n_other, gguf, family->arch, "block_count", MAX_LAYERS, err) : rc;
    rc = rc == GENARM_OK ? check_size(&n_other, gguf, family->arch, "feed_forward_length", MAX_SIZE, err) : rc;
    rc = rc == GENARM_OK ? check_size(&n_other, gguf, family->arch, "context_length", INT32_MAX, err) : rc;
    rc = rc == GENARM_OK ? check_epsilon(gguf, family->arch, "attention.layer_norm_epsilon", err) : rc;
    rc = rc == GENARM_OK ? check_epsilon(gguf, family->arch, "attention.layer_norm_rms_epsilon", err) : rc;
    if (rc == GENARM_OK && n_embd % n_head != 0) {
        rc = error_set(err, GENARM_EFORMAT, "%u heads do not divide an embedding of %u", n_head, n_embd);
    }
    if (rc == GENARM_OK && family->decoder) { /* one of our own architectures: checked as strictly as those */
        struct hparams hp;
        rc = hparams_read(&hp, gguf, err);
    }
    return rc == GENARM_OK ? hparams_check_any(gguf, err) : rc;
}

/* The number of outputs; the metadata has a label for each, or none for a single one. */
static int check_output(int32_t *n_out, const struct gguf_file *file, const char *arch, struct genarm_error *err) {
    const struct ggml_tensor *t = ggml_get_tensor(file->tensors, output_name);
    char key[80];
    snprintf(key, sizeof key, "%s.classifier.output_labels", arch);
    const int64_t id = gguf_find_key(file->gguf, key);
    if (!t) {
        const int rc = error_set(err, GENARM_EUNSUPPORTED, "there is no %s: this is no classifier", output_name);
        return error_hint(err, rc, "convert a ...ForSequenceClassification model; arm: takes language models");
    }
    if (id >= 0 && (gguf_get_kv_type(file->gguf, id) != GGUF_TYPE_ARRAY ||
                    gguf_get_arr_type(file->gguf, id) != GGUF_TYPE_STRING)) {
        return error_set(err, GENARM_EFORMAT, "%s is not an array of strings", key);
    }
    const int64_t n_labels = id >= 0 && gguf_get_arr_n(file->gguf, id) > 0 ? (int64_t)gguf_get_arr_n(file->gguf, id) : 1;
    if (t->ne[1] != n_labels || t->ne[2] != 1 || t->ne[3] != 1) {
        return error_set(err, GENARM_EFORMAT, "%s has %lld outputs, %s %lld labels", output_name, (long long)t->ne[1],
                         key, (long long)n_labels);
    }
    *n_out = (int32_t)t->ne[1];
    return GENARM_OK;
}

static int check_vocab(int32_t *n_vocab, const struct gguf_file *file, struct genarm_error *err) {
    static const char *const kinds[] = {"bert", "t5", "gpt2", "llama"};
    const struct ggml_tensor *t = ggml_get_tensor(file->tensors, "token_embd.weight");
    const char *kind;
    int rc = gguf_need_str(&kind, file->gguf, "tokenizer.ggml.model", err);
    bool known = false;
    for (size_t i = 0; rc == GENARM_OK && i < sizeof kinds / sizeof *kinds; i++) {
        known = known || strcmp(kind, kinds[i]) == 0;
    }
    if (rc == GENARM_OK && !known) {
        rc = error_set(err, GENARM_EUNSUPPORTED, "tokenizer.ggml.model: \"%s\" is not supported", kind);
    }
    if (rc == GENARM_OK && (!t || t->ne[1] > INT32_MAX)) {
        rc = error_set(err, GENARM_EFORMAT, "token_embd.weight is missing or too large");
    }
    rc = rc == GENARM_OK ? vocab_check_tokens(file->gguf, (int32_t)t->ne[1], err) : rc;
    if (rc == GENARM_OK) {
        *n_vocab = (int32_t)t->ne[1];
    }
    return rc;
}

static int check_file(struct classifier *c, const char *path, struct genarm_error *err) {
    struct gguf_file file = {0};
    const struct family *family = NULL;
    int rc = gguf_file_open(&file, path, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    rc = find_family(&family, file.gguf, err);
    rc = rc == GENARM_OK ? check_output(&c->n_out, &file, family->arch, err) : rc;
    rc = rc == GENARM_OK ? check_sizes(file.gguf, family, err) : rc;
    rc = rc == GENARM_OK ? check_vocab(&c->n_vocab, &file, err) : rc;
    if (rc == GENARM_OK && family->softmax && c->n_out == 1) {
        rc = error_set(err, GENARM_EUNSUPPORTED, "libllama makes probabilities of the outputs of %s, and that of a single one "
                       "is always 1", family->arch);
    }
    if (rc == GENARM_OK) {
        char key[80];
        bool causal;
        snprintf(key, sizeof key, "%s.attention.causal", family->arch);
        rc = gguf_opt_bool(&causal, file.gguf, key, true, err);
        c->pieces = rc == GENARM_OK && family->decoder && causal;
    }
    gguf_file_close(&file);
    return rc;
}

/* ---- loading ---- */

/* The devices and shares of our placement as libllama takes them, which divides layers in the same way. */
static int place(struct classifier *c, struct llama_model_params *params, ggml_backend_dev_t *devices, float *shares,
                 const struct genarm_model_params *where, struct genarm_error *err) {
    struct placement p;
    double given[PLACEMENT_MAX_DEVICES];
    int rc = placement_choose(&p, &c->remote, &params->n_gpu_layers, where, err);
    if (rc == GENARM_OK && where->tensor_split) {
        rc = placement_shares(given, &p, where->tensor_split, err);
    }
    if (rc != GENARM_OK) {
        return rc;
    }
    for (int i = 0; i < p.n_devices; i++) {
        devices[i] = p.devices[i];
        shares[i] = where->tensor_split ? (float)given[i] : 0;
    }
    devices[p.n_devices] = NULL;
    params->devices = devices;
    params->tensor_split = where->tensor_split && llama_max_devices() <= MAX_SHARES ? shares : NULL;
    return GENARM_OK;
}

static int load(struct classifier *c, const char *path, const struct genarm_model_params *where,
                struct genarm_error *err) {
    ggml_backend_dev_t devices[PLACEMENT_MAX_DEVICES + 1]; /* an empty list: the CPU */
    float shares[MAX_SHARES] = {0};
    struct llama_model_params params = llama_model_default_params();
    const int rc = place(c, &params, devices, shares, where, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    runtime_forget_error();
    c->model = guard_model_load(path, params);
    if (!c->model) {
        const char *why = guard_reason();
        return error_set(err, GENARM_EFORMAT, "libllama cannot load it: %s", *why ? why : runtime_first_error());
    }
    c->vocab = llama_model_get_vocab(c->model);
    if (llama_vocab_n_tokens(c->vocab) != c->n_vocab || (int32_t)llama_model_n_cls_out(c->model) != c->n_out) {
        return error_set(err, GENARM_EFORMAT, "libllama finds other numbers of tokens or outputs than the file's");
    }
    return GENARM_OK;
}

static int make_context(struct classifier *c, const struct genarm_source_params *p, struct genarm_error *err) {
    struct llama_context_params params = llama_context_default_params();
    const int32_t n_train = llama_model_n_ctx_train(c->model), n_most = n_train < DEFAULT_CTX_MAX ? n_train : DEFAULT_CTX_MAX;
    c->n_ctx = p->n_ctx && p->n_ctx < n_train ? p->n_ctx : p->n_ctx ? n_train : n_most; /* there are no positions beyond */
    const int32_t n_most_piece = p->n_batch < PIECE ? p->n_batch : PIECE;
    c->n_piece = c->pieces && n_most_piece < c->n_ctx ? n_most_piece : c->n_ctx; /* others see a text as a whole */
    params.n_ctx = (uint32_t)c->n_ctx;
    params.n_batch = params.n_ubatch = (uint32_t)c->n_piece;
    params.n_threads = params.n_threads_batch = p->n_threads ? p->n_threads : cores_usable();
    params.embeddings = true;
    params.pooling_type = LLAMA_POOLING_TYPE_RANK;
    params.no_perf = true;
    runtime_forget_error();
    c->ctx = guard_context_new(c->model, params);
    if (!c->ctx) {
        const char *why = guard_reason();
        return error_set(err, GENARM_EBACKEND, "libllama makes no context: %s", *why ? why : runtime_first_error());
    }
    return GENARM_OK;
}

int classifier_open(struct classifier *out, const char *path, const struct genarm_source_params *params,
                    struct genarm_error *err) {
    struct classifier c = {0};
    model_runtime_init();
    int rc = check_file(&c, path, err);
    rc = rc == GENARM_OK ? load(&c, path, &params->model, err) : rc;
    rc = rc == GENARM_OK ? make_context(&c, params, err) : rc;
    if (rc != GENARM_OK) {
        classifier_close(&c);
        return error_at(err, rc, "%s", path);
    }
    *out = c;
    return GENARM_OK;
}

void classifier_close(struct classifier *c) {
    if (c->ctx) {
        llama_free(c->ctx);
    }
    if (c->model) {
        llama_model_free(c->model);
    }
    rpc_devices_close(&c->remote);
    *c = (struct classifier){0};
}

/* ---- use ---- */

int classifier_run(struct classifier *c, int32_t *tokens, int32_t n, float *out, struct genarm_error *err) {
    llama_memory_t memory = llama_get_memory(c->ctx);
    if (memory) {
        llama_memory_clear(memory, false);
    }
    for (int32_t i = 0; i < n; i += c->n_piece) {
        const int32_t left = n - i;
        const int32_t rc = guard_decode(c->ctx, tokens + i, left < c->n_piece ? left : c->n_piece);
        if (rc != 0) {
            return error_set(err, GENARM_EBACKEND, "libllama cannot compute it: %s",
                             rc == GUARD_FAILED && *guard_reason() ? guard_reason() : runtime_first_error());
        }
    }
    const float *values = llama_get_embeddings_seq(c->ctx, 0);
    if (!values) {
        return error_set(err, GENARM_EBACKEND, "libllama gives no output");
    }
    memcpy(out, values, (size_t)c->n_out * sizeof *out);
    return GENARM_OK;
}
