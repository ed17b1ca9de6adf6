/* genarm chat: a conversation, with weights that can be changed between turns. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "answer_record.h"
#include "commands.h"
#include "drafts.h"
#include "preferences.h"
#include "prefill.h"
#include "tell.h"
#include "terminal.h"
#include "transcript.h"

struct chat_args {
    struct model_args model;
    struct guide_args guide;
    struct sampling_args sampling;
    struct steer_args steer;
    struct draft_args draft;
    struct shift_args shift;
    const char *system;
    int32_t n_predict;
};

static const struct option chat_options[] = {
    {OPTION_GROUP, .help = "Conversation"},
    {OPTION_TEXT, "-sys --system-prompt", "TEXT", offsetof(struct chat_args, system), .help = "system message"},
    {OPTION_INT, "-n --predict --n-predict", "N", offsetof(struct chat_args, n_predict), -1, INT32_MAX,
     .fallback = "-1", .env = "LLAMA_ARG_N_PREDICT",
     .help = "tokens of an answer at most; -1: until the model ends it or the context is full"},
    OPTIONS_GUIDE(struct chat_args),
    OPTIONS_SHIFT(struct chat_args),
    OPTIONS_STEER(struct chat_args),
    OPTIONS_SAMPLING(struct chat_args),
    OPTIONS_DRAFT(struct chat_args),
    OPTIONS_MODEL(struct chat_args),
};

struct chat {
    const struct chat_args *args;
    struct setup setup;
    struct genarm_session *session;
    struct genarm_sampling sampling;
    float *weights; /* [n_arms] */
    struct transcript said;
    bool terminal; /* somebody types */
    bool ended;
};

static const char chat_help[] = "/weight NAME X         weight of a reward model from now on; /weight shows all\n"
                                "/preference NAME LIST  of its objectives, as helpful=0.7,harmless=0.3 or 0.7,0.3;\n"
                                "                       /preference shows all\n"
                                "/seed N                seed of the next answers\n"
                                "/save FILE             save the conversation and all that it has computed\n"
                                "/load FILE             go on with a saved one, with its weights and its sampling\n"
                                "/reset                 forget the conversation\n"
                                "/quit                  end (as Ctrl-D does)\n"
                                "/help                  show this\n"
                                "Ctrl-C ends an answer, and the chat when there is none.\n";

/* ---- the conversation ---- */

static int reset(struct chat *c, struct genarm_error *err) {
    transcript_drop(&c->said, 0);
    return c->args->system && *c->args->system ? transcript_add(&c->said, "system", c->args->system, err) : 0;
}

/* One session serves all turns, so that only what is new is computed. */
static int start_session(struct chat *c, struct genarm_error *err) {
    int code = setup_session(&c->session, &c->setup, &c->sampling, err);
    for (size_t i = 0; i < c->setup.n_arms && code == 0; i++) {
        code = genarm_session_set_weight(c->session, (int32_t)i, c->weights[i], err);
    }
    return code;
}

/* Prints the answer as it comes; Ctrl-C ends it. */
static int print_answer(const struct chat *c, struct answer_record *a, struct genarm_error *err) {
    struct answer_record *answers[] = {a};
    size_t printed = 0;
    const struct guide_args *guide = &c->args->guide;
    int32_t left;
    int code = a->r.finish == FINISH_RUNNING ? prefill_prompt(c->session, guide, guide->n_batch, &left, err) : 0;
    while (code == 0 && a->r.finish == FINISH_RUNNING) {
        code = interrupt_signal() ? answer_end(&a->r, FINISH_INTERRUPTED, err) : answer_records_step(answers, 1, err);
        fwrite(a->r.text.data + printed, 1, a->r.n_shown - printed, stdout);
        fflush(stdout);
        printed = a->r.n_shown;
    }
    fputc('\n', stdout);
    if (code == 0 && a->r.finish == FINISH_FAILED) {
        *err = a->failure;
        code = err->code;
    }
    return code ? code : flush_output(stdout, err);
}

/* Whether the answer has at least 1 / share of the context. */
static bool has_room(const struct chat *c, int32_t share) {
    const int64_t left = genarm_session_n_left(c->session), used = genarm_session_n_prompt(c->session);
    return left * share >= left + used;
}

/* An answer to what was said, as if the oldest turns had not been. */
static int start_answer(struct chat *c, struct answer_record *a, size_t n_skipped, struct genarm_error *err) {
    struct genarm_message *first = c->said.messages + 2 * n_skipped;
    const struct genarm_message covered = *first;
    if (strcmp(c->said.messages[0].role, "system") == 0) {
        *first = c->said.messages[0];
    }
    answer_record_deinit(a);
    const int code = answer_record_start(a, &c->setup, c->session, first, c->said.n - 2 * n_skipped, c->args->n_predict, err);
    *first = covered;
    answer_record_shifts(a, &c->args->shift);
    return code;
}

/* With --context-shift the oldest turns are forgotten when less than a quarter of the context is left for the answer, until
 * half of it is: so it does not happen at every turn, and what is left is evaluated as if it were all that was said. A question
 * that does not fit even alone costs none of them. */
static int begin_answer(struct chat *c, struct answer_record *a, struct genarm_error *err) {
    size_t n = 0;
    int code = start_answer(c, a, 0, err);
    if (!c->args->shift.on || (code == 0 && has_room(c, 4))) {
        return code;
    }
    while ((code == GENARM_ECONTEXT || (code == 0 && !has_room(c, 2))) && n < transcript_n_turns(&c->said)) {
        code = start_answer(c, a, ++n, err);
    }
    if (code == 0 && n > 0) {
        transcript_forget_oldest(&c->said, n);
        note("the context is full: the oldest %zu turn%s forgotten", n, n == 1 ? " is" : "s are");
    }
    return code;
}

/* What was asked is taken back; a chat that nobody sits at ends. */
static int take_back(struct chat *c, const struct genarm_error *err) {
    if (!c->terminal) {
        return err->code;
    }
    report_error(err);
    transcript_drop(&c->said, c->said.n - 1);
    return 0;
}

/* Of a question that does not fit. */
static int refuse_turn(struct chat *c, struct genarm_error *err) {
    snprintf(err->hint, sizeof err->hint, "%s",
             c->args->shift.on ? "shorten it, or raise the context size (-c)"
                               : "/reset starts a new conversation; with --context-shift the oldest turns are forgotten; -c N "
                                 "gives more room");
    return take_back(c, err);
}

/* What fails with an answer may go well with another weight, or without a grammar that leads nowhere. */
static bool is_answers_failure(const struct answer_record *a, int code) {
    return a->r.finish == FINISH_FAILED && code != GENARM_ENOMEM && code != GENARM_EBACKEND;
}

static int turn(struct chat *c, const char *text, struct genarm_error *err) {
    struct answer_record answer = {0};
    int code = transcript_add(&c->said, "user", text, err);
    if (code == 0) {
        code = begin_answer(c, &answer, err);
    }
    if (code == GENARM_ECONTEXT) {
        answer_record_deinit(&answer);
        return refuse_turn(c, err);
    }
    if (code == 0) {
        code = print_answer(c, &answer, err);
    }
    if (code && is_answers_failure(&answer, code)) {
        answer_record_deinit(&answer);
        return take_back(c, err);
    }
    if (code == 0 && answer.r.finish == FINISH_CONTEXT) {
        note("the context is full: the answer is cut; %s", c->args->shift.on
                 ? "a shorter question, --keep or -c give it room" : "with --context-shift it would go on");
    }
    if (code == 0 && answer.r.finish == FINISH_INTERRUPTED && answer.r.n_tokens == 0) {
        note("nothing was answered yet: the question is taken back");
        transcript_drop(&c->said, c->said.n - 1);
    } else if (code == 0) {
        code = transcript_add(&c->said, "assistant", answer.r.text.data, err);
    }
    if (code == 0 && c->args->model.verbose) {
        drafts_note(&c->setup, c->session);
    }
    if (code == 0 && c->terminal) {
        fprintf(stderr, "\n");
    }
    answer_record_deinit(&answer);
    return code;
}

/* ---- commands ---- */

static void show_weights(const struct chat *c) {
    for (size_t i = 0; i < c->setup.n_arms; i++) {
        fprintf(stderr, "%s %g\n", genarm_guide_arm_name(c->setup.guide, (int32_t)i), (double)c->weights[i]);
    }
    if (c->setup.n_arms == 0) {
        fprintf(stderr, "there are no reward models; start with --arm\n");
    }
}

static int set_weight(struct chat *c, const char *name, const char *number, struct genarm_error *err) {
    char *end;
    float weight = number ? strtof(number, &end) : 0;
    int32_t i = genarm_guide_find_arm(c->setup.guide, name);
    if (i < 0) {
        fprintf(stderr, "no reward model is called \"%s\"\n", name);
    } else if (!number || end == number || *end || !isfinite(weight)) {
        fprintf(stderr, "a weight is a number: /weight %s 1.5\n", name);
    } else {
        return genarm_session_set_weight(c->session, i, c->weights[i] = weight, err);
    }
    return 0;
}

static int set_seed(struct chat *c, const char *number, struct genarm_error *err) {
    char *end;
    errno = 0;
    long long seed = number ? strtoll(number, &end, 10) : -1;
    if (!number || end == number || *end || errno || seed < 0) {
        fprintf(stderr, "a seed is a whole number from 0 on: /seed 7\n");
        return 0;
    }
    c->sampling.seed = (uint64_t)seed;
    return genarm_session_set_sampling(c->session, &c->sampling, err);
}

static int show_preferences(const struct chat *c, struct genarm_error *err) {
    json_t *all = preferences_json(&c->setup, c->session);
    if (!all) {
        fprintf(stderr, "no reward model here has objectives; genarm train --objective makes one\n");
        return 0;
    }
    return print_json(stderr, all, err);
}

static char *trim_end(char *start, char *end) {
    while (end > start && strchr(" \t", end[-1])) {
        *--end = '\0';
    }
    return end;
}

/* Where the last word of `text`, which has no blanks around, begins. */
static char *last_word(char *text, char *end) {
    while (end > text && !strchr(" \t", end[-1])) {
        end--;
    }
    return end;
}

/* What follows "/preference": a name, which is not needed where only one reward model has objectives, and a list. A text that
 * cannot be read ends nothing. */
static int preference_command(struct chat *c, char *rest, struct genarm_error *err) {
    char *name = rest + strspn(rest, " \t");
    char *list = last_word(name, trim_end(name, name + strlen(name)));
    trim_end(name, list);
    const bool named = list > name;
    const int32_t i = named ? genarm_guide_find_arm(c->setup.guide, name) : preference_only_arm(&c->setup);
    if (i < 0 && named) {
        fprintf(stderr, "no reward model is called \"%s\"\n", name);
        return 0;
    }
    if (i < 0) {
        fprintf(stderr, i == -1 ? "no reward model here has objectives\n" : "say of which: /preference NAME LIST\n");
        return 0;
    }
    const int code = preference_apply(&c->setup, i, list, c->session, err);
    if (code != CLI_USAGE) {
        return code;
    }
    fprintf(stderr, "%s%s%s\n", err->what, *err->hint ? "; " : "", err->hint);
    return 0;
}

/* What follows "/weight": a name, which may hold spaces, and a number. */
static int weight_command(struct chat *c, char *rest, struct genarm_error *err) {
    char *name = rest + strspn(rest, " \t");
    char *number = last_word(name, trim_end(name, name + strlen(name)));
    if (number == name || genarm_guide_find_arm(c->setup.guide, name) >= 0) {
        return set_weight(c, name, NULL, err);
    }
    trim_end(name, number);
    return set_weight(c, name, number, err);
}

static int save_chat(struct chat *c, const char *path, struct genarm_error *err) {
    char *text = NULL;
    int code = transcript_dump(&text, &c->said, err);
    if (code == 0) {
        code = genarm_session_save(c->session, path, text, err);
    }
    free(text);
    return code;
}

static int load_chat(struct chat *c, const char *path, struct genarm_error *err) {
    struct transcript said = {0};
    char *text = NULL;
    int code = genarm_session_read_note(&text, path, err);
    if (code == 0) {
        code = transcript_parse(&said, text, path, err);
    }
    if (code == 0) {
        code = genarm_session_load(c->session, path, err);
    }
    free(text);
    if (code) {
        transcript_deinit(&said);
        return code;
    }
    transcript_deinit(&c->said);
    c->said = said;
    c->sampling = genarm_session_sampling(c->session);
    for (size_t i = 0; i < c->setup.n_arms; i++) {
        c->weights[i] = genarm_session_weight(c->session, (int32_t)i);
    }
    return 0;
}

/* What follows "/save" and "/load": a path, which may hold spaces. What fails ends a chat that nobody sits at. */
static int file_command(struct chat *c, char *rest, int (*run)(struct chat *, const char *, struct genarm_error *),
                        struct genarm_error *err) {
    char *path = rest + strspn(rest, " \t");
    trim_end(path, path + strlen(path));
    if (!*path) {
        fprintf(stderr, "name a file: /save FILE, /load FILE\n");
        return 0;
    }
    const int code = run(c, path, err);
    if (code && c->terminal) {
        report_error(err);
        return 0;
    }
    return code;
}

/* A line that starts with '/'. Returns a code only for what ends the chat. */
static int command(struct chat *c, char *line, struct genarm_error *err) {
    char *word = line, *rest = line + strcspn(line, " \t"), *state;
    if (*rest) {
        *rest++ = '\0';
    }
    if (strcmp(word, "/quit") == 0 || strcmp(word, "/exit") == 0) {
        c->ended = true;
    } else if (strcmp(word, "/reset") == 0) {
        return reset(c, err);
    } else if (strcmp(word, "/save") == 0) {
        return file_command(c, rest, save_chat, err);
    } else if (strcmp(word, "/load") == 0) {
        return file_command(c, rest, load_chat, err);
    } else if (strcmp(word, "/weight") == 0 && !rest[strspn(rest, " \t")]) {
        show_weights(c);
    } else if (strcmp(word, "/weight") == 0) {
        return weight_command(c, rest, err);
    } else if (strcmp(word, "/preference") == 0 && !rest[strspn(rest, " \t")]) {
        return show_preferences(c, err);
    } else if (strcmp(word, "/preference") == 0) {
        return preference_command(c, rest, err);
    } else if (strcmp(word, "/seed") == 0) {
        return set_seed(c, strtok_r(rest, " \t", &state), err);
    } else if (strcmp(word, "/help") == 0) {
        fputs(chat_help, stderr);
    } else {
        fprintf(stderr, "unknown command %s; /help lists them\n", word);
    }
    return 0;
}

/* ---- input ---- */

static int converse(struct chat *c, struct genarm_error *err) {
    char *line = NULL;
    size_t size = 0;
    int code = reset(c, err);
    if (code == 0) {
        code = start_session(c, err);
    }
    while (code == 0 && !c->ended) {
        interrupt_catch(); /* again after each answer: the first Ctrl-C only ends that */
        if (c->terminal) {
            fprintf(stderr, "> ");
        }
        ssize_t n = getline(&line, &size, stdin);
        if (n < 0 || (!c->terminal && interrupt_signal())) {
            break;
        }
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) {
            line[--n] = '\0';
        }
        if (!line[strspn(line, " \t")]) {
            continue;
        }
        if (line[0] == '/') {
            code = command(c, line, err);
        } else {
            code = turn(c, line, err);
        }
        if (!c->terminal && interrupt_signal()) {
            break;
        }
    }
    if (c->terminal) {
        fprintf(stderr, "\n");
    }
    free(line);
    return code;
}

static int chat_run(const void *arguments, struct genarm_error *err) {
    struct chat c = {.args = arguments};
    c.terminal = isatty(STDIN_FILENO);
    c.sampling = sampling_from(&c.args->sampling);
    log_to_stderr(c.args->model.verbose);
    int code = setup_load(&c.setup, &c.args->model, &c.args->guide, 1, err);
    code = code ? code : drafts_load(&c.setup, &c.args->model, &c.args->guide, &c.args->draft, err);
    if (code == 0) {
        code = setup_steer(&c.setup, &c.args->steer, -1, err);
    }
    if (code == 0) {
        c.weights = calloc(c.setup.n_arms + 1, sizeof *c.weights);
        code = c.weights ? 0 : error_nomem(err, "weights");
    }
    for (size_t i = 0; i < c.setup.n_arms && code == 0; i++) {
        c.weights[i] = c.setup.arms[i].weight;
    }
    if (code == 0 && c.terminal) {
        fprintf(stderr, "%s; /help lists the commands\n", setup_model_name(&c.setup));
    }
    if (code == 0) {
        code = converse(&c, err);
    }
    transcript_deinit(&c.said);
    free(c.weights);
    genarm_session_free(c.session);
    setup_free(&c.setup);
    return code ? code : interrupt_signal() ? 128 + interrupt_signal() : 0;
}

const struct command command_chat = {
    .name = "chat",
    .summary = "talk with a steered model, changing weights as you go",
    .usage = "[options]",
    .details =
        "A conversation. Lines that start with / are commands, /help lists them; /weight NAME X changes how much a "
        "reward model steers, /preference what one with several objectives steers to, /save and /load keep the conversation in "
        "a file. When stdin is no terminal, each of its lines is a turn.",
    .examples = "genarm chat\n"
                "genarm chat --arm cheerful.gguf:1 --arm concise.gguf:0 -sys \"You are a helpful gardener.\"\n"
                "printf 'Hello!\\nAnd again?\\n' | genarm chat -s 7",
    .options = chat_options,
    .n_options = sizeof chat_options / sizeof *chat_options,
    .args_size = sizeof(struct chat_args),
    .run = chat_run,
};
