/* The distribution that a token is drawn from: what each policy counts, the gate, the mixture, biases and grammar. */
#include <math.h>

#include "guide/combine.h"
#include "guide/grammar.h"
#include "guide/speculate.h"

/* A sum of hidden states with more may be too large for types of which the scale is in f16. */
static const float largest_share = 256.0f;

/* The weight of an ARM policy at a position. */
static float weight_at(const struct genarm_session *s, int32_t policy, int32_t pos) {
    return s->weights[policy] * knots_factor(&s->steering.schedules[policy - 1], pos);
}

float session_coefficient(const struct genarm_session *s, int32_t policy, int32_t pos) {
    float c = policy == 0 ? 1.0f : policy <= s->guide->n_arms ? weight_at(s, policy, pos) : 0.0f;
    for (int32_t arm = 1; arm <= s->guide->n_arms; arm++) {
        if (s->references[arm] == policy) {
            c -= weight_at(s, arm, pos);
        }
    }
    return c;
}

bool session_counts(const struct genarm_session *s, int32_t policy, int32_t n) {
    const int32_t next = genarm_session_n_tokens(s);
    if (policy == 0 || (policy <= s->guide->n_arms && s->steering.n_top >= 0)) {
        return true;
    }
    for (int32_t pos = next; pos < next + n; pos++) {
        if (session_coefficient(s, policy, pos) != 0.0f) {
            return true;
        }
    }
    return false;
}

/* ---- mixing before the head ---- */

float session_share(const struct genarm_session *s, int32_t policy, int32_t pos) {
    return session_coefficient(s, policy, pos) / session_coefficient(s, 0, pos);
}

/* Whether a policy has a share, and a sensible one, of every position of the pass. */
static bool has_shares(const struct genarm_session *s, int32_t policy) {
    const int32_t next = genarm_session_n_tokens(s);
    for (int32_t pos = next; pos <= next + s->n_ahead; pos++) {
        const float share = fabsf(session_share(s, policy, pos));
        if (!(share > 0.0f && share <= largest_share)) {
            return false;
        }
    }
    return true;
}

bool session_mixes_early(const struct genarm_session *s) {
    const struct policy *policies = s->guide->policies;
    int32_t n = 0;
    if (s->steering.n_top >= 0 || s->steering.min_entropy > 0.0f) {
        return false;
    }
    for (int32_t p = 0; p < s->guide->n_policies; p++) {
        if (session_counts(s, p, s->n_ahead + 1)) {
            if (policies[p].engine != policies[0].engine || speculation_known(s->speculation, p) > 0 || !has_shares(s, p)) {
                return false;
            }
            n++;
        }
    }
    return n > 1 && engine_mixes(s->guide->engines[policies[0].engine].engine, n);
}

static size_t vocab_of(const struct genarm_session *s, int32_t policy) {
    return (size_t)s->guide->policies[policy].model->hp.n_vocab;
}

/* ---- what can be wrong ---- */

int session_not_finite(const struct genarm_session *s, int32_t policy, struct genarm_error *err) {
    const struct policy *p = &s->guide->policies[policy];
    const int rc = error_set(err, GENARM_EFORMAT, "the model computes logits that are not finite");
    error_at(err, rc, "%s", p->adapter ? p->adapter->path : p->model->path);
    return error_hint(err, rc, p->adapter ? "the adapter or its model is damaged, or its alpha is too large"
                                          : "its weights are damaged: copy or convert the file again");
}

/* Why a mixture of those policies is no distribution. The base is named last: what overflows in an adapter shows in other rows
 * of its batch. */
static int mix_failed(const struct genarm_session *s, int32_t pos, const float *const *logits, struct genarm_error *err) {
    for (int32_t p = s->guide->n_policies - 1; p >= 0; p--) {
        if ((p == 0 || session_coefficient(s, p, pos) != 0.0f) && logits[p] &&
            !isfinite(log_sum_exp(logits[p], vocab_of(s, p)))) {
            return session_not_finite(s, p, err);
        }
    }
    return error_set(err, GENARM_EINVAL, "the weights of the reward models are so large that the mixture is not finite");
}

/* ---- the mixture ---- */

/* The base alone where it is surer than the gate asks for. */
static bool gate_is_shut(const struct genarm_session *s, const float *base) {
    const float least = s->steering.min_entropy;
    return least > 0.0f && !(entropy(base, vocab_of(s, 0)) >= least);
}

static int mix_parts(const struct genarm_session *s, int32_t pos, const float *const *logits, float *out,
                     struct genarm_error *err) {
    struct part parts[GUIDE_MAX_POLICIES];
    const bool alone = gate_is_shut(s, logits[0]);
    size_t n_parts = 0;
    for (int32_t p = 0; p < s->guide->n_policies; p++) {
        const float c = alone ? (p == 0 ? 1.0f : 0.0f) : session_coefficient(s, p, pos);
        if ((p == 0 || c != 0.0f) && logits[p]) { /* or the engine has added it to the base */
            parts[n_parts++] = (struct part){.logits = logits[p], .n = vocab_of(s, p), .weight = c};
        }
    }
    return combine(out, parts, n_parts) ? GENARM_OK : mix_failed(s, pos, logits, err);
}

/* The grammar's state before answer token `pos`: that of the tokens given, moved on by those between, or by all where the state
 * is of an earlier generation; and the tokens that may come next, unless `allowed` is NULL. */
static int follow_grammar(const struct genarm_session *s, int32_t pos, int32_t *state, const uint8_t **allowed,
                          struct genarm_error *err) {
    const struct steering *st = &s->steering;
    const struct timeline *t = &s->timelines[0];
    const bool stale = st->grammar_generation != grammar_generation(st->grammar);
    const int32_t from = stale ? st->grammar_from : st->grammar_pos;
    int rc = GENARM_OK;
    if (from < pos && t->n_prompt + from < t->n_given) { /* an answer that was shifted, then saved or its states dropped */
        rc = error_set(err, GENARM_EINVAL, "the start of the answer was forgotten: whether it follows the grammar is unknown");
        return error_hint(err, rc, "set the grammar again: it then begins with the next token");
    }
    *state = stale ? GRAMMAR_START : st->grammar_state;
    for (int32_t i = from; i < pos && rc == GENARM_OK; i++) {
        rc = grammar_advance(st->grammar, state, t->tokens[t->n_prompt + i], err);
    }
    return rc == GENARM_OK && allowed ? grammar_allowed(st->grammar, *state, allowed, err) : rc;
}

/* The same; a grammar that is full begins anew. */
static int grammar_at(const struct genarm_session *s, int32_t pos, int32_t *state, const uint8_t **allowed,
                      struct genarm_error *err) {
    int rc = follow_grammar(s, pos, state, allowed, err);
    if (rc == GRAMMAR_FULL) {
        grammar_restart(s->steering.grammar);
        rc = follow_grammar(s, pos, state, allowed, err);
    }
    return rc == GRAMMAR_FULL ? grammar_is_full(err) : rc;
}

/* Forbids what the grammar does not allow. */
static int apply_grammar(const struct genarm_session *s, int32_t pos, float *out, struct genarm_error *err) {
    int32_t state;
    const uint8_t *allowed = NULL; /* one bit a token */
    grammar_lock(s->steering.grammar); /* other sessions may have the same */
    const int rc = grammar_at(s, pos, &state, &allowed, err);
    for (size_t t = 0; t < vocab_of(s, 0) && rc == GENARM_OK; t++) {
        if (!(allowed[t / 8] >> (t % 8) & 1)) {
            out[t] = -INFINITY;
        }
    }
    grammar_unlock(s->steering.grammar);
    return rc;
}

int session_mix(struct genarm_session *s, int32_t pos, const float *const *logits, float *out, struct genarm_error *err) {
    const struct steering *st = &s->steering;
    int rc = mix_parts(s, pos, logits, out, err);
    if (rc != GENARM_OK || (!st->n_biases && !st->grammar)) {
        return rc;
    }
    steering_add_bias(st, out);
    if (st->grammar) {
        rc = apply_grammar(s, pos, out, err);
    }
    if (rc != GENARM_OK || normalize(out, vocab_of(s, 0))) {
        return rc;
    }
    return error_set(err, GENARM_EINVAL, "token %d of the answer: %s", pos + 1,
                     st->grammar ? "the grammar allows no token that the model can give"
                                 : "all tokens are forbidden by their bias");
}

/* ---- the token drawn from it ---- */

int session_settle(struct genarm_session *s, int32_t pos, struct genarm_error *err) {
    struct steering *st = &s->steering;
    int32_t state;
    const int rc = st->grammar ? grammar_at(s, pos, &state, NULL, err) : GENARM_OK;
    if (st->grammar && rc == GENARM_OK) {
        st->grammar_state = state;
        st->grammar_pos = pos;
        st->grammar_generation = grammar_generation(st->grammar);
    }
    return rc;
}

void session_take_logprobs(const struct genarm_session *s, int32_t token, const float *const *logits, const float *mixture,
                           struct logprobs *out) {
    struct part_logits parts[GUIDE_MAX_POLICIES];
    if (out->n_top < 0) {
        return;
    }
    for (int32_t p = 0; p <= s->guide->n_arms; p++) {
        parts[p] = (struct part_logits){logits[p], vocab_of(s, p)};
    }
    logprobs_take(out, token, mixture, vocab_of(s, 0), parts);
}
