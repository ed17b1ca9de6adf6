/* Training on the golden models: their pairs as training data, their adapters as the one under training. */
#ifndef SUPPORT_TRAIN_PAIRS_H
#define SUPPORT_TRAIN_PAIRS_H

#include <llama.h>

#include "support/golden.h"
#include "train/backprop.h"

struct train_case {
    struct golden golden;
    struct genarm_model *model;
    struct trainable adapter;
    struct data data; /* the golden file's pairs */
    uint32_t *all;    /* their indices 0, 1, … */
    struct backprop *backprop;
    const struct loss *loss; /* with its reference, where it has one: the model without the adapter */
};

/* The model NAME with the adapter that its golden file was made with, restricted to `targets` (bits of enum linear).
 * `params` may be NULL: the ARM loss with beta 1 on one thread. */
void train_case_open(struct train_case *c, const char *name, uint32_t targets, const struct backprop_params *params);

/* The same with the model's weights in another type, or, `back`, converted to that type and from there to F32. */
void train_case_open_as(struct train_case *c, const char *name, enum llama_ftype type, bool back, uint32_t targets,
                        const struct backprop_params *params);
void train_case_close(struct train_case *c);

struct backprop_params train_case_params(void);

/* Runs pairs [first, first + n) as one micro-batch; values[n]. */
void train_case_run(struct train_case *c, int32_t first, int32_t n, const struct backprop_job *job,
                    struct loss_value *values);

/* Gradient of the mean loss over all pairs in one micro-batch, [adapter.n], malloc'ed; *loss: that mean. */
float *train_case_gradient(struct train_case *c, double *loss);

/* Every matrix of `flat`, laid out as the adapter, and its head if it has one, against the golden tensors
 * PREFIX.<tensor>.lora_{a,b} and PREFIX.head. */
void assert_matrices_near(const struct trainable *adapter, const struct golden *g, const float *flat, const char *prefix,
                          double tolerance);

/* |value - expected| <= tolerance |expected| */
void assert_relative(double value, double expected, double tolerance, const char *what);

/* |a - b| / |b| over n numbers. */
double relative_distance(const float *a, const float *b, size_t n);

#endif
