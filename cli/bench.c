/* genarm bench: what guidance costs on this machine, beside libllama unguided in the same run. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/progress.h"
#include "bench/bandwidth.h"
#include "bench/random_arms.h"
#include "bench/samples.h"
#include "bench_rows.h"
#include "commands.h"
#include "setup.h"
#include "tell.h"
#include "terminal.h"

struct bench_args {
    struct model_args model;
    struct guide_args guide;
    struct option_list prompts, gens, depths;
    int32_t repetitions, random_arms, format;
    bool no_warmup;
};

#define ARGS(member) offsetof(struct bench_args, member)

static const struct option bench_options[] = {
    {OPTION_GROUP, .help = "Tests"},
    {OPTION_TEXTS, "-p --n-prompt", "N,...", ARGS(prompts),
     .help = "tokens of prompts to process, a test each; 0: none; repeatable (default 512)"},
    {OPTION_TEXTS, "-n --n-gen", "N,...", ARGS(gens),
     .help = "tokens to generate, one after the other, a test each; 0: none; repeatable (default 128)"},
    {OPTION_TEXTS, "-d --n-depth", "N,...", ARGS(depths),
     .help = "tokens of context before those that are timed; each test is done at each depth; repeatable (default 0)"},
    {OPTION_INT, "-r --repetitions", "N", ARGS(repetitions), 1, 10000, .fallback = "5", .help = "times of each test"},
    {OPTION_FLAG, "--no-warmup", "", ARGS(no_warmup), .help = "time the first round of a test as well"},
    {OPTION_GROUP, .help = "Reward models"},
    {OPTION_TEXTS, "--arm", ARM_FORM, ARGS(guide.arms),
     .help = "add this autoregressive reward model, as for genarm generate: the first alone, then the second, and so on; "
             "repeatable"},
    {OPTION_INT, "--random-arms", "N", ARGS(random_arms), 0, 16, .fallback = "3",
     .help = "where no --arm is given, reward models of random numbers to make for the occasion: adapters of rank 8 on "
             "q, k and v"},
    {OPTION_GROUP, .help = "Cache"},
    {OPTION_CHOICE, "-ctk --cache-type-k", "TYPE", ARGS(guide.keys), .choices = "f16|f32|q8_0", .fallback = "f16",
     .env = "LLAMA_ARG_CACHE_TYPE_K", .like = "-ctv",
     .help = "how cached keys are stored on both sides, as values are: one of -ctk and -ctv is enough"},
    {OPTION_CHOICE, "-ctv --cache-type-v", "TYPE", ARGS(guide.values), .choices = "f16|f32|q8_0", .fallback = "f16",
     .env = "LLAMA_ARG_CACHE_TYPE_V", .like = "-ctk", .help = "how cached values are stored on both sides, as keys are"},
    {OPTION_GROUP, .help = "Output"},
    {OPTION_CHOICE, "-o --output", "FORMAT", ARGS(format), .choices = BENCH_FORMATS, .fallback = "md",
     .help = "a table in Markdown, a JSON array, a line of JSON or of CSV for each row"},
    OPTIONS_MODEL(struct bench_args),
};

/* ---- what to measure ---- */

enum { MAX_SIZES = 32, MAX_SIZE = 1 << 22 };

struct sizes {
    int32_t items[MAX_SIZES];
    int n;
};

/* Appends those of "512,1024". */
static int add_sizes(struct sizes *s, const char *option, const char *text, struct genarm_error *err) {
    const char *at = text;
    while (s->n < MAX_SIZES) {
        char *end = NULL;
        errno = 0;
        const long size = isdigit((unsigned char)*at) ? strtol(at, &end, 10) : -1;
        if (size < 0 || size > MAX_SIZE || errno || (*end != ',' && *end != '\0')) {
            return usage_error(err, option, "\"%.60s\" is no list of whole numbers from 0 to %d with commas between", text,
                               MAX_SIZE);
        }
        s->items[s->n++] = (int32_t)size;
        at = end + 1;
        if (*end == '\0') {
            return 0;
        }
    }
    return usage_error(err, option, "these are more than %d numbers", MAX_SIZES);
}

static int read_sizes(struct sizes *s, const char *option, const struct option_list *texts, int32_t otherwise,
                      struct genarm_error *err) {
    int code = 0;
    *s = (struct sizes){.items = {otherwise}, .n = texts->n == 0};
    for (size_t i = 0; i < texts->n && code == 0; i++) {
        code = add_sizes(s, option, texts->items[i], err);
    }
    return code;
}

struct plan {
    struct contest_test tests[2 * MAX_SIZES * MAX_SIZES];
    int n;
    int32_t n_ctx, n_prompt; /* tokens that the largest test, and the largest prompt, need */
};

static void plan_tests(struct plan *plan, const struct sizes *sizes, const struct sizes *depths, bool prompts) {
    for (int d = 0; d < depths->n; d++) {
        for (int i = 0; i < sizes->n; i++) {
            const int32_t n = sizes->items[i];
            const struct contest_test t = {
                .n_prompt = prompts ? n : 0, .n_gen = prompts ? 0 : n, .n_depth = depths->items[d]};
            if (n > 0) {
                plan->tests[plan->n++] = t;
                plan->n_ctx = contest_context(&t) > plan->n_ctx ? contest_context(&t) : plan->n_ctx;
                plan->n_prompt = t.n_prompt > plan->n_prompt ? t.n_prompt : plan->n_prompt;
            }
        }
    }
}

static int make_plan(struct plan *plan, const struct bench_args *args, struct genarm_error *err) {
    struct sizes prompts, gens, depths;
    *plan = (struct plan){.n_prompt = 1};
    int code = read_sizes(&prompts, "-p", &args->prompts, 512, err);
    code = code ? code : read_sizes(&gens, "-n", &args->gens, 128, err);
    code = code ? code : read_sizes(&depths, "-d", &args->depths, 0, err);
    if (code) {
        return code;
    }
    plan_tests(plan, &prompts, &depths, true);
    plan_tests(plan, &gens, &depths, false);
    return plan->n ? 0 : usage_error(err, "-p", "with -p 0 and -n 0 nothing is left to measure");
}

/* ---- measuring ---- */

struct bench {
    const struct bench_args *args;
    struct plan plan;
    struct setup setup;
    struct genarm_adapter **random; /* [n_random] */
    int32_t n_random;
    struct contest contest;
    struct bench_report report;
    double *seconds; /* [tests][contestants][rounds] */
    struct progress progress;
};

static void on_turn(void *user) {
    struct bench *b = user;
    progress_update(&b->progress, b->progress.done + 1, NULL);
}

/* More than the context that the models were trained for is no error, as it is none for llama-bench; but it is said. */
static void check_context(const struct bench *b) {
    struct genarm_model_info info;
    genarm_model_get_info(b->setup.base, &info);
    if (b->plan.n_ctx > info.n_ctx_train) {
        note("the largest test has %d tokens, more than the %d that the model was trained for", b->plan.n_ctx,
             info.n_ctx_train);
    }
}

static int make_arms(struct bench *b, struct genarm_error *err) {
    note("no --arm is given: %d adapter%s of rank %d made of random numbers", b->n_random, b->n_random > 1 ? "s" : "",
         RANDOM_ARMS_RANK);
    b->random = calloc((size_t)b->n_random, sizeof *b->random);
    const int code = b->random ? random_arms_add(b->setup.guide, b->random, b->n_random, err) : error_nomem(err, "adapters");
    return error_hint(err, code, "name reward models with --arm, or measure without: --random-arms 0");
}

static int bench_open(struct bench *b, struct genarm_error *err) {
    const double before = machine_resident();
    struct guide_args guide = b->args->guide;
    b->n_random = guide.arms.n ? 0 : b->args->random_arms;
    guide.n_ctx = b->plan.n_ctx;
    guide.n_batch = genarm_guide_default_params().n_batch;
    int code = setup_load(&b->setup, &b->args->model, &guide, 1, err);
    if (code) {
        return code;
    }
    check_context(b);
    code = b->n_random ? make_arms(b, err) : 0;
    return code ? code : contest_open(&b->contest, b->setup.guide, b->plan.n_prompt, before, interrupt_signal, err);
}

static void bench_close(struct bench *b) {
    contest_close(&b->contest);
    genarm_guide_free(b->setup.guide);
    b->setup.guide = NULL;
    for (int32_t i = 0; b->random && i < b->n_random; i++) {
        genarm_adapter_free(b->random[i]);
    }
    free(b->random);
    setup_free(&b->setup);
    free(b->seconds);
    free(b->report.rows);
}

static int add_rows(struct bench *b, const struct contest_test *test, const double *seconds, struct genarm_error *err) {
    const size_t n = (size_t)b->args->repetitions;
    double *rival = malloc(n * sizeof *rival);
    if (!rival) {
        return error_nomem(err, "results");
    }
    for (size_t i = 0; i < n; i++) {
        rival[i] = seconds[i]; /* libllama is the first */
    }
    const double median = samples_median(rival, n);
    free(rival);
    for (int32_t i = 0; i < contest_n(&b->contest); i++) {
        b->report.rows[b->report.n_rows++] = (struct bench_row){
            .test = *test, .who = i - 1, .seconds = seconds + (size_t)i * n, .rival = median,
            .bytes = test->n_gen ? contest_bytes(&b->contest, i - 1, test) : 0};
    }
    return 0;
}

static int measure_all(struct bench *b, struct genarm_error *err) {
    const int32_t n_rounds = b->args->repetitions, warm_up = b->args->no_warmup ? 0 : 1;
    const size_t n_test = (size_t)contest_n(&b->contest) * (size_t)n_rounds, n_tests = (size_t)b->plan.n;
    b->seconds = calloc(n_tests * n_test, sizeof *b->seconds);
    b->report.rows = calloc(n_tests * (size_t)contest_n(&b->contest), sizeof *b->report.rows);
    if (!b->seconds || !b->report.rows) {
        return error_nomem(err, "results");
    }
    int code = 0;
    progress_start(&b->progress, "measuring", "turns",
                   (int64_t)n_tests * contest_n(&b->contest) * (n_rounds + warm_up), 0);
    for (size_t i = 0; i < n_tests && code == 0; i++) {
        double *seconds = b->seconds + i * n_test;
        code = contest_rounds(&b->contest, &b->plan.tests[i], warm_up, n_rounds, seconds, on_turn, b, err);
        code = code ? code : add_rows(b, &b->plan.tests[i], seconds, err);
    }
    progress_end(&b->progress);
    return code;
}

static void describe(struct bench *b) {
    const time_t now = time(NULL);
    struct tm utc;
    strftime(b->report.time, sizeof b->report.time, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    machine_describe(&b->report.machine, b->setup.base);
    genarm_model_get_info(b->setup.base, &b->report.model);
    b->report.contest = &b->contest;
    /* What threads can read says nothing about the memory of other devices. */
    const bool on_cpu = b->setup.base->placement.n_devices == 0;
    b->report.bandwidth = on_cpu ? bandwidth_measure(b->setup.guide->threads->n) : 0;
    b->report.n_rounds = b->args->repetitions;
    b->report.random_arms = b->args->guide.arms.n == 0;
}

static int bench_run(const void *arguments, struct genarm_error *err) {
    const struct bench_args *args = arguments;
    struct bench *b = calloc(1, sizeof *b);
    if (!b) {
        return error_nomem(err, "results");
    }
    log_to_stderr(args->model.verbose);
    b->args = args;
    int code = make_plan(&b->plan, args, err);
    interrupt_catch();
    code = code ? code : bench_open(b, err);
    if (code == 0) {
        describe(b);
        code = measure_all(b, err);
    }
    if (code == GENARM_ECANCELED && interrupt_signal()) {
        note("stopped; the tests that are complete are printed");
        code = b->report.contest ? bench_print(stdout, &b->report, (enum bench_format)args->format, err) : 0;
        code = code ? code : 128 + interrupt_signal();
    } else if (code == 0) {
        code = bench_print(stdout, &b->report, (enum bench_format)args->format, err);
    }
    bench_close(b);
    free(b);
    return code;
}

const struct command command_bench = {
    .name = "bench",
    .summary = "measure what guidance costs, beside libllama unguided in the same run",
    .usage = "[options]",
    .details =
        "Times of libllama unguided, of genarm unguided, and of genarm with the first, the first two, ... ARMs on the same "
        "model, as llama-bench measures them: processing a prompt (pp) and generating (tg), without texts, their tokens, and "
        "loading. Contestants take turns, round by round, so that a machine that drifts drifts under all of them; what is "
        "shown is the median round, and the standard deviation over the rounds. All take the likeliest token; genarm's time "
        "includes the mixture.\n"
        "\"time / libllama's\" is the time for the same tokens: below 1 is faster. \"read\" is what must come from memory for "
        "each token, weights, adapters and cached keys and values, by the time that it took; \"of memory's\" is its share "
        "of what the same threads can read, more than 100 % where caches hold much of the model. Resident memory counts a "
        "mapped model once for each side, and not what devices hold.\n"
        "The records of -o json, jsonl and csv name what llama-bench also reports as llama-bench does.",
    .examples = "genarm bench -m model.gguf --arm kind.gguf --arm short.gguf\n"
                "genarm bench -m model.gguf -p 512,2048 -n 128 -d 0,4096 -r 9\n"
                "genarm bench -m large.gguf --arm small.gguf+kind.gguf -p 0 -o jsonl",
    .options = bench_options,
    .n_options = sizeof bench_options / sizeof *bench_options,
    .args_size = sizeof(struct bench_args),
    .run = bench_run,
};
