#include "guide/share.h"

#include <stdlib.h>
#include <string.h>

#include "guide/speculate.h"

enum {
    MIN_SHARED = 8, /* tokens that are worth a copy */
    MIN_SAVED = 32  /* rows that are worth a pass of their own */
};

/* ---- slots ---- */

static int slot_open(struct genarm_guide *g, int32_t slot, struct genarm_error *err) {
    const size_t n = (size_t)g->n_policies;
    struct timeline *timelines = g->slots[slot].timelines ? NULL : calloc(n, sizeof *timelines);
    if (!timelines) {
        return g->slots[slot].timelines ? GENARM_OK : error_nomem(err, "a session");
    }
    int32_t *tokens = calloc(n * (size_t)g->params.n_ctx, sizeof *tokens); /* of all policies */
    if (!tokens) {
        free(timelines);
        return error_nomem(err, "a session");
    }
    for (size_t p = 0; p < n; p++) {
        timelines[p].tokens = tokens + p * (size_t)g->params.n_ctx;
    }
    g->slots[slot].timelines = timelines;
    return GENARM_OK;
}

static void occupy(struct genarm_session *s, int32_t slot) {
    slot_leave(s);
    s->guide->slots[slot].taken = true;
    s->slot = slot;
    s->timelines = s->guide->slots[slot].timelines;
    for (int32_t p = 0; p < s->guide->n_policies; p++) {
        s->timelines[p].n = s->timelines[p].n_prompt = s->timelines[p].n_given = 0;
    }
}

int slot_take(struct genarm_session *s, struct genarm_error *err) {
    struct genarm_guide *g = s->guide;
    for (int32_t i = 0; i < g->params.n_slots; i++) {
        if (!g->slots[i].taken) {
            const int rc = slot_open(g, i, err);
            if (rc == GENARM_OK) {
                occupy(s, i);
            }
            return rc;
        }
    }
    return error_set(err, GENARM_EINVAL, "all %d slots are taken", g->params.n_slots);
}

void slot_leave(struct genarm_session *s) {
    if (s->timelines) {
        s->guide->slots[s->slot].taken = false;
        s->timelines = NULL;
    }
}

void slots_forget(struct genarm_guide *g) {
    for (int32_t i = 0; i < g->params.n_slots; i++) {
        for (int32_t p = 0; p < g->n_policies && g->slots[i].timelines; p++) {
            g->slots[i].timelines[p].n_cached = 0;
        }
    }
}

void slots_free(struct genarm_guide *g) {
    for (int32_t i = 0; i < g->params.n_slots && g->slots; i++) {
        if (g->slots[i].timelines) {
            free(g->slots[i].timelines[0].tokens);
            free(g->slots[i].timelines);
        }
    }
    free(g->slots);
    g->slots = NULL;
}

/* ---- what is the same ---- */

/* How many of the first n tokens, of which both have as many, are the same. */
static int32_t common(const int32_t *a, const int32_t *b, int32_t n) {
    int32_t same = 0;
    while (same < n && a[same] == b[same]) {
        same++;
    }
    return same;
}

static int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }

static bool same_preference(const struct objective_weights *a, const struct objective_weights *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

/* Tokens of a prompt that a slot holds, less those that it holds and would lose. */
static int64_t worth(const struct genarm_session *s, int32_t slot, const int32_t *const *tokens, const int32_t *n) {
    const struct timeline *timelines = s->guide->slots[slot].timelines;
    int64_t sum = 0;
    for (int32_t p = 0; p < s->guide->n_policies && timelines; p++) {
        const struct timeline *t = &timelines[p];
        const bool usable = same_preference(&t->preference, &s->preferences[p]);
        const int32_t held = timeline_exact(t), kept = usable ? common(t->tokens, tokens[p], smaller(held, n[p])) : 0;
        sum += kept - (held - kept);
    }
    return sum;
}

int slot_choose(struct genarm_session *s, const int32_t *const *tokens, const int32_t *n, struct genarm_error *err) {
    struct genarm_guide *g = s->guide;
    int32_t best = s->slot;
    int64_t most = worth(s, best, tokens, n);
    for (int32_t i = 0; i < g->params.n_slots; i++) {
        const int64_t value = g->slots[i].taken ? most : worth(s, i, tokens, n);
        if (value > most) {
            most = value;
            best = i;
        }
    }
    const int rc = slot_open(g, best, err);
    if (rc == GENARM_OK && best != s->slot) {
        occupy(s, best);
    }
    return rc;
}

/* ---- taking over what is cached ---- */

/* Whether so much of a policy's tokens is missing that sharing pays. The last one is always fed: its logits are wanted. */
static bool misses_much(const struct genarm_session *s, int32_t policy) {
    const struct timeline *t = &s->timelines[policy];
    return t->n - 1 - t->n_cached >= MIN_SHARED && speculation_runs(s, policy);
}

/* Copies the longest beginning of a policy's tokens that another slot's sequence holds. */
static int take_over(struct genarm_session *s, int32_t policy, struct genarm_error *err) {
    struct genarm_guide *g = s->guide;
    struct timeline *t = &s->timelines[policy];
    int32_t from = -1, most = t->n_cached + MIN_SHARED - 1;
    for (int32_t i = 0; i < g->params.n_slots; i++) {
        const struct timeline *f = g->slots[i].timelines ? &g->slots[i].timelines[policy] : NULL;
        if (f && i != s->slot && timeline_exact(f) > most && same_preference(&f->preference, &t->preference)) {
            const int32_t same = common(t->tokens, f->tokens, smaller(timeline_exact(f), t->n - 1));
            from = same > most ? i : from;
            most = same > most ? same : most;
        }
    }
    if (from < 0) {
        return GENARM_OK;
    }
    struct engine *e = g->engines[g->policies[policy].engine].engine;
    const int rc = engine_copy_prefix(e, guide_seq(g, policy, from), guide_seq(g, policy, s->slot), most, err);
    g->stats.n_reused += rc == GENARM_OK ? most - t->n_cached : 0;
    if (policy == 0) {
        s->n_reused = rc != GENARM_OK ? 0 : s->n_reused + smaller(most, t->n_given) - smaller(t->n_cached, t->n_given);
    }
    t->n_cached = rc == GENARM_OK ? most : 0;
    return rc;
}

int session_take_over(struct genarm_session *s, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (int32_t p = 0; p < s->guide->n_policies && rc == GENARM_OK && !s->guide->params.no_sharing; p++) {
        rc = misses_much(s, p) ? take_over(s, p, err) : GENARM_OK;
    }
    return rc;
}

static int take_over_all(struct genarm_session **sessions, size_t n, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        rc = session_take_over(sessions[i], err);
    }
    return rc;
}

/* ---- evaluating once what several need ---- */

/* What the sessions of a step evaluate for one another. Arrays are [n, n_policies]: of session i under policy p from
 * i * n_policies + p. */
struct plan {
    struct genarm_session **sessions; /* [n] */
    size_t n, n_policies;
    int32_t *until; /* tokens that are to be cached for others to copy; 0: no more than are */
    bool *follows;  /* a session before it evaluates something for it */
};

/* Sets how far session i evaluates for those after it. Returns how many rows that saves. */
static int64_t lead(struct plan *plan, size_t i, int32_t p) {
    const struct timeline *t = &plan->sessions[i]->timelines[p];
    int32_t *until = &plan->until[i * plan->n_policies + (size_t)p];
    int64_t saved = 0;
    for (size_t k = i + 1; k < plan->n; k++) {
        const struct timeline *f = &plan->sessions[k]->timelines[p];
        bool *follows = &plan->follows[k * plan->n_policies + (size_t)p];
        if (*follows || !misses_much(plan->sessions[k], p) || !same_preference(&t->preference, &f->preference)) {
            continue;
        }
        const int32_t same = common(t->tokens, f->tokens, smaller(t->n, f->n) - 1);
        const int32_t cached = t->n_cached > f->n_cached ? t->n_cached : f->n_cached;
        if (same - cached >= MIN_SHARED) {
            *follows = true;
            *until = same > *until ? same : *until;
            saved += same - f->n_cached;
        }
    }
    return saved;
}

/* Plans a pass of one engine. Returns how many rows it saves. */
static int64_t plan_pass(struct plan *plan, int32_t engine) {
    const struct genarm_guide *g = plan->sessions[0]->guide;
    int64_t saved = 0;
    memset(plan->until, 0, plan->n * plan->n_policies * sizeof *plan->until);
    memset(plan->follows, 0, plan->n * plan->n_policies * sizeof *plan->follows);
    for (int32_t p = 0; p < g->n_policies; p++) {
        for (size_t i = 0; i < plan->n && g->policies[p].engine == engine; i++) {
            const bool leads = misses_much(plan->sessions[i], p) && plan->sessions[i]->timelines[p].moved == 0 &&
                               !plan->follows[i * plan->n_policies + (size_t)p];
            saved += leads ? lead(plan, i, p) : 0;
        }
    }
    return saved;
}

/* The pass itself. */
static int run_pass(const struct plan *plan, int32_t engine, struct genarm_error *err) {
    struct genarm_guide *g = plan->sessions[0]->guide;
    size_t n_rows = 0;
    for (size_t at = 0; at < plan->n * plan->n_policies; at++) {
        n_rows += (size_t)plan->until[at];
    }
    int rc = guide_reserve(g, n_rows, 0, err);
    n_rows = 0;
    for (size_t at = 0; at < plan->n * plan->n_policies && rc == GENARM_OK; at++) {
        struct genarm_session *s = plan->sessions[at / plan->n_policies];
        const int32_t p = (int32_t)(at % plan->n_policies);
        for (int32_t pos = s->timelines[p].n_cached; pos < plan->until[at]; pos++) {
            session_push_row(s, p, g->policies[p].adapter_index, pos, false, g->rows, &n_rows);
        }
    }
    rc = rc == GENARM_OK ? guide_forward(g, engine, n_rows, NULL, err) : rc;
    for (size_t at = 0; at < plan->n * plan->n_policies && rc == GENARM_OK; at++) {
        struct timeline *t = &plan->sessions[at / plan->n_policies]->timelines[at % plan->n_policies];
        t->n_cached = plan->until[at] ? plan->until[at] : t->n_cached;
    }
    return rc;
}

int sessions_share(struct genarm_session **sessions, size_t n, struct genarm_error *err) {
    const struct genarm_guide *g = sessions[0]->guide;
    if (g->params.no_sharing) {
        return GENARM_OK;
    }
    const size_t n_policies = (size_t)g->n_policies;
    struct plan plan = {.sessions = sessions,
                        .n = n,
                        .n_policies = n_policies,
                        .until = calloc(n * n_policies, sizeof *plan.until),
                        .follows = calloc(n * n_policies, sizeof *plan.follows)};
    int rc = plan.until && plan.follows ? take_over_all(sessions, n, err) : error_nomem(err, "a step");
    for (int32_t e = 0; e < g->n_engines; e++) {
        while (rc == GENARM_OK && plan_pass(&plan, e) >= MIN_SAVED) { /* again for what some share beyond what all do */
            rc = run_pass(&plan, e, err);
            rc = rc == GENARM_OK ? take_over_all(sessions, n, err) : rc;
        }
    }
    free(plan.until);
    free(plan.follows);
    return rc;
}
