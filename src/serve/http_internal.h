/* What the files of the HTTP layer share. Who owns what:
 *
 *     http.c          the server: starts and stops libmicrohttpd, the life of a request
 *     http_listen.c   the listening socket
 *     http_conn.c     connections: deadlines and the thread that keeps them
 *     http_head.c     a request's head: target, headers, where it comes from
 *     http_route.c    the table of routes
 *     http_keys.c     keys
 *     http_call.c     what a handler may ask
 *     http_reply.c    what it may answer
 */
#ifndef SERVE_HTTP_INTERNAL_H
#define SERVE_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "serve/http.h"

enum {
    HTTP_HEAD_MAX = 32 * 1024,     /* bytes of a request's head; more is 431 (or 414) */
    HTTP_POOL_SIZE = 64 * 1024,    /* libmicrohttpd's memory of a connection: the head, and a piece of the body or the reply */
    HTTP_DRAIN_MAX = 64 * 1024,    /* a refused request's body up to this size is read, so that the connection can go on */
    HTTP_LINGER_MS = 2000,         /* how long the rest of a refused request is thrown away before the connection is closed */
    HTTP_WHOLE_MAX = 64 * 1024,    /* a larger body of a reply is handed out in pieces */
    HTTP_SEND_BUFFER = 256 * 1024, /* bytes of a reply that the system may hold */
    HTTP_SLOWEST = 4096,           /* bytes a second that a reader has to take in the long run */
    HTTP_SURPLUS_MS = 5000,        /* how long one connection too many may take to ask and be refused */
    HTTP_FD_RESERVE = 128,         /* open files for everything else */
    HTTP_IDLE_MS = 250,            /* who has been idle for less is not closed to make room */
    HTTP_CLOSING_MS = 1000,        /* how long the rest of a request may take when the server is to end */
    HTTP_HEADERS_MAX = 64,         /* of a reply */
    HTTP_ID_MAX = 64,              /* characters of a request id */
    HTTP_KEY_MAX = 512,            /* bytes of a key */
};

/* ---- http_conn.c ---- */

struct http_conn {
    struct http_conn *prev, *next;
    int fd;
    atomic_int_least64_t deadline; /* ms of the monotonic clock, or HTTP_NEVER */
    atomic_int_least64_t idle;     /* since when no request is there; HTTP_NEVER: one is */
    atomic_bool arriving;          /* a request has begun, but not all of it is there */
    atomic_bool cut;               /* by us, because of the deadline or to make room */
    bool surplus;                  /* one too many: gets a 503 */
    char address[INET6_ADDRSTRLEN];
};
#define HTTP_NEVER INT64_MAX

/* The connections that are open, and the thread that closes those whose deadline is past. */
struct http_conns {
    pthread_mutex_t lock; /* of the list: nobody on it has a closed socket */
    pthread_cond_t wake;
    pthread_t keeper;
    bool running, stop;
    atomic_bool closing; /* idle connections are closed, and those whose request does not arrive */
    struct http_conn *first;
    int32_t n, max;
    int32_t timeout; /* s */
};

/* How many of these the limit on open files allows, beside surplus ones and HTTP_FD_RESERVE other files; raises it where it may.
 * Without a file for a connection libmicrohttpd would try to accept it again and again, without a pause. */
int32_t http_conns_possible(int32_t wanted);
/* A few more than `max`, which get an answer. */
int32_t http_conns_surplus(int32_t max);

int http_conns_init(struct http_conns *t, int32_t max, int32_t timeout, struct genarm_error *err);
void http_conns_deinit(struct http_conns *t); /* once libmicrohttpd is gone */
int32_t http_conns_count(struct http_conns *t);
/* When all are taken, the one that has been idle longest is closed; if none is, the new one is surplus. NULL: no memory. */
struct http_conn *http_conn_open(struct http_conns *t, int fd, const struct sockaddr *address);
void http_conn_close(struct http_conns *t, struct http_conn *c); /* before its socket is closed */
int64_t http_now_ms(void);

/* From now on the client has `ms` to do its part; HTTP_NEVER: it is our turn. */
void http_conn_expect(struct http_conn *c, int64_t ms);
void http_conn_arrives(struct http_conn *c, int64_t ms); /* the same, for a request that has begun */
void http_conn_idle(struct http_conn *c, int64_t ms);    /* the same, between requests */

/* Sends what is left and throws away what still arrives, for a short while: closing with unread bytes would take the reply back
 * from the client's hands. */
void http_conn_linger(struct http_conn *c);

/* ---- http_keys.c ---- */

struct http_keys {
    char (*keys)[HTTP_KEY_MAX]; /* [n], padded with zeros */
    size_t n;
};
int http_keys_init(struct http_keys *k, const char *const *keys, size_t n, struct genarm_error *err);
void http_keys_deinit(struct http_keys *k);
/* The place of a key in the list, or -1. Takes the same time for every key of a length. */
int64_t http_keys_find(const struct http_keys *k, const char *key, size_t n);
/* The same for what a request carries. */
int64_t http_keys_of_call(const struct http_keys *k, const struct http_call *c);

/* ---- http_listen.c ---- */

/* A socket that listens, its port and whether only this machine reaches it. `host` and brackets as in http_params. */
int http_listen(int *fd, int32_t *port, bool *loopback, const char *host, int32_t port_wanted, struct genarm_error *err);

/* ---- the server ---- */

struct http_server {
    struct MHD_Daemon *daemon;
    struct http_params params; /* texts are borrowed */
    struct http_keys keys;
    struct http_conns conns;
    int32_t port;
    bool loopback;               /* only this machine reaches it: names in Host are checked */
    int quiesced;                /* the listening socket when it listens no more, else -1 */
    pthread_mutex_t lock;        /* of the observer */
    atomic_int_least64_t warned; /* ms: when libmicrohttpd last had something serious to say */
    http_observer *observer;
    void *observer_user;
};

struct http_pair {
    char *name, *value;
};

struct http_call {
    struct http_server *server;
    struct MHD_Connection *mhd;
    struct http_conn *conn;
    int64_t start, arrived; /* ms: when its first line was there, and all of it */
    char id[HTTP_ID_MAX + 1];
    char client[INET6_ADDRSTRLEN + 16];

    const char *method;    /* of libmicrohttpd */
    char *target;          /* as it came; cut apart by http_head.c */
    const char *authority; /* in the target; NULL: Host says it */
    char *path;            /* decoded; not yet: "" */
    const struct http_route *route;
    char *param;
    struct buf body;

    bool head_seen;       /* the head has been checked */
    bool complete;        /* the body has arrived */
    bool replied, broken; /* broken: libmicrohttpd did not take the reply, or there is none */
    int refused;          /* the status of a request that reaches no handler; 0: it does */
    const char *refusal;  /* why, for the client */

    int status;                                 /* of the reply; 0: none yet */
    size_t sent;                                /* bytes of its body that libmicrohttpd has */
    struct http_pair headers[HTTP_HEADERS_MAX]; /* of the reply, owned */
    size_t n_headers;

    struct http_stream stream;
    struct buf piece; /* what next() gave last, or a whole body */
    const char *piece_data;
    size_t piece_n, piece_at; /* how much of it libmicrohttpd has */
    int stream_end;           /* 0: goes on; 1: over; -1: to be cut */
    int64_t handed_at;        /* ms: since when it is the client's turn */
    int64_t patience;         /* ms that it has */
};

/* ---- http_head.c ---- */

/* Once the head is there: fills path, route, param, id, client; or refuses. */
void http_head_check(struct http_call *c, const char *method, const char *version);
/* The first refusal counts. `why` is of static storage. */
void http_refuse(struct http_call *c, int status, const char *why);
/* Content-Length; UINT64_MAX: chunked. */
uint64_t http_head_body_size(const struct http_call *c);

/* ---- http_route.c ---- */

bool http_path_sane(const char *path); /* no "..", no empty segments, no control characters, UTF-8 */
/* Sets route and param; or refuses with 404, or 405 and Allow. */
void http_route_find(struct http_call *c);
/* The methods of a path, as in Allow; "": there is no such path. */
void http_route_methods(const struct http_server *s, const char *path, char *out, size_t size);

/* ---- http_call.c ---- */

struct http_call *http_call_new(struct http_server *s, struct MHD_Connection *mhd, struct http_conn *conn, const char *target);
void http_call_free(struct http_call *c);

/* ---- http_reply.c ---- */

void http_reply_refusal(struct http_call *c);
/* The refusal where libmicrohttpd takes no reply: within a body. The connection has to be closed then. */
void http_reply_refusal_raw(struct http_call *c);

#endif
