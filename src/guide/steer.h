/* What changes a session's mixture beyond its weights (genarm/steer.h), as the session holds it. */
#ifndef GUIDE_STEER_H
#define GUIDE_STEER_H

#include "genarm/steer.h"
#include "guide/logprobs.h"
#include "guide/guide.h"

enum { SCHEDULE_MAX_KNOTS = 32 };

struct schedule {
    int32_t n; /* 0: factor 1 everywhere */
    struct genarm_knot knots[SCHEDULE_MAX_KNOTS];
};

struct steering {
    struct schedule schedules[GUIDE_MAX_ARMS];
    float min_entropy;                 /* nats */
    struct genarm_token_bias *biases;  /* [n_biases], owned */
    size_t n_biases;
    struct genarm_grammar *grammar;    /* borrowed; NULL: none */
    int32_t grammar_from;              /* first answer token that it is about */
    int32_t grammar_state;             /* after the answer tokens before grammar_pos */
    int32_t grammar_pos;
    uint32_t grammar_generation;       /* of the state */
    int32_t n_top;                     /* likeliest tokens whose log-probabilities are kept; -1: none are */
    int32_t room;
    struct logprobs *logprobs;         /* [room] of the last pass's tokens */
};

float knots_factor(const struct schedule *schedule, int32_t pos);

/* The grammar begins anew, at the start of an answer: what there is of it is followed when the next token is mixed. */
void steering_restart(struct steering *st);

/* Adds the biases to log-probabilities [n_vocab]. */
void steering_add_bias(const struct steering *st, float *logp);

/* Room for the log-probabilities of `room` tokens of a pass, empty. On failure as before. */
int steering_reserve(struct steering *st, int32_t room, int32_t n_top, int32_t n_arms, struct genarm_error *err);

void steering_deinit(struct steering *st);

#endif
