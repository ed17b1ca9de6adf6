/* POST /v1/score: what each part thinks of a response that is given, token by token. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "model/model.h"
#include "model/spell.h"
#include "serve/converse.h"

struct score_request {
    const json_t *messages, *arms;
    const char *prompt, *system, *response;
    bool complete;
};

#define SCORE_FIELD(TYPE, NAME) {.type = TYPE, .name = #NAME, .offset = offsetof(struct score_request, NAME)}
static const struct field fields[] = {SCORE_FIELD(FIELD_ARRAY, messages),      SCORE_FIELD(FIELD_OBJECT, arms),
                                      SCORE_FIELD(FIELD_STRING, prompt),       SCORE_FIELD(FIELD_STRING, system),
                                      SCORE_FIELD(FIELD_STRING, response),     SCORE_FIELD(FIELD_BOOL, complete),
                                      {.type = FIELD_IGNORED, .name = "model"}};

/* The messages, or those of a prompt and a system text. */
static int read_prompt(struct job_prompt *out, const struct score_request *in, struct genarm_error *err) {
    if ((in->messages != NULL) == (in->prompt != NULL)) {
        return field_error(err, "prompt", "either 'prompt' or 'messages' must be given");
    }
    if (in->messages) {
        return request_messages(out, in->messages, err);
    }
    out->messages = calloc(2, sizeof *out->messages);
    if (!out->messages) {
        return error_nomem(err, "messages");
    }
    if (in->system && *in->system) {
        out->messages[out->n_messages++] = (struct genarm_message){"system", in->system};
    }
    out->messages[out->n_messages++] = (struct genarm_message){"user", in->prompt};
    return GENARM_OK;
}

/* The tokens of the response to out's prompt, with the one that ends the turn if it is complete. */
static int read_response(struct job_params *out, const struct serve_model *m, const struct score_request *in,
                         struct genarm_error *err) {
    const struct job_prompt *prompt = &out->prompts[0];
    const size_t least = in->response ? vocab_at_least(&m->base->measure, in->response, strlen(in->response)) : 0;
    int32_t n = 0;
    if (least >= (size_t)m->n_ctx) { /* not counted to the end: that may take minutes. job_params_fit refuses it */
        out->n_response = least;
        return GENARM_OK;
    }
    const int rc = in->response ? response_tokens(&out->response, &n, m->base, m->template_name, prompt->messages,
                                                  prompt->n_messages, in->response, in->complete, err)
                                : field_error(err, "response", "'response' is missing");
    out->n_response = (size_t)n;
    return rc == GENARM_OK && n == 0 ? field_error(err, "response", "'response' is empty") : rc;
}

static json_t *by_arm(const struct serve_model *m, const float *values) {
    json_t *object = json_object();
    for (size_t i = 0; i < m->n_arms && object; i++) {
        json_object_set_new(object, m->arms[i].name, told_number(values[i]));
    }
    return object;
}

static json_t *token_json(const struct serve_model *m, const struct token_fact *f) {
    const struct genarm_token_logprob *t = &f->items[0];
    return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "id", (int)t->token, "text", spell_token_json(m->base, t->token),
                     "bytes", told_bytes(m, t->token), "base", told_number(t->base), "arms", by_arm(m, t->arms), "reference",
                     by_arm(m, f->reference), "guided", told_number(t->guided));
}

static json_t *score_json(struct server *s, const struct serve_model *m, const struct job *job) {
    const struct choice *c = &job->choices[0];
    json_t *tokens = json_array(), *rewards = json_object();
    for (size_t i = 0; i < c->n_facts && tokens; i++) {
        json_array_append_new(tokens, token_json(m, c->facts[i]));
    }
    for (size_t k = 0; k < m->n_arms && rewards; k++) {
        double sum = 0;
        for (size_t i = 0; i < c->n_facts; i++) {
            sum += (double)c->facts[i]->items[0].arms[k];
        }
        json_object_set_new(rewards, m->arms[k].name, json_real(isfinite(sum) ? sum : -9999));
    }
    const json_int_t n_prompt = c->n_prompt, n_response = (json_int_t)c->n_facts;
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:{s:I, s:I, s:I}}", "object", "score", "model", s->alias, "arms",
                     api_weights_json(m, job->params.weights), "tokens", tokens, "rewards", rewards, "usage", "prompt_tokens",
                     n_prompt, "response_tokens", n_response, "total_tokens", n_prompt + n_response);
}

void api_score(struct http_call *call, void *user) {
    struct server *s = user;
    struct genarm_error err;
    struct score_request in = {.complete = true};
    struct job_params params = {0};
    const struct serve_model *m = api_model_of(s, call);
    json_t *root = m ? api_body(call, fields, sizeof fields / sizeof *fields, &in) : NULL;
    if (!root) {
        return;
    }
    struct request r = request_default(m);
    r.arms = in.arms;
    params.source = root;
    params.prompts = calloc(1, sizeof *params.prompts);
    params.n_prompts = 1;
    int rc = params.prompts ? request_params(&params, s, m, &r, &err) : error_nomem(&err, "a request");
    params.n_predict = -1; /* none is asked for, but that is no end */
    rc = rc == GENARM_OK ? read_prompt(&params.prompts[0], &in, &err) : rc;
    rc = rc == GENARM_OK ? read_response(&params, m, &in, &err) : rc;
    if (rc == GENARM_OK) {
        struct job *job = converse_run(call, s, "score-", &params, true);
        if (job) {
            api_reply(call, score_json(s, m, job));
            converse_end(s, job);
        }
    } else {
        api_error(call, &err);
        job_params_deinit(&params, m->n_arms);
    }
}
