/* Files of other experiments' folders, which are what a command of the same fingerprint would write. */
#ifndef EVAL_REUSE_H
#define EVAL_REUSE_H

#include "eval/item_record.h"

struct reuse {
    struct reuse_file {
        char *path, *record_path, *log_path; /* log_path: the curves of a training, where it has left some */
        struct item_record record; /* as it was when the folder was added */
    } *files; /* [n] */
    size_t n;
};

/* Adds what is done in a folder of genarm eval. Zero-initialise *r. A folder that is none has nothing that is done. */
int reuse_add(struct reuse *r, const char *folder, struct genarm_error *err);
void reuse_deinit(struct reuse *r);

/* Whether the file is still what the record said: the folder may be one that another process works in. */
bool reuse_holds(const struct reuse_file *file);

/* The file that is what the item's command would make in `folder`, of what it needs as that is there, or elsewhere as well, and
 * that still holds; NULL: there is none, as in an `r` that is NULL. */
const struct reuse_file *reuse_find(const struct reuse *r, const struct item_list *list, const struct item *item,
                                    const char *folder);

#endif
