/* genarm judge: which of two files' answers are better, by a judge. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "commands.h"
#include "eval/judge.h"
#include "judge_answers.h"
#include "models.h"
#include "partial.h"
#include "rewards.h"
#include "settings.h"
#include "tell.h"
#include "terminal.h"

struct judge_args {
    struct model_args model;
    struct chat_args chat;
    struct option_list files;
    const char *judge, *output, *chat_template;
    int32_t order, n_logprobs, n_ctx, n_batch;
    int64_t seed;
    double tie_margin, timeout, price_in, price_out;
    bool json, restart;
};

#define ARGS(member) offsetof(struct judge_args, member)
#define ORDER_NAME(id, name) name "|"

static const struct option judge_options[] = {
    {OPTION_GROUP, .help = "Answers"},
    {OPTION_FILES, "FILE", "FILE", ARGS(files),
     .help = "two files of answers to the same prompts, A and B: records of genarm generate, or AlpacaEval's JSON arrays of "
             "{\"instruction\", \"output\"}; matched by \"id\" where all have one, else by their order"},
    {OPTION_GROUP, .help = "Judge"},
    {OPTION_TEXT, "--judge", "SPEC", ARGS(judge),
     .help = "openai:[NAME=]MODEL@BASE_URL (a model behind a server, which compares), pairwise:[NAME=]COMMAND (a program that "
             "answers JSON lines), or a reward of genarm score --reward, [KIND:][NAME=]PATH[+ADAPTER]: the higher one wins"},
    {OPTION_CHOICE, "--order", "WHICH", ARGS(order), .choices = JUDGE_ORDERS(ORDER_NAME), .fallback = "both",
     .help = "which answer a judge that compares is shown first. both: asked twice, each answer first once, a tie unless the "
             "same wins both; random: drawn by the seed; given: A first"},
    {OPTION_SEED, "-s --seed", "N", ARGS(seed), 0, 9007199254740991.0, .fallback = "0", .help = "of --order random"},
    {OPTION_NUMBER, "--tie-margin", "X", ARGS(tie_margin), 0, 1e30, .fallback = "0",
     .help = "rewards that differ by no more than this are a tie"},
    {OPTION_INT, "--logprobs", "N", ARGS(n_logprobs), 0, 20, .fallback = "5",
     .help = "ask the server for the N likeliest tokens, which tell how sure the judge is; 0: for servers that refuse it"},
    {OPTION_NUMBER, "--judge-timeout", "SECONDS", ARGS(timeout), 0.001, 1e9, .fallback = "120", .free = true,
     .help = "how long an answer of a program, or an attempt at a server, may take"},
    OPTIONS_CHAT(struct judge_args, chat),
    {OPTION_GROUP, .help = "Output"},
    {OPTION_FILE, "-o --output", "FILE", ARGS(output), .dash = DASH_STDOUT,
     .help = "write verdicts to a file instead of stdout; until all are there they are kept in FILE.partial, and the same "
             "command goes on from there, whatever ended it"},
    {OPTION_FLAG, "--restart", "", ARGS(restart), .help = "with -o: begin anew, also where FILE.partial has verdicts"},
    {OPTION_FLAG, "--json", "", ARGS(json), .help = "with -o: print the summary as a JSON record on stdout"},
    {OPTION_NUMBER, "--price-in", "X", ARGS(price_in), 0, 1e9, .fallback = "0", .free = true,
     .help = "price of a million tokens of prompts; with it the summary has the cost"},
    {OPTION_NUMBER, "--price-out", "X", ARGS(price_out), 0, 1e9, .fallback = "0", .free = true,
     .help = "price of a million tokens of replies"},
    {OPTION_GROUP, .help = "Reward models"},
    {OPTION_INT, "-c --ctx-size", "N", ARGS(n_ctx), 0, 1 << 24, .fallback = "0", .env = "LLAMA_ARG_CTX_SIZE",
     .help = "tokens of prompt and answer; 0: what the model was trained for, at most 4096"},
    {OPTION_INT, "-b --batch-size", "N", ARGS(n_batch), 1, 1 << 20, .fallback = "512", .env = "LLAMA_ARG_BATCH", .free = true,
     .help = "tokens of one forward pass"},
    {OPTION_TEXT, "--chat-template", "TEMPLATE", ARGS(chat_template), .env = "LLAMA_ARG_CHAT_TEMPLATE",
     .help = "as in genarm score"},
    OPTIONS_MODEL(struct judge_args),
};

/* Another process may go on with verdicts that were begun under other values of these; --judge is compared apart. */
static const char *const not_compared[] = {"--output", "--restart", "--json", "--seed", "--judge", NULL};

struct tally {
    size_t counts[4]; /* by enum judge_outcome */
    size_t n_twice, n_agree; /* shown in both orders, with valid verdicts; with the same */
    double preference;       /* sum over the valid ones */
    size_t n_unanswered, n_long; /* invalid because a prompt has no answer, or one is too long for the reward */
};

struct judging {
    const struct judge_args *args;
    struct genarm_model *base;
    struct judge *judge;
    struct judge_answers files[2];
    size_t *match;
    struct judge_pair *pairs; /* [n_pending], */
    size_t *numbers;          /* [n_pending] the answers of A that they are of */
    size_t n, n_pending, n_done;
    json_t **waiting; /* [n] records that those before them are waited for, without -o */
    size_t n_written;
    struct partial partial; /* with -o */
    struct tally tally;
    struct progress progress;
};

static bool keeps(const struct judging *g) { return g->args->output; }

/* ---- records ---- */

/* Why a pair was not judged. */
static const char no_answer[] = "a prompt without an answer", too_long[] = "an answer that does not fit into the context";

/* Whether the prompt has not been answered in one of the files. */
static bool is_unanswered(const struct judging *g, size_t number) {
    return g->files[0].items[number].failure || g->files[1].items[g->match[number]].failure;
}

static json_t *preference_json(double preference) { return isnan(preference) ? json_null() : json_rounded(preference, 6); }

static json_t *orders_json(const struct judge_verdict *v) {
    json_t *list = json_array();
    for (size_t i = 0; i < v->n_showings && list; i++) {
        const struct judge_showing *s = &v->showings[i];
        json_t *item = json_pack("{s:s, s:o*, s:o*, s:s, s:o}", "first", s->first ? "b" : "a", "reply",
                                 s->reply ? text_json(s->reply) : NULL, "error", s->refusal ? text_json(s->refusal) : NULL,
                                 "verdict", judge_outcome_name(s->outcome), "preference", preference_json(s->preference));
        if (!item || json_array_append_new(list, item) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *record_json(const struct judging *g, size_t number, const struct judge_verdict *v) {
    const json_t *id = g->files[0].items[number].id;
    const bool open = is_unanswered(g, number);
    json_t *rewards = NULL;
    if (v->n_showings == 0 && !v->same && !open) {
        rewards = json_pack("{s:o, s:o}", "a", preference_json(v->rewards[0]), "b", preference_json(v->rewards[1]));
    }
    return json_pack("{s:I, s:O*, s:s, s:o, s:o, s:o*, s:s*, s:{s:I, s:I}}", "index", (json_int_t)number, "id", id, "verdict",
                     judge_outcome_name(v->outcome), "preference", preference_json(v->preference), "orders", orders_json(v),
                     "rewards", rewards, "error", open ? no_answer : v->too_long ? too_long : NULL, "usage", "prompt_tokens",
                     (json_int_t)v->prompt_tokens, "completion_tokens", (json_int_t)v->completion_tokens);
}

static enum judge_outcome outcome_named(const json_t *name) {
    for (int i = JUDGE_A; i <= JUDGE_TIE; i++) {
        if (json_is_string(name) && strcmp(json_string_value(name), judge_outcome_name((enum judge_outcome)i)) == 0) {
            return (enum judge_outcome)i;
        }
    }
    return JUDGE_INVALID;
}

/* Of a record, so that those of an earlier process count as well. */
static void count(struct tally *t, const json_t *record) {
    const enum judge_outcome outcome = outcome_named(json_object_get(record, "verdict"));
    const json_t *orders = json_object_get(record, "orders");
    const char *why = json_string_value(json_object_get(record, "error"));
    t->counts[outcome]++;
    t->n_unanswered += why && strcmp(why, no_answer) == 0;
    t->n_long += why && strcmp(why, too_long) == 0;
    t->preference += outcome == JUDGE_INVALID ? 0 : json_number_value(json_object_get(record, "preference"));
    if (outcome != JUDGE_INVALID && json_array_size(orders) == 2) {
        t->n_twice++;
        t->n_agree += outcome_named(json_object_get(json_array_get(orders, 0), "verdict")) ==
                      outcome_named(json_object_get(json_array_get(orders, 1), "verdict"));
    }
}

static int write_waiting(struct judging *g, struct genarm_error *err) {
    int code = 0;
    while (code == 0 && g->n_written < g->n && g->waiting[g->n_written]) {
        code = print_json(stdout, g->waiting[g->n_written], err);
        g->waiting[g->n_written++] = NULL;
    }
    return code;
}

static int keep_verdict(struct judging *g, size_t number, const struct judge_verdict *v, struct genarm_error *err) {
    char note_text[64], *line = NULL;
    json_t *record = record_json(g, number, v);
    if (!record) {
        return error_nomem(err, "a record");
    }
    count(&g->tally, record);
    int code = 0;
    if (keeps(g)) {
        code = json_line(&line, record, err);
        code = code ? code : partial_add(&g->partial, number, line, err);
        free(line);
    } else {
        g->waiting[number] = record;
        code = write_waiting(g, err);
    }
    const size_t *c = g->tally.counts;
    snprintf(note_text, sizeof note_text, "%zu won, %zu tied, %zu lost, %zu invalid", c[JUDGE_A], c[JUDGE_TIE], c[JUDGE_B],
             c[JUDGE_INVALID]);
    progress_update(&g->progress, (int64_t)++g->n_done, note_text);
    return code;
}

static int take(size_t i, const struct judge_verdict *v, void *user, struct genarm_error *err) {
    struct judging *g = user;
    return keep_verdict(g, g->numbers[i], v, err);
}

/* The pairs that no judge need see. */
static int take_unanswered(struct judging *g, struct genarm_error *err) {
    const struct judge_verdict none = {.outcome = JUDGE_INVALID, .preference = NAN, .rewards = {NAN, NAN}};
    int code = 0;
    for (size_t i = 0; i < g->n && code == 0; i++) {
        if (is_unanswered(g, i) && !partial_has(&g->partial, i)) {
            code = keep_verdict(g, i, &none, err);
        }
    }
    return code;
}

/* ---- before ---- */

static int stop(void *user) {
    (void)user;
    return interrupt_signal();
}

static struct judge_params params_from(const struct judge_args *args) {
    struct judge_params p = judge_default_params();
    p.order = (enum judge_order)args->order;
    p.seed = (uint64_t)args->seed;
    p.tie_margin = args->tie_margin;
    p.n_logprobs = args->n_logprobs;
    p.source.n_ctx = args->n_ctx;
    p.source.n_batch = args->n_batch;
    p.source.n_threads = args->model.n_threads > 0 ? args->model.n_threads : 0;
    p.source.template_name = args->chat_template;
    p.source.model = model_params_from(&args->model);
    p.source.timeout = args->timeout;
    p.source.stop = stop;
    p.source.judge = chat_params_from(&args->chat);
    return p;
}

static int check_usage(const struct judge_args *args, struct genarm_error *err) {
    if (!args->judge) {
        return usage_error(err, "--judge", "the judge is missing: --judge SPEC");
    }
    const int code = as_usage(err, judge_spec_check(args->judge, err), "--judge");
    if (code) {
        err->hint[0] = '\0'; /* of a reward's form, which may have a weight */
        return error_hint(err, code, "a judge is openai:[NAME=]MODEL@BASE_URL, pairwise:[NAME=]COMMAND or a reward, "
                          "[KIND:][NAME=]PATH[+ADAPTER]");
    }
    if (args->files.n != 2) {
        return usage_error(err, "FILE", "two files of answers are compared, not %zu", args->files.n);
    }
    if ((args->json || args->restart) && !args->output) {
        return usage_error(err, args->json ? "--json" : "--restart", "it needs -o FILE: stdout has the verdicts");
    }
    return 0;
}

static int check_output(const struct judge_args *args, struct genarm_error *err) {
    struct file_writer file;
    const char *judge = args->judge; /* a reward may be one */
    char *partial = partial_path(args->output);
    int code = partial ? 0 : error_nomem(err, "a file name");
    for (size_t i = 0; i < args->files.n && code == 0; i++) {
        code = keep_input("-o", args->output, args->files.items[i], err);
        code = code ? code : keep_input("-o", partial, args->files.items[i], err);
    }
    const char *const inputs[] = {args->chat.prompt, args->model.path};
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs && code == 0; i++) {
        code = keep_input("-o", args->output, inputs[i], err);
    }
    code = code ? code : keep_rewards("-o", args->output, &(struct option_list){.items = &judge, .n = 1}, err);
    code = code ? code : file_open(&file, args->output, err); /* before hours go by */
    if (code == 0) {
        file_abort(&file);
    }
    free(partial);
    return code;
}

/* Opens what holds the records until all are there, and counts those that it holds. */
static int open_partial(struct judging *g, struct genarm_error *err) {
    const struct judge_args *args = g->args;
    struct partial_run run = {
        .output = args->output, .command = "genarm judge", .member = "verdict", .n = g->n, .anew = args->restart};
    uint64_t seed = (uint64_t)args->seed;
    json_t *settings = NULL;
    int code = settings_options(&settings, judge_options, sizeof judge_options / sizeof *judge_options, args, not_compared, err);
    if (code == 0 && judge_spec_is_program(args->judge)) {
        code = json_object_set_new(settings, "--judge", text_json(args->judge)) == 0 ? 0 : error_nomem(err, "settings");
    } else if (code == 0) {
        code = rewards_add_setting(settings, "--judge", args->judge, err);
    }
    run.settings = settings;
    code = code ? code : partial_open(&g->partial, &run, &seed, err);
    json_decref(settings);
    for (size_t i = 0; i < g->n && code == 0; i++) {
        json_t *record = NULL;
        code = partial_has(&g->partial, i) ? partial_read(&g->partial, i, &record, err) : 0;
        if (record) {
            count(&g->tally, record);
            g->n_done++;
        }
        json_decref(record);
    }
    if (code == 0 && g->n_done) {
        note("%zu of %zu pairs are judged in %s", g->n_done, g->n, g->partial.journal.path);
    }
    return code;
}

static void add_pair(struct judging *g, size_t number) {
    const struct judge_answer_record *a = &g->files[0].items[number], *b = &g->files[1].items[g->match[number]];
    g->numbers[g->n_pending] = number;
    g->pairs[g->n_pending++] = (struct judge_pair){.messages = a->messages,
                                                   .n_messages = a->n_messages,
                                                   .texts = {a->text, b->text},
                                                   .finished = {a->finished, b->finished},
                                                   .tokens = {a->tokens, b->tokens},
                                                   .n_tokens = {a->n_tokens, b->n_tokens},
                                                   .number = number};
}

static int prepare(struct judging *g, struct genarm_error *err) {
    const struct judge_args *args = g->args;
    int code = check_usage(args, err);
    for (size_t i = 0; i < 2 && code == 0; i++) {
        code = judge_answers_read(&g->files[i], args->files.items[i], err);
    }
    g->n = g->files[0].n;
    g->match = calloc(g->n + 1, sizeof *g->match);
    g->numbers = calloc(g->n + 1, sizeof *g->numbers);
    g->pairs = calloc(g->n + 1, sizeof *g->pairs);
    g->waiting = calloc(g->n + 1, sizeof *g->waiting);
    if (code == 0 && !(g->match && g->numbers && g->pairs && g->waiting)) {
        code = error_nomem(err, "pairs");
    }
    code = code ? code : judge_answers_match(g->match, &g->files[0], &g->files[1], err);
    if (code == 0 && keeps(g)) {
        code = check_output(args, err);
        code = code ? code : open_partial(g, err);
    }
    for (size_t i = 0; i < g->n && code == 0; i++) {
        if (!partial_has(&g->partial, i) && !is_unanswered(g, i)) {
            add_pair(g, i);
        }
    }
    if (code == 0 && judge_spec_needs_base(args->judge)) {
        code = load_model(&g->base, &args->model, err);
    }
    struct judge_params params = params_from(args);
    const size_t *c = g->tally.counts; /* of an earlier process */
    params.source.judge.answered = c[JUDGE_A] + c[JUDGE_B] + c[JUDGE_TIE] > 0;
    return code ? code : judge_new(&g->judge, args->judge, g->base, &params, err);
}

/* ---- after ---- */

static double fraction(double part, size_t whole) { return whole ? part / (double)whole : NAN; }

static json_t *fraction_json(double x) { return isnan(x) ? json_null() : json_rounded(x, 6); }

static double cost(const struct judge_args *args, const struct genarm_judge_stats *s) {
    return 1e-6 * (args->price_in * (double)s->prompt_tokens + args->price_out * (double)s->completion_tokens);
}

static json_t *summary_json(const struct judging *g, const struct genarm_judge_stats *s) {
    const struct judge_args *args = g->args;
    const struct tally *t = &g->tally;
    const size_t *c = t->counts, n = c[JUDGE_A] + c[JUDGE_B] + c[JUDGE_TIE];
    const bool priced = args->price_in > 0 || args->price_out > 0;
    return json_pack("{s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o*}", "judge",
                     text_json(judge_name(g->judge)), "a", text_json(args->files.items[0]), "b",
                     text_json(args->files.items[1]), "pairs", (json_int_t)g->n, "win", (json_int_t)c[JUDGE_A], "tie",
                     (json_int_t)c[JUDGE_TIE], "lose", (json_int_t)c[JUDGE_B], "invalid", (json_int_t)c[JUDGE_INVALID],
                     "win_rate", fraction_json(fraction((double)c[JUDGE_A] + 0.5 * (double)c[JUDGE_TIE], n)), "preference",
                     fraction_json(fraction(t->preference, n)), "consistency",
                     fraction_json(fraction((double)t->n_agree, t->n_twice)), "requests", (json_int_t)s->n_requests, "retries",
                     (json_int_t)s->n_retries, "cached", (json_int_t)s->n_cached, "refused", (json_int_t)s->n_refused,
                     "cut", (json_int_t)s->n_cut, "prompt_tokens", (json_int_t)s->prompt_tokens, "completion_tokens",
                     (json_int_t)s->completion_tokens, "cost", priced ? json_rounded(cost(args, s), 6) : NULL);
}

static int say_summary(const struct judging *g, struct genarm_error *err) {
    const struct judge_args *args = g->args;
    const struct genarm_judge_stats s = judge_get_stats(g->judge);
    const struct tally *t = &g->tally;
    const size_t *c = t->counts, n = c[JUDGE_A] + c[JUDGE_B] + c[JUDGE_TIE];
    const double share = n ? 100 / (double)n : 0;
    note("%s against %s: %zu won (%.1f %%), %zu tied (%.1f %%), %zu lost (%.1f %%), %zu invalid", args->files.items[0],
         args->files.items[1], c[JUDGE_A], share * (double)c[JUDGE_A], c[JUDGE_TIE], share * (double)c[JUDGE_TIE], c[JUDGE_B],
         share * (double)c[JUDGE_B], c[JUDGE_INVALID]);
    if (t->n_unanswered) {
        note("%zu pairs are invalid: a prompt has no answer", t->n_unanswered);
    }
    if (t->n_long) {
        note("%zu pairs are invalid: an answer does not fit into the context (-c)", t->n_long);
    }
    if (t->n_twice) {
        note("%zu of %zu verdicts are the same in both orders", t->n_agree, t->n_twice);
    }
    if (s.n_requests || s.n_cached) {
        note("%lld requests, %lld of them again, %lld refused; %lld replies from the cache; %lld tokens of prompts, %lld of "
             "replies",
             (long long)s.n_requests, (long long)s.n_retries, (long long)s.n_refused, (long long)s.n_cached,
             (long long)s.prompt_tokens, (long long)s.completion_tokens);
    }
    note_cut(&s, judge_name(g->judge), &args->chat);
    if (args->price_in > 0 || args->price_out > 0) {
        note("cost: %.4f", cost(args, &s));
    }
    return args->json ? print_json(stdout, summary_json(g, &s), err) : 0;
}

static int write_all(struct judging *g, struct genarm_error *err) {
    struct file_writer file;
    int code = file_open(&file, g->args->output, err);
    if (code) {
        return code;
    }
    for (size_t i = 0; i < g->n && code == 0; i++) {
        code = partial_print(&g->partial, i, file.stream, err);
    }
    if (code) {
        file_abort(&file);
        return code;
    }
    code = file_commit(&file, err);
    return code ? code : partial_remove(&g->partial, err);
}

/* ---- the command ---- */

/* What is kept is of no use: the next process asks again. */
static void drop_all(struct judging *g) {
    if (keeps(g)) {
        (void)partial_remove(&g->partial, NULL); /* there is an error to tell already */
        g->n_done = 0;
    }
}

/* Nothing is kept of a run that was refused all it asked. */
static int check_answered(struct judging *g, struct genarm_error *err) {
    const struct genarm_judge_stats stats = judge_get_stats(g->judge);
    const int code = check_refused(&stats, judge_name(g->judge), err);
    if (code) {
        drop_all(g);
    }
    return code;
}

static int judge_all(struct judging *g, struct genarm_error *err) {
    const struct judge_batch batch = {.pairs = g->pairs, .n = g->n_pending, .take = take, .user = g};
    size_t at = 0;
    const bool shown = keeps(g) || !isatty(STDOUT_FILENO); /* not among the records */
    progress_start(&g->progress, "judging", "pairs", (int64_t)g->n, (int64_t)g->n_done);
    g->progress.terminal = g->progress.terminal && shown;
    const bool resumed = g->n_done > 0;
    int code = take_unanswered(g, err);
    code = code ? code : judge_run(g->judge, &batch, &at, err);
    progress_end(&g->progress);
    if (code == GENARM_EMISMATCH) { /* the verdicts of a program may be those of other pairs */
        drop_all(g);
    }
    if (code == 0 && !resumed) {
        at = g->n_pending;
        code = check_answered(g, err);
    }
    if (code == GENARM_ECANCELED && interrupt_signal()) {
        if (keeps(g)) {
            note("%zu of %zu pairs are judged; the same command goes on from %s", g->n_done, g->n, g->partial.journal.path);
        }
        return 128 + interrupt_signal();
    }
    if (code && code != GENARM_ECANCELED && at < g->n_pending) {
        error_at(err, code, "%s", g->files[0].items[g->numbers[at]].where);
    }
    if (code && keeps(g) && g->n_done) {
        note("%zu of %zu pairs are judged; the same command goes on from %s", g->n_done, g->n, g->partial.journal.path);
    }
    return code;
}

static int judge_command_run(const void *arguments, struct genarm_error *err) {
    struct judging g = {.args = arguments};
    log_to_stderr(g.args->model.verbose);
    interrupt_catch();
    int code = prepare(&g, err);
    code = code ? code : judge_all(&g, err);
    if (code == 0 && keeps(&g)) {
        code = write_all(&g, err);
    }
    code = code ? code : say_summary(&g, err);
    code = code ? code : flush_output(stdout, err);
    for (size_t i = 0; i < g.n && g.waiting; i++) {
        json_decref(g.waiting[i]);
    }
    free(g.waiting);
    free(g.pairs);
    free(g.numbers);
    free(g.match);
    partial_close(&g.partial);
    judge_free(g.judge);
    genarm_model_free(g.base);
    judge_answers_free(&g.files[0]);
    judge_answers_free(&g.files[1]);
    return code;
}

const struct command command_judge = {
    .name = "judge",
    .summary = "which of two files' answers are better, by a model, a program or a reward",
    .usage = "[options] --judge SPEC A.jsonl B.jsonl",
    .details =
        "Compares the answers of A with those of B to the same prompts and prints a JSON record for each pair; a summary of how "
        "often A won is printed to stderr. A model that compares is asked about each pair in both orders: A wins when it is "
        "preferred in both, two verdicts that differ are a tie, and a reply without a verdict makes the pair invalid; nothing is "
        "guessed. The key of a server is read from the environment only.",
    .examples = "genarm judge --judge openai:gpt-4o@https://api.openai.com/v1 guided.jsonl base.jsonl -o verdicts.jsonl\n"
                "genarm judge --judge openai:local@http://127.0.0.1:8080 --judge-cache replies a.jsonl b.jsonl -o v.jsonl\n"
                "genarm judge --judge 'pairwise:python3 mine.py' a.jsonl b.jsonl\n"
                "genarm judge --judge rm:reward.gguf --tie-margin 0.1 a.jsonl b.jsonl -o v.jsonl",
    .options = judge_options,
    .n_options = sizeof judge_options / sizeof *judge_options,
    .args_size = sizeof(struct judge_args),
    .run = judge_command_run,
};
