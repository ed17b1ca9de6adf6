/* Files: read whole, mapped, read by lines, and the one way to write: temporary file in the same folder, fsync, rename. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"

/* Reads a whole file into b (which is cleared first). Errors name the path. */
int file_read(struct buf *b, const char *path, struct genarm_error *err);

/* Maps a whole regular file read-only. The file must not be cut or rewritten in place while it is mapped. An empty file is
 * GENARM_EFORMAT. Errors name the path. */
int file_map(const uint8_t **map, size_t *size, const char *path, struct genarm_error *err);
void file_unmap(const uint8_t *map, size_t size); /* NULL is fine */
void file_map_rest(const uint8_t *map, size_t size); /* what was read need not stay in memory; it may be read again */

/* Hash (base/hash.h) of what a file holds; of one above 256 MB, of its size and of samples all over it. As file_map else. */
int file_hash(uint64_t *out, const char *path, struct genarm_error *err);

/* Writer of one output file. Nothing appears under `path` until file_commit succeeds; on any failure before that
 * the previous file is untouched and the temporary one (target + ".tmp.<pid>") is removed. Only a regular file is
 * replaced: a folder or a device under `path` is GENARM_EINVAL. Its permissions stay, and so does a symbolic link: the file that
 * it leads to is replaced. */
struct file_writer {
    FILE *stream; /* write here with stdio; errors are collected by file_commit */
    char *path;   /* as given, for errors */
    char *target; /* what is replaced */
    char *temp_path;
};
int file_open(struct file_writer *w, const char *path, struct genarm_error *err);
int file_commit(struct file_writer *w,
                struct genarm_error *err); /* flush, fsync, rename, fsync the folder; always closes */
void file_abort(struct file_writer *w);    /* drops the temporary file; safe after commit */

/* Where symbolic links lead to, also when there is no file yet, else the path itself; malloc'ed. NULL: no memory. */
char *file_target(const char *path);

/* Removes temporary files of `path` whose process was killed; file_open does. */
void file_remove_leftovers(const char *path);

/* The same as open, write and commit for bytes at hand. */
int file_write(const char *path, const void *bytes, size_t n, struct genarm_error *err);

/* The same for what another file holds. Errors name the file that cannot be read or written. */
int file_copy(const char *path, const char *from, struct genarm_error *err);

/* Creates a folder and its parents (mode 0777 & ~umask). An existing folder is success. */
int file_make_folder(const char *path, struct genarm_error *err);
bool file_exists(const char *path);
bool file_exists_in(const char *folder, const char *name);

/* A name that is new in a folder survives a power failure only once the folder is on disk: that of `path`. False: errno says
 * why not. */
bool file_sync_folder(const char *path);

/* Reads lines of any length up to a maximum; strips "\n", "\r\n" and a byte order mark at the start. */
struct file_lines {
    FILE *stream;
    const char *path; /* borrowed */
    long line;        /* number of the line last returned, from 1 */
    struct buf text;
};
int file_lines_open(struct file_lines *l, const char *path, size_t max_line, struct genarm_error *err);
/* 1: a line is in l->text; 0: end of file; negative: error (names path:line). */
int file_lines_next(struct file_lines *l, struct genarm_error *err);
void file_lines_close(struct file_lines *l);

#endif
