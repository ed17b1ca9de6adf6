/* See claims.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* F_OFD_SETLK */
#endif
#include "eval/claims.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"

/* The place of a name: any number that a file offset can be. */
static off_t place(const char *name) {
    return (off_t)(hash_bytes(HASH_START, name, strlen(name)) >> 2);
}

static int lock(int fd, const char *name) {
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = place(name), .l_len = 1};
#ifdef F_OFD_SETLK
    if (fcntl(fd, F_OFD_SETLK, &l) == 0) {
        return 0;
    }
    if (errno != EINVAL) {
        return errno;
    }
#endif
    return fcntl(fd, F_SETLK, &l) == 0 ? 0 : errno;
}

int claim_take(struct claim *claim, const char *folder, const char *name, struct genarm_error *err) {
    char path[4096];
    *claim = (struct claim){.fd = -1};
    if ((size_t)snprintf(path, sizeof path, "%s/claims", folder) >= sizeof path) {
        return error_at(err, error_set(err, GENARM_EINVAL, "the name of the folder is too long"), "%.200s", folder);
    }
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
        return error_at(err, error_set(err, GENARM_EIO, "cannot open the file: %s", strerror(errno)), "%s", path);
    }
    const int e = lock(fd, name);
    if (e == EAGAIN || e == EACCES) {
        close(fd);
        return 0;
    }
    *claim = (struct claim){.fd = fd, .bare = e != 0};
    return 1;
}

void claim_release(struct claim *claim) {
    if (claim->fd >= 0) {
        close(claim->fd);
    }
    claim->fd = -1;
}
