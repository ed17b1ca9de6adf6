/* What a report computes of the results: every number that is in a table or a figure, once. */
#ifndef EVAL_REPORT_NUMBERS_H
#define EVAL_REPORT_NUMBERS_H

#include "eval/calibration.h"
#include "eval/length_control.h"
#include "eval/pareto.h"
#include "eval/report_pool.h"
#include "eval/results.h"

enum { NUMBERS_WORK = 4, NUMBERS_NOTES = 16 }; /* base, arms, value, roll-out */

/* Of a method at a point. */
struct cell_numbers {
    struct interval *rewards;    /* [n_rewards] means */
    struct interval *difference; /* [n_rewards] to the reference, by prompt */
    struct interval kl;          /* nats an answer; of best-of-n the bound, without an interval */
    struct interval kl_token;    /* nats a token; NaN of best-of-n */
    struct interval tokens, words, finished, diversity;
    double distinct[3];          /* [1], [2]: distinct-1, distinct-2 */
    double work[NUMBERS_WORK];   /* tokens evaluated for each token of the answers */
    struct interval all_work;    /* the sum of them */
    struct interval ms;          /* for each token */
    double seconds;              /* in all */
    struct interval gap;
};

struct judge_numbers {
    struct win_rate verdicts;
    struct win_rate preferences; /* where has_preferences */
    bool judged, has_preferences;
    struct interval length_controlled;
};

/* Of a method: all its points. */
struct family_numbers {
    struct interval hypervolume, mip, mip_scaled;
    size_t n_points; /* with all objectives */
};

struct numbers {
    const struct results *results;
    struct pool *pool;
    size_t reference;           /* a cell */
    size_t kl_reward;           /* n_rewards: none */
    struct cell_numbers *cells; /* [n_cells] */
    struct judge_numbers *judges; /* [n_judges, n_cells] */
    struct calibration *pairs;  /* [n_pairs] */
    double *scales;             /* [n_pairs] of their margins: beta of an ARM that was trained here, else 1 */

    size_t n_objectives;
    size_t objectives[PARETO_MAX_OBJECTIVES];     /* rewards */
    const char *variables[PARETO_MAX_OBJECTIVES]; /* their weights */
    double *preferences;     /* [n_cells, n_objectives] weights by their sum */
    bool *compared;          /* [n_cells] has a preference, which all methods have that have any: MIP is over these */
    bool some_not_compared;  /* there are others */
    double reference_point[PARETO_MAX_OBJECTIVES];
    bool worst_is_reference; /* the reference point is the worst of all points */
    struct family_numbers *families; /* [n_methods] */

    bool has_gap;
    size_t gap_from, gap_to, gap_reward;

    const char *notes[NUMBERS_NOTES]; /* what the experiment asks for and the results lack */
    size_t n_notes;
};

/* All of it. The results and the pool must outlive `out`. */
int numbers_make(struct numbers *out, const struct results *r, struct pool *pool, struct genarm_error *err);

/* What a set of held-out pairs is called, with the point of a sweep. */
const char *numbers_pairs_name(const struct numbers *n, size_t pairs);

/* Whether any cell has it. */
bool numbers_any(const struct interval *x);

#endif
