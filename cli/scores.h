/* The log-probabilities of one response, token by token, and how they are shown. */
#ifndef CLI_SCORES_H
#define CLI_SCORES_H

#include <jansson.h>

#include "setup.h"

struct scored_token {
    int32_t id;
    char *text; /* valid UTF-8; the texts of all tokens together are the response and the spelling of its end */
    float base, guided;
    float *arms, *reference; /* [n_arms] each, one allocation at arms */
};

struct scores {
    struct scored_token *tokens; /* [n] */
    size_t n, n_arms;
    double base, guided;      /* sums over the tokens */
    double *arms, *reference; /* [n_arms] sums, one allocation at arms */
};

/* Scores a response, whose prompt becomes the session's. GENARM_ECANCELED: a signal asked for a stop while the prompt was
 * evaluated. */
int scores_compute(struct scores *out, const struct setup *s, const struct guide_args *args, struct genarm_session *session,
                   const struct genarm_sample *sample, struct genarm_error *err);
void scores_deinit(struct scores *s); /* safe on a zeroed struct */

json_t *scores_json(const struct scores *s, const struct setup *setup); /* without memory NULL */
void scores_print_table(FILE *out, const struct scores *s, const struct setup *setup);
void scores_print_colored(FILE *out, const struct scores *s, const struct setup *setup);

#endif
