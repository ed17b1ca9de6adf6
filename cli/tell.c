/* See tell.h. */
#include "tell.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int usage_error(struct genarm_error *err, const char *option, const char *fmt, ...) {
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return error_at(err, error_set(err, CLI_USAGE, "%s", text), "%s", option);
}

int as_usage(struct genarm_error *err, int code, const char *option) {
    if (code != GENARM_EINVAL) {
        return code;
    }
    err->code = CLI_USAGE;
    return option ? error_at(err, CLI_USAGE, "%s", option) : CLI_USAGE;
}

static int32_t speaking;      /* rank */
static char speaker[24] = ""; /* "rank 3: " */

void report_as_rank(int32_t rank) {
    speaking = rank;
    if (rank > 0) {
        snprintf(speaker, sizeof speaker, "rank %d: ", rank);
    }
}

void report_error(const struct genarm_error *err) {
    const bool said = strncmp(err->where, "rank ", 5) == 0; /* of ranks that agreed on an error */
    fprintf(stderr, "genarm: %serror: %s%s%s\n", said ? "" : speaker, err->where, *err->where ? ": " : "", err->what);
    if (*err->hint) {
        fprintf(stderr, "%shint: %s\n", speaker, err->hint);
    }
}

void note(const char *fmt, ...) {
    va_list args;
    if (speaking > 0) {
        return;
    }
    va_start(args, fmt);
    fputs("genarm: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
}

static void log_callback(enum genarm_log_level level, const char *line, void *user) {
    static const char *const labels[] = {"", "", "warning: ", "error: "};
    const bool *verbose = user;
    if (*verbose || level >= (speaking > 0 ? GENARM_LOG_ERROR : GENARM_LOG_WARN)) {
        fprintf(stderr, "genarm: %s%s%s\n", speaker, labels[level], line);
    }
}

void log_to_stderr(bool verbose) {
    static bool wanted;
    wanted = verbose;
    genarm_log_set(log_callback, &wanted);
}

int flush_output(FILE *out, struct genarm_error *err) {
    errno = 0;
    if (fflush(out) == 0 && !ferror(out)) {
        return 0;
    }
    int code = error_set(err, GENARM_EIO, "the output could not be written%s%s", errno ? ": " : "",
                         errno ? strerror(errno) : "");
    return out == stdout ? error_at(err, code, "stdout") : code;
}

int json_line(char **out, json_t *value, struct genarm_error *err) {
    /* Nine digits: what a float needs, without the noise of a double that stands for one. */
    *out = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(value);
    return *out ? 0 : error_nomem(err, "a record");
}

int print_json(FILE *out, json_t *value, struct genarm_error *err) {
    char *line;
    const int code = json_line(&line, value, err);
    if (code) {
        return code;
    }
    fprintf(out, "%s\n", line);
    free(line);
    return flush_output(out, err);
}

json_t *json_rounded(double x, int digits) {
    char text[64];
    if (!isfinite(x)) {
        return json_null();
    }
    snprintf(text, sizeof text, "%.*f", digits, x);
    return json_real(strtod(text, NULL));
}
