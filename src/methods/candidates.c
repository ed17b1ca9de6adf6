/* The candidates of a step, and the distribution that their scores make. */
#include <math.h>
#include <stdlib.h>

#include "methods/value.h"

static int32_t at_most(int32_t a, int32_t b) { return a < b ? a : b; }

void continuation_push(struct continuation *next, const struct value *v, const struct genarm_model *base, int32_t token) {
    const int32_t eos = genarm_token_eos(v->params.model);
    next->ended = genarm_token_ends(base, token);
    next->tokens[next->n++] = next->ended && eos >= 0 ? eos : token;
}

int looks_new(struct look **out, const struct value *v, struct genarm_session **sessions, size_t n, struct genarm_error *err) {
    const struct genarm_model *base = sessions[0]->guide->policies[0].model;
    const size_t k = (size_t)at_most(v->params.n_candidates, base->hp.n_vocab), length = 1 + (size_t)v->params.n_rollout;
    struct look *looks = calloc(1, n * (sizeof *looks + k * (sizeof *looks->next + length * sizeof(int32_t))));
    if (!looks) {
        return error_nomem(err, "the candidates of a step");
    }
    struct continuation *next = (struct continuation *)(looks + n);
    int32_t *tokens = (int32_t *)(next + n * k);
    for (size_t i = 0; i < n; i++) {
        struct genarm_session *s = sessions[i];
        const int32_t room = at_most(genarm_session_n_left(s), (int32_t)length);
        looks[i] = (struct look){.s = s, .next = next + i * k, .room = room};
        looks[i].n = sampler_foremost(&s->sampler, s->mixtures, at_most(v->n_known, base->hp.n_vocab), (int32_t)k);
        for (int32_t c = 0; c < looks[i].n; c++) {
            const struct candidate *candidate = &s->sampler.candidates[c];
            looks[i].next[c] = (struct continuation){.candidate = candidate->token, .logp = candidate->p,
                                                     .tokens = tokens + (i * k + (size_t)c) * length};
            continuation_push(&looks[i].next[c], v, base, candidate->token);
        }
        if (looks[i].n == 0) {
            error_set(&s->failure, GENARM_EINVAL, "the reward model knows none of the tokens that may follow");
        }
    }
    *out = looks;
    return GENARM_OK;
}

void looks_free(struct look *looks) { free(looks); }

int look_score(const struct look *look, const struct value *v, struct genarm_error *err) {
    struct genarm_session *s = look->s;
    double best = -INFINITY, sum = 0;
    for (int32_t c = 0; c < look->n; c++) {
        struct continuation *next = &look->next[c];
        next->score = (double)next->logp + (double)v->params.weight * next->value;
        if (!isfinite(next->score)) {
            const int rc = error_set(err, GENARM_EINVAL, "the weighted value of a candidate, %g, is not finite", next->value);
            return error_hint(err, rc, v->params.indirect ? "lower the weight, or raise beta" : "lower the weight");
        }
        best = next->score > best ? next->score : best;
    }
    for (int32_t c = 0; c < look->n; c++) {
        sum += exp(look->next[c].score - best);
    }
    for (int32_t t = 0; t < s->guide->policies[0].model->hp.n_vocab; t++) {
        s->mixtures[t] = -INFINITY;
    }
    for (int32_t c = 0; c < look->n; c++) {
        s->mixtures[look->next[c].candidate] = (float)(look->next[c].score - best - log(sum));
    }
    return GENARM_OK;
}
