/* The inside of value guidance (genarm/value.h): a look-ahead of a guide.
 *
 * Its policies, the reward model and with roll-outs a baseline, have a timeline in each slot like those of the mixture, and k
 * branches of it: sequences that begin as the timeline does and go on with a candidate. A step
 *
 *   candidates.c  takes the k likeliest tokens of each session's mixture,
 *   branches.c    brings the timelines up to date and the branches level with them,
 *   rollout.c     lets the baseline go on after the candidates,
 *   value.c       has the reward model read all branches, and
 *   candidates.c  makes the scores the distribution that is drawn from.
 */
#ifndef METHODS_VALUE_H
#define METHODS_VALUE_H

#include "genarm/value.h"
#include "guide/session.h"

/* k sequences of each slot that branch off a policy's timeline. */
struct branches {
    int32_t policy; /* index in the guide; -1: not in use */
    int32_t first;  /* the first one among those of its engine */
    int32_t k;
    struct branch {
        int32_t n_common; /* leading positions that it has in common with the timeline */
        int32_t fed;      /* the token with which it went on behind them; -1: it did not */
    } *all; /* [k, n_slots] */
};

struct value {
    struct lookahead lookahead; /* first */
    struct genarm_value_params params;
    char *template_name;
    int32_t n_known;     /* tokens that base and reward model know both */
    enum value_state { VALUE_NEW, VALUE_STARTED, VALUE_FAILED } state; /* of adding policies to the guide */
    struct branches reward, baseline, reference; /* the last: what roll-outs are weighed against */
    float *out;          /* growable scratch: outputs of a pass */
    size_t out_max;
};

/* What may follow: a candidate, and what is rolled out behind it. */
struct continuation {
    int32_t candidate;
    float logp;       /* log pi of it */
    int32_t *tokens;  /* [room] as the reward model reads them: the turn always ends with the token that it knows for that */
    int32_t n;
    bool ended;       /* the last one ends the turn */
    double log_ratio; /* log of the roll-out's probability under the baseline, less that under the reference */
    double value, score;
};

/* One session in a step. */
struct look {
    struct genarm_session *s;
    struct continuation *next; /* [n] candidates, likeliest first */
    int32_t n;
    int32_t room; /* tokens that a continuation can have */
};

/* ---- candidates.c ---- */

/* Appends a token to a continuation, which has room. */
void continuation_push(struct continuation *next, const struct value *v, const struct genarm_model *base, int32_t token);

/* Looks at n sessions with their candidates; one without any has it in its `failure`, and n 0. *out is freed by looks_free. */
int looks_new(struct look **out, const struct value *v, struct genarm_session **sessions, size_t n, struct genarm_error *err);
void looks_free(struct look *looks); /* NULL is fine */

/* Makes log pi + w * value of the candidates the session's mixture; GENARM_EINVAL when that is not finite. */
int look_score(const struct look *look, const struct value *v, struct genarm_error *err);

/* ---- branches.c ---- */

/* Takes k branches of a policy's engine, before there are engines. */
int branches_reserve(struct branches *b, struct genarm_guide *g, int32_t policy, int32_t k, struct genarm_error *err);
void branches_deinit(struct branches *b);

/* Has the policy see all tokens of the sessions, and the branches of their candidates begin as the timelines do. */
int branches_level(struct branches *b, struct look *looks, size_t n, struct genarm_error *err);

/* The row of token i of a continuation, in its branch; it is counted. */
struct row branches_row(const struct branches *b, const struct look *look, int32_t candidate, int32_t i, bool output);

/* Remembers that a branch was fed its candidate, so that the timeline need not be if it is drawn. */
void branches_went_on(struct branches *b, const struct look *look, int32_t candidate);

/* ---- rollout.c ---- */

/* Goes on after all candidates that do not end the turn, up to params.n_rollout tokens. A session where that is no
 * distribution has it in its `failure`. */
int roll_out(struct value *v, struct look *looks, size_t n, struct genarm_error *err);

/* ---- value.c ---- */

/* Room for n outputs of a pass, in v->out. */
int value_reserve(struct value *v, size_t n, struct genarm_error *err);

#endif
