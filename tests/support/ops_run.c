#include "support/ops_run.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>

#include "base/rng.h"

enum { MAX_NODES = 512 };

struct ops_run ops_run_new(struct ops_params params) {
    struct ops_run run = {.n_threads = params.n_threads};
    assert_int_equal(ops_new(&run.ops, &params, NULL), GENARM_OK);
    run.ctx = ggml_init((struct ggml_init_params){
        .mem_size = MAX_NODES * ggml_tensor_overhead() + ggml_graph_overhead_custom(MAX_NODES, false), .no_alloc = true});
    run.graph = ggml_new_graph_custom(run.ctx, MAX_NODES, false);
    return run;
}

struct ggml_tensor *ops_run_input(struct ops_run *run, enum ggml_type type, int64_t ne0, int64_t ne1, int64_t ne2,
                                  const void *data) {
    assert_true(run->n_inputs < OPS_RUN_MAX_INPUTS);
    struct ggml_tensor *t = ggml_new_tensor_3d(run->ctx, type, ne0, ne1, ne2);
    ggml_set_input(t);
    ggml_set_output(t); /* keeps its memory, as weights do */
    run->inputs[run->n_inputs].tensor = t;
    run->inputs[run->n_inputs++].data = data;
    return t;
}

struct ggml_tensor *ops_run_output(struct ops_run *run, struct ggml_tensor *t) {
    ggml_set_output(t);
    ggml_build_forward_expand(run->graph, t);
    return t;
}

void ops_run_compute(struct ops_run *run) {
    ggml_backend_t backend = ggml_backend_cpu_init();
    ggml_backend_cpu_set_n_threads(backend, run->n_threads);
    ggml_gallocr_t allocr = ggml_gallocr_new(ggml_backend_cpu_buffer_type());
    run->backend = backend;
    run->allocr = allocr;
    assert_true(ggml_gallocr_alloc_graph(allocr, run->graph));
    for (int i = 0; i < run->n_inputs; i++) {
        struct ggml_tensor *t = run->inputs[i].tensor;
        if (t->buffer) { /* else no node reads it */
            ggml_backend_tensor_set(t, run->inputs[i].data, 0, ggml_nbytes(t));
        }
    }
    assert_int_equal(ggml_backend_graph_compute(backend, run->graph), GGML_STATUS_SUCCESS);
}

void ops_run_free(struct ops_run *run) {
    ggml_gallocr_free(run->allocr);
    ggml_backend_free(run->backend);
    ggml_free(run->ctx);
    ops_free(run->ops);
}

float *ops_run_get(const struct ggml_tensor *t) {
    float *out = malloc((size_t)ggml_nelements(t) * sizeof(float));
    const int64_t rows = ggml_nrows(t);
    for (int64_t i = 0; i < rows; i++) {
        const int64_t i1 = i % t->ne[1], i2 = i / t->ne[1];
        ggml_backend_tensor_get(t, out + i * t->ne[0], (size_t)i1 * t->nb[1] + (size_t)i2 * t->nb[2],
                                (size_t)t->ne[0] * sizeof(float));
    }
    return out;
}

float *random_floats(size_t n, uint64_t seed) {
    struct rng rng;
    rng_seed(&rng, seed);
    float *x = malloc((n ? n : 1) * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)rng_normal(&rng);
    }
    return x;
}

void *quantised(enum ggml_type type, const float *x, int64_t n_per_row, int64_t n_rows) {
    void *q = malloc(ggml_row_size(type, n_per_row) * (size_t)n_rows);
    if (type == GGML_TYPE_F32) {
        memcpy(q, x, (size_t)(n_per_row * n_rows) * sizeof(float));
    } else {
        ggml_quantize_chunk(type, x, q, 0, n_rows, n_per_row, NULL);
    }
    return q;
}

float *dequantised(enum ggml_type type, const void *q, int64_t n) {
    float *x = malloc((size_t)n * sizeof(float));
    if (type == GGML_TYPE_F32) {
        memcpy(x, q, (size_t)n * sizeof(float));
    } else {
        ggml_get_type_traits(type)->to_float(q, x, n);
    }
    return x;
}

double relative_difference_to_double(const float *a, const double *b, size_t n) {
    double worst = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)a[i] - b[i]);
        worst = d > worst || isnan(d) ? d : worst;
        square += b[i] * b[i];
    }
    return worst / sqrt(square / (double)n + 1e-30);
}

double relative_difference(const float *a, const float *b, size_t n) {
    double *d = malloc(n * sizeof(double));
    for (size_t i = 0; i < n; i++) {
        d[i] = b[i];
    }
    const double r = relative_difference_to_double(a, d, n);
    free(d);
    return r;
}
