/* Preference pairs as tokens: what src/data reads, wrapped in the prompt template, cut to length. Where the chosen response
 * alone counts (PREF_CHOSEN), prompts are cut for it, and a rejected one that does not fit beside them is left out.
 *
 * The prompt's messages go through the template; a response is its text, without control tokens, and the token that
 * ends a turn. Prompt and responses are tokenised apart, as decoding sees them. Where prompt and longer response exceed
 * max_length, the prompt loses its earliest turns, then the user's last text its beginning; the template around it and
 * the system message stay.
 *
 * The tokens are held in memory, the texts are not. Called by the trainer, which reports what was dropped.
 */
#ifndef TRAIN_DATA_H
#define TRAIN_DATA_H

#include "data/reader.h"
#include "genarm/train.h"
#include "model/objectives.h"

enum side { CHOSEN, REJECTED, SIDES };

struct pair {
    size_t first;              /* of its tokens in data.tokens: prompt, chosen, rejected */
    int32_t n_prompt;          /* >= 1 */
    int32_t n_response[SIDES]; /* >= 2, the token that ends the turn included; rejected 0: there is none */
    int32_t file;              /* index into data.paths */
    int32_t objective;         /* index into data.objectives; 0 without objectives */
    int64_t line, record;      /* where it begins in its file, and which one it is; from 1 */
    uint64_t prompt_hash;      /* of the prompt's tokens as read, so that equal prompts can be kept together */
};

struct data {
    int32_t *tokens;
    size_t n_tokens, cap_tokens;
    struct pair *pairs;
    size_t n_pairs, cap_pairs;
    char **paths;
    size_t n_paths;
    struct objectives objectives; /* that the pairs belong to, in this order; none: a plain adapter is trained */
    uint64_t hash; /* of all tokens and lengths, in order, and the names of objectives */
    struct genarm_data_report report;
};

/* Reads every file. `params` (formats, what is wanted) and `template_name` may be NULL; `max_length` is at least 2. A record
 * that is no pair is an error naming file:line; a pair that cannot be used is dropped, counted and logged. No pair left is an
 * error. On failure *d is empty. */
int data_read(struct data *d, const struct genarm_model *model, const char *const *paths, size_t n_paths,
              const struct pref_params *params, const char *template_name, int32_t max_length,
              struct genarm_error *err);

/* The same for the pairs of several objectives, each with its own label instead of that of `params`. An objective without any
 * pair is an error. */
int data_read_objectives(struct data *d, const struct genarm_model *model, const struct genarm_objective *objectives,
                         size_t n_objectives, const struct pref_params *params, const char *template_name,
                         int32_t max_length, struct genarm_error *err);
void data_deinit(struct data *d);

static inline const int32_t *data_prompt(const struct data *d, const struct pair *p) { return d->tokens + p->first; }

static inline const int32_t *data_response(const struct data *d, const struct pair *p, enum side side) {
    return d->tokens + p->first + p->n_prompt + (side == REJECTED ? p->n_response[CHOSEN] : 0);
}

#endif
