/* genarm generate: answers one prompt, or a file of them several at a time. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "answer_record.h"
#include "base/file.h"
#include "base/progress.h"
#include "base/rng.h"
#include "commands.h"
#include "drafts.h"
#include "estimate.h"
#include "partial.h"
#include "prompts.h"
#include "settings.h"
#include "terminal.h"

struct generate_args {
    struct model_args model;
    struct guide_args guide;
    struct sampling_args sampling;
    struct steer_args steer;
    struct draft_args draft;
    struct shift_args shift;
    const char *prompt, *file, *prompts, *system, *output, *cache;
    int32_t n_predict, n_parallel, n_logprobs;
    bool json, cache_read_only, restart;
};

static const struct option generate_options[] = {
    {OPTION_GROUP, .help = "Prompt"},
    {OPTION_TEXT, "-p --prompt", "TEXT", offsetof(struct generate_args, prompt), .help = "the user's message"},
    {OPTION_FILE, "-f --file", "FILE", offsetof(struct generate_args, file),
     .help = "read the user's message from a file; -: from stdin"},
    {OPTION_FILE, "--prompts", "FILE.jsonl", offsetof(struct generate_args, prompts),
     .help = "answer every record of a file: {\"prompt\"} or {\"messages\"}, with \"system\" and \"id\" if wanted, or, of a "
             "file .txt, every line; prints JSON records in the same order"},
    {OPTION_TEXT, "-sys --system-prompt", "TEXT", offsetof(struct generate_args, system), .help = "system message"},
    {OPTION_GROUP, .help = "Answer"},
    {OPTION_INT, "-n --predict --n-predict", "N", offsetof(struct generate_args, n_predict), -1, INT32_MAX,
     .fallback = "-1", .env = "LLAMA_ARG_N_PREDICT",
     .help = "tokens at most; -1: until the model ends its answer or the context is full"},
    {OPTION_INT, "-np --parallel", "N", offsetof(struct generate_args, n_parallel), 1, 1024, .fallback = "1",
     .env = "LLAMA_ARG_N_PARALLEL",
     .help = "prompts of --prompts that are answered at once; another number may round otherwise, and so give other "
             "words, unless weights and cache are f32"},
    {OPTION_FLAG, "--json", "", offsetof(struct generate_args, json),
     .help = "print a JSON record: prompt, response, tokens, arms, seed, finish_reason, model, timings"},
    {OPTION_INT, "--logprobs --n-probs", "N", offsetof(struct generate_args, n_logprobs), -1, 1000, .fallback = "-1",
     .help = "records have the log-probability of every token, under the mixture and each of its parts, and of the N "
             "likeliest ones; -1: none"},
    {OPTION_FILE, "-o --output", "FILE", offsetof(struct generate_args, output),
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
    OPTIONS_SHIFT(struct generate_args),
    OPTIONS_STEER(struct generate_args),
    OPTIONS_SAMPLING(struct generate_args),
    OPTIONS_DRAFT(struct generate_args),
    OPTIONS_MODEL(struct generate_args),
};

/* Another process may go on with answers that were begun under other values of these, ... */
#define FREE_TO_CHANGE                                                                                                \
    "--output", "--restart", "--json", "--parallel", "--batch-size", "--no-cache-prompt", "--threads", "--verbose",   \
        "--device", "--gpu-layers", "--tensor-split", "--rpc"
/* ... and these are compared by what they stand for. */
static const char *const not_compared[] = {FREE_TO_CHANGE, "--prompts", "--model", "--arm", "--seed", NULL};

/* A prompt on its way: waiting, running (session), ended (answer kept until those before it are written). */
struct job {
    struct answer_record answer;
    struct genarm_session *session;
    uint64_t seed;
    json_t *record; /* the finished one, until it is written */
};

struct generation {
    const struct generate_args *args;
    struct setup setup;
    struct prompt_list prompts;
    struct job *jobs; /* [prompts.n] */
    size_t n_started, n_written, n_failed;
    size_t n_done;          /* with those of an earlier process */
    struct partial partial; /* of --prompts with -o */
    uint64_t seed;
    struct estimate estimate;
    double started;
    struct answer_record **running; /* [n_running], room for n_parallel */
    size_t n_running;
    FILE *out;
    bool records;      /* JSON rather than text */
    size_t n_streamed; /* bytes of the text that are printed */
    struct genarm_error first_failure;
};

static bool many(const struct generate_args *args) {
    return args->prompts != NULL;
}

static int read_prompts(struct generation *g, struct genarm_error *err) {
    const struct generate_args *args = g->args;
    char *text = NULL;
    if (args->n_logprobs >= 0 && !g->records) {
        return usage_error(err, "--logprobs", "log-probabilities are printed in records: give --json or --prompts as well");
    }
    if (many(args) && (args->prompt || args->file)) {
        return usage_error(err, "--prompts", "-p and -f cannot be given as well");
    }
    if (args->cache && many(args)) {
        return usage_error(err, "--prompt-cache", "it is for one prompt (-p, -f), not for --prompts");
    }
    if (args->cache && args->guide.no_sharing) {
        return usage_error(err, "--prompt-cache", "nothing of it would be used with --no-cache-prompt");
    }
    if (args->cache_read_only && !args->cache) {
        return usage_error(err, "--prompt-cache-ro", "it needs --prompt-cache FILE");
    }
    if (many(args)) {
        return prompts_read(&g->prompts, args->prompts, args->system, err);
    }
    int code = prompt_text(&text, args->prompt, args->file, err);
    if (code == 0) {
        code = prompts_single(&g->prompts, text, args->system, err);
    }
    free(text);
    return code;
}

/* ---- the prompt cache ---- */

static int load_cache(const struct generation *g, struct genarm_session *s, struct genarm_error *err) {
    const char *path = g->args->cache;
    if (!path || (!file_exists(path) && !g->args->cache_read_only)) {
        return 0;
    }
    return error_at(err, genarm_session_load_cache(s, path, err), "--prompt-cache");
}

static int save_cache(const struct generation *g, struct genarm_error *err) {
    const struct job *job = &g->jobs[0];
    if (!g->args->cache || g->args->cache_read_only || job->answer.r.n_tokens == 0) { /* nothing was computed */
        return 0;
    }
    return genarm_session_save(job->answer.r.session, g->args->cache, NULL, err);
}

/* ---- output ---- */

/* The error of a write says where to. */
static int written(const struct generation *g, int code, struct genarm_error *err) {
    return g->args->output ? error_at(err, code, "%s", g->args->output) : code;
}

/* What was sampled since the last call. */
static int stream_text(struct generation *g, const struct answer_record *a, struct genarm_error *err) {
    size_t n = a->r.n_shown - g->n_streamed;
    if (g->records || n == 0) {
        return 0;
    }
    fwrite(a->r.text.data + g->n_streamed, 1, n, g->out);
    g->n_streamed = a->r.n_shown;
    return written(g, flush_output(g->out, err), err);
}

static int write_finished(struct generation *g, struct genarm_error *err) {
    int code = 0;
    while (code == 0 && g->n_written < g->n_started && g->jobs[g->n_written].record) {
        struct job *job = &g->jobs[g->n_written++];
        code = written(g, print_json(g->out, job->record, err), err);
        job->record = NULL;
    }
    return code;
}

/* Keeps the record of a finished answer where the next process finds it. */
static int keep_record(struct generation *g, size_t index, struct genarm_error *err) {
    struct job *job = &g->jobs[index];
    char *line;
    int code = json_line(&line, job->record, err);
    job->record = NULL;
    if (code == 0) {
        code = partial_add(&g->partial, index, line, err);
        free(line);
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
            code = written(g, print_json(g->out, job->record, err), err);
            job->record = NULL;
        }
    }
    return code;
}

/* The record of a job that ended: what identifies the prompt first. Takes over `facts`. */
static int finish_job(struct generation *g, size_t index, json_t *facts, struct genarm_error *err) {
    struct job *job = &g->jobs[index];
    json_t *record = json_deep_copy(g->prompts.items[index].shown);
    bool ok = record && facts && json_object_update(record, facts) == 0;
    json_decref(facts);
    if (!ok) {
        json_decref(record);
        return error_nomem(err, "a record");
    }
    job->record = record;
    if (g->args->model.verbose) {
        drafts_note(&g->setup, job->session);
    }
    int code = save_cache(g, err);
    genarm_session_free(job->session);
    job->session = NULL;
    g->n_done++;
    if (code == 0 && g->partial.records) {
        return job->answer.r.finish == FINISH_INTERRUPTED ? 0 : keep_record(g, index, err);
    }
    return code ? code : g->records ? write_finished(g, err) : 0;
}

/* ---- the loop ---- */

/* Seed of one prompt of many: independent of the others and of how many run at once; short enough for JSON numbers. */
static uint64_t job_seed(uint64_t seed, size_t index) {
    return rng_hash(seed, index, 0) >> 11;
}

/* A prompt among many that cannot be answered is recorded and does not stop the others. */
static int fail_job(struct generation *g, size_t index, const struct genarm_error *failure, struct genarm_error *err) {
    if (g->n_failed++ == 0) {
        g->first_failure = *failure;
        error_at(&g->first_failure, failure->code, "%s", g->prompts.items[index].where);
    }
    return finish_job(g, index, json_pack("{s:s, s:o}", "finish_reason", "error", "error", text_json(failure->what)),
                      err);
}

static int start_job(struct generation *g, struct genarm_error *err) {
    size_t index = g->n_started;
    struct job *job = &g->jobs[index];
    const struct prompt *prompt = &g->prompts.items[index];
    struct genarm_sampling own = sampling_from(&g->args->sampling);
    struct genarm_error failure;
    own.seed = many(g->args) ? job_seed(g->seed, index) : g->seed;
    job->seed = own.seed;
    int code = setup_session(&job->session, &g->setup, &own, err);
    if (code) {
        return code;
    }
    g->n_started++;
    code = load_cache(g, job->session, err);
    if (code) {
        return code;
    }
    code = answer_record_start(&job->answer, &g->setup, job->session, prompt->messages, prompt->n_messages,
                               g->args->n_predict, &failure);
    answer_record_shifts(&job->answer, &g->args->shift);
    if (code && many(g->args) && code != GENARM_ENOMEM) {
        return fail_job(g, index, &failure, err);
    }
    if (code) {
        *err = failure;
        return code;
    }
    if (job->answer.r.finish != FINISH_RUNNING) {
        return finish_job(g, index, answer_record_json(&job->answer, &g->setup, job->seed), err);
    }
    g->running[g->n_running++] = &job->answer;
    return 0;
}

/* Job whose answer this is: its first member. */
static size_t job_index(const struct generation *g, const struct answer_record *a) {
    return (size_t)((const struct job *)(const void *)a - g->jobs);
}

/* Takes ended answers out of the running ones. */
static int collect(struct generation *g, struct genarm_error *err) {
    size_t kept = 0;
    int code = 0;
    for (size_t i = 0; i < g->n_running; i++) {
        struct answer_record *a = g->running[i];
        if (a->r.finish == FINISH_RUNNING) {
            g->running[kept++] = a;
            continue;
        }
        size_t index = job_index(g, a);
        g->estimate.n_ended++;
        if (code == 0) {
            code = finish_job(g, index, answer_record_json(a, &g->setup, g->jobs[index].seed), err);
        }
        if (many(g->args)) {
            answer_record_deinit(a);
        }
    }
    g->n_running = kept;
    return code;
}

static int interrupt(struct generation *g, struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < g->n_running && code == 0; i++) {
        code = answer_end(&g->running[i]->r, FINISH_INTERRUPTED, err);
    }
    return code ? code : collect(g, err);
}

/* Passes by prompts that an earlier process answered. */
static bool job_waits(struct generation *g) {
    while (g->n_started < g->prompts.n && partial_has(&g->partial, g->n_started)) {
        g->n_started++;
    }
    return g->n_started < g->prompts.n;
}

/* Time left by tokens: what one process takes for answers of unlike lengths shows in nothing else. */
static void show_progress(const struct generation *g, struct progress *progress) {
    char rate[48];
    const double elapsed = clock_seconds() - g->started, each = (double)g->estimate.n_tokens / elapsed;
    double left = (double)(g->prompts.n - g->n_done - g->n_running) * estimate_answer(&g->estimate, 0);
    for (size_t i = 0; i < g->n_running; i++) {
        left += estimate_answer(&g->estimate, (int64_t)g->running[i]->r.n_tokens);
    }
    progress_expect(progress, left > 0 && each > 0 ? left / each : 0);
    snprintf(rate, sizeof rate, "%.3g tokens/s", each);
    progress_update(progress, (int64_t)g->n_done, rate);
}

/* One more token for all that run. */
static int step_jobs(struct generation *g, struct genarm_error *err) {
    int code = answer_records_step(g->running, g->n_running, err);
    g->estimate.n_tokens += (int64_t)g->n_running;
    if (code == 0 && !g->records) {
        code = stream_text(g, g->running[0], err);
    }
    return code ? code : collect(g, err);
}

static int run_jobs(struct generation *g, struct genarm_error *err) {
    struct progress progress;
    size_t n_parallel = (size_t)g->args->n_parallel;
    bool show = many(g->args) && (g->args->output || !isatty(STDOUT_FILENO)); /* not among the records */
    int code = 0;
    g->started = clock_seconds();
    g->estimate.limit = g->args->n_predict;
    if (show) {
        progress_start(&progress, "answering", "prompts", (int64_t)g->prompts.n, (int64_t)g->n_done);
    }
    while (code == 0 && (job_waits(g) || g->n_running > 0)) {
        if (interrupt_signal()) {
            code = interrupt(g, err);
            break;
        }
        code = job_waits(g) && g->n_running < n_parallel ? start_job(g, err) : step_jobs(g, err);
        if (show) {
            show_progress(g, &progress);
        }
    }
    if (show) {
        progress_end(&progress);
    }
    return code;
}

/* ---- the command ---- */

static int say_outcome(struct generation *g) {
    const struct job *job = &g->jobs[0];
    if (!g->records) {
        const struct answer_record *a = &job->answer;
        fwrite(a->r.text.data + g->n_streamed, 1, a->r.text.len - g->n_streamed, g->out); /* what Ctrl-C cut off */
        if (a->r.text.len == 0 || a->r.text.data[a->r.text.len - 1] != '\n') {
            fputc('\n', g->out);
        }
        if (g->args->model.verbose || a->r.finish == FINISH_CONTEXT) {
            note("%s; %zu tokens, %.1f a second, seed %llu", finish_name(a->r.finish), a->r.n_tokens, answer_rate(&a->r),
                 (unsigned long long)job->seed);
        }
    }
    if (many(g->args) && g->args->model.verbose) {
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
    if (code == 0 && partial && many(g->args)) {
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
                              .n = g->prompts.n,
                              .any_seed = args->sampling.seed < 0,
                              .anew = args->restart};
    json_t *settings = NULL;
    int code = settings_options(&settings, generate_options, sizeof generate_options / sizeof *generate_options, args,
                                not_compared, err);
    if (code == 0) {
        code = settings_add_setup(settings, &g->setup, err);
    }
    if (code == 0) {
        code = prompts_describe(&g->prompts, settings, err);
    }
    if (code == 0) {
        run.settings = settings;
        code = partial_open(&g->partial, &run, &g->seed, err);
    }
    json_decref(settings);
    g->n_done = g->partial.n_found;
    if (code == 0 && g->n_done) {
        note("%zu of %zu prompts are answered in %s", g->n_done, g->prompts.n, g->partial.journal.path);
    }
    return code;
}

/* All that is needed before the first token. */
static int prepare(struct generation *g, struct genarm_error *err) {
    const struct generate_args *args = g->args;
    int code = read_prompts(g, err);
    if (code == 0 && args->restart && !(many(args) && args->output)) {
        code = usage_error(err, "--restart", "there is nothing to begin anew without --prompts and -o");
    }
    size_t n_slots = (size_t)args->n_parallel < g->prompts.n ? (size_t)args->n_parallel : g->prompts.n;
    if (code == 0) {
        code = setup_load(&g->setup, &args->model, &args->guide, (int32_t)n_slots, err);
    }
    if (code == 0) {
        code = drafts_load(&g->setup, &args->model, &args->draft, err);
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
    if (code == 0 && many(args) && args->output) {
        code = check_writable(args->output, err);
        code = code ? code : open_partial(g, err);
    }
    return code;
}

/* The answers to many prompts, into the file that they were asked for in. */
static int generate_file(struct generation *g, struct genarm_error *err) {
    struct file_writer file;
    int code = run_jobs(g, err);
    if (code == 0) {
        code = file_open(&file, g->args->output, err);
    }
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
        note("the same command goes on from %s", g->partial.journal.path);
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
    code = run_jobs(g, err);
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
    g.records = g.args->json || many(g.args);
    log_to_stderr(g.args->model.verbose);
    int code = generate(&g, err);
    for (size_t i = 0; g.jobs && i < g.prompts.n; i++) {
        answer_record_deinit(&g.jobs[i].answer);
        genarm_session_free(g.jobs[i].session);
        json_decref(g.jobs[i].record);
    }
    free(g.jobs);
    free(g.running);
    partial_close(&g.partial);
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
        "a weight each, are added to the base's. Without --arm the base answers alone. The text is printed as it "
        "comes; Ctrl-C ends it and keeps what is there. Answers to --prompts with -o survive whatever ends the program: "
        "the same command goes on with the prompts that have none.",
    .examples = "genarm generate -p \"Tell me about owls.\"\n"
                "genarm generate --arm cheerful.gguf:1 -p \"Tell me about owls.\" -n 128 -s 7\n"
                "genarm generate --arm joy=cheerful.gguf:1.5 --arm concise.gguf:0.5 -f question.txt --json\n"
                "genarm generate -m big.gguf --arm kind=small.gguf+arm.gguf --draft-arm kind -p \"Hello\"\n"
                "genarm generate -f long.txt --prompt-cache long.session -n 256 --context-shift\n"
                "genarm generate -m big.gguf --arm small.gguf+arm.gguf --prompts test.jsonl -np 8 -o out.jsonl",
    .options = generate_options,
    .n_options = sizeof generate_options / sizeof *generate_options,
    .args_size = sizeof(struct generate_args),
    .run = generate_run,
};
