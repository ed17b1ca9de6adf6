#include "train/optim.h"

#include <math.h>
#include <stdlib.h>

#include "base/error.h"

int adamw_init(struct adamw *a, size_t n, const struct genarm_train_params *params, struct genarm_error *err) {
    *a = (struct adamw){.beta1 = params->adam_beta1,
                        .beta2 = params->adam_beta2,
                        .eps = params->adam_eps,
                        .weight_decay = params->weight_decay,
                        .n = n,
                        .m = calloc(n, sizeof *a->m),
                        .v = calloc(n, sizeof *a->v)};
    if (!a->m || !a->v) {
        adamw_deinit(a);
        return error_nomem(err, "the optimiser's moments");
    }
    return GENARM_OK;
}

void adamw_deinit(struct adamw *a) {
    free(a->m);
    free(a->v);
    *a = (struct adamw){0};
}

void adamw_update(struct adamw *a, float *parameters, const float *gradients, double learning_rate) {
    a->step++;
    const double correction1 = 1 - pow(a->beta1, (double)a->step);
    const double correction2 = sqrt(1 - pow(a->beta2, (double)a->step));
    for (size_t i = 0; i < a->n; i++) {
        const double g = gradients[i];
        const double m = a->m[i] + (g - a->m[i]) * (1 - a->beta1);
        const double v = a->v[i] * a->beta2 + g * g * (1 - a->beta2);
        a->m[i] = (float)m;
        a->v[i] = (float)v;
        const double decayed = parameters[i] * (1 - learning_rate * a->weight_decay);
        parameters[i] = (float)(decayed - learning_rate / correction1 * m / (sqrt(v) / correction2 + a->eps));
    }
}

double clip_gradients(float *gradients, size_t n, double max_norm) {
    double squares = 0;
    for (size_t i = 0; i < n; i++) {
        squares += (double)gradients[i] * gradients[i];
    }
    const double norm = sqrt(squares);
    const double scale = max_norm / (norm + 1e-6);
    if (max_norm > 0 && scale < 1) {
        for (size_t i = 0; i < n; i++) {
            gradients[i] = (float)(gradients[i] * scale);
        }
    }
    return norm;
}

double schedule_factor(enum genarm_schedule schedule, int64_t step, int64_t warmup, int64_t n_steps) {
    if (step < warmup) {
        return (double)step / (double)warmup;
    }
    const double left = (double)(n_steps - step), decay = (double)(n_steps - warmup > 1 ? n_steps - warmup : 1);
    switch (schedule) {
    case GENARM_SCHEDULE_LINEAR:
        return fmax(0, left / decay);
    case GENARM_SCHEDULE_COSINE:
        return fmax(0, 0.5 * (1 + cos(acos(-1) * (double)(step - warmup) / decay)));
    case GENARM_SCHEDULE_CONSTANT:
        break;
    }
    return 1;
}
