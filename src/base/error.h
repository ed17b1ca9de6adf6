/* Filling struct genarm_error, and the log. Every layer uses these two and nothing else to report.
 *
 * Texts are one line: control characters, and bytes that are not UTF-8, are replaced.
 * The three error functions return the code they are given, so that they nest:
 *     return error_hint(err, error_at(err, error_set(err, GENARM_EFORMAT, "bad magic"), "%s", path), "is it a GGUF?");
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "genarm/error.h"

#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* Starts an error: sets code and what, clears where and hint. Returns `code`. `err` may be NULL. */
int error_set(struct genarm_error *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Adds the place, if none is named yet (the innermost place wins). Does nothing when code is 0. Returns `code`. */
int error_at(struct genarm_error *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Adds the way out, if none is given yet. Does nothing when code is 0. Returns `code`. */
int error_hint(struct genarm_error *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Shorthand for GENARM_ENOMEM naming what was being allocated. */
int error_nomem(struct genarm_error *err, const char *what);

/* One log line (no newline); routed to the callback of genarm_log_set. */
void log_line(enum genarm_log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
