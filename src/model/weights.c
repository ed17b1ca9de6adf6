/* Weights of a model: checked against the hyper-parameters, then used where they lie in the file's map, or copied. */
#include "model/weights.h"

#include <ggml-alloc.h>
#include <ggml-cpu.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/strset.h"

static const struct {
    const char *name, *tensor;
} linears[LINEAR_COUNT] = {
    [LINEAR_Q] = {"q", "attn_q"},         [LINEAR_K] = {"k", "attn_k"},         [LINEAR_V] = {"v", "attn_v"},
    [LINEAR_O] = {"o", "attn_output"},    [LINEAR_GATE] = {"gate", "ffn_gate"}, [LINEAR_UP] = {"up", "ffn_up"},
    [LINEAR_DOWN] = {"down", "ffn_down"},
};

const char *linear_name(enum linear l) { return linears[l].name; }
const char *linear_tensor_name(enum linear l) { return linears[l].tensor; }

bool linear_parse_name(int32_t *layer, enum linear *l, const char **rest, const char *name) {
    char map[GGML_MAX_NAME] = "";
    int used = 0, number = -1;
    if (sscanf(name, "blk.%8d.%63[a-z_].weight%n", &number, map, &used) != 2 || used == 0 || number < 0 ||
        (!rest && name[used])) {
        return false;
    }
    for (int i = 0; i < LINEAR_COUNT; i++) {
        if (strcmp(map, linears[i].tensor) == 0) {
            *layer = number;
            *l = (enum linear)i;
            if (rest) {
                *rest = name + used;
            }
            return true;
        }
    }
    return false;
}

int32_t linear_n_in(enum linear l, const struct hparams *hp) {
    return l == LINEAR_O ? hparams_n_embd_q(hp) : l == LINEAR_DOWN ? hp->n_ff : hp->n_embd;
}

int32_t linear_n_out(enum linear l, const struct hparams *hp) {
    switch (l) {
    case LINEAR_Q:
        return hparams_n_embd_q(hp);
    case LINEAR_K:
    case LINEAR_V:
        return hparams_n_embd_kv(hp);
    case LINEAR_GATE:
    case LINEAR_UP:
        return hp->n_ff;
    default:
        return hp->n_embd;
    }
}

/* What the row kernels, the gradients and ggml's CPU backend all have. */
static const enum ggml_type matrix_types[] = {GGML_TYPE_F32,  GGML_TYPE_F16,  GGML_TYPE_BF16,
                                              GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                              GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K};

bool weights_type_supported(enum ggml_type type) {
    for (size_t i = 0; i < sizeof matrix_types / sizeof *matrix_types; i++) {
        if (type == matrix_types[i]) {
            return true;
        }
    }
    return false;
}

/* ---- what to load ---- */

enum kind { MATRIX, VECTOR };

/* How a tensor gets its memory: a place in the file's map, or in a buffer of what placement_index says. */
enum { HOME_MAP = -1 };

/* One tensor of the file that becomes one of ours. */
struct want {
    struct ggml_tensor **to;
    const struct ggml_tensor *from; /* infos of the file */
    enum ggml_type type;            /* as loaded: vectors become f32 */
    int home;
};

struct loader {
    struct weights *w;
    struct hparams *hp;
    const struct placement *where;
    struct genarm_error *err;
    int rc;
    bool copy; /* what the CPU reads, too */
    struct want *wants;
    size_t n_wants;
};

static const uint8_t *bytes_of(const struct loader *l, const struct ggml_tensor *from) {
    return gguf_file_data(&l->w->file, from->name);
}

static void check_type(struct loader *l, const struct ggml_tensor *t, enum kind kind) {
    const bool plain = t->type == GGML_TYPE_F32 || t->type == GGML_TYPE_F16 || t->type == GGML_TYPE_BF16;
    if (!(kind == VECTOR ? plain : weights_type_supported(t->type))) {
        l->rc = error_set(l->err, GENARM_EUNSUPPORTED, "tensor %s has the unsupported type %s", t->name,
                          ggml_type_name(t->type));
        error_hint(l->err, l->rc, "%s",
                   kind == VECTOR
                       ? "norms and biases can be F32, F16 and BF16"
                       : "weights can be F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q5_K and Q6_K: requantize the model");
    }
}

/* Asks for a tensor of shape [ne0, ne1]; ne1 0: a vector. An optional one that is not there stays NULL. `at`: as
 * placement_index has it. */
static void want(struct loader *l, struct ggml_tensor **to, int64_t ne0, int64_t ne1, bool optional, int at,
                 const char *name) {
    const struct ggml_tensor *t = l->rc == GENARM_OK ? ggml_get_tensor(l->w->file.tensors, name) : NULL;
    if (l->rc != GENARM_OK || (!t && optional)) {
        return;
    }
    if (!t) {
        l->rc = error_set(l->err, GENARM_EFORMAT, "tensor %s is missing", name);
        return;
    }
    const int64_t rows = ne1 ? ne1 : 1;
    if (t->ne[0] != ne0 || t->ne[1] != rows || t->ne[2] != 1 || t->ne[3] != 1) {
        l->rc = error_set(l->err, GENARM_EFORMAT, "tensor %s has shape [%lld, %lld, %lld, %lld], not [%lld, %lld]",
                          name, (long long)t->ne[0], (long long)t->ne[1], (long long)t->ne[2], (long long)t->ne[3],
                          (long long)ne0, (long long)rows);
        return;
    }
    check_type(l, t, ne1 ? MATRIX : VECTOR);
    const enum ggml_type type = ne1 ? t->type : GGML_TYPE_F32;
    const size_t align = ggml_backend_buft_get_alignment(ggml_backend_cpu_buffer_type());
    const bool fits = !l->copy && type == t->type && (uintptr_t)bytes_of(l, t) % align == 0;
    l->wants[l->n_wants++] = (struct want){
        .to = to, .from = t, .type = type, .home = at == l->where->n_devices && fits ? HOME_MAP : at};
}

/* One map in the place of q, k and v, which libllama knows. */
static void refuse_fused(struct loader *l, int32_t i) {
    char fused[64], apart[64];
    snprintf(fused, sizeof fused, "blk.%d.attn_qkv.weight", i);
    snprintf(apart, sizeof apart, "blk.%d.attn_q.weight", i);
    if (l->rc == GENARM_OK && ggml_get_tensor(l->w->file.tensors, fused) && !ggml_get_tensor(l->w->file.tensors, apart)) {
        l->rc = error_set(l->err, GENARM_EUNSUPPORTED, "tensor %s: q, k and v in one map are not supported", fused);
        error_hint(l->err, l->rc, "convert the model without --fuse-qkv");
    }
}

static void want_layer(struct loader *l, int32_t i) {
    const struct hparams *hp = l->hp;
    struct layer_weights *layer = &l->w->layers[i];
    const int device = placement_index(l->where, i);
    char name[64];
    refuse_fused(l, i);
    snprintf(name, sizeof name, "blk.%d.attn_norm.weight", i);
    want(l, &layer->attn_norm, hp->n_embd, 0, false, device, name);
    snprintf(name, sizeof name, "blk.%d.ffn_norm.weight", i);
    want(l, &layer->ffn_norm, hp->n_embd, 0, false, device, name);
    for (int t = 0; t < LINEAR_COUNT; t++) {
        const int32_t n_in = linear_n_in((enum linear)t, hp), n_out = linear_n_out((enum linear)t, hp);
        snprintf(name, sizeof name, "blk.%d.%s.weight", i, linears[t].tensor);
        want(l, &layer->linear[t], n_in, n_out, false, device, name);
        snprintf(name, sizeof name, "blk.%d.%s.bias", i, linears[t].tensor);
        want(l, &layer->bias[t], n_out, 0, true, device, name);
    }
    if (hp->arch == ARCH_QWEN3) {
        snprintf(name, sizeof name, "blk.%d.attn_q_norm.weight", i);
        want(l, &layer->q_norm, hp->n_embd_head, 0, false, device, name);
        snprintf(name, sizeof name, "blk.%d.attn_k_norm.weight", i);
        want(l, &layer->k_norm, hp->n_embd_head, 0, false, device, name);
    }
}

static void want_all(struct loader *l) {
    struct weights *w = l->w;
    const struct ggml_tensor *embd = ggml_get_tensor(w->file.tensors, "token_embd.weight");
    if (!embd) {
        l->rc = error_set(l->err, GENARM_EFORMAT, "tensor token_embd.weight is missing");
        return;
    }
    if (embd->ne[1] > INT32_MAX) {
        l->rc = error_set(l->err, GENARM_EFORMAT, "tensor token_embd.weight has %lld rows", (long long)embd->ne[1]);
        return;
    }
    l->hp->n_vocab = (int32_t)embd->ne[1];
    const int cpu = l->where->n_devices, head = placement_index(l->where, l->hp->n_layer);
    want(l, &w->token_embd, l->hp->n_embd, l->hp->n_vocab, false, cpu, "token_embd.weight");
    want(l, &w->output_norm, l->hp->n_embd, 0, false, head, "output_norm.weight");
    const bool tied = !ggml_get_tensor(w->file.tensors, "output.weight");
    if (!tied || head != cpu) { /* a tied head on a device is a copy: embeddings stay on the CPU */
        want(l, &w->output, l->hp->n_embd, l->hp->n_vocab, false, head,
             tied ? "token_embd.weight" : "output.weight");
    }
    if (l->hp->arch == ARCH_LLAMA) {
        want(l, &w->rope_freqs, l->hp->n_rot / 2, 0, true, cpu, "rope_freqs.weight");
    }
    for (int32_t i = 0; i < l->hp->n_layer && l->rc == GENARM_OK; i++) {
        want_layer(l, i);
    }
}

/* A tensor that is not asked for changes the result in a way that we do not compute (libllama refuses it, too). */
static void refuse_unknown(struct loader *l) {
    struct strset wanted = {0};
    int rc = GENARM_OK;
    for (size_t i = 0; rc >= 0 && i < l->n_wants; i++) {
        rc = strset_add(&wanted, l->wants[i].from->name, strlen(l->wants[i].from->name), NULL, l->err);
    }
    struct ggml_context *all = l->w->file.tensors;
    for (struct ggml_tensor *t = ggml_get_first_tensor(all); rc >= 0 && t; t = ggml_get_next_tensor(all, t)) {
        rc = strset_add(&wanted, t->name, strlen(t->name), NULL, l->err);
        if (rc == 1) {
            rc = error_set(l->err, GENARM_EUNSUPPORTED, "tensor %s has no place in a model of architecture %s", t->name,
                           arch_name(l->hp->arch));
        }
    }
    strset_deinit(&wanted);
    l->rc = rc < 0 ? rc : GENARM_OK;
}

/* ---- loading ---- */

/* Copies (and, for vectors, converts) one tensor into its backend buffer. */
static int upload(struct loader *l, const struct want *x) {
    struct ggml_tensor *t = *x->to;
    if (x->type == x->from->type) {
        ggml_backend_tensor_set(t, bytes_of(l, x->from), 0, ggml_nbytes(t));
        return GENARM_OK;
    }
    float *f32 = malloc(ggml_nbytes(t));
    if (!f32) {
        return error_nomem(l->err, "weights");
    }
    ggml_get_type_traits(x->from->type)->to_float(bytes_of(l, x->from), f32, ggml_nelements(t));
    ggml_backend_tensor_set(t, f32, 0, ggml_nbytes(t));
    free(f32);
    return GENARM_OK;
}

static ggml_backend_buffer_t keep_buffer(struct loader *l, ggml_backend_buffer_t buffer) {
    ggml_backend_buffer_t *more = buffer ? realloc(l->w->buffers, ((size_t)l->w->n_buffers + 1) * sizeof *more) : NULL;
    if (!more) {
        ggml_backend_buffer_free(buffer);
        return NULL;
    }
    ggml_backend_buffer_set_usage(buffer, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    l->w->buffers = more;
    return more[l->w->n_buffers++] = buffer;
}

/* Puts the wanted tensors [first, end) that live in this home into one new buffer. */
static int copy_range(struct loader *l, int home, ggml_backend_buffer_type_t type, size_t first, size_t end, size_t size) {
    ggml_backend_buffer_t buffer = keep_buffer(l, ggml_backend_buft_alloc_buffer(type, size));
    if (!buffer) {
        const int rc = error_set(l->err, GENARM_ENOMEM, "not enough memory for %zu MiB of weights on %s", size >> 20,
                                 ggml_backend_buft_name(type));
        return home < l->where->n_devices
                   ? error_hint(l->err, rc, "keep fewer layers on devices (-ngl), or divide them otherwise (-ts)")
                   : rc;
    }
    if (ggml_backend_buffer_is_host(buffer)) {
        memory_want_huge_pages(ggml_backend_buffer_get_base(buffer), size);
    }
    struct ggml_tallocr at = ggml_tallocr_new(buffer);
    int rc = GENARM_OK;
    for (size_t i = first; rc == GENARM_OK && i < end; i++) {
        const struct want *x = &l->wants[i];
        if (x->home == home) {
            rc = ggml_tallocr_alloc(&at, *x->to) == GGML_STATUS_SUCCESS
                     ? upload(l, x)
                     : error_set(l->err, GENARM_EBACKEND, "cannot place tensor %s on %s", x->from->name,
                                 ggml_backend_buft_name(type));
        }
    }
    return rc;
}

/* Puts all wanted tensors of this home into buffers, as few as the buffer type allows. */
static int copy_tensors(struct loader *l, int home) {
    ggml_backend_buffer_type_t type = placement_buffer_type(l->where, home);
    const size_t align = ggml_backend_buft_get_alignment(type), max = ggml_backend_buft_get_max_size(type);
    size_t first = 0, size = 0;
    for (size_t i = 0; i < l->n_wants; i++) {
        if (l->wants[i].home != home) {
            continue;
        }
        const size_t more = (ggml_backend_buft_get_alloc_size(type, *l->wants[i].to) + align - 1) / align * align;
        if (size > 0 && (more > max || size > max - more)) {
            const int rc = copy_range(l, home, type, first, i, size);
            if (rc != GENARM_OK) {
                return rc;
            }
            first = i;
            size = 0;
        }
        size += more;
    }
    return size > 0 ? copy_range(l, home, type, first, l->n_wants, size) : GENARM_OK;
}

/* Tensors that the CPU can use where they lie in the file share a buffer over the map. */
static int place_in_map(struct loader *l) {
    struct gguf_file *f = &l->w->file;
    ggml_backend_buffer_t buffer = keep_buffer(l, ggml_backend_cpu_buffer_from_ptr((void *)(uintptr_t)f->map, f->size));
    if (!buffer) {
        return error_nomem(l->err, "weights");
    }
    for (size_t i = 0; i < l->n_wants; i++) {
        const struct want *x = &l->wants[i];
        if (x->home == HOME_MAP &&
            ggml_backend_tensor_alloc(buffer, *x->to, (void *)(uintptr_t)bytes_of(l, x->from)) != GGML_STATUS_SUCCESS) {
            return error_set(l->err, GENARM_EBACKEND, "cannot place tensor %s", x->from->name);
        }
    }
    return GENARM_OK;
}

static int create_tensors(struct loader *l) {
    l->w->ctx =
        ggml_init((struct ggml_init_params){.mem_size = (l->n_wants + 1) * ggml_tensor_overhead(), .no_alloc = true});
    if (!l->w->ctx) {
        return error_nomem(l->err, "weights");
    }
    for (size_t i = 0; i < l->n_wants; i++) {
        struct want *x = &l->wants[i];
        *x->to = ggml_new_tensor(l->w->ctx, x->type, GGML_MAX_DIMS, x->from->ne);
        ggml_set_name(*x->to, x->from->name);
    }
    return GENARM_OK;
}

static int load(struct loader *l) {
    want_all(l);
    if (l->rc == GENARM_OK) {
        refuse_unknown(l);
    }
    int rc = l->rc == GENARM_OK ? create_tensors(l) : l->rc;
    rc = rc == GENARM_OK ? place_in_map(l) : rc;
    for (int home = l->where->n_devices; home >= 0 && rc == GENARM_OK; home--) {
        rc = copy_tensors(l, home);
    }
    return rc;
}

static bool has_room(const struct gguf_file *file) { return file->size <= memory_available() / 2; }

int weights_load(struct weights *w, struct hparams *hp, struct gguf_file *file, const struct placement *where,
                 enum genarm_load_mode mode, struct genarm_error *err) {
    struct weights loaded = {.file = *file};
    struct hparams sizes = *hp;
    *file = (struct gguf_file){0};
    struct loader l = {.w = &loaded, .hp = &sizes, .where = where, .err = err};
    l.copy = mode == GENARM_LOAD_NONE || (mode == GENARM_LOAD_AUTO && has_room(&loaded.file));
    const size_t max_wants = 4 + (size_t)hp->n_layer * (2 * LINEAR_COUNT + 4);
    loaded.layers = calloc((size_t)hp->n_layer, sizeof *loaded.layers);
    l.wants = calloc(max_wants, sizeof *l.wants);
    const int rc = loaded.layers && l.wants ? load(&l) : error_nomem(err, "weights");
    free(l.wants);
    if (rc != GENARM_OK) {
        weights_deinit(&loaded);
        return rc;
    }
    if (!loaded.output) {
        loaded.output = loaded.token_embd;
    }
    if (l.copy) {
        file_map_rest(loaded.file.map, loaded.file.size);
    }
    *w = loaded;
    *hp = sizes;
    return GENARM_OK;
}

void weights_deinit(struct weights *w) {
    for (int i = 0; i < w->n_buffers; i++) {
        ggml_backend_buffer_free(w->buffers[i]);
    }
    free(w->buffers);
    free(w->layers);
    ggml_free(w->ctx);
    gguf_file_close(&w->file);
    *w = (struct weights){0};
}

static size_t size_of(const struct ggml_tensor *t) { return t ? ggml_nbytes(t) : 0; }

size_t weights_unit_size(const struct weights *w, int32_t n_layer, int32_t unit) {
    if (unit == n_layer) {
        return size_of(w->output_norm) + (w->output != w->token_embd ? size_of(w->output) : 0);
    }
    const struct layer_weights *layer = &w->layers[unit];
    size_t size = size_of(layer->attn_norm) + size_of(layer->ffn_norm) + size_of(layer->q_norm) + size_of(layer->k_norm);
    for (int t = 0; t < LINEAR_COUNT; t++) {
        size += size_of(layer->linear[t]) + size_of(layer->bias[t]);
    }
    return size;
}

bool weights_all_maps(const struct weights *w, int32_t n_layer, bool (*holds)(const struct ggml_tensor *map, const void *user),
                      const void *user) {
    bool all = holds(w->output, user);
    for (int32_t l = 0; l < n_layer && all; l++) {
        for (int t = 0; t < LINEAR_COUNT && all; t++) {
            all = holds(w->layers[l].linear[t], user);
        }
    }
    return all;
}
