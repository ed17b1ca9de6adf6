/* The table of routes: exact paths first, then those with "*" for one segment. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "serve/http_internal.h"

bool http_path_sane(const char *path) {
    if (path[0] != '/' || !utf8_valid(path, strlen(path))) {
        return false;
    }
    for (const char *p = path; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f || *p == '\\') {
            return false;
        }
        if (*p == '/') {
            const size_t n = strcspn(p + 1, "/");
            if ((n == 0 && p[1]) || (n == 1 && p[1] == '.') || (n == 2 && p[1] == '.' && p[2] == '.')) {
                return false;
            }
        }
    }
    return true;
}

/* Whether a path is one of a route, and where in it the segment for "*" is; "**" at the end is all that is left. */
static bool fits(const char *pattern, const char *path, const char **param, size_t *n_param) {
    *param = "";
    *n_param = 0;
    const char *star = strchr(pattern, '*');
    if (!star) {
        return strcmp(pattern, path) == 0;
    }
    const size_t before = (size_t)(star - pattern);
    if (strncmp(pattern, path, before) != 0) {
        return false;
    }
    const char *segment = path + before;
    const bool rest = strcmp(star, "**") == 0;
    const size_t n = rest ? strlen(segment) : strcspn(segment, "/");
    if (n == 0 || (!rest && strcmp(star + 1, segment + n) != 0)) {
        return false;
    }
    *param = segment;
    *n_param = n;
    return true;
}

static bool method_fits(const char *of_route, const char *method) {
    return strcmp(of_route, method) == 0 || (strcmp(of_route, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

static void add_method(char *out, size_t size, const char *method) {
    const size_t n = strlen(out);
    if (!strstr(out, method)) {
        snprintf(out + n, size - n, "%s%s", n ? ", " : "", method);
    }
}

/* Of the routes of this very path, else of those with "*" that it fits. */
void http_route_methods(const struct http_server *s, const char *path, char *out, size_t size) {
    const char *param;
    size_t n_param;
    bool exact = false;
    out[0] = '\0';
    for (size_t i = 0; i < s->params.n_routes; i++) {
        exact = exact || strcmp(s->params.routes[i].path, path) == 0;
    }
    for (size_t i = 0; i < s->params.n_routes && http_path_sane(path); i++) {
        const struct http_route *r = &s->params.routes[i];
        const bool any = strcmp(r->path, "/*") == 0; /* it takes what no other does, and says nothing of this path */
        if (!any && (!exact || strcmp(r->path, path) == 0) && fits(r->path, path, &param, &n_param)) {
            add_method(out, size, r->method);
            if (strcmp(r->method, "GET") == 0) {
                add_method(out, size, "HEAD");
            }
        }
    }
    if (out[0] && s->params.cors) {
        add_method(out, size, "OPTIONS");
    }
}

void http_route_find(struct http_call *c) {
    const struct http_server *s = c->server;
    const char *param;
    size_t n_param;
    bool known = false; /* a path that is in the table by itself is no other's "*" */
    for (int stars = 0; stars <= 1 && !known; stars++) {
        for (size_t i = 0; i < s->params.n_routes && http_path_sane(c->path); i++) {
            const struct http_route *r = &s->params.routes[i];
            if ((strchr(r->path, '*') != NULL) != (stars == 1) || !fits(r->path, c->path, &param, &n_param)) {
                continue;
            }
            known = known || stars == 0;
            if (method_fits(r->method, c->method)) {
                c->route = r;
                c->param = strndup(param, n_param);
                if (!c->param) {
                    http_refuse(c, 500, "not enough memory");
                }
                return;
            }
        }
    }
    char methods[64];
    http_route_methods(s, c->path, methods, sizeof methods);
    if (!methods[0]) {
        http_refuse(c, 404, "no such path: see /openapi.json");
    } else if (s->params.cors && strcmp(c->method, "OPTIONS") == 0) {
        http_header(c, "Access-Control-Allow-Methods", methods);
        http_refuse(c, 204, "");
    } else {
        http_header(c, MHD_HTTP_HEADER_ALLOW, methods);
        http_refuse(c, 405, "the path does not know this method");
    }
}
