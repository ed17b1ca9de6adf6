/* The options of a run: defaults, checks, a copy of its own, and what makes two runs the same. */
#ifndef TRAIN_OPTIONS_H
#define TRAIN_OPTIONS_H

#include <jansson.h>

#include "genarm/train.h"
#include "model/objectives.h"

/* Errors name the option and its range. */
int options_check(const struct genarm_train_params *p, struct genarm_error *err);

/* Copies params with their strings; a beta or margin of 0 becomes the loss's own. */
int options_copy(struct genarm_train_params *to, const struct genarm_train_params *from, struct genarm_error *err);
void options_deinit(struct genarm_train_params *p);

/* The number that was meant: of all decimals that round to this float, the shortest. */
double options_decimal(float x);

/* A name and its value, a new reference. */
struct option_value {
    const char *name;
    json_t *value;
};

/* `object` with n members more, whose values are taken over in any case. NULL, and the object is released, when out of memory;
 * also when it is NULL. */
json_t *options_add(json_t *object, const struct option_value *members, size_t n);

/* A new object with every option that the result depends on, called as on the command line, with _ for -. Not: threads, paths,
 * how often is saved. NULL when out of memory. */
json_t *options_to_json(const struct genarm_train_params *p);

/* Names in it that a resumed run may change when it is told to: what the optimiser's steps are like, not which they are. Ends
 * with a NULL. */
extern const char *const options_that_may_change[];

/* Adds the objectives and the options that belong to them; nothing where there are none. False when out of memory. */
bool options_add_objectives(json_t *run, const struct genarm_train_params *p, const struct objectives *o);

#endif
