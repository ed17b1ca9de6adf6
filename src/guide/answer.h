/* One answer in the making: its tokens, its text as far as characters are complete and no stop text begins in it, and why it
 * ended. Whoever steps sessions pushes the tokens that they give. */
#ifndef GUIDE_ANSWER_H
#define GUIDE_ANSWER_H

#include "base/buf.h"
#include "base/utf8.h"
#include "genarm/guide.h"
#include "genarm/stop.h"

enum finish {
    FINISH_RUNNING,
    FINISH_STOP,        /* the model ended its turn, or a stop text came */
    FINISH_LENGTH,      /* as many tokens as were asked for */
    FINISH_CONTEXT,     /* no room left */
    FINISH_INTERRUPTED, /* by who asked for it */
    FINISH_FAILED,      /* its session could not be stepped */
};
const char *finish_name(enum finish finish); /* as in records: "stop" … */

struct answer {
    const struct genarm_model *model; /* the base: for text */
    struct genarm_session *session;   /* borrowed, with a prompt */
    const struct genarm_stop *stop;   /* borrowed; NULL: none */
    int32_t n_predict; /* tokens at most; -1: no limit */
    bool shift;        /* when the context is full forget what lies between the first `keep` tokens and the newest */
    int32_t keep;      /* of genarm_session_shift */
    enum finish finish;
    int32_t *tokens;   /* [n_tokens] with the token that ended the turn */
    size_t n_tokens;
    double logprob;    /* sum of log pi of the tokens: of the distribution before temperature and what cuts it */
    size_t n_first;    /* tokens that the first pass gave: with a draft it may be several */
    struct buf text;   /* valid UTF-8; without the end, and from a stop text on */
    size_t lead;       /* spaces that it may still begin with, which are the template's */
    size_t n_shown;    /* bytes of it that stay, whatever comes: the rest may become a stop text */
    int32_t stopped_by; /* index of the stop text; -1: none */
    struct text_tail tail;
    double started, first, last; /* clock_seconds: prompt given, first token there, last token there */
};

/* To a session whose prompt is set. answer_deinit in every case. `stop` may be NULL. */
int answer_start(struct answer *r, const struct genarm_model *model, struct genarm_session *session,
                   const struct genarm_stop *stop, int32_t n_predict, struct genarm_error *err);
void answer_deinit(struct answer *r); /* safe on a zeroed struct */

/* A token that the session gave at `now`; it may end the answer. */
int answer_push(struct answer *r, int32_t token, double now, struct genarm_error *err);

/* Ends an answer that still runs. */
int answer_end(struct answer *r, enum finish finish, struct genarm_error *err);

/* Tokens a second after the first pass; 0 when it gave all. */
double answer_rate(const struct answer *r);

/* Appends a token's bytes to a text; control tokens add nothing. */
int text_push_token(struct text_tail *u, const struct genarm_model *model, int32_t token, struct buf *out,
                    struct genarm_error *err);

#endif
