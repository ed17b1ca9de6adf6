/* Opening a model: file, hyper-parameters, weights, vocabulary; and facts about it. */
#include "model/model.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/utf8.h"
#include "model/vocab.h"

struct genarm_model_params genarm_model_default_params(void) {
    return (struct genarm_model_params){0};
}

/* ---- device ---- */

static int unknown_device(const char *name, struct genarm_error *err) {
    struct buf names;
    buf_init(&names, 200);
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        buf_printf(&names, NULL, "%s%s", i ? ", " : "",
                   ggml_backend_dev_name(ggml_backend_dev_get(i))); /* as many as fit */
    }
    const int rc = error_set(err, GENARM_EINVAL, "there is no device %s", name);
    error_hint(err, rc, "devices of this machine: %s", names.data ? names.data : "none");
    buf_deinit(&names);
    return rc;
}

static int choose_placement(struct placement *p, const struct genarm_model_params *params, struct genarm_error *err) {
    ggml_backend_dev_t device = NULL;
    if (params->n_gpu_layers < 0) {
        return error_set(err, GENARM_EINVAL, "%d layers on the device", params->n_gpu_layers);
    }
    if (params->device) {
        device = ggml_backend_dev_by_name(params->device);
        if (!device) {
            return unknown_device(params->device, err);
        }
    } else if (params->n_gpu_layers > 0) {
        device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_GPU);
        device = device ? device : ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_IGPU);
        if (!device) {
            log_line(GENARM_LOG_WARN, "no GPU was found: all layers stay on the CPU");
        }
    }
    const bool cpu = !device || ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
    *p = (struct placement){.device = cpu ? NULL : device, .n_gpu_layers = cpu ? 0 : params->n_gpu_layers};
    return GENARM_OK;
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
    const char *arch = arch_name(hp->arch);
    const int32_t sizes[] = {hp->n_vocab,   hp->n_embd,      hp->n_layer, hp->n_head,
                             hp->n_head_kv, hp->n_embd_head, hp->n_ff};
    uint64_t hash = hash_bytes(HASH_START, arch, strlen(arch) + 1);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        hash = hash_u64(hash, (uint64_t)sizes[i]);
    }
    snprintf(m->fingerprint, sizeof m->fingerprint, "%016" PRIx64, vocab_hash(hash, m->vocab));
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
    name_file_type(m);
    fingerprint(m);
    return GENARM_OK;
}

static int open_model(struct genarm_model *m, const struct genarm_model_params *params, struct genarm_error *err) {
    struct gguf_file file;
    int rc = choose_placement(&m->placement, params, err);
    rc = rc == GENARM_OK ? gguf_file_open(&file, m->path, err) : rc;
    if (rc != GENARM_OK) {
        return rc;
    }
    rc = check_purpose(file.gguf, err);
    rc = rc == GENARM_OK ? hparams_read(&m->hp, file.gguf, err) : rc;
    if (rc != GENARM_OK) {
        gguf_file_close(&file);
        return rc;
    }
    rc = weights_load(&m->weights, &m->hp, &file, &m->placement, err);
    rc = rc == GENARM_OK ? vocab_open(&m->llama, m->weights.file.gguf, m->hp.n_vocab, err) : rc;
    if (rc != GENARM_OK) {
        return rc;
    }
    m->vocab = llama_model_get_vocab(m->llama);
    return describe(m, err);
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
        if (model->llama) {
            llama_model_free(model->llama);
        }
        weights_deinit(&model->weights);
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
        .architecture = arch_name(hp->arch),
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
    };
}
