/* The server: starts and stops libmicrohttpd and leads a request through its life.
 *
 * A request begins with its first line (on_line), is checked once its head is there, collects its body, reaches its handler
 * (on_request) and ends when its reply is out or its connection gone (on_end), all in the connection's thread.
 */
#include "serve/http.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "serve/http_internal.h"

/* ---- a request ---- */

static int64_t timeout_ms(const struct http_server *s) { return (int64_t)s->params.timeout * 1000; }

static struct http_conn *conn_of(struct MHD_Connection *mhd) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static void *on_line(void *cls, const char *target, struct MHD_Connection *mhd) {
    struct http_server *s = cls;
    struct http_conn *conn = conn_of(mhd);
    if (!conn) {
        return NULL;
    }
    http_conn_arrives(conn, conn->surplus ? HTTP_SURPLUS_MS : timeout_ms(s));
    return http_call_new(s, mhd, conn, target);
}

/* Its target is decoded by http_head.c, which knows what is malformed. */
static size_t leave_escapes(void *cls, struct MHD_Connection *mhd, char *s) {
    (void)cls;
    (void)mhd;
    return strlen(s);
}

/* Whether a refused request's body is read first. Otherwise the reply goes out at once and the connection is closed. */
static bool worth_draining(const struct http_call *c) {
    const char *expect = http_call_header(c, MHD_HTTP_HEADER_EXPECT);
    return http_head_body_size(c) <= HTTP_DRAIN_MAX && c->refused != 400 && c->refused != 413 && !expect;
}

static enum MHD_Result take_body(struct http_call *c, const char *bytes, size_t n) {
    if (c->refused) {
        return MHD_YES;
    }
    struct genarm_error err;
    if (buf_append(&c->body, bytes, n, &err) == GENARM_OK) {
        return MHD_YES;
    }
    const bool too_large = err.code == GENARM_EINVAL;
    http_refuse(c, too_large ? 413 : 503, too_large ? "the body of the request is too large" : "not enough memory");
    http_reply_refusal_raw(c);
    return MHD_NO;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
                                  const char *bytes, size_t *n, void **context) {
    struct http_server *s = cls;
    struct http_call *c = *context;
    (void)mhd;
    (void)url;
    if (!c) {
        return MHD_NO; /* no memory for it */
    }
    if (!c->head_seen) {
        c->head_seen = true;
        http_head_check(c, method, version);
        if (c->refused && http_head_body_size(c) > 0 && !worth_draining(c)) {
            http_reply_refusal(c);
        }
        return c->broken ? MHD_NO : MHD_YES;
    }
    if (*n > 0) {
        const size_t taken = *n;
        *n = 0;
        return take_body(c, bytes, taken);
    }
    c->complete = true;
    c->arrived = http_now_ms();
    http_conn_expect(c->conn, HTTP_NEVER);
    if (c->refused) {
        http_reply_refusal(c);
    } else {
        c->route->handler(c, s->params.user);
    }
    if (!c->replied) {
        http_reply_error(c, 500, NULL, NULL, "the request was not answered");
    }
    return c->broken ? MHD_NO : MHD_YES;
}

/* The status for the log: where we sent none, libmicrohttpd may have, or it says who gave up. */
static int final_status(const struct http_call *c) {
    if (c->status) {
        return c->status;
    }
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c->mhd, MHD_CONNECTION_INFO_HTTP_STATUS);
    return info && info->http_status ? (int)info->http_status : atomic_load(&c->conn->cut) ? 408 : 499;
}

static void on_end(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode why) {
    (void)mhd;
    struct http_server *s = cls;
    struct http_call *c = *context;
    if (!c) {
        return;
    }
    *context = NULL;
    struct http_conn *conn = c->conn;
    const int status = final_status(c);
    const double seconds = (double)(http_now_ms() - c->start) / 1000;
    if (!c->path[0]) { /* malformed: as it came, without what may be a query */
        c->target[strcspn(c->target, "?")] = '\0';
    }
    serve_log_request(s->params.log, c->id, conn->address, c->method, c->path[0] ? c->path : c->target, status, seconds, c->sent);
    pthread_mutex_lock(&s->lock);
    http_observer *observer = s->observer;
    void *user = s->observer_user;
    pthread_mutex_unlock(&s->lock);
    if (observer) {
        observer(c->route ? c->route->path : "", status, seconds, user);
    }
    const bool unread = !c->complete && why != MHD_REQUEST_TERMINATED_DAEMON_SHUTDOWN && !atomic_load(&conn->cut);
    http_call_free(c);
    http_conn_idle(conn, timeout_ms(s) + (unread ? HTTP_LINGER_MS : 0));
    if (unread) {
        http_conn_linger(conn);
    }
}

/* ---- a connection ---- */

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode what) {
    struct http_server *s = cls;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        http_conn_close(&s->conns, *context);
        *context = NULL;
        return;
    }
    const union MHD_ConnectionInfo *fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    const union MHD_ConnectionInfo *address = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (!fd) {
        return;
    }
    /* Pieces of a stream leave at once; and the system holds little for a client that does not read. */
    const int yes = 1, held = HTTP_SEND_BUFFER;
    setsockopt(fd->connect_fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(fd->connect_fd, SOL_SOCKET, SO_SNDBUF, &held, sizeof held);
    *context = http_conn_open(&s->conns, fd->connect_fd, address ? address->client_addr : NULL);
    if (!*context) {
        shutdown(fd->connect_fd, SHUT_RDWR);
    }
}

/* What clients do wrong is of little interest; what libmicrohttpd cannot do is. */
static void on_message(void *cls, const char *fmt, va_list args) PRINTF_LIKE(2, 0);
static void on_message(void *cls, const char *fmt, va_list args) {
    static const char *const serious[] = {"Failed to create", "Error allocating", "Error accepting", "Error during",
                                          "Failed to join"};
    struct http_server *s = cls;
    char line[512];
    vsnprintf(line, sizeof line, fmt, args);
    line[strcspn(line, "\n")] = '\0';
    enum genarm_log_level level = GENARM_LOG_DEBUG;
    for (size_t i = 0; i < sizeof serious / sizeof *serious; i++) {
        if (strncmp(line, serious[i], strlen(serious[i])) == 0) {
            level = GENARM_LOG_WARN;
        }
    }
    /* At most one of those a second: what cannot be done may be tried without a pause. */
    if (level == GENARM_LOG_WARN) {
        const int64_t now = http_now_ms();
        level = now - atomic_exchange(&s->warned, now) < 1000 ? GENARM_LOG_DEBUG : level;
    }
    serve_log_line(s->params.log, level, NULL, "http: %s", line);
}

/* ---- the server ---- */

static int check_params(const struct http_params *p, struct genarm_error *err) {
    const bool connections = p->max_connections >= 1 && p->max_connections <= 1000000;
    if (!p->host || !connections || p->timeout < 1 || p->max_body > SIZE_MAX / 4) {
        return error_set(err, GENARM_EINVAL, "limits of the server are out of range");
    }
    if (p->cors && (!p->cors[0] || strpbrk(p->cors, "\r\n ,"))) {
        return error_set(err, GENARM_EINVAL, "'%s' is not one origin for CORS", p->cors);
    }
    return GENARM_OK;
}

/* Takes the socket over when it succeeds. */
static struct MHD_Daemon *start(struct http_server *s, int fd) {
    const struct http_params *p = &s->params;
    const unsigned flags =
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL | MHD_USE_ITC | MHD_USE_ERROR_LOG;
    const int32_t surplus = http_conns_surplus(p->max_connections);
    /* Threads inherit the mask: signals are for the program's own thread. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    struct MHD_Daemon *daemon = MHD_start_daemon(
        flags, (uint16_t)s->port, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_message, s, MHD_OPTION_LISTEN_SOCKET,
        fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)(p->max_connections + surplus), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)HTTP_POOL_SIZE, MHD_OPTION_URI_LOG_CALLBACK, on_line, s, MHD_OPTION_UNESCAPE_CALLBACK, leave_escapes, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, on_end, s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return daemon;
}

int http_server_new(struct http_server **out, const struct http_params *params, struct genarm_error *err) {
    int rc = check_params(params, err), fd = -1;
    if (rc != GENARM_OK) {
        return rc;
    }
    struct http_server *s = calloc(1, sizeof *s);
    if (!s) {
        return error_nomem(err, "the server");
    }
    s->params = *params;
    s->params.max_connections = http_conns_possible(params->max_connections);
    if (s->params.max_connections < params->max_connections) {
        serve_log_line(params->log, GENARM_LOG_WARN, NULL, "the limit on open files (ulimit -n) allows %d connections, not %d",
                       s->params.max_connections, params->max_connections);
    }
    s->quiesced = -1;
    pthread_mutex_init(&s->lock, NULL);
    if ((rc = http_keys_init(&s->keys, params->keys, params->n_keys, err)) != GENARM_OK ||
        (rc = http_listen(&fd, &s->port, &s->loopback, params->host, params->port, err)) != GENARM_OK ||
        (rc = http_conns_init(&s->conns, s->params.max_connections, params->timeout, err)) != GENARM_OK) {
        goto done;
    }
    s->daemon = start(s, fd);
    if (!s->daemon) {
        rc = error_set(err, GENARM_EIO, "cannot start the HTTP server: %s", errno ? strerror(errno) : "unknown reason");
        goto done;
    }
    fd = -1;
    *out = s;
    s = NULL;
done:
    if (fd >= 0) {
        close(fd);
    }
    http_server_free(s);
    return rc;
}

void http_server_free(struct http_server *s) {
    if (!s) {
        return;
    }
    if (s->daemon) {
        MHD_stop_daemon(s->daemon);
    }
    if (s->quiesced >= 0) {
        close(s->quiesced);
    }
    http_conns_deinit(&s->conns);
    http_keys_deinit(&s->keys);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

int32_t http_server_port(const struct http_server *s) { return s->port; }

bool http_server_is_local(const struct http_server *s) { return s->loopback; }

int32_t http_server_n_connections(const struct http_server *s) {
    return http_conns_count((struct http_conns *)(uintptr_t)&s->conns);
}

/* The socket may be closed only once libmicrohttpd has stopped, but shut down it refuses who comes. */
void http_server_quiesce(struct http_server *s) {
    if (s->quiesced < 0) {
        atomic_store(&s->conns.closing, true);
        const MHD_socket fd = MHD_quiesce_daemon(s->daemon);
        if (fd != MHD_INVALID_SOCKET) {
            shutdown(fd, SHUT_RDWR);
            s->quiesced = fd;
        }
    }
}

void http_server_observe(struct http_server *s, http_observer *observer, void *user) {
    pthread_mutex_lock(&s->lock);
    s->observer = observer;
    s->observer_user = user;
    pthread_mutex_unlock(&s->lock);
}
