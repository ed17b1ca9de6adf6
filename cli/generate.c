/* genarm generate: answers one prompt, or a file of them several at a time. */
#include <stdlib.h>
#include <string.h>

#include "generate.h"
#include "base/file.h"
#include "base/progress.h"
#include "commands.h"
#include "settings.h"
#include "tell.h"
#include "terminal.h"

static const struct option generate_options[] = {
    {OPTION_GROUP, .help = "Prompt"},
    {OPTION_TEXT, "-p --prompt", "TEXT", offsetof(struct generate_args, prompt), .help = "the user's message"},
    {OPTION_FILE, "-f --file", "FILE", offsetof(struct generate_args, file), .dash = DASH_STDIN,
     .help = "read the user's message from a file; -: from stdin"},
    {OPTION_FILE, "--prompts", "FILE.jsonl", offsetof(struct generate_args, prompts), .dash = DASH_STDIN,
     .help = "answer every record of a file, -: of stdin, JSON lines or a JSON array, plain, gzip, xz or zstd: {\"prompt\"} or "
             "{\"messages\"}, with \"system\" and \"id\" if wanted, or, of a file .txt, every line; prints JSON records in the "
             "same order"},
    {OPTION_INT, "--skip", "N", offsetof(struct generate_args, skip), 0, INT32_MAX, .fallback = "0",
     .help = "leave out the first N prompts of --prompts; the others keep the seeds that they have with them"},
    {OPTION_INT, "--limit", "N", offsetof(struct generate_args, limit), 1, INT32_MAX,
     .help = "answer N prompts of --prompts at most; all of them if not given"},
    {OPTION_TEXT, "-sys --system-prompt", "TEXT", offsetof(struct generate_args, system), .help = "system message"},
    {OPTION_GROUP, .help = "Answer"},
    {OPTION_INT, "-n --predict --n-predict", "N", offsetof(struct generate_args, n_predict), -1, INT32_MAX,
     .fallback = "-1", .env = "LLAMA_ARG_N_PREDICT",
     .help = "tokens at most; -1: until the model ends its answer or the context is full"},
    {OPTION_INT, "-np --parallel", "N", offsetof(struct generate_args, n_parallel), 1, 1024, .fallback = "1",
     .also = "-1", .env = "LLAMA_ARG_N_PARALLEL", .free = true,
     .help = "answers at once, to prompts of --prompts or of --method best-of-n, -1: the default; another number may round "
             "otherwise, and so give other words, unless weights and cache are f32"},
    {OPTION_FLAG, "--json", "", offsetof(struct generate_args, json),
     .help = "print a JSON record: prompt, response, tokens, arms, seed, finish_reason, logprob, evaluated, seconds, model, "
             "timings"},
    {OPTION_INT, "--logprobs --n-probs", "N", offsetof(struct generate_args, n_logprobs), -1, 1000, .fallback = "-1",
     .help = "records have the log-probability of every token, under the mixture and each of its parts, and of the N "
             "likeliest ones; -1: none"},
    {OPTION_FILE, "-o --output", "FILE", offsetof(struct generate_args, output), .dash = DASH_STDOUT,
     .help = "write to a file instead of stdout; it appears when all is done, or Ctrl-C ended it; answers to --prompts are "
             "kept in FILE.partial until then, and the same command goes on from there, whatever ended it"},
    {OPTION_FLAG, "--restart", "", offsetof(struct generate_args, restart),
     .help = "with --prompts and -o: begin anew, also where FILE.partial has answers"},
    {OPTION_GROUP, .help = "Saved state"},
    {OPTION_FILE, "--prompt-cache", "FILE", offsetof(struct generate_args, cache),
     .help = "what an earlier run has computed: the longest common start of prompts is not computed again; the file is "
             "written when the answer ends, and made when it does not exist"},
    {OPTION_FLAG, "--prompt-cache-ro", "", offsetof(struct generate_args, cache_read_only),
     .help = "only read the file of --prompt-cache"},
    OPTIONS_GUIDE(struct generate_args),
    OPTIONS_METHOD(struct generate_args),
    OPTIONS_SHIFT(struct generate_args),
    OPTIONS_STEER(struct generate_args),
    OPTIONS_SAMPLING(struct generate_args),
    OPTIONS_DRAFT(struct generate_args),
    OPTIONS_MODEL(struct generate_args),
};

/* Another process may go on with answers that were begun under other values of the first three; the others are compared by what
 * they stand for. */
static const char *const not_compared[] = {"--output",  "--restart", "--json", METHOD_DESCRIBED,
                                           "--prompts", "--model",   "--arm",  "--seed",         NULL};

static int read_prompts(struct generation *g, struct genarm_error *err) {
    const struct generate_args *args = g->args;
    char *text = NULL;
    int code = 0;
    if (args->n_logprobs >= 0 && !g->records) {
        return usage_error(err, "--logprobs", "log-probabilities are printed in records: give --json or --prompts as well");
    }
    if (generate_many(args) && (args->prompt || args->file)) {
        return usage_error(err, "--prompts", "-p and -f cannot be given as well");
    }
    if (!generate_many(args) && (args->skip || args->limit)) {
        return usage_error(err, args->skip ? "--skip" : "--limit", "it is for the prompts of --prompts, and this is one prompt");
    }
    if (args->cache && generate_many(args)) {
        return usage_error(err, "--prompt-cache", "it is for one prompt (-p, -f), not for --prompts");
    }
    if (args->cache && args->guide.no_sharing) {
        return usage_error(err, "--prompt-cache", "nothing of it would be used with --no-cache-prompt");
    }
    if (args->cache_read_only && !args->cache) {
        return usage_error(err, "--prompt-cache-ro", "it needs --prompt-cache FILE");
    }
    if (generate_many(args)) {
        code = prompts_read(&g->prompts, args->prompts, args->system, err);
        if (code == 0 && !prompts_cut(&g->prompts, (size_t)args->skip, (size_t)args->limit)) {
            code = usage_error(err, "--skip", "%s has %zu prompts: none is left", args->prompts, g->prompts.n);
        }
        return code;
    }
    code = prompt_text(&text, args->prompt, args->file, err);
    if (code == 0) {
        code = prompts_single(&g->prompts, text, args->system, err);
    }
    free(text);
    return code;
}

/* ---- the command ---- */

/* The rest of the one answer: what was streamed is printed, of a choice nothing. */
static void print_text(const struct generation *g) {
    const json_t *record = g->jobs[0].record, *response = json_object_get(record, "response");
    const char *text = response ? json_string_value(response) : "";
    const size_t n = response ? json_string_length(response) : 0;
    const char *finish = record ? json_string_value(json_object_get(record, "finish_reason")) : "";
    fwrite(text + g->n_streamed, 1, n - g->n_streamed, g->out);
    if (n == 0 || text[n - 1] != '\n') {
        fputc('\n', g->out);
    }
    if (record && (g->args->model.verbose || strcmp(finish, finish_name(FINISH_CONTEXT)) == 0)) {
        note("%s; %zu tokens, %.1f a second, seed %lld", finish, json_array_size(json_object_get(record, "tokens")),
             json_number_value(json_object_get(json_object_get(record, "timings"), "predicted_per_second")),
             (long long)json_integer_value(json_object_get(record, "seed")));
    }
}

static int say_outcome(struct generation *g) {
    if (!g->records) {
        print_text(g);
    }
    if (generate_many(g->args) && g->args->model.verbose) {
        struct genarm_guide_stats stats;
        genarm_guide_get_stats(g->setup.guide, &stats);
        note("%lld tokens, %.1f a second; %lld went through a model, %lld of prompts were known already",
             (long long)g->estimate.n_tokens, (double)g->estimate.n_tokens / (clock_seconds() - g->started),
             (long long)stats.n_evaluated, (long long)stats.n_reused);
    }
    if (g->n_failed) {
        note("%zu of %zu prompts could not be answered, the first:", g->n_failed, g->prompts.n);
        report_error(&g->first_failure);
    }
    return interrupt_signal() ? 128 + interrupt_signal() : g->n_failed ? 1 : 0;
}

/* That a file which is written is none of those that are read. */
static int check_written(const struct generation *g, const char *path, struct genarm_error *err) {
    struct genarm_model_info base;
    genarm_model_get_info(g->setup.base, &base);
    const char *const inputs[] = {base.path,           g->args->prompts,     g->args->file,
                                  g->args->guide.lora, g->args->draft.model, g->args->steer.grammar_file,
                                  g->args->cache,      g->args->steer.json_schema_file};
    int code = 0;
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs && code == 0; i++) {
        code = keep_input("-o", path, inputs[i], err);
    }
    code = code ? code : method_keep_inputs(&g->method, &g->args->method, "-o", path, err);
    for (size_t i = 0; i < g->setup.n_arms && code == 0; i++) {
        code = keep_input("-o", path, g->setup.arms[i].path, err);
        code = code ? code : keep_input("-o", path, g->setup.arms[i].adapter, err);
    }
    return code;
}

static int check_output(const struct generation *g, struct genarm_error *err) {
    const char *output = g->args->output;
    char *partial = output ? partial_path(output) : NULL;
    int code = output && !partial ? error_nomem(err, "a file name") : check_written(g, output, err);
    if (code == 0 && partial && generate_many(g->args)) {
        code = check_written(g, partial, err);
    }
    free(partial);
    return code;
}

/* That a file can be written is known before hours go by. */
static int check_writable(const char *path, struct genarm_error *err) {
    struct file_writer file;
    const int code = file_open(&file, path, err);
    if (code == 0) {
        file_abort(&file);
    }
    return code;
}

/* Opens what holds the records until all are there. */
static int open_partial(struct generation *g, struct genarm_error *err) {
    const struct generate_args *args = g->args;
    struct partial_run run = {.output = args->output,
                              .n = generate_n_kept(g),
                              .any_seed = args->sampling.seed < 0,
                              .anew = args->restart};
    json_t *settings = NULL;
    int code = settings_options(&settings, generate_options, sizeof generate_options / sizeof *generate_options, args,
                                not_compared, err);
    if (code == 0) {
        code = settings_add_setup(settings, &g->setup, err);
    }
    if (code == 0) {
        code = method_describe(&g->method, &args->method, settings, err);
    }
    if (code == 0) {
        code = prompts_describe(&g->prompts, settings, err);
    }
    if (code == 0) {
        run.settings = settings;
        code = partial_open(&g->partial, &run, &g->seed, err);
    }
    json_decref(settings);
    for (size_t i = 0; i < g->prompts.n && code == 0; i++) {
        g->n_done += partial_has(&g->partial, i);
    }
    if (code == 0 && g->n_done) {
        note("%zu of %zu prompts are answered in %s", g->n_done, g->prompts.n, g->partial.journal.path);
    }
    return code;
}

static bool any_drafts(const struct draft_args *draft) { return draft->model || draft->arms.n > 0 || draft->type != 0; }

/* All that is needed before the first token. */
static int prepare(struct generation *g, struct genarm_error *err) {
    const struct generate_args *args = g->args;
    int code = read_prompts(g, err);
    if (code == 0 && args->restart && !(generate_many(args) && args->output)) {
        code = usage_error(err, "--restart", "there is nothing to begin anew without --prompts and -o");
    }
    if (code == 0) {
        code = method_read(&g->method, &args->method, &args->rewards, &args->guide, any_drafts(&args->draft), err);
    }
    const size_t n_answers = g->prompts.n * (size_t)g->method.n_samples;
    const size_t n_slots = (size_t)args->n_parallel < n_answers ? (size_t)args->n_parallel : n_answers;
    if (code == 0) {
        code = setup_load(&g->setup, &args->model, &args->guide, (int32_t)n_slots, err);
    }
    if (code == 0) {
        code = method_load(&g->method, &args->method, &args->rewards, &g->setup, &args->model, &args->guide, err);
    }
    if (code == 0) {
        code = drafts_load(&g->setup, &args->model, &args->guide, &args->draft, err);
    }
    if (code == 0) {
        code = setup_steer(&g->setup, &args->steer, g->records ? args->n_logprobs : -1, err);
    }
    if (code == 0) {
        code = check_output(g, err);
    }
    g->jobs = calloc(g->prompts.n + 1, sizeof *g->jobs);
    g->running = calloc(n_slots + 1, sizeof(struct answer_record *));
    if (code == 0 && (!g->jobs || !g->running)) {
        code = error_nomem(err, "prompts");
    }
    g->seed = sampling_from(&args->sampling).seed;
    if (code == 0 && args->cache && !args->cache_read_only) {
        code = error_at(err, check_writable(args->cache, err), "--prompt-cache");
    }
    if (code == 0 && generate_many(args) && args->output) {
        code = check_writable(args->output, err);
        code = code ? code : open_partial(g, err);
    }
    return code;
}

/* All records, in the order of the prompts: those that are kept, and those of answers that were interrupted. */
static int write_all(struct generation *g, struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < g->prompts.n && code == 0; i++) {
        struct job *job = &g->jobs[i];
        if (partial_has(&g->partial, i)) {
            code = partial_print(&g->partial, i, g->out, err);
        } else if (job->record) {
            code = generate_written(g, print_json(g->out, job->record, err), err);
            job->record = NULL;
        }
    }
    return code;
}

static void note_partial(const struct generation *g) { note("the same command goes on from %s", g->partial.journal.path); }

/* The answers to many prompts, into the file that they were asked for in. */
static int generate_file(struct generation *g, struct genarm_error *err) {
    struct file_writer file;
    int code = generate_jobs(g, err);
    if (code) {
        note_partial(g);
        return code;
    }
    code = interrupt_signal() ? 0 : rewards_finish(&g->method.rewards, err);
    if (code == GENARM_EMISMATCH) { /* the wrong samples may have been chosen */
        (void)partial_remove(&g->partial, NULL);
    }
    code = code ? code : file_open(&file, g->args->output, err);
    if (code) {
        return code;
    }
    g->out = file.stream;
    code = write_all(g, err);
    if (code) {
        file_abort(&file);
    } else {
        code = file_commit(&file, err);
    }
    if (code == 0 && interrupt_signal()) {
        note_partial(g);
    } else if (code == 0) {
        code = partial_remove(&g->partial, err);
    }
    return code ? code : say_outcome(g);
}

/* Answers as they come: to one prompt, or to many on stdout. */
static int generate_stream(struct generation *g, struct genarm_error *err) {
    const char *output = g->args->output;
    struct file_writer file;
    int code = output ? file_open(&file, output, err) : 0, status = 0;
    if (code) {
        return code;
    }
    g->out = output ? file.stream : stdout;
    code = generate_jobs(g, err);
    code = code || interrupt_signal() ? code : rewards_finish(&g->method.rewards, err);
    if (code == 0) {
        status = say_outcome(g);
    }
    if (output && code == 0) {
        code = file_commit(&file, err);
    } else if (output) {
        file_abort(&file);
    } else if (code == 0) {
        code = flush_output(stdout, err);
    }
    return code ? code : status;
}

static int generate(struct generation *g, struct genarm_error *err) {
    int code = prepare(g, err);
    if (code == 0) {
        interrupt_catch();
        code = g->partial.records ? generate_file(g, err) : generate_stream(g, err);
    }
    return code;
}

static int generate_run(const void *arguments, struct genarm_error *err) {
    struct generation g = {.args = arguments};
    g.records = g.args->json || generate_many(g.args);
    log_to_stderr(g.args->model.verbose);
    int code = generate(&g, err);
    generate_free_jobs(&g);
    free(g.running);
    partial_close(&g.partial);
    method_free(&g.method, &g.setup);
    setup_free(&g.setup);
    prompts_free(&g.prompts);
    return code;
}

const struct command command_generate = {
    .name = "generate",
    .summary = "answer prompts, steered by reward models",
    .usage = "[options] (-p TEXT | -f FILE | --prompts FILE.jsonl)",
    .details =
        "Answers prompts with a base model, steered at every token by reward models: their log-probabilities, times "
        "a weight each, are added to the base's. Without --arm the base answers alone. --method answers by what ARMs "
        "are compared with. The text is printed as it comes; Ctrl-C ends it and keeps what is there. Answers to "
        "--prompts with -o survive whatever ends the program: the same command goes on with the prompts that have none.",
    .examples = "genarm generate -p \"Tell me about owls.\"\n"
                "genarm generate --arm cheerful.gguf:1 -p \"Tell me about owls.\" -n 128 -s 7\n"
                "genarm generate --arm joy=cheerful.gguf:1.5 --arm concise.gguf:0.5 -f question.txt --json\n"
                "genarm generate -m big.gguf --arm kind=small.gguf+arm.gguf --draft-arm kind -p \"Hello\"\n"
                "genarm generate --method best-of-n --reward rm:judge.gguf --best-of 16 -np 8 -p \"Hello\"\n"
                "genarm generate --method args --reward rm:judge.gguf:1.5 --temp 0 -p \"Hello\"\n"
                "genarm generate -f long.txt --prompt-cache long.session -n 256 --context-shift\n"
                "genarm generate -m big.gguf --arm small.gguf+arm.gguf --prompts test.jsonl -np 8 -o out.jsonl",
    .options = generate_options,
    .n_options = sizeof generate_options / sizeof *generate_options,
    .args_size = sizeof(struct generate_args),
    .run = generate_run,
};
