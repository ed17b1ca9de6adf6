/* Opening a LoRA adapter for a model. Writing one is in adapter_file.c. */
#include "model/adapter.h"

#include <ggml-cpu.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "model/model.h"

enum { MAX_RANK = 1 << 16, MAX_LAYERS = 512 };

struct loader {
    struct genarm_adapter *ad;
    struct gguf_file file;
    struct genarm_error *err;
};

/* ---- metadata ---- */

static int copy_string(char **out, const struct gguf_context *g, const char *key, struct genarm_error *err) {
    const char *value;
    const int rc = gguf_opt_str(&value, g, key, NULL, err);
    if (rc != GENARM_OK || !value) {
        return rc;
    }
    *out = strdup(value);
    return *out ? GENARM_OK : error_nomem(err, "an adapter");
}

static int expect(const struct gguf_context *g, const char *key, const char *want, struct genarm_error *err) {
    const char *value;
    int rc = gguf_opt_str(&value, g, key, "", err);
    if (rc == GENARM_OK && strcmp(value, want) != 0) {
        rc = error_set(err, GENARM_EFORMAT, "not a LoRA adapter: %s is \"%s\", not \"%s\"", key, value, want);
    }
    return rc;
}

static int another_model(struct genarm_error *err, int rc) {
    return error_hint(err, rc, "the adapter was made for another model: give the one it was trained on");
}

static int read_metadata(struct loader *l) {
    struct genarm_adapter *ad = l->ad;
    const struct gguf_context *g = l->file.gguf;
    const char *arch;
    int rc = expect(g, "general.type", "adapter", l->err);
    rc = rc == GENARM_OK ? expect(g, "adapter.type", "lora", l->err) : rc;
    rc = rc == GENARM_OK ? gguf_need_str(&arch, g, "general.architecture", l->err) : rc;
    if (rc != GENARM_OK) {
        return rc;
    }
    if (ad->model && strcmp(arch, ad->model->architecture) != 0) {
        rc = error_set(l->err, GENARM_EMISMATCH, "the adapter is for architecture %s, the model is %s", arch,
                       ad->model->architecture);
        return another_model(l->err, rc);
    }
    while (!ad->model && strcmp(arch, arch_name(ad->arch)) != 0) {
        if (++ad->arch == ARCH_COUNT) {
            rc = error_set(l->err, GENARM_EUNSUPPORTED, "the adapter is for the architecture %s, which is not known", arch);
            return error_hint(l->err, rc, "known are llama (also Mistral's models), qwen2 and qwen3; adapters of other models "
                                          "guide as they are: an --arm each");
        }
    }
    if (gguf_find_key(g, "adapter.alora.invocation_tokens") >= 0) {
        return error_set(l->err, GENARM_EUNSUPPORTED,
                         "adapter.alora.invocation_tokens: activated LoRA is not supported");
    }
    rc = gguf_opt_f32(&ad->alpha, g, "adapter.lora.alpha", 0.0f, l->err);
    if (rc == GENARM_OK && !isfinite(ad->alpha)) {
        rc = error_set(l->err, GENARM_EFORMAT, "adapter.lora.alpha is not a finite number");
    }
    rc = rc == GENARM_OK ? gguf_opt_f32(&ad->info.beta, g, "genarm.beta", 0.0f, l->err) : rc;
    rc = rc == GENARM_OK ? copy_string(&ad->info.loss, g, "genarm.loss", l->err) : rc;
    rc = rc == GENARM_OK ? copy_string(&ad->info.template_, g, "genarm.template", l->err) : rc;
    rc = rc == GENARM_OK ? copy_string(&ad->info.base_hash, g, "genarm.base", l->err) : rc;
    rc = rc == GENARM_OK ? objectives_read(&ad->info.objectives, g, l->err) : rc;
    return rc == GENARM_OK ? copy_string(&ad->info.data_hash, g, "genarm.data", l->err) : rc;
}

static int read_head(struct loader *l) {
    static const char key[] = "genarm.head";
    const struct gguf_context *g = l->file.gguf;
    const int64_t id = gguf_find_key(g, key);
    if (id < 0) {
        return GENARM_OK;
    }
    if (gguf_get_kv_type(g, id) != GGUF_TYPE_ARRAY || gguf_get_arr_type(g, id) != GGUF_TYPE_FLOAT32) {
        return error_set(l->err, GENARM_EFORMAT, "%s is not an array of f32 numbers", key);
    }
    const size_t n = gguf_get_arr_n(g, id);
    if (l->ad->model && n != (size_t)l->ad->model->hp.n_embd) {
        return another_model(l->err, error_set(l->err, GENARM_EMISMATCH, "%s has %zu numbers, the model needs %d", key, n,
                                               l->ad->model->hp.n_embd));
    }
    if (n == 0) {
        return error_set(l->err, GENARM_EFORMAT, "%s is empty", key);
    }
    float *head = malloc(n * sizeof *head);
    if (!head) {
        return error_nomem(l->err, "an adapter");
    }
    memcpy(head, gguf_get_arr_data(g, id), n * sizeof *head);
    l->ad->info.head = head;
    l->ad->info.n_head = n;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(head[i])) {
            return error_set(l->err, GENARM_EFORMAT, "%s has a value that is not finite (%g at %zu)", key, (double)head[i], i);
        }
    }
    l->ad->n_params += (int64_t)n;
    return GENARM_OK;
}

static int check_fingerprint(const struct loader *l) {
    const char *base = l->ad->info.base_hash;
    if (!base || !l->ad->model || strcmp(base, l->ad->model->fingerprint) == 0) {
        return GENARM_OK;
    }
    const int rc =
        error_set(l->err, GENARM_EMISMATCH, "the adapter was trained on the model with fingerprint %s, this one has %s",
                  base, l->ad->model->fingerprint);
    return another_model(l->err, rc);
}

/* ---- tensors ---- */

/* Appends a name to a list, once and if there is room. */
static void add_target(char *list, size_t size, const char *name) {
    const size_t n = strlen(list), n_name = strlen(name);
    for (const char *have = list; *have; have += strcspn(have, ","), have += *have == ',') {
        if (strncmp(have, name, n_name) == 0 && (have[n_name] == ',' || !have[n_name])) {
            return;
        }
    }
    if (n + 1 + n_name < size) {
        snprintf(list + n, size - n, "%s%s", n ? "," : "", name);
    }
}

void adapter_name_targets(char *list, size_t size, const struct ggml_context *tensors) {
    char part[GGML_MAX_NAME];
    int32_t layer;
    enum linear linear;
    const char *rest;
    *list = '\0';
    for (int l = 0; l <= LINEAR_COUNT; l++) { /* in their order, then all others */
        for (struct ggml_tensor *t = ggml_get_first_tensor(tensors); t; t = ggml_get_next_tensor(tensors, t)) {
            const bool known = linear_parse_name(&layer, &linear, &rest, t->name);
            if (!strstr(t->name, ".lora_") || (known ? (int)linear : LINEAR_COUNT) != l) {
                continue;
            }
            if (known) {
                add_target(list, size, linear_name(linear));
            } else if (sscanf(t->name, "blk.%*d.%63[^.]", part) == 1 || sscanf(t->name, "%63[^.]", part) == 1) {
                add_target(list, size, part);
            }
        }
    }
    utf8_clean(list);
}

struct place {
    int32_t layer;
    enum linear linear;
    bool is_b;
};

/* Takes a name like "blk.3.attn_q.weight.lora_a" apart. False: it is not of this form. */
static bool parse_name(struct place *p, const char *name) {
    const char *side;
    if (!linear_parse_name(&p->layer, &p->linear, &side, name)) {
        return false;
    }
    p->is_b = strcmp(side, ".lora_b") == 0;
    return p->is_b || strcmp(side, ".lora_a") == 0;
}

/* Loaded alone, an adapter says itself how many layers it knows of. */
static int count_layers(struct loader *l) {
    struct genarm_adapter *ad = l->ad;
    if (ad->model) {
        ad->n_layer = ad->model->hp.n_layer;
        return GENARM_OK;
    }
    struct place p;
    for (struct ggml_tensor *t = ggml_get_first_tensor(l->file.tensors); t;
         t = ggml_get_next_tensor(l->file.tensors, t)) {
        if (parse_name(&p, t->name) && p.layer >= MAX_LAYERS) {
            return error_set(l->err, GENARM_EFORMAT, "tensor %s: models have at most %d layers", t->name, MAX_LAYERS);
        }
        ad->n_layer = parse_name(&p, t->name) && p.layer >= ad->n_layer ? p.layer + 1 : ad->n_layer;
    }
    return GENARM_OK;
}

bool adapter_reads(const struct genarm_adapter *ad, const struct ggml_tensor *t) {
    static const char suffix[] = "_norm.weight";
    const size_t n = strlen(t->name), n_suffix = sizeof suffix - 1;
    if (n < n_suffix || strcmp(t->name + n - n_suffix, suffix) != 0) {
        return true;
    }
    log_line(GENARM_LOG_WARN, "%s: tensor %s is left out: norms are not adapted", ad->path, t->name);
    return false;
}

int adapter_check_type(const struct ggml_tensor *t, struct genarm_error *err) {
    if (t->type == GGML_TYPE_F32 || t->type == GGML_TYPE_F16 || t->type == GGML_TYPE_BF16 || t->type == GGML_TYPE_Q8_0) {
        return GENARM_OK;
    }
    return error_set(err, GENARM_EUNSUPPORTED, "tensor %s has type %s; adapters can be F32, F16, BF16 and Q8_0", t->name,
                     ggml_type_name(t->type));
}

/* Makes our tensor for one of the file, without data yet. */
static int add_tensor(struct loader *l, const struct ggml_tensor *t) {
    const struct hparams *hp = l->ad->model ? &l->ad->model->hp : NULL;
    struct place p;
    if (!parse_name(&p, t->name)) {
        const int rc = error_set(l->err, GENARM_EUNSUPPORTED,
                                 "tensor %s adapts something other than q, k, v, o, gate, up or down", t->name);
        return l->ad->model && strstr(t->name, ".lora_") ? error_hint(l->err, rc, "--engine llama runs it") : rc;
    }
    if (p.layer >= l->ad->n_layer) {
        const int rc =
            error_set(l->err, GENARM_EMISMATCH, "tensor %s: the model has %d layers", t->name, l->ad->n_layer);
        return another_model(l->err, rc);
    }
    struct lora *x = &l->ad->layers[p.layer][p.linear];
    struct ggml_tensor **to = p.is_b ? &x->b : &x->a;
    if (*to) { /* blk.01 and blk.1 */
        return error_set(l->err, GENARM_EFORMAT, "tensor %s is there twice", t->name);
    }
    const int64_t size = p.is_b ? t->ne[1] : t->ne[0], rank = p.is_b ? t->ne[0] : t->ne[1];
    const int64_t expected = !hp ? size : p.is_b ? linear_n_out(p.linear, hp) : linear_n_in(p.linear, hp);
    if (size != expected || t->ne[2] != 1 || t->ne[3] != 1) {
        const int rc = error_set(l->err, GENARM_EMISMATCH, "tensor %s has shape [%lld, %lld], the model needs %s%lld%s",
                                 t->name, (long long)t->ne[0], (long long)t->ne[1], p.is_b ? "[rank, " : "[",
                                 (long long)expected, p.is_b ? "]" : ", rank]");
        return another_model(l->err, rc);
    }
    if (rank > MAX_RANK) {
        return error_set(l->err, GENARM_EFORMAT, "tensor %s has rank %lld", t->name, (long long)rank);
    }
    const int rc = adapter_check_type(t, l->err);
    if (rc == GENARM_OK) {
        *to = ggml_new_tensor_2d(l->ad->ctx, GGML_TYPE_F32, t->ne[0], t->ne[1]);
        ggml_set_name(*to, t->name);
    }
    return rc;
}

/* Every A has its B and the same rank; fills in the scales, rank and size. */
static int check_pairs(struct loader *l) {
    struct genarm_adapter *ad = l->ad;
    for (int32_t i = 0; i < ad->n_layer; i++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            struct lora *x = &ad->layers[i][t];
            if (!x->a != !x->b) {
                return error_set(l->err, GENARM_EFORMAT, "tensor %s has no counterpart lora_%c",
                                 (x->a ? x->a : x->b)->name, x->a ? 'b' : 'a');
            }
            if (!x->a) {
                continue;
            }
            if (x->a->ne[1] != x->b->ne[0]) {
                return error_set(l->err, GENARM_EFORMAT, "tensor %s has rank %lld, its lora_b %lld", x->a->name,
                                 (long long)x->a->ne[1], (long long)x->b->ne[0]);
            }
            const int32_t rank = (int32_t)x->a->ne[1];
            x->scale = ad->alpha != 0.0f ? ad->alpha / (float)rank : 1.0f;
            ad->rank = rank > ad->rank ? rank : ad->rank;
            ad->n_params += ggml_nelements(x->a) + ggml_nelements(x->b);
        }
    }
    return GENARM_OK;
}

/* Every map of a conditioned adapter has the same rank, with room for all objectives. */
static int check_objectives(const struct loader *l) {
    const struct genarm_adapter *ad = l->ad;
    const struct objectives *o = &ad->info.objectives;
    for (int32_t i = 0; i < ad->n_layer && o->n > 0; i++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            const struct ggml_tensor *a = ad->layers[i][t].a;
            if (a && (a->ne[1] != ad->rank || a->ne[1] < (int64_t)o->n * o->rank)) {
                return error_set(l->err, GENARM_EFORMAT,
                                 "tensor %s has rank %lld; with %d objectives of rank %d all have the same, %lld or more",
                                 a->name, (long long)a->ne[1], o->n, o->rank, (long long)o->n * o->rank);
            }
        }
    }
    return GENARM_OK;
}

static int fill_tensor(const struct loader *l, struct ggml_tensor *to, float *f32) {
    const struct ggml_tensor *from = ggml_get_tensor(l->file.tensors, to->name);
    const void *bytes = gguf_file_data(&l->file, to->name);
    const int64_t n = ggml_nelements(to);
    if (from->type == GGML_TYPE_F32) {
        memcpy(f32, bytes, (size_t)n * sizeof *f32);
    } else {
        ggml_get_type_traits(from->type)->to_float(bytes, f32, n);
    }
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(f32[i])) {
            const int rc = error_set(l->err, GENARM_EFORMAT, "tensor %s has a value that is not finite (%g at %lld)",
                                     to->name, (double)f32[i], (long long)i);
            return error_hint(l->err, rc, "its training went wrong: train it again with a smaller learning rate");
        }
    }
    ggml_backend_tensor_set(to, f32, 0, ggml_nbytes(to));
    return GENARM_OK;
}

static int fill_tensors(struct loader *l) {
    struct genarm_adapter *ad = l->ad;
    /* Engines copy it to where its layers are. */
    ad->buffer = ggml_backend_alloc_ctx_tensors_from_buft(ad->ctx, ggml_backend_cpu_buffer_type());
    if (!ad->buffer) {
        return error_nomem(l->err, "an adapter");
    }
    size_t most = 0;
    for (struct ggml_tensor *t = ggml_get_first_tensor(ad->ctx); t; t = ggml_get_next_tensor(ad->ctx, t)) {
        most = ggml_nbytes(t) > most ? ggml_nbytes(t) : most;
    }
    float *f32 = malloc(most);
    int rc = f32 ? GENARM_OK : error_nomem(l->err, "an adapter");
    for (struct ggml_tensor *t = ggml_get_first_tensor(ad->ctx); rc == GENARM_OK && t;
         t = ggml_get_next_tensor(ad->ctx, t)) {
        rc = fill_tensor(l, t, f32);
    }
    free(f32);
    return rc;
}

/* The tensors, as ours, without data yet. */
static int load_tensors(struct loader *l) {
    struct genarm_adapter *ad = l->ad;
    const int64_t n = gguf_get_n_tensors(l->file.gguf);
    int rc = count_layers(l);
    if (rc != GENARM_OK) {
        return rc;
    }
    ad->layers = calloc((size_t)ad->n_layer + 1, sizeof *ad->layers); /* 0 layers: the first tensor is refused */
    ad->ctx = ggml_init((struct ggml_init_params){.mem_size = (size_t)n * ggml_tensor_overhead(), .no_alloc = true});
    if (!ad->layers || !ad->ctx) {
        return error_nomem(l->err, "an adapter");
    }
    for (struct ggml_tensor *t = ggml_get_first_tensor(l->file.tensors); rc == GENARM_OK && t;
         t = ggml_get_next_tensor(l->file.tensors, t)) {
        rc = adapter_reads(ad, t) ? add_tensor(l, t) : GENARM_OK;
    }
    rc = rc == GENARM_OK ? check_pairs(l) : rc;
    return rc == GENARM_OK ? check_objectives(l) : rc;
}

static int load(struct loader *l) {
    struct genarm_adapter *ad = l->ad;
    int rc = read_metadata(l);
    const bool foreign = ad->model && ad->model->engine == GENARM_ENGINE_LLAMA;
    if (rc == GENARM_OK) {
        rc = foreign ? adapter_check_foreign(ad, &l->file, l->err) : load_tensors(l);
    }
    if (rc == GENARM_OK && ad->rank == 0) {
        rc = error_set(l->err, GENARM_EFORMAT, "the adapter has no tensors");
    }
    adapter_name_targets(ad->targets, sizeof ad->targets, l->file.tensors);
    rc = rc == GENARM_OK && !foreign ? fill_tensors(l) : rc;
    rc = rc == GENARM_OK ? check_fingerprint(l) : rc;
    return rc == GENARM_OK ? read_head(l) : rc;
}

/* model NULL: alone */
static int open_adapter(struct genarm_adapter **out, const struct genarm_model *model, const char *path,
                        struct genarm_error *err) {
    struct genarm_adapter *ad = calloc(1, sizeof *ad);
    if (!ad || !(ad->path = strdup(path))) {
        free(ad);
        return error_nomem(err, "an adapter");
    }
    ad->model = model;
    ad->arch = model ? model->hp.arch : (enum arch)0;
    struct loader l = {.ad = ad, .err = err};
    int rc = gguf_file_open(&l.file, path, err);
    rc = rc == GENARM_OK ? load(&l) : rc;
    gguf_file_close(&l.file);
    if (rc != GENARM_OK) {
        genarm_adapter_free(ad);
        return error_at(err, rc, "%s", path);
    }
    *out = ad;
    return GENARM_OK;
}

int genarm_adapter_load(struct genarm_adapter **out, const struct genarm_model *model, const char *path,
                        struct genarm_error *err) {
    return open_adapter(out, model, path, err);
}

int adapter_load_alone(struct genarm_adapter **out, const char *path, struct genarm_error *err) {
    return open_adapter(out, NULL, path, err);
}

void genarm_adapter_free(struct genarm_adapter *adapter) {
    if (adapter) {
        ggml_backend_buffer_free(adapter->buffer);
        ggml_free(adapter->ctx);
        adapter_info_deinit(&adapter->info);
        free(adapter->layers);
        free(adapter->path);
        free(adapter);
    }
}

void adapter_info_deinit(struct adapter_info *info) {
    free(info->loss);
    free(info->template_);
    free(info->base_hash);
    free(info->data_hash);
    free(info->head);
    objectives_deinit(&info->objectives);
    *info = (struct adapter_info){0};
}

void genarm_adapter_get_info(const struct genarm_adapter *adapter, struct genarm_adapter_info *info) {
    *info = (struct genarm_adapter_info){
        .path = adapter->path,
        .targets = adapter->targets,
        .rank = adapter->rank,
        .alpha = adapter->alpha,
        .loss = adapter->info.loss,
        .template_name = adapter->info.template_,
        .base_fingerprint = adapter->info.base_hash,
        .data_hash = adapter->info.data_hash,
        .beta = adapter->info.beta,
        .n_params = adapter->n_params,
        .has_head = adapter->info.head,
        .objectives = (const char *const *)adapter->info.objectives.names,
        .n_objectives = adapter->info.objectives.n,
    };
}
