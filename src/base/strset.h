/* A set of byte strings that are owned by somebody else: finds duplicates. */
#ifndef BASE_STRSET_H
#define BASE_STRSET_H

#include <stddef.h>

#include "base/error.h"

struct strset_entry {
    const char *data; /* NULL: free */
    size_t len;
    size_t index; /* which call added it, from 0 */
};

struct strset {
    struct strset_entry *slots; /* open addressing; NULL until the first add */
    size_t n_slots, n;
};

/* Adds a string that outlives the set. 1: it was new; 0: it is there already, *first (may be NULL) is the index of the
 * call that added it; negative: GENARM_ENOMEM. The set starts as a zeroed struct. */
int strset_add(struct strset *set, const char *data, size_t len, size_t *first, struct genarm_error *err);
void strset_deinit(struct strset *set);

#endif
