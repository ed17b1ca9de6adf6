/* Does what is to be done of an experiment, one command at a time, beside other processes that do the same: until all is done,
 * something has failed, or a stop is asked for. Whatever ends a process, what it had finished stays, and what it was at is
 * free for others. */
#ifndef EVAL_RUN_H
#define EVAL_RUN_H

#include "eval/item_record.h"
#include "eval/reuse.h"

enum item_state {
    STATE_OPEN,    /* to do */
    STATE_DONE,    /* its file is there and is what its command writes */
    STATE_FAILED,  /* its command did */
    STATE_BLOCKED, /* it needs one that failed */
};

struct eval_run {
    const struct item_list *list;
    const char *folder;
    const char *program; /* path of the program */
    bool keep_going;     /* after a failure, with what does not need what failed */
    const struct reuse *reuse; /* files that need not be made; NULL: none */

    enum item_state *states; /* [list->n] */
    double *seconds;         /* [list->n] that the command took, of those that are done */
    size_t n_run;            /* commands that this process ran to the end */
    size_t n_reused;         /* files that it took over */
    double *failed;          /* [list->n] when the item had failed before this run, by its record; 0: it had not */

    /* What is told of it; each may be NULL. */
    void (*on_start)(const struct eval_run *r, const struct item *item, void *user);
    void (*on_wait)(const struct eval_run *r, const struct item *item, void *user); /* several times a second; item: the one that
                                                                                      runs here, or NULL */
    void (*on_end)(const struct eval_run *r, const struct item *item, int status, const char *log, int64_t log_start, void *user);
    void (*on_unanswered)(const struct eval_run *r, const struct item *item, size_t n, size_t of, void *user); /* of a file that
                                                                                   is done: prompts that could not be answered */
    void (*on_bare)(const struct eval_run *r, void *user); /* locks do not work here: once, before the first command */
    int (*stopped)(void *user);  /* not 0: asks for a stop */
    void *user;
};

/* Fills states, seconds and failed, which eval_run_deinit frees, from what is in the folder. */
int eval_run_init(struct eval_run *r, struct genarm_error *err);
void eval_run_deinit(struct eval_run *r);

/* Whether a file is there that other settings have made, and that this run makes anew. Reads its record into *record. */
bool eval_run_is_other(const struct eval_run *r, size_t i, struct item_record *record);

/* Makes the folder and what is in it. */
int eval_run_prepare(const struct eval_run *r, struct genarm_error *err);

/* Runs what is wanted. Returns 0 when all of it is done, GENARM_ECANCELED after a stop, GENARM_EIO or what else went wrong;
 * 1: a command failed, which on_end has told. */
int eval_run_all(struct eval_run *r, struct genarm_error *err);

/* Numbers for a progress line: items that are wanted, those of them that are done, and how many seconds the others take,
 * reckoned by those of their kind; 0: nothing is known. */
void eval_run_count(const struct eval_run *r, size_t *n, size_t *n_done, double *left);

#endif
