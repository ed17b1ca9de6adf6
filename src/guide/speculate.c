#include "guide/speculate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/progress.h"
#include "guide/combine.h"
#include "guide/lookup.h"

struct genarm_draft_params genarm_draft_default_params(void) {
    return (struct genarm_draft_params){.weights = NULL, .n_max = 16, .n_min = 0, .n_lookup = 3};
}

/* ---- life ---- */

static int check_params(const struct genarm_guide *g, const struct genarm_draft_params *p, struct genarm_error *err) {
    if (p->n_max < 1 || p->n_max > DRAFT_MAX || p->n_min < 0 || p->n_min > p->n_max) {
        return error_set(err, GENARM_EINVAL, "drafts of %d to %d tokens: lengths go from 0 to %d, the larger one from 1",
                         p->n_min, p->n_max, DRAFT_MAX);
    }
    if (p->n_lookup < 1) {
        return error_set(err, GENARM_EINVAL, "%d tokens cannot be looked up", p->n_lookup);
    }
    bool any = !p->weights;
    for (int32_t i = 0; p->weights && i <= genarm_guide_n_arms(g); i++) {
        if (!(p->weights[i] >= 0.0f) || !isfinite(p->weights[i])) {
            return error_set(err, GENARM_EINVAL, "weight %g of %s in the draft is not a finite number >= 0",
                             (double)p->weights[i], g->policies[i].name);
        }
        any = any || p->weights[i] > 0.0f;
    }
    return any ? GENARM_OK : error_set(err, GENARM_EINVAL, "all weights of the draft are 0");
}

static int speculation_new(struct speculation **out, const struct genarm_guide *g, const struct genarm_draft_params *params,
                           struct genarm_error *err) {
    const size_t n_vocab = (size_t)g->policies[0].model->hp.n_vocab;
    struct speculation *sp = calloc(1, sizeof *sp);
    if (!sp) {
        return error_nomem(err, "a draft");
    }
    sp->params = *params;
    sp->looks_up = !params->weights;
    if (params->weights) {
        memcpy(sp->weights, params->weights, (size_t)(genarm_guide_n_arms(g) + 1) * sizeof *sp->weights);
        sp->params.weights = sp->weights;
    }
    sp->mixtures = sp->looks_up ? NULL : malloc((size_t)params->n_max * n_vocab * sizeof *sp->mixtures);
    sp->p = malloc(n_vocab * sizeof *sp->p);
    sp->q = malloc(n_vocab * sizeof *sp->q);
    if ((!sp->looks_up && !sp->mixtures) || !sp->p || !sp->q) {
        speculation_free(sp);
        return error_nomem(err, "a draft");
    }
    pace_init(&sp->pace);
    *out = sp;
    return GENARM_OK;
}

void speculation_free(struct speculation *sp) {
    if (sp) {
        free(sp->mixtures);
        free(sp->p);
        free(sp->q);
        free(sp);
    }
}

int genarm_session_set_draft(struct genarm_session *s, const struct genarm_draft_params *params, struct genarm_error *err) {
    struct speculation *sp = NULL;
    if (params && s->guide->lookahead) {
        const int rc = error_set(err, GENARM_EINVAL, "a guide that looks ahead of every token cannot draft several");
        return error_hint(err, rc, "use no draft with ARGS or Transfer Q*");
    }
    int rc = params ? check_params(s->guide, params, err) : GENARM_OK;
    if (rc == GENARM_OK && params) {
        rc = speculation_new(&sp, s->guide, params, err);
    }
    if (rc == GENARM_OK) {
        session_drop_ahead(s);
        rc = session_reserve(s, params ? params->n_max : 0, err);
    }
    if (rc != GENARM_OK) {
        speculation_free(sp);
        return rc;
    }
    if (sp && s->speculation) {
        sp->stats = s->speculation->stats;
    }
    speculation_free(s->speculation);
    s->speculation = sp;
    return GENARM_OK;
}

void genarm_session_get_draft_stats(const struct genarm_session *s, struct genarm_draft_stats *out) {
    const struct speculation *sp = s->speculation;
    *out = sp ? sp->stats : (struct genarm_draft_stats){0};
    if (sp) {
        out->break_even = pace_break_even(&sp->pace, &s->guide->costs, sp->params.n_max);
    }
}

/* ---- planning ---- */

/* Tokens from here on are unknown to a policy that drafts, or that would have to verify them. */
static int32_t vocab_in_common(const struct genarm_session *s) {
    int32_t n = s->guide->policies[0].model->hp.n_vocab;
    for (int32_t p = 0; p < s->guide->n_policies; p++) {
        const int32_t own = s->guide->policies[p].model->hp.n_vocab;
        n = (session_counts(s, p, s->speculation->n_wanted + 1) || speculation_drafts(s->speculation, p)) && own < n ? own : n;
    }
    return n;
}

/* Whether all that draft know the answer so far. */
static bool can_be_fed(const struct genarm_session *s) {
    for (int32_t p = 0; p < s->guide->n_policies; p++) {
        if (speculation_drafts(s->speculation, p) && session_unknown_token(s, p) >= 0) {
            return false;
        }
    }
    return true;
}

/* Most tokens that a session can draft now: the pass needs one place more. */
static int32_t most(const struct genarm_session *s) {
    const int32_t left = genarm_session_n_left(s) - 1, wanted = s->speculation->params.n_max;
    return !can_be_fed(s) ? 0 : left < wanted ? left : wanted;
}

void speculation_plan(struct genarm_session **sessions, size_t n) {
    struct company company = {0};
    for (size_t i = 0; i < n; i++) {
        company.n_drafting += sessions[i]->speculation != NULL;
        company.n_plain += sessions[i]->speculation == NULL;
    }
    for (size_t i = 0; i < n; i++) {
        struct speculation *sp = sessions[i]->speculation;
        if (sp) {
            const int32_t n_max = most(sessions[i]);
            const int32_t n_min = sp->params.n_min < n_max ? sp->params.n_min : n_max;
            sp->n_wanted = pace_choose(&sp->pace, &sessions[i]->guide->costs, company, n_min, n_max);
            sp->n_known = 0;
        }
    }
}

void speculation_expect(struct genarm_session *s) {
    struct speculation *sp = s->speculation;
    if (sp) {
        const int32_t n_max = most(s);
        sp->n_wanted = n_max > 0 ? n_max : 0;
        sp->n_known = 0;
    }
}

bool speculation_runs(const struct genarm_session *s, int32_t policy) {
    const int32_t wanted = speculation_wanted(s->speculation);
    return s->guide->policies[policy].ahead || session_counts(s, policy, wanted + 1) ||
           (wanted > 0 && speculation_drafts(s->speculation, policy));
}

/* ---- drafting ---- */

static bool wants_more(const struct genarm_session *s) {
    const struct timeline *t = &s->timelines[0];
    if (s->n_ahead >= s->speculation->n_wanted) {
        return false;
    }
    return s->n_ahead == 0 || !genarm_token_ends(s->guide->policies[0].model, t->tokens[t->n + s->n_ahead - 1]);
}

static void look_up(struct genarm_session *s) {
    const struct timeline *t = &s->timelines[0];
    struct speculation *sp = s->speculation;
    const int32_t n_common = vocab_in_common(s);
    int32_t found[DRAFT_MAX];
    const double start = clock_seconds();
    const int32_t n = lookup_draft(t->tokens, t->n, sp->params.n_lookup, found, sp->n_wanted);
    for (int32_t i = 0; i < n && found[i] < n_common && wants_more(s); i++) {
        session_put_ahead(s, found[i]);
    }
    if (n > 0) {
        pace_drafted(&sp->pace, (clock_seconds() - start) / n);
    }
}

/* Mixes the logits of the draft's policies at position k: as combine does, with the first one's weight taken out and put
 * back, and nothing for tokens that cannot be fed. */
static int mix_draft(struct genarm_session *s, int32_t k, float *out, struct genarm_error *err) {
    const struct genarm_guide *g = s->guide;
    const struct speculation *sp = s->speculation;
    const float *const *logits = s->logits + (size_t)k * (size_t)g->n_policies;
    const int32_t n_vocab = g->policies[0].model->hp.n_vocab, n_common = vocab_in_common(s);
    struct part parts[GUIDE_MAX_POLICIES] = {{0}};
    size_t n_parts = 0;
    float first = 0.0f;
    for (int32_t p = 0; p < g->n_policies; p++) {
        if (speculation_drafts(sp, p)) {
            first = n_parts == 0 ? sp->weights[p] : first;
            parts[n_parts++] = (struct part){.logits = logits[p], .n = (size_t)n_common, .weight = sp->weights[p] / first};
        }
    }
    const bool ok = combine(out, parts, n_parts);
    for (int32_t t = 0; t < n_vocab; t++) {
        out[t] = t < n_common ? out[t] * first : -INFINITY;
    }
    for (int32_t p = g->n_policies - 1; p >= 0 && !ok; p--) {
        if (speculation_drafts(sp, p) && !isfinite(log_sum_exp(logits[p], (size_t)n_common))) {
            return session_not_finite(s, p, err);
        }
    }
    return ok ? GENARM_OK : error_set(err, GENARM_EINVAL, "the draft's weights are so large that it is not finite");
}

/* Draws one token from the draft's logits after the last one ahead. */
static int draw_draft(struct genarm_session *s, struct genarm_error *err) {
    struct speculation *sp = s->speculation;
    float *mixture = sp->mixtures + (size_t)s->n_ahead * (size_t)s->guide->policies[0].model->hp.n_vocab;
    const int rc = mix_draft(s, s->n_ahead, mixture, err);
    if (rc == GENARM_OK) {
        sp->n_known = s->n_ahead + 1;
        session_put_ahead(s, sampler_draw(&s->sampler, mixture));
    }
    return rc;
}

/* One more token for each of the sessions. */
static int draft_one(struct genarm_session **sessions, size_t n, float **logits, struct genarm_error *err) {
    const double start = clock_seconds();
    struct feed feed = {.role = FEED_DRAFT, .logits = *logits};
    int rc = session_feed(sessions, n, &feed, err);
    *logits = feed.logits;
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        draw_draft(sessions[i], &sessions[i]->failure);
    }
    for (size_t i = 0; i < n && feed.catch_up <= CATCH_UP_MAX; i++) {
        pace_drafted(&sessions[i]->speculation->pace, clock_seconds() - start);
    }
    return rc;
}

int speculation_draft(struct genarm_session **sessions, size_t n, float **logits, struct genarm_error *err) {
    struct genarm_session **active = calloc(n, sizeof(struct genarm_session *));
    size_t n_active = 0;
    int rc = active ? GENARM_OK : error_nomem(err, "a draft");
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        const struct speculation *sp = sessions[i]->speculation;
        if (sp && sp->looks_up) {
            look_up(sessions[i]);
        } else if (sp && sp->n_wanted > 0) {
            active[n_active++] = sessions[i];
        }
    }
    while (n_active > 0 && rc == GENARM_OK) {
        rc = draft_one(active, n_active, logits, err);
        size_t kept = 0;
        for (size_t i = 0; i < n_active; i++) {
            if (active[i]->failure.code == GENARM_OK && wants_more(active[i])) {
                active[kept++] = active[i];
            }
        }
        n_active = kept;
    }
    free(active);
    return rc;
}

/* ---- verifying ---- */

static float *mixture_at(const struct genarm_session *s, int32_t k) {
    return s->mixtures + (size_t)k * (size_t)s->guide->policies[0].model->hp.n_vocab;
}

static const float *const *logits_at(const struct genarm_session *s, int32_t k) {
    return s->logits + (size_t)k * (size_t)s->guide->n_policies;
}

/* The mixture after the last token and k drafted ones. */
static int mix_at(struct genarm_session *s, int32_t k, struct genarm_error *err) {
    return session_mix(s, genarm_session_n_tokens(s) + k, logits_at(s, k), mixture_at(s, k), err);
}

/* Whether drafted token k is kept; if not, *token is what takes its place. p is what tokens are to be drawn from, q what the
 * draft was drawn from: kept with probability min(1, p / q), else drawn in proportion to max(p - q, 0). */
static bool keep(struct genarm_session *s, int32_t k, int32_t *token) {
    struct speculation *sp = s->speculation;
    const int32_t n_vocab = s->guide->policies[0].model->hp.n_vocab;
    sampler_distribution(&s->sampler, mixture_at(s, k), sp->p);
    if (sp->looks_up) { /* all of q is on the one token */
        memset(sp->q, 0, (size_t)n_vocab * sizeof *sp->q);
        sp->q[*token] = 1.0f;
    } else {
        sampler_distribution(&s->sampler, sp->mixtures + (size_t)k * (size_t)n_vocab, sp->q);
    }
    if (rng_uniform(&s->sampler.rng) * (double)sp->q[*token] < (double)sp->p[*token]) {
        return true;
    }
    for (int32_t t = 0; t < n_vocab; t++) {
        sp->q[t] = sp->p[t] > sp->q[t] ? sp->p[t] - sp->q[t] : 0.0f;
    }
    *token = sampler_draw_from(&s->sampler, sp->q);
    if (*token < 0) { /* p = q but for rounding */
        *token = sampler_draw_from(&s->sampler, sp->p);
    }
    return false;
}

int speculation_mix(struct genarm_session *s, struct genarm_error *err) { return mix_at(s, 0, err); }

int speculation_verify(struct genarm_session *s, struct genarm_error *err) {
    const int rc = speculation_mix(s, err);
    return rc == GENARM_OK ? speculation_accept(s, err) : rc;
}

int speculation_accept(struct genarm_session *s, struct genarm_error *err) {
    const struct timeline *t = &s->timelines[0];
    const int32_t n_drafted = s->n_ahead;
    int32_t n_kept = 0, token = -1;
    int rc = GENARM_OK;
    while (rc == GENARM_OK && n_kept < n_drafted) {
        token = t->tokens[t->n + n_kept];
        if (!keep(s, n_kept, &token)) {
            break;
        }
        rc = mix_at(s, ++n_kept, err);
    }
    if (rc != GENARM_OK) {
        return rc;
    }
    if (n_kept == n_drafted) {
        token = sampler_draw(&s->sampler, mixture_at(s, n_kept));
    }
    s->n_ahead = n_kept;
    session_put_ahead(s, token);
    s->n_handed = 0;
    for (int32_t k = 0; k < s->n_ahead; k++) {
        session_take_logprobs(s, t->tokens[t->n + k], logits_at(s, k), mixture_at(s, k), &s->steering.logprobs[k]);
    }
    if (s->speculation) {
        struct speculation *sp = s->speculation;
        const int32_t n_tested = n_kept + (n_kept < n_drafted);
        pace_tested(&sp->pace, n_tested, n_kept);
        sp->n_wanted = sp->n_known = 0;
        sp->stats.n_passes++;
        sp->stats.n_drafted += n_drafted;
        sp->stats.n_tested += n_tested;
        sp->stats.n_accepted += n_kept;
    }
    return GENARM_OK;
}
