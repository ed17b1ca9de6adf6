#include "rl/batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* ---- construction ---- */

static int add_pair(struct data *d, const struct response *r, int64_t number, struct genarm_error *err) {
    const struct rl_prompt *prompt = r[0].prompt;
    const size_t n_prompt = (size_t)prompt->n_tokens, n[] = {(size_t)r[0].n, (size_t)r[1].n};
    const size_t needed = d->n_tokens + n_prompt + n[0] + n[1];
    int32_t *grown = realloc(d->tokens, needed * sizeof *grown);
    if (!grown) {
        return error_nomem(err, "the responses of a step");
    }
    d->tokens = grown;
    struct pair *pair = &d->pairs[d->n_pairs++];
    *pair = (struct pair){.first = d->n_tokens,
                          .n_prompt = prompt->n_tokens,
                          .n_response = {r[0].n, r[1].n},
                          .line = number};
    memcpy(d->tokens + d->n_tokens, prompt->tokens, n_prompt * sizeof *grown);
    memcpy(d->tokens + d->n_tokens + n_prompt, r[0].tokens, n[0] * sizeof *grown);
    memcpy(d->tokens + d->n_tokens + n_prompt + n[0], r[1].tokens, n[1] * sizeof *grown);
    d->n_tokens = needed;
    return GENARM_OK;
}

static int make_packs(struct batch *b, int32_t micro_batch, int32_t max_rows, struct genarm_error *err) {
    const int32_t n = (int32_t)b->data.n_pairs;
    int rc = GENARM_OK;
    for (int32_t done = 0, count; done < n && rc == GENARM_OK; done += count) {
        count = pack_count(&b->data, b->order + done, n - done, PACK_BOTH, micro_batch, max_rows);
        rc = pack_init(&b->packs[b->n_packs], &b->data, b->order + done, count, PACK_BOTH, err);
        if (rc == GENARM_OK) {
            b->n_scored += (size_t)b->packs[b->n_packs++].n_scored;
        }
    }
    return rc;
}

static int make_arrays(struct batch *b, const struct response *responses, struct genarm_error *err) {
    b->logp = calloc(b->n_scored, sizeof *b->logp);
    b->reference = calloc(b->n_scored, sizeof *b->reference);
    if (!b->logp || !b->reference) {
        return error_nomem(err, "the responses of a step");
    }
    for (size_t i = 0, at = 0; i < b->n_responses; i++) {
        b->first[i] = at;
        b->responses[i] = (struct objective_response){.n = responses[i].n, .reference = b->reference + at};
        at += (size_t)responses[i].n;
    }
    return GENARM_OK;
}

int batch_init(struct batch *b, const struct response *responses, size_t n, int32_t micro_batch, int32_t max_rows,
               struct genarm_error *err) {
    const size_t n_pairs = n / SIDES;
    *b = (struct batch){.n_responses = n,
                        .data.pairs = calloc(n_pairs, sizeof *b->data.pairs),
                        .order = calloc(n_pairs, sizeof *b->order),
                        .packs = calloc(n_pairs, sizeof *b->packs),
                        .first = calloc(n, sizeof *b->first),
                        .responses = calloc(n, sizeof *b->responses)};
    int rc = b->data.pairs && b->order && b->packs && b->first && b->responses
                 ? GENARM_OK
                 : error_nomem(err, "the responses of a step");
    for (size_t i = 0; i < n_pairs && rc == GENARM_OK; i++) {
        b->order[i] = (uint32_t)i;
        rc = add_pair(&b->data, responses + SIDES * i, (int64_t)(SIDES * i), err);
    }
    if (rc == GENARM_OK) {
        rc = make_packs(b, micro_batch, max_rows, err);
    }
    if (rc == GENARM_OK) {
        rc = make_arrays(b, responses, err);
    }
    if (rc != GENARM_OK) {
        batch_deinit(b);
    }
    return rc;
}

void batch_deinit(struct batch *b) {
    for (size_t i = 0; i < b->n_packs; i++) {
        pack_deinit(&b->packs[i]);
    }
    data_deinit(&b->data);
    free(b->order);
    free(b->packs);
    free(b->first);
    free(b->logp);
    free(b->reference);
    free(b->responses);
    *b = (struct batch){0};
}

/* ---- passes ---- */

/* Responses of a micro-batch: the first one, and how many. */
static size_t first_response(const struct pack *p) { return (size_t)p->pairs[0]->line; }
static size_t n_responses(const struct pack *p) { return SIDES * (size_t)p->n_pairs; }

static int check_finite(const struct batch *b, const struct pack *p, const float *logp, size_t *culprit,
                        struct genarm_error *err) {
    const size_t first = first_response(p);
    for (size_t i = first; i < first + n_responses(p); i++) {
        for (int32_t k = 0; k < b->responses[i].n; k++, logp++) {
            if (!isfinite(*logp)) {
                *culprit = i;
                return error_set(err, GENARM_EDIVERGED, "the log-probability of a token is %f", (double)*logp);
            }
        }
    }
    return GENARM_OK;
}

int batch_forward(struct batch *b, struct backprop *backprop, enum batch_pass pass, size_t *culprit, int (*each)(void *user),
                  void *user, struct genarm_error *err) {
    float *to = pass == BATCH_POLICY ? b->logp : b->reference;
    const struct backprop_job job = {.gradient = false};
    int rc = GENARM_OK;
    for (size_t i = 0; i < b->n_packs && rc == GENARM_OK; i++) {
        const struct pack *p = &b->packs[i];
        rc = pass == BATCH_POLICY ? backprop_run(backprop, p, &job, NULL, err) : backprop_reference(backprop, p, NULL, err);
        if (rc == GENARM_OK) {
            memcpy(to, backprop_logp(backprop), (size_t)p->n_scored * sizeof *to);
            rc = check_finite(b, p, to, culprit, err);
            to += p->n_scored;
        }
        if (rc == GENARM_OK && each) {
            rc = each(user);
        }
    }
    return rc;
}

/* One micro-batch under the objective, for the graph's node. */
struct view {
    struct batch *batch;
    const struct batch_job *job;
    struct batch_result *result; /* NULL: only derivatives are wanted */
};

/* Calls the objective on every response of the micro-batch with these log-probabilities. */
static void apply(const struct view *v, const struct pack *p, const float *logp, float *derivatives) {
    struct batch_result result = {0};
    const size_t first = first_response(p);
    for (size_t i = first; i < first + n_responses(p); i++) {
        struct objective_response r = v->batch->responses[i];
        r.logp = logp;
        r.old = v->job->first ? NULL : v->batch->logp + v->batch->first[i];
        result.loss += objective_loss(v->job->objective, &r, derivatives, &result.clipped);
        logp += r.n;
        derivatives = derivatives ? derivatives + r.n : NULL;
    }
    if (v->result) {
        v->result->loss += result.loss;
        v->result->clipped += result.clipped;
    }
}

static void derivatives(const struct pack *p, const float *logp, float *out, void *user) { apply(user, p, logp, out); }

int batch_backward(struct batch *b, struct backprop *backprop, const struct batch_job *job, struct batch_result *result,
                   size_t *culprit, int (*each)(void *user), void *user, struct genarm_error *err) {
    struct view only = {.batch = b, .job = job}, counted = {.batch = b, .job = job, .result = result};
    struct backprop_job run = {
        .gradient = true, .seed = job->seed, .step = job->step, .derivatives = derivatives, .user = &only};
    float *to = b->logp;
    int rc = GENARM_OK;
    *result = (struct batch_result){0};
    for (size_t i = 0; i < b->n_packs && rc == GENARM_OK; i++, run.step++) {
        const struct pack *p = &b->packs[i];
        rc = backprop_run(backprop, p, &run, NULL, err);
        if (rc == GENARM_OK) {
            rc = check_finite(b, p, backprop_logp(backprop), culprit, err);
        }
        if (rc == GENARM_OK) {
            apply(&counted, p, backprop_logp(backprop), NULL);
        }
        if (rc == GENARM_OK && job->fill) {
            memcpy(to, backprop_logp(backprop), (size_t)p->n_scored * sizeof *to);
            to += p->n_scored;
        }
        if (rc == GENARM_OK && each) {
            rc = each(user);
        }
    }
    return rc;
}

double batch_log_ratio(const struct batch *b, size_t response) {
    const struct objective_response *r = &b->responses[response];
    const float *logp = b->logp + b->first[response];
    double sum = 0;
    for (int32_t i = 0; i < r->n; i++) {
        sum += (double)logp[i] - r->reference[i];
    }
    return sum;
}
