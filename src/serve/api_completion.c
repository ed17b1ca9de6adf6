/* POST /completion: llama.cpp's own kind, which continues a text. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "serve/converse.h"

static const struct field fields[] = {
    REQUEST_FIELDS,
    REQUEST_FIELD(FIELD_ANY, "prompt", prompt),
    REQUEST_RANGE(FIELD_INTEGER, "n_probs", n_logprobs, 0, REQUEST_MAX_PROBS),
    REQUEST_FIELD(FIELD_BOOL, "return_tokens", return_tokens),
    REQUEST_NEUTRAL("n", "1"),
    REQUEST_NEUTRAL("n_cmpl", "1"),
};

/* [{"id", "token", "bytes", "logprob", "top_logprobs", "parts"}] */
static json_t *probabilities(const struct conversation *c, struct token_fact *const *facts, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n && list; i++) {
        json_t *token = told_token(c->model, facts[i], true);
        json_t *id = json_integer(facts[i]->items[0].token);
        if (token && json_object_set_new(token, "id", id) == 0) {
            json_array_append_new(list, token);
        }
    }
    return list;
}

static json_t *tokens_json(const int32_t *tokens, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n && list; i++) {
        json_array_append_new(list, json_integer(tokens[i]));
    }
    return list;
}

/* Why it ended, in llama.cpp's words. */
static void add_end(json_t *reply, const struct conversation *c, const struct choice *choice) {
    const struct answer *a = &choice->answer;
    const bool word = a->stopped_by >= 0;
    json_object_set_new(reply, "stop", json_true());
    json_object_set_new(reply, "stop_type", json_string(word ? "word" : a->finish == FINISH_STOP ? "eos" : "limit"));
    json_object_set_new(reply, "stopping_word", word ? text_json(genarm_stop_text(a->stop, a->stopped_by)) : json_string(""));
    json_object_set_new(reply, "truncated", json_boolean(a->finish == FINISH_CONTEXT));
    json_object_set_new(reply, "tokens_cached", json_integer(choice->n_reused));
    json_object_set_new(reply, "model", json_string(c->server->alias));
    converse_add_facts(reply, c, choice);
}

/* Takes over `text`. */
static json_t *head(const struct conversation *c, const struct choice *choice, json_t *text, size_t n_tokens) {
    return json_pack("{s:i, s:s, s:o, s:i, s:i, s:i, s:b}", "index", (int)choice->index, "id", c->job->id, "content", text,
                     "id_slot", (int)choice->slot, "tokens_predicted", (int)n_tokens, "tokens_evaluated", (int)choice->n_prompt,
                     "stop", 0);
}

static void add_tokens(json_t *reply, const struct conversation *c, const struct piece *piece) {
    json_object_set_new(reply, "tokens",
                        tokens_json(piece->tokens, c->request.return_tokens || c->request.stream ? piece->n_tokens : 0));
    if (c->request.n_logprobs >= 0 && !piece->last) {
        json_object_set_new(reply, "completion_probabilities", probabilities(c, piece->facts, piece->n_facts));
    }
}

static json_t *one(struct conversation *c, const struct choice *choice) {
    const struct answer *a = &choice->answer;
    json_t *reply = head(c, choice, told_text(choice), a->n_tokens);
    if (reply) {
        add_tokens(reply, c, &(struct piece){.choice = choice, .tokens = a->tokens, .n_tokens = a->n_tokens,
                                             .facts = choice->facts, .n_facts = choice_n_told(choice, 0)});
        add_end(reply, c, choice);
    }
    return reply;
}

static json_t *whole(struct conversation *c) {
    if (c->job->n_choices == 1) {
        return one(c, &c->job->choices[0]);
    }
    json_t *list = json_array();
    for (size_t i = 0; i < c->job->n_choices && list; i++) {
        json_array_append_new(list, one(c, &c->job->choices[i]));
    }
    return list;
}

static json_t *event(struct conversation *c, const struct piece *piece) {
    if (piece->first) { /* it has the id only */
        return NULL;
    }
    json_t *reply = head(c, piece->choice, text_json_n(piece->text, piece->n_text), piece->tokens_at + piece->n_tokens);
    if (reply) {
        add_tokens(reply, c, piece);
    }
    worker_lock(c->server->worker);
    if (reply && piece->last) {
        add_end(reply, c, piece->choice);
    } else if (reply && c->request.timings_per_token) {
        json_object_set_new(reply, "timings", told_timings(piece->choice));
    }
    worker_unlock(c->server->worker);
    return reply;
}

static int read(struct job_params *out, const struct serve_model *m, struct request *r, struct genarm_error *err) {
    r->n_logprobs = r->n_logprobs == 0 ? -1 : r->n_logprobs;
    return r->prompt ? request_prompts(out, m, r->prompt, err) : field_error(err, "prompt", "'prompt' is missing");
}

void api_completion(struct http_call *call, void *user) {
    static const struct dialect completion = {
        "cmpl-", "n_probs", false, fields, sizeof fields / sizeof *fields, read, whole, event, NULL};
    converse(call, user, &completion);
}
