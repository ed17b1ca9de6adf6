/* Scoring a given response: log-probabilities of its tokens under every part of the guide. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "guide/combine.h"
#include "guide/session.h"

enum { CHUNK = 32 }; /* response tokens whose logits are held at once */

struct scores {
    int32_t n_arms;
    size_t n;         /* tokens */
    float *base;      /* [n] */
    float *guided;    /* [n] */
    float *arms;      /* [n_arms, n]: of token t from arms + t * n_arms */
    float *reference; /* [n_arms, n] */
    struct logprobs *tops; /* [n] with the likeliest tokens, if the session keeps any; else NULL */
};

static void scores_deinit(struct scores *sc) {
    for (size_t i = 0; i < sc->n && sc->tops; i++) {
        logprobs_deinit(&sc->tops[i]);
    }
    free(sc->tops);
    free(sc->base);
}

/* The likeliest tokens are found while the logits of a chunk are there: those of the next take their place. */
static int reserve_tops(struct scores *sc, int32_t n_top, struct genarm_error *err) {
    sc->tops = calloc(sc->n + 1, sizeof *sc->tops);
    int rc = sc->tops ? GENARM_OK : error_nomem(err, "log-probabilities");
    for (size_t i = 0; i < sc->n && rc == GENARM_OK; i++) {
        rc = logprobs_reserve(&sc->tops[i], n_top, sc->n_arms, err);
    }
    return rc;
}

/* scores_deinit in every case. */
static int scores_init(struct scores *sc, int32_t n_arms, size_t n, int32_t n_top, struct genarm_error *err) {
    float *all = calloc(n * (2 + 2 * (size_t)n_arms) + 1, sizeof *all);
    if (!all) {
        return error_nomem(err, "scores");
    }
    *sc = (struct scores){.n_arms = n_arms, .n = n, .base = all, .guided = all + n, .arms = all + 2 * n,
                          .reference = all + 2 * n + n * (size_t)n_arms};
    return n_top > 0 ? reserve_tops(sc, n_top, err) : GENARM_OK;
}

/* Feeds one policy's timeline up to the token before response token c1 and returns the logits [n_vocab, c1 - c0] that
 * predict response tokens c0 .. c1 - 1. `start` is where the response starts in the timeline. */
static int chunk_logits(struct genarm_session *s, int32_t policy, int32_t adapter, int32_t start, int32_t c0, int32_t c1,
                        float *logits, struct genarm_error *err) {
    struct genarm_guide *g = s->guide;
    struct timeline *t = &s->timelines[policy];
    const int32_t first_output = start + c0 - 1, end = start + c1 - 1;
    size_t n_rows = 0;
    for (int32_t pos = t->n_cached < first_output ? t->n_cached : first_output; pos < end; pos++) {
        session_push_row(s, policy, adapter, pos, pos >= first_output, g->rows, &n_rows);
    }
    int rc = guide_forward(g, g->policies[policy].engine, n_rows, logits, err);
    t->n_cached = rc == GENARM_OK ? end : 0;
    return rc;
}

static size_t vocab_of(const struct genarm_session *s, int32_t policy) {
    return (size_t)s->guide->policies[policy].model->hp.n_vocab;
}

/* log pi of n response tokens under a policy, from their logits, into out[0], out[stride], … */
static int take(const struct genarm_session *s, int32_t policy, const float *logits, const int32_t *tokens, int32_t n, float *out,
                size_t stride, struct genarm_error *err) {
    const size_t n_vocab = vocab_of(s, policy);
    for (int32_t i = 0; i < n; i++) {
        const float *l = logits + (size_t)i * n_vocab, z = log_sum_exp(l, n_vocab);
        if (!isfinite(z)) {
            return session_not_finite(s, policy, err);
        }
        out[(size_t)i * stride] = (size_t)tokens[i] < n_vocab ? l[tokens[i]] - z : -INFINITY;
    }
    return GENARM_OK;
}

static bool is_reference(const struct genarm_session *s, int32_t policy) {
    for (int32_t arm = 1; arm <= s->guide->n_arms; arm++) {
        if (s->references[arm] == policy) {
            return true;
        }
    }
    return false;
}

/* Where the scores of response token c0 under a policy go, and their stride: the column of the base, of an ARM, or for one that
 * is only a reference (of several ARMs perhaps) that of ARM policy `arm`. */
static float *column(struct scores *sc, int32_t policy, int32_t arm, int32_t c0, size_t *stride) {
    const size_t n_arms = (size_t)sc->n_arms, at = (size_t)c0 * n_arms;
    *stride = policy == 0 ? 1 : n_arms;
    return policy == 0             ? sc->base + c0
           : policy <= sc->n_arms ? sc->arms + at + (size_t)(policy - 1)
                                   : sc->reference + at + (size_t)(arm - 1);
}

/* Logits of one policy for a chunk, and the scores that they give. */
static int score_policy(struct genarm_session *s, int32_t policy, const int32_t *start, const int32_t *tokens, int32_t c0,
                        int32_t c1, float *logits, struct scores *sc, struct genarm_error *err) {
    size_t stride;
    int rc = chunk_logits(s, policy, s->guide->policies[policy].adapter_index, start[policy], c0, c1, logits, err);
    if (rc == GENARM_OK && policy <= sc->n_arms) {
        float *out = column(sc, policy, 0, c0, &stride);
        rc = take(s, policy, logits, tokens + c0, c1 - c0, out, stride, err);
    }
    for (int32_t arm = 1; arm <= sc->n_arms && policy > sc->n_arms && rc == GENARM_OK; arm++) {
        if (s->references[arm] == policy) {
            float *out = column(sc, policy, arm, c0, &stride);
            rc = take(s, policy, logits, tokens + c0, c1 - c0, out, stride, err);
        }
    }
    return rc;
}

/* Base, ARMs, the references that count and the mixture of one chunk. */
static int score_chunk(struct genarm_session *s, const int32_t *start, const int32_t *tokens, int32_t c0, int32_t c1,
                       struct scores *sc, struct genarm_error *err) {
    const struct genarm_guide *g = s->guide;
    const float *logits[GUIDE_MAX_POLICIES] = {0};
    float *buffer = g->logits;
    for (int32_t p = 0; p < g->n_policies; p++) {
        if (p > g->n_arms && !is_reference(s, p)) {
            continue;
        }
        const int rc = score_policy(s, p, start, tokens, c0, c1, buffer, sc, err);
        if (rc != GENARM_OK) {
            return rc;
        }
        logits[p] = buffer;
        buffer += (size_t)(c1 - c0) * vocab_of(s, p);
    }
    for (int32_t c = c0; c < c1; c++) {
        int rc = session_mix(s, start[0] - s->timelines[0].n_prompt + c, logits, s->logp, err);
        if (rc != GENARM_OK) {
            return rc;
        }
        sc->guided[c] = s->logp[tokens[c]];
        if (sc->tops) {
            session_take_logprobs(s, tokens[c], logits, s->logp, &sc->tops[c]);
        }
        for (int32_t p = 0; p < g->n_policies; p++) {
            logits[p] = logits[p] ? logits[p] + vocab_of(s, p) : NULL;
        }
    }
    return GENARM_OK;
}

/* Where the scores of an ARM's reference come from: the ARM's model without its adapter, under the ARM's own prompt. */
enum source {
    ALONE,    /* it is a policy of its own */
    FROM_ARM, /* the ARM has no adapter */
    FROM_BASE,
    APART     /* the ARM's sequence, seen without the adapter */
};

static enum source source_of(const struct genarm_session *s, int32_t policy) {
    const struct policy *own = &s->guide->policies[policy], *base = &s->guide->policies[0];
    const struct timeline *t = &s->timelines[policy], *of_base = &s->timelines[0];
    if (s->references[policy] > s->guide->n_arms) {
        return ALONE;
    }
    if (!own->adapter) {
        return FROM_ARM;
    }
    const bool same = own->model == base->model && !base->adapter && t->n == of_base->n &&
                      memcmp(t->tokens, of_base->tokens, (size_t)t->n * sizeof *t->tokens) == 0;
    return same ? FROM_BASE : APART;
}

bool session_scores_apart(const struct genarm_session *s) {
    for (int32_t p = 1; p <= s->guide->n_arms; p++) {
        if (source_of(s, p) == APART) {
            return true;
        }
    }
    return false;
}

static int score_apart(struct genarm_session *s, int32_t policy, int32_t start, const int32_t *tokens, float *out, size_t stride,
                       int32_t n, struct genarm_error *err) {
    int rc = GENARM_OK;
    s->timelines[policy].n_cached = 0;
    for (int32_t c0 = 0, c1; c0 < n && rc == GENARM_OK; c0 = c1) {
        c1 = c0 + CHUNK < n ? c0 + CHUNK : n;
        rc = chunk_logits(s, policy, ENGINE_NO_ADAPTER, start, c0, c1, s->guide->logits, err);
        if (rc == GENARM_OK) {
            rc = take(s, policy, s->guide->logits, tokens + c0, c1 - c0, out + (size_t)c0 * stride, stride, err);
        }
    }
    s->timelines[policy].n_cached = 0;
    return rc;
}

static int score_reference(struct genarm_session *s, int32_t policy, int32_t start, const int32_t *tokens, struct scores *sc,
                           struct genarm_error *err) {
    const size_t stride = (size_t)sc->n_arms;
    const enum source source = source_of(s, policy);
    float *out = sc->reference + (policy - 1);
    if (source == APART) {
        return score_apart(s, policy, start, tokens, out, stride, (int32_t)sc->n, err);
    }
    for (size_t c = 0; c < sc->n && source != ALONE; c++) {
        out[c * stride] = source == FROM_BASE ? sc->base[c] : sc->arms[c * stride + (size_t)(policy - 1)];
    }
    return GENARM_OK;
}

static int append_response(struct genarm_session *s, const int32_t *tokens, size_t n, int32_t *start, struct genarm_error *err) {
    const int32_t n_vocab = (int32_t)vocab_of(s, 0);
    if (s->timelines[0].n == 0) {
        return error_set(err, GENARM_EINVAL, "the session has no prompt");
    }
    if (n > (size_t)genarm_session_n_left(s)) {
        const int rc = error_set(err, GENARM_ECONTEXT, "a response of %zu tokens does not fit: %d of %d are left", n,
                                 genarm_session_n_left(s), s->guide->params.n_ctx);
        return error_hint(err, rc, "shorten it or raise the context size (-c)");
    }
    for (size_t i = 0; i < n; i++) {
        if (tokens[i] < 0 || tokens[i] >= n_vocab) {
            return error_set(err, GENARM_EINVAL, "token %d is outside the vocabulary of %d", tokens[i], n_vocab);
        }
    }
    session_drop_ahead(s);
    for (int32_t p = 0; p < s->guide->n_policies; p++) {
        struct timeline *t = &s->timelines[p];
        start[p] = t->n;
        memcpy(t->tokens + t->n, tokens, n * sizeof *tokens);
        t->n += (int32_t)n;
    }
    return GENARM_OK;
}

static int score_all(struct genarm_session *s, const int32_t *start, const int32_t *tokens, bool references, struct scores *sc,
                     struct genarm_error *err) {
    struct genarm_guide *g = s->guide;
    size_t n_logits = 0;
    for (int32_t p = 0; p < g->n_policies; p++) {
        n_logits += CHUNK * vocab_of(s, p);
    }
    int rc = guide_reserve(g, (size_t)g->params.n_ctx, n_logits, err);
    for (int32_t c0 = 0, c1; c0 < (int32_t)sc->n && rc == GENARM_OK; c0 = c1) {
        c1 = c0 + CHUNK < (int32_t)sc->n ? c0 + CHUNK : (int32_t)sc->n;
        rc = score_chunk(s, start, tokens, c0, c1, sc, err);
    }
    for (int32_t p = 1; p <= g->n_arms && rc == GENARM_OK && references; p++) {
        rc = score_reference(s, p, start[p], tokens, sc, err);
    }
    return rc;
}

/* All that is known of one token. */
static struct genarm_token_score score_of(const struct scores *sc, int32_t token, size_t c) {
    const struct logprobs *top = sc->tops ? &sc->tops[c] : NULL;
    return (struct genarm_token_score){.token = token,
                                       .base = sc->base[c],
                                       .guided = sc->guided[c],
                                       .arms = sc->arms + c * (size_t)sc->n_arms,
                                       .reference = sc->reference + c * (size_t)sc->n_arms,
                                       .top = top ? top->items + 1 : NULL, /* the first item is the token itself */
                                       .n_top = top ? top->n - 1 : 0};
}

int session_score(struct genarm_session *s, const int32_t *tokens, size_t n_tokens, bool references,
                  int (*each)(const struct genarm_token_score *score, void *user), void *user, struct genarm_error *err) {
    int32_t start[GUIDE_MAX_POLICIES];
    struct scores sc = {0};
    int rc = append_response(s, tokens, n_tokens, start, err);
    if (rc == GENARM_OK) {
        rc = scores_init(&sc, genarm_guide_n_arms(s->guide), n_tokens, s->steering.n_top, err);
    }
    if (rc == GENARM_OK) {
        rc = score_all(s, start, tokens, references, &sc, err);
    }
    for (size_t c = 0; c < n_tokens && rc == GENARM_OK; c++) {
        const struct genarm_token_score score = score_of(&sc, tokens[c], c);
        if (each(&score, user) != 0) {
            rc = error_set(err, GENARM_ECANCELED, "scoring was stopped");
        }
    }
    scores_deinit(&sc);
    if (rc == GENARM_EFORMAT) { /* logits that are not finite: what is behind them is not used again */
        session_forget_cache(s);
    }
    return rc;
}

int genarm_session_score(struct genarm_session *s, const int32_t *tokens, size_t n_tokens,
                         int (*each)(const struct genarm_token_score *score, void *user), void *user,
                         struct genarm_error *err) {
    return session_score(s, tokens, n_tokens, true, each, user, err);
}
