/* Hyper-parameters of a model, read from GGUF metadata and checked once, when a model is opened. */
#ifndef MODEL_HPARAMS_H
#define MODEL_HPARAMS_H

#include <gguf.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Families the row engine knows. Mistral files say "llama". ARCH_COUNT stands for all others, which libllama runs. */
enum arch { ARCH_LLAMA, ARCH_QWEN2, ARCH_QWEN3, ARCH_COUNT };

/* Name in GGUF's general.architecture; NULL for an unknown value. */
const char *arch_name(enum arch arch);

struct hparams {
    enum arch arch;
    int32_t n_vocab;
    int32_t n_ctx_train; /* context length in training, tokens */
    int32_t n_embd;
    int32_t n_layer;
    int32_t n_head;      /* query heads */
    int32_t n_head_kv;   /* key/value heads, divides n_head */
    int32_t n_embd_head; /* size of one head, keys and values alike */
    int32_t n_ff;
    float norm_eps; /* of RMS norm */

    /* Rotary positions, as arguments of ggml_rope_ext; yarn and linear scaling resolved as libllama does it. */
    int32_t n_rot;
    int32_t rope_mode; /* GGML_ROPE_TYPE_NORMAL or GGML_ROPE_TYPE_NEOX */
    int32_t n_ctx_orig;
    float rope_freq_base, rope_freq_scale;
    float rope_ext_factor, rope_attn_factor, rope_beta_fast, rope_beta_slow;
};

/* Fills *hp from metadata that gguf_check passed. Unknown architectures, missing keys, expert models, absurd or
 * inconsistent sizes are errors that name the key. n_vocab is taken from the token embedding's shape by the caller's
 * file: metadata alone can be padded. */
int hparams_read(struct hparams *hp, const struct gguf_context *gguf, struct genarm_error *err);

/* The same as far as any architecture has it, for a model that libllama is going to load: its sizes in range, and 0 what the
 * metadata does not say in one number. What libllama would not continue text with is GENARM_EUNSUPPORTED. */
int hparams_read_any(struct hparams *hp, const struct gguf_context *gguf, struct genarm_error *err);

/* What libllama asserts of every architecture's metadata beside sizes, and so would end the process for. */
int hparams_check_any(const struct gguf_context *gguf, struct genarm_error *err);

static inline int32_t hparams_n_embd_q(const struct hparams *hp) { return hp->n_embd_head * hp->n_head; }
static inline int32_t hparams_n_embd_kv(const struct hparams *hp) { return hp->n_embd_head * hp->n_head_kv; }

#endif
