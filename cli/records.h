/* A file of JSON records, read whole: what is wrong with it is said before anything is computed. */
#ifndef CLI_RECORDS_H
#define CLI_RECORDS_H

#include <jansson.h>
#include <stdint.h>

#include "base/error.h"

struct record {
    json_t *value; /* an object; owned */
    char *where;   /* "file:line", with "record N" in an array */
};

struct record_list {
    struct record *items; /* [n] */
    size_t n;
};

/* Appends the records of a file that may be all that a file of pairs may be (data/values.h). One without records is an error. */
int records_read(struct record_list *list, const char *path, struct genarm_error *err);
/* Those of what models said, an object a line; their texts may have zero characters: they become U+FFFD. */
int records_read_sampled(struct record_list *list, const char *path, struct genarm_error *err);
void records_free(struct record_list *list); /* safe on a zeroed struct */

/* "tokens" of an answer as genarm generate writes it, [*n] owned by the caller; what else a record has under that name is left
 * alone: NULL. */
int record_tokens(int32_t **out, size_t *n, const json_t *record, struct genarm_error *err);

#endif
