/* The rewards of whole responses that --reward names. */
#ifndef CLI_REWARDS_H
#define CLI_REWARDS_H

#include "common.h"

#define REWARD_FORM "[KIND:][NAME=]PATH[+ADAPTER][:WEIGHT]"
#define REWARD_KINDS                                                                                                  \
    "KIND is rm (if not given: a reward model of genarm train --loss bt), arm, arm-mean, ratio or ratio-mean "        \
    "(log-probability under an ARM, summed or per token, ratio: minus its reference), rank (a classifier that "       \
    "libllama runs, PATH[#LABEL]) or cmd (cmd:[NAME=]COMMAND, a program that answers JSON lines); PATH is an "        \
    "adapter of the base, or a model which +ADAPTER adapts"

struct reward_args {
    struct option_list specs;
    double timeout;
};

/* Rows of a command's option table; its arguments have the member `rewards`. `what` says what the rewards are for. */
#define OPTIONS_REWARDS(ARGS, what)                                                                                   \
    {OPTION_TEXTS, "--reward", REWARD_FORM, offsetof(ARGS, rewards.specs), .help = what REWARD_KINDS "; repeatable"}, \
    {OPTION_NUMBER, "--reward-timeout", "SECONDS", offsetof(ARGS, rewards.timeout), 0.001, 1e9, .fallback = "60",     \
     .help = "how long a program of --reward cmd: may take for an answer, its start included"}

struct reward_set {
    struct genarm_source **sources; /* [n], as on the command line */
    size_t n;
};

/* Opens the sources, each under a name of its own. `base` must outlive the set. `weighted`: their weights are used;
 * otherwise one that is given is wrong use. A signal (terminal.h) stops them with GENARM_ECANCELED. */
int rewards_load(struct reward_set *s, const struct reward_args *args, bool weighted, struct genarm_model *base,
                 const struct model_args *model, const struct guide_args *guide, struct genarm_error *err);
void rewards_free(struct reward_set *s); /* safe on a zeroed struct */

const char *rewards_name(const struct reward_set *s, size_t i);

/* The rewards of n responses: values[i * n + j] is what source i gives sample j. */
int rewards_compute(const struct reward_set *s, const struct genarm_sample *samples, size_t n, double *values,
                    struct genarm_error *err);

/* {"NAME": value} of one response: values[i * stride]. Without memory NULL. */
json_t *rewards_json(const struct reward_set *s, const double *values, size_t stride);

#endif
