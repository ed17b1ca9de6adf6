/* From an experiment's text to commands: sweeps, substitution, what needs what, fingerprints; and what errors say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/names.h"
#include "eval/items.h"
#include "support/golden.h"
#include "support/temp.h"

/* ---- commands of a program that has few options ---- */

static const char *const flags = "bf16 resume per-pair length-normalize";
static const char *const values =
    "output model seed data loss beta arm-template prompts limit lora temp answers threads log parallel ctx-size steps "
    "chat-template";
static const char *const lists = "arm adapter reward judge guide source";

static bool checks_files; /* also what the experiment itself names */

static bool among(const char *names, const char *key) {
    char name[NAME_MAX_LENGTH];
    while (next_name(&names, ' ', name, sizeof name)) {
        if (strcmp(name, key) == 0) {
            return true;
        }
    }
    return false;
}

static int find(struct eval_option *out, const char *command, const char *key, struct genarm_error *error) {
    const char *all[] = {flags, values, lists};
    char near[NAME_MAX_LENGTH];
    key += strspn(key, "-");
    const bool log = strcmp(key, "log") == 0 && strcmp(command, "train") != 0;
    const bool resume = strcmp(key, "resume") == 0 && strcmp(command, "train") != 0 && strcmp(command, "rl") != 0;
    if (log || resume || (!among(flags, key) && !among(values, key) && !among(lists, key))) {
        return nearest_name(key, all, 3, near, sizeof near)
                   ? error_set(error, GENARM_EINVAL, "unknown option; did you mean \"%s\"?", near)
                   : error_set(error, GENARM_EINVAL, "unknown option");
    }
    *out = (struct eval_option){.form = among(flags, key) ? EVAL_FLAG : among(lists, key) ? EVAL_LIST : EVAL_VALUE,
                                .file = strcmp(key, "data") == 0 || (checks_files && among("prompts model", key)),
                                .free = among("threads log parallel", key),
                                .spec = strcmp(key, "guide") == 0    ? EVAL_PART
                                        : strcmp(key, "source") == 0 ? EVAL_SOURCE
                                                                     : EVAL_NO_SPEC};
    snprintf(out->name, sizeof out->name, "--%s", key);
    return 0;
}

static int check(const char *command, char **words, size_t n, struct genarm_error *error) {
    (void)command;
    for (size_t i = 0; i < n; i++) {
        const char *value = strchr(words[i], '=');
        char *end = NULL;
        if (strncmp(words[i], "--beta=", 7) == 0 && (strtod(value + 1, &end) < 0 || *end)) {
            return error_at(error, error_set(error, -1000, "\"%s\" is not a number from 0 to 1000", value + 1), "--beta");
        }
    }
    return 0;
}

static const struct eval_vocabulary few = {find, check};

/* ---- the fixture ---- */

static struct experiment *experiment;
static struct item_list list;
static struct items_params params;
static struct genarm_error err;

static int teardown(void **state) {
    (void)state;
    items_free(&list);
    experiment_free(experiment);
    experiment = NULL;
    params = (struct items_params){0};
    checks_files = false;
    return 0;
}

static int make(const char *text) {
    items_free(&list);
    experiment_free(experiment);
    experiment = NULL;
    memset(&err, 0, sizeof err);
    const int code = experiment_parse(&experiment, text, strlen(text), "e.yaml", &err);
    return code ? code : items_new(&list, experiment, &params, &few, &err);
}

static void refused(const char *text, const char *where, const char *what) {
    if (make(text) == 0) {
        fail_msg("%s\nis taken", text);
    }
    if (strcmp(err.where, where) != 0 || !strstr(err.what, what)) {
        fail_msg("%s\n  says: %s: %s\n  not:  %s: %s", text, err.where, err.what, where, what);
    }
}

static const struct item *item(const char *name) {
    for (size_t i = 0; i < list.n; i++) {
        if (strcmp(list.items[i].name, name) == 0) {
            return &list.items[i];
        }
    }
    fail_msg("there is no item %s", name);
    return NULL;
}

/* Whether an item's command has a word; OUT stands for the folder. */
static bool has(const char *name, const char *word) {
    char **words = item_words(item(name), "OUT");
    bool found = false;
    for (size_t i = 0; words[i]; i++) {
        found = found || strcmp(words[i], word) == 0;
    }
    item_words_free(words);
    return found;
}

static bool needs(const char *name, const char *other) {
    const struct item *a = item(name);
    for (size_t i = 0; i < a->n_needs; i++) {
        if (&list.items[a->needs[i]] == item(other)) {
            return true;
        }
    }
    return false;
}

#define WHOLE                                                                                                          \
    "title: T\nmodel: base.gguf\nseed: 3\noptions:\n  train: {beta: 0.1, bf16: true}\n  generate: {temp: 0.5}\n"       \
    "sweeps:\n  trade: [{h: 0, s: 1}, {h: 0.5, s: 0.5}]\n"                                                             \
    "models:\n  soup: {sweep: trade, merge: {adapter: [\"$kind:{h}\", \"$dpo:{s}\"]}}\n"                               \
    "  kind: {train: {loss: arm}}\n  dpo: {train: {loss: dpo, beta: 0.2, bf16: false}}\n"                              \
    "prompts: p.jsonl\nmethods:\n  base:\n  genarm: {label: GenARM, sweep: trade, arm: [\"a=$kind:{h}\"]}\n"           \
    "  soup: {sweep: trade, lora: $soup, temp: null}\n"                                                                \
    "rewards:\n  x: \"cmd:echo $$HOME {{h}}\"\n  b: {reward: \"arm:$model\"}\n"                                        \
    "judges:\n  j: {judge: \"rm:$kind\", against: base, methods: [soup]}\n  k: \"rm:$dpo\"\n"                          \
    "accuracy:\n  arm: {data: README.md, reward: \"arm:$kind\"}\n"                                                     \
    "report: {objectives: {x: h, b: s}, reference: base, gap: {from: base, to: soup, reward: x}, kl: b}\n"

static void test_an_experiment_becomes_commands(void **state) {
    (void)state;
    must(make(WHOLE), &err);
    /* 2 trainings, 2 merges; 1 + 2 + 2 answers; 2 rewards of each; 2 judged by j, 4 by k; 1 accuracy */
    assert_int_equal(list.n, 4 + 5 + 10 + 6 + 1);
    assert_string_equal(item("models.kind")->words[0], "train");
    assert_true(has("models.kind", "--beta=0.1") && has("models.kind", "--bf16") && has("models.kind", "--resume"));
    assert_true(has("models.kind", "--model=base.gguf") && has("models.kind", "--seed=3"));
    assert_true(has("models.kind", "--output=OUT/models/kind.gguf"));
    assert_true(has("models.dpo", "--beta=0.2") && !has("models.dpo", "--bf16"));
    assert_true(has("models.soup@h=0.5,s=0.5", "--adapter=OUT/models/kind.gguf:0.5"));
    assert_true(has("answers.base", "--temp=0.5") && has("answers.base", "--prompts=p.jsonl"));
    assert_true(has("answers.genarm@h=0,s=1", "--arm=a=OUT/models/kind.gguf:0"));
    assert_true(has("answers.soup@h=0,s=1", "--lora=OUT/models/soup@h=0,s=1.gguf"));
    assert_false(has("answers.soup@h=0,s=1", "--temp=0.5")); /* null takes a default away */
    assert_true(has("rewards.base.x", "--reward=cmd:echo $HOME {h}"));
    assert_true(has("rewards.soup@h=0,s=1.b", "--reward=arm:base.gguf"));
    assert_true(has("rewards.soup@h=0,s=1.b", "--answers=OUT/answers/soup@h=0,s=1.jsonl"));
    assert_true(has("verdicts.soup@h=0,s=1.j", "OUT/answers/base.jsonl"));
    assert_true(has("verdicts.genarm@h=0,s=1.k", "--judge=rm:OUT/models/dpo.gguf"));
    assert_true(has("pairs.arm", "--per-pair"));
    assert_string_equal(item("answers.genarm@h=0,s=1")->title, "answers of genarm, h=0,s=1");
    for (size_t i = 0; i < list.n; i++) {
        for (size_t k = 0; k < list.items[i].n_needs; k++) {
            assert_true(list.items[i].needs[k] < i);
        }
    }
    assert_true(needs("models.soup@h=0,s=1", "models.kind") && needs("answers.soup@h=0,s=1", "models.soup@h=0,s=1"));
    assert_false(needs("answers.soup@h=0,s=1", "models.soup@h=0.5,s=0.5"));
    assert_true(needs("verdicts.soup@h=0,s=1.j", "answers.base") && needs("verdicts.soup@h=0,s=1.j", "models.kind"));
}

static void test_products_of_sweeps(void **state) {
    (void)state;
    must(make("sweeps: {a: {x: [1, 2], y: [u, v, w]}, b: {z: [5]}}\nprompts: p\nmethods:\n  m: {sweep: a, temp: \"{x}\"}\n"
              "  n: {sweep: [a, b], temp: \"{z}\"}\n  o: {sweep: {t: [0.1, 0.2]}, temp: \"{t}\"}\n"),
         &err);
    assert_int_equal(list.n, 6 + 6 + 2);
    assert_string_equal(list.items[1].name, "answers.m@x=1,y=v");
    assert_true(has("answers.n@x=2,y=w,z=5", "--temp=5"));
    assert_true(has("answers.o@t=0.2", "--temp=0.2"));
}

static void test_the_command_line_wins(void **state) {
    (void)state;
    params = (struct items_params){.model = "big.gguf", .limit = 7};
    must(make(WHOLE), &err);
    assert_true(has("answers.base", "--model=big.gguf") && has("answers.base", "--limit=7"));
    assert_true(has("rewards.base.b", "--reward=arm:big.gguf"));
    params = (struct items_params){.only = "soup,arm"};
    must(make(WHOLE), &err);
    assert_true(item("models.kind")->wanted && item("rewards.soup@h=0,s=1.x")->wanted && item("pairs.arm")->wanted);
    assert_true(item("verdicts.soup@h=0,s=1.j")->wanted && item("answers.base")->wanted); /* which it is compared with */
    assert_false(item("answers.genarm@h=0,s=1")->wanted || item("rewards.base.x")->wanted);
    params.only = "soop";
    assert_int_equal(make(WHOLE), GENARM_EINVAL);
    assert_non_null(strstr(err.what, "did you mean \"soup\"?"));
}

static void test_typos_name_line_and_nearest(void **state) {
    (void)state;
    refused("titl: x\n", "e.yaml:1:1", "unknown key \"titl\"; did you mean \"title\"?");
    refused("models:\n  a: {trai: {}}\n", "e.yaml:2:7", "did you mean \"train\"?");
    refused("models:\n  a: {train: {}, merge: {}}\n", "e.yaml:2:18", "train is there already");
    refused("models:\n  a: {train: {betta: 1}}\n", "e.yaml:2:15", "betta: unknown option; did you mean \"beta\"?");
    refused("models:\n  a: {train: {beta: x}}\n", "e.yaml:2:21", "\"x\" is not a number from 0 to 1000");
    refused("options: {train: {beta: -1}}\nmodels:\n  a: {train: {}}\n", "e.yaml:1:25", "is not a number");
    refused("models:\n  a: {train: {beta: [1, 2]}}\n", "e.yaml:2:21", "a text or a number is needed");
    refused("models:\n  a: {train: {bf16: 7}}\n", "e.yaml:2:21", "bf16 must be true or false");
    refused("models:\n  a: {train: {output: x}}\n", "e.yaml:2:15", "genarm eval sets this option");
    refused("models:\n  a: {train: {data: no/such.jsonl}}\n", "e.yaml:2:21", "there is no file \"no/such.jsonl\"");
    refused("models:\n  a: {train: {beta: 1, --beta: 2}}\n", "e.yaml:2:24", "--beta and beta are the same option");
    refused("options: {trainn: {}}\n", "e.yaml:1:11", "did you mean \"train\"?");
    refused("models: {kind: {train: {}}}\nprompts: p\nmethods: {m: {arm: $kinf}}\n", "e.yaml:3:20", "did you mean \"kind\"?");
    refused("prompts: p\nmethods: {m: {arm: $model}}\n", "e.yaml:2:20", "$model is the base, and none is named");
    refused("sweeps: {trade: [{h: 1}]}\nprompts: p\nmethods: {m: {sweep: trad}}\n", "e.yaml:3:22", "did you mean \"trade\"?");
    refused("prompts: p\nmethods: {m: {sweep: {weight: [1]}, temp: \"{wieght}\"}}\n", "e.yaml:2:43", "did you mean {weight}?");
    refused("prompts: p\nmethods: {m: {temp: \"{h}\"}}\n", "e.yaml:2:21", "there is no variable {h} here");
    refused("sweeps: {t: [{a: 1}, {b: 1}]}\nmodels: {m: {train: {}}}\n", "e.yaml:1:23", "no variable \"b\"");
    refused("sweeps: {t: {a: [1, 1]}}\nmodels: {m: {train: {}}}\n", "e.yaml:1:13", "a=1 is there twice");
    refused("sweeps: {t: {a: [1, 2, 1.0]}}\nmodels: {m: {train: {}}}\n", "e.yaml:1:13", "a=1.0 is there twice");
    refused("prompts: p\nmethods: {m: {sweep: {a: [1, 2]}}}\njudges: {j: {judge: x, against: n}}\n", "e.yaml:3:33",
            "no method \"n\"");
    refused("methods: {m: }\n", "e.yaml:1:1", "there are methods but no prompts");
    refused("title: x\n", "e.yaml:1:1", "does nothing");
    refused("models: {model: {train: {}}}\n", "e.yaml:1:10", "$model is the base");
    refused("models: {a/b: {train: {}}}\n", "e.yaml:1:10", "is no name");
    refused("prompts: p\nmethods: {m: }\nreport: {objectives: {r: h}}\n", "e.yaml:3:23", "no reward \"r\"");
    refused("prompts: p\nmethods: {m: }\nreport: {referense: m}\n", "e.yaml:3:10", "did you mean \"reference\"?");
    refused("prompts: p\nmethods: {m: }\nrewards: {r: {temp: 1}}\n", "e.yaml:3:11", "no option \"reward\"");
    refused("prompts: p\nmethods: {m: }\nrewards: {r: {reward: [a, b]}}\n", "e.yaml:3:23", "one reward is needed here, not 2");
    refused("prompts: p\nmethods: {m: , n: }\njudges: {j: {judge: x, against: n, methods: [m, m]}}\n", "e.yaml:3:49",
            "the method is there twice");
    refused("sweeps: {t: [{h: 0, s: 1}, {s: 1.0, h: 0}]}\n", "e.yaml:1:13", "is there twice");
    refused("accuracy: {r: {data: README.md}}\n", "e.yaml:1:12", "needs the options \"reward\" and \"data\"");
    refused("accuracy: {r: {data: README.md, reward: a, source: \"cmd:x:2\"}}\n", "e.yaml:1:52", "a weight has no meaning here");
    refused("accuracy: {r: {reward: [a, b]}}\n", "e.yaml:1:24", "one reward is needed here, not 2");
    must(make("accuracy: {r: {data: README.md, reward: [a]}}\n"), &err);
}

static void test_files_that_are_read_are_there(void **state) {
    (void)state;
    const char *file = temp_path("there.gguf");
    char text[1024];
    must(file_write(file, "x", 1, &err), &err);
    refused("prompts: p\nmethods: {m: {guide: no.gguf}}\n", "e.yaml:2:22", "guide: there is no file \"no.gguf\"");
    refused("prompts: p\nmethods: {m: {guide: [\"a=no.gguf:0.5\"]}}\n", "e.yaml:2:23", "there is no file \"no.gguf\"");
    refused("prompts: p\nmethods: {m: {source: \"arm:no.gguf\"}}\n", "e.yaml:2:23", "there is no file \"no.gguf\"");
    refused("models: {k: {train: {}}}\nprompts: p\nmethods: {m: {guide: \"a=$k+no.gguf:1\"}}\n", "e.yaml:3:22",
            "there is no file \"no.gguf\"");
    must(make("models: {k: {sweep: {f: [x.gguf, y]}, train: {}}}\nprompts: p\nmethods:\n"
              "  m: {sweep: {f: [x.gguf, y]}, guide: [\"a=$k:0.5\", $k, \"$k+$k\"], source: [\"arm:$k\", \"cmd:no such\"]}\n"),
         &err);
    snprintf(text, sizeof text, "prompts: p\nmethods: {m: {guide: \"%s:2\", source: \"rank:%s#LABEL\"}}\n", file, file);
    must(make(text), &err);
    checks_files = true;
    refused("title: t\nprompts: no/p\nmethods: {m: }\n", "e.yaml:2:10", "prompts: there is no file \"no/p\"");
    snprintf(text, sizeof text, "model: no.gguf\nprompts: %s\nmethods: {m: }\n", file);
    refused(text, "e.yaml:1:8", "model: there is no file \"no.gguf\"");
}

static void test_a_dollar_may_stand_before_a_value(void **state) {
    (void)state;
    must(make("models: {k: {train: {}}}\nprompts: p\nmethods: {m: {sweep: {h: [0.5]}, temp: \"$${h} $$${k} $$$${h} {{h}}\"}}\n"),
         &err);
    assert_true(has("answers.m@h=0.5", "--temp=$0.5 $OUT/models/k.gguf $$0.5 {h}"));
}

static void test_models_that_need_each_other_are_refused(void **state) {
    (void)state;
    refused("models:\n  a: {merge: {adapter: $b}}\n  b: {merge: {adapter: $c}}\n  c: {merge: {adapter: $a}}\n", "e.yaml:4:24",
            "models need each other: a needs b needs c needs a");
    refused("models: {a: {merge: {adapter: $a}}}\n", "e.yaml:1:31", "a needs a");
}

static void test_a_model_of_a_sweep_needs_its_point(void **state) {
    (void)state;
    refused("models: {a: {sweep: {h: [0, 1]}, train: {beta: \"{h}\"}}}\nprompts: p\nmethods: {m: {lora: $a}}\n", "e.yaml:3:21",
            "none of them belongs to this one");
    must(make("models: {a: {sweep: {h: [0, 1]}, train: {beta: \"{h}\"}}}\nprompts: p\n"
              "methods: {m: {sweep: {h: [1.0], t: [2, 3]}, lora: $a, temp: \"{t}\"}}\n"),
         &err);
    assert_true(has("answers.m@h=1.0,t=3", "--lora=OUT/models/a@h=1.gguf"));
}

/* ---- fingerprints ---- */

static uint64_t print_of(const char *text, const char *name) {
    must(make(text), &err);
    return item(name)->fingerprint;
}

static void test_fingerprints_follow_what_counts(void **state) {
    (void)state;
    static const char with[] =
        "models: {k: {train: {beta: %s, threads: %s}}}\nprompts: p\nmethods: {b: {temp: %s}, g: {arm: $k}}\n";
    char a[256], b[256];
    snprintf(a, sizeof a, with, "0.1", "1", "1");
    snprintf(b, sizeof b, with, "0.2", "1", "1");
    assert_true(print_of(a, "models.k") == print_of(a, "models.k"));
    assert_true(print_of(a, "models.k") != print_of(b, "models.k"));
    assert_true(print_of(a, "answers.g") != print_of(b, "answers.g")); /* made with it */
    assert_true(print_of(a, "answers.b") == print_of(b, "answers.b"));
    snprintf(b, sizeof b, with, "0.1", "8", "1");
    assert_true(print_of(a, "models.k") == print_of(b, "models.k")); /* only faster */
    snprintf(b, sizeof b, with, "0.1", "1", "2");
    assert_true(print_of(a, "answers.b") != print_of(b, "answers.b"));
    assert_true(print_of(a, "answers.g") == print_of(b, "answers.g"));
}

static void test_names_do_not_count(void **state) {
    (void)state;
    static const char with[] = "models: {%s: {train: {beta: 1}}, %s: {train: {beta: 2}}, s: {merge: {adapter: [%s]}}}\n";
    char a[256], b[256], c[256];
    snprintf(a, sizeof a, with, "x", "y", "\"$x:1\", \"$y:2\", \"$x:3\"");
    snprintf(b, sizeof b, with, "good", "bad", "\"$good:1\", \"$bad:2\", \"$good:3\"");
    snprintf(c, sizeof c, with, "x", "y", "\"$x:1\", \"$y:2\", \"$y:3\"");
    assert_true(print_of(a, "models.x") == print_of(b, "models.good"));
    assert_true(print_of(a, "models.x") != print_of(b, "models.bad"));
    assert_true(print_of(a, "models.s") == print_of(b, "models.s"));
    assert_true(print_of(a, "models.s") != print_of(c, "models.s")); /* another one in its place */
}

static void test_order_counts_within_an_option(void **state) {
    (void)state;
    static const char a[] = "prompts: p\nmethods: {m: {arm: [\"a:1\", \"b:2\"], temp: 2}}\n",
                      b[] = "prompts: p\nmethods: {m: {temp: 2, arm: [\"a:1\", \"b:2\"]}}\n",
                      c[] = "prompts: p\nmethods: {m: {arm: [\"b:2\", \"a:1\"], temp: 2}}\n";
    assert_true(print_of(a, "answers.m") == print_of(b, "answers.m"));
    assert_true(print_of(a, "answers.m") != print_of(c, "answers.m"));
}

static void test_fingerprints_follow_what_files_hold(void **state) {
    (void)state;
    const char *one = temp_path("one.py"), *two = temp_path("two.py");
    char a[512], b[512];
    static const char with[] = "prompts: %s\nmethods: {m: }\nrewards: {r: \"cmd:python3 %s --fast\"}\n";
    must(file_write(one, "print(1)", 8, &err), &err);
    must(file_write(two, "print(1)", 8, &err), &err);
    snprintf(a, sizeof a, with, "p", one);
    snprintf(b, sizeof b, with, "p", two);
    const uint64_t before = print_of(a, "rewards.m.r");
    assert_true(before == print_of(b, "rewards.m.r")); /* the same file elsewhere */
    must(file_write(one, "print(2)", 8, &err), &err);
    assert_true(before != print_of(a, "rewards.m.r"));
    snprintf(a, sizeof a, with, one, two);
    const uint64_t answers = print_of(a, "answers.m"), rewards = print_of(a, "rewards.m.r");
    must(file_write(one, "print(3)", 8, &err), &err);
    assert_true(answers != print_of(a, "answers.m") && rewards != print_of(a, "rewards.m.r"));
}

/* Whether an option that says `before`, the file's path and `after` follows what the file holds. */
static void follows(const char *file, const char *before, const char *after) {
    char text[1024];
    snprintf(text, sizeof text, "models: {k: {train: {beta: 1, chat-template: \"%s%s%s\"}}}\n", before, file, after);
    must(file_write(file, "one", 3, &err), &err);
    const uint64_t one = print_of(text, "models.k");
    must(file_write(file, "two", 3, &err), &err);
    if (one == print_of(text, "models.k")) {
        fail_msg("%s%s%s does not follow the file", before, file, after);
    }
    must(file_write(file, "one", 3, &err), &err);
    assert_true(one == print_of(text, "models.k"));
}

static void test_fingerprints_follow_files_whatever_stands_around_their_names(void **state) {
    (void)state;
    const char *plain = temp_path("pairs.jsonl"), *odd = temp_path("x@h=0.5,s=1.gguf");
    follows(plain, "", "");
    follows(plain, "kind=", "");
    follows(plain, "kind=", "@better");
    follows(plain, "kind=", "@safer:2");
    follows(odd, "kind=", "@better");
    follows(odd, "c=", ":1");
    follows(odd, "arm:c=", "+adapter.gguf:0.5");
    follows(odd, "python3 ", " --fast");
}

/* Records of earlier runs stay true: these are fingerprints of texts without files from before labels were known. */
static void test_fingerprints_stay_what_they_were(void **state) {
    (void)state;
    static const char text[] = "models: {k: {train: {beta: 0.1, chat-template: \"a b:c=d@e,f@\"}}}\nprompts: p\n"
                               "methods: {g: {arm: [\"x=$k:0.5\"]}}\n";
    assert_true(print_of(text, "models.k") == UINT64_C(0x144239F307088A50));
    assert_true(print_of(text, "answers.g") == UINT64_C(0x38B76AD23D4EB227));
}

static void test_options_are_told(void **state) {
    (void)state;
    must(make("models: {k: {train: {bf16: true, loss: arm}}, s: {merge: {adapter: [\"$k:1\", \"$k:2\"]}}}\n"), &err);
    json_t *options = item_options(item("models.k"));
    assert_true(json_is_true(json_object_get(options, "bf16")));
    assert_string_equal(json_string_value(json_object_get(options, "loss")), "arm");
    json_decref(options);
    options = item_options(item("models.s"));
    assert_int_equal(json_array_size(json_object_get(options, "adapter")), 2);
    assert_string_equal(json_string_value(json_array_get(json_object_get(options, "adapter"), 1)), "models/k.gguf:2");
    json_decref(options);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_an_experiment_becomes_commands, teardown),
        cmocka_unit_test_teardown(test_products_of_sweeps, teardown),
        cmocka_unit_test_teardown(test_the_command_line_wins, teardown),
        cmocka_unit_test_teardown(test_typos_name_line_and_nearest, teardown),
        cmocka_unit_test_teardown(test_files_that_are_read_are_there, teardown),
        cmocka_unit_test_teardown(test_a_dollar_may_stand_before_a_value, teardown),
        cmocka_unit_test_teardown(test_models_that_need_each_other_are_refused, teardown),
        cmocka_unit_test_teardown(test_a_model_of_a_sweep_needs_its_point, teardown),
        cmocka_unit_test_teardown(test_fingerprints_follow_what_counts, teardown),
        cmocka_unit_test_teardown(test_names_do_not_count, teardown),
        cmocka_unit_test_teardown(test_order_counts_within_an_option, teardown),
        cmocka_unit_test_teardown(test_fingerprints_follow_what_files_hold, teardown),
        cmocka_unit_test_teardown(test_fingerprints_follow_files_whatever_stands_around_their_names, teardown),
        cmocka_unit_test_teardown(test_fingerprints_stay_what_they_were, teardown),
        cmocka_unit_test_teardown(test_options_are_told, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
