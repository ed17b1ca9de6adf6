/* What genarm data says about pair files: for people, or as one JSON record. */
#ifndef CLI_DATA_REPORT_H
#define CLI_DATA_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "data/reader.h"
#include "data/survey.h"

/* One file that was read. */
struct data_file {
    const char *path, *codec;
    enum genarm_data_format format;
    bool array;
    struct pref_counts counts;
};

/* One file that was written. */
struct data_output {
    char *path; /* owned; NULL: there is none */
    int64_t n;
};

struct data_report {
    struct data_file *files; /* [n_files] */
    size_t n_files;
    struct survey survey;
    bool tokens;  /* lengths are tokens, not words */
    bool deduped; /* duplicates were left out, and are in no other number */
    enum genarm_data_label label;
    struct data_output outputs[2];
};

void data_report_print(FILE *out, const struct data_report *r);
json_t *data_report_json(const struct data_report *r); /* new reference, NULL without memory */

#endif
