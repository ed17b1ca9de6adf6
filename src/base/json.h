/* JSON through Jansson: parse with errors that name the place, typed look-ups, one-line output. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"

/* Parses one value from text; duplicate keys and trailing text are errors. `where` names the source (e.g.
 * "p.jsonl:12"). *out is a new reference. */
int json_parse(json_t **out, const char *text, size_t n, const char *where, struct genarm_error *err);

/* The same, where integers that no 64 bits hold become the nearest number that a double does. */
int json_parse_wide(json_t **out, const char *text, size_t n, const char *where, struct genarm_error *err);

/* The same of records of what models said, whose texts may have zero characters: they become U+FFFD. */
int json_parse_sampled(json_t **out, const char *text, size_t n, const char *where, struct genarm_error *err);

/* Required or optional members of an object. The returned strings are borrowed from `object`.
 * A missing required member or a wrong type is GENARM_EFORMAT and names the key. null counts as missing. */
int json_get_string(const char **out, const json_t *object, const char *key, const char *where,
                    struct genarm_error *err);
int json_opt_string(const char **out, const json_t *object, const char *key, const char *fallback, const char *where,
                    struct genarm_error *err);
int json_opt_number(double *out, const json_t *object, const char *key, double fallback, const char *where,
                    struct genarm_error *err);
int json_opt_integer(long long *out, const json_t *object, const char *key, long long fallback, const char *where,
                     struct genarm_error *err);

/* Appends the value as one line without a newline; numbers with the digits that read back equal. */
int json_dump(struct buf *b, const json_t *value, struct genarm_error *err);

/* A JSON string (new reference, NULL without memory); invalid UTF-8 becomes U+FFFD. */
json_t *text_json(const char *text);
json_t *text_json_n(const char *text, size_t n); /* which may have zero characters, as what a model samples */

#endif
