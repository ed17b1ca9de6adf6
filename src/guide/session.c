/* Life, prompt and feeding of a session. Feeding: in one batch per engine, whatever the policies that count (session_counts)
 * have not cached yet, with logits after their last token. Prompts, single tokens, drafted tokens, a policy whose weight was 0
 * for a while, and several sessions at once are all the same case. Stepping is in step.c. */
#include <stdlib.h>
#include <string.h>

#include "guide/share.h"
#include "guide/speculate.h"

/* ---- life ---- */

int genarm_session_new(struct genarm_session **out, struct genarm_guide *g, const struct genarm_sampling *sampling,
                       struct genarm_error *err) {
    const struct genarm_sampling params = sampling ? *sampling : genarm_sampling_default();
    struct genarm_session *s = calloc(1, sizeof *s);
    if (!s) {
        return error_nomem(err, "a session");
    }
    s->guide = g;
    s->steering.n_top = -1;
    const int32_t n_vocab = g->policies[0].model->hp.n_vocab;
    int rc = guide_start(g, err);
    if (rc == GENARM_OK) {
        rc = slot_take(s, err);
    }
    if (rc == GENARM_OK) {
        rc = sampler_init(&s->sampler, &params, n_vocab, err);
    }
    for (int32_t i = 0; i < g->n_policies; i++) {
        s->weights[i] = g->policies[i].weight;
        s->references[i] = g->policies[i].reference;
        s->preferences[i] = g->policies[i].preference;
    }
    if (rc == GENARM_OK) {
        rc = session_reserve(s, 0, err);
    }
    if (rc != GENARM_OK) {
        genarm_session_free(s);
        return rc;
    }
    *out = s;
    return GENARM_OK;
}

void genarm_session_free(struct genarm_session *s) {
    if (!s) {
        return;
    }
    slot_leave(s);
    sampler_deinit(&s->sampler);
    speculation_free(s->speculation);
    steering_deinit(&s->steering);
    free(s->logits);
    free(s->mixtures);
    free(s);
}

int session_reserve(struct genarm_session *s, int32_t n, struct genarm_error *err) {
    const size_t room = (size_t)n + 1, n_vocab = (size_t)s->guide->policies[0].model->hp.n_vocab;
    const float **logits = malloc(room * (size_t)s->guide->n_policies * sizeof *logits);
    float *mixtures = malloc(room * n_vocab * sizeof *mixtures);
    int rc = logits && mixtures ? GENARM_OK : error_nomem(err, "a session");
    if (rc == GENARM_OK) {
        rc = steering_reserve(&s->steering, (int32_t)room, s->steering.n_top, genarm_guide_n_arms(s->guide), err);
    }
    if (rc != GENARM_OK) {
        free(logits);
        free(mixtures);
        return rc;
    }
    free(s->logits);
    free(s->mixtures);
    s->logits = logits;
    s->mixtures = s->logp = mixtures;
    s->n_handed = 0;
    return GENARM_OK;
}

void session_drop_ahead(struct genarm_session *s) {
    for (int32_t p = 0; p < s->guide->n_policies && s->n_ahead > 0; p++) { /* else what the slot holds for a prompt stays */
        struct timeline *t = &s->timelines[p];
        t->n_cached = t->n_cached < t->n ? t->n_cached : t->n;
    }
    s->n_ahead = 0;
}

void session_forget_cache(struct genarm_session *s) {
    struct genarm_guide *g = s->guide;
    session_drop_ahead(s);
    for (int32_t p = 0; p < g->n_policies; p++) {
        s->timelines[p].n_cached = s->timelines[p].moved = 0;
        engine_clear(g->engines[g->policies[p].engine].engine, guide_seq(g, p, s->slot));
    }
    for (int32_t e = 0; e < g->n_engines; e++) {
        for (int32_t i = 0; i < g->engines[e].n_branches; i++) {
            engine_clear(g->engines[e].engine, guide_branch_seq(g, e, s->slot, i));
        }
    }
    s->n_reused = 0;
}

void session_put_ahead(struct genarm_session *s, int32_t token) {
    for (int32_t p = 0; p < s->guide->n_policies; p++) {
        struct timeline *t = &s->timelines[p];
        t->tokens[t->n + s->n_ahead] = token;
        t->n_cached = t->n_cached < t->n + s->n_ahead ? t->n_cached : t->n + s->n_ahead;
    }
    s->n_ahead++;
}

void timeline_prefer(struct timeline *t, const struct objective_weights *p) {
    if (memcmp(&t->preference, p, sizeof *p) != 0) {
        t->n_cached = t->moved = 0;
        t->preference = *p;
    }
}

int genarm_session_set_weight(struct genarm_session *s, int32_t i, float weight, struct genarm_error *err) {
    if (i < 0 || i >= genarm_guide_n_arms(s->guide)) {
        return error_set(err, GENARM_EINVAL, "there is no ARM %d", i);
    }
    const int rc = guide_check_weight(weight, err);
    if (rc == GENARM_OK && weight != s->weights[i + 1]) {
        session_drop_ahead(s);
        s->weights[i + 1] = weight;
    }
    return rc;
}

int genarm_session_set_sampling(struct genarm_session *s, const struct genarm_sampling *sampling, struct genarm_error *err) {
    struct sampler sampler;
    const int rc = sampler_init(&sampler, sampling, s->sampler.n_vocab, err);
    if (rc == GENARM_OK) {
        session_drop_ahead(s);
        sampler_deinit(&s->sampler);
        s->sampler = sampler;
    }
    return rc;
}

int genarm_session_set_preference(struct genarm_session *s, int32_t i, const float *weights, size_t n,
                                  struct genarm_error *err) {
    struct objective_weights p;
    const int rc = guide_read_preference(s->guide, i, weights, n, &p, err);
    if (rc == GENARM_OK && memcmp(&p, &s->preferences[i + 1], sizeof p) != 0) {
        session_drop_ahead(s);
        s->preferences[i + 1] = p;
        timeline_prefer(&s->timelines[i + 1], &p);
    }
    return rc;
}

const float *genarm_session_preference(const struct genarm_session *s, int32_t i) {
    return policy_objectives(&s->guide->policies[i + 1]) ? s->preferences[i + 1].weights : NULL;
}

struct genarm_sampling genarm_session_sampling(const struct genarm_session *s) { return s->sampler.params; }
float genarm_session_weight(const struct genarm_session *s, int32_t i) { return s->weights[i + 1]; }
int32_t genarm_session_n_prompt(const struct genarm_session *s) { return s->timelines[0].n_given; }
int32_t genarm_session_n_left(const struct genarm_session *s) {
    int32_t longest = 0;
    for (int32_t p = 0; p < s->guide->n_policies; p++) {
        longest = s->timelines[p].n > longest ? s->timelines[p].n : longest;
    }
    return s->guide->params.n_ctx - longest;
}
int32_t genarm_session_n_tokens(const struct genarm_session *s) { return s->timelines[0].n - s->timelines[0].n_prompt; }

/* ---- the prompt ---- */

static void timeline_replace(struct timeline *t, const int32_t *tokens, int32_t n) {
    const int32_t exact = timeline_exact(t);
    int32_t same = 0;
    while (same < exact && same < n && t->tokens[same] == tokens[same]) {
        same++;
    }
    memcpy(t->tokens, tokens, (size_t)n * sizeof *tokens);
    t->n = t->n_prompt = t->n_given = n;
    t->n_cached = same;
    t->moved = 0;
}

/* Where the base saw the same prompt, it is the reference of an ARM on its model, whatever the templates are called. */
static void find_references(struct genarm_session *s) {
    const struct policy *policies = s->guide->policies;
    const struct timeline *base = &s->timelines[0];
    for (int32_t p = 1; p <= s->guide->n_arms; p++) {
        const struct timeline *t = &s->timelines[p];
        const bool same = policies[p].model == policies[0].model && !policies[0].adapter && t->n == base->n &&
                          memcmp(t->tokens, base->tokens, (size_t)t->n * sizeof *t->tokens) == 0;
        s->references[p] = policies[p].reference >= 0 && same ? 0 : policies[p].reference;
    }
}

/* `least`: "at least " where nobody has counted to the end. */
static int check_length(const struct genarm_guide *g, int32_t policy, const char *least, size_t n, struct genarm_error *err) {
    if (n < (size_t)g->params.n_ctx) {
        return GENARM_OK;
    }
    const int rc = error_set(err, GENARM_ECONTEXT, "the prompt has %s%zu tokens for %s, the context %d", least, n,
                             g->policies[policy].name, g->params.n_ctx);
    return error_hint(err, rc, "shorten the prompt or raise the context size (-c)");
}

/* Tokens that messages have at least. Only messages that are long are rendered for it. */
static size_t at_least(const struct policy *p, const struct genarm_message *messages, size_t n_messages, int32_t n_ctx) {
    size_t n_bytes = 0, n = 0;
    char *text = NULL;
    for (size_t i = 0; i < n_messages; i++) {
        n_bytes += messages[i].content ? strlen(messages[i].content) : 0;
    }
    const size_t longest = p->model->measure.longest;
    const bool is_long = longest > 0 && n_bytes / longest >= (size_t)n_ctx;
    if (is_long && genarm_template_apply(&text, p->model, p->template_name, messages, n_messages, NULL) == GENARM_OK) {
        n = vocab_at_least(&p->model->measure, text, strlen(text));
    }
    free(text);
    return n < INT32_MAX ? n : INT32_MAX;
}

int guide_prompt_tokens(const struct genarm_guide *g, const struct genarm_message *messages, size_t n_messages,
                        struct prompt_tokens *out, struct genarm_error *err) {
    for (int32_t i = 0; i < g->n_policies; i++) {
        const struct policy *p = &g->policies[i];
        out->n[i] = (int32_t)at_least(p, messages, n_messages, g->params.n_ctx);
        int rc = check_length(g, i, "at least ", (size_t)out->n[i], err);
        if (rc == GENARM_OK) {
            rc = template_tokens(&out->tokens[i], &out->n[i], p->model, p->template_name, messages, n_messages, err);
            rc = rc == GENARM_OK ? check_length(g, i, "", (size_t)out->n[i], err) : rc;
        }
        out->longest = out->n[i] > out->longest ? out->n[i] : out->longest;
        if (rc != GENARM_OK) {
            return rc;
        }
    }
    return GENARM_OK;
}

void prompt_tokens_deinit(struct prompt_tokens *p) {
    for (int32_t i = 0; i < GUIDE_MAX_POLICIES; i++) {
        free(p->tokens[i]);
    }
    *p = (struct prompt_tokens){0};
}

/* tokens[p] [n[p]] becomes the prompt of policy p. */
static int begin_prompt(struct genarm_session *s, const int32_t *const *tokens, const int32_t *n, struct genarm_error *err) {
    struct genarm_guide *g = s->guide;
    session_drop_ahead(s);
    const int rc = slot_choose(s, tokens, n, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    for (int32_t p = 0; p < g->n_policies; p++) {
        struct timeline *t = &s->timelines[p];
        timeline_prefer(t, &s->preferences[p]);
        timeline_replace(t, tokens[p], n[p]);
        t->n_cached = g->params.no_sharing ? 0 : t->n_cached;
        g->stats.n_reused += t->n_cached;
    }
    s->n_reused = s->timelines[0].n_cached < n[0] ? s->timelines[0].n_cached : n[0] - 1; /* the last one is fed in any case */
    find_references(s);
    steering_restart(&s->steering);
    return GENARM_OK;
}

int session_prompt_each(struct genarm_session *s, const struct prompt_tokens *p, struct genarm_error *err) {
    s->lead = template_lead(s->guide->policies[0].template_name);
    return begin_prompt(s, (const int32_t *const *)p->tokens, p->n, err);
}

int genarm_session_prompt(struct genarm_session *s, const struct genarm_message *messages, size_t n_messages,
                          struct genarm_error *err) {
    struct prompt_tokens prompt = {0};
    int rc = guide_prompt_tokens(s->guide, messages, n_messages, &prompt, err);
    rc = rc == GENARM_OK ? session_prompt_each(s, &prompt, err) : rc;
    prompt_tokens_deinit(&prompt);
    return rc;
}

int genarm_session_prompt_tokens(struct genarm_session *s, const int32_t *tokens, size_t n, struct genarm_error *err) {
    const struct genarm_guide *g = s->guide;
    const int32_t *each[GUIDE_MAX_POLICIES] = {0};
    int32_t n_each[GUIDE_MAX_POLICIES] = {0};
    if (n == 0) {
        return error_set(err, GENARM_EINVAL, "a prompt of no tokens");
    }
    const int rc = check_length(g, 0, "", n, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    s->lead = 0;
    for (int32_t p = 0; p < g->n_policies; p++) {
        const int32_t n_vocab = g->policies[p].model->hp.n_vocab;
        for (size_t i = 0; i < n; i++) {
            if (tokens[i] < 0 || tokens[i] >= n_vocab) {
                return error_set(err, GENARM_EINVAL, "token %d is outside the vocabulary of %s, which has %d", tokens[i],
                                 g->policies[p].name, n_vocab);
            }
        }
        each[p] = tokens;
        n_each[p] = (int32_t)n;
    }
    return begin_prompt(s, each, n_each, err);
}

int32_t genarm_session_n_reused(const struct genarm_session *s) { return s->n_reused; }

/* ---- feeding ---- */

static bool takes_part(const struct genarm_session *s, int32_t policy, enum feed_role role) {
    return role == FEED_DRAFT ? speculation_drafts(s->speculation, policy) : session_counts(s, policy, s->n_ahead + 1);
}

/* The first position whose logits a pass needs: that of the last token, or a later one where drafting gave them. */
static int32_t first_output(const struct genarm_session *s, int32_t policy) {
    return s->timelines[policy].n - 1 + speculation_known(s->speculation, policy);
}

/* Where to start feeding so that they are known: the last token is fed again if all are cached. */
static int32_t first_to_feed(const struct genarm_session *s, int32_t policy) {
    const int32_t output = first_output(s, policy), n_cached = s->timelines[policy].n_cached;
    return n_cached < output ? n_cached : output;
}

void session_count(struct genarm_session *s, int32_t policy, int64_t n) {
    const struct policy *p = &s->guide->policies[policy];
    int64_t *counter = policy == 0 ? &s->work.base : &s->work.arms;
    if (p->ahead) {
        counter = s->guide->engines[p->engine].hidden ? &s->work.value : &s->work.rollout;
    }
    *counter += n;
}

void session_push_row(struct genarm_session *s, int32_t policy, int32_t adapter, int32_t pos, bool output,
                      struct row *rows, size_t *n_rows) {
    rows[(*n_rows)++] = (struct row){.token = s->timelines[policy].tokens[pos], .seq = guide_seq(s->guide, policy, s->slot),
                                     .pos = pos, .adapter = adapter, .output = output,
                                     .factors = s->preferences[policy].factors};
    session_count(s, policy, 1);
}

/* Rows of one policy; its logits will go to `to`. Returns how many vectors of them there will be. */
static int32_t push_policy(struct genarm_session *s, int32_t policy, struct feed *feed, float *to, size_t *n_rows) {
    const struct genarm_guide *g = s->guide;
    const int32_t output = first_output(s, policy), start = first_to_feed(s, policy), n = s->timelines[policy].n;
    const size_t n_vocab = (size_t)g->policies[policy].model->hp.n_vocab;
    for (int32_t pos = start; pos < n + s->n_ahead; pos++) {
        session_push_row(s, policy, g->policies[policy].adapter_index, pos, pos >= output, g->rows, n_rows);
    }
    for (int32_t k = output - (n - 1); k <= s->n_ahead; k++) {
        s->logits[(size_t)k * (size_t)g->n_policies + (size_t)policy] = to;
        to += n_vocab;
    }
    feed->catch_up = output - start > feed->catch_up ? output - start : feed->catch_up;
    return n + s->n_ahead - output;
}

/* Rows of all policies that count, position by position: the base's, and behind it the others' shares of its output. They will go
 * to `to`. Returns how many outputs there will be. */
static int32_t push_mixture(struct genarm_session *s, struct feed *feed, float *to, size_t *n_rows) {
    const struct genarm_guide *g = s->guide;
    for (int32_t p = 0; p < g->n_policies; p++) {
        const int32_t last = s->timelines[p].n - 1, start = takes_part(s, p, feed->role) ? first_to_feed(s, p) : last;
        for (int32_t pos = start; pos < last; pos++) {
            session_push_row(s, p, g->policies[p].adapter_index, pos, false, g->rows, n_rows);
        }
        feed->catch_up = last - start > feed->catch_up ? last - start : feed->catch_up;
    }
    for (int32_t k = 0; k <= s->n_ahead; k++) {
        const float **logits = s->logits + (size_t)k * (size_t)g->n_policies;
        for (int32_t p = 0; p < g->n_policies; p++) {
            if (takes_part(s, p, feed->role)) {
                session_push_row(s, p, g->policies[p].adapter_index, s->timelines[p].n - 1 + k, true, g->rows, n_rows);
                g->rows[*n_rows - 1].share = p == 0 ? 0.0f : session_share(s, p, genarm_session_n_tokens(s) + k);
                logits[p] = p == 0 ? to : NULL;
            }
        }
        to += g->policies[0].model->hp.n_vocab;
    }
    return s->n_ahead + 1;
}

/* One engine's share of a batch. */
static int feed_engine(struct genarm_session **sessions, size_t n, int32_t engine, struct feed *feed,
                       struct genarm_error *err) {
    struct genarm_guide *g = sessions[0]->guide;
    const size_t n_vocab = (size_t)g->engines[engine].model->hp.n_vocab;
    float *to = feed->logits;
    size_t n_rows = 0;
    for (size_t i = 0; i < n; i++) {
        const bool mixed = feed->role == FEED_MIXTURE && session_mixes_early(sessions[i]);
        if (mixed && engine == g->policies[0].engine) {
            to += (size_t)push_mixture(sessions[i], feed, to, &n_rows) * n_vocab;
        }
        for (int32_t p = 0; p < g->n_policies && !mixed; p++) {
            if (g->policies[p].engine == engine && takes_part(sessions[i], p, feed->role)) {
                to += (size_t)push_policy(sessions[i], p, feed, to, &n_rows) * n_vocab;
            }
        }
    }
    int rc = guide_forward(g, engine, n_rows, feed->logits, err);
    feed->logits = to;
    for (size_t i = 0; i < n; i++) {
        for (int32_t p = 0; p < g->n_policies; p++) {
            struct timeline *t = &sessions[i]->timelines[p];
            if (g->policies[p].engine == engine && takes_part(sessions[i], p, feed->role)) {
                t->n_cached = rc == GENARM_OK ? t->n + sessions[i]->n_ahead : first_to_feed(sessions[i], p);
            }
        }
    }
    return rc;
}

int session_feed(struct genarm_session **sessions, size_t n, struct feed *feed, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (int32_t e = 0; e < sessions[0]->guide->n_engines && rc == GENARM_OK; e++) {
        rc = feed_engine(sessions, n, e, feed, err);
    }
    return rc;
}

int session_reserve_pass(struct genarm_session **sessions, size_t n, struct genarm_error *err) {
    struct genarm_guide *g = sessions[0]->guide;
    size_t n_rows = 0, n_logits = 0;
    for (size_t i = 0; i < n; i++) {
        const int32_t wanted = speculation_wanted(sessions[i]->speculation);
        n_logits += (size_t)(wanted + 1) * (size_t)g->policies[0].model->hp.n_vocab; /* mixed, and then perhaps apart as well */
        for (int32_t p = 0; p < g->n_policies; p++) {
            n_rows += (size_t)(sessions[i]->timelines[p].n - first_to_feed(sessions[i], p) + wanted);
            n_logits += (size_t)(wanted + 1) * (size_t)g->policies[p].model->hp.n_vocab;
        }
    }
    return guide_reserve(g, n_rows, n_logits, err);
}

/* ---- checks ---- */

int session_check(const struct genarm_session *s, struct genarm_error *err) {
    if (s->timelines[0].n == 0) {
        return error_set(err, GENARM_EINVAL, "the session has no prompt");
    }
    if (genarm_session_n_left(s) < 1) {
        return error_set(err, GENARM_ECONTEXT, "the context of %d tokens is full", s->guide->params.n_ctx);
    }
    return GENARM_OK;
}

int32_t session_unknown_token(const struct genarm_session *s, int32_t policy) {
    const struct timeline *t = &s->timelines[policy];
    const int32_t n_vocab = s->guide->policies[policy].model->hp.n_vocab;
    for (int32_t pos = t->n_cached; pos < t->n; pos++) {
        if (t->tokens[pos] >= n_vocab) {
            return t->tokens[pos];
        }
    }
    return -1;
}

int session_check_known(const struct genarm_session *s, struct genarm_error *err) {
    for (int32_t p = 0; p < s->guide->n_policies; p++) {
        const int32_t token = speculation_runs(s, p) ? session_unknown_token(s, p) : -1;
        if (token >= 0) {
            return error_set(err, GENARM_EINVAL, "%s does not know token %d, which was given while it had no weight",
                             s->guide->policies[p].name, token);
        }
    }
    return GENARM_OK;
}
