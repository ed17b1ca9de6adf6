/* The rewards of whole responses that --reward names. */
#ifndef CLI_REWARDS_H
#define CLI_REWARDS_H

#include <jansson.h>

#include "setup.h"

#define REWARD_PLAIN_FORM "[KIND:][NAME=]PATH[+ADAPTER]" /* where a weight has no meaning */
#define REWARD_FORM REWARD_PLAIN_FORM "[:WEIGHT]"
#define REWARD_KINDS                                                                                                  \
    "KIND is rm (if not given: a reward model of genarm train --loss bt), arm, arm-mean, ratio or ratio-mean "        \
    "(log-probability under an ARM, summed or per token, ratio: minus its reference), rank (a classifier that "       \
    "libllama runs, PATH[#LABEL]), cmd (cmd:[NAME=]COMMAND, a program that answers JSON lines) or openai "             \
    "(openai:[NAME=]MODEL@BASE_URL, a model behind a server that rates); PATH is an adapter of the base, or a model "  \
    "which +ADAPTER adapts"

/* How models behind servers are asked. */
struct chat_args {
    const char *prompt, *cache, *key_env, *body;
    int32_t n_parallel, n_retries, max_tokens;
};

/* Rows of a command's option table; its arguments have the member `chat`. */
#define OPTIONS_CHAT(ARGS, chat)                                                                                       \
    {OPTION_FILE, "--judge-prompt", "FILE", offsetof(ARGS, chat.prompt),                                               \
     .help = "what a model of openai: is told instead of genarm's own text: see docs/judge.md"},                       \
    {OPTION_FILE, "--judge-cache", "FOLDER", offsetof(ARGS, chat.cache), .free = true,                                 \
     .help = "keep replies of openai: here, and ask no question twice"},                                               \
    {OPTION_INT, "--judge-parallel", "N", offsetof(ARGS, chat.n_parallel), 1, 256, .fallback = "4", .free = true,      \
     .help = "requests of openai: that are on their way at once"},                                                     \
    {OPTION_INT, "--judge-retries", "N", offsetof(ARGS, chat.n_retries), 0, 100, .fallback = "6", .free = true,        \
     .help = "how often a request is tried again after 429, 5xx or a lost connection, waiting longer each time"},      \
    {OPTION_INT, "--judge-max-tokens", "N", offsetof(ARGS, chat.max_tokens), 1, 1 << 20, .fallback = "512",            \
     .help = "tokens of a reply at most"},                                                                             \
    {OPTION_TEXT, "--judge-body", "JSON", offsetof(ARGS, chat.body),                                                   \
     .help = "an object whose members every request of openai: gets, null taking one out: {\"max_tokens\": null, "      \
             "\"temperature\": null, \"max_completion_tokens\": 4096} for models that reason"},                        \
    {OPTION_TEXT, "--api-key-env", "VARIABLE", offsetof(ARGS, chat.key_env), .free = true,                             \
     .help = "environment variable that has the key of openai:; without it OPENAI_API_KEY, if that is set"}

struct reward_args {
    struct option_list specs;
    double timeout;
    struct chat_args chat;
};

/* Rows of a command's option table; its arguments have the member `rewards`. `what` says what the rewards are for. */
#define OPTIONS_REWARDS(ARGS, form, what)                                                                             \
    {OPTION_TEXTS, "--reward", form, offsetof(ARGS, rewards.specs), .help = what REWARD_KINDS "; repeatable"},        \
    {OPTION_NUMBER, "--reward-timeout", "SECONDS", offsetof(ARGS, rewards.timeout), 0.001, 1e9, .fallback = "60", .free = true, \
     .help = "how long a program of --reward cmd: may take for an answer, its start included, or a server of openai:"}, \
    OPTIONS_CHAT(ARGS, rewards.chat)

struct reward_set {
    struct genarm_source **sources; /* [n], as on the command line */
    size_t n;
};

/* CLI_USAGE for specs that rewards_load would refuse, without loading anything: wrong use is told at once. */
int rewards_check(const struct option_list *specs, bool weighted, struct genarm_error *err);

/* Opens the sources, each under a name of its own. `base` must outlive the set. `weighted`: their weights are used;
 * otherwise one that is given is wrong use. `answered` [args->specs.n]: those that an earlier process has numbers of; NULL: none.
 * A signal (terminal.h) stops them with GENARM_ECANCELED. */
int rewards_load(struct reward_set *s, const struct reward_args *args, bool weighted, const bool *answered,
                 struct genarm_model *base, const struct model_args *model, const struct guide_args *guide,
                 struct genarm_error *err);
void rewards_free(struct reward_set *s); /* safe on a zeroed struct */

/* CLI_USAGE when the file that an option writes is one that a reward reads. Texts that are no specs are left to rewards_load. */
struct source_spec;
int keep_spec(const char *option, const char *output, const struct source_spec *spec, struct genarm_error *err);
int keep_rewards(const char *option, const char *output, const struct option_list *specs, struct genarm_error *err);

/* Appends what a reward or a judge is to the list settings[option] (settings.h): a spec of models by its kind, name and weight, with
 * what its files hold beside it, wherever they lie; any other text as it is. */
int rewards_add_setting(json_t *settings, const char *option, const char *text, struct genarm_error *err);

const char *rewards_name(const struct reward_set *s, size_t i);

/* What the options say to a source. */
struct genarm_judge_params chat_params_from(const struct chat_args *args);

/* The rewards of n responses: values[i * n + j] is what source i gives sample j, NaN where it abstains. */
int rewards_compute(const struct reward_set *s, const struct genarm_sample *samples, size_t n, double *values,
                    struct genarm_error *err);

/* When all is asked: GENARM_EMISMATCH when a program said more than it was asked. */
int rewards_finish(const struct reward_set *s, struct genarm_error *err);

/* When all is asked: an error where a server has refused everything, for which the settings are to blame. `name`: whose numbers
 * these are. */
int check_refused(const struct genarm_judge_stats *s, const char *name, struct genarm_error *err);
int rewards_check_refused(const struct reward_set *s, struct genarm_error *err); /* of any source */

/* Notes how many replies were cut, if some were: their verdict or rating may be missing. */
void note_cut(const struct genarm_judge_stats *s, const char *name, const struct chat_args *args);
void rewards_note_cut(const struct reward_set *s, const struct chat_args *args); /* of every source */

/* {"NAME": value} of one response: values[i * stride], null where a source abstained. Without memory NULL. */
json_t *rewards_json(const struct reward_set *s, const double *values, size_t stride);

#endif
