/* results.jsonl of the files that commands have written: rewards beside their answers, verdicts as wins, what is broken named. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "eval/results_write.h"
#include "support/any_options.h"
#include "support/golden.h"
#include "support/temp.h"

static struct genarm_error err;

static const char text[] =
    "title: T\nmodel: m.gguf\nmodels: {k: {train: {loss: arm}}}\nprompts: p.jsonl\nmethods:\n  base:\n"
    "  g: {label: G, sweep: {h: [0.5]}, method: args, temp: 0}\nrewards: {r: cmd:x, s: cmd:y}\n"
    "judges: {j: cmd:z}\naccuracy: {a: {data: d.jsonl, reward: \"arm:$k\"}}\n"
    "report: {kl: s, reference: base}\n";

static struct experiment *experiment;
static struct item_list list;
static struct eval_run run;

static void put(const char *name, const char *content) {
    char *path = item_path(run.folder, name, "");
    must(file_write(path, content, strlen(content), &err), &err);
    free(path);
}

static void open_run(const char *yaml) {
    static char folder[4096];
    static int n;
    char name[16];
    const struct items_params params = {0};
    snprintf(name, sizeof name, "out%d", n++);
    snprintf(folder, sizeof folder, "%s", temp_path(name));
    must(experiment_parse(&experiment, yaml, strlen(yaml), "e.yaml", &err), &err);
    must(items_new(&list, experiment, &params, &anything, &err), &err);
    run = (struct eval_run){.list = &list, .folder = folder};
    must(eval_run_init(&run, &err), &err);
    must(eval_run_prepare(&run, &err), &err);
}

static int setup(void **state) {
    (void)state;
    open_run(text);
    put("models/k.gguf", "x");
    put("answers/base.jsonl",
        "{\"prompt\":\"p0\",\"response\":\"a\",\"tokens\":[1,2],\"finish_reason\":\"stop\",\"logprob\":-1.5}\n"
        "{\"messages\":[{\"role\":\"user\",\"content\":\"p1\"},{\"role\":\"assistant\",\"content\":\"x\"}],"
        "\"response\":\"b\\u0000c\",\"tokens\":[],\"finish_reason\":\"length\"}\n");
    put("answers/g@h=0.5.jsonl",
        "{\"prompt\":\"p0\",\"response\":\"c\",\"tokens\":[1]}\n{\"prompt\":\"p1\",\"response\":\"d\"}\n");
    put("rewards/base.r.jsonl", "{\"index\":0,\"rewards\":{\"x\":1.5}}\n{\"index\":1,\"rewards\":{\"x\":null}}\n");
    put("rewards/g@h=0.5.r.jsonl", "{\"index\":0,\"rewards\":{\"x\":2}}\n{\"index\":1,\"rewards\":{\"x\":3}}\n");
    put("verdicts/g@h=0.5.j.jsonl",
        "{\"index\":0,\"verdict\":\"a\",\"preference\":2}\n{\"index\":1,\"verdict\":\"b\",\"preference\":1}\n");
    put("pairs/a.jsonl", "{\"index\":0,\"chosen\":{\"x\":1},\"rejected\":{\"x\":-1}}\n");
    for (size_t i = 0; i < list.n; i++) { /* all but the reward s */
        run.states[i] = strcmp(list.items[i].part->name, "s") == 0 ? STATE_OPEN : STATE_DONE;
    }
    return 0;
}

static int teardown(void **state) {
    (void)state;
    eval_run_deinit(&run);
    items_free(&list);
    experiment_free(experiment);
    experiment = NULL;
    return 0;
}

/* The lines of the results, as a JSON array. */
static json_t *results(void) {
    char *path = item_path(run.folder, "results", ".jsonl");
    FILE *f = fopen(path, "rb");
    json_t *all = json_array(), *line;
    assert_non_null(f);
    while ((line = json_loadf(f, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, NULL))) {
        json_array_append_new(all, line);
    }
    fclose(f);
    free(path);
    return all;
}

static void line_is(const json_t *all, size_t i, const char *expected) {
    char *text_of_line = json_dumps(json_array_get(all, i), JSON_COMPACT | JSON_REAL_PRECISION(6));
    assert_string_equal(text_of_line, expected);
    free(text_of_line);
}

static void test_all_files_become_one(void **state) {
    (void)state;
    must(eval_results_write(experiment, &run, "m.gguf", &err), &err);
    json_t *all = results(), *head = json_array_get(all, 0);
    assert_int_equal(json_array_size(all), 1 + 1 + 2 + 2 + 2 + 1);
    assert_string_equal(json_string_value(json_object_get(head, "kind")), "experiment");
    assert_int_equal(json_integer_value(json_object_get(head, "n_prompts")), 2);
    assert_true(json_integer_value(json_object_get(head, "n_done")) < json_integer_value(json_object_get(head, "n_files")));
    json_t *expected = json_loads("[{\"name\":\"base\",\"label\":\"base\",\"method\":\"guided\",\"points\":[{}],\"plain\":[true]},"
                                  "{\"name\":\"g\",\"label\":\"G\",\"method\":\"args\",\"points\":[{\"h\":0.5}],"
                                  "\"plain\":[false]}]",
                                  0, NULL);
    assert_true(json_equal(json_object_get(head, "methods"), expected));
    json_decref(expected);
    line_is(all, 1,
            "{\"kind\":\"model\",\"name\":\"k\",\"point\":{},\"command\":\"train\",\"seconds\":0.0,\"options\":{\"loss\":\"arm\","
            "\"model\":\"m.gguf\"}}");
    line_is(all, 2,
            "{\"kind\":\"answer\",\"method\":\"base\",\"point\":{},\"index\":0,\"prompt\":\"p0\",\"response\":\"a\","
            "\"finish_reason\":\"stop\",\"n_tokens\":2,\"logprob\":-1.5,\"evaluated\":null,\"seconds\":null,"
            "\"rewards\":{\"r\":1.5}}");
    assert_string_equal(json_string_value(json_object_get(json_array_get(all, 3), "prompt")), "p1");
    assert_int_equal(json_string_length(json_object_get(json_array_get(all, 3), "response")), 3);
    assert_true(json_is_null(json_object_get(json_object_get(json_array_get(all, 3), "rewards"), "r")));
    line_is(all, 6,
            "{\"kind\":\"verdict\",\"judge\":\"j\",\"method\":\"g\",\"point\":{\"h\":0.5},\"against\":\"base\",\"index\":0,"
            "\"verdict\":\"win\",\"preference\":2}");
    line_is(all, 7,
            "{\"kind\":\"verdict\",\"judge\":\"j\",\"method\":\"g\",\"point\":{\"h\":0.5},\"against\":\"base\",\"index\":1,"
            "\"verdict\":\"lose\",\"preference\":1}");
    line_is(all, 8,
            "{\"kind\":\"pair\",\"name\":\"a\",\"point\":{},\"data\":\"d.jsonl\",\"scale\":0.05,\"index\":0,\"chosen\":1,"
            "\"rejected\":-1}");
    json_decref(all);
}

/* The other model that a reward needs may be one that no preferences made. */
static void test_the_scale_of_pairs_is_the_beta_of_what_preferences_made(void **state) {
    (void)state;
    static const double scales[] = {0.05, 0.3, 0.1, 0, 0, 0, 0, 2, 0, 0, 1.5, 0};
    enum { N = sizeof scales / sizeof *scales };
    open_run("model: m.gguf\nmodels:\n  small: {train: {loss: sft, beta: 7}}\n  arm: {train: {}}\n"
             "  dpo: {train: {loss: dpo}}\n  rm: {train: {loss: bt}}\n  strong: {train: {loss: arm, beta: 0.3}}\n"
             "  means: {train: {loss: simpo}}\n  ipo: {train: {loss: ipo}}\n"
             "  normalized: {train: {length-normalize: true, beta: 1.5}}\naccuracy:\n"
             "  a: {data: d, reward: \"arm:$small+$arm\"}\n  b: {data: d, reward: \"arm:$strong\"}\n"
             "  c: {data: d, reward: \"ratio:$dpo\"}\n  d: {data: d, reward: \"rm:$rm\"}\n"
             "  e: {data: d, reward: \"arm:$small\"}\n  f: {data: d, reward: \"arm:$dpo+$arm\"}\n"
             "  g: {data: d, reward: \"arm:$means\"}\n  h: {data: d, reward: \"arm-mean:$means\"}\n"
             "  i: {data: d, reward: \"ratio-mean:$ipo\"}\n  j: {data: d, reward: \"arm:$normalized\"}\n"
             "  k: {data: d, reward: \"ratio-mean:$normalized\"}\n  l: {data: d, reward: \"arm-mean:$arm\"}\n");
    for (char name = 'a'; name < 'a' + N; name++) {
        char file[32];
        snprintf(file, sizeof file, "pairs/%c.jsonl", name);
        put(file, "{\"index\":0,\"chosen\":{\"x\":1},\"rejected\":{\"x\":-1}}\n");
    }
    for (size_t i = 0; i < list.n; i++) {
        run.states[i] = list.items[i].kind == ITEM_PAIRS ? STATE_DONE : STATE_OPEN;
    }
    must(eval_results_write(experiment, &run, NULL, &err), &err);
    json_t *all = results();
    for (size_t i = 0; i < N; i++) {
        const json_t *scale = json_object_get(json_array_get(all, 1 + i), "scale");
        if (scales[i] > 0 ? !(fabs(json_number_value(scale) - scales[i]) < 1e-6) : !json_is_null(scale)) {
            fail_msg("%c: %g, expected %g", 'a' + (int)i, json_number_value(scale), scales[i]);
        }
    }
    json_decref(all);
}

static void test_what_could_not_be_answered_has_no_tokens(void **state) {
    (void)state;
    put("answers/base.jsonl", "{\"prompt\":\"p0\",\"response\":\"\",\"tokens\":[],\"finish_reason\":\"stop\"}\n"
                              "{\"prompt\":\"p1\",\"finish_reason\":\"error\",\"error\":\"too long\"}\n");
    must(eval_results_write(experiment, &run, "m.gguf", &err), &err);
    json_t *all = results();
    const json_t *empty = json_array_get(all, 2), *failed = json_array_get(all, 3);
    assert_int_equal(json_integer_value(json_object_get(empty, "n_tokens")), 0);
    assert_true(json_is_integer(json_object_get(empty, "n_tokens")));
    assert_true(json_is_null(json_object_get(failed, "n_tokens")) && json_is_null(json_object_get(failed, "response")));
    assert_string_equal(json_string_value(json_object_get(failed, "finish_reason")), "error");
    json_decref(all);
}

static void made_by(size_t i, const char *version, const char *machine) {
    struct item_record record = {.state = RECORD_DONE};
    snprintf(record.origin.version, sizeof record.origin.version, "%s", version);
    snprintf(record.origin.machine, sizeof record.origin.machine, "%s", machine);
    must(item_record_write(&record, &list.items[i], run.folder, &err), &err);
}

/* Not who reports them: that may be another program on another machine. */
static void test_results_say_who_has_made_the_files(void **state) {
    (void)state;
    open_run("models: {a: {train: {}}, b: {train: {x: 1}}, c: {train: {x: 2}}, d: {train: {x: 3}}, e: {train: {x: 4}}}\n");
    made_by(0, "1.0", "A");
    made_by(1, "1.0", "B");
    made_by(2, "1.0", "A");
    made_by(4, "7", "C");
    for (size_t i = 0; i < list.n; i++) { /* d is of before this was recorded, e is not done */
        run.states[i] = i < 4 ? STATE_DONE : STATE_OPEN;
    }
    must(eval_results_write(experiment, &run, NULL, &err), &err);
    json_t *all = results();
    json_t *expected = json_loads("[{\"version\":\"1.0\",\"machine\":\"A\",\"files\":2},"
                                  "{\"version\":\"1.0\",\"machine\":\"B\",\"files\":1},"
                                  "{\"version\":\"\",\"machine\":\"\",\"files\":1}]",
                                  0, NULL);
    assert_true(json_equal(json_object_get(json_array_get(all, 0), "made_by"), expected));
    json_decref(expected);
    json_decref(all);
}

static void test_names_that_read_as_numbers_are_names(void **state) {
    (void)state;
    open_run("prompts: p\nmethods: {1: {temp: 1}, 4: {temp: 2}}\nrewards: {7: cmd:x, true: cmd:y}\n"
             "report: {reference: 4, kl: true, gap: {from: 1, to: 4, reward: 7}, reference-point: {7: \"2\"}}\n");
    must(eval_results_write(experiment, &run, NULL, &err), &err);
    json_t *all = results();
    json_t *expected = json_loads("{\"reference\":\"4\",\"kl\":\"true\",\"gap\":{\"from\":\"1\",\"to\":\"4\",\"reward\":\"7\"},"
                                  "\"reference-point\":{\"7\":2}}",
                                  0, NULL);
    assert_true(json_equal(json_object_get(json_array_get(all, 0), "report"), expected));
    json_decref(expected);
    json_decref(all);
}

static void test_kl_is_of_answers_whose_tokens_are_those_that_were_drawn(void **state) {
    (void)state;
    static const bool plain[] = {true, false, false, false};
    open_run("prompts: p\nmethods: {a: {n: 4}, stop: {reverse-prompt: Q}, shift: {context-shift: true}, cold: {temp: 0.5}}\n");
    must(eval_results_write(experiment, &run, NULL, &err), &err);
    json_t *all = results();
    const json_t *methods = json_object_get(json_array_get(all, 0), "methods");
    for (size_t i = 0; i < 4; i++) {
        assert_true(json_is_true(json_array_get(json_object_get(json_array_get(methods, i), "plain"), 0)) == plain[i]);
    }
    json_decref(all);
}

static void broken(const char *name, const char *content, const char *where, const char *what) {
    char *before = item_path(run.folder, "results", ".jsonl");
    put(name, content);
    assert_int_equal(eval_results_write(experiment, &run, NULL, &err), GENARM_EFORMAT);
    assert_non_null(strstr(err.where, where));
    assert_non_null(strstr(err.what, what));
    assert_false(file_exists(before)); /* nothing half-written */
    free(before);
}

static void test_files_that_do_not_belong_together_are_named(void **state) {
    (void)state;
    broken("rewards/base.r.jsonl", "{\"index\":0,\"rewards\":{\"x\":1}}\n", "rewards/base.r.jsonl:",
           "reward of an answer is missing");
    broken("rewards/base.r.jsonl", "{\"index\":1,\"rewards\":{\"x\":1}}\n", "rewards/base.r.jsonl:1",
           "reward of an answer is missing");
    broken("rewards/base.r.jsonl", "{\"index\":0,\"rewards\":{}}\n", "rewards/base.r.jsonl:1", "one reward");
    broken("rewards/base.r.jsonl", "nonsense\n", "rewards/base.r.jsonl:1", "no JSON object");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_files_become_one, setup, teardown),
        cmocka_unit_test_teardown(test_the_scale_of_pairs_is_the_beta_of_what_preferences_made, teardown),
        cmocka_unit_test_setup_teardown(test_what_could_not_be_answered_has_no_tokens, setup, teardown),
        cmocka_unit_test_teardown(test_results_say_who_has_made_the_files, teardown),
        cmocka_unit_test_teardown(test_names_that_read_as_numbers_are_names, teardown),
        cmocka_unit_test_teardown(test_kl_is_of_answers_whose_tokens_are_those_that_were_drawn, teardown),
        cmocka_unit_test_setup_teardown(test_files_that_do_not_belong_together_are_named, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
