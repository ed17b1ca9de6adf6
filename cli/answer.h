/* One answer in the making: its tokens, its text as far as its characters are complete, and why it ended. */
#ifndef CLI_ANSWER_H
#define CLI_ANSWER_H

#include <jansson.h>

#include "base/buf.h"
#include "common.h"
#include "text.h"

enum finish {
    FINISH_RUNNING,
    FINISH_STOP,        /* the model ended its turn, or a stop text came */
    FINISH_LENGTH,      /* -n tokens */
    FINISH_CONTEXT,     /* no room left */
    FINISH_INTERRUPTED, /* Ctrl-C */
};
const char *finish_name(enum finish finish); /* as in records: "stop" … */

struct answer {
    const struct setup *setup;        /* borrowed */
    const struct genarm_model *model; /* base: for text */
    struct genarm_session *session;   /* borrowed */
    enum finish finish;
    int32_t n_predict; /* -1: no limit */
    struct shift_args shift; /* set after answer_start; off: a full context ends the answer */
    int32_t *tokens;   /* [n_tokens] with the token that ended the turn */
    size_t n_tokens;
    struct buf text; /* valid UTF-8; without the end, and from a stop text on */
    size_t n_shown;  /* bytes of it that stay, whatever comes: the rest may become a stop text */
    int32_t stop;    /* the stop text that ended it; -1: none */
    json_t *logprobs; /* of each token, if they are kept */
    struct text_tail tail;
    int32_t n_prompt;
    double started, first, last; /* clock_seconds: prompt given, first token there, last token there */
};

/* Begins an answer to the messages. Call answer_deinit in every case. */
int answer_start(struct answer *a, const struct setup *s, struct genarm_session *session,
                 const struct genarm_message *messages, size_t n_messages, int32_t n_predict, struct genarm_error *err);
void answer_deinit(struct answer *a); /* safe on a zeroed struct */

/* One more token for each of the answers, which all run; some may end by it. */
int answers_step(struct answer **answers, size_t n, struct genarm_error *err);

/* Ends an answer that still runs. */
int answer_end(struct answer *a, enum finish finish, struct genarm_error *err);

/* {"response", "tokens", "arms", "preferences", "seed", "finish_reason", "stop", "logprobs", "model", "timings"}; preferences
 * only where an ARM has objectives, stop where a stop text ended the answer, logprobs where they are kept. NULL without
 * memory. */
json_t *answer_json(const struct answer *a, const struct setup *s, uint64_t seed);

/* Tokens a second after the first; 0 when there are not two. */
double answer_rate(const struct answer *a);

#endif
