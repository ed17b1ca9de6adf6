/* Who does what, among processes that work on one folder, on one machine or on several that share it: whoever does something
 * holds a lock on a byte of FOLDER/claims, which is at a place made of the thing's name. Locks go with the processes that hold
 * them, whatever ends these.
 *
 * The lock belongs to the open file (fcntl, F_OFD_SETLK): a program that inherits the descriptor holds it as well, so that what
 * a killed process has started is not started a second time while it runs. Where a system has no such locks, it belongs to the
 * process.
 */
#ifndef EVAL_CLAIMS_H
#define EVAL_CLAIMS_H

#include <stdbool.h>

#include "base/error.h"

struct claim {
    int fd;    /* -1: none is held */
    bool bare; /* the file system knows no locks: nothing keeps others away */
};

/* 1: *claim is held, 0: another process has it, negative: the file cannot be opened. */
int claim_take(struct claim *claim, const char *folder, const char *name, struct genarm_error *err);
void claim_release(struct claim *claim); /* safe when none is held */

#endif
