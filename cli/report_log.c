/* See report_log.h. */
#include "report_log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"

enum {
    MAX_LINE = 4 << 20,
    MAX_CURVES = 256,
    MAX_KEY = 200 /* bytes */
};

/* Counters of what was done: x, not a curve. */
static bool is_counter(const char *key) {
    static const char *const names[] = {"step", "epoch", "pairs", "pairs_done", "tokens", "prompts", "episodes"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(key, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

const struct trace *report_run_curve(const struct report_run *run, const char *key) {
    for (size_t i = 0; i < run->n_curves; i++) {
        if (strcmp(run->curves[i].key, key) == 0) {
            return &run->curves[i].trace;
        }
    }
    return NULL;
}

static int curve_of(struct trace **out, struct report_run *run, const char *key, struct genarm_error *err) {
    const struct trace *there = report_run_curve(run, key);
    if (there) {
        *out = (struct trace *)(uintptr_t)there;
        return 0;
    }
    if (run->n_curves == MAX_CURVES || strlen(key) > MAX_KEY) {
        return run->n_curves == MAX_CURVES
                   ? error_set(err, GENARM_EFORMAT, "more than %d different numbers: this is no metrics log", MAX_CURVES)
                   : error_set(err, GENARM_EFORMAT, "a key is longer than %d bytes", MAX_KEY);
    }
    struct report_curve *grown = realloc(run->curves, (run->n_curves + 1) * sizeof *grown);
    char *copy = strdup(key);
    run->curves = grown ? grown : run->curves;
    if (!grown || !copy) {
        free(copy);
        return error_nomem(err, "a curve");
    }
    run->curves[run->n_curves] = (struct report_curve){.key = copy};
    *out = &run->curves[run->n_curves++].trace;
    return 0;
}

static int add_number(struct report_run *run, double step, const char *key, const json_t *value, struct genarm_error *err) {
    struct trace *trace = NULL;
    const double y = json_number_value(value);
    if (!json_is_number(value) || !isfinite(y) || is_counter(key)) {
        return 0;
    }
    int code = curve_of(&trace, run, key, err);
    if (code == 0 && trace->n > 0 && step < trace->buckets[trace->n - 1].last) {
        code = error_set(err, GENARM_EFORMAT, "step %.0f comes after step %.0f", step, trace->buckets[trace->n - 1].last);
        return error_hint(err, code, "are these two runs in one file? give every run a log of its own");
    }
    return code ? code : trace_add(trace, step, y, err);
}

/* Numbers of the record and of the objects in it. */
static int add_numbers(struct report_run *run, double step, json_t *record, struct genarm_error *err) {
    const char *key, *inner;
    json_t *value, *number;
    int code = 0;
    json_object_foreach(record, key, value) {
        code = code ? code : add_number(run, step, key, value, err);
        json_object_foreach(value, inner, number) {
            char name[2 * MAX_KEY];
            if (code == 0 && snprintf(name, sizeof name, "%s/%s", key, inner) >= (int)sizeof name) {
                code = error_set(err, GENARM_EFORMAT, "a key is longer than %d bytes", MAX_KEY);
            }
            code = code ? code : add_number(run, step, name, number, err);
        }
    }
    return code;
}

static int add_resumed(struct report_run *run, double step, struct genarm_error *err) {
    double *grown = realloc(run->resumed, (run->n_resumed + 1) * sizeof *grown);
    if (!grown) {
        return error_nomem(err, "a log");
    }
    run->resumed = grown;
    run->resumed[run->n_resumed++] = step;
    return 0;
}

static int add_record(struct report_run *run, json_t *record, struct genarm_error *err) {
    json_t *facts = json_object_get(record, "run"), *resumed = json_object_get(record, "resumed"),
           *step = json_object_get(record, "step");
    if (json_is_object(facts)) {
        if (run->facts || run->last_step >= 0) {
            const int code = error_set(err, GENARM_EFORMAT, "a second run begins here");
            return error_hint(err, code, "give every run a log of its own");
        }
        run->facts = json_incref(facts);
        return 0;
    }
    if (json_is_number(resumed)) {
        return add_resumed(run, json_number_value(resumed), err);
    }
    if (!json_is_number(step) || !(json_number_value(step) >= 0)) {
        const int code = error_set(err, GENARM_EFORMAT, "this record has no \"step\"");
        return error_hint(err, code, "genarm train --log writes the logs that are read here");
    }
    run->last_step = fmax(run->last_step, json_number_value(step));
    return add_numbers(run, json_number_value(step), record, err);
}

/* The line at hand; `open_end`: no newline follows it. */
static int take_line(struct report_run *run, struct file_lines *lines, bool open_end, struct genarm_error *err) {
    char where[600];
    json_t *record = NULL;
    snprintf(where, sizeof where, "%s:%ld", lines->path, lines->line);
    if (strspn(lines->text.data, " \t") == lines->text.len) {
        return 0;
    }
    int code = json_parse(&record, lines->text.data, lines->text.len, where, err);
    if (code == GENARM_EFORMAT && open_end) {
        run->torn_line = lines->line;
        return 0;
    }
    if (code == 0 && !json_is_object(record)) {
        code = error_set(err, GENARM_EFORMAT, "this is no JSON object");
    }
    code = code ? code : add_record(run, record, err);
    json_decref(record);
    return error_at(err, code, "%s", where);
}

int report_run_read(struct report_run *run, const char *path, struct genarm_error *err) {
    struct file_lines lines;
    *run = (struct report_run){.last_step = -1};
    int code = file_lines_open(&lines, path, MAX_LINE, err);
    if (code) {
        return code;
    }
    run->path = strdup(path);
    code = run->path ? 0 : error_nomem(err, "a file name");
    while (code == 0 && (code = file_lines_next(&lines, err)) > 0) {
        code = take_line(run, &lines, feof(lines.stream), err);
    }
    file_lines_close(&lines);
    if (code == 0 && run->n_curves == 0) {
        code = error_at(err, error_set(err, GENARM_EFORMAT, "the log has no numbers yet"), "%s", path);
        code = error_hint(err, code, "a line is written after every step of genarm train --log");
    }
    if (code) {
        report_run_deinit(run);
    }
    return code;
}

void report_run_deinit(struct report_run *run) {
    for (size_t i = 0; i < run->n_curves; i++) {
        free(run->curves[i].key);
        trace_deinit(&run->curves[i].trace);
    }
    free(run->curves);
    free(run->resumed);
    free(run->path);
    free(run->label);
    json_decref(run->facts);
    *run = (struct report_run){0};
}

/* ---- labels ---- */

/* The last `parts` parts of a path, without what every log is called. */
static char *path_end(const char *path, int parts) {
    const char *from = path + strlen(path);
    for (int slashes = 0; from > path; from--) {
        slashes += from[-1] == '/';
        if (slashes == parts) {
            break;
        }
    }
    static const char *const ends[] = {".log.jsonl", ".jsonl"};
    size_t n = strlen(from);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const size_t length = strlen(ends[i]);
        if (n > length && strcmp(from + n - length, ends[i]) == 0 && from[n - length - 1] != '/') {
            n -= length;
            break;
        }
    }
    return strndup(from, n);
}

static bool all_differ(const struct report_run *runs, size_t n) {
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++) {
            if (strcmp(runs[i].label, runs[k].label) == 0) {
                return false;
            }
        }
    }
    return true;
}

int report_label_runs(struct report_run *runs, size_t n, struct genarm_error *err) {
    enum { MOST_PARTS = 8 };
    for (int parts = 1; parts <= MOST_PARTS; parts++) {
        for (size_t i = 0; i < n; i++) {
            free(runs[i].label);
            runs[i].label = path_end(runs[i].path, parts);
            if (!runs[i].label) {
                return error_nomem(err, "a label");
            }
        }
        if (all_differ(runs, n)) {
            break;
        }
    }
    return 0;
}
