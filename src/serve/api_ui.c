/* Serves the embedded page. Everything that it loads comes from this server, so its policy forbids the rest: a text of a model
 * that were taken for markup could neither run nor send anything. */
#include "serve/ui.h"

#include <string.h>

#include "serve/api.h"

static const char policy[] = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
                             "base-uri 'none'; frame-ancestors 'none'; form-action 'none'";

static const struct ui_file *find(const char *path) {
    for (size_t i = 0; i < n_ui_files; i++) {
        if (strcmp(ui_files[i].path, path) == 0) {
            return &ui_files[i];
        }
    }
    return NULL;
}

/* Is `etag` in the list of If-None-Match? Weak tags compare alike (RFC 9110, 13.1.2); ours hold no comma. */
static bool listed(const char *list, const char *etag) {
    const size_t n = strlen(etag);
    while (list != NULL && *list != '\0') {
        list += strspn(list, " \t,");
        if (*list == '*') {
            return true;
        }
        if (strncmp(list, "W/", 2) == 0) {
            list += 2;
        }
        const size_t length = strcspn(list, ", \t");
        if (length == n && memcmp(list, etag, n) == 0) {
            return true;
        }
        list += length;
    }
    return false;
}

static void reply_file(struct http_call *call, const struct ui_file *file) {
    http_header(call, "ETag", file->etag);
    http_header(call, "Cache-Control", "no-cache"); /* kept, but asked for again: another version may have another page */
    http_header(call, "Content-Security-Policy", policy);
    http_header(call, "X-Content-Type-Options", "nosniff");
    http_header(call, "Referrer-Policy", "no-referrer");
    if (listed(http_call_header(call, "If-None-Match"), file->etag)) {
        http_reply_static(call, 304, file->type, "", 0);
        return;
    }
    http_reply_static(call, 200, file->type, file->data, file->n);
}

void api_openapi(struct http_call *call, void *user) {
    (void)user;
    reply_file(call, find("/openapi.json"));
}

void api_ui(struct http_call *call, void *user) {
    const struct server *s = user;
    const struct ui_file *file = s->p.page ? find(http_call_path(call)) : NULL;
    if (file) {
        reply_file(call, file);
    } else {
        http_reply_error(call, 404, NULL, NULL, "no such path: see /openapi.json");
    }
}
