/* See chat_wire.h. */
#include "reward/chat_wire.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"

/* ---- requests ---- */

json_t *chat_wire_request(const struct chat_params *params, json_t *messages, json_t *members) {
    json_t *body = json_pack("{s:o, s:O, s:i, s:i}", "model", text_json(params->model), "messages", messages, "temperature", 0,
                             "max_tokens", (int)params->max_tokens);
    bool ok = body;
    const char *name;
    json_t *value;
    if (params->n_logprobs > 0) {
        ok = ok && json_object_set_new(body, "logprobs", json_true()) == 0 &&
             json_object_set_new(body, "top_logprobs", json_integer(params->n_logprobs)) == 0;
    }
    json_object_foreach(members, name, value) {
        if (json_is_null(value)) {
            json_object_del(body, name); /* or there is none */
        } else {
            ok = ok && json_object_set(body, name, value) == 0;
        }
    }
    if (!ok) {
        json_decref(body);
        return NULL;
    }
    return body;
}

int chat_wire_members(json_t **out, const char *text, struct genarm_error *err) {
    static const char where[] = "members of requests (--judge-body)";
    json_t *members = NULL;
    int rc = json_parse(&members, text, strlen(text), where, err);
    if (rc == GENARM_EFORMAT) {
        rc = GENARM_EINVAL;
        if (err) {
            err->code = rc;
        }
    } else if (rc == GENARM_OK && !json_is_object(members)) {
        rc = error_at(err, error_set(err, GENARM_EINVAL, "this is no JSON object"), "%s", where);
    }
    if (rc != GENARM_OK) {
        json_decref(members);
        return rc;
    }
    *out = members;
    return GENARM_OK;
}

/* ---- the key ---- */

enum { SECRET_MIN = 8 /* characters: less is no secret, and may stand anywhere */ };

static bool is_secret(const char *text) { return text && strlen(text) >= SECRET_MIN; }

void chat_wire_blot(char *bytes, size_t n, const char *secret) {
    const size_t length = is_secret(secret) ? strlen(secret) : 0;
    char *at, *from = bytes;
    while (length > 0 && n > 0 && (at = memmem(from, n - (size_t)(from - bytes), secret, length))) {
        memset(at, '*', length);
        from = at + length;
    }
}

/* ---- replies ---- */

/* The code of an escape "\\uXXXX", of which n bytes are left; -1: it is none. */
static long escaped_code(const char *text, size_t n) {
    char digits[5] = "";
    if (n < 6 || text[0] != '\\' || text[1] != 'u') {
        return -1;
    }
    memcpy(digits, text + 2, 4);
    return digits[strspn(digits, "0123456789abcdefABCDEF")] ? -1 : strtol(digits, NULL, 16);
}

/* Halves of a pair of surrogates that have no other half become U+FFFD. */
static void mend_escapes(char *text, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const long code = escaped_code(text + i, n - i);
        if (text[i] != '\\') {
            continue;
        }
        if (code < 0xD800 || code > 0xDFFF) {
            i++;
            continue;
        }
        const long next = code < 0xDC00 && n - i > 6 ? escaped_code(text + i + 6, n - i - 6) : -1;
        if (next >= 0xDC00 && next <= 0xDFFF) {
            i += 11;
        } else {
            memcpy(text + i + 2, "fffd", 4);
            i += 5;
        }
    }
}

int chat_wire_parse(json_t **out, const char *body, size_t n, struct genarm_error *err) {
    struct text_tail tail = {0};
    struct buf text;
    int rc = json_parse_sampled(out, body, n, "", err);
    if (rc != GENARM_EFORMAT) {
        return rc;
    }
    buf_init(&text, 3 * n + 4);
    rc = text_push(&tail, body, n, &text, err);
    rc = rc == GENARM_OK ? text_end(&tail, &text, err) : rc;
    if (rc == GENARM_OK) {
        mend_escapes(text.data, text.len);
        rc = json_parse_sampled(out, text.data, text.len, "", err);
    }
    buf_deinit(&text);
    return rc;
}

/* Whether a string of the value holds the secret. */
static bool holds(const json_t *value, const char *secret) {
    size_t i;
    const char *key;
    json_t *item;
    bool found = json_is_string(value) && strstr(json_string_value(value), secret);
    json_array_foreach(value, i, item) { /* neither loops over anything else */
        found = found || holds(item, secret);
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, item) {
        found = found || holds(item, secret);
    }
    return found;
}

/* The tokens with numbers in their place, or NULL: a server may answer without, or with others, or with such that spell the
 * secret, perhaps in pieces. */
static json_t *valid_logprobs(const json_t *choice, const char *secret) {
    json_t *content = json_object_get(json_object_get(choice, "logprobs"), "content");
    size_t i;
    json_t *item;
    if (is_secret(secret) && (holds(json_object_get(choice, "message"), secret) || holds(content, secret))) {
        return NULL;
    }
    json_array_foreach(content, i, item) {
        if (!json_is_string(json_object_get(item, "token")) || !json_is_number(json_object_get(item, "logprob"))) {
            return NULL;
        }
    }
    return json_array_size(content) > 0 ? json_incref(content) : NULL;
}

/* A string without the secret, "" of what is none. New reference; NULL without memory. */
static json_t *blotted(const json_t *string, const char *secret) {
    char *text = strdup(json_is_string(string) ? json_string_value(string) : "");
    json_t *out = NULL;
    if (text) {
        chat_wire_blot(text, strlen(text), secret);
        out = json_string(text);
    }
    free(text);
    return out;
}

/* What an error says: a text, or a member of an object or of its "error", else all of it; without the secret, as a short line. */
static void say_error(char *text, size_t size, const json_t *json, const char *secret) {
    static const char *const members[] = {"message", "detail", "error"};
    const json_t *error = json_is_object(json_object_get(json, "error")) ? json_object_get(json, "error") : json;
    const json_t *found = error;
    for (size_t i = 0; i < sizeof members / sizeof *members && !json_is_string(found); i++) {
        found = json_object_get(error, members[i]);
    }
    char *said = json_is_string(found) ? strdup(json_string_value(found)) : json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    if (said) {
        chat_wire_blot(said, strlen(said), secret); /* whole, before it is cut */
    }
    snprintf(text, size, "%s", said ? said : "");
    utf8_clean(text);
    free(said);
}

/* What a reply says of its own failure: the whole, or its choice. NULL: nothing. */
static const json_t *failure(const json_t *body, const json_t *choice) {
    const json_t *error = json_object_get(body, "error");
    const char *reason = json_string_value(json_object_get(choice, "finish_reason"));
    return error && !json_is_null(error) ? body : reason && strcmp(reason, "error") == 0 ? choice : NULL;
}

bool chat_wire_reply(json_t **reply, const json_t *body, const char *secret, char *why, size_t size) {
    const json_t *choice = json_array_get(json_object_get(body, "choices"), 0);
    const json_t *message = json_object_get(choice, "message"), *content = json_object_get(message, "content");
    const json_t *usage = json_object_get(body, "usage"), *reason = json_object_get(choice, "finish_reason");
    const json_t *failed = failure(body, choice);
    if (failed) {
        say_error(why, size, failed, secret);
        return false;
    }
    if (!json_is_object(message) || !(json_is_string(content) || json_is_null(content) || !content)) {
        snprintf(why, size, "there is no text of an assistant in the reply");
        return false;
    }
    *reply = json_pack("{s:o, s:o, s:o*, s:I, s:I}", "text", blotted(content, secret), "finish_reason", blotted(reason, secret),
                       "logprobs", valid_logprobs(choice, secret), "prompt_tokens",
                       json_integer_value(json_object_get(usage, "prompt_tokens")), "completion_tokens",
                       json_integer_value(json_object_get(usage, "completion_tokens")));
    snprintf(why, size, "out of memory");
    return *reply != NULL;
}

void chat_wire_read(struct chat_reply *out, const json_t *reply) {
    const char *text = json_string_value(json_object_get(reply, "text"));
    const char *reason = json_string_value(json_object_get(reply, "finish_reason"));
    *out = (struct chat_reply){.text = text ? text : "",
                               .finish_reason = reason ? reason : "",
                               .logprobs = json_object_get(reply, "logprobs"),
                               .prompt_tokens = json_integer_value(json_object_get(reply, "prompt_tokens")),
                               .completion_tokens = json_integer_value(json_object_get(reply, "completion_tokens"))};
}

void chat_wire_message(char *text, size_t size, const char *body, size_t n, const char *secret) {
    json_t *json = NULL;
    if (n > 0 && chat_wire_parse(&json, body, n, NULL) != GENARM_OK) {
        json = text_json_n(body, n);
    }
    say_error(text, size, json, secret);
    json_decref(json);
}

/* ---- addresses ---- */

static bool has_part(CURLU *url, CURLUPart part) {
    char *text = NULL;
    const bool has = curl_url_get(url, part, &text, 0) == CURLUE_OK;
    curl_free(text);
    return has;
}

/* The path of a base with the API's behind it; NULL without memory. */
static char *full_path(CURLU *url) {
    char *path = NULL, *out = NULL;
    if (curl_url_get(url, CURLUPART_PATH, &path, 0) != CURLUE_OK) {
        return NULL;
    }
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] == '/') {
        n--;
    }
    if (asprintf(&out, "%.*s/chat/completions", n ? (int)n : 3, n ? path : "/v1") < 0) {
        out = NULL;
    }
    curl_free(path);
    return out;
}

int chat_wire_url(char **out, const char *base_url, struct genarm_error *err) {
    CURLU *url = curl_url();
    char *path = NULL, *whole = NULL;
    int rc = url ? GENARM_OK : error_nomem(err, "a URL");
    if (rc == GENARM_OK && (curl_url_set(url, CURLUPART_URL, base_url, 0) != CURLUE_OK ||
                            (strncmp(base_url, "http://", 7) != 0 && strncmp(base_url, "https://", 8) != 0))) {
        rc = error_set(err, GENARM_EINVAL, "this is no http(s) URL");
    }
    if (rc == GENARM_OK && (has_part(url, CURLUPART_USER) || has_part(url, CURLUPART_PASSWORD))) {
        rc = error_set(err, GENARM_EINVAL, "a base URL has no user's name and no password");
        rc = error_hint(err, rc, "a key belongs into the environment, as OPENAI_API_KEY");
    }
    if (rc == GENARM_OK && (has_part(url, CURLUPART_QUERY) || has_part(url, CURLUPART_FRAGMENT))) {
        rc = error_set(err, GENARM_EINVAL, "a base URL has no '?' and no '#'");
    }
    if (rc == GENARM_OK && (!(path = full_path(url)) || curl_url_set(url, CURLUPART_PATH, path, 0) != CURLUE_OK ||
                            curl_url_get(url, CURLUPART_URL, &whole, 0) != CURLUE_OK || !(*out = strdup(whole)))) {
        rc = error_nomem(err, "a URL");
    }
    curl_free(whole);
    free(path);
    curl_url_cleanup(url);
    return rc;
}

bool chat_wire_in_clear(const char *url) {
    static const char *const own[] = {"http://127.", "http://localhost:", "http://localhost/", "http://[::1]"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        if (strncmp(url, own[i], strlen(own[i])) == 0) {
            return false;
        }
    }
    return strncmp(url, "http://", 7) == 0;
}
