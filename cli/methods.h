/* How genarm generate comes to an answer beside guided decoding: the methods that it is compared with.
 *
 *   guided      tokens are drawn from the mixture of base and ARMs
 *   best-of-n   N answers are, and the one with the highest reward is kept
 *   args        a reward model of whole responses looks at the candidates of every token (genarm/value.h)
 *   transfer-q  the same after an aligned baseline rolled each candidate out
 *
 * OPTIONS_METHOD(ARGS) are rows of a command's option table; ARGS has the members `method` and `rewards`. */
#ifndef CLI_METHODS_H
#define CLI_METHODS_H

#include <jansson.h>

#include "reward/source.h"
#include "rewards.h"

#define METHODS(X)                                                                                                    \
    X(METHOD_GUIDED, "guided")                                                                                        \
    X(METHOD_BEST_OF_N, "best-of-n")                                                                                  \
    X(METHOD_ARGS, "args")                                                                                            \
    X(METHOD_TRANSFER_Q, "transfer-q")

enum method_kind {
#define METHOD_ENUM(id, name) id,
    METHODS(METHOD_ENUM)
#undef METHOD_ENUM
};

/* A number is 0 where it is not given. */
struct method_args {
    int32_t kind; /* enum method_kind */
    int32_t best_of, candidates, rollout;
    const char *baseline;
    bool indirect;
    double beta;
};

#define METHOD_CHOICE(id, name) name "|"
#define OPTIONS_METHOD(ARGS)                                                                                          \
    {OPTION_GROUP, .help = "Method"},                                                                                 \
    {OPTION_CHOICE, "--method", "NAME", offsetof(ARGS, method.kind), .choices = METHODS(METHOD_CHOICE),               \
     .fallback = "guided",                                                                                            \
     .help = "how an answer comes about. guided: tokens are drawn from the mixture of base and --arm; best-of-n: N "  \
             "answers are, and the one of the highest --reward is kept; args (ARGS): the reward model of --reward "   \
             "looks at the candidates of every token; transfer-q (Transfer Q*): the same after a baseline rolled "    \
             "each candidate out. All of them with or without --arm and --lora"},                                     \
    OPTIONS_REWARDS(ARGS, REWARD_FORM,                                                                                 \
                    "what best-of-n maximises, WEIGHT times each reward added up; of args and transfer-q the one "     \
                    "reward model, an rm:, whose WEIGHT is that of its reward beside the log-probability. "),          \
    {OPTION_INT, "--best-of", "N", offsetof(ARGS, method.best_of), 1, 65536,                                          \
     .help = "answers of best-of-n to each prompt; -np of them at once, also of several prompts (default 16)"},       \
    {OPTION_INT, "--candidates", "K", offsetof(ARGS, method.candidates), 1, 65536,                                    \
     .help = "likeliest tokens that args and transfer-q look at (default 10)"},                                       \
    {OPTION_INT, "--rollout", "N", offsetof(ARGS, method.rollout), 1, 65536,                                          \
     .help = "tokens that transfer-q rolls each candidate out by (default 20, with --indirect 5)"},                   \
    {OPTION_FILE, "--baseline", "FILE.gguf", offsetof(ARGS, method.baseline),                                         \
     .help = "the adapter of the base that transfer-q rolls out with, of genarm rl or train --loss dpo; without it "  \
             "the policy that answers: the base, with --lora if that is given"},                                      \
    {OPTION_FLAG, "--indirect", "", offsetof(ARGS, method.indirect),                                                  \
     .help = "transfer-q where the baseline was aligned with another reward: its roll-outs are weighed by the ratio " \
             "of base and baseline"},                                                                                 \
    {OPTION_NUMBER, "--indirect-beta", "X", offsetof(ARGS, method.beta), 1e-6, 1e6,                                   \
     .help = "KL coefficient that --indirect takes both rewards to have (default 2)"}

struct method {
    enum method_kind kind;
    int32_t n_samples;         /* answers to each prompt; 1 but for best-of-n */
    struct source_spec *specs; /* [n_specs] of --reward */
    size_t n_specs;
    struct reward_set rewards;       /* of best-of-n */
    struct source_model value;       /* the reward model of args and transfer-q; its `model` may be the guide's */
    struct genarm_adapter *baseline; /* of transfer-q; NULL: the policy that answers */
};

const char *method_name(enum method_kind kind);

/* Reads and checks the options, before anything is loaded: CLI_USAGE says what does not belong together. `drafts`: tokens are
 * to be drafted. method_free in every case. */
int method_read(struct method *m, const struct method_args *args, const struct reward_args *rewards,
                const struct guide_args *guide, bool drafts, struct genarm_error *err);

/* Loads what the method needs beside a guide without sessions, and tells the guide. */
int method_load(struct method *m, const struct method_args *args, const struct reward_args *rewards, const struct setup *setup,
                const struct model_args *model, const struct guide_args *guide, struct genarm_error *err);

/* Before setup_free; frees the guide as well, which uses what a method has loaded. Safe on zeroed structs. */
void method_free(struct method *m, struct setup *setup);

/* CLI_USAGE when the file that an option writes is one that the method reads. */
int method_keep_inputs(const struct method *m, const struct method_args *args, const char *option, const char *output,
                       struct genarm_error *err);

/* The options that method_describe describes: up to a NULL, for settings_options to leave out. */
#define METHOD_DESCRIBED "--reward", "--best-of", "--candidates", "--rollout", "--baseline", "--indirect-beta"

/* Adds what the options come to: numbers as they are used, files by what they hold. */
int method_describe(const struct method *m, const struct method_args *args, json_t *settings, struct genarm_error *err);

#endif
