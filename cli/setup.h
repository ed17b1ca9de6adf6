/* The options of guides and of drawing, and a guide made of them.
 *
 * OPTIONS_*(ARGS) are rows of a command's option table; ARGS is the command's struct of arguments, which has the members `guide`,
 * `sampling` and `shift` of the types below.
 */
#ifndef CLI_SETUP_H
#define CLI_SETUP_H

#include "arms.h"
#include "genarm/genarm.h"
#include "models.h"
#include "steer.h"

struct guide_args {
    int32_t n_ctx, n_batch, keys, values; /* keys, values: enum genarm_kv_type */
    bool no_sharing;
    const char *chat_template, *lora;
    struct option_list arms, arm_templates, minus_references, preferences;
};

#define OPTIONS_GUIDE(ARGS)                                                                                           \
    {OPTION_GROUP, .help = "Policy"},                                                                                 \
    {OPTION_FILE, "--lora", "FILE.gguf", offsetof(ARGS, guide.lora),                                                  \
     .help = "put this adapter on the base, with scale 1: a policy of genarm rl or train --loss dpo"},                \
    {OPTION_GROUP, .help = "Reward models"},                                                                          \
    {OPTION_TEXTS, "--arm", ARM_FORM, offsetof(ARGS, guide.arms),                                                     \
     .help = "steer with this autoregressive reward model: PATH is an adapter of the base or a model with "           \
          "the same vocabulary, which +ADAPTER adapts; WEIGHT is 1 / beta, 1 if not given, and steers away below 0; " \
          "repeatable"},                                                                                              \
    {OPTION_TEXTS, "--arm-template", "NAME=TEMPLATE", offsetof(ARGS, guide.arm_templates),                            \
     .help = "chat template of one reward model, if it was trained under another; repeatable"},                       \
    {OPTION_TEXTS, "--minus-reference", "NAME|all", offsetof(ARGS, guide.minus_references),                           \
     .help = "count this reward model, or all, relative to its own model without the adapter: what training changed; " \
             "repeatable"},                                                                                           \
    {OPTION_TEXTS, "--preference", "[ARM=]WEIGHTS", offsetof(ARGS, guide.preferences),                                \
     .help = "how much each objective of a reward model of genarm train --objective counts, as NAME=X,NAME=X or as "  \
             "X,X in their order (genarm info shows them); divided by their sum, all alike if not given; repeatable"}, \
    {OPTION_GROUP, .help = "Context"},                                                                                \
    {OPTION_INT, "-c --ctx-size", "N", offsetof(ARGS, guide.n_ctx), 0, 1 << 24, .fallback = "0",                      \
     .env = "LLAMA_ARG_CTX_SIZE",                                                                                     \
     .help = "tokens of prompt and answer; 0: what all models were trained for, at most 4096"},                       \
    {OPTION_INT, "-b --batch-size", "N", offsetof(ARGS, guide.n_batch), 1, 1 << 20, .fallback = "512",                \
     .env = "LLAMA_ARG_BATCH", .free = true, .help = "tokens of one forward pass"},                                   \
    {OPTION_FLAG, "--no-cache-prompt", "", offsetof(ARGS, guide.no_sharing), .free = true,                            \
     .help = "evaluate every prompt whole, also what it has in common with an earlier one: with quantised weights an " \
             "answer may depend on that by rounding"},                                                                \
    {OPTION_CHOICE, "-ctk --cache-type-k", "TYPE", offsetof(ARGS, guide.keys), .choices = "f16|f32|q8_0",             \
     .fallback = "f16", .env = "LLAMA_ARG_CACHE_TYPE_K", .like = "-ctv",                                              \
     .help = "how cached keys are stored, as values are: one of -ctk and -ctv is enough"},                            \
    {OPTION_CHOICE, "-ctv --cache-type-v", "TYPE", offsetof(ARGS, guide.values), .choices = "f16|f32|q8_0",           \
     .fallback = "f16", .env = "LLAMA_ARG_CACHE_TYPE_V", .like = "-ctk",                                              \
     .help = "how cached values are stored, as keys are"},                                                            \
    {OPTION_TEXT, "--chat-template", "TEMPLATE", offsetof(ARGS, guide.chat_template),                                 \
     .env = "LLAMA_ARG_CHAT_TEMPLATE",                                                                                \
      .help = "a name that llama.cpp knows, or raw:TEXT with {system} and {prompt}; without it the model's own"}

/* What happens when the context is full before the answer ends. */
struct shift_args {
    bool on;
    int32_t keep; /* tokens of the prompt, -1: all */
};

#define OPTIONS_SHIFT(ARGS)                                                                                           \
    {OPTION_GROUP, .help = "Full context"},                                                                           \
    {OPTION_FLAG, "--context-shift", "", offsetof(ARGS, shift.on), .env = "LLAMA_ARG_CONTEXT_SHIFT",                  \
     .help = "when the context is full go on: forget what lies between the kept tokens and the newest, which fill "   \
             "half of the rest; without it the answer ends"},                                                         \
    {OPTION_INT, "--keep", "N", offsetof(ARGS, shift.keep), -1, INT32_MAX, .fallback = "-1",                          \
     .help = "tokens of the prompt that --context-shift keeps; -1: all of them"}

struct sampling_args {
    int64_t seed; /* -1: a random one */
    double temperature, top_p, min_p;
    int32_t top_k;
};

#define OPTIONS_SAMPLING(ARGS)                                                                                        \
    {OPTION_GROUP, .help = "Sampling"},                                                                               \
    {OPTION_SEED, "-s --seed", "N", offsetof(ARGS, sampling.seed), -1, 9007199254740991.0, .fallback = "-1",          \
     .help = "the same seed gives the same answer; -1: a random one"},                                                \
    OPTIONS_DRAW(ARGS, 0, "temperature; 0: always the likeliest token")

#define OPTIONS_DRAW(ARGS, COLDEST, HELP)                                                                             \
    {OPTION_NUMBER, "--temp --temperature", "X", offsetof(ARGS, sampling.temperature), COLDEST, 100, .fallback = "1", \
     .env = "LLAMA_ARG_TEMPERATURE", .help = HELP},                                                                   \
    {OPTION_INT, "--top-k", "N", offsetof(ARGS, sampling.top_k), 0, INT32_MAX, .fallback = "0",                       \
     .env = "LLAMA_ARG_TOP_K", .help = "only the N likeliest tokens; 0: all"},                                        \
    {OPTION_NUMBER, "--top-p", "X", offsetof(ARGS, sampling.top_p), 1e-6, 1, .fallback = "1",                         \
     .env = "LLAMA_ARG_TOP_P", .help = "only the likeliest tokens that together have this probability"},              \
    {OPTION_NUMBER, "--min-p", "X", offsetof(ARGS, sampling.min_p), 0, 0.999999, .fallback = "0",                     \
      .env = "LLAMA_ARG_MIN_P", .help = "only tokens at least X times as likely as the likeliest"}

/* A guide and all that it needs. */
struct setup {
    struct genarm_guide *guide;
    struct genarm_model *base;
    struct genarm_adapter *lora;        /* on the base; NULL: none */
    struct arm_spec *arms;              /* [n_arms], as on the command line */
    struct genarm_model **models;       /* [n_arms] models other than the base; NULL where none was loaded */
    struct genarm_adapter **adapters;   /* [n_arms]; NULL for none */
    size_t n_arms;
    struct steer steer;                 /* of sessions; as setup_steer read it, or nothing */
    bool drafts;                        /* tokens are drafted, see drafts.h: so */
    struct genarm_draft_params draft;
    float *draft_weights;               /* what it points to; NULL: none */
    struct genarm_model *draft_model;   /* NULL: none was loaded for it alone */
};
int setup_load(struct setup *s, const struct model_args *model, const struct guide_args *guide, int32_t n_slots,
               struct genarm_error *err);
/* Reads what steers the sessions of setup_session. n_logprobs: as in genarm_session_keep_logprobs. */
int setup_steer(struct setup *s, const struct steer_args *args, int32_t n_logprobs, struct genarm_error *err);
void setup_free(struct setup *s); /* safe on a zeroed struct */

/* Whether --minus-reference NAME, or all, means this ARM. */
bool minus_reference(const struct guide_args *args, const char *name);

/* The model of a file that the base or an ARM has loaded, or NULL. */
struct genarm_model *setup_find_model(const struct setup *s, const char *path);
/* A session that is steered, and drafts if something does. The caller frees it. */
int setup_session(struct genarm_session **out, const struct setup *s, const struct genarm_sampling *sampling,
                  struct genarm_error *err);

/* File name of the base model, without folders. Borrowed. */
const char *setup_model_name(const struct setup *s);

/* Sampling as the options say, with a random seed drawn for -1. */
struct genarm_sampling sampling_from(const struct sampling_args *args);

#endif
