/* POST /v1/completions: OpenAI's older kind, which continues a text. */
#include <stdlib.h>

#include "base/json.h"
#include "base/utf8.h"
#include "model/spell.h"
#include "serve/converse.h"

static const struct field fields[] = {
    REQUEST_FIELDS,
    REQUEST_OPENAI_FIELDS,
    REQUEST_FIELD(FIELD_ANY, "prompt", prompt),
    REQUEST_FIELD(FIELD_BOOL, "echo", echo),
    REQUEST_RANGE(FIELD_INTEGER, "logprobs", n_logprobs, 0, REQUEST_MAX_LOGPROBS),
    REQUEST_FIELD(FIELD_STRING, "suffix", suffix),
    REQUEST_RANGE(FIELD_INTEGER, "best_of", best_of, 1, REQUEST_MAX_CHOICES),
};

/* The lists that log-probabilities come as. */
struct lists {
    json_t *tokens, *logprobs, *tops, *offsets, *parts;
};

static struct lists lists_new(void) {
    return (struct lists){json_array(), json_array(), json_array(), json_array(), json_array()};
}

static json_t *lists_json(const struct lists *l) {
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "tokens", l->tokens, "token_logprobs", l->logprobs, "top_logprobs", l->tops,
                     "text_offset", l->offsets, "parts", l->parts);
}

/* A token as OpenAI's older kind names it: its text, or `bytes:\xe2\x82` where that is part of a character. Other such tokens
 * have other names, so that each has its place in a map. */
static json_t *token_name(const struct serve_model *m, int32_t token) {
    struct buf bytes, name;
    buf_init(&bytes, 1 << 20);
    buf_init(&name, 1 << 23);
    int rc = spell_bytes(&bytes, m->base, token, true, NULL);
    const bool is_text = rc == GENARM_OK && (bytes.len == 0 || utf8_valid(bytes.data, bytes.len));
    rc = rc == GENARM_OK ? buf_puts(&name, "bytes:", NULL) : rc;
    for (size_t i = 0; i < bytes.len && rc == GENARM_OK && !is_text; i++) {
        rc = buf_printf(&name, NULL, "\\x%02x", (unsigned char)bytes.data[i]);
    }
    json_t *json = rc != GENARM_OK ? NULL : is_text ? spell_token_json(m->base, token) : json_stringn(name.data, name.len);
    buf_deinit(&bytes);
    buf_deinit(&name);
    return json;
}

static void add_token(const struct lists *l, const struct serve_model *m, const struct token_fact *f, size_t offset) {
    json_t *top = f->n > 1 ? json_object() : json_null();
    for (size_t i = 1; i < f->n; i++) {
        json_t *text = token_name(m, f->items[i].token);
        json_object_set_new(top, text ? json_string_value(text) : "", told_number(f->items[i].guided));
        json_decref(text);
    }
    json_array_append_new(l->tokens, token_name(m, f->items[0].token));
    json_array_append_new(l->logprobs, told_number(f->items[0].guided));
    json_array_append_new(l->tops, top);
    json_array_append_new(l->offsets, json_integer((json_int_t)offset));
    json_array_append_new(l->parts, told_parts(m, &f->items[0]));
}

/* The first token of a prompt follows nothing. */
static void add_first(const struct lists *l, const struct serve_model *m, int32_t token) {
    json_array_append_new(l->tokens, token_name(m, token));
    json_array_append_new(l->logprobs, json_null());
    json_array_append_new(l->tops, json_null());
    json_array_append_new(l->offsets, json_integer(0));
    json_array_append_new(l->parts, json_null());
}

/* Characters that begin in a token. */
static size_t n_characters(const struct serve_model *m, int32_t token) {
    struct buf bytes;
    buf_init(&bytes, 1 << 20);
    const bool spelled = spell_bytes(&bytes, m->base, token, false, NULL) == GENARM_OK && bytes.len > 0;
    const size_t n = spelled ? utf8_length(bytes.data, bytes.len) : 0;
    buf_deinit(&bytes);
    return n;
}

/* Log-probabilities of a piece's tokens; `offset`: characters of an echoed prompt before an answer. */
static json_t *logprobs_json(const struct conversation *c, const struct piece *piece, bool begins, size_t offset) {
    if (c->request.n_logprobs < 0) {
        return json_null();
    }
    const struct job_prompt *prompt = piece->choice->prompt;
    struct token_fact *const *facts = piece->facts;
    const struct lists l = lists_new();
    size_t at = 0;
    if (begins && c->job->params.score_prompt) {
        add_first(&l, c->model, prompt->tokens[0]);
    }
    for (size_t i = 0; i <= piece->facts_at && i < prompt->n_tokens && c->job->params.score_prompt; i++) {
        at += n_characters(c->model, prompt->tokens[i]); /* fact i is of token i + 1 */
    }
    for (size_t i = 0; i < piece->n_facts; i++) {
        add_token(&l, c->model, facts[i], facts[i]->of_prompt ? at : offset + facts[i]->at);
        at += n_characters(c->model, facts[i]->items[0].token);
    }
    return lists_json(&l);
}

/* The text of the prompt, where it is echoed. */
static json_t *echo_json(const struct conversation *c, const struct choice *choice) {
    json_t *text = NULL;
    if (c->request.echo) {
        spell_json(&text, c->model->base, choice->prompt->tokens, choice->prompt->n_tokens, NULL);
    }
    return text ? text : json_string("");
}

/* Takes over both. */
static json_t *joined(json_t *front, json_t *back) {
    json_t *all = front && back ? json_pack("s#+#", json_string_value(front), (int)json_string_length(front),
                                            json_string_value(back), (int)json_string_length(back))
                                : NULL;
    json_decref(front);
    json_decref(back);
    return all;
}

static json_t *head(const struct conversation *c) {
    return json_pack("{s:s, s:s, s:I, s:s, s:s}", "id", c->job->id, "object", "text_completion", "created",
                     (json_int_t)c->created, "model", c->server->alias, "system_fingerprint", "genarm-" GENARM_VERSION);
}

static json_t *whole(struct conversation *c) {
    json_t *choices = json_array(), *reply = head(c);
    for (size_t i = 0; i < c->job->n_choices && choices; i++) {
        const struct choice *choice = &c->job->choices[i];
        json_t *echo = echo_json(c, choice);
        const size_t offset = echo ? utf8_length(json_string_value(echo), json_string_length(echo)) : 0;
        const struct piece all = {.choice = choice, .facts = choice->facts, .n_facts = choice_n_told(choice, 0)};
        json_t *logprobs = logprobs_json(c, &all, true, offset);
        json_array_append_new(choices, json_pack("{s:i, s:o, s:o, s:s}", "index", (int)i, "text", joined(echo, told_text(choice)),
                                                 "logprobs", logprobs, "finish_reason", told_finish(choice)));
    }
    return converse_whole(c, reply, choices);
}

static json_t *event(struct conversation *c, const struct piece *piece) {
    const bool tells = piece->n_facts > 0 || (piece->first && c->job->params.score_prompt);
    json_t *chunk = head(c), *echo = tells || piece->first ? echo_json(c, piece->choice) : NULL;
    const size_t offset = echo ? utf8_length(json_string_value(echo), json_string_length(echo)) : 0;
    json_t *text = piece->first ? json_incref(echo) : text_json_n(piece->text, piece->n_text);
    json_t *logprobs = tells ? logprobs_json(c, piece, piece->first, offset) : json_null();
    json_decref(echo);
    return converse_event(c, piece, chunk, "text", text, logprobs);
}

static json_t *usage(struct conversation *c) {
    return converse_usage_event(c, head(c));
}

static int read(struct job_params *out, const struct serve_model *m, struct request *r, struct genarm_error *err) {
    if (!r->prompt) {
        return field_error(err, "prompt", "'prompt' is missing");
    }
    if (r->suffix && *r->suffix) {
        return field_error(err, "suffix", "'suffix' is not supported");
    }
    if (r->best_of != 0 && r->best_of != r->n) {
        return field_error(err, "best_of", "'best_of' other than 'n' is not supported");
    }
    const int rc = request_prompts(out, m, r->prompt, err);
    if (rc == GENARM_OK && out->n_prompts * (size_t)r->n > REQUEST_MAX_CHOICES) {
        return field_error(err, "n", "%zu prompts with %d answers each: at most %d in all", out->n_prompts, (int)r->n,
                           REQUEST_MAX_CHOICES);
    }
    out->score_prompt = r->echo && r->n_logprobs >= 0;
    return rc;
}

void api_completions(struct http_call *call, void *user) {
    static const struct dialect completions = {
        "cmpl-", "logprobs", true, fields, sizeof fields / sizeof *fields, read, whole, event, usage};
    converse(call, user, &completions);
}
