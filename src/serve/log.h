/* The server's log: lines of text or JSON with time, level and the request's id, to stderr or a file.
 *
 * Any thread may write at any time; a line is written whole, in one write. Texts are made harmless: control characters and what
 * is no UTF-8 are escaped. Every function but serve_log_new takes a log that is NULL and does nothing.
 *
 *     2026-01-02T03:04:05.678Z warn  req-1 the queue is full
 *     2026-01-02T03:04:05.678Z info  req-1 127.0.0.1 "POST /v1/completions" 200 1.234s 5678
 */
#ifndef SERVE_LOG_H
#define SERVE_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct serve_log;

struct serve_log_params {
    const char *path; /* appended to, created with mode 0640; NULL: stderr. For SIGHUP: serve_log_reopen */
    bool json;        /* a JSON object a line: time, level, id, message; for requests client, method, path, ... as well */
    bool verbose;     /* debug lines too */
};

/* GENARM_EIO names the file that cannot be opened. */
int serve_log_new(struct serve_log **out, const struct serve_log_params *params, struct genarm_error *err);
void serve_log_free(struct serve_log *log);

/* After a log rotation: the next line opens the file anew; while that fails, lines go to the old one.
 * Async-signal-safe: it sets a flag. */
void serve_log_reopen(struct serve_log *log);

/* One line. `id`: of the request, NULL: none. */
void serve_log_line(struct serve_log *log, enum genarm_log_level level, const char *id, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* One finished request. `client` is an address, `path` has no query (it could carry a secret), `bytes` are those of the
 * reply's body that were handed to the connection. */
void serve_log_request(struct serve_log *log, const char *id, const char *client, const char *method, const char *path,
                       int status, double seconds, size_t bytes);

#endif
