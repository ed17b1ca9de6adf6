/* Models, adapters, vocabulary and prompt templates.
 *
 * A model is loaded weights with their vocabulary; an adapter is LoRA on one model. Both are immutable once loaded:
 * any number of guides, sessions and threads may share them. Free what was loaded last first.
 */
#ifndef GENARM_MODEL_H
#define GENARM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "genarm/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct genarm_model;
struct genarm_adapter;

/* What runs a model. Our own graph runs all policies that share a model in one pass, and is what trains. libllama runs whatever
 * it knows: a pass for each adapter. */
enum genarm_engine {
    GENARM_ENGINE_AUTO,   /* our graph where it knows the model's architecture and types of weights, else libllama */
    GENARM_ENGINE_GENARM, /* our graph, or an error */
    GENARM_ENGINE_LLAMA,
};

/* Where the weights of a model lie that the CPU reads. In the file's map they are shared with other processes and read when they
 * are first needed; copied into memory, where the system gives huge pages, decoding is faster. */
enum genarm_load_mode {
    GENARM_LOAD_AUTO, /* copied if there is memory for twice the file, else mapped; by libllama, mapped */
    GENARM_LOAD_MMAP, /* mapped */
    GENARM_LOAD_NONE, /* copied; llama.cpp's word for it */
};

/* How keys and values are cached. */
enum genarm_kv_type {
    GENARM_KV_F16,
    GENARM_KV_F32,  /* twice the memory of f16, no rounding */
    GENARM_KV_Q8_0, /* about half of it: 34 bytes for 32 numbers; heads must be a multiple of those */
};

/* A model can lie on several devices: its last layers in whole blocks, one block for each device; embeddings and layers that
 * are not offloaded stay on the CPU. Strings are only read while loading. */
struct genarm_model_params {
    const char *device; /* ggml devices, "NAME,NAME", in the order in which they get layers; "CPU" or "none": none.
                         * NULL: those of `rpc`, then all GPUs */
    int n_gpu_layers;   /* layers on devices, counted from the last; the head counts as one more. -1, the default: all when
                         * device or rpc is given, else 0 */
    const char *tensor_split; /* "3,1": shares of the devices, one number for each; NULL: by their free memory */
    const char *rpc; /* servers of ggml's RPC, "HOST:PORT,HOST:PORT"; their devices are called RPC0, RPC1, ... A server that
                      * cannot be reached, or speaks another version, is an error; when a connection breaks later, ggml
                      * aborts the process */
    enum genarm_engine engine;
    enum genarm_load_mode load_mode;
};
struct genarm_model_params genarm_model_default_params(void);

/* Opens a GGUF model. `params` may be NULL. The file stays mapped: do not change it while the model is in use.
 * Errors: GENARM_EIO, GENARM_EFORMAT (damaged), GENARM_EUNSUPPORTED (what neither our graph nor libllama can run),
 * GENARM_EINVAL (no such device), GENARM_ENOMEM, GENARM_EBACKEND, and of RPC servers GENARM_EIO and GENARM_EMISMATCH (version).
 * *out is owned by the caller: genarm_model_free. Thread-safe. */
int genarm_model_load(struct genarm_model **out, const char *path, const struct genarm_model_params *params,
                      struct genarm_error *err);
void genarm_model_free(struct genarm_model *model); /* NULL is fine */

/* Opens a LoRA adapter (llama.cpp's GGUF format) for a model, which must outlive it. Errors as above, and
 * GENARM_EMISMATCH when it was made for another model. */
int genarm_adapter_load(struct genarm_adapter **out, const struct genarm_model *model, const char *path,
                        struct genarm_error *err);
void genarm_adapter_free(struct genarm_adapter *adapter); /* NULL is fine */

/* Facts, for display. Strings live as long as the model. */
struct genarm_model_info {
    const char *path, *name, *architecture, *file_type; /* name "" when the file has none; file_type e.g. "Q4_1" */
    int n_vocab, n_ctx_train, n_embd, n_layer, n_head, n_head_kv, n_ff;
    int64_t n_params;
    size_t size;                /* bytes of all tensors */
    const char *fingerprint;    /* 16 hex digits; equal for files with the same architecture, shapes and vocabulary */
    const char *chat_template;  /* Jinja text in the file, or NULL */
    enum genarm_engine engine;  /* what runs it; not AUTO */
};
void genarm_model_get_info(const struct genarm_model *model, struct genarm_model_info *info);

/* What of a model lies where. Strings live as long as the process. */
struct genarm_model_part {
    const char *device, *description; /* "RPC0", "192.168.1.20:50052" */
    int first_layer, n_layers;        /* n_layers may be 0 */
    bool embeddings, head;            /* a tied head beside its embeddings is no second copy */
    size_t size;                      /* bytes of weights */
};
/* Stores up to `max` parts, in the order of layers, the CPU first; returns how many there are, at least 1. */
int genarm_model_get_parts(const struct genarm_model *model, struct genarm_model_part *parts, int max);

struct genarm_adapter_info {
    const char *path, *targets; /* targets: "q,k,v" */
    int rank;                   /* the largest */
    float alpha;
    const char *loss, *template_name, *base_fingerprint, *data_hash; /* NULL when unknown */
    float beta;                                                      /* 0 when unknown */
    int64_t n_params;
    bool has_head; /* a trajectory-level reward model: genarm/reward.h */
    const char *const *objectives; /* [n_objectives] names of what a preference weighs: genarm_session_set_preference */
    int n_objectives;              /* 0: none */
};
void genarm_adapter_get_info(const struct genarm_adapter *adapter, struct genarm_adapter_info *info);

/* ---- vocabulary ---- */

/* Text to tokens. `special`: spellings of control tokens in the text become those tokens (never for untrusted text).
 * `bos`: prepend BOS if the model wants one. Returns the number of tokens and stores up to `max` of them, or the
 * negative of the number needed when `max` is too small. INT32_MIN: the text cannot be tokenized (more than 2 GiB, or a
 * vocabulary without byte tokens). `tokens` may be NULL when `max` is 0. Thread-safe. */
int32_t genarm_tokenize(const struct genarm_model *model, const char *text, size_t n_text, bool bos, bool special,
                        int32_t *tokens, int32_t max);

/* Bytes of one token, not NUL-terminated (a token may be part of a UTF-8 character). Control tokens give "" unless
 * `special`, and so do ids outside the vocabulary. Returns the length, or the negative of the length needed. */
int32_t genarm_token_bytes(const struct genarm_model *model, int32_t token, bool special, char *bytes, int32_t max);

bool genarm_token_ends(const struct genarm_model *model, int32_t token); /* EOS, EOT and their like */
int32_t genarm_token_eos(const struct genarm_model *model);              /* what ends a turn; -1 if the model has none */

/* ---- prompt templates ---- */

struct genarm_message {
    const char *role, *content; /* "system", "user", "assistant" */
};

/* How a conversation becomes the text that a policy continues. `name` is
 *   NULL or ""      the model's own template, or, if it has none, "raw:{prompt}". It is recognised as one of libllama's and
 *                   written as that: what else it has, such as a system message where none is given (SmolLM2, Qwen2.5), is
 *                   not added. Who wants that gives it as a message;
 *   a name          of libllama's list ("chatml", "llama3", "zephyr", …);
 *   "raw:TEXT"      TEXT with {system} and {prompt} replaced; \n, \t and \\ are understood. Earlier turns of a
 *                   conversation are repeated in the same form, {system} being empty after the first; a system message
 *                   is left out when TEXT has no {system}. Spaces at its end are for the assistant's turns, which most
 *                   vocabularies want to see with the space before a word: they come before those that do not begin with
 *                   white space, also where such a turn is scored or trained on, and a prompt to be continued ends before
 *                   them. genarm generate, chat and serve take them off what is generated.
 * *out (malloc'ed, NUL-terminated) ends where the assistant's answer begins. An unknown name is GENARM_EINVAL and the
 * error lists the known ones. */
int genarm_template_apply(char **out, const struct genarm_model *model, const char *name,
                          const struct genarm_message *messages, size_t n_messages, struct genarm_error *err);

#ifdef __cplusplus
}
#endif
#endif
