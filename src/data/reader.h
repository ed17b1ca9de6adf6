/* Preferences from a file of any known format, container and compression, one at a time: what is wrong is an error that
 * names the place, what cannot be used is dropped and counted. Holds one record in memory, whatever the file's size.
 *
 *     struct pref_reader *reader;
 *     struct preference *p;
 *     int rc = pref_open(&reader, "pairs.jsonl.gz", NULL, err);
 *     while (rc == GENARM_OK && (rc = pref_next(reader, &p, err)) > 0) { … rc = GENARM_OK; }
 */
#ifndef DATA_READER_H
#define DATA_READER_H

#include "data/formats.h"

enum {
    PREF_MAX_BYTES = 16 << 20, /* of one record */
    PREF_NAMED = 5             /* records of one reason that are remembered, and logged; the rest is only counted */
};

/* What is wanted of a record. */
enum pref_use {
    PREF_PAIRS,    /* both responses; a format that has one is an error */
    PREF_AS_FOUND, /* both, or, of a format that has one, that */
    PREF_CHOSEN    /* the chosen one: the rejected response may be missing, and nothing depends on it. It is there where the
                      record would make a pair as well */
};

struct pref_params {
    enum genarm_data_format format;
    enum genarm_data_label label; /* for pku-saferlhf; of no meaning elsewhere */
    enum pref_use use;
};

/* What was read so far. */
struct pref_counts {
    int64_t read, kept;
    int64_t n[PREF_N_REASONS];
    int64_t places[PREF_N_REASONS][PREF_NAMED]; /* the first ones: lines, or records where the file is an array */
};

struct pref_reader;

/* `path` must outlive the reader. `params` may be NULL: the format is detected, the label is "better". */
int pref_open(struct pref_reader **out, const char *path, const struct pref_params *params, struct genarm_error *err);
void pref_close(struct pref_reader *r); /* NULL is fine */

/* 1: *out is the next preference that can be used; 0: the end; negative: error. A file without records is an error. The
 * preference is the reader's until the next call; who wants to keep it moves it out and leaves a zeroed struct. */
int pref_next(struct pref_reader *r, struct preference **out, struct genarm_error *err);

/* "path:LINE" of the record last read, with its number where the file is an array. */
const char *pref_where(const struct pref_reader *r);

const struct pref_counts *pref_counts(const struct pref_reader *r);
enum genarm_data_format pref_format(const struct pref_reader *r); /* GENARM_DATA_AUTO before the first record */
bool pref_in_array(const struct pref_reader *r);                  /* false before the first record */
const char *pref_codec(const struct pref_reader *r);              /* "plain", "gzip", "xz", "zstd" */

/* Stored bytes taken so far, and in all; all is 0 where nobody knows. */
void pref_progress(const struct pref_reader *r, int64_t *done, int64_t *all);

const char *pref_reason_name(enum pref_reason reason); /* "empty" */
const char *pref_reason_text(enum pref_reason reason); /* "a response is empty" */

#endif
