/* LoRA adapters: y = W x + (alpha / rank) B A x, in llama.cpp's GGUF format plus genarm.* metadata. */
#ifndef MODEL_ADAPTER_H
#define MODEL_ADAPTER_H

#include "genarm/model.h"
#include "model/objectives.h"
#include "model/weights.h"

struct lora {
    struct ggml_tensor *a; /* [n_in, rank] f32, NULL when this map is not adapted */
    struct ggml_tensor *b; /* [rank, n_out] f32 */
    float scale;           /* alpha / rank, rank being a->ne[1]; 1 when the file gives no alpha, as in llama.cpp */
};

/* What genarm writes beside the tensors. Strings and the head are owned, NULL when unknown. */
struct adapter_info {
    char *loss;      /* genarm.loss: "arm", "dpo", … */
    float beta;      /* genarm.beta; 0 when unknown */
    char *template_; /* genarm.template: chat template it was trained under, as --chat-template takes it */
    char *base_hash; /* genarm.base: fingerprint of the base model (model_fingerprint) */
    char *data_hash; /* genarm.data: hash of the training pairs */
    float *head;     /* genarm.head: [n_head] scalar head of a trajectory-level reward model, on the hidden state after the
                        last norm. Metadata, because libllama refuses tensors that it does not know in an adapter */
    size_t n_head;   /* n_embd of the model; 0 without a head */
    struct objectives objectives; /* of a conditioned adapter; its A and B are those of the even preference */
};

struct genarm_adapter {
    const struct genarm_model *model; /* borrowed; NULL when it was loaded alone */
    enum arch arch;
    int32_t n_layer; /* of the model; loaded alone: up to the last layer that is adapted */
    char *path;
    float alpha;
    struct lora (*layers)[LINEAR_COUNT]; /* [n_layer]; NULL: libllama reads the file */
    uint64_t hash; /* without layers, of all that the file adapts: names, numbers, alpha */
    struct adapter_info info;
    char targets[40]; /* names of the maps adapted in any layer: "q,k,v" */
    int32_t rank;     /* the largest */
    int64_t n_params;
    struct ggml_context *ctx;
    ggml_backend_buffer_t buffer;
};

/* genarm_adapter_load (genarm/model.h) reads: checks architecture, every tensor name and shape against the model,
 * finite values, and the fingerprint (a different fingerprint with fitting shapes is an error naming both,
 * because an adapter of another model gives garbage silently; genarm's own files only). F32, F16, BF16 and Q8_0 tensors
 * become F32; vectors of norms are left out, with a warning, as libllama leaves them out. */

/* The same without a model: for what needs an adapter's numbers only. Shapes and fingerprint are checked against
 * nothing, and the numbers are in the CPU's memory. */
int adapter_load_alone(struct genarm_adapter **out, const char *path, struct genarm_error *err);

/* Metadata of an adapter as genarm writes it: what llama.cpp needs, then what is known of `info` (NULL: nothing). Alpha 0
 * is not written: the scale is 1 then. */
void adapter_metadata(struct gguf_context *g, enum arch arch, float alpha, const struct adapter_info *info);

/* Writes an adapter atomically, readable by llama.cpp, with the given metadata. a and b of `layers` are read through the
 * backend, or from memory when they have no buffer. GENARM_EDIVERGED when a value, also of a head, is not finite: nothing is
 * written. */
int adapter_write(const char *path, int32_t n_layer, struct lora (*layers)[LINEAR_COUNT],
                  const struct gguf_context *metadata, struct genarm_error *err);

/* The same with the metadata of adapter_metadata. info, and pointers in it, may be NULL. */
int adapter_save(const char *path, const struct hparams *hp, struct lora (*layers)[LINEAR_COUNT], float alpha,
                 const struct adapter_info *info, struct genarm_error *err);

/* Makes a conditioned adapter the plain one that it is at a preference: n weights of its objectives as objectives_prefer takes
 * them, NULL: the even one. A plain adapter stays as it is, without weights. No engine may have it yet. */
int adapter_fix_preference(struct genarm_adapter *adapter, const float *weights, size_t n, struct genarm_error *err);

/* What the tensors of an adapter's file adapt, each once: "q,k,v", maps that our own graph does not have as they are called,
 * "attn_qkv". What does not fit into `size` bytes is not told. */
void adapter_name_targets(char *list, size_t size, const struct ggml_context *tensors);

/* Whether a tensor of an adapter's file is part of what is read: false, with a warning, for a vector of a norm. */
bool adapter_reads(const struct genarm_adapter *ad, const struct ggml_tensor *t);
int adapter_check_type(const struct ggml_tensor *t, struct genarm_error *err);

/* Checks the tensors of an adapter's file against those of a model that libllama runs, and fills in rank, n_params and hash. */
int adapter_check_foreign(struct genarm_adapter *ad, const struct gguf_file *file, struct genarm_error *err);

void adapter_info_deinit(struct adapter_info *info);

#endif
