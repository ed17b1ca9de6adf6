/* Errors and the log, for every layer. */
#include "base/error.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

const char *genarm_status_text(int code) {
    switch (code) {
#define STATUS_TEXT(name, value, meaning)                                                                              \
    case name:                                                                                                         \
        return meaning;
        GENARM_ERRORS(STATUS_TEXT)
#undef STATUS_TEXT
    default:
        return "unknown error";
    }
}

/* Formats one line into a fixed buffer. A text that does not fit ends in "...", never in half a UTF-8 character; what a
 * file from outside put into it cannot drive a terminal. */
static void format_into(char *out, size_t size, const char *fmt, va_list args) PRINTF_LIKE(3, 0);
static void format_into(char *out, size_t size, const char *fmt, va_list args) {
    const int n = vsnprintf(out, size, fmt, args);
    if (n < 0) {
        out[0] = '\0';
    } else if ((size_t)n >= size) {
        size_t end = size - 4;
        while (end > 0 && ((unsigned char)out[end] & 0xC0) == 0x80) {
            end--;
        }
        memcpy(out + end, "...", 4);
    }
    utf8_clean(out);
}

int error_set(struct genarm_error *err, int code, const char *fmt, ...) {
    if (err) {
        err->code = code;
        err->where[0] = err->hint[0] = '\0';
        va_list args;
        va_start(args, fmt);
        format_into(err->what, sizeof err->what, fmt, args);
        va_end(args);
    }
    return code;
}

int error_at(struct genarm_error *err, int code, const char *fmt, ...) {
    if (err && code != GENARM_OK && !err->where[0]) {
        va_list args;
        va_start(args, fmt);
        format_into(err->where, sizeof err->where, fmt, args);
        va_end(args);
    }
    return code;
}

int error_hint(struct genarm_error *err, int code, const char *fmt, ...) {
    if (err && code != GENARM_OK && !err->hint[0]) {
        va_list args;
        va_start(args, fmt);
        format_into(err->hint, sizeof err->hint, fmt, args);
        va_end(args);
    }
    return code;
}

int error_nomem(struct genarm_error *err, const char *what) {
    return error_set(err, GENARM_ENOMEM, "not enough memory for %s", what);
}

static struct {
    pthread_mutex_t lock;
    genarm_log_callback callback;
    void *user;
} log_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

void genarm_log_set(genarm_log_callback callback, void *user) {
    pthread_mutex_lock(&log_state.lock);
    log_state.callback = callback;
    log_state.user = user;
    pthread_mutex_unlock(&log_state.lock);
}

void log_line(enum genarm_log_level level, const char *fmt, ...) {
    char line[2048];
    va_list args;
    va_start(args, fmt);
    format_into(line, sizeof line, fmt, args);
    va_end(args);
    pthread_mutex_lock(&log_state.lock);
    if (log_state.callback) {
        log_state.callback(level, line, log_state.user);
    }
    pthread_mutex_unlock(&log_state.lock);
}
