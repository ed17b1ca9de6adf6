/* See data_report.h. */
#include "data_report.h"

#include <inttypes.h>
#include <string.h>

#include "tell.h"
#include "terminal.h"

enum { LABEL_COLUMNS = 46, NUMBER_COLUMNS = 10, BAR_COLUMNS = 50 };

static const char *const part_names[SURVEY_PARTS] = {"prompt", "chosen", "rejected", "prompt + longer"};
static const char *const part_keys[SURVEY_PARTS] = {"prompt", "chosen", "rejected", "pair"};
static const struct {
    const char *name, *key;
    double share; /* of a quantile; 0: the smallest, 1: the largest */
} columns[] = {{"min", "min", 0}, {"median", "median", 0.5}, {"p95", "p95", 0.95}, {"max", "max", 1}};

enum { N_COLUMNS = sizeof columns / sizeof *columns };

static int64_t column(const struct lengths *l, size_t i) {
    return columns[i].share <= 0 ? l->min : columns[i].share >= 1 ? l->max : lengths_quantile(l, columns[i].share);
}

static double mean(const struct lengths *l) { return l->n ? (double)l->sum / (double)l->n : 0; }

static double mean_difference(const struct survey *s) { return s->pairs ? (double)s->difference / (double)s->pairs : 0; }

/* Sums of all files. */
static struct pref_counts totals(const struct data_report *r) {
    struct pref_counts sum = {0};
    for (size_t i = 0; i < r->n_files; i++) {
        sum.read += r->files[i].counts.read;
        sum.kept += r->files[i].counts.kept;
        for (int reason = 0; reason < PREF_N_REASONS; reason++) {
            sum.n[reason] += r->files[i].counts.n[reason];
        }
    }
    return sum;
}

/* Number of the places of a reason that are known: the first ones of every file. */
static int n_places(const struct data_file *f, int reason) {
    return (int)(f->counts.n[reason] < PREF_NAMED ? f->counts.n[reason] : PREF_NAMED);
}

/* ---- for people ---- */

static void heading(FILE *out, const char *text) {
    const bool bold = terminal_colors(out);
    fprintf(out, "\n%s%s%s\n", bold ? "\033[1m" : "", text, bold ? "\033[0m" : "");
}

static void print_share(FILE *out, const char *label, int64_t n, int64_t of) {
    fprintf(out, "  %-*s%*" PRId64, LABEL_COLUMNS, label, NUMBER_COLUMNS, n);
    if (of > 0) {
        fprintf(out, "%8.1f %%", 100.0 * (double)n / (double)of);
    }
}

static void print_files(FILE *out, const struct data_report *r) {
    for (size_t i = 0; i < r->n_files; i++) {
        const struct data_file *f = &r->files[i];
        const bool plain = strcmp(f->codec, "plain") == 0;
        fprintf(out, "%s: %s%s%s, %s%s%s, %" PRId64 " records, %" PRId64 " usable\n", f->path, format_name(f->format),
                f->format == GENARM_DATA_PKU_SAFERLHF ? " by the label " : "",
                f->format == GENARM_DATA_PKU_SAFERLHF ? label_name(r->label) : "",
                f->array ? "a JSON array" : "JSON lines", plain ? "" : ", ", plain ? "" : f->codec, f->counts.read,
                f->counts.kept);
    }
}

/* "  lines 4, 77, …": where the first ones are. */
static void print_places(FILE *out, const struct data_report *r, int reason, int64_t n) {
    const char *separator = "   ";
    int64_t shown = 0;
    for (size_t i = 0; i < r->n_files && shown < PREF_NAMED; i++) {
        const struct data_file *f = &r->files[i];
        for (int k = 0; k < n_places(f, reason) && shown < PREF_NAMED; k++, shown++) {
            if (r->n_files > 1) {
                const char *slash = strrchr(f->path, '/');
                fprintf(out, "%s%s:%" PRId64, separator, slash ? slash + 1 : f->path, f->counts.places[reason][k]);
            } else {
                const char *unit = f->array ? "record" : "line";
                fprintf(out, "%s%s%s%s%" PRId64, separator, shown ? "" : unit, shown || n == 1 ? "" : "s",
                        shown ? "" : " ", f->counts.places[reason][k]);
            }
            separator = ", ";
        }
    }
    fprintf(out, "%s\n", shown < n ? ", …" : "");
}

static void print_reasons(FILE *out, const struct data_report *r, const struct pref_counts *sum) {
    const struct survey *s = &r->survey;
    bool dropped = false, noted = s->duplicates || s->contradictions;
    for (int i = 0; i < PREF_N_REASONS; i++) {
        dropped = dropped || (i < PREF_N_DROPS && sum->n[i]);
        noted = noted || (i >= PREF_N_DROPS && sum->n[i]);
    }
    for (int i = 0; i < PREF_N_REASONS; i++) {
        if (i == 0 && dropped) {
            heading(out, "Dropped");
        } else if (i == PREF_N_DROPS && noted) {
            heading(out, "Worth a look");
        }
        if (sum->n[i]) {
            print_share(out, pref_reason_text((enum pref_reason)i), sum->n[i], sum->read);
            print_places(out, r, i, sum->n[i]);
        }
    }
    if (s->duplicates) {
        print_share(out, r->deduped ? "the same as an earlier record (left out)" : "the same as an earlier record",
                    s->duplicates, sum->read);
        fputc('\n', out);
    }
    if (s->contradictions) {
        print_share(out, "an earlier record with the answers swapped", s->contradictions, sum->read);
        fputc('\n', out);
    }
}

static void print_prompts(FILE *out, const struct survey *s) {
    heading(out, "Prompts");
    print_share(out, "different ones", (int64_t)s->prompts.n, 0);
    fputc('\n', out);
    if (s->several_turns) {
        print_share(out, "with several turns", s->several_turns, s->n);
        fputc('\n', out);
    }
    if (s->with_system) {
        print_share(out, "with a system message", s->with_system, s->n);
        fputc('\n', out);
    }
}

static void print_lengths(FILE *out, const struct data_report *r) {
    heading(out, r->tokens ? "Tokens" : "Words");
    fprintf(out, "  %-20s", "");
    for (size_t i = 0; i < N_COLUMNS; i++) {
        fprintf(out, "%*s", NUMBER_COLUMNS, columns[i].name);
    }
    fprintf(out, "%*s\n", NUMBER_COLUMNS, "mean");
    for (int part = 0; part < SURVEY_PARTS; part++) {
        const struct lengths *l = &r->survey.lengths[part];
        if (l->n == 0) {
            continue; /* nothing is rejected */
        }
        fprintf(out, "  %-20s", part_names[part]);
        for (size_t i = 0; i < N_COLUMNS; i++) {
            fprintf(out, "%*" PRId64, NUMBER_COLUMNS, column(l, i));
        }
        fprintf(out, "%*.1f\n", NUMBER_COLUMNS, mean(l));
    }
}

/* Shares of chosen and rejected as a bar; what is between them is equally long. */
static void print_bar(FILE *out, double chosen, double rejected) {
    const int left = (int)(chosen * BAR_COLUMNS + 0.5), right = (int)(rejected * BAR_COLUMNS + 0.5);
    fprintf(out, "  chosen \033[36m");
    for (int i = 0; i < BAR_COLUMNS; i++) {
        if (i == left) {
            fputs("\033[2m", out);
        }
        if (i == BAR_COLUMNS - right) {
            fputs("\033[0m\033[33m", out);
        }
        fputs("█", out);
    }
    fputs("\033[0m rejected\n", out);
}

static void print_longer(FILE *out, const struct data_report *r) {
    const struct survey *s = &r->survey;
    const double n = (double)s->pairs, difference = mean_difference(s);
    heading(out, "Which answer is longer");
    if (terminal_colors(out)) {
        print_bar(out, (double)s->chosen_longer / n, (double)s->rejected_longer / n);
    }
    fprintf(out, "  chosen in %.1f %%, rejected in %.1f %%, neither in %.1f %%; chosen has %.1f %s %s on average\n",
            100 * (double)s->chosen_longer / n, 100 * (double)s->rejected_longer / n,
            100 * (double)(s->pairs - s->chosen_longer - s->rejected_longer) / n, difference < 0 ? -difference : difference,
            r->tokens ? "tokens" : "words", difference < 0 ? "fewer" : "more");
}

void data_report_print(FILE *out, const struct data_report *r) {
    const struct pref_counts sum = totals(r);
    print_files(out, r);
    print_reasons(out, r, &sum);
    if (r->survey.n > 0) {
        print_prompts(out, &r->survey);
        print_lengths(out, r);
    }
    if (r->survey.pairs > 0) {
        print_longer(out, r);
    }
    for (int i = 0; i < 2 && r->outputs[i].path; i++) {
        fprintf(out, "%s%s: %" PRId64 " pairs written\n", i ? "" : "\n", r->outputs[i].path, r->outputs[i].n);
    }
}

/* ---- for programs ---- */

/* Strings that are UTF-8 where nothing promises it, as in file names. */
static json_t *text(const char *s) {
    json_t *value = json_string(s);
    return value ? value : json_string("?");
}

static json_t *places_json(const struct data_file *f, int reason) {
    json_t *list = json_array();
    for (int i = 0; i < n_places(f, reason); i++) {
        json_array_append_new(list, json_integer((json_int_t)f->counts.places[reason][i]));
    }
    return list;
}

/* {"empty": {"n": 3, "first": [4, 77, 103]}} for the reasons [from, to) that there are. */
static json_t *reasons_json(const struct data_file *f, int from, int to) {
    json_t *object = json_object();
    for (int i = from; i < to; i++) {
        if (f->counts.n[i]) {
            json_object_set_new(object, pref_reason_name((enum pref_reason)i),
                                json_pack("{s:I, s:o}", "n", (json_int_t)f->counts.n[i], "first", places_json(f, i)));
        }
    }
    return object;
}

static json_t *files_json(const struct data_report *r) {
    json_t *list = json_array();
    for (size_t i = 0; i < r->n_files; i++) {
        const struct data_file *f = &r->files[i];
        json_array_append_new(
            list, json_pack("{s:o, s:s, s:s, s:s, s:I, s:I, s:o, s:o}", "path", text(f->path), "format",
                            format_name(f->format), "container", f->array ? "array" : "lines", "compression", f->codec,
                            "records", (json_int_t)f->counts.read, "usable", (json_int_t)f->counts.kept, "dropped",
                            reasons_json(f, 0, PREF_N_DROPS), "noted", reasons_json(f, PREF_N_DROPS, PREF_N_REASONS)));
    }
    return list;
}

static json_t *lengths_json(const struct survey *s) {
    json_t *object = json_object();
    for (int part = 0; part < SURVEY_PARTS; part++) {
        json_t *of = json_object();
        for (size_t i = 0; i < N_COLUMNS; i++) {
            json_object_set_new(of, columns[i].key, json_integer((json_int_t)column(&s->lengths[part], i)));
        }
        json_object_set_new(of, "mean", json_rounded(mean(&s->lengths[part]), 3));
        json_object_set_new(object, part_keys[part], of);
    }
    return object;
}

static json_t *outputs_json(const struct data_report *r) {
    json_t *list = json_array();
    for (int i = 0; i < 2 && r->outputs[i].path; i++) {
        json_array_append_new(list, json_pack("{s:o, s:I}", "path", text(r->outputs[i].path), "pairs",
                                              (json_int_t)r->outputs[i].n));
    }
    return list;
}

json_t *data_report_json(const struct data_report *r) {
    const struct survey *s = &r->survey;
    const struct pref_counts sum = totals(r);
    const double n = s->pairs ? (double)s->pairs : 1;
    return json_pack(
        "{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:o, s:o, s:o, s:o, s:o}", "files", files_json(r), "records",
        (json_int_t)sum.read, "usable", (json_int_t)sum.kept, "prompts", (json_int_t)s->prompts.n, "several_turns",
        (json_int_t)s->several_turns, "with_system", (json_int_t)s->with_system, "duplicates",
        (json_int_t)s->duplicates, "contradictions", (json_int_t)s->contradictions, "unit",
        r->tokens ? "tokens" : "words", "lengths", lengths_json(s), "chosen_longer",
        json_rounded((double)s->chosen_longer / n, 6), "rejected_longer",
        json_rounded((double)s->rejected_longer / n, 6), "mean_difference", json_rounded(mean_difference(s), 3),
        "written", outputs_json(r));
}
