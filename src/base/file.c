/* Files: read whole, written through a temporary file. Lines are in lines.c, maps in map.c. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_LINKS = 40 /* as in Linux */ };

static int io_error(struct genarm_error *err, const char *path, const char *doing) {
    const int number = errno;
    int rc = error_set(err, GENARM_EIO, "cannot %s: %s", doing, number ? strerror(number) : "the write failed");
    rc = error_at(err, rc, "%s", path);
    if (number == ENOSPC || number == EDQUOT) {
        rc = error_hint(err, rc, "the disk is full: make room and try again");
    } else if (number == ENOENT) {
        rc = error_hint(err, rc, "is the path right?");
    }
    return rc;
}

int file_read(struct buf *b, const char *path, struct genarm_error *err) {
    buf_clear(b);
    FILE *stream = fopen(path, "rbe");
    if (!stream) {
        return io_error(err, path, "open the file");
    }
    char chunk[16384];
    size_t n;
    int rc = buf_append(b, "", 0, err); /* an empty file is an empty string */
    while (rc == GENARM_OK && (n = fread(chunk, 1, sizeof chunk, stream)) > 0) {
        rc = error_at(err, buf_append(b, chunk, n, err), "%s", path);
    }
    if (rc == GENARM_OK && ferror(stream)) {
        rc = io_error(err, path, "read the file");
    }
    fclose(stream);
    return rc;
}

static void writer_clear(struct file_writer *w) {
    free(w->path);
    free(w->target);
    free(w->temp_path);
    *w = (struct file_writer){0};
}

/* Creates a temporary file of its own beside the target: <target>.tmp.<pid>, with a number added if that exists. Its
 * permission bits are those of what is replaced. */
static int create_temp(struct file_writer *w, const struct stat *replaced, struct genarm_error *err) {
    static atomic_uint counter;
    const mode_t mode = replaced ? replaced->st_mode & 0777 : 0666;
    const size_t size = strlen(w->target) + 48;
    w->temp_path = malloc(size);
    if (!w->temp_path) {
        return error_nomem(err, "a file name");
    }
    snprintf(w->temp_path, size, "%s.tmp.%ld", w->target, (long)getpid());
    int fd;
    while ((fd = open(w->temp_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)) < 0 && errno == EEXIST) {
        snprintf(w->temp_path, size, "%s.tmp.%ld.%u", w->target, (long)getpid(), atomic_fetch_add(&counter, 1));
    }
    if (fd < 0) {
        return io_error(err, w->path, "create the file");
    }
    if (replaced && fchmod(fd, mode) != 0) { /* what umask took away; some file systems know no permissions */
        log_line(GENARM_LOG_DEBUG, "%s: its permissions are not kept: %s", w->path, strerror(errno));
    }
    w->stream = fdopen(fd, "wb");
    if (!w->stream) {
        const int rc = io_error(err, w->path, "create the file");
        close(fd);
        unlink(w->temp_path);
        return rc;
    }
    return GENARM_OK;
}

/* Length of the folder part of a path without its trailing slash; 0: there is none. */
static size_t folder_len(const char *path) {
    const char *slash = strrchr(path, '/');
    return !slash ? 0 : slash == path ? 1 : (size_t)(slash - path);
}

/* Whether a name is "<file>.tmp.<pid>", perhaps with a number, of a process that is gone. */
static bool is_leftover(const char *name, const char *file) {
    const size_t n = strlen(file);
    if (strncmp(name, file, n) != 0 || strncmp(name + n, ".tmp.", 5) != 0) {
        return false;
    }
    const long pid = strtol(name + n + 5, NULL, 10);
    return pid > 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH;
}

void file_remove_leftovers(const char *path) {
    const size_t n = folder_len(path);
    char *folder = n ? strndup(path, n) : strdup(".");
    const char *file = path + n + (n && path[n] == '/');
    DIR *dir = folder ? opendir(folder) : NULL;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (is_leftover(entry->d_name, file)) {
            unlinkat(dirfd(dir), entry->d_name, 0);
        }
    }
    if (dir) {
        closedir(dir);
    }
    free(folder);
}

/* What the symbolic link `path` says, seen from where `path` is. NULL: no memory. */
static char *read_link(const char *path) {
    char says[PATH_MAX], *target = NULL;
    const char *slash = strrchr(path, '/');
    const ssize_t n_says = readlink(path, says, sizeof says);
    const size_t n = slash && n_says > 0 && says[0] != '/' ? (size_t)(slash - path) + 1 : 0;
    if (n_says > 0 && n_says < (ssize_t)sizeof says && (target = calloc(n + (size_t)n_says + 1, 1))) {
        memcpy(target, path, n);
        memcpy(target + n, says, (size_t)n_says);
    }
    return target;
}

char *file_target(const char *path) {
    struct stat st;
    char *target = strdup(path);
    for (int i = 0; i < MAX_LINKS && target && lstat(target, &st) == 0 && S_ISLNK(st.st_mode); i++) {
        char *next = read_link(target);
        free(target);
        target = next;
    }
    return target;
}

int file_open(struct file_writer *w, const char *path, struct genarm_error *err) {
    struct stat st;
    if (!*path) {
        return error_hint(err, error_set(err, GENARM_EINVAL, "the name of the file to write is empty"), "name the file");
    }
    const bool there = stat(path, &st) == 0;
    if (there && !S_ISREG(st.st_mode)) { /* a rename would put a file in place of a device or fail */
        const int rc = error_set(err, GENARM_EINVAL, S_ISDIR(st.st_mode) ? "is a folder" : "is not a regular file");
        return error_hint(err, error_at(err, rc, "%s", path), "name the file to write");
    }
    struct file_writer made = {.path = strdup(path), .target = file_target(path)};
    int rc = made.path && made.target ? GENARM_OK : error_nomem(err, "a file name");
    if (rc == GENARM_OK) {
        file_remove_leftovers(made.target);
        rc = create_temp(&made, there ? &st : NULL, err);
    }
    if (rc != GENARM_OK) {
        writer_clear(&made);
        return rc;
    }
    *w = made;
    return GENARM_OK;
}

bool file_sync_folder(const char *path) {
    const size_t n = folder_len(path);
    char *folder = n ? strndup(path, n) : strdup(".");
    const int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    free(folder);
    if (fd < 0) {
        return false;
    }
    const bool ok = fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP; /* some file systems cannot */
    const int number = errno;
    close(fd);
    errno = number;
    return ok;
}

/* stdio forgets why an earlier write failed: write once more to the file, which is lost anyway, and see. */
static int forgotten_errno(FILE *stream) {
    static const char block[65536];
    const int fd = fileno(stream);
    errno = 0;
    return write(fd, block, sizeof block) == (ssize_t)sizeof block && fsync(fd) == 0 ? 0 : errno;
}

int file_commit(struct file_writer *w, struct genarm_error *err) {
    int rc = GENARM_OK;
    errno = 0;
    if (fflush(w->stream) != 0 || ferror(w->stream)) {
        errno = errno ? errno : forgotten_errno(w->stream);
        rc = io_error(err, w->path, "write the file");
    } else if (fsync(fileno(w->stream)) != 0 && errno != EINVAL && errno != ENOTSUP) {
        rc = io_error(err, w->path, "write the file");
    }
    if (fclose(w->stream) != 0 && rc == GENARM_OK) {
        rc = io_error(err, w->path, "write the file");
    }
    w->stream = NULL;
    if (rc == GENARM_OK && rename(w->temp_path, w->target) != 0) {
        rc = io_error(err, w->path, "put the file in place");
    } else if (rc == GENARM_OK && !file_sync_folder(w->target)) {
        rc = io_error(err, w->path, "write the folder of the file");
    }
    if (rc != GENARM_OK) {
        unlink(w->temp_path);
    }
    writer_clear(w);
    return rc;
}

void file_abort(struct file_writer *w) {
    if (w->stream) {
        fclose(w->stream);
        unlink(w->temp_path);
    }
    writer_clear(w);
}

int file_write(const char *path, const void *bytes, size_t n, struct genarm_error *err) {
    struct file_writer w;
    const int rc = file_open(&w, path, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    if (n > 0) {
        fwrite(bytes, 1, n, w.stream); /* checked by file_commit */
    }
    return file_commit(&w, err);
}

int file_copy(const char *path, const char *from, struct genarm_error *err) {
    FILE *stream = fopen(from, "rbe");
    if (!stream) {
        return io_error(err, from, "open the file");
    }
    struct file_writer w;
    char chunk[65536];
    size_t n;
    int rc = file_open(&w, path, err);
    if (rc == GENARM_OK) {
        while ((n = fread(chunk, 1, sizeof chunk, stream)) > 0) {
            fwrite(chunk, 1, n, w.stream); /* checked by file_commit */
        }
        rc = ferror(stream) ? io_error(err, from, "read the file") : file_commit(&w, err);
        file_abort(&w);
    }
    fclose(stream);
    return rc;
}

int file_make_folder(const char *path, struct genarm_error *err) {
    char *part = strdup(path);
    if (!part) {
        return error_nomem(err, "a file name");
    }
    int rc = GENARM_OK;
    for (char *end = part; rc == GENARM_OK && *end;) {
        end += strspn(end, "/");
        end += strcspn(end, "/");
        const char kept = *end;
        *end = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST) {
            rc = io_error(err, part, "create the folder");
        }
        *end = kept;
    }
    free(part);
    struct stat st;
    if (rc == GENARM_OK && (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))) {
        errno = ENOTDIR;
        rc = io_error(err, path, "create the folder");
    }
    return rc;
}

bool file_exists(const char *path) { return access(path, F_OK) == 0; }

bool file_exists_in(const char *folder, const char *name) {
    struct buf path;
    buf_init(&path, 1 << 16);
    const bool has = buf_printf(&path, NULL, "%s/%s", folder, name) == GENARM_OK && file_exists(path.data);
    buf_deinit(&path);
    return has;
}
