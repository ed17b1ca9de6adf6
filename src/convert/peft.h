/* PEFT adapters: a folder with adapter_config.json and adapter_model.safetensors.
 *
 * In the llama architecture GGUF keeps the rows of q and k in another order than PyTorch: rope rotates neighbouring rows
 * there and halves of a head here. The rows of their B change places with the rows of W. */
#ifndef CONVERT_PEFT_H
#define CONVERT_PEFT_H

#include <jansson.h>

#include "genarm/convert.h"
#include "model/weights.h"

#define PEFT_CONFIG "adapter_config.json"
#define PEFT_TENSORS "adapter_model.safetensors"
#define PEFT_METADATA "gguf" /* member of the safetensors' __metadata__: metadata_to_json of the GGUF it came from */
#define PEFT_BASE_KEY "genarm.peft.base_model" /* GGUF key: base_model_name_or_path of the PEFT adapter it came from */
#define PEFT_HEAD_MODULE "score" /* the head of Hugging Face's ...ForSequenceClassification of decoders */
#define PEFT_HEAD "base_model.model." PEFT_HEAD_MODULE ".weight" /* [1, n_embd]: genarm.head */

enum { PEFT_NAME_MAX = 128 };

/* ---- names and order of rows (peft_layout.c) ---- */

/* A LoRA matrix of one map. */
struct peft_place {
    int32_t layer;
    enum linear linear;
    bool is_b;
};

/* "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight" and back. The second "model." may be missing when
 * reading, as in adapters of a model without its head. `module` (PEFT_NAME_MAX bytes, may be NULL) gets the module's path
 * in the base model, by which adapter_config.json names it. False: not of this form. */
bool peft_parse_name(struct peft_place *p, char *module, const char *name);
void peft_tensor_name(char *name, const struct peft_place *p); /* PEFT_NAME_MAX bytes */

/* Name of the module within its layer, e.g. "self_attn.q_proj", and alone, "q_proj". */
const char *peft_module_path(enum linear l);
const char *peft_module_name(enum linear l);

/* Heads whose rows GGUF keeps in another order; 0: the order is the same. */
int32_t peft_permuted_heads(const struct hparams *hp, enum linear l);

/* Copies rows of `width` numbers from PyTorch's order to GGUF's, or back. n_rows is a multiple of 2 n_heads. */
void peft_rows_to_gguf(float *to, const float *from, int64_t n_rows, int64_t width, int32_t n_heads);
void peft_rows_from_gguf(float *to, const float *from, int64_t n_rows, int64_t width, int32_t n_heads);

/* ---- adapter_config.json (peft_config.c) ---- */

struct peft_config {
    json_t *root;
    const char *where; /* borrowed: path for errors */
    const char *base_model; /* NULL: not said */
    long long rank;
    double alpha;
    bool rslora; /* the scale is alpha / sqrt(rank) */
    bool classifies; /* task_type SEQ_CLS: a reward model, which has a head */
    const json_t *targets, *ranks, *alphas; /* list; objects from module patterns; NULL when they say nothing */
};

/* Reads and checks the options: what changes the computation in a way that a LoRA file cannot say is refused with
 * GENARM_EUNSUPPORTED. */
int peft_config_read(struct peft_config *c, const char *path, struct genarm_error *err);
void peft_config_deinit(struct peft_config *c);

/* Rank and alpha of one module, by its path; errors when PEFT would not adapt it. */
int peft_config_module(const struct peft_config *c, const char *module, long long *rank, double *alpha,
                       struct genarm_error *err);

#endif
