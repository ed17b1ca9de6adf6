/* What the server says about itself: health, metrics, properties, models, slots. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/progress.h"
#include "serve/api.h"

/* What is shutting down is not healthy, so that who hands out requests looks elsewhere. */
void api_health(struct http_call *call, void *user) {
    struct server *s = user;
    if (atomic_load(&s->stopping)) {
        http_reply_error(call, 503, "unavailable_error", NULL, "the server is shutting down");
    } else if (api_model_of(s, call)) {
        api_reply(call, json_pack("{s:s}", "status", "ok"));
    }
}

void api_metrics(struct http_call *call, void *user) {
    struct server *s = user;
    struct genarm_error err;
    struct buf text;
    const struct serve_model *m = s->p.metrics ? api_model_of(s, call) : NULL;
    if (!s->p.metrics) {
        http_reply_error(call, 501, "not_supported_error", NULL, "this server does not support metrics: start it with --metrics");
    }
    if (!m) {
        return;
    }
    struct counters_state state = {.n_slots = m->n_slots, .n_connections = http_server_n_connections(s->http),
                                  .uptime = clock_seconds() - s->started};
    worker_load(s->worker, &state.n_running, &state.n_queued, &state.n_busy);
    buf_init(&text, 1 << 24);
    if (counters_write(s->counters, &state, &text, &err) == GENARM_OK) {
        http_reply(call, 200, "text/plain; version=0.0.4; charset=utf-8", text.data, text.len);
    } else {
        api_error(call, &err);
    }
    buf_deinit(&text);
}

/* ---- properties ---- */

static json_t *sampling_json(const struct serve_model *m) {
    return json_pack("{s:o, s:i, s:o, s:o, s:i}", "temperature", api_float(m->sampling.temperature), "top_k",
                     (int)m->sampling.top_k, "top_p", api_float(m->sampling.top_p), "min_p", api_float(m->sampling.min_p),
                     "n_predict", (int)m->n_predict);
}

void api_props(struct http_call *call, void *user) {
    struct server *s = user;
    struct genarm_model_info info;
    const struct serve_model *m = api_model_of(s, call);
    if (!m) {
        return;
    }
    genarm_model_get_info(m->base, &info);
    json_t *chat_template = m->template_name     ? text_json(m->template_name)
                            : info.chat_template ? text_json(info.chat_template)
                                                 : json_null();
    api_reply(call, json_pack("{s:{s:i, s:o}, s:i, s:s, s:o, s:o, s:s, s:o}", "default_generation_settings", "n_ctx",
                              (int)m->n_ctx, "params", sampling_json(m), "total_slots", (int)m->n_slots, "model_alias", s->alias,
                              "model", text_json(m->file), "chat_template", chat_template, "build_info", "genarm " GENARM_VERSION,
                              "arms", api_arms_json(s)));
}

/* ---- models ---- */

static json_t *model_json(struct server *s, const struct serve_model *m) {
    struct genarm_model_info info;
    json_t *arms = json_array();
    genarm_model_get_info(m->base, &info);
    for (size_t i = 0; i < m->n_arms && arms; i++) {
        json_array_append_new(arms, json_string(m->arms[i].name));
    }
    return json_pack("{s:s, s:s, s:I, s:s, s:{s:i, s:i, s:i, s:I, s:I, s:i, s:o}}", "id", s->alias, "object", "model", "created",
                     (json_int_t)s->created, "owned_by", "genarm", "meta", "n_vocab", info.n_vocab, "n_ctx_train",
                     info.n_ctx_train, "n_embd", info.n_embd, "n_params", (json_int_t)info.n_params, "size",
                     (json_int_t)info.size, "n_ctx", (int)m->n_ctx, "arms", arms);
}

void api_models(struct http_call *call, void *user) {
    const struct serve_model *m = api_model_of(user, call);
    if (m) {
        api_reply(call, json_pack("{s:s, s:[o]}", "object", "list", "data", model_json(user, m)));
    }
}

void api_model(struct http_call *call, void *user) {
    struct server *s = user;
    const struct serve_model *m = api_model_of(s, call);
    if (m && strcmp(http_call_param(call), s->alias) == 0) {
        api_reply(call, model_json(s, m));
    } else if (m) {
        http_reply_error(call, 404, NULL, "model", "there is no such model here: this server has '%s'", s->alias);
    }
}

/* ---- slots ---- */

static json_t *slots_json(struct server *s, const struct serve_model *m) {
    json_t *list = json_array();
    struct slot_facts *slots = calloc((size_t)m->n_slots, sizeof *slots);
    float *weights = calloc((size_t)m->n_slots * m->n_arms + 1, sizeof *weights);
    if (slots && weights) {
        worker_slots(s->worker, slots, weights);
    }
    for (int32_t i = 0; i < m->n_slots && slots && weights; i++) {
        const struct slot_facts *f = &slots[i];
        json_t *arms = f->busy ? api_weights_json(m, weights + (size_t)i * m->n_arms) : json_object();
        json_array_append_new(list, json_pack("{s:i, s:i, s:b, s:s?, s:i, s:i, s:o}", "id", (int)i, "n_ctx", (int)m->n_ctx,
                                              "is_processing", (int)f->busy, "id_task", f->busy ? f->id : NULL, "n_prompt_tokens",
                                              (int)f->n_prompt, "n_decoded", (int)f->n_decoded, "arms", arms));
    }
    free(slots);
    free(weights);
    return list;
}

void api_slots(struct http_call *call, void *user) {
    struct server *s = user;
    if (!s->p.slots) {
        http_reply_error(call, 501, "not_supported_error", NULL,
                         "this server does not show its slots: it was started with --no-slots");
        return;
    }
    const struct serve_model *m = api_model_of(s, call);
    if (m) {
        api_reply(call, slots_json(s, m));
    }
}
