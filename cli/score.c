/* genarm score: log-probabilities of a given response, token by token, or rewards of it as a whole; and the command. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "commands.h"
#include "partial.h"
#include "preferences.h"
#include "prompts.h"
#include "score.h"
#include "scores.h"
#include "settings.h"
#include "tell.h"
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

/* ---- the command ---- */

/* Another process may go on with rewards that were begun under other values of these; --reward is compared apart. */
static const char *const not_compared[] = {"--output", "--restart", "--json", "--reward", NULL};

int score_settings(json_t **out, const struct score_args *args, struct genarm_error *err) {
    json_t *settings = NULL;
    int code = settings_options(&settings, score_options, sizeof score_options / sizeof *score_options, args, not_compared, err);
    for (size_t i = 0; i < args->rewards.specs.n && code == 0; i++) {
        code = rewards_add_setting(settings, "--reward", args->rewards.specs.items[i], err);
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
        code = args->pairs.n ? score_read_pairs(&pairs, args, err) : prompt_text(&prompt, args->prompt, args->file, err);
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
