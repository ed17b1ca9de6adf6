/* The whole server, over a tiny model with two ARMs, and a client of its API. */
#ifndef HTTP_API_FIXTURE_H
#define HTTP_API_FIXTURE_H

#include <jansson.h>

#include "guide/session.h"
#include "serve/server.h"

enum { API_ARMS = 2 }; /* "helpful" and "harmless", of weight 1 and 0.5 */

struct api_options {
    int32_t n_slots, n_ctx, max_queue;
    double time_limit;
    const char *keys[2];
    size_t n_keys;
    const struct genarm_draft_params *draft;
    bool shift; /* a full context forgets */
    struct serve_log *log;
};

struct api {
    struct genarm_model *model;
    struct genarm_adapter *adapters[API_ARMS];
    struct genarm_guide *guide;
    struct serve_arm arms[API_ARMS];
    struct serve_model served;
    struct server *server;
    int port;
    bool stopped;
};

void api_start(struct api *a, const struct api_options *options);
void api_stop(struct api *a); /* at once, unless server_stop was called */

/* Another guide with the first n ARMs of the same models: what the server's answers are compared with. */
struct genarm_guide *api_guide(const struct api *a, int n_arms, int32_t n_slots);
/* A greedy session of it with a user's message, which does not end its turn. */
struct genarm_session *api_session(const struct api *a, struct genarm_guide *g, const char *prompt);
/* The same for a request: what "logit_bias" is then. */
json_t *no_end(const struct api *a);

/* What the server said. */
struct got {
    long status; /* 0: the connection broke off */
    char retry_after[16];
    struct buf body;
    json_t *json;   /* the body, where it is JSON */
    json_t *events; /* those of a stream, in a list */
    bool done;      /* it ended in [DONE] */
};

/* Looks at an event; false: hangs up. */
typedef bool got_hook(json_t *event, void *user);

/* One request; `body` NULL: GET. Takes over `body`. Threads may ask at the same time. */
struct got *ask_api(const struct api *a, const char *path, json_t *body);
struct got *ask_text(const struct api *a, const char *path, const char *body, const char *key, got_hook *hook, void *user);
struct got *ask_hooked(const struct api *a, const char *path, json_t *body, got_hook *hook, void *user);
void got_free(struct got *g);

json_t *at(const json_t *value, const char *path); /* "choices.0.message.content"; NULL: not there */
const char *text_at(const json_t *value, const char *path);
double number_at(const json_t *value, const char *path);

/* A chat request with one message of the user. */
json_t *chat(const char *prompt, const char *more_fmt, ...);

/* Waits up to some seconds until /slots shows so many at work. */
bool slots_reach(const struct api *a, size_t n_busy);

#endif
