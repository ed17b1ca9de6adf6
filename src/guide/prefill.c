/* Evaluating a prompt in pieces: what the next step would have to feed before the last token of each policy. */
#include "guide/share.h"
#include "guide/speculate.h"

/* Rows that a policy misses before its last token. */
static int32_t missing(const struct genarm_session *s, int32_t policy) {
    const struct timeline *t = &s->timelines[policy];
    const int32_t n = t->n - 1 - t->n_cached;
    return n > 0 && speculation_runs(s, policy) ? n : 0;
}

/* Evaluates up to *left rows of an engine, policy after policy, and takes them off *left. */
static int prefill_engine(struct genarm_session *s, int32_t engine, int32_t *left, struct genarm_error *err) {
    struct genarm_guide *g = s->guide;
    int32_t n[GUIDE_MAX_POLICIES] = {0}, most = *left;
    size_t n_rows = 0;
    for (int32_t p = 0; p < g->n_policies; p++) {
        const int32_t wanted = g->policies[p].engine == engine ? missing(s, p) : 0;
        const struct timeline *t = &s->timelines[p];
        n[p] = wanted < most ? wanted : most;
        most -= n[p];
        for (int32_t pos = t->n_cached; pos < t->n_cached + n[p]; pos++) {
            session_push_row(s, p, g->policies[p].adapter_index, pos, false, g->rows, &n_rows);
        }
    }
    const int rc = n_rows > 0 ? guide_forward(g, engine, n_rows, NULL, err) : GENARM_OK;
    for (int32_t p = 0; p < g->n_policies && rc == GENARM_OK; p++) {
        s->timelines[p].n_cached += n[p];
    }
    *left = rc == GENARM_OK ? most : *left;
    return rc;
}

static int32_t all_missing(const struct genarm_session *s) {
    int64_t n = 0;
    for (int32_t p = 0; p < s->guide->n_policies; p++) {
        n += missing(s, p);
    }
    return n < INT32_MAX ? (int32_t)n : INT32_MAX;
}

int genarm_session_prefill(struct genarm_session *s, int32_t max_rows, int32_t *left, struct genarm_error *err) {
    if (max_rows < 0) {
        return error_set(err, GENARM_EINVAL, "%d rows cannot be evaluated", max_rows);
    }
    int rc = session_check(s, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    if (s->n_ahead > 0) { /* the next step only hands out */
        *left = 0;
        return GENARM_OK;
    }
    speculation_expect(s);
    rc = session_check_known(s, err);
    rc = rc == GENARM_OK ? session_take_over(s, err) : rc;
    const int32_t n = all_missing(s);
    int32_t most = n < max_rows ? n : max_rows;
    rc = rc == GENARM_OK ? guide_reserve(s->guide, (size_t)most, 0, err) : rc;
    for (int32_t e = 0; e < s->guide->n_engines && rc == GENARM_OK && most > 0; e++) {
        rc = prefill_engine(s, e, &most, err);
    }
    if (rc == GENARM_OK) {
        *left = all_missing(s);
    }
    return rc;
}
