/* A request as its handler sees it. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "serve/http_internal.h"

/* 32 hexadecimal digits that nobody has seen before. */
static void random_id(char out[static HTTP_ID_MAX + 1]) {
    unsigned char bytes[16] = {0};
    size_t n = 0;
    while (n < sizeof bytes) {
        const ssize_t got = getrandom(bytes + n, sizeof bytes - n, 0);
        if (got > 0) {
            n += (size_t)got;
        } else if (errno != EINTR) { /* a kernel without it: unique enough */
            const uint64_t now = (uint64_t)http_now_ms() ^ (uint64_t)(uintptr_t)out;
            memcpy(bytes, &now, sizeof now);
            break;
        }
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    }
}

struct http_call *http_call_new(struct http_server *s, struct MHD_Connection *mhd, struct http_conn *conn, const char *target) {
    struct http_call *c = calloc(1, sizeof *c);
    char *copy = strdup(target ? target : "");
    if (!c || !copy) {
        free(c);
        free(copy);
        return NULL;
    }
    c->server = s;
    c->mhd = mhd;
    c->conn = conn;
    c->start = http_now_ms();
    c->method = "-";
    c->target = copy;
    c->path = copy + strlen(copy);
    random_id(c->id);
    snprintf(c->client, sizeof c->client, "%s", conn->address);
    buf_init(&c->body, s->params.max_body);
    buf_init(&c->piece, SIZE_MAX - 1);
    return c;
}

void http_call_free(struct http_call *c) {
    if (!c) {
        return;
    }
    if (c->stream.done) {
        c->stream.done(c->stream.user);
    }
    for (size_t i = 0; i < c->n_headers; i++) {
        free(c->headers[i].name);
        free(c->headers[i].value);
    }
    buf_deinit(&c->body);
    buf_deinit(&c->piece);
    free(c->target);
    free(c->param);
    free(c);
}

const char *http_call_path(const struct http_call *c) { return c->path; }

const char *http_call_param(const struct http_call *c) { return c->param ? c->param : ""; }

const char *http_call_header(const struct http_call *c, const char *name) {
    return MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, name);
}

const char *http_call_body(const struct http_call *c, size_t *n) {
    if (n) {
        *n = c->body.len;
    }
    return c->body.data ? c->body.data : "";
}

const char *http_call_id(const struct http_call *c) { return c->id; }

const char *http_call_client(const struct http_call *c) { return c->client; }

double http_call_arrived(const struct http_call *c) { return 1e-3 * (double)c->arrived; }

/* The end of the stream shows although bytes of a next request may come before it. */
bool http_call_gone(struct http_call *c) {
    struct pollfd p = {.fd = c->conn->fd, .events = POLLRDHUP};
    return atomic_load(&c->conn->cut) || (poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)));
}
