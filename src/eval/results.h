/* What an experiment found: OUT/results.jsonl (docs/eval-report.md has the format), read line by line.
 *
 * The first line says what the experiment is; the others are answers, verdicts, pairs and models in any order. Numbers are
 * kept, by prompt, and texts are not: an answer knows where its line is, and results_text reads it again. So memory is a
 * hundred-odd bytes for each answer, however long it is. Missing numbers are NaN. Called by the report.
 */
#ifndef EVAL_RESULTS_H
#define EVAL_RESULTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/json.h"
#include "eval/diversity.h"
#include "eval/win_rate.h"

/* What is known of an answer beside its rewards. */
enum results_column {
    RESULTS_TOKENS,
    RESULTS_WORDS,
    RESULTS_CHARS, /* Unicode characters */
    RESULTS_LOGPROB,
    RESULTS_SECONDS,
    RESULTS_FINISHED, /* 1: it ended its turn; 0: it was cut off */
    RESULTS_BASE,     /* tokens that went through the base, and through ... */
    RESULTS_ARMS,
    RESULTS_VALUE,
    RESULTS_ROLLOUT,
    RESULTS_COLUMNS
};

/* A method at one point of its sweep. */
struct results_cell {
    size_t method;         /* which of the experiment */
    const json_t *values;  /* the point: variable -> number or text; {} without a sweep */
    char *label;           /* "h=0.5, s=0.5"; "" without a sweep */
    char *name;            /* label of the method and of the point: "GenARM h=0.5, s=0.5" */
    double best_of;        /* samples of best-of-n; NaN: not known */
    bool plain;            /* answers are drawn as their log-probability says: at temperature 1, from all tokens */
    int64_t n_answers;     /* without prompts that could not be answered, of which nothing is known below */
    double *columns;       /* [RESULTS_COLUMNS, n_prompts]; this and the others: NULL where no line is of the cell */
    double *rewards;       /* [n_rewards, n_prompts] */
    struct diversity_counts *counts; /* [n_prompts] of words */
    int64_t *offsets;      /* [n_prompts] of the answer's line in the file; below 0: no answer */
};

struct results_method {
    const char *name, *label, *how; /* how: "guided", "best-of-n", ... */
    size_t first_cell, n_cells;
};

enum { RESULTS_NO_VERDICT = 0xFF };

/* What a judge said of the answers of a cell. */
struct results_verdicts {
    unsigned char *verdicts; /* [n_prompts] enum win_rate_verdict, or RESULTS_NO_VERDICT; NULL: not judged */
    double *preferences;     /* [n_prompts] 1: the other; 2: this one */
    int64_t n;
};

struct results_judge {
    const char *name, *label;
    size_t against;                /* a method; n_methods: not known */
    struct results_verdicts *cells; /* [n_cells] */
};

/* Held-out pairs that a reward has ranked. */
struct results_pairs {
    char *name, *data, *label; /* label: of its point */
    json_t *point;   /* variable -> number or text; NULL: none */
    double scale;    /* that makes a margin the exponent of a preference: beta of an ARM trained here; NaN: not known */
    double *margins; /* [n] reward of the chosen response minus that of the rejected; NaN: one is missing */
    size_t n, cap;
};

struct results_model {
    const char *name, *command;
    char *label; /* of its point */
    double seconds;
    const json_t *options; /* or NULL */
    json_t *record;        /* owns the above */
};

struct results {
    char *path;
    json_t *experiment; /* the first line; owns the texts below */
    const char *title, *about, *model, *version;
    const json_t *report; /* section of the YAML; {} without */
    size_t n_prompts;
    size_t n_files, n_done; /* of an unfinished experiment: files, and those that were made when this was written; else 0 */
    struct results_method *methods;
    size_t n_methods;
    struct results_cell *cells; /* [n_cells] methods in their order, points in theirs */
    size_t n_cells;
    const char **rewards; /* [n_rewards] names */
    size_t n_rewards;
    struct results_judge *judges;
    size_t n_judges;
    struct results_pairs *pairs;
    size_t n_pairs;
    struct results_model *models;
    size_t n_models;
    int64_t n_other; /* lines of kinds that are not known here */
};

/* Reads a file. Errors name the file and the line. */
int results_read(struct results *out, const char *path, struct genarm_error *err);
void results_deinit(struct results *r);

/* [n_prompts] numbers, or NULL where the cell has no answers. */
const double *results_column(const struct results *r, const struct results_cell *cell, enum results_column column);
const double *results_rewards(const struct results *r, const struct results_cell *cell, size_t reward);

/* Index of a name; n of the list when there is none. */
size_t results_find_reward(const struct results *r, const char *name);
size_t results_find_method(const struct results *r, const char *name);

/* The cell whose answers a judge has compared those of `cell` with: of the other method, at the point that lies within the cell's;
 * n_cells: not known. */
size_t results_against(const struct results *r, size_t judge, size_t cell);

/* A number of the cell's point; NaN: it has no such variable, or that is a text. */
double results_variable(const struct results_cell *cell, const char *variable);

/* Texts of an answer, malloc'ed, valid UTF-8 without zero characters; "" where the line has none. `stream` is the file, opened
 * for reading. */
struct results_texts {
    char *prompt, *response;
};
int results_text(struct results_texts *out, FILE *stream, const struct results *r, const struct results_cell *cell,
                 size_t index, struct genarm_error *err);
void results_texts_deinit(struct results_texts *t);

/* ---- between results.c and results_head.c ---- */

/* Makes of r->experiment what the other lines need; `where` is for errors. */
int results_head(struct results *r, const char *where, struct genarm_error *err);

/* Whether a variable has the same value in two points, whether they say 1 or 1.0. NULL, which a point without it has, is the same as
 * nothing. */
bool results_same_value(const json_t *a, const json_t *b);

/* "h=0.5, s=0.5" of a point, for people, with all digits; malloc'ed; NULL without memory. */
char *results_label(const json_t *point);

#endif
