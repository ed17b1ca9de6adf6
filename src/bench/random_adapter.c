#include "bench/random_adapter.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"

static void fill(struct ggml_tensor *t, struct rng *r, double size) {
    float *data = ggml_get_data_f32(t);
    for (int64_t i = 0; i < ggml_nelements(t); i++) {
        data[i] = (float)(size * rng_normal(r));
    }
}

static int save(const char *path, const struct genarm_model *model, struct lora (*layers)[LINEAR_COUNT], float alpha,
                struct genarm_error *err) {
    const struct hparams *hp = &model->hp;
    struct gguf_context *metadata = gguf_init_empty();
    if (!metadata) {
        return error_nomem(err, "a random adapter");
    }
    adapter_metadata(metadata, hp->arch == ARCH_COUNT ? ARCH_LLAMA : hp->arch, alpha, NULL);
    gguf_set_val_str(metadata, "general.architecture", model->architecture); /* also one that we do not train */
    const int rc = adapter_write(path, hp->n_layer, layers, metadata, err);
    gguf_free(metadata);
    return rc;
}

int random_adapter_write(const char *path, const struct genarm_model *model, int32_t rank, unsigned targets, float size_b,
                         uint64_t seed, struct genarm_error *err) {
    const struct hparams *hp = &model->hp;
    struct lora(*layers)[LINEAR_COUNT] = calloc((size_t)hp->n_layer, sizeof *layers);
    struct rng r;
    rng_seed(&r, seed);
    size_t size = 0;
    for (int t = 0; t < LINEAR_COUNT; t++) {
        const size_t n = (size_t)linear_n_in((enum linear)t, hp) + (size_t)linear_n_out((enum linear)t, hp);
        size += (size_t)hp->n_layer * (n * (size_t)rank * sizeof(float) + 2 * (ggml_tensor_overhead() + 64));
    }
    void *memory = malloc(size); /* ggml aborts where it does not get its own */
    struct ggml_context *ctx = memory ? ggml_init((struct ggml_init_params){.mem_size = size, .mem_buffer = memory}) : NULL;
    if (!layers || !ctx) {
        ggml_free(ctx);
        free(memory);
        free(layers);
        return error_nomem(err, "a random adapter");
    }
    for (int32_t l = 0; l < hp->n_layer; l++) {
        for (int t = 0; t < LINEAR_COUNT; t++) {
            if (targets & 1u << t) {
                const int32_t n_in = linear_n_in((enum linear)t, hp), n_out = linear_n_out((enum linear)t, hp);
                struct lora *x = &layers[l][t];
                *x = (struct lora){.a = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, n_in, rank),
                                   .b = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, rank, n_out),
                                   .scale = 2.0f};
                fill(x->a, &r, 1.0 / sqrt((double)n_in));
                fill(x->b, &r, (double)size_b);
            }
        }
    }
    const int rc = save(path, model, layers, 2.0f * (float)rank, err);
    ggml_free(ctx);
    free(memory);
    free(layers);
    return rc;
}
