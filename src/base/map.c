/* Files read through a map of the whole. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"

static int map_error(struct genarm_error *err, const char *doing) {
    const int number = errno;
    const int rc = error_set(err, GENARM_EIO, "cannot %s: %s", doing, strerror(number));
    return number == ENOENT ? error_hint(err, rc, "is the path right?") : rc;
}

int file_map(const uint8_t **map, size_t *size, const char *path, struct genarm_error *err) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO would make us wait for its writer */
    if (fd < 0) {
        return error_at(err, map_error(err, "open the file"), "%s", path);
    }
    struct stat st;
    int rc = fstat(fd, &st) == 0 ? GENARM_OK : map_error(err, "open the file");
    if (rc == GENARM_OK && !S_ISREG(st.st_mode)) {
        rc = error_set(err, GENARM_EIO, S_ISDIR(st.st_mode) ? "is a folder" : "is not a regular file");
    } else if (rc == GENARM_OK && st.st_size == 0) {
        rc = error_set(err, GENARM_EFORMAT, "the file is empty");
    }
    if (rc == GENARM_OK) {
        void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (bytes == MAP_FAILED) {
            rc = map_error(err, "map the file");
        } else {
            *map = bytes;
            *size = (size_t)st.st_size;
        }
    }
    close(fd);
    return error_at(err, rc, "%s", path);
}

void file_unmap(const uint8_t *map, size_t size) {
    if (map) {
        munmap((void *)(uintptr_t)map, size);
    }
}

void file_map_rest(const uint8_t *map, size_t size) {
    madvise((void *)(uintptr_t)map, size, MADV_DONTNEED);
}

int file_hash(uint64_t *out, const char *path, struct genarm_error *err) {
    enum { WHOLE_MAX = 1 << 28 /* bytes */, N_SAMPLES = 4096, SAMPLE = 4096 /* bytes */ };
    const uint8_t *map = NULL;
    size_t size = 0;
    const int rc = file_map(&map, &size, path, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    uint64_t hash = hash_u64(HASH_START, size);
    if (size <= WHOLE_MAX) {
        hash = hash_bytes(hash, map, size);
    }
    for (size_t i = 0; i < N_SAMPLES && size > WHOLE_MAX; i++) {
        hash = hash_bytes(hash, map + (size - SAMPLE) / (N_SAMPLES - 1) * i, SAMPLE);
    }
    file_unmap(map, size);
    *out = hash;
    return GENARM_OK;
}
