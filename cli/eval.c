/* genarm eval: an experiment, as a YAML file describes it, with the program's own commands. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "commands.h"
#include "eval/claims.h"
#include "eval/report.h"
#include "eval/results_write.h"
#include "eval_show.h"
#include "eval_vocabulary.h"
#include "models.h"
#include "prompts.h"
#include "ranks.h"
#include "tell.h"
#include "terminal.h"

struct eval_args {
    struct option_list files, reuse;
    const char *output, *model, *only;
    int32_t limit;
    bool dry_run, keep_going, report_only, verbose;
};

#define ARGS(member) offsetof(struct eval_args, member)

static const struct option eval_options[] = {
    {OPTION_FILES, "FILE.yaml", "", ARGS(files), .help = "the experiment, in YAML or JSON"},
    {OPTION_FILE, "-o --output", "FOLDER", ARGS(output),
     .help = "where all files of the experiment go; what is there already is not made again, unless the experiment, or a file "
             "that it reads, has changed"},
    {OPTION_FILE, "-m --model", "FILE", ARGS(model), .help = "the base model, in place of the one that the experiment names"},
    {OPTION_FILES, "--reuse", "FOLDER", ARGS(reuse),
     .help = "take what the same commands have made of the same files, such as models, from the folder of another experiment; "
             "repeatable"},
    {OPTION_INT, "--limit", "N", ARGS(limit), 1, INT32_MAX,
     .help = "only the first N prompts; all of them if not given. Another N wants another folder, if there are answers"},
    {OPTION_TEXT, "--only", "NAME,...", ARGS(only),
     .help = "only these models, methods, rewards and judges, and what they need; methods.NAME, rewards.NAME and so on where "
             "several are called so"},
    {OPTION_FLAG, "--dry-run", "", ARGS(dry_run), .help = "print what would be run, and run nothing"},
    {OPTION_FLAG, "--keep-going", "", ARGS(keep_going),
     .help = "when a command has failed go on with what does not need its file"},
    {OPTION_FLAG, "--report-only", "", ARGS(report_only),
     .help = "run nothing: the report of what is there, under the same --limit and -m"},
    {OPTION_FLAG, "-v --verbose", "", ARGS(verbose), .help = "print the commands"},
};

struct evaluation {
    const struct eval_args *args;
    char *folder; /* -o, which no command can take for an option */
    const char *model; /* the base; NULL: there is none */
    char *variable;    /* LLAMA_ARG_MODEL; NULL: not set */
    int32_t limit;     /* of prompts; 0: all */
    char default_model[4096];
    struct experiment *experiment;
    struct item_list items;
    struct reuse reuse;
    struct eval_run run;
    struct eval_show show;
};

/* Waits until no other process has the claim. */
static int claim_wait(struct claim *claim, const char *folder, const char *name, struct genarm_error *err) {
    const struct timespec pause = {.tv_nsec = 100000000};
    int taken;
    while ((taken = claim_take(claim, folder, name, err)) == 0) {
        if (interrupt_signal()) {
            return error_set(err, GENARM_ECANCELED, "stopped");
        }
        nanosleep(&pause, NULL);
    }
    return taken < 0 ? taken : 0;
}

/* FOLDER/commands.txt: what is run, whoever runs it. */
static int write_commands(const struct evaluation *e, struct genarm_error *err) {
    enum { COMMANDS_MAX = 1 << 28 };
    struct buf text;
    char *path = item_path(e->run.folder, "commands", ".txt");
    int code = path ? 0 : error_nomem(err, "a path");
    buf_init(&text, COMMANDS_MAX);
    for (size_t i = 0; i < e->items.n && code == 0; i++) {
        char **words = item_words(&e->items.items[i], e->run.folder);
        code = words ? eval_show_command(&text, words, err) : error_nomem(err, "a command");
        code = code ? code : buf_puts(&text, "\n", err);
        item_words_free(words);
    }
    code = code ? code : file_write(path, text.data ? text.data : "", text.len, err);
    buf_deinit(&text);
    free(path);
    return code;
}

/* Prints the main table of the report, its first section. */
static void print_tables(const char *folder) {
    char *path = item_path(folder, "tables", ".md");
    struct buf text;
    buf_init(&text, 1 << 28);
    if (path && file_exists(path) && file_read(&text, path, NULL) == 0 && text.len > 0) {
        const char *first = strstr(text.data, "\n## "), *second = first ? strstr(first + 1, "\n## ") : NULL;
        fwrite(text.data, 1, second ? (size_t)(second - text.data) : text.len, stdout);
    }
    buf_deinit(&text);
    free(path);
}

/* Results and report of what is done. */
static int report(struct evaluation *e, struct genarm_error *err) {
    struct claim claim;
    size_t n, n_done;
    double left;
    int n_png = 0;
    int code = claim_wait(&claim, e->run.folder, "report", err);
    if (code) {
        return code;
    }
    code = eval_results_write(e->experiment, &e->run, e->model, err);
    code = code ? code : eval_report_write(e->run.folder, err);
    code = code ? code : eval_report_png(&n_png, e->run.folder, err);
    claim_release(&claim);
    if (code) {
        return code;
    }
    eval_run_count(&e->run, &n, &n_done, &left);
    print_tables(e->run.folder);
    char reused[64] = "";
    if (e->run.n_reused) {
        snprintf(reused, sizeof reused, ", %zu taken from other folders", e->run.n_reused);
    }
    note("%zu of %zu files are done, %zu made now%s; the report is %s/report.html", n_done, n, e->run.n_run, reused, e->run.folder);
    return flush_output(stdout, err);
}

/* What is to be said of a run that has ended. */
static int say_end(const struct evaluation *e, int code) {
    if (code == GENARM_ECANCELED && interrupt_signal()) {
        note("stopped; the same command goes on from here");
        return 128 + interrupt_signal();
    }
    if (code == 1 && e->show.n_failed == 0) {
        struct genarm_error said;
        error_set(&said, GENARM_EIO, "a command has failed; %s/logs has what it said", e->run.folder);
        report_error(&said);
    }
    return code;
}

/* All commands that are to be run. */
static int run_commands(struct evaluation *e, struct genarm_error *err) {
    struct claim claim;
    int code = eval_run_prepare(&e->run, err);
    code = code ? code : claim_wait(&claim, e->run.folder, "commands", err);
    if (code) {
        return code;
    }
    code = write_commands(e, err);
    claim_release(&claim);
    code = code ? code : eval_run_all(&e->run, err);
    eval_show_end(&e->show);
    return code;
}

/* How many files are there that were made under other settings. */
static size_t count_others(const struct evaluation *e) {
    size_t n = 0;
    for (size_t i = 0; i < e->items.n; i++) {
        struct item_record record;
        n += eval_run_is_other(&e->run, i, &record);
    }
    return n;
}

/* Says what a run will make anew. Answers of another --limit are hours of work that nobody has asked to throw away. */
static int check_others(const struct evaluation *e, struct genarm_error *err) {
    size_t n = 0;
    for (size_t i = 0; i < e->items.n; i++) {
        const struct item *item = &e->items.items[i];
        struct item_record record;
        if (!item->wanted || !eval_run_is_other(&e->run, i, &record)) {
            continue;
        }
        if (item->kind == ITEM_ANSWERS && record.limit != e->limit) {
            char limit[32] = "all prompts";
            if (record.limit) {
                snprintf(limit, sizeof limit, "--limit %lld", (long long)record.limit);
            }
            const int code = error_set(err, GENARM_EINVAL, "%s are there for %s, and would be made anew", item->title, limit);
            return error_hint(err, error_at(err, code, "%s", e->folder),
                              "as before, or another folder, with what is the same: -o OTHER --reuse %s", e->folder);
        }
        n++;
    }
    if (n && ranks_launched_rank() <= 0) {
        note("%zu finished files belong to other settings or inputs and are made anew; --dry-run lists them", n);
    }
    return 0;
}

/* Of --report-only: a report of nothing takes the place of none. */
static int check_there(const struct evaluation *e, struct genarm_error *err) {
    const char *folder = e->run.folder;
    const size_t n = count_others(e);
    size_t n_done = 0;
    for (size_t i = 0; i < e->items.n; i++) {
        n_done += e->run.states[i] == STATE_DONE;
    }
    if (!file_exists(folder)) {
        return error_at(err, error_set(err, GENARM_EIO, "no such folder"), "%s", folder);
    }
    if (n_done == 0 && n == 0) {
        return error_at(err, error_set(err, GENARM_EINVAL, "nothing of the experiment is there yet"), "%s", folder);
    }
    if (n_done == 0) {
        const int code = error_set(err, GENARM_EINVAL,
                                   "all of the %zu files that are there belong to other settings (limit, options or inputs)", n);
        return error_hint(err, error_at(err, code, "%s", folder),
                          "--limit and -m must be those with which they were made, or the experiment, or a file that it reads, "
                          "has changed since; --dry-run says what");
    }
    if (n) {
        note("%zu files are there that belong to other settings (limit, options or inputs)", n);
    }
    return 0;
}

static int run_items(struct evaluation *e, struct genarm_error *err) {
    int code = e->args->report_only ? check_there(e, err) : check_others(e, err);
    code = code || e->args->report_only ? code : say_end(e, run_commands(e, err));
    if (code < 0 || code > 1) {
        return code;
    }
    if (ranks_launched_rank() > 0) {
        return 0; /* the first one reports; a launcher would end it if this one had failed */
    }
    const int reported = code == 0 || e->args->keep_going ? report(e, err) : 0;
    return reported ? reported : code;
}

static int check_reuse(const struct eval_args *args, struct genarm_error *err) {
    for (size_t i = 0; i < args->reuse.n; i++) {
        const char *folder = args->reuse.items[i];
        if (!file_exists(folder)) {
            return error_at(err, error_set(err, GENARM_EIO, "there is no such folder"), "%s", folder);
        }
        if (same_file(folder, args->output)) {
            return usage_error(err, "--reuse", "this is the folder of -o, whose files are used anyway");
        }
    }
    return 0;
}

static int check_args(const struct eval_args *args, struct genarm_error *err) {
    if (args->files.n != 1) {
        return usage_error(err, "FILE.yaml", args->files.n ? "one experiment at a time" : "the experiment is missing");
    }
    if (!args->output) {
        return usage_error(err, "-o", "the folder for the experiment's files is missing: -o FOLDER");
    }
    if (args->model && !file_exists(args->model)) {
        return error_at(err, error_set(err, GENARM_EIO, "there is no such file"), "%s", args->model);
    }
    if (args->dry_run && args->report_only) {
        return usage_error(err, "--dry-run", "not together with --report-only");
    }
    return check_reuse(args, err);
}

/* The base that commands would take by themselves where nothing names one. It is named to them, so that it counts. */
static const char *base_model(struct evaluation *e) {
    if (e->args->model || e->experiment->model) {
        return e->args->model ? e->args->model : e->experiment->model;
    }
    return e->variable && *e->variable ? e->variable : find_default_model(e->default_model, sizeof e->default_model);
}

/* --limit, which says nothing where there are no more prompts. A file that cannot be read is an error elsewhere. */
static int32_t limit_of(const struct evaluation *e) {
    struct prompt_list prompts = {0};
    const int32_t limit = e->args->limit;
    const bool read = limit && e->experiment->prompts && prompts_read(&prompts, e->experiment->prompts, NULL, NULL) == 0;
    const bool all = read && (size_t)limit >= prompts.n;
    prompts_free(&prompts);
    return all ? 0 : limit;
}

static int make_items(struct evaluation *e, struct genarm_error *err) {
    struct items_params params = {.only = e->args->only};
    int code = experiment_read(&e->experiment, e->args->files.items[0], err);
    if (code) {
        return code;
    }
    params.limit = e->limit = limit_of(e);
    e->model = base_model(e);
    params.model = e->model != e->experiment->model ? e->model : NULL; /* errors in the file's own name a line of it */
    return items_new(&e->items, e->experiment, &params, &eval_commands, err);
}

/* What the environment says of the base is kept, and nothing else that counts. */
static int forget_variables(struct evaluation *e, struct genarm_error *err) {
    const char *variable = getenv("LLAMA_ARG_MODEL");
    e->variable = variable ? strdup(variable) : NULL;
    eval_commands_forget_variables();
    return variable && !e->variable ? error_nomem(err, "a path") : 0;
}

static int evaluate(struct evaluation *e, struct genarm_error *err) {
    const struct eval_args *args = e->args;
    int code = check_args(args, err);
    code = code ? code : forget_variables(e, err);
    code = code ? code : make_items(e, err);
    if (code) {
        return code;
    }
    e->folder = args->output[0] == '-' ? item_path(".", args->output, "") : strdup(args->output);
    if (!e->folder) {
        return error_nomem(err, "a path");
    }
    for (size_t n = strlen(e->folder); n > 1 && e->folder[n - 1] == '/'; n--) { /* commands that go on compare what they were told */
        e->folder[n - 1] = '\0';
    }
    for (size_t i = 0; i < args->reuse.n && code == 0; i++) {
        code = reuse_add(&e->reuse, args->reuse.items[i], err);
    }
    if (code) {
        return code;
    }
    e->run = (struct eval_run){.list = &e->items,
                               .folder = e->folder,
                               .program = "/proc/self/exe",
                               .keep_going = args->keep_going,
                               .reuse = &e->reuse};
    e->show.verbose = args->verbose;
    eval_show_attach(&e->run, &e->show);
    code = eval_run_init(&e->run, err);
    if (code) {
        return code;
    }
    if (args->dry_run) {
        code = eval_show_plan(stdout, &e->run, err);
        return code ? code : flush_output(stdout, err);
    }
    interrupt_catch();
    return run_items(e, err);
}

static int eval_main(const void *arguments, struct genarm_error *err) {
    struct evaluation e = {.args = arguments};
    log_to_stderr(e.args->verbose);
    const int code = evaluate(&e, err);
    eval_show_end(&e.show);
    eval_run_deinit(&e.run);
    reuse_deinit(&e.reuse);
    items_free(&e.items);
    experiment_free(e.experiment);
    free(e.folder);
    free(e.variable);
    return code;
}

const struct command command_eval = {
    .name = "eval",
    .summary = "run an experiment: train, answer, score, judge, report",
    .usage = "[options] FILE.yaml -o FOLDER",
    .details =
        "Runs an experiment, as a YAML file describes it: which models are trained, which methods answer a file of prompts, "
        "which rewards and judges look at the answers. Every step is one command of this program, whose options the file has as "
        "keys, and writes one file of FOLDER. What comes out is report.html, the same numbers as tables.md, figures/ and "
        "results.jsonl, and what the commands said in logs/; docs/eval.md has the format of the experiment. The same command "
        "goes on where an earlier one was stopped, whatever stopped it, and makes again only what depends on something that was "
        "changed. Several processes, under mpirun, on several machines that share FOLDER, or in several shells, do it together.",
    .examples = "genarm eval general.yaml -o out\n"
                "genarm eval general.yaml -o out -m big.gguf --limit 50\n"
                "genarm eval general.yaml -o out --dry-run\n"
                "mpirun -n 4 genarm eval general.yaml -o out --keep-going",
    .options = eval_options,
    .n_options = sizeof eval_options / sizeof *eval_options,
    .args_size = sizeof(struct eval_args),
    .ranks = true,
    .run = eval_main,
};
