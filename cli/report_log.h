/* Metrics logs as genarm report reads them: curves in bounded memory, and what the log says of its run. */
#ifndef CLI_REPORT_LOG_H
#define CLI_REPORT_LOG_H

#include <jansson.h>

#include "plot/trace.h"

struct report_curve {
    char *key; /* as in the log; members of an object have it before them: "rewards/cheerful" */
    struct trace trace;
};

struct report_run {
    char *path, *label; /* label: what tells the run from the others; owned */
    json_t *facts;      /* the log's "run" object; NULL: an older log */
    struct report_curve *curves;
    size_t n_curves;
    double *resumed; /* [n_resumed] steps after which a process went on */
    size_t n_resumed;
    double last_step; /* -1: none */
    long torn_line;   /* the last line, where it was cut off when the run was killed; 0: none */
};

/* Reads a log. Its last line may be cut off; any other line that is no record is an error naming path:line. On failure
 * *run is empty. */
int report_run_read(struct report_run *run, const char *path, struct genarm_error *err);
void report_run_deinit(struct report_run *run); /* safe on a zeroed struct */

/* NULL: the run has no such curve. */
const struct trace *report_run_curve(const struct report_run *run, const char *key);

/* The log that belongs to what was named: a log itself, an adapter or its checkpoint folder. malloc'ed. */
int report_find_log(char **log, const char *path, struct genarm_error *err);

/* Labels: the shortest ends of the paths that tell the runs apart. */
int report_label_runs(struct report_run *runs, size_t n, struct genarm_error *err);

#endif
