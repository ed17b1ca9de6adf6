/* The server: HTTP, the worker, and what the handlers share. */
#ifndef SERVE_SERVER_H
#define SERVE_SERVER_H

#include "serve/http.h"
#include "serve/log.h"
#include "serve/worker.h"

struct server;

struct server_params {
    const char *host;
    int32_t port;
    const char *const *keys; /* [n_keys] */
    size_t n_keys;
    const char *alias;       /* the model's name in the API; NULL: its file's */
    const char *cors;        /* origin that is allowed; NULL: none */
    size_t max_body;
    int32_t max_connections, timeout; /* seconds that a connection may be idle */
    int32_t max_queue;
    double time_limit;                /* seconds of one answer; 0: none */
    bool metrics, slots, page;        /* what is served of it */
    struct serve_log *log;
};

/* Listens at once; until server_load, requests for the model are answered by 503. */
int server_new(struct server **out, const struct server_params *params, struct genarm_error *err);
int32_t server_port(const struct server *s);
bool server_is_local(const struct server *s); /* only this machine reaches it */

/* From now on the model is served. It must outlive the server. */
int server_load(struct server *s, const struct serve_model *model, struct genarm_error *err);

/* Accepts nothing more and lets what runs end for up to `grace` seconds; returns when all replies are out, or a few seconds
 * later. */
void server_stop(struct server *s, double grace);
void server_free(struct server *s); /* after server_stop where a model was loaded; NULL is fine */

#endif
