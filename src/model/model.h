/* A model: hyper-parameters, weights and vocabulary, loaded together and immutable, but for `words`.
 *
 * Its weights are either ours, as tensors that our own graph reads, or libllama's: then `weights` holds nothing but the open
 * file, for its metadata and its tensors' names and shapes, and `hp` is filled as far as libllama tells.
 */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include <llama.h>

#include "genarm/model.h"
#include "model/controls.h"
#include "model/hparams.h"
#include "model/runtime.h"
#include "model/vocab.h"
#include "model/weights.h"
#include "model/words.h"

struct genarm_model {
    char *path;
    struct hparams hp;
    struct weights weights;
    struct placement placement;
    struct rpc_devices remote; /* held open for the placement */
    enum genarm_engine engine;       /* GENARM_ENGINE_GENARM: the weights are ours, GENARM_ENGINE_LLAMA: libllama's */
    struct genarm_error why_foreign; /* what our graph lacks; code 0: it has all, or was not asked */
    struct llama_model *llama;       /* whole, or, where the weights are ours, its vocabulary only */
    const struct llama_vocab *vocab; /* of llama */
    struct controls controls;        /* of vocab */
    struct words *words;             /* of vocab; NULL until model_words was asked for them */
    const char *architecture;        /* general.architecture, in the file's metadata */
    char fingerprint[17];
    uint64_t sample;     /* hash of some bytes of every tensor: other weights in the same shapes have another one */
    char name[128];
    char file_type[16];  /* e.g. "Q4_1": of most weights */
    char *chat_template; /* or NULL */
    int32_t turn_end;    /* token, -1: none */
    struct vocab_measure measure;
    int64_t n_params;
    size_t size; /* bytes of all tensors */
};

/* GENARM_EUNSUPPORTED, saying why, for a model that libllama runs. `what`: "training", what needs our own graph. */
int model_need_graph(const struct genarm_model *m, const char *what, struct genarm_error *err);

/* Two vocabularies must agree token for token; one may be longer by padding: tokens that the other does not have and
 * that no text becomes.
 * Otherwise GENARM_EMISMATCH naming the first token that differs in both spellings. *n_common: ids that both have. */
int model_vocab_compare(const struct genarm_model *a, const struct genarm_model *b, int32_t *n_common,
                        struct genarm_error *err);

/* Whether a template is a format, in which control tokens that a message spells are text. A raw one is the user's own text. */
bool template_is_format(const struct genarm_model *model, const char *name);

/* The messages in a template (as genarm_template_apply) and the model's vocabulary: *out is malloc'ed, *n its length, at
 * least 1. Control tokens that a message spells are text if the template is a format. */
int template_tokens(int32_t **out, int32_t *n, const struct genarm_model *model, const char *name,
                    const struct genarm_message *messages, size_t n_messages, struct genarm_error *err);

/* Spaces at the end of a raw template: they are no part of the prompt, but of the response, which is tokenised with them. */
size_t template_lead(const char *name);

/* Takes the lead off a text that was generated, as far as it is there: given as a response it gets it back. Returns what of it
 * may still come, not 0 only where nothing of the text is left. */
size_t response_unlead(struct buf *text, size_t lead);

/* A response to messages in a template, as tokens; control tokens in it are text. `finished`: the model's end-of-turn token
 * follows, if it has one. Where the response does not begin with white space, the template's lead comes before it. Without one
 * it goes on from the prompt where that ends in white space; elsewhere, as after "[/INST]", a vocabulary that puts a space
 * before a text does so: models answer with it. Earlier answers in a raw template begin the same way. *out is malloc'ed, *n its
 * length, which may be 0. */
int response_tokens(int32_t **out, int32_t *n, const struct genarm_model *model, const char *name,
                    const struct genarm_message *messages, size_t n_messages, const char *response, bool finished,
                    struct genarm_error *err);

#endif
