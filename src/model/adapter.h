/* LoRA adapters: y = W x + (alpha / rank) B A x, in llama.cpp's GGUF format plus genarm.* metadata. */
#ifndef MODEL_ADAPTER_H
#define MODEL_ADAPTER_H

#include "genarm/model.h"
#include "model/weights.h"

struct lora {
    struct ggml_tensor *a; /* [n_in, rank] f32, NULL when this map is not adapted */
    struct ggml_tensor *b; /* [rank, n_out] f32 */
    float scale;           /* alpha / rank, rank being a->ne[1]; 1 when the file gives no alpha, as in llama.cpp */
};

/* What genarm writes beside the tensors. Strings are owned, NULL when unknown. */
struct adapter_info {
    char *loss;      /* genarm.loss: "arm", "dpo", … */
    float beta;      /* genarm.beta; 0 when unknown */
    char *template_; /* genarm.template: chat template it was trained under, as --chat-template takes it */
    char *base_hash; /* genarm.base: fingerprint of the base model (model_fingerprint) */
    char *data_hash; /* genarm.data: hash of the training pairs */
};

struct genarm_adapter {
    const struct genarm_model *model; /* borrowed */
    char *path;
    float alpha;
    struct lora (*layers)[LINEAR_COUNT]; /* [n_layer] */
    struct adapter_info info;
    char targets[40]; /* names of the maps adapted in any layer: "q,k,v" */
    int32_t rank;     /* the largest */
    int64_t n_params;
    struct ggml_context *ctx;
    ggml_backend_buffer_t buffer;
};

/* genarm_adapter_load (genarm/model.h) reads: checks architecture, every tensor name and shape against the model,
 * finite values, and the fingerprint (a different fingerprint with fitting shapes is an error naming both,
 * because an adapter of another model gives garbage silently; genarm's own files only). F32, F16 and BF16 tensors
 * become F32. */

/* Writes an adapter atomically, readable by llama.cpp. a and b of `layers` are read through the backend, or from memory
 * when they have no buffer. info, and strings in it, may be NULL. GENARM_EDIVERGED when a value is not finite: nothing
 * is written. */
int adapter_save(const char *path, const struct hparams *hp, struct lora (*layers)[LINEAR_COUNT], float alpha,
                 const struct adapter_info *info, struct genarm_error *err);

void adapter_info_deinit(struct adapter_info *info);

#endif
