/* What a run is, for the first line of its log: options, model, data, lengths. For people and reports: nothing in training
 * depends on it. */
#ifndef TRAIN_RECORD_H
#define TRAIN_RECORD_H

#include <jansson.h>

#include "train/data.h"
#include "train/plan.h"

struct record_source {
    const struct genarm_train_params *params;
    const struct genarm_model *model;
    const struct data *data;
    const struct plan *plan;
    const char *output;
    int64_t n_params; /* that are trained */
};

/* A new object {"run": {"command", "version", "started", "output", "steps", "trained parameters", "data fingerprint",
 * "options", "model", "data", "pairs", "tokens"}}; "data" is a list of {"path", "pairs"}, "pairs" counts what was read, dropped and held
 * out, "tokens" has mean, median and maximum of prompts and responses. NULL when out of memory. */
json_t *record_run(const struct record_source *s);

/* A new object {"resumed": step, "time", "version"}: a process went on after that step. With `changed`, which may be NULL,
 * an object of names and [was, is], as a member. */
json_t *record_resumed(int64_t step, json_t *changed);

#endif
