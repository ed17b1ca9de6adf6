/* See chat_client.h. */
#include "reward/chat_client.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "base/rng.h"
#include "reward/chat_cache.h"
#include "reward/chat_wire.h"

enum {
    REPLY_MAX = 16 << 20, /* bytes */
    POLL_MS = 100,        /* between two questions whether to stop */
    HELD_MAX = 8,         /* refusals at the start, of all calls, that say that the settings are wrong */
    KEY_MAX = 4096,       /* bytes */
    WAIT_MAX = 600,       /* seconds that a server may ask to wait */
};
static const double first_wait = 0.5, longest_wait = 60; /* seconds between attempts, doubled each time */
static const double connect_patience = 30;               /* seconds */

/* One request on its way. */
struct flight {
    CURL *easy;
    enum { IDLE, WAITING, RUNNING } state;
    size_t index;
    json_t *request; /* {"url", "body"}: all that its reply depends on */
    char *body;
    struct buf reply;
    bool too_long;
    int32_t attempt;
    double start_at; /* of a waiting one */
};

struct chat_client {
    struct chat_params params;
    char *url, *model, *cache, *key; /* owned; cache, key: or NULL */
    json_t *members;                 /* of bodies besides, or NULL */
    struct curl_slist *headers;
    CURLM *multi;
    struct flight *flights; /* [n_parallel] */
    struct genarm_judge_stats stats;
    struct rng rng;
    bool ever_answered;
};

/* One call of chat_client_ask. */
struct round {
    struct chat_client *c;
    const struct chat_batch *batch;
    size_t next, n_done, at;
    struct held {
        size_t index;
        char why[400];
    } held[HELD_MAX]; /* refusals of this call before the first answer */
    size_t n_held;
    struct genarm_error *err;
};

/* ---- making ---- */

static void start_curl(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

/* The key into *out (malloc'ed), or NULL where there is none. */
static int find_key(char **out, const char *key_env, struct genarm_error *err) {
    const char *name = key_env ? key_env : "OPENAI_API_KEY", *key = getenv(name);
    if (!key || !*key) {
        *out = NULL;
        return !key_env ? GENARM_OK : error_set(err, GENARM_EINVAL, "the variable %s has no key", name);
    }
    for (const char *p = key; *p; p++) {
        if (*p <= ' ' || *p > '~' || p - key >= KEY_MAX) {
            return error_set(err, GENARM_EINVAL, "the key in %s is not 1 to %d visible ASCII characters", name, KEY_MAX);
        }
    }
    *out = strdup(key);
    return *out ? GENARM_OK : error_nomem(err, "a key");
}

static int add_header(struct chat_client *c, const char *text, struct genarm_error *err) {
    struct curl_slist *longer = curl_slist_append(c->headers, text);
    c->headers = longer ? longer : c->headers;
    return longer ? GENARM_OK : error_nomem(err, "a request");
}

static int make_headers(struct chat_client *c, struct genarm_error *err) {
    int rc = add_header(c, "Content-Type: application/json", err);
    rc = rc == GENARM_OK ? add_header(c, "Expect:", err) : rc;
    if (rc == GENARM_OK && c->key) {
        char *text = NULL;
        rc = asprintf(&text, "Authorization: Bearer %s", c->key) < 0 ? error_nomem(err, "a request") : add_header(c, text, err);
        free(text);
    }
    return rc;
}

static size_t on_bytes(char *bytes, size_t size, size_t n, void *user) {
    struct flight *f = user;
    f->too_long = buf_append(&f->reply, bytes, size * n, NULL) != GENARM_OK;
    return f->too_long ? 0 : size * n;
}

static int open_flight(struct chat_client *c, struct flight *f, struct genarm_error *err) {
    const double timeout = c->params.timeout, connecting = timeout < connect_patience ? timeout : connect_patience;
    buf_init(&f->reply, REPLY_MAX);
    f->easy = curl_easy_init();
    if (!f->easy) {
        return error_nomem(err, "a request");
    }
    curl_easy_setopt(f->easy, CURLOPT_URL, c->url);
    curl_easy_setopt(f->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(f->easy, CURLOPT_HTTPHEADER, c->headers);
    curl_easy_setopt(f->easy, CURLOPT_USERAGENT, "genarm");
    curl_easy_setopt(f->easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(f->easy, CURLOPT_WRITEDATA, f);
    curl_easy_setopt(f->easy, CURLOPT_PRIVATE, f);
    curl_easy_setopt(f->easy, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(f->easy, CURLOPT_QUICK_EXIT, 1L); /* who stops does not wait for a name to be looked up */
#endif
    curl_easy_setopt(f->easy, CURLOPT_TIMEOUT_MS, (long)(timeout < 1e6 ? 1e3 * timeout + 1 : 1e9));
    curl_easy_setopt(f->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(1e3 * connecting) + 1);
    return GENARM_OK;
}

static int set_up(struct chat_client *c, const struct chat_params *p, struct genarm_error *err) {
    c->params = *p;
    c->model = strdup(p->model);
    c->cache = p->cache ? strdup(p->cache) : NULL;
    c->params.model = c->model;
    c->params.cache = c->cache;
    c->params.base_url = c->params.key_env = c->params.body = NULL; /* not kept */
    c->ever_answered = p->answered;
    c->flights = calloc((size_t)p->n_parallel, sizeof *c->flights);
    c->multi = curl_multi_init();
    rng_seed(&c->rng, rng_hash((uint64_t)getpid(), (uint64_t)(1e6 * clock_seconds()), 0));
    if (!c->model || (p->cache && !c->cache) || !c->flights || !c->multi) {
        return error_nomem(err, "a client");
    }
    int rc = error_at(err, chat_wire_url(&c->url, p->base_url, err), "%s", p->base_url);
    rc = rc == GENARM_OK && p->body ? chat_wire_members(&c->members, p->body, err) : rc;
    rc = rc == GENARM_OK ? find_key(&c->key, p->key_env, err) : rc;
    rc = rc == GENARM_OK ? make_headers(c, err) : rc;
    for (int32_t i = 0; i < p->n_parallel && rc == GENARM_OK; i++) {
        rc = open_flight(c, &c->flights[i], err);
    }
    if (rc == GENARM_OK && c->key && chat_wire_in_clear(c->url)) {
        log_line(GENARM_LOG_WARN, "%s: the key can be read on its way there: it is http, not https", c->url);
    }
    return rc == GENARM_OK && c->cache ? file_make_folder(c->cache, err) : rc;
}

int chat_client_new(struct chat_client **out, const struct chat_params *params, struct genarm_error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct chat_client *c = calloc(1, sizeof *c);
    if (!c) {
        return error_nomem(err, "a client");
    }
    pthread_once(&once, start_curl);
    const int rc = set_up(c, params, err);
    if (rc != GENARM_OK) {
        chat_client_free(c);
        return rc;
    }
    *out = c;
    return GENARM_OK;
}

static void land(struct chat_client *c, struct flight *f) {
    if (f->state == RUNNING) {
        curl_multi_remove_handle(c->multi, f->easy);
    }
    f->state = IDLE;
    json_decref(f->request);
    free(f->body);
    f->request = NULL;
    f->body = NULL;
}

void chat_client_free(struct chat_client *c) {
    if (!c) {
        return;
    }
    for (int32_t i = 0; i < c->params.n_parallel && c->flights; i++) {
        land(c, &c->flights[i]);
        curl_easy_cleanup(c->flights[i].easy);
        buf_deinit(&c->flights[i].reply);
    }
    curl_multi_cleanup(c->multi);
    for (struct curl_slist *h = c->headers; h; h = h->next) {
        explicit_bzero(h->data, strlen(h->data));
    }
    curl_slist_free_all(c->headers);
    if (c->key) {
        explicit_bzero(c->key, strlen(c->key));
    }
    json_decref(c->members);
    free(c->key);
    free(c->flights);
    free(c->url);
    free(c->model);
    free(c->cache);
    free(c);
}

struct genarm_judge_stats chat_client_stats(const struct chat_client *c) { return c->stats; }

/* ---- replies ---- */

static int deliver(struct round *r, size_t index, const struct chat_reply *reply) {
    r->at = index;
    r->n_done++;
    return r->batch->take(index, reply, r->batch->user, r->err);
}

/* The refusals that were held go to the caller. */
static int release(struct round *r) {
    int rc = GENARM_OK;
    for (size_t i = 0; i < r->n_held && rc == GENARM_OK; i++) {
        rc = deliver(r, r->held[i].index, &(struct chat_reply){.finish_reason = "", .refusal = r->held[i].why});
    }
    r->n_held = 0;
    return rc;
}

/* What is known of a request that was answered: not all requests are refused. */
static int answered(struct round *r, size_t index, const json_t *reply, bool cached) {
    struct chat_reply out;
    r->c->ever_answered = true;
    int rc = release(r);
    chat_wire_read(&out, reply);
    r->c->stats.n_cut += strcmp(out.finish_reason, "length") == 0;
    r->c->stats.n_cached += cached;
    r->c->stats.n_answered += !cached;
    r->c->stats.prompt_tokens += cached ? 0 : out.prompt_tokens;
    r->c->stats.completion_tokens += cached ? 0 : out.completion_tokens;
    return rc == GENARM_OK ? deliver(r, index, &out) : rc;
}

static int settings_refused(struct round *r) {
    const int rc = error_at(r->err, error_set(r->err, GENARM_EIO, "the server refuses requests: %s", r->held[0].why), "%s",
                            r->c->url);
    r->at = r->held[0].index;
    return error_hint(r->err, rc, "are the key and the model's name right, and does the server take max_tokens, temperature and "
                      "logprobs (--judge-body)?");
}

static int refused(struct round *r, const struct flight *f, const char *why) {
    r->c->stats.n_refused++;
    if (r->c->ever_answered) {
        return deliver(r, f->index, &(struct chat_reply){.finish_reason = "", .refusal = why});
    }
    struct held *h = &r->held[r->n_held++];
    h->index = f->index;
    snprintf(h->why, sizeof h->why, "%s", why);
    return r->c->stats.n_refused >= HELD_MAX ? settings_refused(r) : GENARM_OK;
}

/* The call ends, and nothing was ever answered. The next call may be; if this was all, the caller knows. */
static int release_unanswered(struct round *r) {
    log_line(GENARM_LOG_WARN, "%s: all %" PRId64 " requests so far were refused: %s", r->c->url, r->c->stats.n_refused,
             r->held[0].why);
    return release(r);
}

static int hopeless(struct round *r, const struct flight *f, const char *why, const char *hint) {
    const int32_t n = f->attempt;
    char times[40] = "";
    if (n > 1) {
        snprintf(times, sizeof times, " (attempt %" PRId32 ")", n);
    }
    const int rc = error_at(r->err, error_set(r->err, GENARM_EIO, "%s%s", why, times), "%s", r->c->url);
    r->at = f->index;
    return hint ? error_hint(r->err, rc, "%s", hint) : rc;
}

/* Seconds before the next attempt: doubled each time, and never the same for all who were turned away together. */
static double wait_seconds(struct chat_client *c, const struct flight *f) {
    double wait = first_wait;
    for (int32_t i = 1; i < f->attempt && wait < longest_wait; i++) {
        wait *= 2;
    }
    return (wait < longest_wait ? wait : longest_wait) * (0.75 + 0.5 * rng_uniform(&c->rng));
}

/* Perhaps it is another time. */
static int again(struct round *r, struct flight *f, const char *why) {
    curl_off_t asked = 0;
    curl_easy_getinfo(f->easy, CURLINFO_RETRY_AFTER, &asked);
    if (f->attempt > r->c->params.n_retries) {
        return hopeless(r, f, why, NULL);
    }
    if (asked > WAIT_MAX) {
        char text[600];
        snprintf(text, sizeof text, "%s; it asks to wait %lld seconds", why, (long long)asked);
        return hopeless(r, f, text, "try again then");
    }
    const double wait = wait_seconds(r->c, f);
    f->start_at = clock_seconds() + ((double)asked > wait ? (double)asked : wait);
    f->state = WAITING;
    log_line(GENARM_LOG_INFO, "%s: %s; asked again in %.1f s", r->c->url, why, f->start_at - clock_seconds());
    return GENARM_OK;
}

static bool may_pass(CURLcode code) {
    switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return true;
    default:
        return false;
    }
}

/* A status that is not 200. */
static int take_status(struct round *r, struct flight *f, long status) {
    char said[300], why[400];
    chat_wire_message(said, sizeof said, f->reply.data, f->reply.len, r->c->key);
    snprintf(why, sizeof why, "status %ld%s%s", status, said[0] ? ": " : "", said);
    if (status == 408 || status == 429 || status >= 500) {
        return again(r, f, why);
    }
    if (status == 402) {
        return hopeless(r, f, why, "is there credit left?");
    }
    if (status == 401) {
        return hopeless(r, f, why, r->c->key ? "is the key right?" : "the key is read from the environment: OPENAI_API_KEY");
    }
    if (status < 400 || status == 404 || status == 405) {
        return hopeless(r, f, why, "is the base URL right? /chat/completions is added to it; it mostly ends in /v1");
    }
    return refused(r, f, why);
}

static int take_reply(struct round *r, struct flight *f) {
    json_t *body = NULL, *reply = NULL;
    struct genarm_error broken = {0};
    char why[400];
    int rc = f->reply.len > 0 ? chat_wire_parse(&body, f->reply.data, f->reply.len, &broken)
                              : error_set(&broken, GENARM_EFORMAT, "the reply is empty");
    chat_wire_blot(broken.what, strlen(broken.what), r->c->key); /* it may quote the reply */
    snprintf(why, sizeof why, "%.*s", (int)sizeof why - 1, broken.what);
    if (rc == GENARM_OK && chat_wire_reply(&reply, body, r->c->key, why, sizeof why)) {
        rc = r->c->cache ? chat_cache_put(r->c->cache, f->request, reply, r->err) : GENARM_OK;
        rc = rc == GENARM_OK ? answered(r, f->index, reply, false) : rc;
    } else {
        rc = again(r, f, why);
    }
    json_decref(reply);
    json_decref(body);
    return rc;
}

static int finish_attempt(struct round *r, struct flight *f, CURLcode code) {
    long status = 0;
    int rc;
    curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_multi_remove_handle(r->c->multi, f->easy);
    f->state = IDLE;
    if (f->too_long) {
        rc = hopeless(r, f, "a reply of more than 16 MiB", NULL);
    } else if (code != CURLE_OK) {
        rc = may_pass(code) ? again(r, f, curl_easy_strerror(code)) : hopeless(r, f, curl_easy_strerror(code), NULL);
    } else {
        rc = status == 200 ? take_reply(r, f) : take_status(r, f, status);
    }
    if (f->state == IDLE) {
        land(r->c, f);
    }
    return rc;
}

/* ---- requests ---- */

static int send_flight(struct round *r, struct flight *f) {
    buf_clear(&f->reply);
    f->too_long = false;
    f->attempt++;
    r->c->stats.n_requests++;
    r->c->stats.n_retries += f->attempt > 1;
    curl_easy_setopt(f->easy, CURLOPT_POSTFIELDS, f->body);
    if (curl_multi_add_handle(r->c->multi, f->easy) != CURLM_OK) {
        return error_nomem(r->err, "a request");
    }
    f->state = RUNNING;
    return GENARM_OK;
}

/* The next request: from the cache, or on its way. */
static int begin(struct round *r, struct flight *f) {
    const struct chat_client *c = r->c;
    json_t *messages = NULL, *reply = NULL;
    const size_t i = r->at = r->next++;
    int rc = r->batch->ask(&messages, i, r->batch->user, r->err);
    if (rc != GENARM_OK) {
        return rc;
    }
    json_t *body = chat_wire_request(&c->params, messages, c->members);
    json_decref(messages);
    f->index = i;
    f->attempt = 0;
    f->body = body ? json_dumps(body, JSON_COMPACT) : NULL;
    f->request = json_pack("{s:s, s:o}", "url", c->url, "body", body);
    rc = f->body && f->request ? GENARM_OK : error_nomem(r->err, "a request");
    if (rc == GENARM_OK && c->cache) {
        rc = chat_cache_get(&reply, c->cache, f->request, r->err);
    }
    if (rc == GENARM_OK && !reply) {
        return send_flight(r, f);
    }
    if (rc == GENARM_OK) {
        rc = answered(r, i, reply, true);
    }
    json_decref(reply);
    land(r->c, f);
    return rc;
}

/* Sends what can be sent now; *wait_ms shrinks to when the next can. */
static int start_flights(struct round *r, int *wait_ms) {
    const double now = clock_seconds();
    int rc = GENARM_OK;
    for (int32_t i = 0; i < r->c->params.n_parallel && rc == GENARM_OK; i++) {
        struct flight *f = &r->c->flights[i];
        if (f->state == IDLE && r->next < r->batch->n) {
            rc = begin(r, f);
            *wait_ms = f->state == IDLE ? 0 : *wait_ms;
        } else if (f->state == WAITING && f->start_at <= now) {
            rc = send_flight(r, f);
        } else if (f->state == WAITING && (f->start_at - now) * 1e3 < *wait_ms) {
            *wait_ms = (int)((f->start_at - now) * 1e3) + 1;
        }
    }
    return rc;
}

/* Moves bytes, and takes what has ended. */
static int exchange(struct round *r, int wait_ms) {
    int n_running = 0, n_left = 0, rc = GENARM_OK;
    CURLMcode code = curl_multi_perform(r->c->multi, &n_running);
    for (CURLMsg *m; rc == GENARM_OK && (m = curl_multi_info_read(r->c->multi, &n_left));) {
        struct flight *f = NULL;
        const CURLcode result = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&f);
        rc = finish_attempt(r, f, result);
        wait_ms = 0; /* there is room for another */
    }
    if (rc == GENARM_OK && code == CURLM_OK && wait_ms > 0) {
        code = curl_multi_poll(r->c->multi, NULL, 0, wait_ms, NULL);
    }
    return rc == GENARM_OK && code != CURLM_OK ? error_set(r->err, GENARM_EIO, "%s", curl_multi_strerror(code)) : rc;
}

int chat_client_ask(struct chat_client *c, const struct chat_batch *batch, size_t *at, struct genarm_error *err) {
    struct genarm_error unused;
    struct round r = {.c = c, .batch = batch, .err = err ? err : &unused};
    int rc = GENARM_OK;
    while (rc == GENARM_OK && r.n_done + r.n_held < batch->n) {
        int wait_ms = POLL_MS;
        if (c->params.stop && c->params.stop(c->params.stop_user) != 0) {
            rc = error_set(err, GENARM_ECANCELED, "stopped");
        }
        rc = rc == GENARM_OK ? start_flights(&r, &wait_ms) : rc;
        rc = rc == GENARM_OK && r.n_done + r.n_held < batch->n ? exchange(&r, wait_ms) : rc;
    }
    if (rc == GENARM_OK && r.n_held > 0) {
        rc = release_unanswered(&r);
    }
    for (int32_t i = 0; i < c->params.n_parallel; i++) {
        land(c, &c->flights[i]);
    }
    if (rc != GENARM_OK) {
        *at = r.at;
    }
    return rc;
}
