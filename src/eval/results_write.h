/* FOLDER/results.jsonl: all that an experiment found so far, put together from the files of its items. docs/eval-report.md has
 * the format. */
#ifndef EVAL_RESULTS_WRITE_H
#define EVAL_RESULTS_WRITE_H

#include "eval/eval_run.h"

/* Writes the file, whole or not at all, of what is done. model: the base, as it was given; NULL: the default one. */
int eval_results_write(const struct experiment *e, const struct eval_run *run, const char *model, struct genarm_error *err);

#endif
