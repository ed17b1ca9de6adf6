/* The golden conditioned adapters: one that depends on a preference among three objectives, on the pairs of a golden model. */
#ifndef SUPPORT_CONDITIONED_CASE_H
#define SUPPORT_CONDITIONED_CASE_H

#include "support/golden.h"
#include "train/backprop.h"
#include "train/conditioned.h"

enum { CONDITIONED_OBJECTIVES = 3 };

struct conditioned_case {
    struct golden golden; /* NAME.conditioned.gguf */
    struct golden model_golden;
    struct genarm_model *model;
    struct trainable adapter;
    struct data data; /* the model's pairs once for each objective, ranked as it ranks them */
    uint32_t *all;    /* their indices 0, 1, … */
    struct backprop *backprop;
};

/* The model NAME with the golden adapter, ARM loss with the golden beta; `plain` as in backprop_params. */
void conditioned_case_open(struct conditioned_case *c, const char *name, bool plain);
void conditioned_case_close(struct conditioned_case *c);

/* Gradient at this preference of sum_i a_i times objective i's mean loss, [adapter.n], malloc'ed; losses[i]: those means. */
float *conditioned_case_gradient(struct conditioned_case *c, const float *preference, double *losses);

/* Writes the adapter as training does, with objectives called a, b, c. */
void conditioned_case_save(const struct conditioned_case *c, const char *path);

#endif
