/* A model with adapters merged into its weights, or without some of its layers, or both. */
#include <ggml.h>
#include <llama.h>
#include <stdlib.h>
#include <string.h>

#include "base/cores.h"
#include "base/file.h"
#include "convert/merge.h"
#include "convert/prune.h"
#include "model/adapter.h"
#include "model/model.h"

enum { CHUNK = 16 << 20 /* bytes of f32 rows at work */ };

static const char type_names[] = "keep, F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q5_K and Q6_K";

struct merger {
    const struct genarm_model *model;
    const struct gguf_file *base;
    const struct genarm_merge_part *parts;
    size_t n_parts;
    struct genarm_adapter **adapters; /* [n_parts] */
    struct genarm_merge_params params;
    bool by_default, keep; /* the type of a changed weight; neither: `type` */
    enum ggml_type type;
    struct prune prune;
    struct gguf_context *gguf; /* of the output */
    struct file_writer file;
    int64_t done, total; /* weights */
    const char *path;
    struct genarm_error *err;
};

/* ---- types ---- */

static int choose_type(struct merger *m) {
    const char *name = m->params.type;
    m->by_default = !name;
    m->keep = name && strcasecmp(name, "keep") == 0;
    for (int i = 0; name && !m->keep && i < GGML_TYPE_COUNT; i++) {
        const char *known = weights_type_supported((enum ggml_type)i) ? ggml_type_name((enum ggml_type)i) : NULL;
        if (known && strcasecmp(known, name) == 0) {
            m->type = (enum ggml_type)i;
            return GENARM_OK;
        }
    }
    if (m->by_default || m->keep) {
        return GENARM_OK;
    }
    return error_hint(m->err, error_set(m->err, GENARM_EINVAL, "unknown type \"%.40s\" of weights", name),
                      "a type is one of %s", type_names);
}

static enum ggml_type changed_type(const struct merger *m, enum ggml_type from) {
    if (m->by_default) {
        return ggml_is_quantized(from) ? GGML_TYPE_F16 : from;
    }
    return m->keep ? from : m->type;
}

/* Whether a part changes this tensor of the base. */
static bool is_changed(const struct merger *m, const char *name, int32_t *layer, enum linear *l) {
    if (!linear_parse_name(layer, l, NULL, name) || *layer >= m->model->hp.n_layer) {
        return false;
    }
    for (size_t i = 0; i < m->n_parts; i++) {
        if (m->parts[i].weight != 0 && m->adapters[i]->layers[*layer][*l].a) {
            return true;
        }
    }
    return false;
}

/* ---- metadata ---- */

static const struct {
    enum ggml_type type;
    enum llama_ftype file_type;
} file_types[] = {
    {GGML_TYPE_F32, LLAMA_FTYPE_ALL_F32},          {GGML_TYPE_F16, LLAMA_FTYPE_MOSTLY_F16},
    {GGML_TYPE_BF16, LLAMA_FTYPE_MOSTLY_BF16},     {GGML_TYPE_Q8_0, LLAMA_FTYPE_MOSTLY_Q8_0},
    {GGML_TYPE_Q4_0, LLAMA_FTYPE_MOSTLY_Q4_0},     {GGML_TYPE_Q4_1, LLAMA_FTYPE_MOSTLY_Q4_1},
    {GGML_TYPE_Q4_K, LLAMA_FTYPE_MOSTLY_Q4_K_S},   {GGML_TYPE_Q5_K, LLAMA_FTYPE_MOSTLY_Q5_K_S},
    {GGML_TYPE_Q6_K, LLAMA_FTYPE_MOSTLY_Q6_K},
};

/* The type that most weights of a file have. */
static enum ggml_type most_common(const struct gguf_context *g) {
    int64_t counts[GGML_TYPE_COUNT] = {0};
    enum ggml_type most = GGML_TYPE_F32;
    for (int64_t i = 0; i < gguf_get_n_tensors(g); i++) {
        const int64_t *ne = gguf_get_tensor_ne(g, i);
        const enum ggml_type type = gguf_get_tensor_type(g, i);
        counts[type] += ne[0] * ne[1] * ne[2] * ne[3];
        most = counts[type] > counts[most] ? type : most;
    }
    return most;
}

static void set_file_type(struct merger *m) {
    const enum ggml_type type = most_common(m->gguf);
    for (size_t i = 0; type != most_common(m->base->gguf) && i < sizeof file_types / sizeof *file_types; i++) {
        if (file_types[i].type == type) {
            gguf_set_val_u32(m->gguf, "general.file_type", (uint32_t)file_types[i].file_type);
        }
    }
}

static int copy_metadata(struct merger *m) {
    struct buf text;
    buf_init(&text, 1 << 20);
    int rc = m->n_parts ? merge_describe(&text, m->parts, m->n_parts, m->err) : GENARM_OK;
    if (rc == GENARM_OK) {
        gguf_set_kv(m->gguf, m->base->gguf);
        gguf_remove_key(m->gguf, GGUF_KEY_GENERAL_ALIGNMENT); /* tensors are laid out anew */
        rc = prune_metadata(&m->prune, m->gguf, m->model->architecture, m->err);
    }
    if (rc == GENARM_OK && m->n_parts) {
        gguf_set_val_str(m->gguf, MERGE_KEY, text.data);
    }
    buf_deinit(&text);
    return rc;
}

static int add_tensor(struct merger *m, const struct ggml_tensor *t) {
    struct ggml_tensor copy = *t;
    int32_t layer;
    enum linear l;
    if (!prune_rename(&m->prune, t->name, copy.name, sizeof copy.name)) {
        return GENARM_OK;
    }
    gguf_add_tensor(m->gguf, &copy);
    if (!is_changed(m, t->name, &layer, &l)) {
        return GENARM_OK;
    }
    const enum ggml_type type = changed_type(m, t->type);
    m->total += ggml_nelements(t);
    if (t->ne[0] % ggml_blck_size(type) != 0) {
        const int rc = error_set(m->err, GENARM_EUNSUPPORTED, "tensor %s: rows of %lld weights cannot be of type %s", t->name,
                                 (long long)t->ne[0], ggml_type_name(type));
        return error_hint(m->err, rc, "choose another type, such as F16 or Q8_0");
    }
    gguf_set_tensor_type(m->gguf, copy.name, type);
    return GENARM_OK;
}

static int make_metadata(struct merger *m) {
    int rc = copy_metadata(m);
    for (struct ggml_tensor *t = ggml_get_first_tensor(m->base->tensors); rc == GENARM_OK && t;
         t = ggml_get_next_tensor(m->base->tensors, t)) {
        rc = add_tensor(m, t);
    }
    if (rc == GENARM_OK) {
        set_file_type(m);
    }
    return rc;
}

/* ---- weights ---- */

/* A and B of the parts on the host. */
struct host_changes {
    struct merge_change items[MERGE_MAX_PARTS];
    size_t n;
};

static void free_changes(struct host_changes *c) {
    for (size_t i = 0; i < c->n; i++) {
        free((void *)(uintptr_t)c->items[i].a);
        free((void *)(uintptr_t)c->items[i].b);
    }
}

static float *copy_to_host(const struct ggml_tensor *t) {
    float *values = malloc(ggml_nbytes(t));
    if (values) {
        ggml_backend_tensor_get(t, values, 0, ggml_nbytes(t));
    }
    return values;
}

static int collect_changes(struct host_changes *c, const struct merger *m, int32_t layer, enum linear l) {
    c->n = 0;
    for (size_t i = 0; i < m->n_parts; i++) {
        const struct lora *x = &m->adapters[i]->layers[layer][l];
        if (!x->a || m->parts[i].weight == 0) {
            continue;
        }
        struct merge_change *change = &c->items[c->n++];
        *change = (struct merge_change){.a = copy_to_host(x->a),
                                        .b = copy_to_host(x->b),
                                        .rank = x->a->ne[1],
                                        .scale = m->parts[i].weight * (double)x->scale};
        if (!change->a || !change->b) {
            return error_nomem(m->err, "an adapter");
        }
    }
    return GENARM_OK;
}

static int report(struct merger *m, int64_t n) {
    m->done += n;
    if (m->params.each && m->params.each(m->done, m->total, m->params.user) != 0) {
        return error_set(m->err, GENARM_ECANCELED, "stopped");
    }
    return GENARM_OK;
}

static int write_changed(struct merger *m, const struct ggml_tensor *t, int32_t layer, enum linear l) {
    struct host_changes *changes = malloc(sizeof *changes);
    const enum ggml_type type = changed_type(m, t->type);
    int64_t n_rows = CHUNK / (t->ne[0] * (int64_t)sizeof(float)) + 1;
    n_rows = n_rows < t->ne[1] ? n_rows : t->ne[1];
    const size_t row_size = ggml_row_size(type, t->ne[0]);
    char *to = malloc((size_t)n_rows * row_size);
    int rc = changes && to ? collect_changes(changes, m, layer, l) : error_nomem(m->err, "rows of weights");
    for (int64_t first = 0; rc == GENARM_OK && first < t->ne[1]; first += n_rows) {
        const struct merge_rows rows = {.from = gguf_file_data(m->base, t->name),
                                        .from_type = t->type,
                                        .to_type = type,
                                        .n_in = t->ne[0],
                                        .n_out = t->ne[1],
                                        .changes = changes->items,
                                        .n_changes = changes->n,
                                        .n_threads = m->params.n_threads};
        const int64_t n = n_rows < t->ne[1] - first ? n_rows : t->ne[1] - first;
        rc = error_at(m->err, merge_rows_run(&rows, first, n, to, m->err), "%.150s: %s", m->path, t->name);
        if (rc == GENARM_OK) {
            fwrite(to, row_size, (size_t)n, m->file.stream); /* failures are collected by file_commit */
            rc = report(m, n * t->ne[0]);
        }
    }
    if (changes) {
        free_changes(changes);
    }
    free(to);
    free(changes);
    return rc;
}

static int write_tensor(struct merger *m, const struct ggml_tensor *t, int64_t id) {
    int32_t layer;
    enum linear l;
    int rc = GENARM_OK;
    if (is_changed(m, t->name, &layer, &l)) {
        rc = write_changed(m, t, layer, l);
    } else {
        fwrite(gguf_file_data(m->base, t->name), 1, ggml_nbytes(t), m->file.stream);
        rc = report(m, 0);
    }
    static const char zeros[GGUF_DEFAULT_ALIGNMENT];
    fwrite(zeros, 1, (GGUF_DEFAULT_ALIGNMENT - gguf_get_tensor_size(m->gguf, id) % GGUF_DEFAULT_ALIGNMENT) %
                         GGUF_DEFAULT_ALIGNMENT, m->file.stream);
    return rc;
}

static int write_model(struct merger *m) {
    int rc = file_open(&m->file, m->path, m->err);
    if (rc != GENARM_OK) {
        return rc;
    }
    const size_t size = gguf_get_meta_size(m->gguf);
    void *meta = malloc(size);
    if (meta) {
        gguf_get_meta_data(m->gguf, meta);
        fwrite(meta, 1, size, m->file.stream);
    }
    rc = meta ? GENARM_OK : error_nomem(m->err, "a model");
    free(meta);
    int64_t id = 0;
    for (struct ggml_tensor *t = ggml_get_first_tensor(m->base->tensors); rc == GENARM_OK && t;
         t = ggml_get_next_tensor(m->base->tensors, t)) {
        char name[GGML_MAX_NAME];
        if (prune_rename(&m->prune, t->name, name, sizeof name)) {
            rc = write_tensor(m, t, id++);
        }
    }
    if (rc == GENARM_OK) {
        return file_commit(&m->file, m->err);
    }
    file_abort(&m->file);
    return rc;
}

/* ---- all of it ---- */

static int merge(struct merger *m) {
    const bool copies = m->n_parts == 0 && m->params.prune;
    int rc = copies ? GENARM_OK : merge_check_parts(m->parts, m->n_parts, m->err);
    rc = rc == GENARM_OK ? choose_type(m) : rc;
    rc = rc == GENARM_OK
             ? prune_init(&m->prune, m->model->hp.n_layer, m->params.prune, m->params.prune ? m->params.n_prune : 0, m->err)
             : rc;
    for (size_t i = 0; rc == GENARM_OK && i < m->n_parts; i++) {
        rc = genarm_adapter_load(&m->adapters[i], m->model, m->parts[i].path, m->err);
        rc = rc == GENARM_OK ? merge_fix_preference(m->adapters[i], &m->parts[i], m->err) : rc;
        if (rc == GENARM_OK && m->adapters[i]->info.head) {
            rc = error_set(m->err, GENARM_EUNSUPPORTED, "a model has no place for the head that rewards whole responses");
            error_at(m->err, rc, "%s", m->parts[i].path);
            error_hint(m->err, rc, "leave this reward model an adapter, or merge it with others into one adapter");
        }
    }
    rc = rc == GENARM_OK ? error_at(m->err, make_metadata(m), "%s", m->path) : rc;
    return rc == GENARM_OK ? write_model(m) : rc;
}

int genarm_merge_into_model(const struct genarm_model *model, const struct genarm_merge_part *parts, size_t n_parts,
                            const struct genarm_merge_params *params, const char *output, struct genarm_error *err) {
    struct merger m = {
        .model = model,
        .base = &model->weights.file,
        .parts = parts,
        .n_parts = n_parts,
        .adapters = calloc(n_parts + 1, sizeof(struct genarm_adapter *)),
        .params = params ? *params : (struct genarm_merge_params){0},
        .gguf = gguf_init_empty(),
        .path = output,
        .err = err,
    };
    if (m.params.n_threads < 1) {
        m.params.n_threads = cores_usable();
    }
    int rc = m.adapters && m.gguf ? GENARM_OK : error_nomem(err, "a model");
    rc = rc == GENARM_OK && n_parts ? model_need_graph(model, "merging adapters into a model", err) : rc;
    rc = rc == GENARM_OK ? merge(&m) : rc;
    for (size_t i = 0; m.adapters && i < n_parts; i++) {
        genarm_adapter_free(m.adapters[i]);
    }
    free(m.adapters);
    gguf_free(m.gguf);
    return rc;
}
