/* The server's log. A line is put together first and written with one call, so that lines of several processes do not mix. */
#include "serve/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/utf8.h"

enum { LINE_MAX_BYTES = 16 * 1024, PATH_SHOWN = 512 };

struct serve_log {
    char *path; /* NULL: stderr */
    bool json, verbose;
    pthread_mutex_t lock; /* of fd */
    int fd;
    atomic_bool reopen;
};

static int open_file(const char *path) { return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640); }

int serve_log_new(struct serve_log **out, const struct serve_log_params *params, struct genarm_error *err) {
    struct serve_log *log = calloc(1, sizeof *log);
    if (!log) {
        return error_nomem(err, "the log");
    }
    log->json = params->json;
    log->verbose = params->verbose;
    log->fd = STDERR_FILENO;
    int rc = GENARM_OK;
    if (params->path) {
        log->path = strdup(params->path);
        if (!log->path) {
            rc = error_nomem(err, "the log");
            goto done;
        }
        log->fd = open_file(log->path);
        if (log->fd < 0) {
            rc = error_at(err, error_set(err, GENARM_EIO, "cannot open the log: %s", strerror(errno)), "%s", params->path);
            goto done;
        }
    }
    pthread_mutex_init(&log->lock, NULL);
    *out = log;
    log = NULL;
done:
    if (log) {
        free(log->path);
        free(log);
    }
    return rc;
}

void serve_log_free(struct serve_log *log) {
    if (!log) {
        return;
    }
    if (log->path) {
        close(log->fd);
    }
    pthread_mutex_destroy(&log->lock);
    free(log->path);
    free(log);
}

void serve_log_reopen(struct serve_log *log) {
    if (log) {
        atomic_store(&log->reopen, true);
    }
}

/* ---- a line ---- */

static void put_line(struct serve_log *log, struct buf *line) {
    if (buf_puts(line, "\n", NULL) != GENARM_OK) {
        return;
    }
    int failed = 0;
    pthread_mutex_lock(&log->lock);
    if (atomic_exchange(&log->reopen, false) && log->path) {
        const int fd = open_file(log->path);
        failed = fd < 0 ? errno : 0;
        if (fd >= 0) {
            close(log->fd);
            log->fd = fd;
        }
    }
    const char *bytes = line->data;
    for (size_t n = line->len; n > 0;) {
        const ssize_t written = write(log->fd, bytes, n);
        if (written < 0 && errno != EINTR) {
            break; /* a full disk is no reason to stop serving */
        }
        if (written > 0) {
            bytes += written;
            n -= (size_t)written;
        }
    }
    pthread_mutex_unlock(&log->lock);
    if (failed) { /* into the old file, which goes on */
        serve_log_line(log, GENARM_LOG_WARN, NULL, "cannot open the log anew: %s: %s", log->path, strerror(failed));
    }
}

static void time_text(char out[static 32]) {
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    const size_t n = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out + n, 32 - n, ".%03dZ", (int)(now.tv_nsec / 1000000));
}

static const char *level_text(enum genarm_log_level level) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    return names[level];
}

/* Whatever a client put into a text, it stays on its line, between its quotes and off the terminal's controls. */
static void put_escaped(struct buf *line, const char *s, size_t max, bool quoted) {
    const char *const end = s + strlen(s);
    const size_t start = line->len;
    while (s < end && line->len - start < max) {
        const size_t n = utf8_char(s, (size_t)(end - s));
        const bool c1 = n == 2 && (unsigned char)s[0] == 0xC2 && (unsigned char)s[1] < 0xA0;
        if (n == 0 || (unsigned char)*s < ' ' || *s == 0x7f) {
            buf_printf(line, NULL, "\\x%02x", (unsigned char)*s++);
        } else if (c1) {
            buf_printf(line, NULL, "\\x%02x\\x%02x", (unsigned char)s[0], (unsigned char)s[1]);
            s += 2;
        } else {
            if (*s == '\\' || (quoted && *s == '"')) {
                buf_puts(line, "\\", NULL);
            }
            buf_append(line, s, n, NULL);
            s += n;
        }
    }
    if (s < end) {
        buf_puts(line, "...", NULL);
    }
}

static void text_start(struct buf *line, enum genarm_log_level level, const char *id) {
    char now[32];
    time_text(now);
    buf_printf(line, NULL, "%s %-5s %s ", now, level_text(level), id ? id : "-");
}

static json_t *json_start(enum genarm_log_level level, const char *id) {
    char now[32];
    time_text(now);
    json_t *o = json_pack("{s:s,s:s}", "time", now, "level", level_text(level));
    if (o && id) {
        json_object_set_new(o, "id", text_json(id));
    }
    return o;
}

static void put_json(struct serve_log *log, struct buf *line, json_t *o) {
    if (o && json_dump(line, o, NULL) == GENARM_OK) {
        put_line(log, line);
    }
    json_decref(o);
}

void serve_log_line(struct serve_log *log, enum genarm_log_level level, const char *id, const char *fmt, ...) {
    if (!log || (level == GENARM_LOG_DEBUG && !log->verbose)) {
        return;
    }
    char message[2048];
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(message, sizeof message, fmt, args) < 0) {
        message[0] = '\0';
    }
    va_end(args);
    struct buf line;
    buf_init(&line, LINE_MAX_BYTES);
    if (log->json) {
        json_t *o = json_start(level, id);
        if (o) {
            json_object_set_new(o, "message", text_json(message));
        }
        put_json(log, &line, o);
    } else {
        text_start(&line, level, id);
        put_escaped(&line, message, sizeof message * 4, false);
        put_line(log, &line);
    }
    buf_deinit(&line);
}

void serve_log_request(struct serve_log *log, const char *id, const char *client, const char *method, const char *path,
                       int status, double seconds, size_t bytes) {
    if (!log) {
        return;
    }
    struct buf line;
    buf_init(&line, LINE_MAX_BYTES);
    char shown[PATH_SHOWN + 1];
    snprintf(shown, sizeof shown, "%s", path);
    if (log->json) {
        json_t *o = json_start(GENARM_LOG_INFO, id);
        if (o) {
            json_object_set_new(o, "client", text_json(client));
            json_object_set_new(o, "method", text_json(method));
            json_object_set_new(o, "path", text_json(shown));
            json_object_set_new(o, "status", json_integer(status));
            json_object_set_new(o, "seconds", json_real(seconds));
            json_object_set_new(o, "bytes", json_integer((json_int_t)bytes));
        }
        put_json(log, &line, o);
    } else {
        text_start(&line, GENARM_LOG_INFO, id);
        put_escaped(&line, client, PATH_SHOWN, false);
        buf_puts(&line, " \"", NULL);
        put_escaped(&line, method, PATH_SHOWN, true);
        buf_puts(&line, " ", NULL);
        put_escaped(&line, path, PATH_SHOWN, true);
        buf_printf(&line, NULL, "\" %d %.3fs %zu", status, seconds, bytes);
        put_line(log, &line);
    }
    buf_deinit(&line);
}
