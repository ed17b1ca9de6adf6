/* POST /v1/chat/completions, as OpenAI and llama-server have it. */
#include <stdlib.h>

#include "base/json.h"
#include "serve/converse.h"

static const struct field fields[] = {
    REQUEST_FIELDS,
    REQUEST_OPENAI_FIELDS,
    REQUEST_FIELD(FIELD_ARRAY, "messages", messages),
    REQUEST_FIELD(FIELD_BOOL, "logprobs", logprobs),
    REQUEST_RANGE(FIELD_INTEGER, "top_logprobs", n_logprobs, 0, REQUEST_MAX_LOGPROBS),
};

/* {"content": [TOKEN...]}, or null where no log-probabilities are kept. They spell the content: the end of the turn is none of
 * them, as in OpenAI's API. */
static json_t *logprobs_json(const struct conversation *c, struct token_fact *const *facts, size_t n) {
    if (c->job->params.n_logprobs < 0) {
        return json_null();
    }
    json_t *list = json_array();
    for (size_t i = 0; i < n && list; i++) {
        if (!genarm_token_ends(c->model->base, facts[i]->items[0].token)) {
            json_array_append_new(list, told_token(c->model, facts[i], true));
        }
    }
    return json_pack("{s:o, s:n}", "content", list, "refusal");
}

static json_t *head(const struct conversation *c, const char *object) {
    return json_pack("{s:s, s:s, s:I, s:s, s:s}", "id", c->job->id, "object", object, "created", (json_int_t)c->created, "model",
                     c->server->alias, "system_fingerprint", "genarm-" GENARM_VERSION);
}

static json_t *whole(struct conversation *c) {
    json_t *choices = json_array(), *reply = head(c, "chat.completion");
    for (size_t i = 0; i < c->job->n_choices && choices; i++) {
        const struct choice *choice = &c->job->choices[i];
        json_t *message = json_pack("{s:s, s:o, s:n}", "role", "assistant", "content", told_text(choice), "refusal");
        json_array_append_new(choices, json_pack("{s:i, s:o, s:o, s:s}", "index", (int)i, "message", message, "logprobs",
                                                 logprobs_json(c, choice->facts, choice_n_told(choice, 0)), "finish_reason",
                                                 told_finish(choice)));
    }
    return converse_whole(c, reply, choices);
}

static json_t *event(struct conversation *c, const struct piece *piece) {
    json_t *chunk = head(c, "chat.completion.chunk");
    json_t *delta = piece->first  ? json_pack("{s:s, s:s}", "role", "assistant", "content", "")
                    : piece->last ? json_object()
                                  : json_pack("{s:o}", "content", text_json_n(piece->text, piece->n_text));
    json_t *logprobs = piece->first || piece->last ? json_null() : logprobs_json(c, piece->facts, piece->n_facts);
    return converse_event(c, piece, chunk, "delta", delta, logprobs);
}

static json_t *usage(struct conversation *c) {
    return converse_usage_event(c, head(c, "chat.completion.chunk"));
}

static int read(struct job_params *out, const struct serve_model *m, struct request *r, struct genarm_error *err) {
    (void)m;
    if (r->n_logprobs >= 0 && !r->logprobs) {
        return field_error(err, "top_logprobs", "'top_logprobs' needs \"logprobs\": true");
    }
    r->n_logprobs = !r->logprobs ? -1 : r->n_logprobs < 0 ? 0 : r->n_logprobs;
    out->prompts = calloc(1, sizeof *out->prompts);
    if (!out->prompts) {
        return error_nomem(err, "a request");
    }
    out->n_prompts = 1;
    return request_messages(&out->prompts[0], r->messages, err);
}

void api_chat(struct http_call *call, void *user) {
    static const struct dialect chat = {
        "chatcmpl-", "top_logprobs", true, fields, sizeof fields / sizeof *fields, read, whole, event, usage};
    converse(call, user, &chat);
}
