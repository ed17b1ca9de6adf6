/* Opening a model: file, hyper-parameters, weights, vocabulary; and facts about it. */
#include "model/model.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/utf8.h"
#include "model/foreign.h"
#include "model/vocab.h"

struct genarm_model_params genarm_model_default_params(void) {
    return (struct genarm_model_params){.n_gpu_layers = -1};
}

/* ---- loading ---- */

/* Files that are GGUF, but no model that can be opened by itself. */
static int check_purpose(const struct gguf_context *gguf, struct genarm_error *err) {
    const char *type;
    int rc = gguf_opt_str(&type, gguf, "general.type", "model", err);
    if (rc == GENARM_OK && strcmp(type, "adapter") == 0) {
        rc = error_set(err, GENARM_EUNSUPPORTED, "this is an adapter, not a model");
        return error_hint(err, rc, "give its base model (-m), and the adapter as reward model (--arm)");
    }
    const int64_t split = gguf_find_key(gguf, "split.count");
    if (rc == GENARM_OK && split >= 0 &&
        !(gguf_get_kv_type(gguf, split) == GGUF_TYPE_UINT16 && gguf_get_val_u16(gguf, split) <= 1)) {
        rc = error_set(err, GENARM_EUNSUPPORTED, "the model is split over several files");
        return error_hint(err, rc, "join them with llama-gguf-split --merge");
    }
    return rc;
}

static void fingerprint(struct genarm_model *m) {
    const struct hparams *hp = &m->hp;
    const int32_t sizes[] = {hp->n_vocab,   hp->n_embd,      hp->n_layer, hp->n_head,
                             hp->n_head_kv, hp->n_embd_head, hp->n_ff};
    uint64_t hash = hash_bytes(HASH_START, m->architecture, strlen(m->architecture) + 1);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        hash = hash_u64(hash, (uint64_t)sizes[i]);
    }
    snprintf(m->fingerprint, sizeof m->fingerprint, "%016" PRIx64, vocab_hash(hash, m->vocab));
}

static uint64_t sample_weights(const struct gguf_file *file) {
    uint64_t hash = hash_u64(HASH_START, file->size);
    for (struct ggml_tensor *t = ggml_get_first_tensor(file->tensors); t; t = ggml_get_next_tensor(file->tensors, t)) {
        const uint8_t *bytes = gguf_file_data(file, t->name);
        const size_t n = ggml_nbytes(t), some = n < 64 ? n : 64;
        hash = hash_bytes(hash, bytes + (n - some) / 2, some);
    }
    return hash;
}

/* The type that most weights have, in capitals. */
static void name_file_type(struct genarm_model *m) {
    int64_t counts[GGML_TYPE_COUNT] = {0};
    int most = GGML_TYPE_F32;
    for (struct ggml_tensor *t = ggml_get_first_tensor(m->weights.file.tensors); t;
         t = ggml_get_next_tensor(m->weights.file.tensors, t)) {
        counts[t->type] += ggml_nelements(t);
        m->n_params += ggml_nelements(t);
        m->size += ggml_nbytes(t);
        most = counts[t->type] > counts[most] ? (int)t->type : most;
    }
    snprintf(m->file_type, sizeof m->file_type, "%s", ggml_type_name((enum ggml_type)most));
    m->file_type[0] = (char)toupper((unsigned char)m->file_type[0]);
    m->file_type[1] = (char)toupper((unsigned char)m->file_type[1]);
}

static int describe(struct genarm_model *m, struct genarm_error *err) {
    const char *name, *chat_template;
    const struct gguf_context *gguf = m->weights.file.gguf;
    int rc = gguf_opt_str(&name, gguf, "general.name", "", err);
    rc = rc == GENARM_OK ? gguf_opt_str(&chat_template, gguf, "tokenizer.chat_template", NULL, err) : rc;
    if (rc != GENARM_OK) {
        return rc;
    }
    snprintf(m->name, sizeof m->name, "%s", name);
    utf8_clean(m->name);
    if (chat_template && !(m->chat_template = strdup(chat_template))) {
        return error_nomem(err, "a chat template");
    }
    m->turn_end = vocab_turn_end(m->vocab, gguf);
    vocab_measure(&m->measure, m->vocab);
    name_file_type(m);
    fingerprint(m);
    m->sample = sample_weights(&m->weights.file);
    return GENARM_OK;
}

static void log_parts(const struct genarm_model *m) {
    struct genarm_model_part parts[PLACEMENT_MAX_DEVICES + 1];
    const int n = m->placement.n_devices ? genarm_model_get_parts(m, parts, PLACEMENT_MAX_DEVICES + 1) : 0;
    for (int i = 0; i < n; i++) {
        log_line(GENARM_LOG_INFO, "%s (%s): %d layers from %d on%s%s, %.1f MiB", parts[i].device, parts[i].description,
                 parts[i].n_layers, parts[i].first_layer, parts[i].embeddings ? ", embeddings" : "",
                 parts[i].head ? ", head" : "", (double)parts[i].size / (1024.0 * 1024.0));
    }
}

static int open_file(struct gguf_file *file, const char *path, struct genarm_error *err) {
    int rc = gguf_file_open(file, path, err);
    if (rc == GENARM_OK && (rc = check_purpose(file->gguf, err)) != GENARM_OK) {
        gguf_file_close(file);
    }
    return rc;
}

static int own_open(struct genarm_model *m, int32_t n_offloaded, const struct genarm_model_params *params,
                    struct genarm_error *err) {
    struct gguf_file file;
    int rc = open_file(&file, m->path, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    rc = hparams_read(&m->hp, file.gguf, err);
    rc = rc == GENARM_OK ? placement_split(&m->placement, m->hp.n_layer, n_offloaded, params->tensor_split, err) : rc;
    if (rc != GENARM_OK) {
        gguf_file_close(&file);
        return rc;
    }
    m->engine = GENARM_ENGINE_GENARM;
    m->architecture = arch_name(m->hp.arch);
    rc = weights_load(&m->weights, &m->hp, &file, &m->placement, params->load_mode, err);
    return rc == GENARM_OK ? vocab_open(&m->llama, m->weights.file.gguf, m->hp.n_vocab, err) : rc;
}

static int foreign_open_file(struct genarm_model *m, int32_t n_offloaded, const struct genarm_model_params *params,
                             struct genarm_error *err) {
    struct gguf_file file;
    const int rc = open_file(&file, m->path, err);
    return rc == GENARM_OK ? foreign_open(m, &file, n_offloaded, params, err) : rc;
}

/* By our own graph, or by libllama if that does not have what the model needs. */
static int open_weights(struct genarm_model *m, const struct genarm_model_params *params, int32_t n_offloaded,
                        struct genarm_error *err) {
    if (params->engine == GENARM_ENGINE_GENARM) {
        return own_open(m, n_offloaded, params, err);
    }
    if (params->engine == GENARM_ENGINE_LLAMA) {
        return foreign_open_file(m, n_offloaded, params, err);
    }
    const struct placement chosen = m->placement;
    struct genarm_error *why = &m->why_foreign;
    int rc = own_open(m, n_offloaded, params, why);
    if (rc != GENARM_EUNSUPPORTED) {
        if (err && rc != GENARM_OK) {
            *err = *why;
        }
        return rc;
    }
    weights_deinit(&m->weights);
    m->placement = chosen;
    rc = foreign_open_file(m, n_offloaded, params, err);
    if (rc != GENARM_OK) {
        return error_hint(err, rc, "genarm's own graph cannot run it either: %.180s", why->what);
    }
    log_line(GENARM_LOG_INFO, "%s: libllama runs this model, as genarm's own graph does not: %s", m->path, why->what);
    return GENARM_OK;
}

static int open_model(struct genarm_model *m, const struct genarm_model_params *params, struct genarm_error *err) {
    int32_t n_offloaded;
    int rc = placement_choose(&m->placement, &m->remote, &n_offloaded, params, err);
    rc = rc == GENARM_OK ? open_weights(m, params, n_offloaded, err) : rc;
    if (rc != GENARM_OK) {
        return rc;
    }
    m->vocab = llama_model_get_vocab(m->llama);
    log_parts(m);
    rc = controls_init(&m->controls, m->vocab, err);
    return rc == GENARM_OK ? describe(m, err) : rc;
}

int genarm_model_load(struct genarm_model **out, const char *path, const struct genarm_model_params *params,
                      struct genarm_error *err) {
    const struct genarm_model_params by_default = genarm_model_default_params();
    model_runtime_init();
    struct genarm_model *m = calloc(1, sizeof *m);
    if (!m || !(m->path = strdup(path))) {
        free(m);
        return error_nomem(err, "a model");
    }
    const int rc = open_model(m, params ? params : &by_default, err);
    if (rc != GENARM_OK) {
        genarm_model_free(m);
        return error_at(err, rc, "%s", path);
    }
    *out = m;
    return GENARM_OK;
}

void genarm_model_free(struct genarm_model *model) {
    if (model) {
        words_free(model->words);
        controls_deinit(&model->controls);
        if (model->llama) {
            llama_model_free(model->llama);
        }
        weights_deinit(&model->weights);
        rpc_devices_close(&model->remote);
        free(model->chat_template);
        free(model->path);
        free(model);
    }
}

void genarm_model_get_info(const struct genarm_model *model, struct genarm_model_info *info) {
    const struct hparams *hp = &model->hp;
    *info = (struct genarm_model_info){
        .path = model->path,
        .name = model->name,
        .architecture = model->architecture,
        .file_type = model->file_type,
        .n_vocab = hp->n_vocab,
        .n_ctx_train = hp->n_ctx_train,
        .n_embd = hp->n_embd,
        .n_layer = hp->n_layer,
        .n_head = hp->n_head,
        .n_head_kv = hp->n_head_kv,
        .n_ff = hp->n_ff,
        .n_params = model->n_params,
        .size = model->size,
        .fingerprint = model->fingerprint,
        .chat_template = model->chat_template,
        .engine = model->engine,
    };
}

static size_t unit_size(const struct genarm_model *m, int32_t unit) {
    return m->engine == GENARM_ENGINE_LLAMA ? foreign_unit_size(m, unit)
                                            : weights_unit_size(&m->weights, m->hp.n_layer, unit);
}

static size_t embeddings_size(const struct genarm_model *m) {
    return m->engine == GENARM_ENGINE_LLAMA
               ? foreign_embeddings_size(m)
               : ggml_nbytes(m->weights.token_embd) + (m->weights.rope_freqs ? ggml_nbytes(m->weights.rope_freqs) : 0);
}

/* The layers that start with `first`; `index` as placement_index has it. */
static struct genarm_model_part part_at(const struct genarm_model *m, int index, int32_t first, int32_t end) {
    const struct placement *where = &m->placement;
    const bool cpu = index == where->n_devices;
    ggml_backend_dev_t device = cpu ? ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU) : where->devices[index];
    struct genarm_model_part part = {.device = ggml_backend_dev_name(device),
                                     .description = ggml_backend_dev_description(device),
                                     .first_layer = first,
                                     .n_layers = (end < m->hp.n_layer ? end : m->hp.n_layer) - first,
                                     .embeddings = cpu,
                                     .head = placement_index(where, m->hp.n_layer) == index,
                                     .size = cpu ? embeddings_size(m) : 0};
    for (int32_t i = first; i < first + part.n_layers; i++) {
        part.size += unit_size(m, i);
    }
    part.size += part.head ? unit_size(m, m->hp.n_layer) : 0;
    return part;
}

int genarm_model_get_parts(const struct genarm_model *model, struct genarm_model_part *parts, int max) {
    const struct placement *where = &model->placement;
    const int32_t n_cpu = where->n_devices ? where->first[0] : model->hp.n_layer;
    for (int i = 0; i <= where->n_devices && i < max; i++) {
        parts[i] = i == 0 ? part_at(model, where->n_devices, 0, n_cpu)
                          : part_at(model, i - 1, where->first[i - 1], where->first[i]);
    }
    return where->n_devices + 1;
}

int model_need_graph(const struct genarm_model *m, const char *what, struct genarm_error *err) {
    if (m->engine == GENARM_ENGINE_GENARM) {
        return GENARM_OK;
    }
    const struct genarm_error *why = &m->why_foreign;
    const bool asked = !*why->what; /* for libllama */
    const int rc = error_set(err, GENARM_EUNSUPPORTED, "%s needs genarm's own graph, %s%s", what,
                             asked ? "and the model was loaded for libllama" : "which does not have this model: ", why->what);
    error_at(err, rc, "%s", m->path);
    return error_hint(err, rc, "%s", asked        ? "leave out --engine llama"
                                     : *why->hint ? why->hint
                                                  : "models that libllama runs generate, chat, score, guide and are guided");
}
