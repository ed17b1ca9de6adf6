/* Whole training runs on a tiny model in a folder of their own. */
#ifndef SUPPORT_TRAIN_RUN_H
#define SUPPORT_TRAIN_RUN_H

#include <stdbool.h>
#include <stddef.h>

#include "genarm/genarm.h"

struct train_run {
    char folder[64];
    char pairs[96], output[96], log[96], checkpoint[112]; /* files in it; checkpoint: the folder */
    struct genarm_model *model;
};

void train_run_open(struct train_run *r, const char *model); /* a file in tests/golden; NULL: no model is loaded */
void train_run_close(struct train_run *r);

/* n pairs with prompts of their own that can be learnt: chosen responses are of a few words, rejected ones of others. */
void train_run_write_pairs(const struct train_run *r, int n);

/* Small and quick: 5 pairs a step, one thread, a checkpoint after each step, logged. */
struct genarm_train_params train_run_params(const struct train_run *r);

/* A run on the run's pairs, or on those of its options' objectives, to the end, or until `each` stops it; returns the code of
 * what failed. */
int train_run(struct train_run *r, const struct genarm_train_params *params,
              int (*each)(const struct genarm_train_status *, void *), void *user, struct genarm_error *err);

/* What a run told, for train_note, which stops it where it says. */
struct train_calls {
    struct genarm_train_status status[4096];
    int n, stop_at_call;   /* 0: none */
    int64_t stop_at_step;  /* -1: none */
};
int train_note(const struct genarm_train_status *s, void *user);

/* Moves one of a finished run's files aside, to `name` in the run's folder; its path in `to`. */
void train_run_keep(const struct train_run *r, char *to, size_t size, const char *file, const char *name);

/* Stops a run and resumes it with another number of threads: result and log are those of a run that was not stopped. */
void train_run_check_resumed(struct train_run *r, const struct genarm_train_params *params, int stop_at_call,
                             int64_t stop_at_step, int32_t n_threads);

/* The whole of a file, malloc'ed; *n bytes. NULL: there is none. */
char *read_whole(const char *path, size_t *n);
bool same_files(const char *a, const char *b);

#endif
