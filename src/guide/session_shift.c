/* Room in a full context: every policy keeps the start of its prompt and the newest tokens, the same of all, and forgets
 * what lies between.
 */
#include <string.h>

#include "guide/session.h"

/* Leading tokens of a policy that stay: of its prompt, and at least one, which all later tokens lean on (StreamingLLM, Xiao et
 * al., ICLR 2024). */
static int32_t kept(const struct timeline *t, int32_t keep) {
    const int32_t n = keep < 0 || keep > t->n_given ? t->n_given : keep;
    return n > 0 ? n : 1;
}

static int forget(struct genarm_session *s, int32_t policy, int32_t keep, int32_t n_drop, struct genarm_error *err) {
    const struct genarm_guide *g = s->guide;
    struct timeline *t = &s->timelines[policy];
    if (t->n_cached >= keep + n_drop) {
        const int rc =
            engine_shift(g->engines[g->policies[policy].engine].engine, guide_seq(g, policy, s->slot), keep, n_drop, err);
        if (rc != GENARM_OK) {
            return rc;
        }
        t->n_cached -= n_drop;
        t->moved = t->moved > 0 && t->moved < keep ? t->moved : keep;
    } else if (t->n_cached > keep) { /* it was not run of late: what is left is fed where it then is */
        t->n_cached = keep;
    }
    memmove(t->tokens + keep, t->tokens + keep + n_drop, (size_t)(t->n - keep - n_drop) * sizeof *t->tokens);
    t->n -= n_drop;
    t->n_prompt -= n_drop;
    t->n_given = t->n_given <= keep + n_drop ? (t->n_given < keep ? t->n_given : keep) : t->n_given - n_drop;
    return GENARM_OK;
}

int genarm_session_shift(struct genarm_session *s, int32_t keep, struct genarm_error *err) {
    const int32_t n_ctx = s->guide->params.n_ctx;
    int32_t most = 0;
    for (int32_t p = 0; p < s->guide->n_policies; p++) {
        const struct timeline *t = &s->timelines[p];
        if (t->n == 0) {
            return error_set(err, GENARM_EINVAL, "the session has no prompt");
        }
        most = kept(t, keep) > most ? kept(t, keep) : most;
    }
    if (n_ctx - most < 2) {
        const int rc = error_set(err, GENARM_ECONTEXT, "the %d tokens to be kept fill the context of %d", most, n_ctx);
        return error_hint(err, rc, "keep fewer (--keep) or raise the context size (-c)");
    }
    const int32_t newest = n_ctx - most > 3 ? (n_ctx - most) / 2 : 1; /* tokens at the end that stay */
    int rc = session_settle(s, genarm_session_n_tokens(s), err);
    if (rc == GENARM_OK) {
        session_drop_ahead(s);
    }
    for (int32_t p = 0; p < s->guide->n_policies && rc == GENARM_OK; p++) {
        const struct timeline *t = &s->timelines[p];
        const int32_t n_drop = t->n - kept(t, keep) - newest;
        rc = n_drop > 0 ? forget(s, p, kept(t, keep), n_drop, err) : GENARM_OK;
    }
    return rc;
}
