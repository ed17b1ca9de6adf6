/* genarm report: a page with the curves and the configuration of training runs, from their logs. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "commands.h"
#include "models.h"
#include "report_page.h"
#include "tell.h"

enum { MAX_PAGE = 256 << 20, MAX_RUNS = 64 };

struct report_args {
    struct option_list runs;
    const char *output, *svg, *title;
};

#define ARGS(member) offsetof(struct report_args, member)

static const struct option report_options[] = {
    {OPTION_FILES, "RUN", "", ARGS(runs),
     .help = "a log of genarm train --log, or the adapter or checkpoint folder that it is of; several are shown together"},
    {OPTION_FILE, "-o --output", "FILE.html", ARGS(output), .help = "the page; without it the first RUN with the ending .html"},
    {OPTION_FILE, "--svg", "FILE.svg", ARGS(svg), .help = "write the curves alone as well, as one picture"},
    {OPTION_TEXT, "--title", "TEXT", ARGS(title), .help = "of the page and the picture"},
};

/* The name of a run's file with another ending: arm.log.jsonl becomes arm.log.html, arm.gguf.ckpt/ arm.html. */
static char *default_output(const char *run) {
    static const char *const ends[] = {"/", ".ckpt", ".jsonl", ".gguf"};
    size_t n = strlen(run);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const size_t length = strlen(ends[i]);
        while (n > length && strncmp(run + n - length, ends[i], length) == 0) {
            n -= length;
        }
    }
    const size_t size = n + sizeof ".html";
    char *path = malloc(size);
    if (path) {
        snprintf(path, size, "%.*s.html", (int)n, run);
    }
    return path;
}

static int read_run(struct report_run *run, const char *named, const struct report_args *args, const char *output,
                    struct genarm_error *err) {
    char *log = NULL;
    int code = report_find_log(&log, named, err);
    code = code ? code : keep_input("-o", output, log, err);
    code = code ? code : keep_input("--svg", args->svg, log, err);
    if (code == 0 && strcmp(log, named) != 0) {
        note("the log of %s is %s", named, log);
    }
    code = code ? code : report_run_read(run, log, err);
    if (code == 0 && run->torn_line) {
        note("warning: %s:%ld: the last line is cut off and left out", log, run->torn_line);
    }
    free(log);
    return code;
}

static int read_runs(struct report *r, const struct report_args *args, const char *output, struct genarm_error *err) {
    r->runs = calloc(args->runs.n, sizeof *r->runs);
    if (!r->runs) {
        return error_nomem(err, "logs");
    }
    int code = 0;
    for (; r->n_runs < args->runs.n && code == 0; r->n_runs++) {
        code = read_run(&r->runs[r->n_runs], args->runs.items[r->n_runs], args, output, err);
    }
    code = code ? code : report_label_runs(r->runs, r->n_runs, err);
    code = code ? code : report_charts_make(&r->charts, r->runs, r->n_runs, err);
    return code ? code : report_facts_make(&r->facts, r->runs, r->n_runs, err);
}

/* "Training of cheerful" or "cheerful, concise", unless --title says otherwise. */
static int make_title(struct buf *title, const struct report *r, const struct report_args *args, struct genarm_error *err) {
    if (args->title) {
        return buf_puts(title, args->title, err);
    }
    int code = r->n_runs == 1 ? buf_puts(title, "Training of ", err) : 0;
    for (size_t i = 0; i < r->n_runs && code == 0; i++) {
        code = buf_printf(title, err, "%s%s", i ? ", " : "", r->runs[i].label);
    }
    return code;
}

static int write_files(const struct report *r, const struct report_args *args, const char *output,
                       struct genarm_error *err) {
    struct buf page, picture;
    buf_init(&page, MAX_PAGE);
    buf_init(&picture, MAX_PAGE);
    int code = report_page(&page, r, err);
    if (code == 0 && args->svg) {
        code = report_charts_svg(&picture, &r->charts, r->title, err);
    }
    code = code ? code : file_write(output, page.data, page.len, err);
    if (code == 0 && args->svg) {
        code = file_write(args->svg, picture.data, picture.len, err);
    }
    buf_deinit(&page);
    buf_deinit(&picture);
    return code;
}

static int make_report(const struct report_args *args, const char *output, struct genarm_error *err) {
    struct report r = {0};
    struct buf title;
    buf_init(&title, 1 << 16);
    int code = read_runs(&r, args, output, err);
    code = code ? code : make_title(&title, &r, args, err);
    r.title = title.data;
    code = code ? code : write_files(&r, args, output, err);
    if (code == 0) {
        printf("%s: %zu run%s, %zu curves\n", output, r.n_runs, r.n_runs == 1 ? "" : "s", r.charts.n);
        code = flush_output(stdout, err);
    }
    report_charts_deinit(&r.charts);
    report_facts_deinit(&r.facts);
    for (size_t i = 0; i < r.n_runs; i++) {
        report_run_deinit(&r.runs[i]);
    }
    free(r.runs);
    buf_deinit(&title);
    return code;
}

static int report_command(const void *arguments, struct genarm_error *err) {
    const struct report_args *args = arguments;
    log_to_stderr(false);
    if (!args->runs.n) {
        return usage_error(err, "RUN", "a log is missing: genarm report RUN");
    }
    if (args->runs.n > MAX_RUNS) {
        return usage_error(err, "RUN", "more than %d runs", MAX_RUNS);
    }
    char *made = args->output ? NULL : default_output(args->runs.items[0]);
    const char *output = args->output ? args->output : made;
    int code = output ? 0 : error_nomem(err, "a file name");
    if (code == 0 && args->svg && strcmp(output, args->svg) == 0) {
        code = usage_error(err, "--svg", "%s is the page's file: name another", args->svg);
    }
    code = code ? code : make_report(args, output, err);
    free(made);
    return code;
}

const struct command command_report = {
    .name = "report",
    .summary = "a page with the curves and settings of training runs",
    .usage = "[options] RUN ...",
    .details = "Makes one HTML file, which needs nothing else, of the logs of training runs: loss, accuracy, margin, learning "
               "rate, norm of the gradient and speed by step, or reward and KL where the log has them, with a table behind "
               "every chart; options, model and data; and, for several runs, their curves in the same charts and what "
               "differs between them. A log whose last line is cut off, as of a run that is going on or was killed, is "
               "read up to there.",
    .examples = "genarm report train.jsonl\n"
                "genarm report cheerful.gguf -o cheerful.html --svg cheerful.svg\n"
                "genarm report beta-0.05.jsonl beta-0.1.jsonl -o beta.html --title \"Two choices of beta\"",
    .options = report_options,
    .n_options = sizeof report_options / sizeof *report_options,
    .args_size = sizeof(struct report_args),
    .run = report_command,
};
