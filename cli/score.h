/* genarm score: what its files share. score.c has the options and one response, score_pairs.c pairs, score_answers.c files of
 * answers.
 */
#ifndef CLI_SCORE_H
#define CLI_SCORE_H

#include "formats.h"
#include "pairs.h"
#include "rewards.h"
#include "setup.h"

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

/* What scores: the guide, and the rewards of whole responses. */
struct scorers {
    struct setup setup;
    struct reward_set rewards;
    bool guided; /* log-probabilities are wanted too */
};

/* Reads the files of -d: an error where none of their pairs can be used. */
int score_read_pairs(struct pair_list *pairs, const struct score_args *args, struct genarm_error *err);

/* Ranks them and prints how often as labelled; what was ranked before a signal too. */
int score_pairs(const struct score_args *args, const struct scorers *s, const struct pair_list *pairs, struct genarm_error *err);

/* Gives every answer of --answers its rewards. Returns a code, or the exit status of a signal. */
int score_answers(const struct score_args *args, struct genarm_error *err);

#endif
