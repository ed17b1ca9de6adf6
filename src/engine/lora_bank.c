#include "engine/lora_bank.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"

static int32_t adapter_rank(const struct genarm_adapter *ad, int32_t n_layer) {
    int64_t rank = 1;
    for (int32_t l = 0; l < n_layer; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            if (ad->layers[l][t].a && ad->layers[l][t].a->ne[1] > rank) {
                rank = ad->layers[l][t].a->ne[1];
            }
        }
    }
    return (int32_t)rank;
}

/* All rows of a graph meet all adapters, those of others times 0, which is no number where these overflow. So a scaled B is to
 * be finite, and an A so small that A x is. */
static const float largest_a = 1e18f;

static int check_part(const struct ggml_tensor *t, float scale, float largest, struct genarm_error *err) {
    const size_t n = (size_t)ggml_nelements(t);
    float *values = malloc(n * sizeof *values);
    if (!values) {
        return error_nomem(err, "an adapter");
    }
    ggml_backend_tensor_get(t, values, 0, n * sizeof *values);
    size_t n_fine = 0; /* a number that is none is not fine */
    for (size_t i = 0; i < n; i++) {
        n_fine += fabsf(scale * values[i]) <= largest;
    }
    free(values);
    if (n_fine == n) {
        return GENARM_OK;
    }
    const int rc = error_set(err, GENARM_EFORMAT, "numbers of tensor %s, times alpha / rank, are too large to compute with",
                             ggml_get_name(t));
    return error_hint(err, rc, "the adapter is damaged, or its alpha is too large");
}

static int check_adapter(const struct genarm_adapter *adapter, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (int32_t l = 0; l < adapter->model->hp.n_layer; l++) {
        for (int t = 0; t < LINEAR_COUNT && rc == GENARM_OK; t++) {
            const struct lora *lora = &adapter->layers[l][t];
            rc = lora->a ? check_part(lora->a, 1.0f, largest_a, err) : GENARM_OK;
            rc = lora->a && rc == GENARM_OK ? check_part(lora->b, lora->scale, FLT_MAX, err) : rc;
        }
    }
    return rc;
}

/* What a stack is made of, on the host. */
struct stack_values {
    float *a, *b, *b_slots;
};

/* Rank slots [slot, slot + rank) of a stack take the adapter's A as columns and scale * B as parts of rows. */
static int copy_lora(const struct lora_stack *stack, const struct lora *l, int32_t slot, const struct stack_values *to,
                     struct genarm_error *err) {
    const size_t n_in = (size_t)stack->a->ne[0], n_out = (size_t)stack->b->ne[1];
    const size_t total = (size_t)stack->b->ne[0], rank = (size_t)l->a->ne[1];
    float *own = malloc(rank * n_out * sizeof *own);
    if (!own) {
        return error_nomem(err, "an adapter");
    }
    ggml_backend_tensor_get(l->a, to->a + (size_t)slot * n_in, 0, rank * n_in * sizeof *to->a);
    ggml_backend_tensor_get(l->b, own, 0, rank * n_out * sizeof *own);
    for (size_t j = 0; j < n_out; j++) {
        for (size_t r = 0; r < rank; r++) {
            const float scaled = l->scale * own[j * rank + r];
            to->b[j * total + (size_t)slot + r] = scaled;
            to->b_slots[((size_t)slot + r) * n_out + j] = scaled;
        }
    }
    free(own);
    return GENARM_OK;
}

static int fill_stack(struct lora_bank *bank, int32_t layer, int t, struct genarm_error *err) {
    const struct lora_stack *stack = &bank->layers[layer][t];
    if (!stack->a) {
        return GENARM_OK;
    }
    int rc = GENARM_OK;
    struct stack_values values = {calloc(1, ggml_nbytes(stack->a)), calloc(1, ggml_nbytes(stack->b)),
                                  calloc(1, ggml_nbytes(stack->b_slots))};
    if (!values.a || !values.b || !values.b_slots) {
        rc = error_nomem(err, "an adapter");
        goto done;
    }
    for (int32_t i = 0; i < bank->n_adapters && rc == GENARM_OK; i++) {
        const struct lora *l = &bank->adapters[i]->layers[layer][t];
        if (l->a) {
            rc = copy_lora(stack, l, bank->first_rank[i], &values, err);
        }
    }
    if (rc == GENARM_OK) {
        ggml_backend_tensor_set(stack->a, values.a, 0, ggml_nbytes(stack->a));
        ggml_backend_tensor_set(stack->b, values.b, 0, ggml_nbytes(stack->b));
        ggml_backend_tensor_set(stack->b_slots, values.b_slots, 0, ggml_nbytes(stack->b_slots));
    }
done:
    free(values.a);
    free(values.b);
    free(values.b_slots);
    return rc;
}

static bool any_adapts(const struct lora_bank *bank, int32_t layer, int t) {
    for (int32_t i = 0; i < bank->n_adapters; i++) {
        if (bank->adapters[i]->layers[layer][t].a) {
            return true;
        }
    }
    return false;
}

static int build_stacks(struct lora_bank *bank, struct genarm_error *err) {
    const struct genarm_model *model = bank->adapters[0]->model;
    const struct hparams *hp = &model->hp;
    const int64_t rank = lora_bank_rank(bank);
    const size_t n_tensors = (size_t)hp->n_layer * LINEAR_COUNT * 3;
    bank->layers = calloc((size_t)hp->n_layer, sizeof *bank->layers);
    int rc = bank->layers ? layer_tensors_init(&bank->memory, &model->placement, n_tensors, err) : error_nomem(err, "adapters");
    if (rc != GENARM_OK) {
        return rc;
    }
    for (int32_t l = 0; l < hp->n_layer; l++) {
        struct ggml_context *ctx = layer_tensors_context(&bank->memory, l);
        for (int t = 0; t < LINEAR_COUNT; t++) {
            if (any_adapts(bank, l, t)) {
                struct lora_stack *s = &bank->layers[l][t];
                s->a = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, linear_n_in((enum linear)t, hp), rank);
                s->b = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, rank, linear_n_out((enum linear)t, hp));
                s->b_slots = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, linear_n_out((enum linear)t, hp), rank);
            }
        }
    }
    if (!layer_tensors_allocate(&bank->memory, GGML_BACKEND_BUFFER_USAGE_WEIGHTS)) {
        return error_nomem(err, "adapters in the backend");
    }
    return lora_bank_refresh(bank, err);
}

int lora_bank_refresh(struct lora_bank *bank, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (int32_t l = 0; bank->layers && l < bank->adapters[0]->model->hp.n_layer && rc == GENARM_OK; l++) {
        for (int t = 0; t < LINEAR_COUNT && rc == GENARM_OK; t++) {
            rc = fill_stack(bank, l, t, err);
        }
    }
    return rc;
}

int lora_bank_add(struct lora_bank *bank, const struct genarm_adapter *adapter, struct genarm_error *err) {
    if (bank->n_adapters == LORA_BANK_MAX_ADAPTERS) {
        return error_set(err, GENARM_EINVAL, "more than %d adapters on one model", LORA_BANK_MAX_ADAPTERS);
    }
    int rc = check_adapter(adapter, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    struct lora_bank next = *bank;
    const int32_t i = next.n_adapters++;
    next.adapters[i] = adapter;
    next.first_rank[i + 1] = next.first_rank[i] + adapter_rank(adapter, adapter->model->hp.n_layer);
    next.memory = (struct layer_tensors){0};
    next.layers = NULL;
    rc = build_stacks(&next, err);
    if (rc != GENARM_OK) {
        lora_bank_deinit(&next);
        return rc;
    }
    lora_bank_deinit(bank);
    *bank = next;
    return i;
}

void lora_bank_deinit(struct lora_bank *bank) {
    free(bank->layers);
    layer_tensors_deinit(&bank->memory);
    *bank = (struct lora_bank){0};
}

void lora_bank_weigh(const struct lora_bank *bank, int32_t adapter, const float *factors, float *slots) {
    const struct objectives *o = &bank->adapters[adapter]->info.objectives;
    if (factors && o->n > 0) {
        objectives_weigh(o, factors, bank->first_rank[adapter + 1] - bank->first_rank[adapter], slots, 1);
    }
}

void lora_bank_mask(const struct lora_bank *bank, int32_t adapter, const float *factors, float *out) {
    memset(out, 0, (size_t)lora_bank_rank(bank) * sizeof *out);
    for (int32_t r = adapter < 0 ? 0 : bank->first_rank[adapter]; adapter >= 0 && r < bank->first_rank[adapter + 1]; r++) {
        out[r] = 1.0f;
    }
    if (adapter >= 0) {
        lora_bank_weigh(bank, adapter, factors, out + bank->first_rank[adapter]);
    }
}
