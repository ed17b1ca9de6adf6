/* The row engine: one forward pass of our own ggml graph for rows of any mix of sequences and adapters. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/backends.h"
#include "engine/engine.h"
#include "engine/fused.h"
#include "engine/graph.h"
#include "engine/kv_state.h"
#include "engine/lora_bank.h"

struct rows_engine {
    struct engine base;
    struct backends backends;

    struct kv_layer *kv; /* [n_layer] */
    struct layer_tensors kv_memory;

    struct lora_bank bank;

    struct fused *fused; /* for a few rows on the CPU; NULL: every pass takes the plain graph */
    struct ops *ops;     /* for products of many rows on the CPU; NULL with a device */

    struct graph graph; /* the last one, kept while the shape stays */
    struct graph_shape shape;

    struct row *sorted;  /* [n_batch] rows of the pass, by sequence */
    int32_t *order;      /* [n_batch] place of sorted[i] in the caller's rows */
    int32_t *to;         /* [n_batch] which of the rows with output a row of the caller's is */
    int32_t *outputs;    /* [n_batch] rows of sorted whose output is wanted, as the caller orders them */
    int32_t *columns;    /* [n_batch] which of the rows with output, as sorted, these are */
    struct run *runs;    /* [n_batch] of the pass at hand */
    struct run *runs_of_graph; /* [n_batch] of the kept graph */
    int32_t *first;      /* [n_seq + 1] scratch of the sort */
    void *scratch;       /* inputs under construction */
    size_t scratch_size;
};

/* ---- construction ---- */

static int open_backends(struct rows_engine *e, struct genarm_error *err) {
    struct engine_params *p = &e->base.params;
    const int rc = backends_open(&e->backends, &e->base.model->placement, p->n_threads, p->threads, err);
    if (rc == GENARM_OK) {
        p->threads = e->backends.threads;
        p->n_threads = p->threads->n;
    }
    return rc;
}

static int make_cache(struct rows_engine *e, struct genarm_error *err) {
    const struct hparams *hp = &e->base.model->hp;
    const int64_t columns = kv_column(hp, e->base.params.n_ctx, e->base.params.n_seq, 0, 0);
    const enum ggml_type type = engine_kv_type(e->base.params.kv_type);
    e->kv = calloc((size_t)hp->n_layer, sizeof *e->kv);
    if (!e->kv) {
        return error_nomem(err, "the KV cache");
    }
    const int rc = layer_tensors_init(&e->kv_memory, &e->base.model->placement, 2 * (size_t)hp->n_layer, err);
    for (int32_t l = 0; l < hp->n_layer && rc == GENARM_OK; l++) {
        struct ggml_context *ctx = layer_tensors_context(&e->kv_memory, l);
        e->kv[l].k = ggml_new_tensor_2d(ctx, type, hp->n_embd_head, columns);
        e->kv[l].v = ggml_new_tensor_2d(ctx, type, hp->n_embd_head, columns);
    }
    /* Masked positions are multiplied by zero: they must be finite, as zeros are. */
    if (rc == GENARM_OK && !layer_tensors_allocate(&e->kv_memory, GGML_BACKEND_BUFFER_USAGE_ANY)) {
        return error_hint(err, error_nomem(err, "the KV cache"), "use a smaller context (-c) or fewer slots (-np)");
    }
    return rc;
}

/* Whether libllama itself meets a weight with activations of 8 bits or bf16: then products in bf16 lose nothing. */
static bool is_rounded(const struct ggml_tensor *map, const void *user) {
    (void)user;
    return map->type == GGML_TYPE_BF16 || ggml_is_quantized(map->type);
}

/* The CPU's own ways, beside the plain graph. */
static int make_cpu_paths(struct rows_engine *e, struct genarm_error *err) {
    if (!backends_cpu_only(&e->backends) || e->base.params.plain) {
        return GENARM_OK;
    }
    struct ops_params params = ops_default_params();
    params.n_threads = e->base.params.n_threads;
    const struct genarm_model *model = e->base.model;
    params.precision = weights_all_maps(&model->weights, model->hp.n_layer, is_rounded, NULL) ? OPS_BF16 : OPS_F32;
    int rc = ops_new(&e->ops, &params, err);
    if (rc == GENARM_OK && fused_reads(e->base.model)) {
        const struct fused_params fused = {.model = model,
                                           .kv = e->kv,
                                           .bank = &e->bank,
                                           .n_ctx = e->base.params.n_ctx,
                                           .threads = e->base.params.threads->pool,
                                           .n_threads = e->base.params.n_threads,
                                           .hidden = e->base.params.hidden};
        rc = fused_new(&e->fused, &fused, err);
    }
    return rc;
}

static int make_scratch(struct rows_engine *e, struct genarm_error *err) {
    const size_t n = (size_t)e->base.params.n_batch;
    e->sorted = calloc(n, sizeof *e->sorted);
    e->order = calloc(n, sizeof *e->order);
    e->to = calloc(n, sizeof *e->to);
    e->outputs = calloc(n, sizeof *e->outputs);
    e->columns = calloc(n, sizeof *e->columns);
    e->runs = calloc(n, sizeof *e->runs);
    e->runs_of_graph = calloc(n, sizeof *e->runs_of_graph);
    e->first = calloc((size_t)e->base.params.n_seq + 1, sizeof *e->first);
    const bool all = e->sorted && e->order && e->to && e->outputs && e->columns && e->runs && e->runs_of_graph && e->first;
    return all ? GENARM_OK : error_nomem(err, "a batch");
}

/* ---- the shape of a pass ---- */

/* Stable counting sort by sequence into e->sorted and e->order. */
static void sort_rows(struct rows_engine *e, const struct row *rows, int32_t n_rows) {
    const int32_t n_seq = e->base.params.n_seq;
    memset(e->first, 0, ((size_t)n_seq + 1) * sizeof *e->first);
    for (int32_t i = 0; i < n_rows; i++) {
        e->first[rows[i].seq + 1]++;
    }
    for (int32_t s = 0; s < n_seq; s++) {
        e->first[s + 1] += e->first[s];
    }
    for (int32_t i = 0; i < n_rows; i++) {
        const int32_t at = e->first[rows[i].seq]++;
        e->sorted[at] = rows[i];
        e->order[at] = i;
    }
}

static int32_t padded_kv(const struct rows_engine *e, int32_t n) {
    const int32_t padded = (n + GRAPH_KV_PAD - 1) / GRAPH_KV_PAD * GRAPH_KV_PAD;
    return padded < e->base.params.n_ctx ? padded : e->base.params.n_ctx;
}

static int32_t find_runs(struct rows_engine *e, int32_t n_rows) {
    int32_t n_runs = 0;
    for (int32_t i = 0, n; i < n_rows; i += n) {
        const struct row *r = e->sorted + i;
        for (n = 1; i + n < n_rows && r[n].seq == r->seq; n++) {
        }
        const int32_t n_kv = padded_kv(e, r[n - 1].pos + 1);
        struct run *last = n_runs ? &e->runs[n_runs - 1] : NULL;
        if (last && last->n_rows == n && last->seq0 + last->n_seq == r->seq) {
            last->n_seq++;
            last->n_kv = n_kv > last->n_kv ? n_kv : last->n_kv;
        } else {
            e->runs[n_runs++] = (struct run){.row0 = i, .n_rows = n, .seq0 = r->seq, .n_seq = 1, .n_kv = n_kv};
        }
    }
    return n_runs;
}

static bool same_shape(const struct graph_shape *a, const struct graph_shape *b) {
    if (a->n_rows != b->n_rows || a->n_outputs != b->n_outputs || a->n_runs != b->n_runs || a->lora != b->lora ||
        a->by_sequence != b->by_sequence || a->n_mixed != b->n_mixed || a->n_parts != b->n_parts) {
        return false;
    }
    return memcmp(a->runs, b->runs, (size_t)a->n_runs * sizeof *a->runs) == 0;
}

static int prepare_graph(struct rows_engine *e, const struct graph_shape *shape, struct genarm_error *err) {
    if (e->graph.cgraph && same_shape(&e->shape, shape)) {
        return GENARM_OK;
    }
    graph_deinit(&e->graph);
    int rc = graph_build(&e->graph, e->base.model, e->kv, e->base.params.n_ctx, &e->bank, e->ops, shape, err);
    if (rc != GENARM_OK) {
        graph_deinit(&e->graph);
        return rc;
    }
    if (!backends_allocate(&e->backends, e->graph.cgraph)) {
        graph_deinit(&e->graph);
        return error_hint(err, error_nomem(err, "a forward pass"), "use a smaller batch (-b)");
    }
    e->shape = *shape;
    memcpy(e->runs_of_graph, shape->runs, (size_t)shape->n_runs * sizeof *shape->runs);
    e->shape.runs = e->runs_of_graph;
    return GENARM_OK;
}

/* ---- inputs ---- */

static int reserve(struct rows_engine *e, size_t size, struct genarm_error *err) {
    if (size > e->scratch_size) {
        void *grown = realloc(e->scratch, size);
        if (!grown) {
            return error_nomem(err, "a batch");
        }
        e->scratch = grown;
        e->scratch_size = size;
    }
    return GENARM_OK;
}

/* What no node of this pass reads has no memory: the mask of adapters behind the last attention, where nothing is wanted. */
static bool is_read(const struct ggml_tensor *input) { return input && input->buffer; }

static void set(struct ggml_tensor *input, const void *data, size_t size) {
    if (is_read(input)) {
        ggml_backend_tensor_set(input, data, 0, size);
    }
}

static int set_masks(struct rows_engine *e, struct genarm_error *err) {
    const ggml_fp16_t zero = ggml_fp32_to_fp16(0.0f), hidden = ggml_fp32_to_fp16(-INFINITY);
    for (int32_t i = 0; i < e->shape.n_runs; i++) {
        const struct run *run = &e->shape.runs[i];
        int rc = reserve(e, ggml_nbytes(e->graph.masks[i]), err);
        if (rc != GENARM_OK) {
            return rc;
        }
        ggml_fp16_t *m = e->scratch;
        for (int32_t r = run->row0; r < run->row0 + run->n_rows * run->n_seq; r++) {
            for (int32_t p = 0; p < run->n_kv; p++) {
                *m++ = p <= e->sorted[r].pos ? zero : hidden;
            }
        }
        set(e->graph.masks[i], e->scratch, ggml_nbytes(e->graph.masks[i]));
    }
    return GENARM_OK;
}

static int set_lora_mask(struct rows_engine *e, struct genarm_error *err) {
    if (!is_read(e->graph.lora_mask)) {
        return GENARM_OK;
    }
    const size_t size = ggml_nbytes(e->graph.lora_mask);
    int rc = reserve(e, size, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    for (int32_t r = 0; r < e->shape.n_rows; r++) {
        lora_bank_mask(&e->bank, e->sorted[r].adapter, e->sorted[r].factors,
                       (float *)e->scratch + (size_t)r * (size_t)lora_bank_rank(&e->bank));
    }
    set(e->graph.lora_mask, e->scratch, size);
    return GENARM_OK;
}

/* Which rows are parts of each output, and how much. Where an output has fewer than others, its first row is the part, with
 * nothing of it. */
static int set_shares(struct rows_engine *e, struct genarm_error *err) {
    const int32_t n_mixed = e->shape.n_mixed, n = n_mixed * e->shape.n_parts;
    const int rc = e->graph.parts ? reserve(e, (size_t)n * (sizeof(int32_t) + sizeof(float)), err) : GENARM_OK;
    if (!e->graph.parts || rc != GENARM_OK) {
        return rc;
    }
    int32_t *parts = e->scratch;
    float *shares = (float *)(parts + n);
    for (int32_t i = 0, output = -1, part = 0; i < e->shape.n_outputs; i++) {
        const float share = e->sorted[e->outputs[i]].share;
        part = share == 0.0f ? 0 : part + 1;
        output += part == 0;
        for (int32_t k = part; k < (part == 0 ? e->shape.n_parts : part + 1); k++) {
            parts[k * n_mixed + output] = e->columns[i];
            shares[k * n_mixed + output] = k == 0 ? 1.0f : share;
        }
    }
    set(e->graph.parts, parts, (size_t)n * sizeof *parts);
    set(e->graph.shares, shares, (size_t)n * sizeof *shares);
    return GENARM_OK;
}

static int set_inputs(struct rows_engine *e, struct genarm_error *err) {
    const size_t n = (size_t)e->shape.n_rows, n_head_kv = (size_t)e->base.model->hp.n_head_kv;
    int rc = reserve(e, n * n_head_kv * sizeof(int64_t), err);
    if (rc != GENARM_OK) {
        return rc;
    }
    int32_t *small = e->scratch;
    int64_t *wide = e->scratch;
    for (size_t r = 0; r < n; r++) {
        small[r] = e->sorted[r].token;
    }
    set(e->graph.tokens, small, n * sizeof *small);
    for (size_t r = 0; r < n; r++) {
        small[r] = e->sorted[r].pos;
    }
    set(e->graph.positions, small, n * sizeof *small);
    for (size_t i = 0; i < n * n_head_kv; i++) {
        const struct row *row = &e->sorted[i / n_head_kv];
        wide[i] = kv_column(&e->base.model->hp, e->base.params.n_ctx, row->seq, (int32_t)(i % n_head_kv), row->pos);
    }
    set(e->graph.kv_index, wide, n * n_head_kv * sizeof *wide);
    if (e->graph.outputs) {
        int32_t n_outputs = 0;
        for (size_t r = 0; r < n; r++) {
            if (e->sorted[r].output) {
                small[n_outputs++] = (int32_t)r;
            }
        }
        set(e->graph.outputs, small, (size_t)n_outputs * sizeof *small);
    }
    rc = set_masks(e, err);
    rc = rc == GENARM_OK ? set_shares(e, err) : rc;
    return rc == GENARM_OK ? set_lora_mask(e, err) : rc;
}

/* ---- one pass ---- */

/* Outputs are in the caller's order, rows sorted by sequence: finds which row each output is of. */
static int32_t find_outputs(struct rows_engine *e, const struct row *rows, int32_t n_rows) {
    int32_t n = 0;
    for (int32_t i = 0; i < n_rows; i++) {
        e->to[i] = n;
        n += rows[i].output;
    }
    for (int32_t r = 0, column = 0; r < n_rows; r++) {
        if (e->sorted[r].output) {
            e->outputs[e->to[e->order[r]]] = r;
            e->columns[e->to[e->order[r]]] = column++;
        }
    }
    return n;
}

/* How many outputs the rows make, and of how many rows the largest mixture is: 1 if there is none. */
static int32_t find_mixtures(const struct row *rows, int32_t n_rows, int32_t *n_parts) {
    int32_t n = 0;
    *n_parts = 1;
    for (int32_t i = 0, parts = 1; i < n_rows; i++) {
        parts = rows[i].share == 0.0f ? 1 : parts + 1;
        n += row_begins_output(&rows[i]);
        *n_parts = parts > *n_parts ? parts : *n_parts;
    }
    return n;
}

static void copy_logits(struct rows_engine *e, float *logits) {
    const size_t n_output = (size_t)engine_n_output(&e->base);
    for (int32_t i = 0; i < e->shape.n_mixed; i++) { /* mixtures are made in the caller's order */
        const size_t from = (size_t)(e->graph.parts ? i : e->columns[i]);
        ggml_backend_tensor_get(e->graph.logits, logits + (size_t)i * n_output, from * n_output * sizeof *logits,
                                n_output * sizeof *logits);
    }
}

/* `shape` has the numbers of rows and outputs; runs and the rest are found here. */
static int compute_graph(struct rows_engine *e, struct graph_shape *shape, float *logits, struct genarm_error *err) {
    shape->n_runs = find_runs(e, shape->n_rows);
    shape->runs = e->runs;
    shape->by_sequence = backends_cpu_only(&e->backends) && shape->n_runs == 1;
    for (int32_t r = 0; r < shape->n_rows; r++) {
        shape->lora |= e->sorted[r].adapter != ENGINE_NO_ADAPTER;
    }
    int rc = prepare_graph(e, shape, err);
    if (rc == GENARM_OK) {
        rc = set_inputs(e, err);
    }
    if (rc != GENARM_OK) {
        return rc;
    }
    const enum ggml_status status = backends_compute(&e->backends, e->graph.cgraph);
    if (status != GGML_STATUS_SUCCESS) {
        return error_set(err, GENARM_EBACKEND, "a forward pass of %d rows failed: %s", shape->n_rows,
                         ggml_status_to_string(status));
    }
    copy_logits(e, logits);
    return GENARM_OK;
}

static int pass(struct rows_engine *e, const struct row *rows, int32_t n_rows, float *logits, struct genarm_error *err) {
    sort_rows(e, rows, n_rows);
    struct graph_shape shape = {
        .n_rows = n_rows, .n_outputs = find_outputs(e, rows, n_rows), .hidden = e->base.params.hidden};
    shape.n_mixed = find_mixtures(rows, n_rows, &shape.n_parts);
    if (e->fused && n_rows <= fused_max_rows(e->fused)) {
        const struct fused_batch batch = {.rows = e->sorted, .n_rows = n_rows, .outputs = e->outputs,
                                          .n_outputs = shape.n_outputs, .n_mixed = shape.n_mixed};
        return fused_forward(e->fused, &batch, logits, err);
    }
    return compute_graph(e, &shape, logits, err);
}

static int rows_forward(struct engine *base, const struct row *rows, int32_t n_rows, float *logits, struct genarm_error *err) {
    struct rows_engine *e = (struct rows_engine *)base;
    int rc = GENARM_OK;
    for (int32_t i = 0, n; i < n_rows && rc == GENARM_OK; i += n) {
        n = n_rows - i < base->params.n_batch ? n_rows - i : base->params.n_batch;
        while (i + n < n_rows && rows[i + n].share != 0.0f) { /* not through a mixture */
            n--;
        }
        rc = pass(e, rows + i, n, logits, err);
        for (int32_t r = i; r < i + n && logits; r++) {
            logits += row_begins_output(&rows[r]) ? engine_n_output(base) : 0;
        }
    }
    return rc;
}

static int rows_add_adapter(struct engine *base, const struct genarm_adapter *adapter, struct genarm_error *err) {
    struct rows_engine *e = (struct rows_engine *)base;
    graph_deinit(&e->graph); /* it points into the bank */
    return lora_bank_add(&e->bank, adapter, err);
}

static int rows_refresh_adapters(struct engine *base, struct genarm_error *err) {
    return lora_bank_refresh(&((struct rows_engine *)base)->bank, err);
}

static struct kv_sequence sequence(const struct engine *base, int32_t seq) {
    const struct rows_engine *e = (const struct rows_engine *)base;
    return (struct kv_sequence){.hp = &base->model->hp, .rope_freqs = base->model->weights.rope_freqs, .layers = e->kv,
                                .n_ctx = base->params.n_ctx, .seq = seq};
}

static int rows_copy_range(struct engine *base, int32_t from, int32_t to, int32_t first, int32_t n_pos,
                           struct genarm_error *err) {
    const struct kv_sequence f = sequence(base, from), t = sequence(base, to);
    return kv_copy(&f, &t, first, n_pos, err);
}

static int rows_copy_prefix(struct engine *base, int32_t from, int32_t to, int32_t n_pos, struct genarm_error *err) {
    return rows_copy_range(base, from, to, 0, n_pos, err);
}

static int rows_shift(struct engine *base, int32_t seq, int32_t keep, int32_t n_drop, struct genarm_error *err) {
    const struct kv_sequence s = sequence(base, seq);
    return kv_shift(&s, keep, n_drop, base->n_cached[seq], err);
}

static int rows_save(struct engine *base, int32_t seq, int32_t n_pos, struct buf *out, struct genarm_error *err) {
    const struct kv_sequence s = sequence(base, seq);
    return kv_save(&s, n_pos, out, err);
}

static int rows_load(struct engine *base, int32_t seq, int32_t n_pos, const void *data, size_t n, struct genarm_error *err) {
    const struct kv_sequence s = sequence(base, seq);
    return kv_load(&s, n_pos, data, n, err);
}

static void rows_clear(struct engine *base, int32_t seq) {
    const struct kv_sequence s = sequence(base, seq);
    kv_clear(&s);
}

static void rows_free(struct engine *base) {
    struct rows_engine *e = (struct rows_engine *)base;
    graph_deinit(&e->graph);
    fused_free(e->fused);
    ops_free(e->ops);
    lora_bank_deinit(&e->bank);
    layer_tensors_deinit(&e->kv_memory);
    backends_close(&e->backends);
    free(e->kv);
    free(e->sorted);
    free(e->order);
    free(e->to);
    free(e->outputs);
    free(e->columns);
    free(e->runs);
    free(e->runs_of_graph);
    free(e->first);
    free(e->scratch);
    engine_deinit(&e->base);
    free(e);
}

static const struct engine_vtable rows_vtable = {
    .name = "rows",
    .forward = rows_forward,
    .add_adapter = rows_add_adapter,
    .refresh_adapters = rows_refresh_adapters,
    .copy_prefix = rows_copy_prefix,
    .copy_range = rows_copy_range,
    .shift = rows_shift,
    .save = rows_save,
    .load = rows_load,
    .clear = rows_clear,
    .free = rows_free,
    .mixes = true,
};

int engine_rows_new(struct engine **out, const struct genarm_model *model, const struct engine_params *params,
                    struct genarm_error *err) {
    struct rows_engine *e = calloc(1, sizeof *e);
    if (!e) {
        return error_nomem(err, "an engine");
    }
    int rc = engine_init(&e->base, &rows_vtable, model, params, err);
    int (*const steps[])(struct rows_engine *, struct genarm_error *) = {open_backends, make_cache, make_cpu_paths,
                                                                         make_scratch};
    for (size_t i = 0; i < sizeof steps / sizeof *steps && rc == GENARM_OK; i++) {
        rc = steps[i](e, err);
    }
    if (rc != GENARM_OK) {
        rows_free(&e->base);
        return rc;
    }
    *out = &e->base;
    return GENARM_OK;
}
