/* genarm score: what its files share. score.c has the options, one response and pairs, score_answers.c files of answers. */
#ifndef CLI_SCORE_H
#define CLI_SCORE_H

#include "common.h"
#include "rewards.h"

struct score_args {
    struct model_args model;
    struct guide_args guide;
    const char *prompt, *file, *response, *system, *answers, *output;
    struct option_list pairs;
    struct reward_args rewards;
    struct format_args formats;
    bool open, json, per_pair, restart;
};

/* What the options say that makes rewards what they are, as a new object, for another process to compare. */
int score_settings(json_t **out, const struct score_args *args, struct genarm_error *err);

/* Whether a file of another option than -o would be written over. */
int score_check_output(const struct score_args *args, struct genarm_error *err);

/* Gives every answer of --answers its rewards. Returns a code, or the exit status of a signal. */
int score_answers(const struct score_args *args, struct genarm_error *err);

#endif
