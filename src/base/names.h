/* Lists of names in a string, and what a misspelt one was meant to be. */
#ifndef BASE_NAMES_H
#define BASE_NAMES_H

#include <stdbool.h>
#include <stddef.h>

enum { NAME_MAX_LENGTH = 64 };

/* What `text` was probably meant to be: the nearest of space-separated names, or NULL. Copied to `out`. */
const char *nearest_name(const char *text, const char *const *names, size_t n, char *out, size_t max);

/* Walks space-separated names (or bar-separated choices): copies the next one, false at the end. */
bool next_name(const char **cursor, char separator, char *name, size_t max);

#endif
