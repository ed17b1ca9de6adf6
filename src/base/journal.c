#include "base/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/progress.h"

enum { CHUNK = 1 << 16 };

static int failed(const struct journal *j, const char *doing, struct genarm_error *err) {
    const int number = errno;
    const int rc = error_at(err, error_set(err, GENARM_EIO, "cannot %s: %s", doing, strerror(number)), "%s", j->path);
    return number == ENOSPC || number == EDQUOT || number == EFBIG
               ? error_hint(err, rc, "the disk is full: make room and try again")
               : rc;
}

int journal_open(struct journal *j, const char *path, struct genarm_error *err) {
    struct journal made = {.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666), .path = strdup(path)};
    struct stat st;
    int rc = GENARM_OK;
    if (!made.path) {
        rc = error_nomem(err, "a file name");
    } else if (made.fd < 0) {
        rc = failed(&made, "open the file", err);
    } else if (flock(made.fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) { /* some file systems know no locks */
        rc = error_at(err, error_set(err, GENARM_EIO, "another process is writing this file"), "%s", path);
        error_hint(err, rc, "wait for it, or name another output");
    } else if (fstat(made.fd, &st) != 0) {
        rc = failed(&made, "open the file", err);
    } else if (!S_ISREG(st.st_mode)) {
        rc = error_at(err, error_set(err, GENARM_EINVAL, "is not a regular file"), "%s", path);
    } else if (!file_sync_folder(path)) {
        rc = failed(&made, "write the folder of the file", err);
    } else {
        made.size = (int64_t)st.st_size;
        made.synced = clock_seconds();
    }
    if (rc != GENARM_OK) {
        journal_close(&made);
        return rc;
    }
    *j = made;
    return GENARM_OK;
}

void journal_close(struct journal *j) {
    if (j->path && j->fd >= 0) {
        fsync(j->fd);
        close(j->fd);
    }
    free(j->path);
    *j = (struct journal){0};
}

int journal_append(struct journal *j, const void *lines, size_t n, struct genarm_error *err) {
    for (size_t done = 0; done < n;) {
        const ssize_t wrote = pwrite(j->fd, (const char *)lines + done, n - done, (off_t)j->size + (off_t)done);
        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote <= 0) {
            const int rc = failed(j, "write the file", err);
            const int cut = ftruncate(j->fd, (off_t)j->size);
            (void)cut; /* if not, who reads the file drops half a line, too */
            return rc;
        }
        done += (size_t)wrote;
    }
    j->size += (int64_t)n;
    const double now = clock_seconds();
    if (now - j->synced >= 1.0) {
        if (fdatasync(j->fd) != 0 && errno != EINVAL && errno != ENOTSUP) {
            return failed(j, "write the file", err);
        }
        j->synced = now;
    }
    return GENARM_OK;
}

int journal_cut(struct journal *j, int64_t size, struct genarm_error *err) {
    if (ftruncate(j->fd, (off_t)size) != 0) {
        return failed(j, "write the file", err);
    }
    j->size = size;
    return GENARM_OK;
}

int journal_read(const struct journal *j, struct buf *b, int64_t at, size_t n, struct genarm_error *err) {
    char chunk[CHUNK];
    int rc = GENARM_OK;
    buf_clear(b);
    while (rc == GENARM_OK && n > 0) {
        errno = 0;
        const ssize_t got = pread(j->fd, chunk, n < sizeof chunk ? n : sizeof chunk, (off_t)at);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            errno = errno ? errno : EIO; /* shorter than it was */
            return failed(j, "read the file", err);
        }
        rc = buf_append(b, chunk, (size_t)got, err);
        at += got;
        n -= (size_t)got;
    }
    return rc;
}

int journal_remove(struct journal *j, struct genarm_error *err) {
    const int rc = unlink(j->path) == 0 || errno == ENOENT ? GENARM_OK : failed(j, "remove the file", err);
    journal_close(j);
    return rc;
}
