/* Files of other experiments' folders, which are what a command of the same fingerprint would write. */
#ifndef EVAL_REUSE_H
#define EVAL_REUSE_H

#include "eval/item_record.h"

struct reuse {
    struct reuse_file {
        char *path;
        struct item_record record;
    } *files; /* [n] */
    size_t n;
};

/* Adds what is done in a folder of genarm eval. Zero-initialise *r. A folder that is none has nothing that is done. */
int reuse_add(struct reuse *r, const char *folder, struct genarm_error *err);
void reuse_deinit(struct reuse *r);

/* The file that a command of this fingerprint wrote; NULL: there is none, as in an `r` that is NULL. */
const struct reuse_file *reuse_find(const struct reuse *r, uint64_t fingerprint);

#endif
