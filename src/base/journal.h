/* A file that grows by lines and survives the process at any moment: what was appended is there whatever ends the process,
 * and after a power failure all but what came within a second of the last sync. A line that was cut short has no newline. */
#ifndef BASE_JOURNAL_H
#define BASE_JOURNAL_H

#include <stdint.h>

#include "base/buf.h"

struct journal {
    int fd; /* of a file that no other process has open as a journal */
    char *path;
    int64_t size;  /* bytes, all of them whole lines as far as this process wrote them */
    double synced; /* when the disk had all of it */
};

/* Opens or creates. GENARM_EIO when another process writes it. Errors name the path. */
int journal_open(struct journal *j, const char *path, struct genarm_error *err);
void journal_close(struct journal *j); /* the file stays; safe on a zeroed struct */

/* Appends whole lines, all or nothing. */
int journal_append(struct journal *j, const void *lines, size_t n, struct genarm_error *err);

/* Drops what is behind the first `size` bytes. */
int journal_cut(struct journal *j, int64_t size, struct genarm_error *err);

/* Reads n bytes from `at` into b, which is cleared first. */
int journal_read(const struct journal *j, struct buf *b, int64_t at, size_t n, struct genarm_error *err);

/* Removes the file and closes. */
int journal_remove(struct journal *j, struct genarm_error *err);

#endif
