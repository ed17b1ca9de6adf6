#include "support/conditioned_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ALL_TARGETS = (1 << LINEAR_COUNT) - 1 };

static void add_pair(struct conditioned_case *c, int32_t objective, int32_t i, bool swapped) {
    const char *const parts[] = {"prompt", swapped ? "rejected" : "chosen", swapped ? "chosen" : "rejected"};
    struct data *d = &c->data;
    struct pair *p = &d->pairs[d->n_pairs++];
    size_t lengths[3];
    p->first = d->n_tokens;
    for (int k = 0; k < 3; k++) {
        const int32_t *tokens = golden_i32(&c->model_golden, &lengths[k], "pair%d.%s", i, parts[k]);
        d->tokens = realloc(d->tokens, (d->n_tokens + lengths[k]) * sizeof *d->tokens);
        memcpy(d->tokens + d->n_tokens, tokens, lengths[k] * sizeof *tokens);
        d->n_tokens += lengths[k];
    }
    p->n_prompt = (int32_t)lengths[0];
    p->n_response[CHOSEN] = (int32_t)lengths[1];
    p->n_response[REJECTED] = (int32_t)lengths[2];
    p->objective = objective;
}

static void read_pairs(struct conditioned_case *c) {
    const int32_t n = (int32_t)golden_number(&c->model_golden, "golden.n_pairs");
    c->data.pairs = calloc((size_t)(CONDITIONED_OBJECTIVES * n), sizeof *c->data.pairs);
    c->all = calloc((size_t)(CONDITIONED_OBJECTIVES * n), sizeof *c->all);
    for (int32_t o = 0; o < CONDITIONED_OBJECTIVES; o++) {
        const int32_t *swapped = golden_i32(&c->golden, NULL, "swapped%d", o);
        for (int32_t i = 0; i < n; i++) {
            add_pair(c, o, i, swapped[i]);
            c->all[o * n + i] = (uint32_t)(o * n + i);
        }
    }
}

static void copy(float *theta, const struct ggml_tensor *view, const struct ggml_tensor *from) {
    assert_true(ggml_are_same_shape(view, from));
    ggml_backend_tensor_get(from, theta + view->view_offs / sizeof(float), 0, ggml_nbytes(from));
}

/* A and B of NAME.lora.gguf, W1 and T of the golden file. */
static void fill(struct conditioned_case *c, const char *name) {
    char file[64];
    snprintf(file, sizeof file, "%s.lora.gguf", name);
    struct genarm_adapter *lora = golden_adapter(c->model, file);
    float *theta = calloc(c->adapter.n, sizeof *theta);
    for (int32_t l = 0; l < c->adapter.n_layer; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            const char *map = linear_tensor_name((enum linear)t);
            size_t n_w1, n_t;
            const float *w1 = golden_f32(&c->golden, &n_w1, "blk.%d.%s.weight.w1", l, map);
            const float *all_t = golden_f32(&c->golden, &n_t, "blk.%d.%s.weight.t", l, map);
            float *to = theta + c->adapter.cores[l][t].at;
            copy(theta, c->adapter.layers[l][t].a, lora->layers[l][t].a);
            copy(theta, c->adapter.layers[l][t].b, lora->layers[l][t].b);
            memcpy(to, w1, n_w1 * sizeof *to);
            memcpy(to + n_w1, all_t, n_t * sizeof *to);
        }
    }
    trainable_set(&c->adapter, theta);
    free(theta);
    genarm_adapter_free(lora);
}

void conditioned_case_open(struct conditioned_case *c, const char *name, bool plain) {
    char file[64];
    struct genarm_error err = {0};
    *c = (struct conditioned_case){0};
    snprintf(file, sizeof file, "%s.conditioned.gguf", name);
    golden_open_file(&c->golden, file);
    golden_open(&c->model_golden, name);
    snprintf(file, sizeof file, "%s.gguf", name);
    c->model = golden_model(file);
    const struct conditioning conditioning = {.n_objectives = CONDITIONED_OBJECTIVES,
                                              .rank = (int32_t)golden_number(&c->golden, "golden.rank")};
    must(trainable_init_conditioned(&c->adapter, &c->model->hp, ALL_TARGETS, 4, 8, &conditioning, 1,
                                    ggml_backend_cpu_buffer_type(), &err), &err);
    fill(c, name);
    read_pairs(c);
    const struct backprop_params params = {.loss = loss_get(GENARM_LOSS_ARM),
                                           .loss_params = {.beta = golden_number(&c->golden, "golden.beta")},
                                           .n_threads = 1,
                                           .plain = plain};
    must(backprop_new(&c->backprop, c->model, &c->adapter, &params, &err), &err);
}

void conditioned_case_close(struct conditioned_case *c) {
    backprop_free(c->backprop);
    trainable_deinit(&c->adapter);
    data_deinit(&c->data);
    free(c->all);
    genarm_model_free(c->model);
    golden_close(&c->model_golden);
    golden_close(&c->golden);
}

float *conditioned_case_gradient(struct conditioned_case *c, const float *preference, double *losses) {
    const int32_t n = (int32_t)c->data.n_pairs, each = n / CONDITIONED_OBJECTIVES;
    struct loss_value values[32];
    double weights[CONDITIONED_OBJECTIVES];
    struct pack pack;
    struct genarm_error err = {0};
    float *gradient = calloc(c->adapter.n, sizeof *gradient);
    for (int o = 0; o < CONDITIONED_OBJECTIVES; o++) {
        weights[o] = (double)preference[o];
        losses[o] = 0;
    }
    trainable_zero_gradient(&c->adapter);
    trainable_set_preference(&c->adapter, preference);
    must(pack_init(&pack, &c->data, c->all, n, PACK_BOTH, &err), &err);
    const struct backprop_job job = {.gradient = true, .weight = 1.0 / each, .objective_weights = weights};
    must(backprop_run(c->backprop, &pack, &job, values, &err), &err);
    pack_deinit(&pack);
    trainable_get_gradient(&c->adapter, gradient);
    for (int32_t i = 0; i < n; i++) {
        losses[c->data.pairs[i].objective] += values[i].loss / each;
    }
    return gradient;
}

void conditioned_case_save(const struct conditioned_case *c, const char *path) {
    struct objectives objectives = {0};
    struct genarm_error err = {0};
    static const char *const names[] = {"a", "b", "c"};
    for (int o = 0; o < CONDITIONED_OBJECTIVES; o++) {
        must(objectives_add(&objectives, names[o], &err), &err);
    }
    must(conditioned_save(path, &c->model->hp, &c->adapter, &objectives, &(struct adapter_info){0}, &err), &err);
    objectives_deinit(&objectives);
}
