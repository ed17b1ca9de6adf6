/* The ggml backends that compute for a model, one for each device of its placement, then the CPU, and the running of graphs
 * over them: on the CPU alone without a scheduler, as there is nothing to split. Engines and training use the same.
 */
#ifndef ENGINE_BACKENDS_H
#define ENGINE_BACKENDS_H

#include <ggml-alloc.h>
#include <ggml-backend.h>

#include "genarm/error.h"
#include "model/placement.h"

enum { BACKENDS_MAX = PLACEMENT_MAX_DEVICES + 1 };

struct backends {
    ggml_backend_t list[BACKENDS_MAX]; /* the CPU is the last one */
    int n;
    struct engine_threads *threads;
    struct engine_threads *own_threads; /* the same, or NULL: the caller's */
    ggml_backend_sched_t sched;          /* with devices, from the first graph on */
    size_t sched_size;                   /* nodes and leafs that it can take */
    ggml_gallocr_t alloc;                /* on the CPU alone */
};

/* `threads`: of the CPU, which outlive *b, or NULL: n_threads of its own, 0: one for each core. backends_close frees also
 * after failure. */
int backends_open(struct backends *b, const struct placement *where, int32_t n_threads, struct engine_threads *threads,
                  struct genarm_error *err);
void backends_close(struct backends *b); /* safe on a zeroed struct */

static inline bool backends_cpu_only(const struct backends *b) { return b->n == 1; }
static inline ggml_backend_t backends_cpu(const struct backends *b) { return b->list[b->n - 1]; }

/* Gives the nodes and inputs of a graph their memory, until the next call. Custom nodes, which are functions of this
 * process, are the CPU's. False: there is not enough memory. */
bool backends_allocate(struct backends *b, struct ggml_cgraph *graph);
enum ggml_status backends_compute(struct backends *b, struct ggml_cgraph *graph); /* the graph allocated last */

/* Bytes of the memory of graphs, of all backends. */
size_t backends_memory(const struct backends *b);

/* Tensors that belong to layers and live where their layer does. */
struct layer_tensors {
    struct ggml_context *ctx[BACKENDS_MAX];
    ggml_backend_buffer_t buffers[BACKENDS_MAX]; /* NULL where no layer is */
    const struct placement *where;
};

/* n_tensors: most of all layers together. layer_tensors_deinit frees also after failure. */
int layer_tensors_init(struct layer_tensors *t, const struct placement *where, size_t n_tensors, struct genarm_error *err);
struct ggml_context *layer_tensors_context(const struct layer_tensors *t, int32_t layer); /* to create them in */
bool layer_tensors_allocate(struct layer_tensors *t, enum ggml_backend_buffer_usage usage); /* all are 0; false: no memory */
void layer_tensors_deinit(struct layer_tensors *t); /* safe on a zeroed struct */

#endif
