/* Stepping one or many sessions. A pass leaves tokens ahead of the timelines, which steps hand out: one, or with a draft
 * (speculate.c) several. What goes wrong with one session, in its `failure`, is its own affair: the others go on. */
#include <stdlib.h>

#include "base/progress.h"
#include "base/threads.h"
#include "guide/share.h"
#include "guide/speculate.h"

static bool failed(const struct genarm_session *s) { return s->failure.code != GENARM_OK; }

/* Moves the sessions that have not failed to the front. Returns how many there are. The others have nothing ahead, and where
 * logits were not finite (nothing else here is malformed), the keys and values behind them are not used again. */
static size_t without_failed(struct genarm_session **sessions, size_t n) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (sessions[i]->failure.code == GENARM_EFORMAT) {
            session_forget_cache(sessions[i]);
        } else if (failed(sessions[i])) {
            session_drop_ahead(sessions[i]);
        } else {
            sessions[kept++] = sessions[i];
        }
    }
    return kept;
}

/* ---- mixing, verifying, drawing: the threads share the sessions out ---- */

typedef int (*session_fn)(struct genarm_session *s, struct genarm_error *err);

struct verifying {
    session_fn each;
    struct genarm_session **sessions; /* [n] */
    size_t n, n_threads;
};

static void verify_some(int ith, void *user) {
    const struct verifying *v = user;
    for (size_t i = (size_t)ith; i < v->n; i += v->n_threads) {
        v->each(v->sessions[i], &v->sessions[i]->failure);
    }
}

static void for_each(session_fn each, struct genarm_session **sessions, size_t n) {
    const struct engine_threads *threads = n > 0 ? sessions[0]->guide->threads : NULL;
    struct verifying v = {.each = each, .sessions = sessions, .n = n, .n_threads = n > 1 ? (size_t)threads->n : 1};
    if (n > 1) {
        threads_run(threads->pool, verify_some, &v);
    } else {
        verify_some(0, &v);
    }
}

/* What the engine mixed is no distribution: each policy's own logits say which is to blame, or are fine where the sum of hidden
 * states was not. They go behind those of the pass, which others still look at. */
static int verify_apart(struct genarm_session *s, session_fn each, struct feed *pass, struct genarm_error *err) {
    if (s->failure.code != GENARM_EFORMAT || !session_mixes_early(s)) {
        return GENARM_OK;
    }
    struct feed feed = {.role = FEED_APART, .logits = pass->logits};
    const int rc = session_feed(&s, 1, &feed, err);
    pass->logits = feed.logits;
    if (rc == GENARM_OK) {
        s->failure = (struct genarm_error){0};
        each(s, &s->failure);
    }
    return rc;
}

static int verify(struct genarm_session **sessions, size_t n, session_fn each, struct feed *pass, struct genarm_error *err) {
    int rc = GENARM_OK;
    for_each(each, sessions, n);
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        rc = verify_apart(sessions[i], each, pass, err);
    }
    return rc;
}

/* The same where something looks ahead between the mixtures and the tokens. *n as in run. */
static int verify_ahead(struct genarm_session **sessions, size_t *n, struct feed *pass, struct genarm_error *err) {
    struct lookahead *ahead = sessions[0]->guide->lookahead;
    int rc = verify(sessions, *n, speculation_mix, pass, err);
    *n = rc == GENARM_OK ? without_failed(sessions, *n) : *n;
    rc = rc == GENARM_OK && *n > 0 ? ahead->vtable->steer(ahead, sessions, *n, err) : rc;
    *n = rc == GENARM_OK ? without_failed(sessions, *n) : *n;
    if (rc == GENARM_OK) {
        for_each(speculation_accept, sessions, *n);
    }
    return rc;
}

/* ---- a pass ---- */

/* Feeds what is missing and the drafts, and verifies. *n sessions before, those that have not failed after. */
static int run(struct genarm_session **sessions, size_t *n, struct feed *feed, struct genarm_error *err) {
    struct genarm_guide *g = sessions[0]->guide;
    const size_t n_all = *n;
    int32_t n_positions = 0;
    for (size_t i = 0; i < n_all; i++) {
        n_positions += sessions[i]->n_ahead + 1;
    }
    const double start = clock_seconds();
    int rc = session_feed(sessions, n_all, feed, err);
    if (rc == GENARM_OK) {
        rc = g->lookahead ? verify_ahead(sessions, n, feed, err) : verify(sessions, n_all, speculation_verify, feed, err);
    }
    const double seconds = clock_seconds() - start;
    if (rc == GENARM_OK) {
        *n = without_failed(sessions, *n);
    }
    if (rc == GENARM_OK && *n == n_all && feed->catch_up <= CATCH_UP_MAX) {
        costs_record(&g->costs, n_positions, seconds);
    }
    return rc;
}

/* One pass for sessions that have nothing to hand out: each that does not fail then has. Uses up the list. An error: none
 * has. */
static int pass(struct genarm_session **sessions, size_t n, struct genarm_error *err) {
    const size_t n_all = n;
    speculation_plan(sessions, n); /* first: it says which policies are run */
    for (size_t i = 0; i < n; i++) {
        session_check_known(sessions[i], &sessions[i]->failure);
    }
    n = without_failed(sessions, n);
    if (n == 0) {
        return GENARM_OK;
    }
    int rc = sessions_share(sessions, n, err);
    rc = rc == GENARM_OK ? session_reserve_pass(sessions, n, err) : rc;
    struct feed feed = {.role = FEED_MIXTURE, .logits = sessions[0]->guide->logits};
    if (rc == GENARM_OK) {
        rc = speculation_draft(sessions, n, &feed.logits, err);
        n = rc == GENARM_OK ? without_failed(sessions, n) : n;
    }
    if (rc == GENARM_OK && n > 0) {
        rc = run(sessions, &n, &feed, err);
    }
    for (size_t i = 0; i < n_all && rc != GENARM_OK; i++) {
        session_drop_ahead(sessions[i]);
    }
    return rc;
}

/* ---- a step ---- */

static void hand_out(struct genarm_session *s, int32_t *out) {
    const struct genarm_guide *g = s->guide;
    const int32_t token = s->timelines[0].tokens[s->timelines[0].n];
    if (session_settle(s, genarm_session_n_tokens(s) + 1, &s->failure) != GENARM_OK) {
        return;
    }
    for (int32_t p = 0; p < g->n_policies; p++) {
        s->timelines[p].n++;
    }
    s->logp = s->mixtures + (size_t)s->n_handed++ * (size_t)g->policies[0].model->hp.n_vocab;
    s->n_ahead--;
    *out = token;
}

/* Sees to it that every session that does not fail has tokens ahead. `empty`: room for n sessions. */
static int fill(struct genarm_session **sessions, size_t n, struct genarm_session **empty, struct genarm_error *err) {
    size_t n_empty = 0;
    for (size_t i = 0; i < n; i++) {
        if (!failed(sessions[i]) && sessions[i]->n_ahead == 0) {
            empty[n_empty++] = sessions[i];
        }
    }
    return n_empty > 0 ? pass(empty, n_empty, err) : GENARM_OK;
}

/* The token of each session, or its failure. */
static int step(struct genarm_session **sessions, size_t n, int32_t *tokens, struct genarm_error *err) {
    for (size_t i = 1; i < n; i++) {
        if (sessions[i]->guide != sessions[0]->guide) {
            return error_set(err, GENARM_EINVAL, "sessions of different guides cannot be stepped together");
        }
    }
    struct genarm_session **empty = calloc(n + 1, sizeof(struct genarm_session *));
    if (!empty) {
        return error_nomem(err, "a step");
    }
    for (size_t i = 0; i < n; i++) {
        sessions[i]->failure = (struct genarm_error){0};
        session_check(sessions[i], &sessions[i]->failure);
    }
    const int rc = fill(sessions, n, empty, err);
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        if (!failed(sessions[i])) {
            hand_out(sessions[i], &tokens[i]);
        }
    }
    free(empty);
    return rc;
}

int genarm_sessions_step_each(struct genarm_session **sessions, size_t n, int32_t *tokens, struct genarm_error *errors,
                              struct genarm_error *err) {
    const int rc = step(sessions, n, tokens, err);
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        errors[i] = sessions[i]->failure;
    }
    return rc;
}

int genarm_sessions_step(struct genarm_session **sessions, size_t n, int32_t *tokens, struct genarm_error *err) {
    int rc = step(sessions, n, tokens, err);
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        rc = sessions[i]->failure.code;
        if (rc != GENARM_OK && err) {
            *err = sessions[i]->failure;
        }
    }
    return rc;
}

int genarm_session_step(struct genarm_session *s, int32_t *token, struct genarm_error *err) {
    return genarm_sessions_step(&s, 1, token, err);
}
