/* JSON objects one after another from a file of any size: JSON lines, or the elements of one array, whatever the file is
 * called. Only one object is in memory at a time. Called by reader.c, and by the program for prompts. */
#ifndef DATA_VALUES_H
#define DATA_VALUES_H

#include <stdbool.h>

#include "base/json.h"
#include "data/input.h"

enum { VALUES_MAX_BYTES = 16 << 20 }; /* of one object's text */

struct values;

/* `path` must outlive the values. */
int values_open(struct values **out, const char *path, struct genarm_error *err);
void values_close(struct values *v); /* NULL is fine */

/* 1: *out is the next object, a new reference; 0: the end; negative: error, which names the place. What is no object,
 * broken JSON, not UTF-8, or longer than VALUES_MAX_BYTES is GENARM_EFORMAT; blank lines are skipped. */
int values_next(struct values *v, json_t **out, struct genarm_error *err);

/* Where the object last returned (or refused) is: "path:LINE", in an array "path:LINE, record N". */
const char *values_where(const struct values *v);
int64_t values_line(const struct values *v);   /* of its first byte, from 1 */
int64_t values_record(const struct values *v); /* which one of the file it is, from 1 */

const char *values_path(const struct values *v);
bool values_in_array(const struct values *v);
const struct input *values_input(const struct values *v);

#endif
