#include "guide/steer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "guide/grammar.h"
#include "guide/session.h"

enum { LOGPROBS_MAX = 1000 };

static void free_logprobs(struct logprobs *all, int32_t n) {
    for (int32_t i = 0; i < n && all; i++) {
        logprobs_deinit(&all[i]);
    }
    free(all);
}

int steering_reserve(struct steering *st, int32_t room, int32_t n_top, int32_t n_arms, struct genarm_error *err) {
    struct logprobs *all = calloc((size_t)room, sizeof *all);
    int rc = all ? GENARM_OK : error_nomem(err, "log-probabilities");
    for (int32_t i = 0; i < room && rc == GENARM_OK; i++) {
        rc = logprobs_reserve(&all[i], n_top, n_arms, err);
    }
    if (rc != GENARM_OK) {
        free_logprobs(all, room);
        return rc;
    }
    free_logprobs(st->logprobs, st->room);
    st->logprobs = all;
    st->room = room;
    st->n_top = n_top;
    return GENARM_OK;
}

void steering_deinit(struct steering *st) {
    free(st->biases);
    free_logprobs(st->logprobs, st->room);
}

/* ---- schedule ---- */

static int check_knots(const struct genarm_knot *knots, size_t n, struct genarm_error *err) {
    if (n > SCHEDULE_MAX_KNOTS) {
        return error_set(err, GENARM_EINVAL, "a schedule of %zu knots, more than %d", n, SCHEDULE_MAX_KNOTS);
    }
    for (size_t k = 0; k < n; k++) {
        if (knots[k].position < 0 || !isfinite(knots[k].factor)) {
            return error_set(err, GENARM_EINVAL, "a schedule's knot %d:%g is no position from 0 on with a finite factor",
                             knots[k].position, (double)knots[k].factor);
        }
        if (k > 0 && knots[k].position < knots[k - 1].position) {
            return error_set(err, GENARM_EINVAL, "the positions of a schedule do not ascend: %d after %d", knots[k].position,
                             knots[k - 1].position);
        }
    }
    return GENARM_OK;
}

int genarm_session_set_schedule(struct genarm_session *s, int32_t i, const struct genarm_knot *knots, size_t n,
                                struct genarm_error *err) {
    if (i < 0 || i >= genarm_guide_n_arms(s->guide)) {
        return error_set(err, GENARM_EINVAL, "there is no ARM %d", i);
    }
    const int rc = check_knots(knots, n, err);
    if (rc == GENARM_OK) {
        struct schedule schedule = {.n = (int32_t)n};
        if (n) {
            memcpy(schedule.knots, knots, n * sizeof *knots);
        }
        session_drop_ahead(s);
        s->steering.schedules[i] = schedule;
    }
    return rc;
}

float knots_factor(const struct schedule *schedule, int32_t pos) {
    const struct genarm_knot *k = schedule->knots;
    int32_t after = 0; /* knots at or before the position */
    while (after < schedule->n && k[after].position <= pos) {
        after++;
    }
    if (schedule->n == 0) {
        return 1.0f;
    }
    if (after == 0 || after == schedule->n || k[after - 1].position == pos) {
        return k[after ? after - 1 : 0].factor;
    }
    const double share = (double)(pos - k[after - 1].position) / (double)(k[after].position - k[after - 1].position);
    return (float)((1.0 - share) * (double)k[after - 1].factor + share * (double)k[after].factor);
}

/* ---- gate ---- */

int genarm_session_set_min_entropy(struct genarm_session *s, float nats, struct genarm_error *err) {
    if (!(nats >= 0.0f)) {
        return error_set(err, GENARM_EINVAL, "an entropy of %g nats is not a number >= 0", (double)nats);
    }
    session_drop_ahead(s);
    s->steering.min_entropy = nats;
    return GENARM_OK;
}

/* ---- bias ---- */

int genarm_session_set_bias(struct genarm_session *s, const struct genarm_token_bias *biases, size_t n,
                            struct genarm_error *err) {
    const int32_t n_vocab = s->guide->policies[0].model->hp.n_vocab;
    for (size_t i = 0; i < n; i++) {
        if (biases[i].token < 0 || biases[i].token >= n_vocab) {
            return error_set(err, GENARM_EINVAL, "a bias's token %d is outside the vocabulary of %d", biases[i].token, n_vocab);
        }
        if (!(biases[i].bias < INFINITY)) {
            return error_set(err, GENARM_EINVAL, "the bias of token %d is %g: neither finite nor -inf", biases[i].token,
                             (double)biases[i].bias);
        }
    }
    struct genarm_token_bias *copy = n ? malloc(n * sizeof *copy) : NULL;
    if (n && !copy) {
        return error_nomem(err, "biases");
    }
    if (n) {
        memcpy(copy, biases, n * sizeof *copy);
    }
    session_drop_ahead(s);
    free(s->steering.biases);
    s->steering.biases = copy;
    s->steering.n_biases = n;
    return GENARM_OK;
}

void steering_add_bias(const struct steering *st, float *logp) {
    for (size_t i = 0; i < st->n_biases; i++) {
        logp[st->biases[i].token] += st->biases[i].bias;
    }
}

/* ---- grammar ---- */

int genarm_session_set_grammar(struct genarm_session *s, struct genarm_grammar *grammar, struct genarm_error *err) {
    if (grammar && grammar_model(grammar) != s->guide->policies[0].model) {
        return error_set(err, GENARM_EINVAL, "the grammar was made for another model's vocabulary");
    }
    session_drop_ahead(s);
    s->steering.grammar = grammar;
    s->steering.grammar_state = GRAMMAR_START;
    s->steering.grammar_from = s->steering.grammar_pos = genarm_session_n_tokens(s);
    return GENARM_OK;
}

void steering_restart(struct steering *st) {
    st->grammar_state = GRAMMAR_START;
    st->grammar_from = st->grammar_pos = 0;
}

/* ---- log-probabilities ---- */

int genarm_session_keep_logprobs(struct genarm_session *s, int32_t n, struct genarm_error *err) {
    if (n < -1 || n > LOGPROBS_MAX) {
        return error_set(err, GENARM_EINVAL, "%d likeliest tokens: not from -1 to %d", n, LOGPROBS_MAX);
    }
    session_drop_ahead(s);
    s->n_handed = 0;
    return steering_reserve(&s->steering, s->steering.room, n, genarm_guide_n_arms(s->guide), err);
}

const struct genarm_token_logprob *genarm_session_logprobs(const struct genarm_session *s, size_t *n) {
    const struct logprobs *last = &s->steering.logprobs[s->n_handed > 0 ? s->n_handed - 1 : 0];
    *n = last->n;
    return last->items;
}
