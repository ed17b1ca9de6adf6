#include "model/draft.h"

#include <stdlib.h>

#include "base/error.h"

int draft_init(struct adapter_draft *draft, int32_t n_layer, struct genarm_error *err) {
    const size_t n = 2 * LINEAR_COUNT * ((size_t)n_layer + 1);
    draft->n_layer = n_layer;
    draft->layers = calloc((size_t)n_layer + 1, sizeof *draft->layers);
    draft->ctx = ggml_init((struct ggml_init_params){.mem_size = n * ggml_tensor_overhead(), .no_alloc = true});
    return draft->layers && draft->ctx ? GENARM_OK : error_nomem(err, "an adapter");
}

static struct ggml_tensor *zeros(struct adapter_draft *draft, int64_t n0, int64_t n1) {
    void *numbers = calloc((size_t)(n0 * n1), sizeof(float));
    struct ggml_tensor *t = numbers ? ggml_new_tensor_2d(draft->ctx, GGML_TYPE_F32, n0, n1) : NULL;
    if (t) {
        t->data = numbers;
    }
    return t;
}

int draft_map(struct adapter_draft *draft, int32_t layer, int linear, const int64_t shape[3], float scale,
              struct genarm_error *err) {
    struct lora *x = &draft->layers[layer][linear];
    *x = (struct lora){.a = zeros(draft, shape[0], shape[1]), .b = zeros(draft, shape[1], shape[2]), .scale = scale};
    return x->a && x->b ? GENARM_OK : error_nomem(err, "an adapter");
}

void draft_deinit(struct adapter_draft *draft) {
    for (int32_t l = 0; draft->layers && l < draft->n_layer; l++) {
        for (int i = 0; i < LINEAR_COUNT; i++) {
            free(draft->layers[l][i].a ? draft->layers[l][i].a->data : NULL);
            free(draft->layers[l][i].b ? draft->layers[l][i].b->data : NULL);
        }
    }
    ggml_free(draft->ctx);
    free(draft->layers);
}
