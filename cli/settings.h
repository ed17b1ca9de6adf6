/* What a command was told, as JSON: to find out whether another run was told the same. */
#ifndef CLI_SETTINGS_H
#define CLI_SETTINGS_H

#include <jansson.h>

#include "setup.h"

/* A new object from each option's first long name to its value, without those that are free and those whose name is in `except`
 * (up to a NULL). Of an option that names files to read it is what the files hold. */
int settings_options(json_t **out, const struct option *options, size_t n_options, const void *args,
                     const char *const *except, struct genarm_error *err);

/* Adds a file by what it holds; what is no file, by its name. */
int settings_add_file(json_t *settings, const char *name, const char *path, struct genarm_error *err);

/* Adds the files that a guide is made of, by what they hold, as "model" and "--arm" with names and weights. */
int settings_add_setup(json_t *settings, const struct setup *s, struct genarm_error *err);

/* Adds "WHAT NAME": what a file holds. */
int settings_add_file_of(json_t *settings, const char *what, const char *name, const char *path, struct genarm_error *err);

#endif
