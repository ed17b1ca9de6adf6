/* A reward as a judge: the answer with the higher one wins. */
#include <math.h>
#include <stdlib.h>

#include "base/error.h"
#include "eval/judge_kinds.h"

struct judge_reward {
    struct genarm_source *source;
};

static int judge_reward_run(void *self, struct judge_round *r, size_t *at, struct genarm_error *err) {
    const struct judge_reward *j = self;
    int rc = GENARM_OK;
    for (size_t i = 0; i < r->batch->n && rc == GENARM_OK; i++) {
        const struct judge_pair *p = &r->batch->pairs[i];
        struct judge_verdict *v = &r->verdicts[i];
        const struct genarm_sample samples[2] = {
            {p->messages, p->n_messages, p->texts[0], p->finished[0], p->tokens[0], p->n_tokens[0]},
            {p->messages, p->n_messages, p->texts[1], p->finished[1], p->tokens[1], p->n_tokens[1]}};
        *at = i;
        rc = genarm_source_score(j->source, samples, 2, v->rewards, err);
        if (rc == GENARM_ECONTEXT) { /* no reward, no verdict: the others have theirs */
            v->rewards[0] = v->rewards[1] = NAN;
            v->too_long = true;
            rc = GENARM_OK;
        }
        if (rc == GENARM_OK) {
            const double margin = v->rewards[0] - v->rewards[1];
            v->outcome = isnan(margin)                      ? JUDGE_INVALID
                         : margin > r->params->tie_margin  ? JUDGE_A
                         : margin < -r->params->tie_margin ? JUDGE_B
                                                           : JUDGE_TIE;
            v->preference = v->outcome == JUDGE_INVALID ? NAN : v->outcome == JUDGE_A ? 2 : v->outcome == JUDGE_B ? 1 : 1.5;
            rc = r->batch->take(i, v, r->batch->user, err);
        }
    }
    if (rc == GENARM_OK) {
        *at = r->batch->n;
        rc = genarm_source_finish(j->source, err);
    }
    return rc;
}

static void judge_reward_free(void *self) {
    struct judge_reward *j = self;
    if (j) {
        genarm_source_free(j->source);
        free(j);
    }
}

static const struct judge_vtable judge_reward_vtable = {.run = judge_reward_run, .free = judge_reward_free};

int judge_reward_new(const struct judge_vtable **vtable, void **self, const char *spec, const struct genarm_model *base,
                     const struct judge_params *params, struct genarm_error *err) {
    struct judge_reward *j = calloc(1, sizeof *j);
    int rc = j ? genarm_source_new(&j->source, spec, base, &params->source, err) : error_nomem(err, "a judge");
    if (rc != GENARM_OK) {
        judge_reward_free(j);
        return rc;
    }
    *vtable = &judge_reward_vtable;
    *self = j;
    return GENARM_OK;
}
