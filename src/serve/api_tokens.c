/* Text to tokens and back, and the prompt that messages become. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "model/spell.h"
#include "serve/api.h"
#include "serve/fields.h"
#include "serve/request.h"

/* {"tokens": [ID...]} or [{"id", "piece"}...]: as text at once, since values would take a hundred times as much. */
static int put_tokens(struct buf *out, const struct serve_model *m, const int32_t *tokens, size_t n, bool with_pieces,
                      struct genarm_error *err) {
    int rc = buf_puts(out, "{\"tokens\":[", err);
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        rc = buf_printf(out, err, with_pieces ? "%s{\"id\":%d,\"piece\":" : "%s%d", i ? "," : "", tokens[i]);
        if (with_pieces && rc == GENARM_OK) {
            json_t *piece = spell_token_json(m->base, tokens[i]);
            rc = piece ? json_dump(out, piece, err) : error_nomem(err, "a reply");
            rc = rc == GENARM_OK ? buf_puts(out, "}", err) : rc;
            json_decref(piece);
        }
    }
    return rc == GENARM_OK ? buf_puts(out, "]}", err) : rc;
}

void api_tokenize(struct http_call *call, void *user) {
    struct {
        const char *content;
        bool add_special, parse_special, with_pieces;
    } in = {"", false, true, false};
#define AT(member) ((size_t)((char *)&in.member - (char *)&in))
    const struct field fields[] = {{.type = FIELD_STRING, .name = "content", .offset = AT(content)},
                                   {.type = FIELD_BOOL, .name = "add_special", .offset = AT(add_special)},
                                   {.type = FIELD_BOOL, .name = "parse_special", .offset = AT(parse_special)},
                                   {.type = FIELD_BOOL, .name = "with_pieces", .offset = AT(with_pieces)}};
#undef AT
    struct genarm_error err;
    int32_t *tokens = NULL;
    size_t n = 0;
    const struct serve_model *m = api_model_of(user, call);
    json_t *root = m ? api_body(call, fields, sizeof fields / sizeof *fields, &in) : NULL;
    if (!root) {
        return;
    }
    struct buf out;
    buf_init(&out, SIZE_MAX - 1);
    int rc = spell_tokens(&tokens, &n, m->base, in.content, in.add_special, in.parse_special, &err);
    json_decref(root);
    rc = rc == GENARM_OK ? put_tokens(&out, m, tokens, n, in.with_pieces, &err) : rc;
    if (rc == GENARM_OK) {
        http_reply(call, 200, "application/json; charset=utf-8", out.data, out.len);
    } else {
        api_error(call, &err);
    }
    free(tokens);
    buf_deinit(&out);
}

void api_detokenize(struct http_call *call, void *user) {
    const json_t *array = NULL;
    const struct field fields[] = {{.type = FIELD_ARRAY, .name = "tokens"}};
    struct genarm_error err;
    struct genarm_model_info info;
    int32_t *tokens = NULL;
    size_t n = 0;
    json_t *text = NULL;
    const struct serve_model *m = api_model_of(user, call);
    json_t *root = m ? api_body(call, fields, 1, &array) : NULL;
    if (!root) {
        return;
    }
    genarm_model_get_info(m->base, &info);
    int rc = array ? fields_tokens(&tokens, &n, array, "tokens", info.n_vocab, &err)
                   : field_error(&err, "tokens", "'tokens' is missing: an array of token ids");
    rc = rc == GENARM_OK ? spell_json(&text, m->base, tokens, n, &err) : rc;
    if (rc == GENARM_OK) {
        api_reply(call, json_pack("{s:o}", "content", text));
    } else {
        api_error(call, &err);
    }
    free(tokens);
    json_decref(root);
}

void api_apply_template(struct http_call *call, void *user) {
    const json_t *array = NULL;
    const struct field fields[] = {{.type = FIELD_ARRAY, .name = "messages"}};
    struct genarm_error err;
    struct job_prompt prompt = {0};
    char *text = NULL;
    const struct serve_model *m = api_model_of(user, call);
    json_t *root = m ? api_body(call, fields, 1, &array) : NULL;
    if (!root) {
        return;
    }
    int rc = request_messages(&prompt, array, &err);
    rc = rc == GENARM_OK ? genarm_template_apply(&text, m->base, m->template_name, prompt.messages, prompt.n_messages, &err) : rc;
    if (rc == GENARM_OK) {
        api_reply(call, json_pack("{s:o}", "prompt", text_json(text)));
    } else {
        api_error(call, &err);
    }
    free(prompt.messages);
    free(text);
    json_decref(root);
}
