#include "rl/rollout.h"

#include <stdlib.h>

#include "guide/session.h"
#include "model/spell.h"

enum { TEXT_MAX_BYTES = 192 << 20 };

/* ---- life ---- */

int rollout_init(struct rollout *r, const struct genarm_model *model, const struct trainable *adapter,
                 const struct genarm_rl_params *p, int32_t n_ctx, struct genarm_error *err) {
    const size_t n = (size_t)p->n_parallel;
    *r = (struct rollout){.sampling = {.temperature = (float)p->temperature,
                                       .top_k = p->top_k,
                                       .top_p = (float)p->top_p,
                                       .min_p = (float)p->min_p},
                          .max_new_tokens = p->max_new_tokens,
                          .n_parallel = p->n_parallel,
                          .sessions = calloc(n, sizeof(struct genarm_session *)),
                          .running = calloc(n, sizeof(struct response *)),
                          .drawn = calloc(n, sizeof *r->drawn)};
    if (!r->sessions || !r->running || !r->drawn) {
        rollout_deinit(r);
        return error_nomem(err, "sampling");
    }
    trainable_adapter(&r->policy, adapter, model);
    struct genarm_guide_params params = genarm_guide_default_params();
    params.n_slots = p->n_parallel;
    params.n_ctx = n_ctx;
    params.n_threads = p->training.n_threads;
    params.kv_type = p->kv_f32 ? GENARM_KV_F32 : GENARM_KV_F16;
    params.template_name = p->training.template_name;
    params.base_adapter = &r->policy;
    const int rc = genarm_guide_new(&r->guide, model, &params, err);
    if (rc != GENARM_OK) {
        rollout_deinit(r);
    }
    return rc;
}

void rollout_deinit(struct rollout *r) {
    genarm_guide_free(r->guide);
    free(r->sessions);
    free(r->running);
    free(r->drawn);
    *r = (struct rollout){0};
}

void response_deinit(struct response *r) {
    free(r->tokens);
    buf_deinit(&r->text);
    *r = (struct response){0};
}

/* ---- sampling ---- */

static int start(struct rollout *r, size_t slot, struct response *response, struct genarm_error *err) {
    struct genarm_sampling sampling = r->sampling;
    sampling.seed = response->seed;
    response->n = 0;
    response->tokens = malloc((size_t)r->max_new_tokens * sizeof *response->tokens);
    if (!response->tokens) {
        return error_nomem(err, "a response");
    }
    int rc = genarm_session_new(&r->sessions[slot], r->guide, &sampling, err);
    if (rc == GENARM_OK) {
        r->running[slot] = response;
        rc = genarm_session_prompt(r->sessions[slot], response->prompt->messages, response->prompt->n_messages, err);
    }
    return error_at(err, rc, "%s", response->prompt->where);
}

/* Ends what is finished and closes the gaps. *n_running sessions before and after. */
static int collect(struct rollout *r, size_t *n_running, struct genarm_error *err) {
    const struct genarm_model *model = r->guide->policies[0].model;
    size_t kept = 0;
    int rc = GENARM_OK;
    for (size_t i = 0; i < *n_running && rc == GENARM_OK; i++) {
        struct response *response = r->running[i];
        response->tokens[response->n++] = r->drawn[i];
        response->finished = genarm_token_ends(model, r->drawn[i]);
        if (response->finished || response->n == r->max_new_tokens) {
            buf_init(&response->text, TEXT_MAX_BYTES);
            rc = spell_sample(&response->text, model, response->tokens, (size_t)response->n, err);
            response_unlead(&response->text, r->sessions[i]->lead);
            genarm_session_free(r->sessions[i]);
            r->sessions[i] = NULL;
        } else {
            struct genarm_session *session = r->sessions[i];
            r->sessions[i] = NULL;
            r->sessions[kept] = session;
            r->running[kept++] = response;
        }
    }
    if (rc == GENARM_OK) {
        *n_running = kept;
    }
    return rc;
}

int rollout_sample(struct rollout *r, struct response *responses, size_t n, int (*each)(size_t n_done, void *user),
                   void *user, struct genarm_error *err) {
    size_t n_started = 0, n_running = 0;
    int rc = guide_refresh_adapters(r->guide, err);
    while (rc == GENARM_OK && (n_started < n || n_running > 0)) {
        while (rc == GENARM_OK && n_started < n && n_running < (size_t)r->n_parallel) {
            rc = start(r, n_running, &responses[n_started++], err);
            n_running++;
        }
        if (rc == GENARM_OK) {
            rc = genarm_sessions_step(r->sessions, n_running, r->drawn, err);
        }
        if (rc == GENARM_OK) {
            rc = collect(r, &n_running, err);
        }
        if (rc == GENARM_OK && each) {
            rc = each(n_started - n_running, user);
        }
    }
    for (int32_t i = 0; i < r->n_parallel; i++) {
        genarm_session_free(r->sessions[i]);
        r->sessions[i] = NULL;
    }
    return rc;
}
