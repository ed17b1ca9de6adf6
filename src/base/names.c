/* See names.h. */
#include "base/names.h"

#include <stdio.h>
#include <string.h>

bool next_name(const char **cursor, char separator, char *name, size_t max) {
    const char *start = *cursor;
    while (*start == separator) {
        start++;
    }
    size_t n = 0;
    while (start[n] && start[n] != separator) {
        n++;
    }
    *cursor = start + n;
    if (n == 0 || n >= max) {
        return false;
    }
    memcpy(name, start, n);
    name[n] = '\0';
    return true;
}

static size_t smallest(size_t a, size_t b, size_t c) {
    size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Edits (insert, delete, replace) that turn one name into the other, both shorter than NAME_MAX_LENGTH. */
static size_t edit_distance(const char *a, const char *b) {
    size_t row[NAME_MAX_LENGTH + 1]; /* distances of the prefix of a so far to every prefix of b */
    size_t n_b = strlen(b);
    for (size_t j = 0; j <= n_b; j++) {
        row[j] = j;
    }
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n_b; j++) {
            size_t replaced = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = smallest(replaced, row[j] + 1, row[j + 1] + 1);
        }
    }
    return row[n_b];
}

const char *nearest_name(const char *text, const char *const *names, size_t n, char *out, size_t max) {
    size_t length = strlen(text);
    if (length >= NAME_MAX_LENGTH) {
        return NULL;
    }
    size_t best = length / 3 + 1; /* from here on it is another word */
    const char *found = NULL;
    for (size_t i = 0; i < n; i++) {
        const char *cursor = names[i];
        char name[NAME_MAX_LENGTH];
        while (cursor && next_name(&cursor, ' ', name, sizeof name)) {
            size_t distance = edit_distance(text, name);
            if (distance < best) {
                best = distance;
                snprintf(out, max, "%s", name);
                found = out;
            }
        }
    }
    return found;
}
