#include "api_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <cmocka.h>
#include <curl/curl.h>

#include "support/golden.h"

/* ---- the server ---- */

static const char *const names[API_ARMS] = {"helpful", "harmless"};
static const float weights[API_ARMS] = {1.0f, 0.5f};
static int32_t context; /* of the guides of a test */

struct genarm_guide *api_guide(const struct api *a, int n_arms, int32_t n_slots) {
    struct genarm_error err;
    struct genarm_guide *g;
    struct genarm_guide_params p = genarm_guide_default_params();
    p.n_slots = n_slots;
    p.n_ctx = context;
    p.n_threads = 1;
    p.kv_type = GENARM_KV_F32;
    must(genarm_guide_new(&g, a->model, &p, &err), &err);
    for (int i = 0; i < n_arms; i++) {
        const struct genarm_arm_params arm = {.name = names[i],
                                              .model = a->model,
                                              .adapter = a->adapters[i],
                                              .weight = weights[i]};
        must(genarm_guide_add_arm(g, &arm, &err), &err);
    }
    return g;
}

json_t *no_end(const struct api *a) {
    struct genarm_model_info info;
    json_t *biases = json_object();
    genarm_model_get_info(a->model, &info);
    for (int32_t token = 0; token < info.n_vocab; token++) {
        char id[16];
        snprintf(id, sizeof id, "%d", token);
        if (genarm_token_ends(a->model, token)) {
            json_object_set_new(biases, id, json_integer(-100));
        }
    }
    return biases;
}

struct genarm_session *api_session(const struct api *a, struct genarm_guide *g, const char *prompt) {
    struct genarm_error err;
    struct genarm_session *s;
    struct genarm_sampling sampling = genarm_sampling_default();
    const struct genarm_message message = {"user", prompt};
    struct genarm_token_bias biases[16];
    json_t *ends = no_end(a), *value;
    const char *id;
    size_t n = 0;
    json_object_foreach(ends, id, value) {
        assert_true(n < 16);
        biases[n++] = (struct genarm_token_bias){atoi(id), -INFINITY};
    }
    json_decref(ends);
    sampling.temperature = 0;
    must(genarm_session_new(&s, g, &sampling, &err), &err);
    must(genarm_session_set_bias(s, biases, n, &err), &err);
    must(genarm_session_prompt(s, &message, 1, &err), &err);
    return s;
}

void api_start(struct api *a, const struct api_options *o) {
    struct genarm_error err;
    *a = (struct api){.model = golden_model("llama.gguf")};
    context = o->n_ctx ? o->n_ctx : 256;
    a->adapters[0] = golden_adapter(a->model, "llama.lora.gguf");
    a->adapters[1] = golden_adapter(a->model, "llama.lora2.gguf");
    for (int i = 0; i < API_ARMS; i++) {
        a->arms[i] = (struct serve_arm){.name = names[i], .file = "arm.gguf", .weight = weights[i]};
    }
    a->guide = api_guide(a, API_ARMS, o->n_slots);
    a->served = (struct serve_model){.guide = a->guide,
                                     .base = a->model,
                                     .file = "llama.gguf",
                                     .n_slots = o->n_slots,
                                     .n_ctx = context,
                                     .n_batch = 512,
                                     .arms = a->arms,
                                     .n_arms = API_ARMS,
                                     .sampling = genarm_sampling_default(),
                                     .n_predict = -1,
                                     .keep = -1,
                                     .draft = o->draft,
                                     .shift = o->shift};
    const struct server_params params = {.host = "127.0.0.1",
                                         .keys = o->keys,
                                         .n_keys = o->n_keys,
                                         .max_body = 4 << 20,
                                         .max_connections = 100,
                                         .timeout = 30,
                                         .max_queue = o->max_queue,
                                         .time_limit = o->time_limit,
                                         .metrics = true,
                                         .slots = true,
                                         .page = true,
                                         .log = o->log};
    must(server_new(&a->server, &params, &err), &err);
    a->port = server_port(a->server);
    must(server_load(a->server, &a->served, &err), &err);
}

void api_stop(struct api *a) {
    if (!a->stopped) {
        server_stop(a->server, 0);
    }
    server_free(a->server);
    genarm_guide_free(a->guide);
    for (int i = 0; i < API_ARMS; i++) {
        genarm_adapter_free(a->adapters[i]);
    }
    genarm_model_free(a->model);
}

/* ---- the client ---- */

struct reading {
    struct got *got;
    got_hook *hook;
    void *user;
    size_t parsed; /* bytes of the body whose events were looked at */
    bool hung_up;
};

/* Looks at the events that are complete. */
static void read_events(struct reading *r) {
    struct buf *b = &r->got->body;
    for (const char *end; !r->hung_up && (end = strstr(b->data + r->parsed, "\n\n")) != NULL;) {
        const char *start = b->data + r->parsed;
        r->parsed = (size_t)(end + 2 - b->data);
        if (strncmp(start, "data: [DONE]", 12) == 0) {
            r->got->done = true;
        } else if (strncmp(start, "data: ", 6) == 0) {
            json_t *event = json_loadb(start + 6, (size_t)(end - start) - 6, JSON_ALLOW_NUL, NULL);
            json_array_append_new(r->got->events, event ? event : json_string("broken JSON"));
            r->hung_up = r->hook && !r->hook(event, r->user);
        }
    }
}

static size_t on_bytes(char *bytes, size_t size, size_t n, void *user) {
    struct reading *r = user;
    if (buf_append(&r->got->body, bytes, size * n, NULL) != GENARM_OK) {
        return 0;
    }
    if (strncmp(r->got->body.data, "data:", 5) == 0) {
        read_events(r);
    }
    return r->hung_up ? 0 : size * n;
}

static size_t on_header(char *bytes, size_t size, size_t n, void *user) {
    struct reading *r = user;
    if (size * n > 13 && strncasecmp(bytes, "Retry-After: ", 13) == 0) {
        snprintf(r->got->retry_after, sizeof r->got->retry_after, "%.*s", (int)strcspn(bytes + 13, "\r\n"), bytes + 13);
    }
    return size * n;
}

struct got *ask_text(const struct api *a, const char *path, const char *body, const char *key, got_hook *hook, void *user) {
    char url[256], authorization[128];
    CURL *curl = curl_easy_init();
    struct got *g = calloc(1, sizeof *g);
    struct reading r = {.got = g, .hook = hook, .user = user};
    struct curl_slist *headers = NULL;
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", a->port, path);
    snprintf(authorization, sizeof authorization, "Authorization: Bearer %s", key ? key : "");
    headers = key ? curl_slist_append(headers, authorization) : headers;
    buf_init(&g->body, 64u << 20);
    g->events = json_array();
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 60L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &r);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &r);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (body) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    }
    if (curl_easy_perform(curl) == CURLE_OK || r.hung_up) {
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &g->status);
    }
    if (g->body.len > 0 && json_array_size(g->events) == 0) {
        g->json = json_loadb(g->body.data, g->body.len, JSON_ALLOW_NUL, NULL);
    }
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
    return g;
}

struct got *ask_hooked(const struct api *a, const char *path, json_t *body, got_hook *hook, void *user) {
    char *text = body ? json_dumps(body, 0) : NULL;
    struct got *g = ask_text(a, path, text, NULL, hook, user);
    free(text);
    json_decref(body);
    return g;
}

struct got *ask_api(const struct api *a, const char *path, json_t *body) { return ask_hooked(a, path, body, NULL, NULL); }

void got_free(struct got *g) {
    buf_deinit(&g->body);
    json_decref(g->json);
    json_decref(g->events);
    free(g);
}

/* ---- JSON ---- */

json_t *at(const json_t *value, const char *path) {
    char name[64];
    while (value && *path) {
        const size_t n = strcspn(path, ".");
        snprintf(name, sizeof name, "%.*s", (int)n, path);
        value = json_is_array(value) ? json_array_get(value, strtoul(name, NULL, 10)) : json_object_get(value, name);
        path += n + (path[n] == '.');
    }
    return (json_t *)value; /* only read */
}

const char *text_at(const json_t *value, const char *path) {
    const json_t *found = at(value, path);
    if (!json_is_string(found)) {
        char *shown = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
        print_error("no text %s in %.400s\n", path, shown ? shown : "nothing");
        free(shown);
    }
    assert_true(json_is_string(found));
    return json_string_value(found);
}

double number_at(const json_t *value, const char *path) {
    const json_t *found = at(value, path);
    assert_true(json_is_number(found));
    return json_number_value(found);
}

json_t *chat(const char *prompt, const char *more_fmt, ...) {
    json_t *body = json_pack("{s:[{s:s, s:s}]}", "messages", "role", "user", "content", prompt);
    json_error_t error;
    va_list args;
    va_start(args, more_fmt);
    json_t *more = json_vpack_ex(&error, 0, more_fmt, args);
    va_end(args);
    json_object_update(body, more);
    json_decref(more);
    return body;
}

bool slots_reach(const struct api *a, size_t n_busy) {
    for (int i = 0; i < 500; i++) {
        struct got *g = ask_api(a, "/slots", NULL);
        size_t n = 0, k;
        json_t *slot;
        json_array_foreach(g->json, k, slot) {
            n += json_is_true(json_object_get(slot, "is_processing"));
        }
        got_free(g);
        if (n == n_busy) {
            return true;
        }
        usleep(10000);
    }
    return false;
}
