/* Replies: headers that all have, errors, whole bodies and streams. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "serve/http_internal.h"

/* ---- headers ---- */

static bool has_header(const struct http_call *c, const char *name) {
    for (size_t i = 0; i < c->n_headers; i++) {
        if (strcasecmp(c->headers[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool one_line(const char *s) {
    for (; *s; s++) {
        if (((unsigned char)*s < ' ' && *s != '\t') || *s == 0x7f) {
            return false;
        }
    }
    return true;
}

void http_header(struct http_call *c, const char *name, const char *value) {
    if (c->replied || c->n_headers == HTTP_HEADERS_MAX || !name[0] || !one_line(name) || !one_line(value)) {
        return;
    }
    const struct http_pair p = {strdup(name), strdup(value)};
    if (!p.name || !p.value) {
        free(p.name);
        free(p.value);
        return;
    }
    c->headers[c->n_headers++] = p;
}

static void default_header(struct http_call *c, const char *name, const char *value) {
    if (!has_header(c, name)) {
        http_header(c, name, value);
    }
}

/* What every reply has. False: there was a reply already. */
static bool begin(struct http_call *c, int status, const char *type, bool is_static) {
    const struct http_params *p = &c->server->params;
    if (c->replied) {
        serve_log_line(p->log, GENARM_LOG_ERROR, c->id, "a second reply, %d, to %s %s", status, c->method, c->path);
        return false;
    }
    if (type && status != 204) {
        default_header(c, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    }
    http_header(c, "X-Request-Id", c->id);
    default_header(c, "X-Content-Type-Options", "nosniff");
    if (!is_static) {
        default_header(c, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    }
    if (status == 503) {
        default_header(c, MHD_HTTP_HEADER_RETRY_AFTER, "1");
    }
    if (atomic_load(&c->server->conns.closing)) {
        default_header(c, MHD_HTTP_HEADER_CONNECTION, "close");
    }
    if (p->cors) {
        default_header(c, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_ORIGIN, p->cors);
        default_header(c, MHD_HTTP_HEADER_ACCESS_CONTROL_EXPOSE_HEADERS, "X-Request-Id, Retry-After");
        if (strcmp(p->cors, "*") != 0) {
            default_header(c, MHD_HTTP_HEADER_VARY, MHD_HTTP_HEADER_ORIGIN);
        }
    }
    c->replied = true;
    c->status = status;
    return true;
}

/* Takes the response over. */
static void queue(struct http_call *c, struct MHD_Response *response) {
    if (!response) {
        c->broken = true;
        return;
    }
    for (size_t i = 0; i < c->n_headers; i++) {
        MHD_add_response_header(response, c->headers[i].name, c->headers[i].value);
    }
    c->patience = (int64_t)c->server->params.timeout * 1000;
    c->handed_at = http_now_ms();
    http_conn_expect(c->conn, c->patience);
    c->broken = MHD_queue_response(c->mhd, (unsigned)c->status, response) != MHD_YES;
    MHD_destroy_response(response);
}

/* ---- bodies in pieces ---- */

/* Asks for pieces until there is one. False: it is over. */
static bool next_piece(struct http_call *c) {
    while (c->piece_at == c->piece_n && c->stream_end == 0) {
        buf_clear(&c->piece);
        const int rc = c->stream.next(c, &c->piece, c->stream.user);
        c->stream_end = rc > 0 ? 0 : rc == 0 ? 1 : -1;
        c->piece_data = c->piece.data;
        c->piece_n = c->piece.len;
        c->piece_at = 0;
    }
    return c->stream_end >= 0 && c->piece_at < c->piece_n;
}

/* libmicrohttpd asks when the client, or the socket's buffer, has taken what there was. A client that lets us wait uses up its
 * patience, `timeout` seconds, and what it takes gives it some back: neither a standstill nor a trickle lasts. */
static ssize_t pull(void *cls, uint64_t pos, char *out, size_t max) {
    (void)pos;
    struct http_call *c = cls;
    c->patience -= http_now_ms() - c->handed_at;
    http_conn_expect(c->conn, HTTP_NEVER);
    ssize_t n = MHD_CONTENT_READER_END_OF_STREAM;
    if (next_piece(c)) {
        const size_t left = c->piece_n - c->piece_at;
        const size_t take = left < max ? left : max;
        memcpy(out, c->piece_data + c->piece_at, take);
        c->piece_at += take;
        c->sent += take;
        n = (ssize_t)take;
        c->patience += (int64_t)take * 1000 / HTTP_SLOWEST;
    } else if (c->stream_end < 0) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    }
    const int64_t most = (int64_t)c->server->params.timeout * 1000;
    c->patience = c->patience > most ? most : c->patience < 0 ? 0 : c->patience;
    c->handed_at = http_now_ms();
    http_conn_expect(c->conn, c->patience);
    return n;
}

/* ---- whole bodies ---- */

static bool has_body(const struct http_call *c) { return strcmp(c->method, "HEAD") != 0 && c->status != 204 && c->status != 304; }

/* Large ones are handed out in pieces, so that it shows whether the client takes them. */
static void reply_bytes(struct http_call *c, const void *data, size_t n, bool is_static) {
    c->sent = has_body(c) ? n : 0;
    if (c->sent <= HTTP_WHOLE_MAX) {
        const enum MHD_ResponseMemoryMode mode = is_static || n == 0 ? MHD_RESPMEM_PERSISTENT : MHD_RESPMEM_MUST_COPY;
        queue(c, MHD_create_response_from_buffer(n, n ? (void *)(uintptr_t)data : (void *)(uintptr_t) "", mode));
        return;
    }
    c->sent = 0;
    if (!is_static && buf_append(&c->piece, data, n, NULL) != GENARM_OK) {
        c->broken = true;
        return;
    }
    c->piece_data = is_static ? data : c->piece.data;
    c->piece_n = n;
    c->stream_end = 1;
    queue(c, MHD_create_response_from_callback(n, 16 * 1024, pull, c, NULL));
}

void http_reply(struct http_call *c, int status, const char *type, const void *data, size_t n) {
    if (begin(c, status, type, false)) {
        reply_bytes(c, data, n, false);
    }
}

void http_reply_static(struct http_call *c, int status, const char *type, const void *data, size_t n) {
    if (begin(c, status, type, true)) {
        reply_bytes(c, data, n, true);
    }
}

/* ---- errors ---- */

static const char *error_type(int status) {
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 501:
        return "not_supported_error";
    case 503:
        return "unavailable_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

/* False: no memory. */
static bool error_body(struct buf *out, int status, const char *type, const char *param, const char *message) {
    json_t *text = text_json(message), *where = param ? text_json(param) : json_null();
    json_t *body = text && where ? json_pack("{s:{s:i,s:O,s:s,s:O}}", "error", "code", status, "message", text, "type",
                                             type ? type : error_type(status), "param", where)
                                 : NULL;
    const bool ok = body && json_dump(out, body, NULL) == GENARM_OK;
    json_decref(body);
    json_decref(text);
    json_decref(where);
    return ok;
}

void http_reply_error(struct http_call *c, int status, const char *type, const char *param, const char *fmt, ...) {
    struct buf body;
    buf_init(&body, SIZE_MAX - 1);
    char *message = NULL;
    va_list args;
    va_start(args, fmt);
    const bool formatted = vasprintf(&message, fmt, args) >= 0;
    va_end(args);
    if (!formatted) {
        message = NULL;
    }
    if (begin(c, status, "application/json; charset=utf-8", false)) {
        const bool ok = error_body(&body, status, type, param, message ? message : "not enough memory");
        reply_bytes(c, ok ? body.data : "{}", ok ? body.len : 2, false);
    }
    free(message);
    buf_deinit(&body);
}

void http_reply_refusal(struct http_call *c) {
    if (c->refused == 204) { /* a preflight */
        const char *wanted = http_call_header(c, MHD_HTTP_HEADER_ACCESS_CONTROL_REQUEST_HEADERS);
        http_header(c, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_HEADERS, wanted ? wanted : "*");
        http_header(c, MHD_HTTP_HEADER_ACCESS_CONTROL_MAX_AGE, "86400");
        http_reply(c, 204, NULL, NULL, 0);
    } else {
        http_reply_error(c, c->refused, NULL, NULL, "%s", c->refusal);
    }
}

void http_reply_gone(struct http_call *c) {
    c->replied = true;
    c->broken = true;
}

/* Sends all or gives up with the connection's deadline: the keeper's shutdown ends the wait. */
static void send_all(int fd, const char *bytes, size_t n) {
    while (n > 0) {
        const ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            bytes += sent;
            n -= (size_t)sent;
        } else if (errno == EAGAIN) {
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            poll(&p, 1, -1);
        } else if (errno != EINTR) {
            return;
        }
    }
}

void http_reply_refusal_raw(struct http_call *c) {
    struct buf body, head;
    buf_init(&body, SIZE_MAX - 1);
    buf_init(&head, SIZE_MAX - 1);
    http_header(c, MHD_HTTP_HEADER_CONNECTION, "close");
    if (begin(c, c->refused, "application/json; charset=utf-8", false) && error_body(&body, c->refused, NULL, NULL, c->refusal) &&
        buf_printf(&head, NULL, "HTTP/1.1 %d %s\r\nContent-Length: %zu\r\n", c->refused,
                   MHD_get_reason_phrase_for((unsigned)c->refused), body.len) == GENARM_OK) {
        bool ok = true;
        for (size_t i = 0; i < c->n_headers; i++) {
            ok = ok && buf_printf(&head, NULL, "%s: %s\r\n", c->headers[i].name, c->headers[i].value) == GENARM_OK;
        }
        if (ok && buf_puts(&head, "\r\n", NULL) == GENARM_OK && buf_append(&head, body.data, body.len, NULL) == GENARM_OK) {
            c->sent = body.len;
            http_conn_expect(c->conn, (int64_t)c->server->params.timeout * 1000);
            send_all(c->conn->fd, head.data, head.len);
        }
    }
    buf_deinit(&body);
    buf_deinit(&head);
}

/* ---- streams ---- */

void http_reply_stream(struct http_call *c, int status, const char *type, const struct http_stream *stream) {
    if (!begin(c, status, type, false)) {
        if (stream->done) {
            stream->done(stream->user);
        }
        return;
    }
    c->stream = *stream;
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16 * 1024, pull, c, NULL);
    if (response && !has_body(c)) {
        /* libmicrohttpd would end the chunks that a HEAD does not have. */
        MHD_set_response_options(response, MHD_RF_HTTP_VERSION_1_0_ONLY, MHD_RO_END);
    }
    queue(c, response);
}
