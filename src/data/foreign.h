/* Files that people have and that are not read here: recognised by what is in them, refused with the command that makes JSON
 * lines of them. */
#ifndef DATA_FOREIGN_H
#define DATA_FOREIGN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* By the first n stored bytes: GENARM_EUNSUPPORTED for Parquet, Arrow, archives and their like, else GENARM_OK. */
int foreign_check_bytes(const void *bytes, size_t n, const char *path, struct genarm_error *err);

/* By the first n bytes of text, which begin with neither an object nor an array: GENARM_EUNSUPPORTED for a table with a line
 * of names, by commas or tabs, else GENARM_OK. `packed`: the text was decompressed from the file. */
int foreign_check_text(const char *text, size_t n, const char *path, bool packed, struct genarm_error *err);

/* GENARM_EIO where the path is a folder, else GENARM_OK. */
int foreign_check_folder(const char *path, struct genarm_error *err);

#endif
