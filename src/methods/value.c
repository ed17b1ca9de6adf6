/* Value guidance as its callers see it, the policies that it needs, and the values themselves. */
#include "methods/value.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "guide/reward.h"

enum { ROLLOUT_MAX = 4096 };

struct genarm_value_params genarm_value_default_params(void) {
    return (struct genarm_value_params){.weight = 1.0f, .n_candidates = 10, .beta = 2.0f};
}

void genarm_session_get_work(const struct genarm_session *s, struct genarm_work *out) { *out = s->work; }

/* ---- what is asked for ---- */

static int check_numbers(const struct genarm_value_params *p, struct genarm_error *err) {
    if (p->n_candidates < 1) {
        return error_set(err, GENARM_EINVAL, "%d candidates: there must be one at least", p->n_candidates);
    }
    if (!isfinite(p->weight)) {
        return error_set(err, GENARM_EINVAL, "weight %g of the reward model is not a finite number", (double)p->weight);
    }
    if (p->n_rollout < 0 || p->n_rollout > ROLLOUT_MAX) {
        return error_set(err, GENARM_EINVAL, "roll-outs of %d tokens: lengths go from 0 to %d", p->n_rollout, ROLLOUT_MAX);
    }
    if (p->indirect && !(p->beta > 0.0f && isfinite(p->beta))) {
        return error_set(err, GENARM_EINVAL, "beta %g is not a finite number above 0", (double)p->beta);
    }
    return GENARM_OK;
}

static int check_baseline(const struct genarm_guide *g, const struct genarm_value_params *p, struct genarm_error *err) {
    if ((p->baseline || p->indirect) && p->n_rollout == 0) {
        const int rc = error_set(err, GENARM_EINVAL, "a baseline is of no use without roll-outs");
        return error_hint(err, rc, "roll some tokens out: 20, or 5 with an indirect one, are what was published");
    }
    if (p->baseline && p->baseline->model != g->policies[0].model) {
        return error_set(err, GENARM_EINVAL, "the baseline of roll-outs was loaded for another model than the base");
    }
    if (p->baseline && p->baseline->info.head) {
        const int rc = error_set(err, GENARM_EINVAL, "the adapter is a reward model of whole responses: it rolls nothing out");
        return error_at(err, rc, "%s", p->baseline->path);
    }
    if (p->indirect && !p->baseline && !g->policies[0].adapter) {
        const int rc = error_set(err, GENARM_EINVAL, "the baseline is the model itself: there is nothing to weigh it against");
        return error_hint(err, rc, "give an adapter that was aligned with another reward as the baseline");
    }
    return GENARM_OK;
}

static const char *reward_template(const struct genarm_value_params *p) {
    return p->template_name ? p->template_name : p->adapter->info.template_;
}

static int check(const struct genarm_guide *g, const struct genarm_value_params *p, int32_t *n_known, struct genarm_error *err) {
    if (g->engines[0].engine) {
        return error_set(err, GENARM_EINVAL, "value guidance is set before the first session");
    }
    if (!p->model || !p->adapter) {
        return error_set(err, GENARM_EINVAL, "value guidance needs a reward model: a model and an adapter with a head");
    }
    int rc = check_numbers(p, err);
    rc = rc == GENARM_OK ? reward_check(p->model, p->adapter, err) : rc;
    rc = rc == GENARM_OK ? check_baseline(g, p, err) : rc;
    *n_known = g->policies[0].model->hp.n_vocab;
    if (rc == GENARM_OK && p->model != g->policies[0].model) {
        rc = error_at(err, model_vocab_compare(g->policies[0].model, p->model, n_known, err), "%s", p->adapter->path);
    }
    return rc == GENARM_OK ? guide_check_template(p->model, reward_template(p), err) : rc;
}

/* ---- policies ---- */

/* The baseline's policy, the guide's own if it is that. */
static int add_baseline(struct value *v, struct genarm_guide *g, int32_t k, struct genarm_error *err) {
    struct genarm_arm_params baseline = {.name = "the baseline", .model = g->policies[0].model, .adapter = v->params.baseline};
    const bool own = baseline.adapter && baseline.adapter != g->policies[0].adapter;
    int rc = GENARM_OK;
    if (own) {
        baseline.template_name = guide_template(g, &baseline);
        rc = guide_add_policy(g, &baseline, POLICY_AHEAD, err);
    }
    rc = rc == GENARM_OK ? branches_reserve(&v->baseline, g, own ? g->n_policies - 1 : 0, k, err) : rc;
    if (rc != GENARM_OK || !v->params.indirect) {
        return rc;
    }
    if (own) { /* what decoding starts from is what the baseline was aligned away from */
        return branches_reserve(&v->reference, g, 0, k, err);
    }
    const struct genarm_arm_params model = {.name = "the baseline's model", .model = g->policies[0].model,
                                            .template_name = g->policies[0].template_name};
    rc = guide_add_policy(g, &model, POLICY_AHEAD, err);
    return rc == GENARM_OK ? branches_reserve(&v->reference, g, g->n_policies - 1, k, err) : rc;
}

static int start(struct lookahead *l, struct genarm_guide *g, struct genarm_error *err) {
    struct value *v = (struct value *)l;
    const int32_t n_vocab = g->policies[0].model->hp.n_vocab;
    const int32_t k = v->params.n_candidates < n_vocab ? v->params.n_candidates : n_vocab;
    const struct genarm_arm_params reward = {.name = "the reward model", .model = v->params.model, .adapter = v->params.adapter,
                                             .template_name = v->template_name};
    if (v->params.weight == 0.0f || v->state == VALUE_STARTED) {
        return GENARM_OK;
    }
    if (v->state == VALUE_FAILED) { /* some of its policies are there */
        return error_nomem(err, "value guidance");
    }
    int rc = guide_add_policy(g, &reward, POLICY_AHEAD_HIDDEN, err);
    rc = rc == GENARM_OK ? branches_reserve(&v->reward, g, g->n_policies - 1, k, err) : rc;
    rc = rc == GENARM_OK && v->params.n_rollout > 0 ? add_baseline(v, g, k, err) : rc;
    v->state = rc == GENARM_OK ? VALUE_STARTED : VALUE_FAILED;
    return rc;
}

static void value_free(struct lookahead *l) {
    struct value *v = (struct value *)l;
    branches_deinit(&v->reward);
    branches_deinit(&v->baseline);
    branches_deinit(&v->reference);
    free(v->template_name);
    free(v->out);
    free(v);
}

/* ---- values ---- */

int value_reserve(struct value *v, size_t n, struct genarm_error *err) {
    if (n > v->out_max) {
        float *out = realloc(v->out, n * sizeof *out);
        if (!out) {
            return error_nomem(err, "the values of candidates");
        }
        v->out = out;
        v->out_max = n;
    }
    return GENARM_OK;
}

/* Indirect: the reward, weighed by how much likelier the roll-out would be under a policy that was aligned with it. */
static double value_of(const struct value *v, const struct continuation *next, double reward) {
    return v->params.indirect ? exp(reward / (double)v->params.beta - next->log_ratio) * reward : reward;
}

static int not_finite(const struct value *v, struct genarm_error *err) {
    const int rc = error_set(err, GENARM_EFORMAT, "the reward model computes rewards that are not finite");
    error_at(err, rc, "%s", v->params.adapter->path);
    return error_hint(err, rc, "the adapter or its model is damaged");
}

static void take_values(const struct value *v, struct look *look, const float **hidden) {
    const int32_t n_embd = v->params.model->hp.n_embd;
    for (int32_t c = 0; c < look->n; c++, *hidden += n_embd) {
        const double reward = reward_of(v->params.adapter->info.head, *hidden, n_embd);
        look->next[c].value = value_of(v, &look->next[c], reward);
        if (!isfinite(reward)) {
            not_finite(v, &look->s->failure);
        }
    }
}

/* The reward model reads all continuations, in one batch. */
static int evaluate(struct value *v, struct look *looks, size_t n, struct genarm_error *err) {
    struct genarm_guide *g = looks[0].s->guide;
    size_t n_rows = 0, n_outputs = 0;
    int rc = branches_level(&v->reward, looks, n, err);
    for (size_t i = 0; i < n; i++) {
        for (int32_t c = 0; c < looks[i].n; c++) {
            n_rows += (size_t)looks[i].next[c].n;
            n_outputs++;
        }
    }
    rc = rc == GENARM_OK ? guide_reserve(g, n_rows, 0, err) : rc;
    rc = rc == GENARM_OK ? value_reserve(v, n_outputs * (size_t)v->params.model->hp.n_embd, err) : rc;
    n_rows = 0;
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        for (int32_t c = 0; c < looks[i].n; c++) {
            for (int32_t t = 0; t < looks[i].next[c].n; t++) {
                g->rows[n_rows++] = branches_row(&v->reward, &looks[i], c, t, t == looks[i].next[c].n - 1);
            }
        }
    }
    rc = rc == GENARM_OK ? guide_forward(g, g->policies[v->reward.policy].engine, n_rows, v->out, err) : rc;
    const float *hidden = v->out;
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        for (int32_t c = 0; c < looks[i].n; c++) {
            branches_went_on(&v->reward, &looks[i], c);
        }
        take_values(v, &looks[i], &hidden);
    }
    return rc;
}

static int steer(struct lookahead *l, struct genarm_session **sessions, size_t n, struct genarm_error *err) {
    struct value *v = (struct value *)l;
    struct look *looks = NULL;
    int rc = looks_new(&looks, v, sessions, n, err);
    if (rc == GENARM_OK && v->baseline.policy >= 0) {
        rc = roll_out(v, looks, n, err);
    }
    if (rc == GENARM_OK && v->reward.policy >= 0) {
        rc = evaluate(v, looks, n, err);
    }
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        if (sessions[i]->failure.code == GENARM_OK) {
            look_score(&looks[i], v, &sessions[i]->failure);
        }
    }
    looks_free(looks);
    return rc;
}

/* ---- setting it ---- */

static const struct lookahead_vtable value_vtable = {.start = start, .steer = steer, .free = value_free};

int genarm_guide_set_value(struct genarm_guide *g, const struct genarm_value_params *params, struct genarm_error *err) {
    int32_t n_known = 0;
    const int rc = check(g, params, &n_known, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    if (params->weight == 0.0f) { /* nobody is asked */
        n_known = g->policies[0].model->hp.n_vocab;
    }
    const char *template_name = reward_template(params);
    struct value *v = calloc(1, sizeof *v);
    if (!v) {
        return error_nomem(err, "value guidance");
    }
    *v = (struct value){.lookahead = {.vtable = &value_vtable}, .params = *params, .n_known = n_known,
                        .reward.policy = -1, .baseline.policy = -1, .reference.policy = -1};
    v->template_name = template_name ? strdup(template_name) : NULL;
    if (template_name && !v->template_name) {
        value_free(&v->lookahead);
        return error_nomem(err, "value guidance");
    }
    if (g->lookahead) {
        g->lookahead->vtable->free(g->lookahead);
    }
    g->lookahead = &v->lookahead;
    return GENARM_OK;
}
