/* See bench_rows.h. Names of what llama-bench also has are its own. */
#include "bench_rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bench/samples.h"
#include "tell.h"

/* "tg128 @ d512" */
static void test_name(char *out, size_t max, const struct contest_test *t) {
    char depth[24] = "";
    if (t->n_depth > 0) {
        snprintf(depth, sizeof depth, " @ d%d", t->n_depth);
    }
    snprintf(out, max, "%s%d%s", t->n_prompt ? "pp" : "tg", t->n_prompt ? t->n_prompt : t->n_gen, depth);
}

/* "genarm + 2 ARMs" */
static void who_name(char *out, size_t max, int32_t who) {
    if (who <= 0) {
        snprintf(out, max, "%s", who == CONTEST_LIBLLAMA ? "libllama" : "genarm");
    } else {
        snprintf(out, max, "genarm + %d ARM%s", who, who > 1 ? "s" : "");
    }
}

/* What the rounds of a row say. */
struct figures {
    double seconds, mean_seconds, seconds_deviation; /* of a round; `seconds` is the median */
    double rate, mean_rate, rate_deviation;          /* tokens a second; `rate` is that of the median round */
    double ratio;                                    /* of the time to libllama's */
    double read;                                     /* GB/s; 0: does not apply */
};

static int figures_of(struct figures *f, const struct bench_report *report, const struct bench_row *row,
                      struct genarm_error *err) {
    const size_t n = (size_t)report->n_rounds;
    const int32_t n_tokens = row->test.n_prompt + row->test.n_gen;
    double *x = malloc(n * sizeof *x);
    if (!x) {
        return error_nomem(err, "results");
    }
    memcpy(x, row->seconds, n * sizeof *x);
    f->seconds = samples_median(x, n);
    f->mean_seconds = samples_mean(x, n);
    f->seconds_deviation = samples_deviation(x, n);
    for (size_t i = 0; i < n; i++) {
        x[i] = n_tokens / row->seconds[i];
    }
    f->rate = n_tokens / f->seconds;
    f->mean_rate = samples_mean(x, n);
    f->rate_deviation = samples_deviation(x, n);
    f->ratio = f->seconds / row->rival;
    f->read = 1e-9 * row->bytes * f->rate;
    free(x);
    return 0;
}

/* ---- records ---- */

static json_t *samples_json(const struct bench_report *report, const struct bench_row *row, bool rates) {
    json_t *list = json_array();
    const double n_tokens = row->test.n_prompt + row->test.n_gen;
    for (int32_t i = 0; i < report->n_rounds; i++) {
        const double s = row->seconds[i];
        json_array_append_new(list, rates ? json_rounded(n_tokens / s, 6) : json_integer((json_int_t)llround(1e9 * s)));
    }
    return list;
}

static json_t *arms_json(const struct bench_report *report, int32_t n) {
    json_t *list = json_array();
    for (int32_t i = 0; i < n; i++) {
        json_array_append_new(list, text_json(genarm_guide_arm_name(report->contest->guide, i)));
    }
    return list;
}

static json_t *common_json(const struct bench_report *r) {
    const struct genarm_guide *g = r->contest->guide;
    const char *cached = ggml_type_name(engine_kv_type(g->params.kv_type));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:s, s:I, s:I, s:i, s:s, s:s, s:o}", "genarm_version",
                     GENARM_VERSION, "libllama", r->machine.llama, "libllama_features", r->machine.features, "engine",
                     r->model.engine == GENARM_ENGINE_LLAMA ? "llama" : "genarm", "kernels", r->machine.kernels, "cpu_info",
                     r->machine.cpu, "backends", r->machine.devices, "test_time", r->time, "model_filename",
                     text_json(r->model.path), "model_type", r->model.file_type, "model_size", (json_int_t)r->model.size,
                     "model_n_params", (json_int_t)r->model.n_params, "n_threads", g->threads->n, "type_k", cached, "type_v",
                     cached, "memory_gbps", r->bandwidth > 0 ? json_rounded(r->bandwidth, 3) : json_null());
}

static json_t *row_json(const struct bench_report *report, const struct bench_row *row, const struct figures *f) {
    const struct contest_test *t = &row->test;
    const bool reads = f->read > 0, known = reads && report->bandwidth > 0, ours = row->who != CONTEST_LIBLLAMA;
    const double resident = ours ? report->contest->guide_bytes : report->contest->rival_bytes;
    json_t *own = json_pack(
        "{s:s, s:i, s:o, s:b, s:i, s:i, s:i, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:o}", "contestant",
        ours ? "genarm" : "libllama", "n_arms", ours ? row->who : 0, "arms", arms_json(report, ours ? row->who : 0),
        "random_arms", (int)(report->random_arms && row->who > 0), "n_prompt", t->n_prompt, "n_gen", t->n_gen, "n_depth",
        t->n_depth, "median_ns", (json_int_t)llround(1e9 * f->seconds), "avg_ns", (json_int_t)llround(1e9 * f->mean_seconds),
        "stddev_ns", (json_int_t)llround(1e9 * f->seconds_deviation), "median_ts", json_rounded(f->rate, 6), "avg_ts",
        json_rounded(f->mean_rate, 6), "stddev_ts", json_rounded(f->rate_deviation, 6), "time_ratio",
        json_rounded(f->ratio, 6), "bytes_per_token", reads ? json_integer((json_int_t)llround(row->bytes)) : json_null(),
        "read_gbps", reads ? json_rounded(f->read, 3) : json_null(), "memory_share",
        known ? json_rounded(f->read / report->bandwidth, 6) : json_null(), "resident_bytes", (json_int_t)llround(resident),
        "samples_ns", samples_json(report, row, false), "samples_ts", samples_json(report, row, true));
    json_t *all = own ? common_json(report) : NULL;
    if (all && json_object_update(all, own) != 0) {
        json_decref(all);
        all = NULL;
    }
    json_decref(own);
    return all;
}

/* Every value in quotation marks, as llama-bench has it, a list as its items with a '+' between. Rounds one by one are left
 * out. */
static void print_csv_value(FILE *out, const json_t *value) {
    size_t i;
    const json_t *item;
    if (json_is_array(value)) {
        json_array_foreach(value, i, item) {
            fputs(i ? "+" : "", out);
            print_csv_value(out, item);
        }
    } else if (json_is_string(value)) {
        for (const char *c = json_string_value(value); *c; c++) {
            fputs(*c == '"' ? "\"\"" : (char[]){*c, '\0'}, out);
        }
    } else if (!json_is_null(value)) {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        fputs(text ? text : "", out);
        free(text);
    }
}

static void print_csv(FILE *out, json_t *record, bool head) {
    const char *key, *separator = "";
    json_t *value;
    json_object_foreach(record, key, value) {
        if (strncmp(key, "samples_", 8) == 0) {
            continue;
        }
        fputs(separator, out);
        if (head) {
            fputs(key, out);
        } else {
            fputc('"', out);
            print_csv_value(out, value);
            fputc('"', out);
        }
        separator = ",";
    }
    fputc('\n', out);
}

static int print_record(FILE *out, const struct bench_report *report, size_t i, enum bench_format format,
                        struct genarm_error *err) {
    struct figures f;
    int code = figures_of(&f, report, &report->rows[i], err);
    json_t *record = code ? NULL : row_json(report, &report->rows[i], &f);
    if (code == 0 && !record) {
        code = error_nomem(err, "a record");
    }
    if (code) {
        return code;
    }
    if (format == BENCH_CSV) {
        if (i == 0) {
            print_csv(out, record, true);
        }
        print_csv(out, record, false);
        json_decref(record);
        return 0;
    }
    if (format == BENCH_JSON) {
        fputs(i ? ",\n" : "", out);
        json_dumpf(record, out, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        json_decref(record);
        return 0;
    }
    return print_json(out, record, err);
}

/* ---- the table ---- */

static void print_machine(FILE *out, const struct bench_report *r) {
    const struct genarm_guide *g = r->contest->guide;
    const double mib = 1.0 / (1 << 20);
    fprintf(out, "%s, %d thread%s, devices: %s", r->machine.cpu, g->threads->n, g->threads->n > 1 ? "s" : "",
            r->machine.devices);
    if (r->bandwidth > 0) {
        fprintf(out, "; memory gives %.1f GB/s", r->bandwidth);
    }
    fprintf(out, ".\ngenarm %s, kernels: %s.\nlibllama %s, compiled for: %s.\n", GENARM_VERSION, r->machine.kernels,
            r->machine.llama, r->machine.features);
    if (!machine_llama_is_fastest(&r->machine)) {
        fprintf(out, "This libllama does not use the processor's matrix unit: another build may be faster.\n");
    }
    fprintf(out, "Resident memory: libllama %.0f MiB, genarm with ", mib * r->contest->rival_bytes);
    const int32_t n = genarm_guide_n_arms(g);
    fprintf(out, "%d ARM%s %.0f MiB.\n", n, n == 1 ? "" : "s", mib * r->contest->guide_bytes);
    for (int32_t i = 0; i < n; i++) {
        fprintf(out, "%s%s", i ? ", " : "ARMs, in the order in which they are added: ", genarm_guide_arm_name(g, i));
    }
    fprintf(out, "%s%s\n", n ? "." : "", n && r->random_arms ? " None was given, so these are random numbers." : "");
}

static int print_table(FILE *out, const struct bench_report *r, struct genarm_error *err) {
    fprintf(out, "| model | size | params | test | contestant | t/s | time / libllama's | read, GB/s | of memory's |\n"
                 "|---|---:|---:|---|---|---:|---:|---:|---:|\n");
    for (size_t i = 0; i < r->n_rows; i++) {
        const struct bench_row *row = &r->rows[i];
        char test[48], who[48], spread[64];
        struct figures f;
        const int code = figures_of(&f, r, row, err);
        if (code) {
            return code;
        }
        test_name(test, sizeof test, &row->test);
        who_name(who, sizeof who, row->who);
        snprintf(spread, sizeof spread, "%.2f ± %.2f", f.rate, f.rate_deviation);
        fprintf(out, "| %s %s | %.1f MiB | %.1f M | %s | %s | %s | %.2fx |", r->model.architecture, r->model.file_type,
                (double)r->model.size / (1 << 20), 1e-6 * (double)r->model.n_params, test, who, spread, f.ratio);
        if (f.read > 0) {
            fprintf(out, " %.1f", f.read);
        }
        fprintf(out, " | ");
        if (f.read > 0 && r->bandwidth > 0) {
            fprintf(out, "%.0f %% ", 100 * f.read / r->bandwidth);
        }
        fprintf(out, "|\n");
    }
    fprintf(out, "\n");
    print_machine(out, r);
    return 0;
}

int bench_print(FILE *out, const struct bench_report *report, enum bench_format format, struct genarm_error *err) {
    int code = format == BENCH_MD ? print_table(out, report, err) : 0;
    fputs(format == BENCH_JSON ? "[\n" : "", out);
    for (size_t i = 0; format != BENCH_MD && i < report->n_rows && code == 0; i++) {
        code = print_record(out, report, i, format, err);
    }
    fputs(format == BENCH_JSON ? "\n]\n" : "", out);
    return code ? code : flush_output(out, err);
}
