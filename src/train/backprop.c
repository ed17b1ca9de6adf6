#include "train/backprop.h"

#include <ggml-cpu.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/progress.h"
#include "engine/backends.h"
#include "engine/engine.h"
#include "train/graph.h"

enum {
    HEAD_MULTIPLE = 8, /* what op_attention can do: n_embd_head is a multiple of this */
    HEAD_MAX = 256     /* and at most this */
};

struct backprop {
    struct backprop_params params;
    struct train_graph_params graph_params;
    struct backends backends;

    const struct pack *pack; /* of the run at hand */
    const struct backprop_job *job; /* NULL: of the reference */
    float *logp; /* [cap_logp] */
    size_t cap_logp;

    struct backprop_profile *profile;
    struct ggml_cgraph *profiled;
    int next_node;
    double last_time;
};

/* ---- losses ---- */

/* Adds up what belongs to pair i, whose scored rows begin at *at; moves *at past them. */
static void add_up(const struct pack *p, int32_t i, const float *logp, int32_t *at, double sums[SIDES]) {
    sums[CHOSEN] = sums[REJECTED] = 0;
    for (; *at < p->n_scored && p->branches[*at] / SIDES == i; ++*at) {
        sums[p->branches[*at] % SIDES] += (double)logp[*at];
    }
}

static struct loss_value pair_loss(const struct backprop *b, int32_t i, const float *logp, int32_t *at) {
    const struct pair *pair = b->pack->pairs[i];
    struct loss_input in = {.n_tokens = {pair->n_response[CHOSEN], pair->n_response[REJECTED]}};
    add_up(b->pack, i, logp, at, in.logp);
    for (int side = 0; side < SIDES && b->job->reference; side++) {
        in.reference[side] = b->job->reference[i][side];
    }
    return b->params.loss->value(&in, &b->params.loss_params);
}

/* For the graph's node between the passes. */
static void coefficients(const float *logp, float *out, void *user) {
    const struct backprop *b = user;
    if (b->job->derivatives) {
        b->job->derivatives(b->pack, logp, out, b->job->user);
        return;
    }
    for (int32_t i = 0, from = 0, to = 0; i < b->pack->n_pairs; i++, from = to) {
        const struct loss_value value = pair_loss(b, i, logp, &to);
        const double *weights = b->job->objective_weights;
        const double weight = b->job->weight * (weights ? weights[b->pack->pairs[i]->objective] : 1);
        for (int32_t s = from; s < to; s++) {
            out[s] = (float)(weight * value.d_logp[b->pack->branches[s] % SIDES]);
        }
    }
}

/* ---- construction ---- */

static int open_backends(struct backprop *b, struct genarm_error *err) {
    return backends_open(&b->backends, &b->graph_params.model->placement, b->params.n_threads, NULL, err);
}

static bool ops_read(const struct ggml_tensor *map, const void *user) {
    (void)user;
    return ops_reads_weight(map);
}

/* Whether custom nodes can compute this model where it lies. */
static bool suits_custom_nodes(const struct genarm_model *model) {
    const int32_t n_head = model->hp.n_embd_head;
    return n_head % HEAD_MULTIPLE == 0 && n_head <= HEAD_MAX &&
           weights_all_maps(&model->weights, model->hp.n_layer, ops_read, NULL);
}

static int make_ops(struct backprop *b, struct genarm_error *err) {
    struct ops_params params = ops_default_params();
    params.n_threads = b->backends.threads->n;
    params.precision = b->params.bf16 ? OPS_BF16 : OPS_F32;
    params.plain = b->params.plain || !backends_cpu_only(&b->backends) || !suits_custom_nodes(b->graph_params.model);
    b->graph_params.plain = params.plain;
    return ops_new(&b->graph_params.ops, &params, err);
}

int backprop_new(struct backprop **out, const struct genarm_model *model, const struct trainable *adapter,
                 const struct backprop_params *params, struct genarm_error *err) {
    struct backprop *b = calloc(1, sizeof *b);
    if (!b) {
        return error_nomem(err, "the training graph");
    }
    b->params = *params;
    b->graph_params = (struct train_graph_params){
        .model = model,
        .adapter = adapter,
        .reference = params->reference,
        .dropout = params->dropout,
        .temperature = params->temperature > 0 ? params->temperature : 1,
        .checkpoint_layers = params->checkpoint_layers,
        .coefficients = coefficients,
        .user = b};
    int rc = GENARM_OK;
    int (*const steps[])(struct backprop *, struct genarm_error *) = {open_backends, make_ops};
    for (size_t i = 0; i < sizeof steps / sizeof *steps && rc == GENARM_OK; i++) {
        rc = steps[i](b, err);
    }
    if (rc != GENARM_OK) {
        backprop_free(b);
        return rc;
    }
    *out = b;
    return GENARM_OK;
}

void backprop_free(struct backprop *b) {
    if (!b) {
        return;
    }
    ops_free(b->graph_params.ops);
    backends_close(&b->backends);
    free(b->logp);
    free(b);
}

/* ---- one run ---- */

static void set(struct ggml_tensor *t, const void *values) {
    if (t && t->buffer) { /* an input that no node reads has no memory */
        ggml_backend_tensor_set(t, values, 0, ggml_nbytes(t));
    }
}

static int set_inputs(const struct train_graph *g, const struct pack *p, struct genarm_error *err) {
    set(g->tokens, p->tokens);
    set(g->positions, p->positions);
    set(g->trees, p->trees);
    set(g->scored_rows, p->scored_rows);
    set(g->targets, p->targets);
    set(g->row_keys, p->row_keys);
    set(g->scored_keys, p->scored_keys);
    if (g->mask) {
        float *mask = malloc(ggml_nbytes(g->mask));
        if (!mask) {
            return error_nomem(err, "an attention mask");
        }
        op_tree_mask(p->trees, p->n_pairs, p->n_rows, mask);
        ggml_backend_tensor_set(g->mask, mask, 0, ggml_nbytes(g->mask));
        free(mask);
    }
    return GENARM_OK;
}

static int reserve_logp(struct backprop *b, size_t n, struct genarm_error *err) {
    if (n > b->cap_logp) {
        float *grown = realloc(b->logp, n * sizeof *grown);
        if (!grown) {
            return error_nomem(err, "log-probabilities");
        }
        b->logp = grown;
        b->cap_logp = n;
    }
    return GENARM_OK;
}

static int allocate(struct backprop *b, struct train_graph *g, struct genarm_error *err) {
    return backends_allocate(&b->backends, g->cgraph)
               ? GENARM_OK
               : error_hint(err, error_nomem(err, "the activations of a micro-batch"),
                           "use a smaller micro-batch or a smaller maximum length");
}

static int compute(struct backprop *b, struct train_graph *g, struct genarm_error *err) {
    b->profiled = g->cgraph;
    b->next_node = 0;
    b->last_time = clock_seconds();
    const enum ggml_status status = backends_compute(&b->backends, g->cgraph);
    if (status != GGML_STATUS_SUCCESS) {
        return error_set(err, GENARM_EBACKEND, "a training pass of %d rows failed: %s", b->pack->n_rows,
                         ggml_status_to_string(status));
    }
    return GENARM_OK;
}

/* Computes a graph of the pack and leaves its results in b->logp. */
static int run(struct backprop *b, const struct pack *p, const struct train_graph_shape *shape,
               struct genarm_error *err) {
    struct train_graph g = {0};
    b->pack = p;
    int rc = op_tree_check(p->trees, p->n_pairs, p->n_rows, err);
    if (rc == GENARM_OK) {
        rc = reserve_logp(b, (size_t)p->n_scored, err);
    }
    if (rc == GENARM_OK) {
        rc = train_graph_build(&g, &b->graph_params, shape, err);
    }
    if (rc == GENARM_OK) {
        rc = allocate(b, &g, err);
    }
    if (rc == GENARM_OK) {
        rc = set_inputs(&g, p, err);
    }
    if (rc == GENARM_OK) {
        rc = compute(b, &g, err);
    }
    if (rc == GENARM_OK) {
        ggml_backend_tensor_get(g.logp, b->logp, 0, (size_t)p->n_scored * sizeof *b->logp);
    }
    train_graph_deinit(&g);
    return rc;
}

int backprop_run(struct backprop *b, const struct pack *p, const struct backprop_job *job, struct loss_value *values,
                 struct genarm_error *err) {
    const struct train_graph_shape shape = {
        .n_rows = p->n_rows, .n_pairs = p->n_pairs, .n_scored = p->n_scored, .gradient = job->gradient};
    b->job = job;
    ops_set_dropout(b->graph_params.ops, job->seed, job->step);
    int rc = run(b, p, &shape, err);
    for (int32_t i = 0, at = 0; values && i < p->n_pairs && rc == GENARM_OK; i++) {
        values[i] = pair_loss(b, i, b->logp, &at);
    }
    b->job = NULL;
    return rc;
}

int backprop_reference(struct backprop *b, const struct pack *p, double (*sums)[SIDES], struct genarm_error *err) {
    const struct train_graph_shape shape = {
        .n_rows = p->n_rows, .n_pairs = p->n_pairs, .n_scored = p->n_scored, .reference = true};
    int rc = run(b, p, &shape, err);
    for (int32_t i = 0, at = 0; sums && i < p->n_pairs && rc == GENARM_OK; i++) {
        add_up(p, i, b->logp, &at, sums[i]);
    }
    return rc;
}

bool backprop_ignores_packing(const struct backprop *b) { return !b->graph_params.plain; }

const float *backprop_logp(const struct backprop *b) { return b->logp; }

size_t backprop_memory(const struct backprop *b) {
    return backends_memory(&b->backends);
}

/* ---- profile ---- */

static void add_time(struct backprop_profile *p, const char *kind, double seconds) {
    const int max = (int)(sizeof p->kinds / sizeof *p->kinds);
    int i = 0;
    while (i < p->n_kinds && i < max - 1 && strcmp(p->kinds[i].name, kind) != 0) {
        i++;
    }
    if (i == p->n_kinds) {
        p->n_kinds++;
        snprintf(p->kinds[i].name, sizeof p->kinds[i].name, "%s", kind);
    }
    p->kinds[i].seconds += seconds;
    p->kinds[i].nodes++;
}

/* Whether ggml computes nothing for a node. */
static bool skipped(const struct ggml_tensor *node) {
    static const enum ggml_op empty[] = {GGML_OP_NONE, GGML_OP_VIEW, GGML_OP_RESHAPE, GGML_OP_PERMUTE,
                                         GGML_OP_TRANSPOSE};
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        if (node->op == empty[i]) {
            return true;
        }
    }
    return false;
}

/* ggml asks after every node whether to go on. */
static bool after_node(void *user) {
    struct backprop *b = user;
    struct ggml_cgraph *graph = b->profiled;
    const int n = ggml_graph_n_nodes(graph);
    while (b->next_node < n && skipped(ggml_graph_node(graph, b->next_node))) {
        b->next_node++;
    }
    const double now = clock_seconds();
    if (b->profile && b->next_node < n) {
        add_time(b->profile, ggml_get_name(ggml_graph_node(graph, b->next_node++)), now - b->last_time);
    }
    b->last_time = now;
    return false;
}

void backprop_set_profile(struct backprop *b, struct backprop_profile *profile) {
    b->profile = profile;
    ggml_backend_cpu_set_abort_callback(backends_cpu(&b->backends), profile ? after_node : NULL, b);
}
