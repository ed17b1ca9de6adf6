/* The weights of a model as ggml tensors in backend buffers, and where they are.
 *
 * Shapes are in ggml order: ne[0] is contiguous. A linear layer's weight is [n_in, n_out].
 */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include <ggml-backend.h>
#include <ggml.h>

#include "genarm/model.h"
#include "model/gguf_check.h"
#include "model/hparams.h"
#include "model/placement.h"

/* The seven linear maps of a layer: what LoRA can adapt. Order is fixed: it is used in files and masks. */
enum linear { LINEAR_Q, LINEAR_K, LINEAR_V, LINEAR_O, LINEAR_GATE, LINEAR_UP, LINEAR_DOWN, LINEAR_COUNT };

const char *linear_name(enum linear l);        /* "q" .. "down": option spelling */
const char *linear_tensor_name(enum linear l); /* "attn_q" .. "ffn_down": in blk.N.<name>.weight */
/* Takes "blk.3.attn_q.weight" apart; what follows "weight" is *rest, "" when that is NULL. False: not of this form. */
bool linear_parse_name(int32_t *layer, enum linear *l, const char **rest, const char *name);
int32_t linear_n_in(enum linear l, const struct hparams *hp);
int32_t linear_n_out(enum linear l, const struct hparams *hp);

struct layer_weights {
    struct ggml_tensor *attn_norm;            /* [n_embd] f32 */
    struct ggml_tensor *linear[LINEAR_COUNT]; /* [n_in, n_out], any supported type */
    struct ggml_tensor *bias[LINEAR_COUNT];   /* [n_out] f32, or NULL */
    struct ggml_tensor *q_norm, *k_norm;      /* [n_embd_head] f32 (qwen3), or NULL */
    struct ggml_tensor *ffn_norm;             /* [n_embd] f32 */
};

struct weights {
    struct ggml_tensor *token_embd;  /* [n_embd, n_vocab] */
    struct ggml_tensor *output_norm; /* [n_embd] f32 */
    struct ggml_tensor *output;      /* [n_embd, n_vocab]; the token embedding itself when the head is tied */
    struct ggml_tensor *rope_freqs;  /* [n_rot/2] f32 divisors of the frequencies (llama 3), or NULL */
    struct layer_weights *layers;    /* [n_layer] */

    struct ggml_context *ctx;
    ggml_backend_buffer_t *buffers; /* [n_buffers] */
    int n_buffers;
    struct gguf_file file; /* open for as long as tensors point into its map */
};

/* Whether weights of a linear map can have this type. */
bool weights_type_supported(enum ggml_type type);

/* Loads the tensors that hp implies; those of the CPU stay in the file's map or are copied, as `mode` says. Every shape is checked
 * against hp, every type against the supported list; an error names the tensor. hp->n_vocab is set from the token embedding. Takes
 * over *file, also on failure. */
int weights_load(struct weights *w, struct hparams *hp, struct gguf_file *file, const struct placement *where,
                 enum genarm_load_mode mode, struct genarm_error *err);
void weights_deinit(struct weights *w);

/* Bytes of a unit of the placement, see placement.h; a head that is tied to embeddings beside it has those of its norm. */
size_t weights_unit_size(const struct weights *w, int32_t n_layer, int32_t unit);

/* Whether something holds for the head and for every linear map of all layers. */
bool weights_all_maps(const struct weights *w, int32_t n_layer, bool (*holds)(const struct ggml_tensor *map, const void *user),
                      const void *user);

#endif
