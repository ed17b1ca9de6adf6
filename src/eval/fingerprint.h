/* What the words of a command stand for, as a number: two commands that get other files under the same names differ, and the
 * same file under another name does not. */
#ifndef EVAL_FINGERPRINT_H
#define EVAL_FINGERPRINT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Hashes of files, each read once. Zero-initialise. */
struct fingerprints {
    struct fingerprint_file {
        char *path;
        uint64_t hash;
    } *files; /* [n] */
    size_t n;
};

/* Continues `*hash` over a text, with what files hold in place of their names: the whole text, or any piece of it between
 * blanks, quotes and : = + # , ; that is the path of a regular file. A path may have such characters itself, and "@LABEL" behind
 * it: of several readings the longest path counts. */
int fingerprint_text(struct fingerprints *f, uint64_t *hash, const char *text, struct genarm_error *err);
/* Adds what a file holds, which must be there. */
int fingerprint_file(struct fingerprints *f, uint64_t *hash, const char *path, struct genarm_error *err);

void fingerprints_deinit(struct fingerprints *f);

#endif
