/* A child process with pipes at its standard input and output; its standard error is the caller's. It leads a process group
 * of its own: Ctrl-C at a terminal reaches the caller only, which ends the group when it is done. */
#ifndef REWARD_PROCESS_H
#define REWARD_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

struct process {
    pid_t pid; /* 0: none */
    int in;    /* non-blocking: what is written is its input; -1: closed */
    int out;   /* non-blocking: its output */
};

/* Starts `/bin/sh -c command`. */
int process_start(struct process *p, const char *command, struct genarm_error *err);

/* Writes what the pipe takes of n bytes: the number, 0 when it takes none now, -1 with errno set. A reader that went away is
 * EPIPE and no signal. */
ssize_t process_write(struct process *p, const void *bytes, size_t n);

/* Whether it exits within some seconds, and how, as part of a sentence: "exited with status 1". */
bool process_exited(const struct process *p, double seconds, char *how, size_t n_how);

/* It sees the end of its input. */
void process_close_input(struct process *p);

/* Closes both pipes and waits up to `patience` seconds for the process to exit; then kills what is left of its group. Does
 * nothing when there is none. */
void process_end(struct process *p, double patience);

#endif
