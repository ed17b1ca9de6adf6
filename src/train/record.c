/* See record.h. */
#include "train/record.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "genarm/genarm.h"
#include "train/run.h"

/* Names of files need not be UTF-8: '?' stands for those that are not. */
static json_t *text(const char *s) {
    json_t *value = json_string(s ? s : "");
    return value ? value : json_string("?");
}

/* Seconds are enough: 2026-01-31T12:00:00Z. */
static json_t *now(void) {
    char stamp[32] = "";
    const time_t t = time(NULL);
    struct tm utc;
    if (gmtime_r(&t, &utc)) {
        strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
    return json_string(stamp);
}

static json_t *model_record(const struct genarm_model *model) {
    struct genarm_model_info info;
    genarm_model_get_info(model, &info);
    return json_pack("{s:o, s:o, s:s, s:s, s:I, s:s}", "name", text(info.name), "path", text(info.path), "architecture",
                     info.architecture, "type", info.file_type, "parameters", (json_int_t)info.n_params, "fingerprint",
                     info.fingerprint);
}

static json_t *data_record(const struct data *d) {
    json_t *list = json_array();
    int64_t *counts = calloc(d->n_paths ? d->n_paths : 1, sizeof *counts);
    for (size_t i = 0; counts && i < d->n_pairs; i++) {
        counts[d->pairs[i].file]++;
    }
    for (size_t i = 0; counts && i < d->n_paths; i++) {
        json_array_append_new(list, json_pack("{s:o, s:I}", "path", text(d->paths[i]), "pairs", (json_int_t)counts[i]));
    }
    free(counts);
    return list;
}

static json_t *pairs_record(const struct data *d, const struct plan *p) {
    const struct genarm_data_report *r = &d->report;
    const struct {
        const char *name;
        int64_t n;
    } counts[] = {{"read", r->read},
                  {"used", r->kept},
                  {"trained on", p->n_train},
                  {"held out", p->n_val},
                  {"dropped: chosen equals rejected", r->dropped_equal},
                  {"dropped: a response is empty", r->dropped_empty},
                  {"dropped: no label", r->dropped_unlabelled},
                  {"dropped: no two answers to one prompt", r->dropped_turns},
                  {"dropped: too long", r->dropped_long},
                  {"dropped: too long together", r->dropped_large},
                  {"prompts cut", r->cut},
                  {"one response begins the other", r->prefixes},
                  {"texts spell control tokens", r->spelled}};
    json_t *object = json_object();
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (i < 4 || counts[i].n > 0) {
            json_object_set_new(object, counts[i].name, json_integer((json_int_t)counts[i].n));
        }
    }
    return object;
}

static int compare(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Sorts the lengths. */
static json_t *lengths_record(int32_t *lengths, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += lengths[i];
    }
    qsort(lengths, n, sizeof *lengths, compare);
    const double mean = (double)(int64_t)(10 * sum / (double)n + 0.5) / 10;
    return json_pack("{s:f, s:i, s:i}", "mean", mean, "median", (int)lengths[n / 2], "max", (int)lengths[n - 1]);
}

static json_t *tokens_record(const struct data *d) {
    static const char *const names[] = {"prompt", "chosen", "rejected"};
    json_t *object = json_object();
    int32_t *lengths = malloc(d->n_pairs * sizeof *lengths);
    for (int part = 0; lengths && part < 3; part++) {
        size_t n = 0;
        for (size_t i = 0; i < d->n_pairs; i++) {
            const struct pair *p = &d->pairs[i];
            lengths[n] = part == 0 ? p->n_prompt : p->n_response[part - 1 + CHOSEN];
            n += lengths[n] > 0;
        }
        if (n > 0) { /* something is rejected */
            json_object_set_new(object, names[part], lengths_record(lengths, n));
        }
    }
    free(lengths);
    return object;
}

json_t *record_run(const struct record_source *s) {
    char hash[17];
    run_hex(hash, s->data_hash);
    json_t *run = json_pack("{s:s, s:s, s:o, s:o, s:I, s:I, s:s, s:O, s:o}", "command", s->command, "version", genarm_version(),
                            "started", now(), "output", text(s->output), "steps", (json_int_t)s->n_steps,
                            "trained parameters", (json_int_t)s->n_params, "data fingerprint", hash, "options", s->options,
                            "model", model_record(s->model));
    return json_pack("{s:o}", "run", run);
}

void record_add_pairs(json_t *record, const struct data *d, const struct plan *p) {
    json_t *run = json_object_get(record, "run");
    json_object_set_new(run, "data", data_record(d));
    json_object_set_new(run, "pairs", pairs_record(d, p));
    json_object_set_new(run, "tokens", tokens_record(d));
}

json_t *record_options(json_t *options, const struct genarm_train_params *p) {
    if (p->init_adapter) {
        json_object_set_new(options, "init_adapter", text(p->init_adapter));
    }
    if (p->reference_adapter) {
        json_object_set_new(options, "reference_adapter", text(p->reference_adapter));
    }
    return options;
}

json_t *record_resumed(int64_t step, json_t *changed) {
    return json_pack("{s:I, s:o, s:s, s:O*}", "resumed", (json_int_t)step, "time", now(), "version", genarm_version(),
                     "changed", changed);
}
