/* AdamW, gradient clipping and learning-rate schedules, to the letter of PyTorch and transformers.
 *
 * Parameters, gradients and moments are flat arrays of the same order. Plain loops on the host: a LoRA adapter has few
 * parameters beside the rows that a step computes.
 */
#ifndef TRAIN_OPTIM_H
#define TRAIN_OPTIM_H

#include <stddef.h>
#include <stdint.h>

#include "genarm/train.h"

struct adamw {
    double beta1, beta2, eps, weight_decay;
    int64_t step; /* updates done */
    size_t n;     /* parameters */
    float *m, *v; /* [n] first and second moments */
};

/* Moments are zero. m and v are owned: adamw_deinit. */
int adamw_init(struct adamw *a, size_t n, const struct genarm_train_params *params, struct genarm_error *err);
void adamw_deinit(struct adamw *a);

/* One update as torch.optim.AdamW does it: p -= lr * weight_decay * p, then the bias-corrected Adam step. */
void adamw_update(struct adamw *a, float *parameters, const float *gradients, double learning_rate);

/* Scales gradients by min(1, max_norm / (norm + 1e-6)) as torch.nn.utils.clip_grad_norm_; max_norm 0 leaves them alone.
 * Returns the norm before. */
double clip_gradients(float *gradients, size_t n, double max_norm);

/* The factor of the learning rate for the update that follows `step` others, as transformers' get_*_schedule_with_warmup:
 * step / warmup at first (0 for the very first update when there is a warm-up), then down to 0 at n_steps. */
double schedule_factor(enum genarm_schedule schedule, int64_t step, int64_t warmup, int64_t n_steps);

#endif
