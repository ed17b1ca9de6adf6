/* genarm data: what is in preference files, and the same as plain JSON lines. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/progress.h"
#include "base/rng.h"
#include "commands.h"
#include "data_report.h"
#include "formats.h"
#include "model/model.h"
#include "models.h"
#include "tell.h"
#include "terminal.h"

enum {
    MEGABYTE = 1000000,
    SHOW_PROGRESS = 32,       /* MB that are worth a progress bar */
    MAX_LINE = 128 << 20,     /* of output: every byte of a record of 16 MiB may need six */
    STREAM_SPLIT = 0x73706C69 /* of the hash that splits */
};

struct data_args {
    struct option_list files;
    struct format_args formats;
    const char *model, *chat_template, *output;
    double split;
    bool dedupe, json, verbose;
};

#define ARGS(member) offsetof(struct data_args, member)

static const struct option data_options[] = {
    {OPTION_GROUP, .help = "Reading"},
    {OPTION_FILES, "FILE", "", ARGS(files), .dash = DASH_STDIN, .help = PAIRS_HELP "; -: stdin"},
    OPTIONS_FORMAT(struct data_args),
    {OPTION_FILE, "-m --model", "FILE", ARGS(model),
     .help = "count lengths in this model's tokens, with its chat template, instead of in words"},
    {OPTION_TEXT, "--chat-template", "TEMPLATE", ARGS(chat_template),
     .help = "with -m: a name that llama.cpp knows, or raw:TEXT with {system} and {prompt}"},
    {OPTION_GROUP, .help = "Writing"},
    {OPTION_FILE, "-o --output", "OUT.jsonl", ARGS(output),
     .help = "write the usable pairs as JSON lines {\"prompt\", \"chosen\", \"rejected\"}, or {\"prompt\", \"completion\"} of "
             "records with one answer, with \"system\" where there is one; a prompt of several turns is a list of {\"role\", "
             "\"content\"}"},
    {OPTION_FLAG, "--dedupe", "", ARGS(dedupe), .help = "leave out what is the same as an earlier record"},
    {OPTION_NUMBER, "--split", "X", ARGS(split), 0, 1, .fallback = "0",
     .help = "write about a share X of the prompts to OUT.test.jsonl and the others to OUT.train.jsonl: equal prompts "
             "are on the same side, in every file and in every run"},
    {OPTION_GROUP, .help = "Report"},
    {OPTION_FLAG, "--json", "", ARGS(json), .help = "print it as a JSON record"},
    {OPTION_FLAG, "-v --verbose", "", ARGS(verbose), .help = "log every record that is dropped to stderr"},
};

/* One run of the command. */
struct run {
    const struct data_args *args;
    struct genarm_model *model; /* NULL: words */
    struct data_report report;
    struct file_writer writers[2]; /* as report.outputs: all, or train and test */
    struct buf line;
    struct genarm_message *messages; /* [cap_messages] */
    size_t cap_messages;
};

/* ---- lengths ---- */

/* As training counts them: the prompt in its template, the responses with the token that ends them. */
static int token_lengths(struct run *run, const struct preference *p, int64_t lengths[3], struct genarm_error *err) {
    const char *const responses[] = {p->chosen, p->rejected};
    if (p->n_messages > run->cap_messages) {
        struct genarm_message *grown = realloc(run->messages, p->n_messages * sizeof *grown);
        if (!grown) {
            return error_nomem(err, "a prompt");
        }
        run->messages = grown;
        run->cap_messages = p->n_messages;
    }
    for (size_t i = 0; i < p->n_messages; i++) {
        run->messages[i] = (struct genarm_message){p->messages[i].role, p->messages[i].content};
    }
    const char *name = run->args->chat_template;
    int32_t *tokens = NULL, n = 0;
    int code = template_tokens(&tokens, &n, run->model, name, run->messages, p->n_messages, err);
    lengths[SURVEY_PROMPT] = n;
    free(tokens);
    for (int i = 0; i < 2 && code == 0; i++) {
        if (!*responses[i]) {
            continue; /* nothing is rejected */
        }
        tokens = NULL;
        code = response_tokens(&tokens, &n, run->model, name, run->messages, p->n_messages, responses[i], true, err);
        lengths[SURVEY_CHOSEN + i] = n;
        free(tokens);
    }
    return code;
}

static void word_lengths(const struct preference *p, int64_t lengths[3]) {
    lengths[SURVEY_PROMPT] = 0;
    for (size_t i = 0; i < p->n_messages; i++) {
        lengths[SURVEY_PROMPT] += count_words(p->messages[i].content);
    }
    lengths[SURVEY_CHOSEN] = count_words(p->chosen);
    lengths[SURVEY_REJECTED] = count_words(p->rejected);
}

/* ---- writing ---- */

/* OUT.jsonl becomes OUT.train.jsonl. */
static char *split_path(const char *output, const char *part) {
    size_t n = strlen(output);
    if (n > 6 && strcmp(output + n - 6, ".jsonl") == 0) {
        n -= 6;
    }
    const size_t size = n + sizeof ".train.jsonl";
    char *path = malloc(size);
    if (path) {
        snprintf(path, size, "%.*s.%s.jsonl", (int)n, output, part);
    }
    return path;
}

static int open_outputs(struct run *run, struct genarm_error *err) {
    const struct data_args *args = run->args;
    static const char *const parts[] = {"train", "test"};
    int code = 0;
    for (int i = 0; args->output && i < (args->split > 0 ? 2 : 1) && code == 0; i++) {
        struct data_output *output = &run->report.outputs[i];
        output->path = args->split > 0 ? split_path(args->output, parts[i]) : strdup(args->output);
        code = output->path ? 0 : error_nomem(err, "a file name");
        for (size_t j = 0; j < args->files.n && code == 0; j++) { /* it may hold more than what is written */
            code = keep_input("-o", output->path, args->files.items[j], err);
        }
        code = code ? code : file_open(&run->writers[i], output->path, err);
    }
    return code;
}

static bool in_test(const struct preference *p, double share) {
    const uint64_t mixed = rng_hash(STREAM_SPLIT, preference_prompt_hash(p), 0);
    return (double)(mixed >> 11) * 0x1p-53 < share;
}

static int write_pair(struct run *run, const struct preference *p, struct genarm_error *err) {
    const int side = in_test(p, run->args->split);
    buf_clear(&run->line);
    int code = preference_write(&run->line, p, err);
    if (code == 0) {
        fwrite(run->line.data, 1, run->line.len, run->writers[side].stream); /* checked by file_commit */
        run->report.outputs[side].n++;
    }
    return code;
}

/* Puts the files in place, or removes them. */
static int close_outputs(struct run *run, bool keep, struct genarm_error *err) {
    int code = 0;
    for (int i = 0; i < 2; i++) {
        if (run->writers[i].stream && keep && code == 0) {
            code = file_commit(&run->writers[i], err);
        } else {
            file_abort(&run->writers[i]);
        }
    }
    return code;
}

/* ---- reading ---- */

static int take(struct run *run, const struct preference *p, struct genarm_error *err) {
    struct survey *survey = &run->report.survey;
    int64_t lengths[3];
    const int is_new = survey_is_new(survey, p, err);
    if (is_new < 0 || (is_new == 0 && run->args->dedupe)) {
        return is_new;
    }
    int code = 0;
    if (run->model) {
        code = token_lengths(run, p, lengths, err);
    } else {
        word_lengths(p, lengths);
    }
    if (code == 0) {
        code = survey_add(survey, p, lengths, err);
    }
    return code == 0 && run->args->output ? write_pair(run, p, err) : code;
}

/* Reads a file through. An interrupt ends it early, without an error. */
static int read_records(struct run *run, struct pref_reader *reader, struct genarm_error *err) {
    struct progress progress;
    struct preference *p;
    int64_t done, all;
    int code = 0;
    pref_progress(reader, &done, &all);
    const bool shown = all >= (int64_t)SHOW_PROGRESS * MEGABYTE;
    if (shown) {
        progress_start(&progress, "reading", "MB", all / MEGABYTE, 0);
    }
    while (!interrupt_signal() && (code = pref_next(reader, &p, err)) > 0) {
        code = error_at(err, take(run, p, err), "%s", pref_where(reader));
        if (code) {
            break;
        }
        pref_progress(reader, &done, &all);
        if (shown) {
            progress_update(&progress, done / MEGABYTE, NULL);
        }
    }
    if (shown) {
        progress_end(&progress);
    }
    return interrupt_signal() ? 0 : code;
}

static int read_file(struct run *run, struct data_file *file, struct genarm_error *err) {
    struct pref_params params = formats_from(&run->args->formats);
    struct pref_reader *reader = NULL;
    params.use = PREF_AS_FOUND;
    const char *path = strcmp(file->path, "-") == 0 ? "/dev/stdin" : file->path;
    int code = pref_open(&reader, path, &params, err);
    if (code == 0) {
        code = read_records(run, reader, err);
    }
    if (code == 0) {
        file->codec = pref_codec(reader);
        file->format = pref_format(reader);
        file->array = pref_in_array(reader);
        file->counts = *pref_counts(reader);
    }
    pref_close(reader);
    return code;
}

/* ---- the command ---- */

static int check_args(const struct data_args *args, struct genarm_error *err) {
    if (!args->files.n) {
        return usage_error(err, "FILE", "a file is missing: genarm data FILE");
    }
    if (args->split > 0 && !args->output) {
        return usage_error(err, "--split", "the file to write is missing: -o OUT.jsonl");
    }
    if (args->split >= 1) {
        return usage_error(err, "--split", "the share must be below 1");
    }
    if (args->chat_template && !args->model) {
        return usage_error(err, "--chat-template", "it is of use with -m only");
    }
    return 0;
}

static int load(struct run *run, struct genarm_error *err) {
    const struct data_args *args = run->args;
    struct data_report *report = &run->report;
    report->files = calloc(args->files.n, sizeof *report->files);
    if (!report->files) {
        return error_nomem(err, "files");
    }
    report->n_files = args->files.n;
    for (size_t i = 0; i < report->n_files; i++) {
        report->files[i].path = args->files.items[i];
    }
    report->tokens = args->model;
    report->deduped = args->dedupe;
    report->label = (enum genarm_data_label)args->formats.label;
    struct genarm_model_params params = genarm_model_default_params();
    params.load_mode = GENARM_LOAD_MMAP; /* no weight is read */
    return args->model ? genarm_model_load(&run->model, args->model, &params, err) : 0;
}

static int read_all(struct run *run, struct genarm_error *err) {
    int code = load(run, err);
    if (code == 0) {
        code = open_outputs(run, err);
    }
    for (size_t i = 0; i < run->report.n_files && code == 0 && !interrupt_signal(); i++) {
        code = read_file(run, &run->report.files[i], err);
    }
    const int closed = close_outputs(run, code == 0 && !interrupt_signal(), err);
    return code ? code : closed;
}

static int report(const struct run *run, struct genarm_error *err) {
    const struct data_output *outputs = run->report.outputs;
    if (run->args->split > 0 && (outputs[0].n == 0 || outputs[1].n == 0)) {
        note("warning: %s is empty: too few prompts for this share", outputs[outputs[0].n > 0].path);
    }
    if (run->args->json) {
        return print_json(stdout, data_report_json(&run->report), err);
    }
    data_report_print(stdout, &run->report);
    return flush_output(stdout, err);
}

static void run_deinit(struct run *run) {
    survey_deinit(&run->report.survey);
    free(run->report.files);
    free(run->report.outputs[0].path);
    free(run->report.outputs[1].path);
    buf_deinit(&run->line);
    free(run->messages);
    genarm_model_free(run->model);
}

static int data_run(const void *arguments, struct genarm_error *err) {
    const struct data_args *args = arguments;
    struct run run = {.args = args};
    log_to_stderr(args->verbose);
    buf_init(&run.line, MAX_LINE);
    int code = check_args(args, err);
    interrupt_catch();
    if (code == 0) {
        code = read_all(&run, err);
    }
    if (code == 0 && !interrupt_signal()) {
        code = report(&run, err);
    }
    run_deinit(&run);
    return code ? code : interrupt_signal() ? 128 + interrupt_signal() : 0;
}

const struct command command_data = {
    .name = "data",
    .summary = "what is in files of preference pairs; convert and split them",
    .usage = "[options] FILE ...",
    .details =
        "Reads files of preference pairs as genarm train does and says what is in them: format, usable records, what is "
        "dropped and why, lengths, repetitions, and how often the longer answer is the chosen one. With -o the pairs are "
        "written as JSON lines. Records with one answer, for --loss sft, are read as well. Files may be larger than the memory.",
    .examples = "genarm data pairs.jsonl\n"
                "genarm data train.jsonl.gz -m model.gguf\n"
                "genarm data pku.jsonl.xz --label safer -o harmless.jsonl --dedupe --split 0.05\n"
                "zcat pairs.json.gz | genarm data - --json",
    .options = data_options,
    .n_options = sizeof data_options / sizeof *data_options,
    .args_size = sizeof(struct data_args),
    .run = data_run,
};
