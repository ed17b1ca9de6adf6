/* A request's head: is it well-formed, may its sender ask, which route is meant. What is refused here reaches no handler. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "serve/http_internal.h"

void http_refuse(struct http_call *c, int status, const char *why) {
    if (!c->refused) {
        c->refused = status;
        c->refusal = why;
    }
}

/* ---- the target ---- */

static int hex(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* In place. A zero byte becomes a control character that no path has. False: malformed. */
static bool decode(char *s) {
    char *out = s;
    for (; *s; s++) {
        char byte = *s;
        if (byte == '%') {
            const int high = hex(s[1]), low = high < 0 ? -1 : hex(s[2]);
            if (low < 0) {
                return false;
            }
            byte = (char)(high << 4 | low);
            byte = byte ? byte : '\1';
            s += 2;
        }
        *out++ = byte;
    }
    *out = '\0';
    return true;
}

/* "/path?query", or the same after "http://authority". */
static bool parse_target(struct http_call *c) {
    char *target = c->target;
    for (const char *p = target; *p; p++) {
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f || *p == '#') {
            return false;
        }
    }
    if (strncasecmp(target, "http://", 7) == 0) {
        char *authority = target + 7;
        const size_t n = strcspn(authority, "/?");
        if (n == 0 || authority[n] != '/') {
            return false;
        }
        memmove(authority - 1, authority, n); /* leaves room for its end */
        authority[n - 1] = '\0';
        c->authority = authority - 1;
        target = authority + n;
    }
    if (target[0] != '/') {
        return false;
    }
    char *query = strchr(target, '?');
    if (query) {
        *query++ = '\0';
    }
    c->path = target;
    return decode(target) && (!query || decode(query)); /* a query has no meaning here, only a form */
}

/* ---- headers ---- */

struct counts {
    int host, length, encoding;
    bool malformed;
};

static bool is_token(const char *s) {
    return *s && s[strspn(s, "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")] == '\0';
}

static enum MHD_Result count_header(void *cls, enum MHD_ValueKind kind, const char *name, const char *value) {
    (void)kind;
    struct counts *n = cls;
    n->malformed |= !is_token(name);
    for (const char *p = value; p && *p; p++) {
        n->malformed |= ((unsigned char)*p < ' ' && *p != '\t') || *p == 0x7f;
    }
    n->host += strcasecmp(name, MHD_HTTP_HEADER_HOST) == 0;
    n->length += strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0;
    n->encoding += strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0;
    return MHD_YES;
}

/* What two readers of the same bytes could understand differently is malformed: a proxy may be one of them. */
static bool headers_sane(const struct http_call *c, const char *version) {
    struct counts n = {0};
    MHD_get_connection_values(c->mhd, MHD_HEADER_KIND, count_header, &n);
    const char *encoding = http_call_header(c, MHD_HTTP_HEADER_TRANSFER_ENCODING);
    const char *length = http_call_header(c, MHD_HTTP_HEADER_CONTENT_LENGTH);
    const bool has_host = n.host == 1 || (n.host == 0 && strcmp(version, MHD_HTTP_VERSION_1_0) == 0);
    return !n.malformed && has_host && n.length + n.encoding <= 1 && (!encoding || strcasecmp(encoding, "chunked") == 0) &&
           (!length || (*length && length[strspn(length, "0123456789")] == '\0'));
}

uint64_t http_head_body_size(const struct http_call *c) {
    const char *length = http_call_header(c, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (http_call_header(c, MHD_HTTP_HEADER_TRANSFER_ENCODING)) {
        return UINT64_MAX;
    }
    const uint64_t n = length ? strtoull(length, NULL, 10) : 0;
    return n < UINT64_MAX ? n : UINT64_MAX - 1;
}

static void choose_id(struct http_call *c) {
    const char *id = http_call_header(c, "X-Request-Id");
    const size_t n = id ? strlen(id) : 0;
    if (n > 0 && n <= HTTP_ID_MAX &&
        id[strspn(id, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._-")] == '\0') {
        memcpy(c->id, id, n + 1);
    }
}

/* ---- who asks ---- */

/* Bytes of a host without its port; 0: it is none. */
static size_t name_length(const char *host) {
    const size_t n = host[0] == '[' ? strcspn(host, "]") + (strchr(host, ']') != NULL) : strcspn(host, ":");
    const bool has_port = host[n] == ':' && host[n + 1 + strspn(host + n + 1, "0123456789")] == '\0';
    return host[n] == '\0' || has_port ? n : 0;
}

/* Whether a Host without its port is one of our own names. A page of another site can have its name lead here (DNS rebinding)
 * and would then be of the same origin as this server, but its browser still sends that name. */
static bool host_is_ours(const char *host, const char *bound) {
    const size_t n = name_length(host);
    const char *const names[] = {"localhost", "127.0.0.1", "[::1]", bound};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strlen(names[i]) == n && strncasecmp(names[i], host, n) == 0) {
            return true;
        }
    }
    /* An IPv6 address that was given without brackets. */
    return n > 2 && strlen(bound) == n - 2 && host[0] == '[' && strncasecmp(bound, host + 1, n - 2) == 0;
}

/* Whether a Host names the host of the origin that CORS allows, which may be a proxy's before this server. */
static bool host_is_of_cors(const char *host, const char *cors) {
    if (strcmp(cors, "*") == 0) {
        return true;
    }
    const char *own = strstr(cors, "://");
    const size_t n = name_length(host);
    return own && n > 0 && name_length(own + 3) == n && strncasecmp(own + 3, host, n) == 0;
}

/* Whether a page of this origin may send what changes something or costs much. */
static bool origin_may(const struct http_call *c, const char *origin, const char *host) {
    const char *cors = c->server->params.cors;
    if (cors && (strcmp(cors, "*") == 0 || strcasecmp(cors, origin) == 0)) {
        return true;
    }
    const char *own = strstr(origin, "://");
    return own && host && strcasecmp(own + 3, host) == 0;
}

static void check_sender(struct http_call *c) {
    const struct http_server *s = c->server;
    const char *host = c->authority ? c->authority : http_call_header(c, MHD_HTTP_HEADER_HOST);
    const char *origin = http_call_header(c, MHD_HTTP_HEADER_ORIGIN);
    const bool known = !host || host_is_ours(host, s->params.host) || (s->params.cors && host_is_of_cors(host, s->params.cors));
    if (s->loopback && !known) {
        http_refuse(c, 403, "the Host header names another host than this server, which only serves its own machine");
    }
    const bool reads = strcmp(c->method, "GET") == 0 || strcmp(c->method, "HEAD") == 0 || strcmp(c->method, "OPTIONS") == 0;
    if (origin && !reads && !origin_may(c, origin, host)) {
        http_refuse(c, 403, "pages of this origin may not use this server");
    }
}

static void check_key(struct http_call *c) {
    const struct http_server *s = c->server;
    const int64_t key = s->keys.n > 0 ? http_keys_of_call(&s->keys, c) : -1;
    if (key >= 0) {
        snprintf(c->client, sizeof c->client, "key-%lld", (long long)key + 1);
    } else if (s->keys.n > 0 && c->route && !c->route->open) {
        http_header(c, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
        http_refuse(c, 401, "Invalid API Key");
    }
}

void http_head_check(struct http_call *c, const char *method, const char *version) {
    c->method = method;
    choose_id(c);
    const union MHD_ConnectionInfo *size = MHD_get_connection_info(c->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    if (!headers_sane(c, version)) {
        http_refuse(c, 400, "malformed request");
    }
    if (!parse_target(c)) {
        http_refuse(c, 400, "malformed path or query");
    }
    if (size && size->header_size > HTTP_HEAD_MAX) {
        http_refuse(c, 431, "the head of the request is too long");
    }
    if (c->conn->surplus) {
        http_header(c, MHD_HTTP_HEADER_CONNECTION, "close");
        http_refuse(c, 503, "too many connections");
    }
    if (!c->refused) {
        check_sender(c);
    }
    if (!c->refused) {
        http_route_find(c);
    }
    if (!c->refused) {
        check_key(c);
    }
    const char *coding = http_call_header(c, MHD_HTTP_HEADER_CONTENT_ENCODING);
    if (coding && strcasecmp(coding, "identity") != 0) {
        http_refuse(c, 415, "bodies must not be compressed");
    }
    if (http_head_body_size(c) > c->server->params.max_body && http_head_body_size(c) != UINT64_MAX) {
        http_refuse(c, 413, "the body of the request is too large");
    }
}
