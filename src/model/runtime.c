/* ggml's start-up, and the way of its log and libllama's into ours. */
#include "model/runtime.h"

#include <llama.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"

/* Pieces of lines wait here until their newline comes. */
static struct {
    pthread_mutex_t lock;
    char line[1024];
    size_t len;
    enum ggml_log_level level;
} pending = {.lock = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local char first_error[256];

static void emit(enum ggml_log_level level, const char *line) {
    if (level == GGML_LOG_LEVEL_ERROR && !first_error[0]) {
        snprintf(first_error, sizeof first_error, "%.*s", (int)sizeof first_error - 1, line);
    }
    /* The call that fails returns an error of its own, which quotes this line. */
    log_line(level == GGML_LOG_LEVEL_ERROR ? GENARM_LOG_WARN : GENARM_LOG_DEBUG, "%s", line);
}

static void on_log(enum ggml_log_level level, const char *text, void *user) {
    (void)user;
    pthread_mutex_lock(&pending.lock);
    if (level != GGML_LOG_LEVEL_CONT) {
        pending.level = level;
    }
    for (const char *c = text; *c; c++) {
        const bool end = *c == '\n';
        if (!end && pending.len < sizeof pending.line - 1) {
            pending.line[pending.len++] = *c;
        }
        if (end && pending.len > 0) {
            pending.line[pending.len] = '\0';
            pending.len = 0;
            emit(pending.level, pending.line);
        }
    }
    pthread_mutex_unlock(&pending.lock);
}

static void start(void) {
    llama_log_set(on_log, NULL); /* ggml's too */
    llama_backend_init();
}

void model_runtime_init(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start);
}

void runtime_forget_error(void) { first_error[0] = '\0'; }

const char *runtime_first_error(void) { return first_error; }
