/* The bytes of a file, decompressed on the way: plain, gzip, xz or Zstandard, told by the first bytes and not by the
 * name. Works on pipes as well. Called by values.c. */
#ifndef DATA_INPUT_H
#define DATA_INPUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct input;

/* `path` must outlive the input. A file that is known not to hold text (Parquet, zip, …) is GENARM_EUNSUPPORTED with
 * the command that converts it. */
int input_open(struct input **out, const char *path, struct genarm_error *err);
void input_close(struct input *in); /* NULL is fine */

/* The next bytes: as many as there are up to max, 0 at the end, negative on error. Everything before a damaged place is
 * delivered before it is an error, so that the caller can say where it is; input_read names no place. */
int64_t input_read(struct input *in, char *bytes, size_t max, struct genarm_error *err);

const char *input_codec(const struct input *in); /* "plain", "gzip", "xz", "zstd" */

/* Stored bytes taken so far, and in all; all is 0 where nobody knows. */
void input_progress(const struct input *in, int64_t *done, int64_t *all);

#endif
