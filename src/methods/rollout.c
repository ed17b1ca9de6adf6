/* Roll-outs of Transfer Q*: the baseline goes on after each candidate, greedily, until it ends its turn. All candidates of all
 * sessions are rows of one batch a token. Where roll-outs are weighed, what they are weighed against sees the same tokens in
 * the same batch. */
#include <math.h>
#include <stdlib.h>

#include "guide/combine.h"
#include "methods/value.h"

static bool goes_on(const struct look *look, int32_t c) {
    return look->s->failure.code == GENARM_OK && !look->next[c].ended && look->next[c].n < look->room;
}

static size_t n_going_on(const struct look *looks, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        for (int32_t c = 0; c < looks[i].n; c++) {
            count += goes_on(&looks[i], c);
        }
    }
    return count;
}

/* The last tokens of all that go on; outputs are [n_vocab] of the baseline and then, if there is one, of the reference. */
static size_t push_rows(struct value *v, const struct look *looks, size_t n, struct row *rows) {
    size_t n_rows = 0;
    for (size_t i = 0; i < n; i++) {
        for (int32_t c = 0; c < looks[i].n; c++) {
            if (goes_on(&looks[i], c)) {
                const int32_t last = looks[i].next[c].n - 1;
                rows[n_rows++] = branches_row(&v->baseline, &looks[i], c, last, true);
                if (v->reference.policy >= 0) {
                    rows[n_rows++] = branches_row(&v->reference, &looks[i], c, last, true);
                }
            }
        }
    }
    return n_rows;
}

/* The likeliest of the tokens that the reward model knows too. */
static int32_t likeliest(const float *logits, int32_t n) {
    int32_t best = 0;
    for (int32_t t = 1; t < n; t++) {
        best = logits[t] > logits[best] ? t : best;
    }
    return best;
}

static int go_on(const struct value *v, const struct look *look, int32_t c, const float *logits, struct genarm_error *err) {
    const struct genarm_model *base = look->s->guide->policies[0].model;
    const size_t n_vocab = (size_t)base->hp.n_vocab;
    const int32_t token = likeliest(logits, v->n_known);
    struct continuation *next = &look->next[c];
    if (!isfinite(logits[token])) {
        return session_not_finite(look->s, v->baseline.policy, err);
    }
    if (v->reference.policy >= 0) {
        const float *against = logits + n_vocab;
        const float z = log_sum_exp(logits, n_vocab), z_against = log_sum_exp(against, n_vocab);
        if (!isfinite(z) || !isfinite(z_against)) {
            return session_not_finite(look->s, isfinite(z) ? v->reference.policy : v->baseline.policy, err);
        }
        next->log_ratio += (double)(logits[token] - z) - (double)(against[token] - z_against);
    }
    continuation_push(next, v, base, token);
    return GENARM_OK;
}

/* One token more for all that go on. */
static int roll_on(struct value *v, struct look *looks, size_t n, struct genarm_error *err) {
    struct genarm_guide *g = looks[0].s->guide;
    const size_t n_vocab = (size_t)g->policies[0].model->hp.n_vocab, n_parts = v->reference.policy >= 0 ? 2 : 1;
    const size_t n_most = n_going_on(looks, n) * n_parts;
    int rc = guide_reserve(g, n_most, 0, err);
    rc = rc == GENARM_OK ? value_reserve(v, n_most * n_vocab, err) : rc;
    if (rc != GENARM_OK) {
        return rc;
    }
    const size_t n_rows = push_rows(v, looks, n, g->rows);
    rc = guide_forward(g, g->policies[v->baseline.policy].engine, n_rows, v->out, err);
    const float *logits = v->out;
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        struct genarm_error failure = {0};
        for (int32_t c = 0; c < looks[i].n; c++) {
            if (goes_on(&looks[i], c)) {
                go_on(v, &looks[i], c, logits, &failure);
                logits += n_parts * n_vocab;
            }
        }
        looks[i].s->failure = failure.code != GENARM_OK ? failure : looks[i].s->failure;
    }
    return rc;
}

/* The first tokens behind the candidates were drawn: all that went on were fed their candidate. */
static void note(struct branches *b, const struct look *looks, size_t n) {
    for (size_t i = 0; i < n && b->policy >= 0; i++) {
        for (int32_t c = 0; c < looks[i].n; c++) {
            if (looks[i].next[c].n > 1) {
                branches_went_on(b, &looks[i], c);
            }
        }
    }
}

int roll_out(struct value *v, struct look *looks, size_t n, struct genarm_error *err) {
    int rc = branches_level(&v->baseline, looks, n, err);
    if (rc == GENARM_OK && v->reference.policy >= 0) {
        rc = branches_level(&v->reference, looks, n, err);
    }
    for (bool first = true; rc == GENARM_OK && n_going_on(looks, n) > 0; first = false) {
        rc = roll_on(v, looks, n, err);
        if (first && rc == GENARM_OK) {
            note(&v->baseline, looks, n);
            note(&v->reference, looks, n);
        }
    }
    return rc;
}
