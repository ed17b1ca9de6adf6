/* What the commands say: errors, notes, the log, JSON. */
#ifndef CLI_TELL_H
#define CLI_TELL_H

#include <jansson.h>
#include <stdio.h>

#include "base/error.h"
#include "options.h"

/* Wrong use found after parsing: returns CLI_USAGE. */
int usage_error(struct genarm_error *err, const char *option, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* What the library refuses as an argument, GENARM_EINVAL, is wrong use: of `option`, NULL when the error says of what. Returns
 * CLI_USAGE then, else the code. */
int as_usage(struct genarm_error *err, int code, const char *option);

/* "genarm: error: WHERE: WHAT" and "hint: …" on stderr. */
void report_error(const struct genarm_error *err);

/* Messages of a process that mpirun started: those of ranks other than 0 say which one speaks, and are only errors, unless
 * everything is wanted. */
void report_as_rank(int32_t rank);

/* One line "genarm: …" on stderr. */
void note(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Sends the library's log to stderr: warnings and errors, or everything. */
void log_to_stderr(bool verbose);

/* One line of JSON without a newline into *out (malloc'ed). Takes over `value`; NULL means that there was no memory to make
 * it. */
int json_line(char **out, json_t *value, struct genarm_error *err);

/* Writes one line of JSON and flushes. Takes over `value`; NULL means that there was no memory to make it. */
int print_json(FILE *out, json_t *value, struct genarm_error *err);

/* A number for people and machines to read: rounded to `digits` after the point. New reference. */
json_t *json_rounded(double x, int digits);

/* Flushes a stream; an error when what was printed did not get there, as on a full disk. */
int flush_output(FILE *out, struct genarm_error *err);

#endif
