/* A set of borrowed byte strings: open addressing, linear probing, at most half full. */
#include "base/strset.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

/* The slot that holds the string, or the free one where it belongs. */
static struct strset_entry *find(const struct strset *set, const char *data, size_t len) {
    size_t i = (size_t)hash_bytes(HASH_START, data, len) & (set->n_slots - 1);
    while (set->slots[i].data && !(set->slots[i].len == len && memcmp(set->slots[i].data, data, len) == 0)) {
        i = (i + 1) & (set->n_slots - 1);
    }
    return &set->slots[i];
}

static bool grow(struct strset *set) {
    struct strset bigger = {.n_slots = set->n_slots ? set->n_slots * 2 : 64, .n = set->n};
    bigger.slots = calloc(bigger.n_slots, sizeof *bigger.slots);
    if (!bigger.slots) {
        return false;
    }
    for (size_t i = 0; i < set->n_slots; i++) {
        if (set->slots[i].data) {
            *find(&bigger, set->slots[i].data, set->slots[i].len) = set->slots[i];
        }
    }
    free(set->slots);
    *set = bigger;
    return true;
}

int strset_add(struct strset *set, const char *data, size_t len, size_t *first, struct genarm_error *err) {
    if (2 * set->n >= set->n_slots && !grow(set)) {
        return error_nomem(err, "a table of names");
    }
    struct strset_entry *slot = find(set, data, len);
    if (slot->data) {
        if (first) {
            *first = slot->index;
        }
        return 0;
    }
    *slot = (struct strset_entry){.data = data, .len = len, .index = set->n++};
    return 1;
}

void strset_deinit(struct strset *set) {
    free(set->slots);
    *set = (struct strset){0};
}
