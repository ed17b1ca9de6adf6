/* Running the nodes of src/ops in a small graph on the CPU backend, and comparing results. */
#ifndef SUPPORT_OPS_RUN_H
#define SUPPORT_OPS_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ggml.h>

#include "ops/ops.h"

enum { OPS_RUN_MAX_INPUTS = 32 };

struct ops_run {
    struct ops *ops;
    struct ggml_context *ctx;
    struct ggml_cgraph *graph;
    int n_threads;
    int n_inputs;
    struct {
        struct ggml_tensor *tensor;
        const void *data;
    } inputs[OPS_RUN_MAX_INPUTS];
    void *backend, *allocr, *persistent;
};

/* A run with ops of these parameters; computed with params.n_threads threads. */
struct ops_run ops_run_new(struct ops_params params);
void ops_run_free(struct ops_run *run);

/* An input that is filled from data (which must stay) when the graph is computed. */
struct ggml_tensor *ops_run_input(struct ops_run *run, enum ggml_type type, int64_t ne0, int64_t ne1, int64_t ne2,
                                  const void *data);
/* Marks a result, so that it survives the computation. Returns t. */
struct ggml_tensor *ops_run_output(struct ops_run *run, struct ggml_tensor *t);
/* Allocates as training does (memory is reused), fills inputs, computes. May be called once. */
void ops_run_compute(struct ops_run *run);
/* Contiguous elements of a result; caller frees. */
float *ops_run_get(const struct ggml_tensor *t);

/* ---- numbers ---- */

float *random_floats(size_t n, uint64_t seed);                     /* about normal; caller frees */
void *quantised(enum ggml_type type, const float *x, int64_t n_per_row, int64_t n_rows); /* caller frees */
float *dequantised(enum ggml_type type, const void *q, int64_t n); /* caller frees */

/* Largest |a - b| over the root mean square of b. */
double relative_difference(const float *a, const float *b, size_t n);
double relative_difference_to_double(const float *a, const double *b, size_t n);

#endif
