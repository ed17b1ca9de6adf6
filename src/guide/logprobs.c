#include "guide/logprobs.h"

#include <math.h>
#include <stdlib.h>

#include "base/error.h"
#include "guide/combine.h"

int logprobs_reserve(struct logprobs *c, int32_t n_top, int32_t n_arms, struct genarm_error *err) {
    const size_t n = (size_t)(n_top + 1);
    struct genarm_token_logprob *items = calloc(n + 1, sizeof *items);
    float *arms = calloc(n * (size_t)n_arms + 1, sizeof *arms);
    if (!items || !arms) {
        free(items);
        free(arms);
        return error_nomem(err, "log-probabilities");
    }
    logprobs_deinit(c);
    for (size_t i = 0; i < n; i++) {
        items[i].arms = arms + i * (size_t)n_arms;
    }
    *c = (struct logprobs){.n_top = n_top, .n_arms = n_arms, .items = items, .arms = arms};
    return GENARM_OK;
}

void logprobs_deinit(struct logprobs *c) {
    free(c->items);
    free(c->arms);
    *c = (struct logprobs){.n_top = -1};
}

/* Inserts a token into the sorted items[1 .. n), which hold n_top at most. Ties go to the lower id, which came first. */
static void insert(struct logprobs *c, int32_t token, float logp) {
    size_t at = c->n;
    if (at <= (size_t)c->n_top) {
        c->n++;
    } else {
        at--;
    }
    for (; at > 1 && c->items[at - 1].guided < logp; at--) {
        c->items[at].token = c->items[at - 1].token;
        c->items[at].guided = c->items[at - 1].guided;
    }
    c->items[at].token = token;
    c->items[at].guided = logp;
}

void logprobs_take(struct logprobs *c, int32_t token, const float *logp, size_t n_vocab, const struct part_logits *parts) {
    c->items[0].token = token;
    c->items[0].guided = logp[token];
    c->n = 1;
    for (size_t t = 0; t < n_vocab && c->n_top > 0; t++) {
        const bool full = c->n > (size_t)c->n_top;
        if (logp[t] > (full ? c->items[c->n - 1].guided : -INFINITY)) {
            insert(c, (int32_t)t, logp[t]);
        }
    }
    for (int32_t p = 0; p <= c->n_arms; p++) {
        const float z = log_sum_exp(parts[p].logits, parts[p].n);
        for (size_t i = 0; i < c->n; i++) {
            const size_t t = (size_t)c->items[i].token;
            float *out = p == 0 ? &c->items[i].base : &c->arms[i * (size_t)c->n_arms + (size_t)(p - 1)];
            *out = t < parts[p].n ? parts[p].logits[t] - z : -INFINITY;
        }
    }
}
