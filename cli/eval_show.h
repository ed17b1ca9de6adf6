/* What genarm eval says while it works. */
#ifndef CLI_EVAL_SHOW_H
#define CLI_EVAL_SHOW_H

#include "base/progress.h"
#include "eval/eval_run.h"

struct eval_show {
    struct progress progress;
    bool verbose;
    bool started;         /* the bar */
    const struct item *item; /* that runs here */
    double item_started, looked; /* monotonic clock */
    size_t n_lines;       /* of the records that an item's command has written so far */
    size_t n_failed;
};

/* Sets the functions that are told of a run; `show` becomes its user. */
void eval_show_attach(struct eval_run *run, struct eval_show *show);
void eval_show_end(struct eval_show *show);

/* "genarm train --loss=dpo -o 'a b'" as a shell reads it: on one line without a newline. */
int eval_show_command(struct buf *out, char *const *words, struct genarm_error *err);

/* What is done and what is to do, with commands: for --dry-run. */
int eval_show_plan(FILE *out, const struct eval_run *run, struct genarm_error *err);

#endif
