/* The parser of the command line: values, ranges, environment, suggestions; and the tables of all commands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "commands.h"
#include "genarm/genarm.h"
#include "help.h"

struct args {
    bool flag;
    int32_t number, choice, threads, keys, values;
    int64_t seed;
    double real;
    const char *text;
    struct option_list list, files;
};

static const struct option table[] = {
    {OPTION_GROUP, .help = "Things"},
    {OPTION_FILES, "FILE", "", offsetof(struct args, files), .dash = DASH_STDIN, .help = "operands"},
    {OPTION_FLAG, "--flag", "", offsetof(struct args, flag), .env = "TEST_GENARM_FLAG", .help = "a flag"},
    {OPTION_INT, "-n --predict --n-predict", "N", offsetof(struct args, number), -1, 100, .fallback = "7",
     .env = "TEST_GENARM_N", .help = "a number"},
    {OPTION_CHOICE, "--loss", "NAME", offsetof(struct args, choice), .choices = "arm|hinge|sft|", .fallback = "hinge",
     .help = "a choice"},
    {OPTION_SEED, "-s --seed", "N", offsetof(struct args, seed), .fallback = "-1", .help = "a seed"},
    {OPTION_NUMBER, "--top-p", "X", offsetof(struct args, real), 0, 1, .fallback = "0.25", .help = "a share"},
    {OPTION_TEXT, "-ngl --text", "TEXT", offsetof(struct args, text), .help = "a text"},
    {OPTION_TEXTS, "--arm", "TEXT", offsetof(struct args, list), .help = "texts"},
    {OPTION_INT, "-t --threads", "N", offsetof(struct args, threads), 1, 64, .fallback = "4", .also = "auto|all",
     .help = "a number or a word"},
    {OPTION_CHOICE, "-k", "TYPE", offsetof(struct args, keys), .choices = "a|b|c", .fallback = "b", .env = "TEST_GENARM_KEYS",
     .like = "-v", .help = "a choice"},
    {OPTION_CHOICE, "-v", "TYPE", offsetof(struct args, values), .choices = "a|b|c", .fallback = "b", .like = "-k",
     .help = "a choice that is like it"},
};

static const struct command test_command = {
    .name = "test", .options = table, .n_options = sizeof table / sizeof *table, .args_size = sizeof(struct args)};

static struct args parsed;
static struct genarm_error err;

/* Parses words up to NULL; what they filled is in `parsed`. */
static int parse(const char *first, ...) {
    char *argv[16];
    int argc = 0;
    va_list words;
    va_start(words, first);
    for (const char *word = first; word; word = va_arg(words, const char *)) {
        argv[argc++] = (char *)(uintptr_t)word;
    }
    va_end(words);
    command_line_deinit(&test_command, &parsed);
    memset(&parsed, 0, sizeof parsed);
    memset(&err, 0, sizeof err);
    return command_line_parse(&test_command, argc, argv, &parsed, &err);
}

static int teardown(void **state) {
    (void)state;
    command_line_deinit(&test_command, &parsed);
    unsetenv("TEST_GENARM_N");
    return 0;
}

static void test_defaults_are_those_of_the_table(void **state) {
    (void)state;
    assert_int_equal(parse(NULL), 0);
    assert_false(parsed.flag);
    assert_int_equal(parsed.number, 7);
    assert_int_equal(parsed.choice, 1);
    assert_int_equal(parsed.seed, -1);
    assert_true(parsed.real == 0.25);
    assert_null(parsed.text);
    assert_int_equal(parsed.list.n, 0);
}

static void test_every_name_and_form_of_an_option_is_understood(void **state) {
    (void)state;
    assert_int_equal(parse("-n", "1", "--flag", "-ngl", "-dash", "--top-p", "1e-2", "--loss", "sft", NULL), 0);
    assert_int_equal(parsed.number, 1);
    assert_true(parsed.flag);
    assert_string_equal(parsed.text, "-dash");
    assert_true(parsed.real == 0.01);
    assert_int_equal(parsed.choice, 2);
    assert_int_equal(parse("--n-predict=-1", "--text=a=b", "--seed", "9007199254740993", NULL), 0);
    assert_int_equal(parsed.number, -1);
    assert_string_equal(parsed.text, "a=b");
    assert_true(parsed.seed == 9007199254740993);
    assert_int_equal(parse("--n_predict", "3", "--predict", "4", NULL), 0);
    assert_int_equal(parsed.number, 4); /* the last one wins */
}

static void test_repeatable_options_and_operands_collect(void **state) {
    (void)state;
    assert_int_equal(parse("--arm", "a:1", "x.gguf", "--arm", "b", "--", "--flag", "-", NULL), 0);
    assert_int_equal(parsed.list.n, 2);
    assert_string_equal(parsed.list.items[0], "a:1");
    assert_string_equal(parsed.list.items[1], "b");
    assert_int_equal(parsed.files.n, 3);
    assert_string_equal(parsed.files.items[1], "--flag");
    assert_false(parsed.flag);
}

static void test_command_line_wins_over_environment_over_default(void **state) {
    (void)state;
    setenv("TEST_GENARM_N", "42", 1);
    assert_int_equal(parse(NULL), 0);
    assert_int_equal(parsed.number, 42);
    assert_int_equal(parse("-n", "43", NULL), 0);
    assert_int_equal(parsed.number, 43);
    setenv("TEST_GENARM_N", "", 1);
    assert_int_equal(parse(NULL), 0);
    assert_int_equal(parsed.number, 7);
    setenv("TEST_GENARM_N", "many", 1);
    assert_int_equal(parse(NULL), CLI_USAGE);
    assert_string_equal(err.where, "TEST_GENARM_N");
    assert_int_equal(parse("--flag", "-n", "5", NULL), 0); /* what is wrong there does not count here */
    assert_int_equal(parsed.number, 5);
    assert_int_equal(parse("--predict=6", NULL), 0);
    assert_int_equal(parsed.number, 6);
    assert_int_equal(parse("--text", "--predict=6", NULL), CLI_USAGE); /* a text that looks like it */
    assert_int_equal(parse("--", "-n", NULL), CLI_USAGE);
    unsetenv("TEST_GENARM_N");
}

static void test_a_variable_says_whether_a_flag_is_on(void **state) {
    (void)state;
    static const char *const words[][2] = {{"0", "1"}, {"false", "true"}, {"off", "on"}, {"disabled", "enabled"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        for (int on = 0; on < 2; on++) {
            setenv("TEST_GENARM_FLAG", words[i][on], 1);
            assert_int_equal(parse(NULL), 0);
            assert_int_equal(parsed.flag, on);
            assert_int_equal(parse("--flag", NULL), 0);
            assert_true(parsed.flag);
        }
    }
    setenv("TEST_GENARM_FLAG", "perhaps", 1);
    assert_int_equal(parse(NULL), CLI_USAGE);
    assert_string_equal(err.where, "TEST_GENARM_FLAG");
    unsetenv("TEST_GENARM_FLAG");
}

static void test_wrong_values_name_the_option_and_its_range(void **state) {
    static const char *const bad[][2] = {
        {"-n", "x"},         {"-n", ""},          {"-n", "1.5"},         {"-n", "-2"},       {"-n", "101"},
        {"-n", "1 "},        {"-n", " 1"},        {"-n", "99999999999"}, {"--top-p", "nan"}, {"--top-p", "inf"},
        {"--top-p", "1.01"}, {"--top-p", "0.5x"}, {"--loss", "ar"},      {"--loss", ""},     {"--seed", "1e9"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(parse(bad[i][0], bad[i][1], NULL), CLI_USAGE);
        assert_string_equal(err.where, bad[i][0]);
    }
    parse("-n", "101", NULL);
    assert_string_equal(err.what, "\"101\" is not a whole number from -1 to 100");
    parse("--loss", "dpo", NULL);
    assert_string_equal(err.what, "\"dpo\" is none of arm|hinge|sft");
}

static void test_words_stand_for_the_default_and_the_most(void **state) {
    (void)state;
    assert_int_equal(parse("-t", "3", "-t", "auto", NULL), 0);
    assert_int_equal(parsed.threads, 4);
    assert_int_equal(parse("--threads=all", NULL), 0);
    assert_int_equal(parsed.threads, 64);
    assert_int_equal(parse("-t", "al", NULL), CLI_USAGE);
    assert_int_equal(parse("-n", "auto", NULL), CLI_USAGE);
}

static void test_an_option_is_like_another_that_is_given(void **state) {
    (void)state;
    assert_int_equal(parse(NULL), 0);
    assert_int_equal(parsed.keys, 1);
    assert_int_equal(parsed.values, 1);
    assert_int_equal(parse("-k", "c", NULL), 0);
    assert_int_equal(parsed.values, 2);
    assert_int_equal(parse("-v", "a", NULL), 0);
    assert_int_equal(parsed.keys, 0);
    setenv("TEST_GENARM_KEYS", "a", 1);
    assert_int_equal(parse(NULL), 0);
    assert_int_equal(parsed.values, 0);
    assert_int_equal(parse("-v", "c", NULL), 0);
    assert_int_equal(parsed.keys, 0); /* both are given */
    assert_int_equal(parsed.values, 2);
    unsetenv("TEST_GENARM_KEYS");
}

static void test_missing_values_are_told_from_values_with_a_dash(void **state) {
    (void)state;
    assert_int_equal(parse("--text", NULL), CLI_USAGE);
    assert_int_equal(parse("--text", "--flag", NULL), CLI_USAGE);
    assert_string_equal(err.where, "--text");
    assert_string_equal(err.hint, "a value that looks like an option goes behind an equals sign: --text=--flag");
    assert_int_equal(parse("-ngl", NULL), CLI_USAGE);
    assert_string_equal(err.hint, "");
    assert_int_equal(parse("--flag=1", NULL), CLI_USAGE);
    assert_int_equal(parse("-n", "-1", NULL), 0);
}

static void test_unknown_options_get_a_suggestion(void **state) {
    (void)state;
    assert_int_equal(parse("--topp", "1", NULL), CLI_USAGE);
    assert_string_equal(err.where, "--topp");
    assert_string_equal(err.what, "unknown option; did you mean --top-p?");
    assert_int_equal(parse("-predict=3", NULL), CLI_USAGE);
    assert_int_equal(parse("--utterly-different", NULL), CLI_USAGE);
    assert_string_equal(err.what, "unknown option");
    assert_int_equal(parse("-ng", "3", NULL), CLI_USAGE); /* too short to tell */
    assert_string_equal(err.what, "unknown option");
    assert_int_equal(parse("-tb", "3", NULL), CLI_USAGE);
    assert_string_equal(err.what, "unknown option: there is one number of threads, -t");
}

static void test_help_is_found_whatever_else_is_wrong(void **state) {
    (void)state;
    assert_int_equal(parse("--nonsense", "--help", NULL), 1);
    assert_int_equal(parse("-n", "x", "-h", NULL), 1);
    assert_int_equal(parse("--", "-h", NULL), 0);
    assert_int_equal(parse("--text=x", "--help", NULL), 1);
    assert_int_equal(parse("--text", "-h", NULL), 0); /* a value */
    assert_string_equal(parsed.text, "-h");
}

/* ---- the tables ---- */

static const struct command *const commands[] = {&command_generate, &command_chat, &command_score, &command_train,
                                                 &command_data,     &command_merge, &command_convert, &command_info,
                                                 &command_rpc_server, &command_rl};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

/* Counts how often a name occurs in a table. */
static int count_name(const struct command *c, const char *wanted) {
    int n = 0;
    for (size_t i = 0; i < c->n_options; i++) {
        const char *cursor = c->options[i].names;
        char name[64];
        while (cursor && next_name(&cursor, ' ', name, sizeof name)) {
            n += strcmp(name, wanted) == 0;
        }
    }
    return n;
}

static size_t member_size(enum option_type type) {
    switch (type) {
    case OPTION_GROUP:
        return 0;
    case OPTION_FLAG:
        return sizeof(bool);
    case OPTION_INT:
    case OPTION_CHOICE:
        return sizeof(int32_t);
    case OPTION_SEED:
        return sizeof(int64_t);
    case OPTION_NUMBER:
        return sizeof(double);
    case OPTION_TEXT:
    case OPTION_FILE:
        return sizeof(const char *);
    case OPTION_TEXTS:
    case OPTION_FILES:
        return sizeof(struct option_list);
    }
    return 0;
}

static void test_tables_are_sound(void **state) {
    (void)state;
    for (size_t k = 0; k < N_COMMANDS; k++) {
        const struct command *c = commands[k];
        unsigned char *used = calloc(1, c->args_size);
        for (size_t i = 0; i < c->n_options; i++) {
            const struct option *o = &c->options[i];
            const char *cursor = o->names;
            char name[64];
            assert_non_null(o->help);
            if (o->type == OPTION_GROUP) {
                continue;
            }
            while (next_name(&cursor, ' ', name, sizeof name)) {
                assert_int_equal(count_name(c, name), 1);
                assert_true(strcmp(name, "-h") != 0 && strcmp(name, "--help") != 0);
            }
            assert_true((o->type == OPTION_FLAG || o->names[0] != '-') == (o->value[0] == '\0'));
            assert_true((o->type == OPTION_CHOICE) == (o->choices != NULL));
            assert_true(o->dash == DASH_NONE || o->type == OPTION_FILE || o->type == OPTION_FILES);
            assert_true(!o->also || (o->type == OPTION_INT && o->fallback));
            assert_true(!o->env || strncmp(o->env, "LLAMA_ARG_", 10) == 0);
            for (size_t b = 0; b < member_size(o->type); b++) { /* no two options share memory */
                assert_true(o->offset + b < c->args_size);
                assert_int_equal(used[o->offset + b]++, 0);
            }
        }
        free(used);
    }
}

static void test_defaults_shown_are_those_of_the_library(void **state) {
    const struct genarm_sampling s = genarm_sampling_default();
    const struct genarm_guide_params g = genarm_guide_default_params();
    const struct genarm_train_params t = genarm_train_default_params();
    const struct genarm_rl_params r = genarm_rl_default_params();
    const struct {
        const char *command, *option;
        double value;
    } expected[] = {
        {"generate", "--temp", (double)s.temperature},
        {"generate", "--top-k", s.top_k},
        {"generate", "--top-p", (double)s.top_p},
        {"generate", "--min-p", (double)s.min_p},
        {"generate", "-c", g.n_ctx},
        {"generate", "-b", g.n_batch},
        {"train", "--beta", (double)t.beta},
        {"train", "--margin", (double)t.margin},
        {"train", "--label-smoothing", (double)t.label_smoothing},
        {"train", "--lora-rank", t.lora_rank},
        {"train", "--lora-alpha", (double)t.lora_alpha},
        {"train", "--lora-dropout", (double)t.lora_dropout},
        {"train", "-lr", (double)t.learning_rate},
        {"train", "--warmup", t.warmup},
        {"train", "--weight-decay", (double)t.weight_decay},
        {"train", "--adam-beta1", t.adam_beta1},
        {"train", "--adam-beta2", t.adam_beta2},
        {"train", "--adam-eps", t.adam_eps},
        {"train", "--max-grad-norm", (double)t.max_grad_norm},
        {"train", "--batch-size", t.batch_size},
        {"train", "--micro-batch", t.micro_batch},
        {"train", "--epochs", t.epochs},
        {"train", "--max-length", t.max_length},
        {"train", "--val-split", (double)t.val_split},
        {"train", "--seed", (double)t.seed},
        {"train", "--save-every", t.save_every},
        {"rl", "--kl-coef", r.kl_coef},
        {"rl", "--missing-eos-penalty", r.missing_eos_penalty},
        {"rl", "--group-size", r.group_size},
        {"rl", "--num-iterations", r.num_iterations},
        {"rl", "--clip-eps", r.clip_eps},
        {"rl", "--max-new-tokens", r.max_new_tokens},
        {"rl", "--temp", r.temperature},
        {"rl", "--top-k", r.top_k},
        {"rl", "--top-p", r.top_p},
        {"rl", "--min-p", r.min_p},
        {"rl", "--parallel", r.n_parallel},
        {"rl", "--steps", (double)r.steps},
        {"rl", "--lora-rank", r.training.lora_rank},
        {"rl", "-lr", (double)r.training.learning_rate},
        {"rl", "--weight-decay", (double)r.training.weight_decay},
        {"rl", "--batch-size", r.training.batch_size},
        {"rl", "--epochs", r.training.epochs},
        {"rl", "--max-length", r.training.max_length},
        {"rl", "--save-every", r.training.save_every},
    };
    (void)state;
    for (size_t e = 0; e < sizeof expected / sizeof *expected; e++) {
        const struct option *found = NULL;
        for (size_t k = 0; k < N_COMMANDS; k++) {
            for (size_t i = 0; i < commands[k]->n_options && strcmp(commands[k]->name, expected[e].command) == 0; i++) {
                const char *cursor = commands[k]->options[i].names;
                char name[64];
                while (cursor && next_name(&cursor, ' ', name, sizeof name)) {
                    if (strcmp(name, expected[e].option) == 0) {
                        found = &commands[k]->options[i];
                    }
                }
            }
        }
        assert_non_null(found);
        assert_true((float)strtod(found->fallback, NULL) == (float)expected[e].value);
    }
    assert_true(t.loss == GENARM_LOSS_ARM && t.schedule == GENARM_SCHEDULE_COSINE && t.shuffle && !t.length_normalize);
    assert_true(t.format == GENARM_DATA_AUTO && t.label == GENARM_LABEL_BETTER);
    assert_string_equal(t.lora_targets, "q,k,v");
    assert_true(r.method == GENARM_RL_RLOO && r.average == GENARM_RL_DAPO && r.scale_rewards && !r.mask_truncated);
    assert_true(r.training.schedule == GENARM_SCHEDULE_LINEAR);
}

struct choices {
    const char *option;
    const char *const *names;
    size_t n;
};

/* Every option of the command that has choices is among the expected ones, and has theirs. */
static void check_choices(const struct command *command, const struct choices *expected, size_t n_expected) {
    for (size_t i = 0; i < command->n_options; i++) {
        const struct option *o = &command->options[i];
        const char *cursor = o->choices;
        char name[64];
        size_t e = 0, seen = 0;
        while (o->choices && strcmp(o->names, expected[e].option) != 0) {
            e++;
            assert_true(e < n_expected);
        }
        while (cursor && next_name(&cursor, '|', name, sizeof name)) {
            assert_true(seen < expected[e].n);
            assert_string_equal(name, expected[e].names[seen++]);
        }
        assert_true(!o->choices || seen == expected[e].n);
    }
}

/* The choices of an option are in the order of the enum that they stand for. */
static void test_choices_match_their_enums(void **state) {
    static const char *const schedules[] = {[GENARM_SCHEDULE_CONSTANT] = "constant",
                                            [GENARM_SCHEDULE_LINEAR] = "linear",
                                            [GENARM_SCHEDULE_COSINE] = "cosine"};
    static const char *const losses[] = {
#define LOSS(id, name, text) [id] = name,
        GENARM_LOSSES(LOSS)
#undef LOSS
    };
    static const char *const formats[] = {
#define FORMAT(id, name, members) [id] = name,
        GENARM_DATA_FORMATS(FORMAT)
#undef FORMAT
    };
    static const char *const labels[] = {
#define LABEL(id, name, member) [id] = name,
        GENARM_DATA_LABELS(LABEL)
#undef LABEL
    };
    static const char *const methods[] = {
#define METHOD(id, name, text) [id] = name,
        GENARM_RL_METHODS(METHOD)
    };
    static const char *const averages[] = {
        GENARM_RL_AVERAGES(METHOD)
#undef METHOD
    };
    static const char *const engines[] = {[GENARM_ENGINE_AUTO] = "auto",
                                          [GENARM_ENGINE_GENARM] = "genarm",
                                          [GENARM_ENGINE_LLAMA] = "llama"};
    static const char *const load_modes[] = {[GENARM_LOAD_AUTO] = "auto",
                                             [GENARM_LOAD_MMAP] = "mmap",
                                             [GENARM_LOAD_NONE] = "none"};
    static const char *const scales[] = {"group", "none"}; /* scale_rewards: the first */
#define CHOICES(option, list) {option, list, sizeof(list) / sizeof *(list)}
    const struct choices of_train[] = {CHOICES("--loss", losses), CHOICES("--lr-schedule", schedules),
                                       CHOICES("--format", formats), CHOICES("--label", labels),
                                       CHOICES("--engine", engines), CHOICES("-lm --load-mode", load_modes)};
    const struct choices of_rl[] = {CHOICES("--method", methods), CHOICES("--lr-schedule", schedules),
                                    CHOICES("--loss-type", averages), CHOICES("--scale-rewards", scales),
                                    CHOICES("--engine", engines), CHOICES("-lm --load-mode", load_modes)};
#undef CHOICES
    (void)state;
    check_choices(&command_train, of_train, sizeof of_train / sizeof *of_train);
    check_choices(&command_rl, of_rl, sizeof of_rl / sizeof *of_rl);
}

/* Everything printed from the tables names every option: none can be forgotten. */
static void test_help_man_and_completions_name_every_option(void **state) {
    static const char *const shells[] = {"man", "bash", "zsh", "fish"};
    (void)state;
    for (size_t k = 0; k < N_COMMANDS; k++) {
        char *page = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&page, &size);
        help_command(out, commands[k]);
        fclose(out);
        for (size_t i = 0; i < commands[k]->n_options; i++) {
            const char *cursor = commands[k]->options[i].names;
            char name[64];
            while (cursor && next_name(&cursor, ' ', name, sizeof name)) {
                assert_non_null(strstr(page, name));
            }
        }
        for (char *line = strtok(page, "\n"); line; line = strtok(NULL, "\n")) {
            assert_true(strlen(line) <= 100);
        }
        free(page);
    }
    for (size_t s = 0; s < sizeof shells / sizeof *shells; s++) {
        char *page = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&page, &size);
        if (s == 0) {
            help_man(out, commands, N_COMMANDS);
        } else {
            assert_true(help_completion(out, shells[s], commands, N_COMMANDS));
        }
        fclose(out);
        assert_non_null(strstr(page, s == 0   ? "\\-\\-chat\\-template"
                                     : s == 3 ? "-l chat-template"
                                              : "--chat-template"));
        assert_non_null(strstr(page, s == 0 ? "\\-ngl" : s == 3 ? "-o ngl" : "-ngl"));
        free(page);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_those_of_the_table),
        cmocka_unit_test(test_every_name_and_form_of_an_option_is_understood),
        cmocka_unit_test(test_repeatable_options_and_operands_collect),
        cmocka_unit_test(test_command_line_wins_over_environment_over_default),
        cmocka_unit_test(test_a_variable_says_whether_a_flag_is_on),
        cmocka_unit_test(test_wrong_values_name_the_option_and_its_range),
        cmocka_unit_test(test_words_stand_for_the_default_and_the_most),
        cmocka_unit_test(test_an_option_is_like_another_that_is_given),
        cmocka_unit_test(test_missing_values_are_told_from_values_with_a_dash),
        cmocka_unit_test(test_unknown_options_get_a_suggestion),
        cmocka_unit_test(test_help_is_found_whatever_else_is_wrong),
        cmocka_unit_test(test_tables_are_sound),
        cmocka_unit_test(test_defaults_shown_are_those_of_the_library),
        cmocka_unit_test(test_choices_match_their_enums),
        cmocka_unit_test(test_help_man_and_completions_name_every_option),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
