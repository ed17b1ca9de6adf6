/* Preference pairs held in memory: what is wrong with their files is said before anything is computed. */
#ifndef CLI_PAIRS_H
#define CLI_PAIRS_H

#include <jansson.h>

#include "data/reader.h"
#include "genarm/model.h"

struct pair {
    struct preference preference; /* owned */
    char *where;                  /* "file:line" */
    int64_t number;               /* from 0, of all that were read, also of those that were dropped */
};

struct pair_list {
    struct pair *items; /* [n] */
    size_t n;
    int64_t n_read; /* n and those that were dropped */
};

/* Appends the pairs of a file that can be used, and says how many cannot. */
int pairs_read(struct pair_list *list, const char *path, const struct pref_params *params, struct genarm_error *err);
void pairs_free(struct pair_list *list); /* safe on a zeroed struct */

/* The prompt as messages, malloc'ed, with strings of the pair; `system` (may be NULL) where it has no system message. */
int pair_messages(struct genarm_message **out, size_t *n, const struct pair *pair, const char *system,
                  struct genarm_error *err);

#endif
