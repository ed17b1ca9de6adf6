/* The records of an output file that is not complete, in <output>.partial beside it: a line that says what the run is, then a
 * line for each record as it comes, in any order. Whatever ends the process, the next one with the same settings goes on. */
#ifndef CLI_PARTIAL_H
#define CLI_PARTIAL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/journal.h"

struct partial {
    struct journal journal;
    struct extent {
        int64_t at;    /* where the record's text is */
        size_t length; /* 0: there is none */
    } *records;        /* [n] */
    size_t n;
    size_t n_found; /* records of an earlier process */
};

/* malloc'ed "<output>.partial", NULL when out of memory. */
char *partial_path(const char *output);

struct partial_run {
    const char *output;
    const char *command, *member; /* whose records they are, and a member that each of them has; NULL: those of genarm generate,
                                     "finish_reason" */
    const json_t *settings; /* object: what must be the same for a file to be gone on with */
    size_t n;               /* records of the whole output */
    bool any_seed;          /* go on with the file's seed, whatever it is */
    bool anew;              /* what there is is dropped */
};

/* Opens what there is, or begins. *seed is the run's, which that of the file takes the place of. Records with "finish_reason"
 * "error" do not count: they are tried again. GENARM_EMISMATCH names the setting that differs, GENARM_EFORMAT: the file is
 * something else. */
int partial_open(struct partial *p, const struct partial_run *run, uint64_t *seed, struct genarm_error *err);
void partial_close(struct partial *p); /* the file stays; safe on a zeroed struct */

static inline bool partial_has(const struct partial *p, size_t i) { return p->records && p->records[i].length > 0; }

/* Adds record i: JSON on one line. */
int partial_add(struct partial *p, size_t i, const char *record, struct genarm_error *err);

/* Record i, which is there, as a new reference. */
int partial_read(const struct partial *p, size_t i, json_t **out, struct genarm_error *err);

/* Writes the line of record i. */
int partial_print(const struct partial *p, size_t i, FILE *out, struct genarm_error *err);

/* When the output is in place: the file goes. */
int partial_remove(struct partial *p, struct genarm_error *err);

#endif
