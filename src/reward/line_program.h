/* A program that is asked by lines and answers with a line each, in order: what `cmd:` and pairwise judges share
 * (docs/reward.md). */
#ifndef REWARD_LINE_PROGRAM_H
#define REWARD_LINE_PROGRAM_H

#include <jansson.h>

#include "base/buf.h"
#include "genarm/source.h"
#include "reward/process.h"

struct line_program {
    const struct genarm_source_params *params; /* time limit and stop; borrowed */
    char *text;                                /* the command, as given */
    const char *form;                          /* borrowed: what an answer is, for hints */
    struct process process;
    struct buf request; /* the line that is being written */
    size_t n_written;   /* of it */
    struct buf answer;  /* what was read and not understood yet */
};

/* Starts the program: it gets ready while others load. Call line_program_deinit in every case. */
int line_program_init(struct line_program *p, const char *command, const char *form,
                      const struct genarm_source_params *params, struct genarm_error *err);
void line_program_deinit(struct line_program *p); /* safe on a zeroed struct */

/* Questions 0 .. n and what is done with their answers. */
struct line_batch {
    size_t n;
    int (*ask)(size_t i, struct buf *line, void *user, struct genarm_error *err); /* appends question i, without a newline */
    int (*take)(size_t i, const char *line, size_t n, void *user, struct genarm_error *err); /* line[n] is NUL */
    void *user;
};

/* On failure *at is the question at fault, and the program has been killed: the next call starts another. */
int line_program_run(struct line_program *p, const struct line_batch *batch, size_t *at, struct genarm_error *err);

/* When all is answered: the program sees the end of its input and is listened to for a while. What it still says is
 * GENARM_EMISMATCH, as what it was not asked is within a batch: its answers may be those of other questions. The next batch
 * starts another. */
int line_program_finish(struct line_program *p, struct genarm_error *err);

/* The error of an answer that is none, and why. */
int line_program_refuse(const struct line_program *p, const char *line, size_t n, const char *why, struct genarm_error *err);

/* {"prompt", "messages"}: how programs are told a prompt. New reference; NULL without memory. */
json_t *line_program_prompt(const struct genarm_message *messages, size_t n);

#endif
