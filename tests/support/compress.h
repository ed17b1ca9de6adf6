/* Compressed files for tests, made with the libraries that read them. */
#ifndef SUPPORT_COMPRESS_H
#define SUPPORT_COMPRESS_H

#include <stddef.h>

enum compression { COMPRESS_NONE, COMPRESS_GZIP, COMPRESS_XZ, COMPRESS_ZSTD, COMPRESSIONS };

/* n bytes compressed, malloc'ed. */
char *compress_bytes(enum compression how, const char *bytes, size_t n, size_t *n_out);

/* Writes a file of the temporary folder; returns its path (temp_path). */
const char *compress_file(enum compression how, const char *name, const char *bytes, size_t n);

#endif
