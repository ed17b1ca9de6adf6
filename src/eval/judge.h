/* Judges: which of two answers to the same prompt is better.
 *
 * A judge is named by a text, SPEC:
 *
 *     openai:[NAME=]MODEL@BASE_URL   a model behind an OpenAI-compatible server, asked to compare (docs/judge.md)
 *     pairwise:[NAME=]COMMAND        a program that answers JSON lines
 *     any other SPEC of genarm/source.h  a reward: the answer with the higher one wins
 *
 * Judges that see both answers at once prefer places: each pair is shown in both orders unless the params say otherwise, and
 * wins only what is preferred in both. Two verdicts that differ are a tie (Zheng et al., 2023, "conservative"). A reply without
 * a verdict makes the pair invalid; nothing is guessed. The same answer twice is a tie that no judge is asked about.
 *
 * judge.c has what holds for all, judge_chat.c, judge_program.c and judge_reward.c the kinds.
 */
#ifndef EVAL_JUDGE_H
#define EVAL_JUDGE_H

#include "genarm/source.h"

struct judge;

enum judge_outcome { JUDGE_INVALID, JUDGE_A, JUDGE_B, JUDGE_TIE };

/* Which answer is shown first. */
#define JUDGE_ORDERS(X)                                                                                                \
    X(JUDGE_BOTH, "both")     /* each of them, in two questions */                                                     \
    X(JUDGE_RANDOM, "random") /* drawn for each pair from the seed and its number */                                   \
    X(JUDGE_GIVEN, "given")   /* A */

enum judge_order {
#define JUDGE_ORDER_ENUM(id, name) id,
    JUDGE_ORDERS(JUDGE_ORDER_ENUM)
#undef JUDGE_ORDER_ENUM
};

struct judge_params {
    struct genarm_source_params source; /* models, time limit, stop, how servers are asked; the prompt is the pairwise one */
    enum judge_order order;
    uint64_t seed;
    double tie_margin;  /* rewards that differ by no more are a tie; >= 0 */
    int32_t n_logprobs; /* likeliest tokens that a server is asked for; 0: none; default 5 */
};
struct judge_params judge_default_params(void);

/* GENARM_EINVAL for a text that names no judge, whatever its files hold. */
int judge_spec_check(const char *spec, struct genarm_error *err);

/* Whether it is pairwise: a command, and names no file. */
bool judge_spec_is_program(const char *spec);

/* Whether models that the spec names may be adapters of a base. */
bool judge_spec_needs_base(const char *spec);

/* `base` as in genarm_source_new. Strings are copied. */
int judge_new(struct judge **out, const char *spec, const struct genarm_model *base, const struct judge_params *params,
              struct genarm_error *err);
void judge_free(struct judge *j); /* NULL is fine */

const char *judge_name(const struct judge *j);
struct genarm_judge_stats judge_get_stats(const struct judge *j); /* n_abstained is 0: invalid verdicts tell */

struct judge_pair {
    const struct genarm_message *messages; /* [n_messages]: the prompt of both */
    size_t n_messages;
    const char *texts[2]; /* A, B */
    bool finished[2];     /* an end-of-turn token follows */
    const int32_t *tokens[2]; /* [n_tokens] that were drawn, as in struct genarm_sample; NULL: not known */
    size_t n_tokens[2];
    uint64_t number;      /* for the random order */
};

/* A question that was asked about a pair. */
struct judge_showing {
    int first;                  /* the answer shown first: 0: A, 1: B */
    char *reply;                /* what the judge said; NULL: nothing, the server refused */
    char *refusal;              /* why */
    enum judge_outcome outcome; /* of A and B, whatever was shown first */
    double preference;          /* as below */
};

struct judge_verdict {
    enum judge_outcome outcome;
    double preference; /* 1 + how sure the judge is that A is better: 2: A, 1: B, 1.5: a tie; the mean of the showings', which
                          come from probabilities where the server tells them; NaN: invalid */
    struct judge_showing showings[2];
    size_t n_showings; /* 0: by rewards, or nobody was asked */
    double rewards[2]; /* NaN where there are none */
    bool same;         /* the answers are the same: a tie, and the judge was not asked */
    bool too_long;     /* an answer does not fit into the context of the reward: invalid */
    int64_t prompt_tokens, completion_tokens; /* of its replies, cached ones too */
};

/* Judges n pairs; `take` gets each verdict as it is there, in any order, and a code that is not 0 ends it. On failure *at is
 * the pair at fault, or n: no single one. GENARM_ECANCELED when params.source.stop says so; GENARM_EMISMATCH when a program said
 * more than it was asked, so that no verdict can be trusted. */
struct judge_batch {
    const struct judge_pair *pairs; /* [n] */
    size_t n;
    int (*take)(size_t i, const struct judge_verdict *verdict, void *user, struct genarm_error *err);
    void *user;
};
int judge_run(struct judge *j, const struct judge_batch *batch, size_t *at, struct genarm_error *err);

/* "invalid", "a", "b", "tie". */
const char *judge_outcome_name(enum judge_outcome outcome);

#endif
