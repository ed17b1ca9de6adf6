/* Adapters between formats, and merged: into a model's weights, or with one another.
 *
 *     genarm_adapter_from_peft(model, "peft-folder", "arm.gguf", &err);
 *     struct genarm_merge_part parts[] = {{.path = "helpful.gguf", .weight = 0.3}, {.path = "kind.gguf", .weight = 0.7}};
 *     genarm_merge_adapters(parts, 2, GENARM_MERGE_STACK, "soup.gguf", &err);
 *
 * Files are written atomically. All functions are thread-safe.
 */
#ifndef GENARM_CONVERT_H
#define GENARM_CONVERT_H

#include "genarm/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Hugging Face PEFT ---- */

/* A GGUF adapter of `model` becomes a PEFT adapter: `folder` (created) gets adapter_config.json and
 * adapter_model.safetensors (F32). `base_model` becomes base_model_name_or_path; NULL: what an earlier PEFT adapter said,
 * else null. The head of a reward model becomes that of a sequence classifier, score.weight. The GGUF's metadata is kept, so
 * that the way back gives the same file. Errors as of genarm_adapter_load. */
int genarm_adapter_to_peft(const struct genarm_model *model, const char *adapter, const char *folder,
                           const char *base_model, struct genarm_error *err);

/* A PEFT adapter (F32, F16 or BF16) of the model that `model` was converted from becomes a GGUF adapter (F32). What LoRA in
 * GGUF cannot say (DoRA, biases, modules_to_save, …) is GENARM_EUNSUPPORTED, but for the head of a reward model (task type
 * SEQ_CLS, one label: score.weight), which becomes the adapter's; shapes that do not fit the model are GENARM_EMISMATCH; both
 * name the option or tensor. A scale per module (alpha_pattern) is multiplied into B. */
int genarm_adapter_from_peft(const struct genarm_model *model, const char *folder, const char *output,
                             struct genarm_error *err);

/* ---- merging ---- */

struct genarm_merge_part {
    const char *path; /* GGUF adapter */
    double weight;    /* times its own alpha / rank; finite, may be negative */
    const float *preference; /* [n_preference] of an adapter with objectives, as genarm_session_set_preference takes it; */
    size_t n_preference;     /* NULL: the even one. What comes of the merge has no objectives */
};

struct genarm_merge_params {
    /* Type of the weights that are changed: a ggml type such as "F16" or "Q8_0" (case does not matter); "keep": the one
     * they have; NULL: F16 where it is quantised, else the one they have. All others are copied to the byte. */
    const char *type;
    int n_threads; /* 0: one for each core */
    /* Layers of the model to leave out, from 0, in any order; NULL: none. Those that stay keep their order and are numbered
     * anew, and so are counts of layers and arrays with a value for each in the metadata; genarm.pruned says what was left
     * out. With this there may be no parts; with n_prune = 0 as well, the result is a copy. */
    const int32_t *prune;
    size_t n_prune;
    /* After each piece of work, may be NULL; `done` of `total` weights that change, which may be none. Non-zero stops with
     * GENARM_ECANCELED. */
    int (*each)(int64_t done, int64_t total, void *user);
    void *user;
};

/* Writes the model with W + sum_i weight_i alpha_i / rank_i B_i A_i in the place of each adapted W, computed in f32. All
 * metadata is copied; genarm.merged says what was added, and general.file_type follows the type that most weights have.
 * Adapters are for the model as it is; what they change in layers that are left out is left out with them.
 * A reward model with a head is GENARM_EUNSUPPORTED: a model has no place for it. A layer to leave out that the model does
 * not have, or all of them, is GENARM_EINVAL.
 * `params` may be NULL. */
int genarm_merge_into_model(const struct genarm_model *model, const struct genarm_merge_part *parts, size_t n_parts,
                            const struct genarm_merge_params *params, const char *output, struct genarm_error *err);

/* How adapters become one (Rewarded Soups, Ramé et al., NeurIPS 2023, interpolate weights). */
enum genarm_merge_how {
    GENARM_MERGE_STACK,   /* the weighted sum of the changes B A, as it is: ranks add up */
    GENARM_MERGE_AVERAGE, /* A and B averaged apart, as published: equal ranks, scales and targets are needed */
};

/* Needs no model. Heads of reward models (genarm/reward.h) are summed with the same weights.
 * Adapters for different bases are GENARM_EMISMATCH, naming a tensor or the fingerprints. */
int genarm_merge_adapters(const struct genarm_merge_part *parts, size_t n_parts, enum genarm_merge_how how,
                          const char *output, struct genarm_error *err);

#ifdef __cplusplus
}
#endif
#endif
