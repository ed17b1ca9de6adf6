/* The report of an experiment: tables, figures and a page of the numbers in results.jsonl (docs/eval-report.md).
 *
 *     src/eval/results        the file, as numbers by method and prompt
 *     src/eval/report_numbers what is computed of them: means, intervals, rates (src/eval/bootstrap.h and the like)
 *     src/eval/report_tables  which tables there are; report_sheet: a table as Markdown and as HTML
 *     src/eval/report_figures which figures there are; src/plot draws them
 *     src/eval/report_page    the page; report_examples: answers side by side
 */
#ifndef EVAL_REPORT_H
#define EVAL_REPORT_H

#include <stdbool.h>

#include "base/error.h"

/* Reads FOLDER/results.jsonl and writes FOLDER/tables.md, FOLDER/figures/NAME.svg and FOLDER/report.html, each of them whole or
 * not at all. Figures of an earlier report that this one lacks are removed. Errors name the file. */
int eval_report_write(const char *folder, struct genarm_error *err);

/* Makes FOLDER/figures/NAME.png of every NAME.svg there, at twice its size, by the program rsvg-convert. *made: how many. Where
 * the program is not installed that is 0, nothing fails, and one line of the log says so. */
int eval_report_png(int *made, const char *folder, struct genarm_error *err);

#endif
