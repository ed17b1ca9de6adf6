/* A PEFT adapter becomes a GGUF adapter. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "convert/metadata.h"
#include "convert/peft.h"
#include "convert/safetensors.h"
#include "model/draft.h"
#include "model/model.h"

/* One adapted map. */
struct pair {
    const struct safetensors_tensor *a, *b; /* [rank, n_in], [n_out, rank] in PyTorch's order of axes */
    char module[PEFT_NAME_MAX];
    double alpha; /* such that the scale is alpha / rank */
};

struct importer {
    const struct genarm_model *model;
    char *config_path, *tensors_path;
    struct peft_config config;
    struct safetensors file;
    struct pair (*pairs)[LINEAR_COUNT]; /* [n_layer] */
    const struct safetensors_tensor *head; /* of a reward model; NULL: none */
    struct adapter_draft draft;
    struct gguf_context *metadata;
    float alpha; /* of the file; 0: none is written and every scale is 1 */
    struct genarm_error *err;
};

static int another_model(struct importer *im, int rc, const char *tensor) {
    error_hint(im->err, rc, "give the model that the adapter was trained on, as GGUF");
    return error_at(im->err, rc, "%.150s: %.100s", im->tensors_path, tensor);
}

/* ---- what the file holds ---- */

/* *place of a tensor in the model and the pair it belongs to. */
static int find_pair(struct importer *im, struct pair **pair, struct peft_place *place,
                     const struct safetensors_tensor *t) {
    const struct hparams *hp = &im->model->hp;
    char module[PEFT_NAME_MAX];
    if (!peft_parse_name(place, module, t->name)) {
        const int rc = error_set(im->err, GENARM_EUNSUPPORTED,
                                 "this is no lora_A or lora_B of a layer's q, k, v, o, gate, up or down projection");
        return error_at(im->err, rc, "%.150s: %.100s", im->tensors_path, t->name);
    }
    if (place->layer >= hp->n_layer) {
        return another_model(im, error_set(im->err, GENARM_EMISMATCH, "the model has %d layers", hp->n_layer), t->name);
    }
    *pair = &im->pairs[place->layer][place->linear];
    if (place->is_b ? (*pair)->b : (*pair)->a) { /* with and without the second "model." */
        return another_model(im, error_set(im->err, GENARM_EFORMAT, "the matrix is there twice"), t->name);
    }
    snprintf((*pair)->module, sizeof (*pair)->module, "%s", module);
    return GENARM_OK;
}

static int check_number_type(struct importer *im, const struct safetensors_tensor *t) {
    if (t->type == SAFETENSORS_F32 || t->type == SAFETENSORS_F16 || t->type == SAFETENSORS_BF16) {
        return GENARM_OK;
    }
    const int rc = error_set(im->err, GENARM_EUNSUPPORTED, "type %s; adapters can be F32, F16 and BF16",
                             safetensors_type_name(t->type));
    return error_at(im->err, rc, "%.150s: %.100s", im->tensors_path, t->name);
}

static int add_head(struct importer *im, const struct safetensors_tensor *t) {
    const int64_t n_embd = im->model->hp.n_embd;
    int rc = check_number_type(im, t);
    if (rc == GENARM_OK && t->n_dims == 2 && t->shape[0] > 1 && t->shape[1] == n_embd) {
        rc = error_set(im->err, GENARM_EUNSUPPORTED, "a classifier with %lld outputs; a reward model has one",
                       (long long)t->shape[0]);
        error_hint(im->err, rc, "train with num_labels=1");
        return error_at(im->err, rc, "%.150s: %.100s", im->tensors_path, t->name);
    }
    if (rc == GENARM_OK && (t->n_dims != 2 || t->shape[0] != 1 || t->shape[1] != n_embd)) {
        rc = error_set(im->err, GENARM_EMISMATCH, "the head is not [1, %lld], as the model needs it", (long long)n_embd);
        return another_model(im, rc, t->name);
    }
    im->head = t;
    return rc;
}

static int add_tensor(struct importer *im, const struct safetensors_tensor *t) {
    struct pair *pair = NULL;
    struct peft_place p;
    if (strcmp(t->name, PEFT_HEAD) == 0) {
        return add_head(im, t);
    }
    int rc = find_pair(im, &pair, &p, t);
    rc = rc == GENARM_OK ? check_number_type(im, t) : rc;
    if (rc != GENARM_OK) {
        return rc;
    }
    const struct hparams *hp = &im->model->hp;
    const int64_t expected = p.is_b ? linear_n_out(p.linear, hp) : linear_n_in(p.linear, hp);
    if (t->n_dims != 2 || t->shape[!p.is_b] != expected || t->shape[p.is_b] < 1) {
        rc = error_set(im->err, GENARM_EMISMATCH, "%d dimensions, [%lld, %lld]; the model needs %s%lld%s", t->n_dims,
                       t->n_dims > 0 ? (long long)t->shape[0] : 0, t->n_dims > 1 ? (long long)t->shape[1] : 0,
                       p.is_b ? "[" : "[rank, ", (long long)expected, p.is_b ? ", rank]" : "]");
        return another_model(im, rc, t->name);
    }
    *(p.is_b ? &pair->b : &pair->a) = t;
    return GENARM_OK;
}

/* Checks a pair against the options of its module and finds its alpha. */
static int check_pair(struct importer *im, struct pair *pair) {
    if (!pair->a != !pair->b) {
        const struct safetensors_tensor *one = pair->a ? pair->a : pair->b;
        const int rc = error_set(im->err, GENARM_EFORMAT, "its lora_%c is missing", pair->a ? 'B' : 'A');
        return error_at(im->err, rc, "%.150s: %.100s", im->tensors_path, one->name);
    }
    long long rank = 0;
    double alpha = 0;
    int rc = peft_config_module(&im->config, pair->module, &rank, &alpha, im->err);
    if (rc == GENARM_OK && (pair->a->shape[0] != rank || pair->b->shape[1] != rank)) {
        rc = error_set(im->err, GENARM_EMISMATCH, "the rank is %lld and %lld, " PEFT_CONFIG " says %lld",
                       (long long)pair->a->shape[0], (long long)pair->b->shape[1], rank);
        error_at(im->err, rc, "%.150s: %.100s", im->tensors_path, pair->a->name);
    }
    pair->alpha = im->config.rslora ? alpha * sqrt((double)rank) : alpha;
    return rc;
}

static int read_tensors(struct importer *im) {
    int rc = safetensors_open(&im->file, im->tensors_path, im->err);
    for (size_t i = 0; rc == GENARM_OK && i < im->file.n_tensors; i++) {
        rc = add_tensor(im, &im->file.tensors[i]);
    }
    bool any = false;
    for (int32_t l = 0; l < im->model->hp.n_layer; l++) {
        for (int t = 0; rc == GENARM_OK && t < LINEAR_COUNT; t++) {
            struct pair *pair = &im->pairs[l][t];
            if (pair->a || pair->b) {
                rc = check_pair(im, pair);
                im->alpha = any || rc != GENARM_OK ? im->alpha : (float)pair->alpha;
                any = true;
            }
        }
    }
    if (rc == GENARM_OK && !any) {
        rc = error_at(im->err, error_set(im->err, GENARM_EFORMAT, "the adapter has no tensors"), "%s",
                      im->tensors_path);
    }
    if (rc == GENARM_OK && im->config.classifies && !im->head) {
        rc = error_set(im->err, GENARM_EFORMAT, "task_type is SEQ_CLS, but there is no " PEFT_HEAD);
        error_hint(im->err, rc, "a reward model's head is saved with its adapter: modules_to_save=[\"" PEFT_HEAD_MODULE "\"]");
        error_at(im->err, rc, "%s", im->tensors_path);
    }
    return rc;
}

/* ---- numbers ---- */

static void to_f32(float *to, const struct safetensors_tensor *t) {
    const size_t n = (size_t)(t->shape[0] * t->shape[1]);
    for (size_t i = 0; i < n; i++) { /* the data is aligned to nothing */
        if (t->type == SAFETENSORS_F32) {
            memcpy(&to[i], (const char *)t->data + i * sizeof(float), sizeof(float));
            continue;
        }
        uint16_t half;
        memcpy(&half, (const char *)t->data + i * sizeof half, sizeof half);
        to[i] = t->type == SAFETENSORS_F16 ? ggml_fp16_to_fp32(half) : ggml_bf16_to_fp32((ggml_bf16_t){half});
    }
}

static int check_finite(struct importer *im, const float *values, int64_t n, const char *name) {
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(values[i])) {
            const int rc = error_set(im->err, GENARM_EFORMAT, "a value that is not finite (%g at %lld)",
                                     (double)values[i], (long long)i);
            error_hint(im->err, rc, "its training went wrong: train it again with a smaller learning rate");
            return error_at(im->err, rc, "%.150s: %.100s", im->tensors_path, name);
        }
    }
    return GENARM_OK;
}

/* A as it is; B with its rows in GGUF's order, and with what its alpha is off from the file's. */
static int fill_pair(struct importer *im, int32_t layer, enum linear l) {
    const struct pair *pair = &im->pairs[layer][l];
    struct lora *x = &im->draft.layers[layer][l];
    const int64_t rank = pair->a->shape[0], n_out = pair->b->shape[0];
    const int64_t shape[] = {pair->a->shape[1], rank, n_out};
    int rc = draft_map(&im->draft, layer, (int)l, shape, im->alpha != 0 ? im->alpha / (float)rank : 1, im->err);
    if (rc != GENARM_OK) {
        return rc;
    }
    to_f32(x->a->data, pair->a);
    const int32_t heads = peft_permuted_heads(&im->model->hp, l);
    if (heads) {
        float *rows = malloc(ggml_nbytes(x->b));
        if (!rows) {
            return error_nomem(im->err, "an adapter");
        }
        to_f32(rows, pair->b);
        peft_rows_to_gguf(x->b->data, rows, n_out, rank, heads);
        free(rows);
    } else {
        to_f32(x->b->data, pair->b);
    }
    if (im->alpha != 0 && (float)pair->alpha != im->alpha) {
        log_line(GENARM_LOG_INFO, "%s: its scale is multiplied into B", pair->module);
        const double factor = pair->alpha / (double)im->alpha;
        for (int64_t i = 0; i < n_out * rank; i++) {
            float *value = (float *)x->b->data + i;
            *value = (float)(*value * factor);
        }
    }
    rc = check_finite(im, x->a->data, ggml_nelements(x->a), pair->a->name);
    return rc == GENARM_OK ? check_finite(im, x->b->data, ggml_nelements(x->b), pair->b->name) : rc;
}

static int fill(struct importer *im) {
    const int32_t n_layer = im->model->hp.n_layer;
    int rc = draft_init(&im->draft, n_layer, im->err);
    for (int32_t l = 0; l < n_layer; l++) {
        for (int t = 0; rc == GENARM_OK && t < LINEAR_COUNT; t++) {
            rc = im->pairs[l][t].a ? fill_pair(im, l, (enum linear)t) : GENARM_OK;
        }
    }
    return rc;
}

/* ---- metadata ---- */

/* Metadata of the GGUF that the adapter was made from, if it was. */
static int kept_metadata(struct importer *im, json_t **out) {
    const char *text = json_string_value(json_object_get(im->file.metadata, PEFT_METADATA));
    *out = NULL;
    return text ? json_parse(out, text, strlen(text), im->tensors_path, im->err) : GENARM_OK;
}

static int check_kept(struct importer *im) {
    const char *arch, *base;
    int rc = gguf_need_str(&arch, im->metadata, "general.architecture", im->err);
    rc = rc == GENARM_OK ? gguf_opt_str(&base, im->metadata, "genarm.base", im->model->fingerprint, im->err) : rc;
    if (rc == GENARM_OK && strcmp(arch, im->model->architecture) != 0) {
        rc = error_set(im->err, GENARM_EMISMATCH, "the adapter is for architecture %.40s, the model is %s", arch,
                       im->model->architecture);
    } else if (rc == GENARM_OK && strcmp(base, im->model->fingerprint) != 0) {
        rc = error_set(im->err, GENARM_EMISMATCH,
                       "the adapter was trained on the model with fingerprint %.40s, this one has %s", base,
                       im->model->fingerprint);
    }
    return rc;
}

/* As genarm_adapter_load will ask for it. */
static int check_kept_head(struct importer *im) {
    const struct gguf_context *g = im->metadata;
    const int64_t id = gguf_find_key(g, "genarm.head");
    const bool fits = id < 0 || (gguf_get_kv_type(g, id) == GGUF_TYPE_ARRAY &&
                                 gguf_get_arr_type(g, id) == GGUF_TYPE_FLOAT32 &&
                                 gguf_get_arr_n(g, id) == (size_t)im->model->hp.n_embd);
    return fits ? GENARM_OK
                : error_set(im->err, GENARM_EMISMATCH, "genarm.head is not an array of %d f32 numbers",
                            im->model->hp.n_embd);
}

/* The alpha that the kept metadata says, where it is still right: then the file comes out as it was. */
static int keep_alpha(struct importer *im) {
    float alpha;
    int rc = gguf_opt_f32(&alpha, im->metadata, "adapter.lora.alpha", 0, im->err);
    bool fits = rc == GENARM_OK;
    for (int32_t l = 0; l < im->model->hp.n_layer; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            const struct pair *pair = &im->pairs[l][t];
            const float want = alpha != 0 || !pair->a ? alpha : (float)pair->a->shape[0];
            fits = fits && (!pair->a || (float)pair->alpha == want);
        }
    }
    if (fits) {
        im->alpha = alpha;
    } else if (rc == GENARM_OK) {
        gguf_set_val_f32(im->metadata, "adapter.lora.alpha", im->alpha);
    }
    return rc;
}

/* The head that the tensors say; one that was kept stays where it is the same, so that the file comes out as it was. */
static int set_head(struct importer *im) {
    const size_t n = (size_t)im->model->hp.n_embd;
    float *head = malloc(n * sizeof *head);
    if (!head) {
        return error_nomem(im->err, "a head");
    }
    to_f32(head, im->head);
    const int rc = check_finite(im, head, (int64_t)n, im->head->name);
    const int64_t id = gguf_find_key(im->metadata, "genarm.head");
    if (rc == GENARM_OK && (id < 0 || memcmp(gguf_get_arr_data(im->metadata, id), head, n * sizeof *head) != 0)) {
        gguf_set_arr_data(im->metadata, "genarm.head", GGUF_TYPE_FLOAT32, head, n);
    }
    free(head);
    return rc;
}

static int make_metadata(struct importer *im) {
    json_t *kept = NULL;
    int rc = kept_metadata(im, &kept);
    im->metadata = gguf_init_empty();
    if (rc == GENARM_OK && !im->metadata) {
        rc = error_nomem(im->err, "an adapter");
    }
    if (rc == GENARM_OK && kept) {
        rc = metadata_from_json(im->metadata, kept, im->err);
        rc = rc == GENARM_OK ? check_kept(im) : rc;
        rc = rc == GENARM_OK ? check_kept_head(im) : rc;
        rc = rc == GENARM_OK ? keep_alpha(im) : rc;
    } else if (rc == GENARM_OK) {
        const struct adapter_info info = {.base_hash = (char *)(uintptr_t)im->model->fingerprint}; /* only read */
        adapter_metadata(im->metadata, im->model->hp.arch, im->alpha, &info);
        if (im->config.base_model) {
            gguf_set_val_str(im->metadata, PEFT_BASE_KEY, im->config.base_model);
        }
    }
    rc = rc == GENARM_OK && im->head ? set_head(im) : rc;
    json_decref(kept);
    return error_at(im->err, rc, "%s", im->tensors_path);
}

/* ---- all of it ---- */

static char *join(const char *folder, const char *name) {
    char *path = malloc(strlen(folder) + strlen(name) + 2);
    if (path) {
        sprintf(path, "%s/%s", folder, name);
    }
    return path;
}

static int check_folder(const struct importer *im, const char *folder) {
    char *pickled = join(folder, "adapter_model.bin");
    int rc = GENARM_OK;
    if (!file_exists(im->config_path) && file_exists_in(folder, "config.json")) {
        rc = error_set(im->err, GENARM_EUNSUPPORTED, "a whole model, no adapter: there is no " PEFT_CONFIG);
        error_hint(im->err, rc, "llama.cpp's convert_hf_to_gguf.py makes a GGUF file of it, which goes as an ARM as it is");
        error_at(im->err, rc, "%s", folder);
    } else if (!file_exists(im->tensors_path) && pickled && file_exists(pickled)) {
        rc = error_set(im->err, GENARM_EUNSUPPORTED, "the adapter is a pickle, which can run code and is not read");
        error_hint(im->err, rc, "save it with safe_serialization=True");
        error_at(im->err, rc, "%s", pickled);
    }
    free(pickled);
    return rc;
}

static int import_adapter(struct importer *im, const char *folder, const char *output) {
    int rc = check_folder(im, folder);
    rc = rc == GENARM_OK ? peft_config_read(&im->config, im->config_path, im->err) : rc;
    rc = rc == GENARM_OK ? read_tensors(im) : rc;
    rc = rc == GENARM_OK ? make_metadata(im) : rc;
    rc = rc == GENARM_OK ? fill(im) : rc;
    return rc == GENARM_OK ? adapter_write(output, im->draft.n_layer, im->draft.layers, im->metadata, im->err) : rc;
}

int genarm_adapter_from_peft(const struct genarm_model *model, const char *folder, const char *output,
                             struct genarm_error *err) {
    struct importer im = {
        .model = model,
        .config_path = join(folder, PEFT_CONFIG),
        .tensors_path = join(folder, PEFT_TENSORS),
        .pairs = calloc((size_t)model->hp.n_layer, sizeof *im.pairs),
        .err = err,
    };
    int rc = im.config_path && im.tensors_path && im.pairs ? GENARM_OK : error_nomem(err, "an adapter");
    rc = rc == GENARM_OK ? model_need_graph(model, "converting an adapter", err) : rc;
    rc = rc == GENARM_OK ? import_adapter(&im, folder, output) : rc;
    gguf_free(im.metadata);
    draft_deinit(&im.draft);
    safetensors_close(&im.file);
    peft_config_deinit(&im.config);
    free(im.pairs);
    free(im.tensors_path);
    free(im.config_path);
    return rc;
}
