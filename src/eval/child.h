/* A command of this program as a process of its own: its messages in a file, nothing to read, in a group of its own so that
 * Ctrl-C reaches it once, by us. It is asked to end when the process that started it dies. */
#ifndef EVAL_CHILD_H
#define EVAL_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

struct child {
    pid_t pid; /* 0: none */
};

/* words: the command and what follows, ended by NULL. program: its path. log: a file that is appended to. fd: a descriptor that
 * the child has as well, or -1. Variables by which launchers of MPI tell processes their rank are not passed on: the child is
 * no rank. */
int child_start(struct child *c, const char *program, char *const *words, const char *log, int fd, struct genarm_error *err);

/* Whether it has ended; then *status is what it exited with, 128 + N after signal N. */
bool child_ended(struct child *c, int *status);
void child_signal(const struct child *c, int number);

#endif
