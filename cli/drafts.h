/* Speculation: the options that say what drafts tokens, and what came of it.
 *
 * OPTIONS_DRAFT(ARGS) are rows of a command's option table; ARGS has a member `draft` of the type below. */
#ifndef CLI_DRAFTS_H
#define CLI_DRAFTS_H

#include <jansson.h>

#include "setup.h"

struct draft_args {
    const char *model;
    struct option_list arms;
    int32_t type, n_lookup, n_max, n_min; /* type: 0 none, 1 ngram-simple */
};

#define OPTIONS_DRAFT(ARGS)                                                                                           \
    {OPTION_GROUP, .help = "Speculation (faster, same distribution)"},                                                \
    {OPTION_FILE, "-md --model-draft", "FILE", offsetof(ARGS, draft.model), .env = "LLAMA_ARG_MODEL_DRAFT",           \
     .help = "draft tokens with this model of the same vocabulary, which the steered model verifies several at a "    \
             "time"},                                                                                                 \
    {OPTION_TEXTS, "--draft-arm", "NAME[:WEIGHT]", offsetof(ARGS, draft.arms),                                        \
     .help = "draft with this reward model, alone or added to -md, which weighs 1; without WEIGHT its weight is as "  \
             "in --arm, and all are scaled until they sum up to what the mixture's do; repeatable"},                  \
    {OPTION_CHOICE, "--spec-type", "TYPE", offsetof(ARGS, draft.type), .choices = "none|ngram-simple",                \
     .fallback = "none",                                                                                              \
     .help = "how to draft without a model; ngram-simple: what followed when the text last read as it does now"},     \
    {OPTION_INT, "--spec-ngram-size-n", "N", offsetof(ARGS, draft.n_lookup), 1, 1024, .fallback = "3",                \
     .help = "tokens that must read as before for ngram-simple"},                                                     \
    {OPTION_INT, "--draft --draft-n --draft-max", "N", offsetof(ARGS, draft.n_max), 1, 64, .fallback = "16",          \
     .env = "LLAMA_ARG_DRAFT_MAX", .help = "tokens drafted at a time, at most"},                                      \
    {OPTION_INT, "--draft-min --draft-n-min", "N", offsetof(ARGS, draft.n_min), 0, 64, .fallback = "0",               \
     .env = "LLAMA_ARG_DRAFT_MIN",                                                                                    \
      .help = "and at least; between both, as many as measured times make fastest, 0 where drafting does not pay. "   \
              "With both alike a seed gives the same answer again"}

/* Adds what drafts to a guide that was loaded as `guide` says; before the first session. */
int drafts_load(struct setup *s, const struct model_args *model, const struct guide_args *guide, const struct draft_args *args,
                struct genarm_error *err);

/* Adds "drafted_tokens" and "accepted_tokens" to an object where something drafts. */
void drafts_add_json(json_t *object, const struct setup *s, const struct genarm_session *session);

/* Says on stderr what drafting came to, where something drafts. */
void drafts_note(const struct setup *s, const struct genarm_session *session);

#endif
