/* See told.h. */
#include "serve/told.h"

#include <math.h>

#include "base/json.h"
#include "base/progress.h"
#include "model/spell.h"

json_t *told_number(float logp) {
    return json_real(!isfinite(logp) ? -9999.0 : logp < 0 ? (double)logp : 0); /* rounding may leave it just above 0 */
}

json_t *told_text(const struct choice *c) {
    return text_json_n(c->answer.text.data ? c->answer.text.data : "", c->answer.text.len);
}

json_t *told_parts(const struct serve_model *m, const struct genarm_token_logprob *t) {
    json_t *arms = json_object();
    for (size_t i = 0; i < m->n_arms && arms; i++) {
        json_object_set_new(arms, m->arms[i].name, told_number(t->arms[i]));
    }
    return json_pack("{s:o, s:o}", "base", told_number(t->base), "arms", arms);
}

json_t *told_bytes(const struct serve_model *m, int32_t token) {
    struct buf bytes;
    json_t *list = json_array();
    buf_init(&bytes, 1 << 20);
    if (spell_bytes(&bytes, m->base, token, false, NULL) == GENARM_OK) {
        for (size_t i = 0; i < bytes.len && list; i++) {
            json_array_append_new(list, json_integer((unsigned char)bytes.data[i]));
        }
    }
    buf_deinit(&bytes);
    return list;
}

static json_t *token_json(const struct serve_model *m, const struct genarm_token_logprob *t) {
    return json_pack("{s:o, s:o, s:o, s:o}", "token", spell_token_json(m->base, t->token), "logprob", told_number(t->guided),
                     "bytes", told_bytes(m, t->token), "parts", told_parts(m, t));
}

json_t *told_token(const struct serve_model *m, const struct token_fact *f, bool top) {
    json_t *token = token_json(m, &f->items[0]), *list = top ? json_array() : NULL;
    for (size_t i = 1; i < f->n && list; i++) {
        json_array_append_new(list, token_json(m, &f->items[i]));
    }
    if (token && list) {
        json_object_set(token, "top_logprobs", list);
    }
    json_decref(list);
    return token;
}

json_t *told_usage(const struct job *job) {
    json_int_t n_prompt = 0, n_reused = 0, n_tokens = 0;
    for (size_t i = 0; i < job->n_choices; i++) {
        const struct choice *c = &job->choices[i];
        const bool first = i % job->params.n_each == 0; /* a prompt counts once, however many answers it has */
        n_prompt += first ? c->n_prompt : 0;
        n_reused += first ? c->n_reused : 0;
        n_tokens += (json_int_t)c->answer.n_tokens;
    }
    return json_pack("{s:I, s:I, s:I, s:{s:I}}", "prompt_tokens", n_prompt, "completion_tokens", n_tokens, "total_tokens",
                     n_prompt + n_tokens, "prompt_tokens_details", "cached_tokens", n_reused);
}

static json_t *rounded(double x) {
    return json_real(isfinite(x) ? round(x * 1000) / 1000 : 0);
}

/* As llama-server has it: of n tokens in so many milliseconds. */
static void add_times(json_t *object, const char *what, double n, double ms) {
    char key[40];
    snprintf(key, sizeof key, "%s_n", what);
    json_object_set_new(object, key, json_integer((json_int_t)n));
    snprintf(key, sizeof key, "%s_ms", what);
    json_object_set_new(object, key, rounded(ms));
    snprintf(key, sizeof key, "%s_per_token_ms", what);
    json_object_set_new(object, key, rounded(n > 0 ? ms / n : 0));
    snprintf(key, sizeof key, "%s_per_second", what);
    json_object_set_new(object, key, rounded(ms > 0 ? 1e3 * n / ms : 0));
}

json_t *told_timings(const struct choice *c) {
    const struct answer *a = &c->answer;
    json_t *object = json_object();
    if (!object) {
        return NULL;
    }
    json_object_set_new(object, "cache_n", json_integer(c->n_reused));
    add_times(object, "prompt", c->n_prompt - c->n_reused, 1e3 * (a->first - c->began));
    add_times(object, "predicted", (double)a->n_tokens, 1e3 * (a->last - a->first));
    json_object_set_new(object, "predicted_per_second", rounded(answer_rate(a))); /* of those after the first pass */
    if (c->drafts.n_drafted > 0) {
        json_object_set_new(object, "draft_n", json_integer((json_int_t)c->drafts.n_drafted));
        json_object_set_new(object, "draft_n_accepted", json_integer((json_int_t)c->drafts.n_accepted));
    }
    return object;
}

const char *told_finish(const struct choice *c) {
    return c->answer.finish == FINISH_STOP ? "stop" : "length";
}
