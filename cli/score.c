/* genarm score: log-probabilities of a given response, token by token, or how well preference pairs are ranked. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/progress.h"
#include "commands.h"
#include "prompts.h"
#include "records.h"
#include "scores.h"
#include "terminal.h"
#include "text.h"

struct score_args {
    struct model_args model;
    struct guide_args guide;
    const char *prompt, *file, *response, *system;
    struct option_list pairs;
    bool open, json;
};

static const struct option score_options[] = {
    {OPTION_GROUP, .help = "Text"},
    {OPTION_TEXT, "-p --prompt", "TEXT", offsetof(struct score_args, prompt), .help = "the user's message"},
    {OPTION_FILE, "-f --file", "FILE", offsetof(struct score_args, file),
     .help = "read the user's message from a file; -: from stdin"},
    {OPTION_TEXT, "-sys --system-prompt", "TEXT", offsetof(struct score_args, system), .help = "system message"},
    {OPTION_TEXT, "-r --response", "TEXT", offsetof(struct score_args, response), .help = "the response to score"},
    {OPTION_FLAG, "--no-eos", "", offsetof(struct score_args, open),
     .help = "the response was cut: do not score the token that ends a turn"},
    {OPTION_FILES, "-d --data", "PAIRS.jsonl", offsetof(struct score_args, pairs),
     .help =
         "score pairs instead, records {\"prompt\", \"chosen\", \"rejected\"} with \"system\" if wanted: prints how "
         "often the chosen response has the larger reward, and by how much, by the sum of the tokens' "
         "log-probabilities and by their mean; repeatable"},
    {OPTION_FLAG, "--json", "", offsetof(struct score_args, json), .help = "print a JSON record"},
    OPTIONS_GUIDE(struct score_args),
    OPTIONS_MODEL(struct score_args),
};

static int new_prompt(struct genarm_session *session, const char *text, const char *system, struct genarm_error *err) {
    struct genarm_message messages[2];
    size_t n = 0;
    if (system && *system) {
        messages[n++] = (struct genarm_message){"system", system};
    }
    messages[n++] = (struct genarm_message){"user", text};
    return genarm_session_prompt(session, messages, n, err);
}

/* ---- one response ---- */

static int print_scores(const struct scores *scores, const struct score_args *args, const struct setup *setup,
                        const char *prompt, struct genarm_error *err) {
    if (args->json) {
        json_t *facts = scores_json(scores, setup);
        json_t *record = json_pack("{s:o, s:o, s:o}", "prompt", text_json(prompt), "response",
                                   text_json(args->response), "model", text_json(setup_model_name(setup)));
        bool ok = facts && record && json_object_update(record, facts) == 0;
        json_decref(facts);
        if (!ok) {
            json_decref(record);
            record = NULL;
        }
        return print_json(stdout, record, err);
    }
    if (terminal_colors(stdout) && scores->n_arms > 0) {
        scores_print_colored(stdout, scores, setup);
    } else {
        scores_print_table(stdout, scores, setup);
    }
    return 0;
}

static int score_response(const struct score_args *args, struct setup *setup, const char *prompt,
                          struct genarm_error *err) {
    struct genarm_session *session = NULL;
    struct scores scores = {0};
    int code = genarm_session_new(&session, setup->guide, NULL, err);
    if (code == 0) {
        code = new_prompt(session, prompt, args->system, err);
    }
    if (code == 0) {
        code = scores_compute(&scores, setup, session, args->response, args->open, err);
    }
    if (code == 0) {
        code = print_scores(&scores, args, setup, prompt, err);
    }
    scores_deinit(&scores);
    genarm_session_free(session);
    return code;
}

/* ---- pairs ---- */

struct tally {
    double right;  /* pairs ranked as labelled; a tie counts half */
    double margin; /* sum of chosen - rejected, nats */
};

struct ranking {
    int64_t n;
    struct tally sums;  /* of the tokens' log-probabilities: the reward */
    struct tally means; /* over the tokens, as a length-normalised loss sees it */
};

static void add(struct tally *t, double chosen, double rejected) {
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
    int64_t n_long;
};

static const char *const sides[] = {"chosen", "rejected"};

static int read_pairs(struct record_list *pairs, const struct score_args *args, struct genarm_error *err) {
    int code = 0;
    for (size_t i = 0; i < args->pairs.n && code == 0; i++) {
        code = records_read(pairs, args->pairs.items[i], err);
    }
    for (size_t i = 0; i < pairs->n && code == 0; i++) {
        const struct record *pair = &pairs->items[i];
        const char *text;
        code = json_get_string(&text, pair->value, "prompt", pair->where, err);
        for (int side = 0; side < 2 && code == 0; side++) {
            code = json_get_string(&text, pair->value, sides[side], pair->where, err);
        }
        if (code == 0) {
            code = json_opt_string(&text, pair->value, "system", NULL, pair->where, err);
        }
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

static int score_pair(struct rankings *r, const struct score_args *args, const struct setup *setup,
                      struct genarm_session *session, const struct record *pair, struct genarm_error *err) {
    struct scores scores[2] = {0};
    const char *prompt = json_string_value(json_object_get(pair->value, "prompt"));
    const char *system = json_string_value(json_object_get(pair->value, "system")); /* NULL where it is null */
    int code = 0;
    for (int side = 0; side < 2 && code == 0; side++) {
        code = new_prompt(session, prompt, system ? system : args->system, err);
        if (code == 0) {
            code = scores_compute(&scores[side], setup, session,
                                  json_string_value(json_object_get(pair->value, sides[side])), args->open, err);
        }
    }
    if (code == 0) {
        rank_pair(r, &scores[0], &scores[1]);
    }
    scores_deinit(&scores[0]);
    scores_deinit(&scores[1]);
    if (code != GENARM_ECONTEXT) {
        return error_at(err, code, "%s", pair->where);
    }
    r->n_long++;
    return 0;
}

static json_t *tally_json(const struct tally *t, int64_t n) {
    return json_pack("{s:o, s:o}", "accuracy", json_rounded(t->right / (double)n, 6), "margin",
                     json_rounded(t->margin / (double)n, 6));
}

static json_t *ranking_json(const struct ranking *r) {
    json_t *json = tally_json(&r->sums, r->n);
    json_object_set_new(json, "per_token", tally_json(&r->means, r->n));
    return json;
}

static json_t *rankings_json(const struct rankings *r, const struct setup *setup) {
    json_t *arms = json_object();
    for (size_t i = 0; i < setup->n_arms && arms; i++) {
        json_t *arm = ranking_json(&r->arms[i]);
        json_object_set_new(arm, "minus_reference", ranking_json(&r->differences[i]));
        json_object_set_new(arms, genarm_guide_arm_name(setup->guide, (int32_t)i), arm);
    }
    return json_pack("{s:I, s:I, s:o, s:o, s:o, s:o}", "pairs", (json_int_t)r->base.n, "too_long",
                     (json_int_t)r->n_long, "model", text_json(setup_model_name(setup)), "base", ranking_json(&r->base),
                     "arms", arms, "guided", ranking_json(&r->guided));
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

static int score_all(struct rankings *r, const struct score_args *args, const struct setup *setup,
                     const struct record_list *pairs, struct genarm_error *err) {
    struct genarm_session *session = NULL;
    struct progress progress;
    int code = genarm_session_new(&session, setup->guide, NULL, err);
    progress_start(&progress, "scoring", "pairs", (int64_t)pairs->n, 0);
    for (size_t i = 0; i < pairs->n && code == 0 && !interrupt_signal(); i++) {
        code = score_pair(r, args, setup, session, &pairs->items[i], err);
        progress_update(&progress, (int64_t)i + 1, NULL);
    }
    progress_end(&progress);
    genarm_session_free(session);
    if (code == 0 && r->base.n == 0 && !interrupt_signal()) {
        code = error_hint(err, error_set(err, GENARM_ECONTEXT, "no pair fits into the context"), "raise it with -c");
    }
    return code;
}

static int score_pairs(const struct score_args *args, const struct setup *setup, const struct record_list *pairs,
                       struct genarm_error *err) {
    struct rankings r = {0};
    r.arms = calloc(2 * setup->n_arms + 1, sizeof *r.arms);
    if (!r.arms) {
        return error_nomem(err, "scores");
    }
    r.differences = r.arms + setup->n_arms;
    int code = score_all(&r, args, setup, pairs, err);
    if (code == 0 && r.n_long) {
        note("%lld pairs do not fit into the context and are left out", (long long)r.n_long);
    }
    if (code == 0 && r.base.n > 0 && args->json) {
        code = print_json(stdout, rankings_json(&r, setup), err);
    } else if (code == 0 && r.base.n > 0) {
        print_rankings(&r, setup);
    }
    free(r.arms);
    return code;
}

/* ---- the command ---- */

static int check_args(const struct score_args *args, struct genarm_error *err) {
    bool single = args->prompt || args->file || args->response;
    if (args->pairs.n && single) {
        return usage_error(err, "-d", "-p, -f and -r cannot be given as well");
    }
    if (!args->pairs.n && !args->response) {
        return usage_error(err, "-r", "a response is missing: -r TEXT, or -d PAIRS.jsonl");
    }
    return 0;
}

static int score_run(const void *arguments, struct genarm_error *err) {
    const struct score_args *args = arguments;
    struct setup setup = {0};
    struct record_list pairs = {0};
    char *prompt = NULL;
    log_to_stderr(args->model.verbose);
    int code = check_args(args, err);
    if (code == 0) {
        code = args->pairs.n ? read_pairs(&pairs, args, err) : prompt_text(&prompt, args->prompt, args->file, err);
    }
    if (code == 0) {
        code = setup_load(&setup, &args->model, &args->guide, 1, err);
    }
    interrupt_catch();
    if (code == 0) {
        code = args->pairs.n ? score_pairs(args, &setup, &pairs, err) : score_response(args, &setup, prompt, err);
    }
    if (code == 0) {
        code = flush_output(stdout, err);
    }
    free(prompt);
    records_free(&pairs);
    setup_free(&setup);
    return code ? code : interrupt_signal() ? 128 + interrupt_signal() : 0;
}

const struct command command_score = {
    .name = "score",
    .summary = "log-probabilities of a response, or how well pairs are ranked",
    .usage = "[options] (-p TEXT -r TEXT | -d PAIRS.jsonl)",
    .details =
        "Shows what each part thinks of a given response: the log-probability of every token, in nats, under the base, "
        "under each reward model, under that model without its adapter (the reference) and under the guided mixture. "
        "A reward is the sum over the tokens. On a terminal the tokens are coloured by reward minus reference, "
        "elsewhere a table is printed.",
    .examples = "genarm score --arm cheerful.gguf -p \"How was it?\" -r \"Wonderful, thank you!\"\n"
                "genarm score --arm cheerful.gguf:1 -f question.txt -r \"It was fine.\" --json\n"
                "genarm score --arm cheerful.gguf --arm concise.gguf -d test.jsonl",
    .options = score_options,
    .n_options = sizeof score_options / sizeof *score_options,
    .args_size = sizeof(struct score_args),
    .run = score_run,
};
