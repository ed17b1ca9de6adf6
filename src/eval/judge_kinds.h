/* The inside of judges: what each kind implements, and how those that are shown pairs report what was said. */
#ifndef EVAL_JUDGE_KINDS_H
#define EVAL_JUDGE_KINDS_H

#include "eval/judge.h"
#include "reward/source.h"

/* A batch under way. Questions 0 .. n_questions: the showings of the first pair, of the second, and so on. */
struct judge_round {
    const struct judge_params *params;
    const struct judge_batch *batch;
    size_t per_pair, n_questions;
    struct judge_verdict *verdicts; /* [batch->n] on their way */
};

/* The pair of a question, and which of its answers is shown first: 0 or 1. */
const struct judge_pair *judge_question(const struct judge_round *r, size_t question, int *first);

/* What a judge said of what it was shown. */
struct judge_answer {
    const char *reply, *refusal;
    enum { SAID_NOTHING, SAID_FIRST, SAID_SECOND, SAID_EQUAL } said;
    double p_first; /* how likely the first is better, in [0, 1]; NaN: only what was said is known */
    int64_t prompt_tokens, completion_tokens;
};

/* Takes it; the verdict goes to the caller when all showings of the pair are there. */
int judge_answered(struct judge_round *r, size_t question, const struct judge_answer *answer, struct genarm_error *err);

/* On failure *at is the pair at fault. */
struct judge_vtable {
    int (*run)(void *self, struct judge_round *r, size_t *at, struct genarm_error *err);
    struct genarm_judge_stats (*stats)(const void *self); /* NULL: it asks no server */
    void (*free)(void *self);                             /* NULL is fine */
};

/* The kinds; `params` outlives what is made. */
int judge_chat_new(const struct judge_vtable **vtable, void **self, const struct source_spec *spec,
                   const struct judge_params *params, struct genarm_error *err);
int judge_program_new(const struct judge_vtable **vtable, void **self, const char *command,
                      const struct judge_params *params, struct genarm_error *err);
int judge_reward_new(const struct judge_vtable **vtable, void **self, const char *spec, const struct genarm_model *base,
                     const struct judge_params *params, struct genarm_error *err);

#endif
