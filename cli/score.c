/* genarm score: log-probabilities of a given response, token by token, rewards of it as a whole, or how well preference
 * pairs are ranked. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "commands.h"
#include "pairs.h"
#include "partial.h"
#include "preferences.h"
#include "prompts.h"
#include "score.h"
#include "scores.h"
#include "settings.h"
#include "terminal.h"

static const struct option score_options[] = {
    {OPTION_GROUP, .help = "Text"},
    {OPTION_TEXT, "-p --prompt", "TEXT", offsetof(struct score_args, prompt), .help = "the user's message"},
    {OPTION_FILE, "-f --file", "FILE", offsetof(struct score_args, file), .dash = DASH_STDIN,
     .help = "read the user's message from a file; -: from stdin"},
    {OPTION_TEXT, "-sys --system-prompt", "TEXT", offsetof(struct score_args, system), .help = "system message"},
    {OPTION_TEXT, "-r --response", "TEXT", offsetof(struct score_args, response), .help = "the response to score"},
    {OPTION_FLAG, "--no-eos", "", offsetof(struct score_args, open),
     .help = "the response was cut: do not score the token that ends a turn"},
    {OPTION_FILES, "-d --data", "PAIRS", offsetof(struct score_args, pairs),
     .help =
         "score pairs instead: prints how often the chosen response has the larger reward, and by how much, by the sum "
         "of the tokens' log-probabilities and by their mean; repeatable. " PAIRS_HELP},
    {OPTION_FLAG, "--per-pair", "", offsetof(struct score_args, per_pair),
     .help = "with -d, --reward and -o: write the rewards of every pair, a JSON record each: index, chosen, rejected. index "
             "counts all pairs that are read, also those that cannot be used"},
    OPTIONS_FORMAT(struct score_args),
    {OPTION_FILE, "--answers", "FILE.jsonl", offsetof(struct score_args, answers),
     .help = "give every answer of a file the rewards of --reward: records of genarm generate, {\"prompt\" or \"messages\", "
             "\"response\"} with \"system\", \"finish_reason\" and \"id\" if wanted, or AlpacaEval's JSON array of "
             "{\"instruction\", \"output\"}; prints JSON records in the same order: index, id, rewards"},
    {OPTION_GROUP, .help = "Output"},
    {OPTION_FLAG, "--json", "", offsetof(struct score_args, json),
     .help = "print a JSON record; of --answers with -o, the means as one"},
    {OPTION_FILE, "-o --output", "FILE", offsetof(struct score_args, output), .dash = DASH_STDOUT,
     .help = "write the records of --answers or --per-pair to a file instead of stdout, which gets the means; those of "
             "--answers are kept in FILE.partial until all are there, and the same command goes on from there, whatever ended "
             "it"},
    {OPTION_FLAG, "--restart", "", offsetof(struct score_args, restart),
     .help = "with --answers and -o: begin anew, also where FILE.partial has rewards"},
    OPTIONS_GUIDE(struct score_args),
    {OPTION_GROUP, .help = "Rewards of whole responses"},
    OPTIONS_REWARDS(struct score_args, REWARD_PLAIN_FORM,
                    "give the response, or the pairs' responses, one number; without --arm nothing else is computed. "),
    OPTIONS_MODEL(struct score_args),
};

/* What scores: the guide, and the rewards of whole responses. */
struct scorers {
    struct setup setup;
    struct reward_set rewards;
    bool guided; /* log-probabilities are wanted too */
};

/* messages[2]: a user's message, after a system message where there is one. Returns how many they are. */
static size_t single_turn(struct genarm_message *messages, const char *text, const char *system) {
    size_t n = 0;
    if (system && *system) {
        messages[n++] = (struct genarm_message){"system", system};
    }
    messages[n++] = (struct genarm_message){"user", text};
    return n;
}

/* ---- one response ---- */

/* values[s->rewards.n]: of the response as a whole. */
static int print_scores(const struct scores *scores, const double *values, const struct score_args *args,
                        const struct scorers *s, const char *prompt, struct genarm_error *err) {
    const struct setup *setup = &s->setup;
    if (args->json) {
        json_t *facts = s->guided ? scores_json(scores, setup) : json_object();
        json_t *record = json_pack("{s:o, s:o, s:o, s:o*}", "prompt", text_json(prompt), "response",
                                   text_json(args->response), "model", text_json(setup_model_name(setup)),
                                   "preferences", preferences_json(setup, NULL));
        bool ok = facts && record && json_object_update(record, facts) == 0;
        ok = ok && (!s->rewards.n || json_object_set_new(record, "trajectory", rewards_json(&s->rewards, values, 1)) == 0);
        json_decref(facts);
        if (!ok) {
            json_decref(record);
            record = NULL;
        }
        return print_json(stdout, record, err);
    }
    if (s->guided && terminal_colors(stdout) && scores->n_arms > 0) {
        scores_print_colored(stdout, scores, setup);
    } else if (s->guided) {
        scores_print_table(stdout, scores, setup);
    }
    for (size_t i = 0; i < s->rewards.n; i++) {
        if (isnan(values[i])) {
            printf("%s: no reward of the response, the judge abstained\n", rewards_name(&s->rewards, i));
        } else {
            printf("%s: reward of the response %.4f\n", rewards_name(&s->rewards, i), values[i]);
        }
    }
    return 0;
}

static int score_response(const struct score_args *args, struct scorers *s, const char *prompt,
                          struct genarm_error *err) {
    struct genarm_session *session = NULL;
    struct scores scores = {0};
    struct genarm_message messages[2];
    const size_t n = single_turn(messages, prompt, args->system);
    const struct genarm_sample sample = {messages, n, args->response, !args->open, NULL, 0};
    double *values = calloc(s->rewards.n + 1, sizeof *values);
    int code = values ? 0 : error_nomem(err, "scores");
    if (code == 0 && s->guided) {
        code = genarm_session_new(&session, s->setup.guide, NULL, err);
        code = code ? code : scores_compute(&scores, &s->setup, &args->guide, session, &sample, err);
    }
    if (code == 0) {
        code = rewards_compute(&s->rewards, &sample, 1, values, err);
        code = code ? code : rewards_finish(&s->rewards, err);
        code = code ? code : rewards_check_refused(&s->rewards, err);
    }
    if (code == 0) {
        code = print_scores(&scores, values, args, s, prompt, err);
    }
    free(values);
    scores_deinit(&scores);
    genarm_session_free(session);
    return code;
}

/* ---- pairs ---- */

struct tally {
    double right;  /* pairs ranked as labelled; a tie counts half */
    double margin; /* sum of chosen - rejected, nats */
    int64_t n_abstained; /* pairs that are not counted: a response has no reward */
};

struct ranking {
    int64_t n;
    struct tally sums;  /* of the tokens' log-probabilities: the reward */
    struct tally means; /* over the tokens, as a length-normalised loss sees it */
};

static void add(struct tally *t, double chosen, double rejected) {
    if (isnan(chosen) || isnan(rejected)) {
        t->n_abstained++;
        return;
    }
    t->right += chosen > rejected ? 1 : chosen < rejected ? 0 : 0.5;
    t->margin += chosen - rejected;
}

/* Rewards of responses of n[0] and n[1] tokens. */
static void rank(struct ranking *r, double chosen, double rejected, const double n[2]) {
    r->n++;
    add(&r->sums, chosen, rejected);
    add(&r->means, chosen / n[0], rejected / n[1]);
}

/* What ranks pairs: the base, the guided mixture, each reward model and that minus its reference. */
struct rankings {
    struct ranking base, guided;
    struct ranking *arms, *differences; /* [n_arms] */
    struct tally *rewards;              /* [n] of whole responses */
    double *values;                     /* [2, n] of one pair's responses */
    int64_t n, n_long, n_dropped;       /* pairs that are ranked, that do not fit, that say nothing */
    FILE *out;                          /* of --per-pair, or NULL */
};

static int read_pairs(struct pair_list *pairs, const struct score_args *args, struct genarm_error *err) {
    const struct pref_params params = formats_from(&args->formats);
    int code = 0;
    for (size_t i = 0; i < args->pairs.n && code == 0; i++) {
        code = pairs_read(pairs, args->pairs.items[i], &params, err);
    }
    if (code == 0 && pairs->n == 0) {
        code = error_set(err, GENARM_EFORMAT, "none of %lld pairs can be used", (long long)pairs->n_read);
        code = error_hint(err, code, "genarm data says why");
    }
    return code;
}

static void rank_pair(struct rankings *r, const struct scores *chosen, const struct scores *rejected) {
    const double n[2] = {chosen->n > 0 ? (double)chosen->n : 1, rejected->n > 0 ? (double)rejected->n : 1};
    rank(&r->base, chosen->base, rejected->base, n);
    rank(&r->guided, chosen->guided, rejected->guided, n);
    for (size_t i = 0; i < chosen->n_arms; i++) {
        rank(&r->arms[i], chosen->arms[i], rejected->arms[i], n);
        rank(&r->differences[i], chosen->arms[i] - chosen->reference[i], rejected->arms[i] - rejected->reference[i], n);
    }
}

/* A pair that does not fit has rewards that are null. */
static int print_pair(const struct rankings *r, const struct reward_set *rewards, int64_t number, struct genarm_error *err) {
    json_t *record = json_pack("{s:I, s:o, s:o}", "index", (json_int_t)number, "chosen", rewards_json(rewards, r->values, 2),
                               "rejected", rewards_json(rewards, r->values + 1, 2));
    return print_json(r->out, record, err);
}

static int score_pair(struct rankings *r, const struct score_args *args, const struct scorers *s,
                      struct genarm_session *session, const struct pair *pair, struct genarm_error *err) {
    struct scores scores[2] = {0};
    struct genarm_message *messages = NULL;
    size_t n = 0;
    int code = pair_messages(&messages, &n, pair, args->system, err);
    const struct genarm_sample samples[] = {{messages, n, pair->preference.chosen, !args->open, NULL, 0},
                                            {messages, n, pair->preference.rejected, !args->open, NULL, 0}};
    if (code == 0) {
        code = rewards_compute(&s->rewards, samples, 2, r->values, err);
    }
    for (int side = 0; side < 2 && code == 0 && s->guided; side++) {
        code = scores_compute(&scores[side], &s->setup, &args->guide, session, &samples[side], err);
    }
    free(messages);
    if (code == 0 && s->guided) {
        rank_pair(r, &scores[0], &scores[1]);
    }
    for (size_t i = 0; i < s->rewards.n && code == 0; i++) {
        add(&r->rewards[i], r->values[2 * i], r->values[2 * i + 1]);
    }
    r->n += code == 0;
    scores_deinit(&scores[0]);
    scores_deinit(&scores[1]);
    if (code != GENARM_ECONTEXT) {
        return error_at(err, code, "%s", pair->where);
    }
    for (size_t k = 0; k < 2 * s->rewards.n; k++) {
        r->values[k] = NAN;
    }
    r->n_long++;
    return 0;
}

static json_t *tally_json(const struct tally *t, int64_t n) {
    const double counted = (double)(n - t->n_abstained);
    json_t *accuracy = counted > 0 ? json_rounded(t->right / counted, 6) : json_null();
    json_t *margin = counted > 0 ? json_rounded(t->margin / counted, 6) : json_null();
    json_t *abstained = t->n_abstained > 0 ? json_integer((json_int_t)t->n_abstained) : NULL;
    return json_pack("{s:o, s:o, s:o*}", "accuracy", accuracy, "margin", margin, "abstained", abstained);
}

static json_t *ranking_json(const struct ranking *r) {
    json_t *json = tally_json(&r->sums, r->n);
    json_object_set_new(json, "per_token", tally_json(&r->means, r->n));
    return json;
}

static json_t *rewards_ranking_json(const struct rankings *r, const struct reward_set *rewards) {
    json_t *object = json_object();
    for (size_t i = 0; i < rewards->n && object; i++) {
        json_object_set_new(object, rewards_name(rewards, i), tally_json(&r->rewards[i], r->n));
    }
    return object;
}

static json_t *rankings_json(const struct rankings *r, const struct scorers *s) {
    const struct setup *setup = &s->setup;
    json_t *record = json_pack("{s:I, s:I, s:I, s:o}", "pairs", (json_int_t)r->n, "too_long", (json_int_t)r->n_long,
                               "dropped", (json_int_t)r->n_dropped, "model", text_json(setup_model_name(setup)));
    if (record && s->rewards.n) {
        json_object_set_new(record, "trajectory", rewards_ranking_json(r, &s->rewards));
    }
    if (!record || !s->guided) {
        return record;
    }
    json_t *arms = json_object();
    for (size_t i = 0; i < setup->n_arms && arms; i++) {
        json_t *arm = ranking_json(&r->arms[i]);
        json_object_set_new(arm, "minus_reference", ranking_json(&r->differences[i]));
        json_object_set_new(arms, genarm_guide_arm_name(setup->guide, (int32_t)i), arm);
    }
    json_t *preferences = preferences_json(setup, NULL);
    if (preferences) {
        json_object_set_new(record, "preferences", preferences);
    }
    json_object_set_new(record, "base", ranking_json(&r->base));
    json_object_set_new(record, "arms", arms);
    json_object_set_new(record, "guided", ranking_json(&r->guided));
    return record;
}

static void print_ranking(const char *name, const char *suffix, const struct ranking *r) {
    char label[80];
    snprintf(label, sizeof label, "%s%s", name, suffix);
    const double n = (double)r->n;
    printf("%-32s%10.3f%12.3f%12.3f%12.3f\n", label, r->sums.right / n, r->sums.margin / n, r->means.right / n,
           r->means.margin / n);
}

static void print_rankings(const struct rankings *r, const struct setup *setup) {
    char heading[64];
    snprintf(heading, sizeof heading, "%lld pairs", (long long)r->base.n);
    printf("%-32s%22s%24s\n", "", "sum of tokens", "mean of tokens");
    printf("%-32s%10s%12s%12s%12s\n", heading, "accuracy", "margin", "accuracy", "margin");
    print_ranking("base", "", &r->base);
    for (size_t i = 0; i < setup->n_arms; i++) {
        const char *name = genarm_guide_arm_name(setup->guide, (int32_t)i);
        print_ranking(name, "", &r->arms[i]);
        if (setup->adapters[i]) {
            print_ranking(name, " - reference", &r->differences[i]);
        }
    }
    if (setup->n_arms) {
        print_ranking("guided", "", &r->guided);
    }
}

static void print_reward_rankings(const struct rankings *r, const struct reward_set *rewards) {
    char heading[64];
    snprintf(heading, sizeof heading, "%lld pairs, whole responses", (long long)r->n);
    printf("%-32s%10s%12s\n", heading, "accuracy", "margin");
    for (size_t i = 0; i < rewards->n; i++) {
        const struct tally *t = &r->rewards[i];
        const double n = (double)(r->n - t->n_abstained);
        if (n > 0) {
            printf("%-32s%10.3f%12.3f", rewards_name(rewards, i), t->right / n, t->margin / n);
        } else {
            printf("%-32s%10s%12s", rewards_name(rewards, i), "-", "-");
        }
        if (t->n_abstained) {
            printf("  without %lld pairs in which it abstained", (long long)t->n_abstained);
        }
        putchar('\n');
    }
}

static int score_all(struct rankings *r, const struct score_args *args, const struct scorers *s,
                     const struct pair_list *pairs, struct genarm_error *err) {
    struct genarm_session *session = NULL;
    struct progress progress;
    int code = s->guided ? genarm_session_new(&session, s->setup.guide, NULL, err) : 0;
    progress_start(&progress, "scoring", "pairs", (int64_t)pairs->n, 0);
    for (size_t i = 0; i < pairs->n && code == 0 && !interrupt_signal(); i++) {
        code = score_pair(r, args, s, session, &pairs->items[i], err);
        if (code == 0 && r->out) {
            code = print_pair(r, &s->rewards, pairs->items[i].number, err);
        }
        progress_update(&progress, (int64_t)i + 1, NULL);
    }
    progress_end(&progress);
    genarm_session_free(session);
    code = code == GENARM_ECANCELED && interrupt_signal() ? 0 : code; /* what was ranked before is shown */
    if (code == 0 && r->n == 0 && !interrupt_signal()) {
        code = error_hint(err, error_set(err, GENARM_ECONTEXT, "no pair fits into the context"), "raise it with -c");
    }
    if (code || interrupt_signal()) {
        return code;
    }
    code = rewards_finish(&s->rewards, err);
    return code ? code : rewards_check_refused(&s->rewards, err);
}

static int show_rankings(const struct rankings *r, const struct score_args *args, const struct scorers *s,
                         struct genarm_error *err) {
    if (r->n_long) {
        note("%lld pairs do not fit into the context and are left out", (long long)r->n_long);
    }
    if (r->n == 0) {
        return 0;
    }
    if (args->json) {
        return print_json(stdout, rankings_json(r, s), err);
    }
    if (s->guided) {
        print_rankings(r, &s->setup);
    }
    if (s->rewards.n) {
        print_reward_rankings(r, &s->rewards);
    }
    return 0;
}

/* With the records of --per-pair in their file, which appears when all are there. */
static int score_to_file(struct rankings *r, const struct score_args *args, const struct scorers *s,
                         const struct pair_list *pairs, struct genarm_error *err) {
    struct file_writer file;
    int code = file_open(&file, args->output, err);
    if (code) {
        return code;
    }
    r->out = file.stream;
    code = score_all(r, args, s, pairs, err);
    if (code == 0 && !interrupt_signal()) {
        return file_commit(&file, err);
    }
    file_abort(&file);
    return code;
}

static int score_pairs(const struct score_args *args, const struct scorers *s, const struct pair_list *pairs,
                       struct genarm_error *err) {
    struct rankings r = {.n_dropped = pairs->n_read - (int64_t)pairs->n};
    const size_t n_arms = s->setup.n_arms, n_rewards = s->rewards.n;
    r.arms = calloc(2 * n_arms + 1, sizeof *r.arms);
    r.rewards = calloc(n_rewards + 1, sizeof *r.rewards);
    r.values = calloc(2 * n_rewards + 1, sizeof *r.values);
    int code = r.arms && r.rewards && r.values ? 0 : error_nomem(err, "scores");
    if (code == 0) {
        r.differences = r.arms + n_arms;
        code = args->per_pair ? score_to_file(&r, args, s, pairs, err) : score_all(&r, args, s, pairs, err);
    }
    code = code ? code : show_rankings(&r, args, s, err);
    free(r.values);
    free(r.rewards);
    free(r.arms);
    return code;
}

/* ---- the command ---- */

/* Another process may go on with rewards that were begun under other values of these; files of --reward have hashes. */
static const char *const not_compared[] = {"--output", "--restart", "--json", NULL};

int score_settings(json_t **out, const struct score_args *args, struct genarm_error *err) {
    json_t *settings = NULL;
    int code = settings_options(&settings, score_options, sizeof score_options / sizeof *score_options, args, not_compared, err);
    for (size_t i = 0; i < args->rewards.specs.n && code == 0; i++) {
        code = rewards_add_files(settings, args->rewards.specs.items[i], err);
    }
    if (code) {
        json_decref(settings);
        return code;
    }
    *out = settings;
    return 0;
}

int score_check_output(const struct score_args *args, struct genarm_error *err) {
    struct file_writer file;
    char *partial = partial_path(args->output);
    int code = partial ? 0 : error_nomem(err, "a file name");
    const char *const inputs[] = {args->answers, args->model.path, args->rewards.chat.prompt};
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs && code == 0; i++) {
        code = keep_input("-o", args->output, inputs[i], err);
        code = code ? code : keep_input("-o", partial, inputs[i], err);
    }
    for (size_t i = 0; i < args->pairs.n && code == 0; i++) {
        code = keep_input("-o", args->output, args->pairs.items[i], err);
    }
    code = code ? code : keep_rewards("-o", args->output, &args->rewards.specs, err);
    code = code ? code : file_open(&file, args->output, err); /* before hours go by */
    if (code == 0) {
        file_abort(&file);
    }
    free(partial);
    return code;
}

static int check_args(const struct score_args *args, struct genarm_error *err) {
    const bool single = args->prompt || args->file || args->response;
    if (args->answers && (single || args->pairs.n || args->guide.arms.n)) {
        return usage_error(err, "--answers", "-p, -f, -r, -d and --arm cannot be given as well");
    }
    if (args->answers && args->rewards.specs.n == 0) {
        return usage_error(err, "--answers", "a reward is missing: --reward SPEC");
    }
    if (args->pairs.n && single) {
        return usage_error(err, "-d", "-p, -f and -r cannot be given as well");
    }
    if (args->per_pair && !(args->pairs.n && args->rewards.specs.n && args->output)) {
        return usage_error(err, "--per-pair", "it needs -d PAIRS, --reward SPEC and -o FILE");
    }
    if (args->output && !args->per_pair && !args->answers) {
        return usage_error(err, "-o", "it is for the records of --answers or --per-pair");
    }
    if (args->restart && !(args->answers && args->output)) {
        return usage_error(err, "--restart", "there is nothing to begin anew without --answers and -o");
    }
    if (!args->pairs.n && !args->answers && !args->response) {
        return usage_error(err, "-r", "a response is missing: -r TEXT, or -d PAIRS, or --answers FILE");
    }
    return args->per_pair ? score_check_output(args, err) : 0;
}

static int score_run(const void *arguments, struct genarm_error *err) {
    const struct score_args *args = arguments;
    struct scorers scorers = {.guided = args->rewards.specs.n == 0 || args->guide.arms.n > 0};
    struct pair_list pairs = {0};
    char *prompt = NULL;
    log_to_stderr(args->model.verbose);
    int code = check_args(args, err);
    if (code == 0 && args->answers) {
        return score_answers(args, err);
    }
    if (code == 0) {
        code = args->pairs.n ? read_pairs(&pairs, args, err) : prompt_text(&prompt, args->prompt, args->file, err);
    }
    if (code == 0) {
        code = setup_load(&scorers.setup, &args->model, &args->guide, 1, err);
    }
    if (code == 0) {
        code = rewards_load(&scorers.rewards, &args->rewards, false, NULL, scorers.setup.base, &args->model, &args->guide, err);
    }
    interrupt_catch();
    if (code == 0) {
        code = args->pairs.n ? score_pairs(args, &scorers, &pairs, err) : score_response(args, &scorers, prompt, err);
        rewards_note_cut(&scorers.rewards, &args->rewards.chat);
    }
    if (code == 0) {
        code = flush_output(stdout, err);
    }
    free(prompt);
    pairs_free(&pairs);
    rewards_free(&scorers.rewards);
    setup_free(&scorers.setup);
    if (code == GENARM_ECANCELED && interrupt_signal()) {
        code = 0;
    }
    return code ? code : interrupt_signal() ? 128 + interrupt_signal() : 0;
}

const struct command command_score = {
    .name = "score",
    .summary = "log-probabilities or rewards of a response, or how well pairs are ranked",
    .usage = "[options] (-p TEXT -r TEXT | -d PAIRS | --answers FILE.jsonl)",
    .details =
        "Shows what each part thinks of a given response: the log-probability of every token, in nats, under the base, "
        "under each reward model, under that model without its adapter (the reference) and under the guided mixture. "
        "A reward is the sum over the tokens. On a terminal the tokens are coloured by reward minus reference, "
        "elsewhere a table is printed. --reward gives the response one number instead: by a reward model of whole "
        "responses, an ARM, a classifier or a program. --answers gives all answers of a file such numbers.",
    .examples = "genarm score --arm cheerful.gguf -p \"How was it?\" -r \"Wonderful, thank you!\"\n"
                "genarm score --arm cheerful.gguf:1 -f question.txt -r \"It was fine.\" --json\n"
                "genarm score --arm cheerful.gguf --arm concise.gguf -d test.jsonl\n"
                "genarm score --reward helpful.gguf -d test.jsonl\n"
                "genarm score --reward ratio:kind=cheerful.gguf --reward \"cmd:short=./short.sh\" -d test.jsonl\n"
                "genarm score --reward arm:cheerful.gguf -d test.jsonl --per-pair -o pairs.rewards.jsonl\n"
                "genarm score --reward helpful.gguf --reward \"cmd:./short.sh\" --answers out.jsonl -o rewards.jsonl",
    .options = score_options,
    .n_options = sizeof score_options / sizeof *score_options,
    .args_size = sizeof(struct score_args),
    .run = score_run,
};
