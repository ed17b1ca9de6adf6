/* What a run is, for the first line of its log: options, model, data, lengths. For people and reports: nothing in training
 * depends on it. */
#ifndef TRAIN_RECORD_H
#define TRAIN_RECORD_H

#include <jansson.h>

#include "train/data.h"
#include "train/plan.h"

struct record_source {
    const char *command; /* "train", "rl" */
    json_t *options;     /* names and values; borrowed */
    const struct genarm_model *model;
    const char *output;
    int64_t n_steps, n_params; /* n_params: that are trained */
    uint64_t data_hash;
};

/* A new object {"run": {"command", "version", "started", "output", "steps", "trained parameters", "data fingerprint",
 * "options", "model"}}. NULL when out of memory. */
json_t *record_run(const struct record_source *s);

/* Adds to its run "data", a list of {"path", "pairs"}, "pairs", which counts what was read, dropped and held out, and "tokens",
 * with mean, median and maximum of prompts and responses. */
void record_add_pairs(json_t *record, const struct data *d, const struct plan *p);

/* `options` with the paths of the adapters that a run starts from and compares with. */
json_t *record_options(json_t *options, const struct genarm_train_params *p);

/* A new object {"resumed": step, "time", "version"}: a process went on after that step. With `changed`, which may be NULL,
 * an object of names and [was, is], as a member. */
json_t *record_resumed(int64_t step, json_t *changed);

#endif
