#include "fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"

int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

bool reaches(atomic_int *counter, int value) {
    for (int i = 0; i < 1000; i++) {
        if (atomic_load(counter) >= value) {
            return true;
        }
        usleep(10000);
    }
    return false;
}

/* ---- handlers ---- */

static void hello(struct http_call *c, void *user) {
    atomic_fetch_add(&((struct world *)user)->calls, 1);
    http_reply(c, 200, "text/plain", "hello", 5);
}

static void echo(struct http_call *c, void *user) {
    atomic_fetch_add(&((struct world *)user)->calls, 1);
    size_t n;
    const char *body = http_call_body(c, &n);
    http_header(c, "X-Param", http_call_param(c));
    http_header(c, "X-Client", http_call_client(c));
    http_header(c, "X-Split", "one\r\nX-Evil: two");
    http_reply(c, 200, "application/octet-stream", body, n);
}

static void fixed(struct http_call *c, void *user) {
    (void)user;
    http_header(c, "Cache-Control", "max-age=60");
    http_reply_static(c, 200, "text/css", "p{}", 3);
}

static void silent(struct http_call *c, void *user) {
    (void)c;
    (void)user;
}

static void twice(struct http_call *c, void *user) {
    (void)user;
    http_reply(c, 200, "text/plain", "first", 5);
    http_reply(c, 500, "text/plain", "second", 6);
}

static void failing(struct http_call *c, void *user) {
    (void)user;
    http_reply_error(c, 503, NULL, "model", "the %s is \"full\"\n", "queue");
}

/* Computes until the client leaves, or for as long as a header says. */
static void block(struct http_call *c, void *user) {
    struct world *w = user;
    const char *ms = http_call_header(c, "X-Ms");
    const int64_t end = now_ms() + (ms ? atoi(ms) : 20000);
    atomic_fetch_add(&w->running, 1);
    bool gone = false;
    while (now_ms() < end && !(gone = http_call_gone(c))) {
        usleep(5000);
    }
    atomic_fetch_add(&w->gone, gone);
    if (gone) {
        http_reply_gone(c);
    } else {
        http_reply(c, 200, "text/plain", "done", 4);
    }
}

static void stream_done(void *user) { atomic_fetch_add(&((struct world *)user)->streams_done, 1); }

static int gated_next(struct http_call *c, struct buf *out, void *user) {
    struct world *w = user;
    while (sem_trywait(&w->go) != 0) {
        if (http_call_gone(c)) {
            atomic_fetch_add(&w->gone, 1);
            return -1;
        }
        usleep(500);
    }
    return buf_puts(out, "data: piece\n\n", NULL) == GENARM_OK ? 1 : -1;
}

static void gated(struct http_call *c, void *user) {
    http_reply_stream(c, 200, "text/event-stream", &(struct http_stream){gated_next, stream_done, user});
}

/* Three pieces, the last with the end; or cut off there, where a header asks for it. */
static int short_next(struct http_call *c, struct buf *out, void *user) {
    struct world *w = user;
    const int n = atomic_fetch_add(&w->calls, 1);
    const bool cut = http_call_header(c, "X-Cut") != NULL;
    buf_printf(out, NULL, "piece %d\n", n);
    return n < 2 ? 1 : cut ? -1 : 0;
}

static void short_stream(struct http_call *c, void *user) {
    atomic_store(&((struct world *)user)->calls, 0);
    http_reply_stream(c, 200, "text/plain", &(struct http_stream){short_next, stream_done, user});
}

/* Never ends, as fast as it is read. */
static int flood_next(struct http_call *c, struct buf *out, void *user) {
    (void)c;
    (void)user;
    static const char zeros[16384];
    return buf_append(out, zeros, sizeof zeros, NULL) == GENARM_OK ? 1 : -1;
}

static void flood(struct http_call *c, void *user) {
    atomic_fetch_add(&((struct world *)user)->running, 1);
    http_reply_stream(c, 200, "application/octet-stream", &(struct http_stream){flood_next, stream_done, user});
}

static void big(struct http_call *c, void *user) {
    (void)user;
    char *data = malloc(BIG);
    memset(data, 'x', BIG);
    http_reply(c, 200, "application/octet-stream", data, BIG);
    free(data);
}

static const struct http_route routes[] = {
    {"GET", "/open", hello, true},
    {"GET", "/hello", hello, false},
    {"POST", "/echo", echo, false},
    {"GET", "/echo", echo, false},
    {"POST",
     "/v1/requests/"
     "*"
     "/arms",
     echo, false},
    {"GET",
     "/v1/"
     "*",
     echo, false},
    {"GET",
     "/deep/"
     "**",
     echo, false},
    {"GET", "/v1/exact", hello, false},
    {"POST", "/v1/posted", echo, false},
    {"GET", "/static", fixed, true},
    {"GET", "/silent", silent, false},
    {"GET", "/twice", twice, false},
    {"GET", "/failing", failing, false},
    {"GET", "/block", block, false},
    {"GET", "/gated", gated, false},
    {"GET", "/short", short_stream, false},
    {"GET", "/flood", flood, false},
    {"GET", "/big", big, false},
    {"POST", "/only-post", echo, false},
};

/* ---- the server ---- */

static void observe(const char *route, int status, double seconds, void *user) {
    struct world *w = user;
    assert_non_null(route);
    assert_true(seconds >= 0 && seconds < 600);
    atomic_store(&w->last_status, status);
    atomic_fetch_add(&w->observed, 1);
}

struct http_params fixture_params(void) {
    return (struct http_params){.host = "127.0.0.1",
                                .max_body = 64 * 1024,
                                .max_connections = 200,
                                .timeout = 20,
                                .routes = routes,
                                .n_routes = sizeof routes / sizeof *routes};
}

void fixture_start(struct fixture *f, struct http_params params) {
    memset(f, 0, sizeof *f);
    sem_init(&f->world.go, 0, 0);
    params.user = &f->world;
    struct genarm_error err;
    assert_int_equal(http_server_new(&f->server, &params, &err), GENARM_OK);
    http_server_observe(f->server, observe, &f->world);
    f->port = http_server_port(f->server);
    assert_true(f->port > 0);
}

void fixture_stop(struct fixture *f) {
    http_server_free(f->server);
    sem_destroy(&f->world.go);
}

int fixture_setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    fixture_start(f, fixture_params());
    *state = f;
    return 0;
}

int fixture_teardown(void **state) {
    fixture_stop(*state);
    free(*state);
    return 0;
}

/* ---- the client ---- */

void raw_open(struct raw *r, int port) {
    buf_init(&r->in, 64u << 20);
    r->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int held = 256 * 1024; /* whatever the system would hold for one that does not read */
    setsockopt(r->fd, SOL_SOCKET, SO_RCVBUF, &held, sizeof held);
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(r->fd, (const struct sockaddr *)&to, sizeof to), 0);
}

void raw_close(struct raw *r) {
    close(r->fd);
    r->fd = -1;
    buf_deinit(&r->in);
}

bool raw_try_send(struct raw *r, const void *bytes, size_t n) {
    const char *p = bytes;
    while (n > 0) {
        const ssize_t sent = send(r->fd, p, n, MSG_NOSIGNAL);
        if (sent < 0) {
            return false;
        }
        p += sent;
        n -= (size_t)sent;
    }
    return true;
}

void raw_send(struct raw *r, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    char *text = NULL;
    const int n = vasprintf(&text, fmt, args);
    va_end(args);
    assert_true(n >= 0);
    raw_try_send(r, text, (size_t)n);
    free(text);
}

bool raw_more(struct raw *r, int ms) {
    char piece[65536];
    struct pollfd p = {.fd = r->fd, .events = POLLIN};
    if (poll(&p, 1, ms) <= 0) {
        return false;
    }
    const ssize_t n = recv(r->fd, piece, sizeof piece, 0);
    return n > 0 && buf_append(&r->in, piece, (size_t)n, NULL) == GENARM_OK;
}

bool raw_ended(struct raw *r, int ms) {
    const int64_t end = now_ms() + ms;
    char waste[65536];
    for (int64_t left = ms; left >= 0; left = end - now_ms()) {
        struct pollfd p = {.fd = r->fd, .events = POLLIN};
        if (poll(&p, 1, (int)left) > 0 && recv(r->fd, waste, sizeof waste, MSG_DONTWAIT) <= 0) {
            return true;
        }
    }
    return false;
}

static void take(struct raw *r, size_t n) {
    memmove(r->in.data, r->in.data + n, r->in.len - n + 1);
    r->in.len -= n;
}

/* Receives until n bytes are there. */
static bool have(struct raw *r, size_t n) {
    while (r->in.len < n) {
        if (!raw_more(r, 10000)) {
            return false;
        }
    }
    return true;
}

/* The offset after the next line end at or after `from`; 0: none comes. */
static size_t line_end(struct raw *r, const char *mark) {
    for (;;) {
        const char *at = r->in.data ? strstr(r->in.data, mark) : NULL;
        if (at) {
            return (size_t)(at - r->in.data) + strlen(mark);
        }
        if (!raw_more(r, 10000)) {
            return 0;
        }
    }
}

static bool read_chunks(struct raw *r, struct buf *body) {
    for (;;) {
        const size_t line = line_end(r, "\r\n");
        if (!line) {
            return false;
        }
        const size_t n = strtoul(r->in.data, NULL, 16);
        take(r, line);
        if (!have(r, n + 2)) {
            return false;
        }
        buf_append(body, r->in.data, n, NULL);
        take(r, n + 2);
        if (n == 0) {
            return true;
        }
    }
}

const char *reply_header(const struct reply *p, const char *name) {
    static _Thread_local char values[4][1024];
    static _Thread_local int next;
    const size_t n = strlen(name);
    for (const char *line = p->head; line && *line; line = strstr(line, "\r\n") ? strstr(line, "\r\n") + 2 : NULL) {
        if (strncasecmp(line, name, n) == 0 && line[n] == ':') {
            char *out = values[next++ % 4];
            snprintf(out, sizeof values[0], "%.*s", (int)strcspn(line + n + 2, "\r"), line + n + 2);
            return out;
        }
    }
    return NULL;
}

struct reply *raw_reply(struct raw *r, bool to_head) {
    struct reply *p = calloc(1, sizeof *p);
    buf_init(&p->body, 64u << 20);
    const size_t end = line_end(r, "\r\n\r\n");
    if (!end || strncmp(r->in.data, "HTTP/1.", 7) != 0) {
        return p;
    }
    p->status = atoi(r->in.data + 9);
    const char *lines = strstr(r->in.data, "\r\n") + 2;
    p->head = strndup(lines, (size_t)(r->in.data + end - lines) - 2);
    take(r, end);
    const char *length = reply_header(p, "Content-Length"), *encoding = reply_header(p, "Transfer-Encoding");
    if (to_head || p->status == 204 || p->status == 100) {
        p->whole = true;
    } else if (encoding) {
        p->whole = read_chunks(r, &p->body);
    } else if (length) {
        const size_t n = strtoul(length, NULL, 10);
        p->whole = have(r, n);
        const size_t got = p->whole ? n : r->in.len;
        buf_append(&p->body, r->in.data ? r->in.data : "", got, NULL);
        if (got) {
            take(r, got);
        }
    } else {
        while (raw_more(r, 10000)) {
        }
        buf_append(&p->body, r->in.data ? r->in.data : "", r->in.len, NULL);
        p->whole = true;
    }
    return p;
}

void reply_free(struct reply *p) {
    free(p->head);
    buf_deinit(&p->body);
    free(p);
}

struct reply *ask(int port, const char *method, const char *path, const char *headers, const char *body) {
    struct raw r;
    raw_open(&r, port);
    raw_send(&r, "%s %s HTTP/1.1\r\nHost: localhost:%d\r\n%s", method, path, port, headers ? headers : "");
    if (body) {
        raw_send(&r, "Content-Length: %zu\r\n\r\n%s", strlen(body), body);
    } else {
        raw_send(&r, "\r\n");
    }
    struct reply *p = raw_reply(&r, strcmp(method, "HEAD") == 0);
    raw_close(&r);
    return p;
}

/* ---- what is expected ---- */

void assert_error(struct reply *p, int status, const char *type) {
    json_t *o = NULL;
    assert_int_equal(p->status, status);
    assert_int_equal(json_parse(&o, p->body.data ? p->body.data : "", p->body.len, "reply", NULL), GENARM_OK);
    json_t *e = json_object_get(o, "error");
    assert_int_equal(json_integer_value(json_object_get(e, "code")), status);
    assert_string_equal(json_string_value(json_object_get(e, "type")), type);
    assert_true(strlen(json_string_value(json_object_get(e, "message"))) > 0);
    assert_non_null(json_object_get(e, "param"));
    assert_non_null(reply_header(p, "X-Request-Id"));
    assert_string_equal(reply_header(p, "Cache-Control"), "no-store");
    json_decref(o);
}

void assert_refused(int port, const char *method, const char *path, const char *headers, const char *body, int status,
                    const char *type) {
    struct reply *p = ask(port, method, path, headers, body);
    assert_error(p, status, type);
    reply_free(p);
}

void assert_status(int port, const char *method, const char *path, const char *headers, const char *body, int status) {
    struct reply *p = ask(port, method, path, headers, body);
    assert_int_equal(p->status, status);
    assert_true(p->whole);
    reply_free(p);
}
