#include "bench/random_adapter.h"

#include <math.h>

#include "base/rng.h"
#include "model/draft.h"

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
    struct adapter_draft draft = {0};
    struct rng r;
    rng_seed(&r, seed);
    int rc = draft_init(&draft, hp->n_layer, err);
    for (int32_t l = 0; l < hp->n_layer; l++) {
        for (int t = 0; t < LINEAR_COUNT && rc == GENARM_OK; t++) {
            const int64_t shape[] = {linear_n_in((enum linear)t, hp), rank, linear_n_out((enum linear)t, hp)};
            rc = targets & 1u << t ? draft_map(&draft, l, t, shape, 2.0f, err) : GENARM_OK;
            if (rc == GENARM_OK && targets & 1u << t) {
                fill(draft.layers[l][t].a, &r, 1.0 / sqrt((double)shape[0]));
                fill(draft.layers[l][t].b, &r, (double)size_b);
            }
        }
    }
    rc = rc == GENARM_OK ? save(path, model, draft.layers, 2.0f * (float)rank, err) : rc;
    draft_deinit(&draft);
    return rc;
}
