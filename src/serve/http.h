/* HTTP on libmicrohttpd: a table of routes, limits, keys, CORS, request ids, the access log. It knows nothing of models.
 *
 * A connection is a thread; a handler runs in it once the request's body is there, may block, and calls exactly one of the reply
 * functions before it returns (none: the client gets a 500). Everything that is given to a server (routes, keys, log, user) is
 * borrowed until http_server_free; the texts that a call returns live until its reply is over.
 */
#ifndef SERVE_HTTP_H
#define SERVE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "serve/log.h"

struct http_server;
struct http_call; /* one request, from its head until its reply is sent */

typedef void http_handler(struct http_call *call, void *user);

struct http_route {
    const char *method;    /* GET (HEAD as well) or POST */
    const char *path;      /* "/v1/models"; one segment may be "*", as in "/v1/requests/" "*" "/arms", or the last
                              several "**": http_call_param */
    http_handler *handler; /* gets the server's `user` */
    bool open;             /* needs no key */
};

struct http_params {
    const char *host; /* an address or a name (its first address); IPv4 or IPv6, also in brackets */
    int32_t port;     /* 0: a free one */
    size_t max_body;  /* bytes of a request's body; more is 413 */
    /* All taken: the one that has been idle longest is closed; none is idle: the new one gets a 503. */
    int32_t max_connections;
    int32_t timeout; /* seconds that a connection may be idle, and that a request may take to arrive; > 0 */
    const char *const *keys; /* [n_keys] accepted as "Authorization: Bearer KEY" (or X-Api-Key); none: everything is open */
    size_t n_keys;
    const char *cors; /* Access-Control-Allow-Origin: an origin or "*"; NULL: no CORS, and other sites' pages get a 403 */
    const struct http_route *routes; /* [n_routes]; the first that fits: exact paths before those with "*" */
    size_t n_routes;
    struct serve_log *log; /* a line for every request; NULL: none */
    void *user;            /* of the handlers */
};

/* Listens at once. GENARM_EIO names the address and says why (in use, not permitted, unknown name). */
int http_server_new(struct http_server **out, const struct http_params *params, struct genarm_error *err);
int32_t http_server_port(const struct http_server *s);
bool http_server_is_local(const struct http_server *s); /* listens at a loopback address */
int32_t http_server_n_connections(const struct http_server *s);
/* Accepts no further connection; requests that are there go on, their connections are closed after them, and the idle ones. */
void http_server_quiesce(struct http_server *s);
void http_server_free(struct http_server *s); /* waits for the handlers and streams that run: end those first */

/* ---- the request ---- */
const char *http_call_path(const struct http_call *c);                     /* decoded, without the query */
const char *http_call_param(const struct http_call *c);                    /* what "*" stands for; "" */
const char *http_call_header(const struct http_call *c, const char *name); /* NULL: not given; any case */
const char *http_call_body(const struct http_call *c, size_t *n);          /* NUL-terminated, never NULL; n may be NULL */
const char *http_call_id(const struct http_call *c);                       /* the request's id, as in X-Request-Id */
const char *http_call_client(const struct http_call *c); /* who asks, for fairness: "key-1" for the first key, or its address */
double http_call_arrived(const struct http_call *c);     /* when all of it was there: seconds of clock_seconds */
/* The client has closed the connection, or its sending side; cheap, may be asked often. Also while streaming. */
bool http_call_gone(struct http_call *c);

/* ---- the reply ---- */

/* A header of the reply that follows; both are copied. A value with control characters is dropped. */
void http_header(struct http_call *c, const char *name, const char *value);
/* `data` is copied. `type` is the Content-Type. */
void http_reply(struct http_call *c, int status, const char *type, const void *data, size_t n);
/* Of static storage, not copied. Without Cache-Control: no-store: what may be kept is for http_header to say. */
void http_reply_static(struct http_call *c, int status, const char *type, const void *data, size_t n);
/* {"error": ...} as llama-server has it; `param` may be NULL. The type follows from the status unless given. */
void http_reply_error(struct http_call *c, int status, const char *type, const char *param, const char *fmt, ...)
    PRINTF_LIKE(5, 6);

/* Nobody is there to read a reply: the connection is closed, and the log has 499. */
void http_reply_gone(struct http_call *c);

/* A body of unknown length, in pieces. next() blocks until there is more, appends it to `out` (which is empty) and returns 1;
 * 0: the end (what it appended is still sent); negative: the connection is cut. It should ask http_call_gone now and then. `done`
 * (may be NULL) is called once, always, when the reply is over or the client gone; for HEAD without a next() before. */
struct http_stream {
    int (*next)(struct http_call *c, struct buf *out, void *user);
    void (*done)(void *user);
    void *user;
};
void http_reply_stream(struct http_call *c, int status, const char *type, const struct http_stream *stream);

/* Facts for metrics: called after each request, in the connection's thread; `route` is the path in the table ("" where none
 * fits). May be NULL. */
typedef void http_observer(const char *route, int status, double seconds, void *user);
void http_server_observe(struct http_server *s, http_observer *observer, void *user);

#endif
