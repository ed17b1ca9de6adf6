#include "engine/backends.h"

#include <ggml-cpu.h>

#include "base/error.h"
#include "base/memory.h"
#include "engine/engine.h"

/* ---- backends ---- */

int backends_open(struct backends *b, const struct placement *where, int32_t n_threads, struct engine_threads *threads,
                  struct genarm_error *err) {
    *b = (struct backends){0};
    for (int i = 0; i < where->n_devices; i++) {
        b->list[b->n] = ggml_backend_dev_init(where->devices[i], NULL);
        if (!b->list[b->n]) {
            return error_set(err, GENARM_EBACKEND, "cannot start device %s", ggml_backend_dev_name(where->devices[i]));
        }
        b->n++;
    }
    b->list[b->n] = ggml_backend_cpu_init();
    if (!b->list[b->n]) {
        return error_set(err, GENARM_EBACKEND, "cannot start the CPU backend");
    }
    b->n++;
    const int rc = threads ? GENARM_OK : engine_threads_new(&b->own_threads, n_threads, err);
    b->threads = threads ? threads : b->own_threads;
    for (int i = 0; i < b->n && rc == GENARM_OK; i++) {
        if (ggml_backend_is_cpu(b->list[i])) {
            ggml_backend_cpu_set_n_threads(b->list[i], b->threads->n);
            ggml_backend_cpu_set_threadpool(b->list[i], b->threads->ggml);
        }
    }
    if (rc == GENARM_OK && backends_cpu_only(b)) {
        b->alloc = ggml_gallocr_new(ggml_backend_get_default_buffer_type(b->list[0]));
        return b->alloc ? GENARM_OK : error_nomem(err, "the memory of graphs");
    }
    return rc;
}

void backends_close(struct backends *b) {
    ggml_gallocr_free(b->alloc);
    ggml_backend_sched_free(b->sched);
    for (int i = 0; i < b->n; i++) {
        ggml_backend_free(b->list[i]);
    }
    engine_threads_free(b->own_threads);
    *b = (struct backends){0};
}

/* ---- graphs ---- */

/* A scheduler has a fixed size and aborts on a larger graph. */
static bool fit_scheduler(struct backends *b, struct ggml_cgraph *graph) {
    const size_t n_nodes = (size_t)ggml_graph_n_nodes(graph);
    if (b->sched && b->sched_size >= 2 * n_nodes) {
        return true;
    }
    ggml_backend_sched_free(b->sched);
    b->sched_size = 2 * n_nodes + n_nodes / 2; /* a graph has fewer leafs than nodes */
    b->sched = ggml_backend_sched_new(b->list, NULL, b->n, b->sched_size, false, true);
    return b->sched != NULL;
}

/* Otherwise the scheduler would ask the devices, of which those behind RPC say that they can do anything. */
static void keep_custom_nodes(struct backends *b, struct ggml_cgraph *graph) {
    for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
        struct ggml_tensor *node = ggml_graph_node(graph, i);
        if (node->op == GGML_OP_CUSTOM) {
            ggml_backend_sched_set_tensor_backend(b->sched, node, backends_cpu(b));
        }
    }
}

bool backends_allocate(struct backends *b, struct ggml_cgraph *graph) {
    if (backends_cpu_only(b)) {
        return ggml_gallocr_alloc_graph(b->alloc, graph);
    }
    if (!fit_scheduler(b, graph)) {
        return false;
    }
    ggml_backend_sched_reset(b->sched);
    keep_custom_nodes(b, graph);
    return ggml_backend_sched_alloc_graph(b->sched, graph);
}

enum ggml_status backends_compute(struct backends *b, struct ggml_cgraph *graph) {
    return backends_cpu_only(b) ? ggml_backend_graph_compute(b->list[0], graph)
                                : ggml_backend_sched_graph_compute(b->sched, graph);
}

size_t backends_memory(const struct backends *b) {
    size_t size = b->alloc ? ggml_gallocr_get_buffer_size(b->alloc, 0) : 0;
    for (int i = 0; i < b->n && b->sched; i++) {
        size += ggml_backend_sched_get_buffer_size(b->sched, b->list[i]);
    }
    return size;
}

/* ---- tensors of layers ---- */

int layer_tensors_init(struct layer_tensors *t, const struct placement *where, size_t n_tensors, struct genarm_error *err) {
    *t = (struct layer_tensors){.where = where};
    for (int i = 0; i <= where->n_devices; i++) {
        t->ctx[i] = ggml_init((struct ggml_init_params){.mem_size = n_tensors * ggml_tensor_overhead(), .no_alloc = true});
        if (!t->ctx[i]) {
            return error_nomem(err, "tensors of layers");
        }
    }
    return GENARM_OK;
}

struct ggml_context *layer_tensors_context(const struct layer_tensors *t, int32_t layer) {
    return t->ctx[placement_index(t->where, layer)];
}

bool layer_tensors_allocate(struct layer_tensors *t, enum ggml_backend_buffer_usage usage) {
    for (int i = 0; i <= t->where->n_devices; i++) {
        if (!ggml_get_first_tensor(t->ctx[i])) {
            continue;
        }
        t->buffers[i] = ggml_backend_alloc_ctx_tensors_from_buft(t->ctx[i], placement_buffer_type(t->where, i));
        if (!t->buffers[i]) {
            return false;
        }
        ggml_backend_buffer_set_usage(t->buffers[i], usage);
        if (usage == GGML_BACKEND_BUFFER_USAGE_WEIGHTS && ggml_backend_buffer_is_host(t->buffers[i])) {
            memory_want_huge_pages(ggml_backend_buffer_get_base(t->buffers[i]), ggml_backend_buffer_get_size(t->buffers[i]));
        }
        if (placement_buffer_type(t->where, i) == ggml_backend_cpu_buffer_type()) { /* from malloc */
            memory_zero(ggml_backend_buffer_get_base(t->buffers[i]), ggml_backend_buffer_get_size(t->buffers[i]));
        } else {
            ggml_backend_buffer_clear(t->buffers[i], 0);
        }
    }
    return true;
}

void layer_tensors_deinit(struct layer_tensors *t) {
    for (int i = 0; i < BACKENDS_MAX; i++) {
        ggml_backend_buffer_free(t->buffers[i]);
        ggml_free(t->ctx[i]);
    }
    *t = (struct layer_tensors){0};
}
