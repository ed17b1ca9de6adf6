/* What genarm bench measured, as a table or as records. */
#ifndef CLI_BENCH_ROWS_H
#define CLI_BENCH_ROWS_H

#include <jansson.h>
#include <stdio.h>

#include "bench/contest.h"
#include "bench/machine.h"

#define BENCH_FORMATS "md|json|jsonl|csv"
enum bench_format { BENCH_MD, BENCH_JSON, BENCH_JSONL, BENCH_CSV };

/* One contestant in one test. */
struct bench_row {
    struct contest_test test;
    int32_t who;           /* as in contest.h */
    const double *seconds; /* [n_rounds] of a round each */
    double rival;          /* the median of libllama's */
    double bytes;          /* to be read for a token; 0: does not apply */
};

/* What rows have in common. */
struct bench_report {
    struct machine machine;
    struct genarm_model_info model;
    const struct contest *contest;
    double bandwidth; /* GB/s; 0: unknown */
    int32_t n_rounds;
    bool random_arms;
    char time[24]; /* of the start, ISO 8601, UTC */
    struct bench_row *rows; /* [n_rows] */
    size_t n_rows;
};

int bench_print(FILE *out, const struct bench_report *report, enum bench_format format, struct genarm_error *err);

#endif
