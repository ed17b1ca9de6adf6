/* Sequences that branch off a timeline. Between two steps a timeline grows by a token that one of its branches has been fed
 * already: that position is copied back, and to the other branches, which lack nothing else. */
#include <stdlib.h>

#include "methods/value.h"

static struct engine *engine_of(const struct branches *b, const struct genarm_guide *g) {
    return g->engines[g->policies[b->policy].engine].engine;
}

static int32_t branch_seq(const struct branches *b, const struct genarm_session *s, int32_t i) {
    return guide_branch_seq(s->guide, s->guide->policies[b->policy].engine, s->slot, b->first + i);
}

/* [k] those of a session. */
static struct branch *branches_of(const struct branches *b, const struct genarm_session *s) {
    return b->all + (size_t)s->slot * (size_t)b->k;
}

int branches_reserve(struct branches *b, struct genarm_guide *g, int32_t policy, int32_t k, struct genarm_error *err) {
    struct guide_engine *e = &g->engines[g->policies[policy].engine];
    struct branch *all = calloc((size_t)g->params.n_slots * (size_t)k, sizeof *all);
    if (!all) {
        return error_nomem(err, "the candidates of sessions");
    }
    for (size_t i = 0; i < (size_t)g->params.n_slots * (size_t)k; i++) {
        all[i].fed = -1;
    }
    *b = (struct branches){.policy = policy, .first = e->n_branches, .k = k, .all = all};
    e->n_branches += k;
    return GENARM_OK;
}

void branches_deinit(struct branches *b) {
    free(b->all);
    *b = (struct branches){.policy = -1};
}

/* Takes over what a branch has been fed with the timeline's next token, if all before it is as it was then, and sees how far the
 * branches are level. */
static int take_over(struct branches *b, struct genarm_session *s, struct genarm_error *err) {
    struct engine *e = engine_of(b, s->guide);
    struct branch *branch = branches_of(b, s);
    struct timeline *t = &s->timelines[b->policy];
    const int32_t seq = guide_seq(s->guide, b->policy, s->slot), unchanged = engine_unchanged(e, seq);
    const int32_t n_same = unchanged < t->n_cached ? unchanged : t->n_cached;
    int32_t taken = -1;
    for (int32_t i = 0; i < b->k; i++) {
        if (t->n_cached < t->n && branch[i].n_common == t->n_cached && n_same == t->n_cached &&
            branch[i].fed == t->tokens[t->n_cached]) {
            taken = i;
        }
        branch[i].n_common = branch[i].n_common < n_same ? branch[i].n_common : n_same;
        branch[i].fed = -1;
    }
    if (taken < 0) {
        return GENARM_OK;
    }
    const int rc = engine_copy_range(e, branch_seq(b, s, taken), seq, t->n_cached, t->n_cached + 1, err);
    t->n_cached += rc == GENARM_OK;
    return rc;
}

/* What of the timelines is still missing, in one batch. */
static int feed(const struct branches *b, struct look *looks, size_t n, struct genarm_error *err) {
    struct genarm_guide *g = looks[0].s->guide;
    const struct policy *p = &g->policies[b->policy];
    size_t n_rows = 0;
    for (size_t i = 0; i < n; i++) {
        const struct timeline *t = &looks[i].s->timelines[b->policy];
        n_rows += (size_t)(t->n - t->n_cached);
    }
    int rc = guide_reserve(g, n_rows, 0, err);
    n_rows = 0;
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        const struct timeline *t = &looks[i].s->timelines[b->policy];
        for (int32_t pos = t->n_cached; pos < t->n; pos++) {
            session_push_row(looks[i].s, b->policy, p->adapter_index, pos, false, g->rows, &n_rows);
        }
    }
    rc = rc == GENARM_OK && n_rows > 0 ? guide_forward(g, p->engine, n_rows, NULL, err) : rc;
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        looks[i].s->timelines[b->policy].n_cached = looks[i].s->timelines[b->policy].n;
    }
    return rc;
}

/* Branches begin as the timeline does. */
static int copy(struct branches *b, const struct look *look, struct genarm_error *err) {
    const struct genarm_session *s = look->s;
    struct engine *e = engine_of(b, s->guide);
    struct branch *branch = branches_of(b, s);
    const int32_t seq = guide_seq(s->guide, b->policy, s->slot), n = s->timelines[b->policy].n;
    int rc = GENARM_OK;
    for (int32_t i = 0; i < look->n && rc == GENARM_OK; i++) {
        rc = engine_copy_range(e, seq, branch_seq(b, s, i), branch[i].n_common, n, err);
        branch[i].n_common = rc == GENARM_OK ? n : branch[i].n_common;
    }
    engine_unchanged(e, seq); /* from now on */
    return rc;
}

int branches_level(struct branches *b, struct look *looks, size_t n, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        rc = take_over(b, looks[i].s, err);
    }
    rc = rc == GENARM_OK ? feed(b, looks, n, err) : rc;
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        rc = copy(b, &looks[i], err);
    }
    return rc;
}

struct row branches_row(const struct branches *b, const struct look *look, int32_t candidate, int32_t i, bool output) {
    struct genarm_session *s = look->s;
    const struct policy *p = &s->guide->policies[b->policy];
    int64_t *counter = s->guide->engines[p->engine].hidden ? &s->work.value : &s->work.rollout;
    (*counter)++;
    return (struct row){.token = look->next[candidate].tokens[i], .seq = branch_seq(b, s, candidate),
                        .pos = s->timelines[b->policy].n + i, .adapter = p->adapter_index,
                        .output = output, .factors = s->preferences[b->policy].factors};
}

void branches_went_on(struct branches *b, const struct look *look, int32_t candidate) {
    branches_of(b, look->s)[candidate].fed = look->next[candidate].tokens[0];
}
