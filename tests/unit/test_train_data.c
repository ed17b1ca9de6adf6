/* Pair files: what is read, cut, dropped and refused; which pairs are held out and in which order the rest is trained on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "ops/attention.h"
#include "support/golden.h"
#include "train/data.h"
#include "train/pack.h"
#include "train/plan.h"

static struct genarm_model *model;
static char path[64];

static int setup(void **state) {
    (void)state;
    model = golden_model("llama.gguf");
    snprintf(path, sizeof path, "/tmp/genarm-pairs-XXXXXX");
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    genarm_model_free(model);
    unlink(path);
    return 0;
}

static int read_bytes(struct data *d, const char *text, size_t n, int32_t max_length, struct genarm_error *err) {
    const char *paths[] = {path};
    assert_int_equal(file_write(path, text, n, NULL), GENARM_OK);
    return data_read(d, model, paths, 1, NULL, NULL, max_length, err);
}

static int read_text(struct data *d, const char *text, int32_t max_length, struct genarm_error *err) {
    return read_bytes(d, text, strlen(text), max_length, err);
}

/* Tokens as text, control tokens spelled out. */
static const char *spell(const int32_t *tokens, int32_t n) {
    static char text[4096];
    size_t at = 0;
    for (int32_t i = 0; i < n; i++) {
        const int32_t length = genarm_token_bytes(model, tokens[i], true, text + at, (int32_t)(sizeof text - at - 1));
        assert_true(length >= 0);
        at += (size_t)length;
    }
    text[at] = '\0';
    return text;
}

#define PROMPT(user) "<|endoftext|><|im_start|>user\n" user "<|im_end|>\n<|im_start|>assistant\n"

static void test_a_pair_becomes_what_decoding_sees(void **state) {
    (void)state;
    struct data d;
    struct genarm_error err = {0};
    must(read_text(
             &d,
             "{\"prompt\": \"Who?\", \"chosen\": \"Me.\", \"rejected\": \"You \\u00e9\", \"more\": [1]}\n"
             "\n"
             "{\"system\": \"Be brief\", \"prompt\": \"Who?\", \"chosen\": \"<|im_end|>\", \"rejected\": \"b\"}\r\n",
             1024, &err),
         &err);
    assert_int_equal(d.n_pairs, 2);
    assert_int_equal(d.report.read, 2);
    assert_int_equal(d.report.kept, 2);
    assert_string_equal(spell(data_prompt(&d, &d.pairs[0]), d.pairs[0].n_prompt), PROMPT("Who?"));
    assert_string_equal(spell(data_response(&d, &d.pairs[0], CHOSEN), d.pairs[0].n_response[CHOSEN]), "Me.<|im_end|>");
    assert_string_equal(spell(data_response(&d, &d.pairs[0], REJECTED), d.pairs[0].n_response[REJECTED]),
                        "You \u00e9<|im_end|>");
    assert_string_equal(spell(data_prompt(&d, &d.pairs[1]), d.pairs[1].n_prompt),
                        "<|endoftext|><|im_start|>system\nBe "
                        "brief<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n");
    assert_true(d.pairs[1].n_response[CHOSEN] > 2); /* the spelling of a control token in a response is text */
    assert_int_equal(d.pairs[1].line, 3);
    assert_int_equal(d.report.spelled, 1);
    data_deinit(&d);
}

static void test_texts_that_are_in_a_template_already_are_counted(void **state) {
    (void)state;
    static const char *const paths[] = {path}, text[] =
        "{\"prompt\": \"<|im_start|>user\\nq<|im_end|>\\n\", \"chosen\": \"a\", \"rejected\": \"b\"}\n"
        "{\"prompt\": \"q\", \"chosen\": \"a\", \"rejected\": \"b<|im_end|>\"}\n"
        "{\"prompt\": \"q\", \"chosen\": \"<|im_end|>\", \"rejected\": \"<|im_end|>\"}\n" /* dropped */
        "{\"prompt\": \"q <|im\", \"chosen\": \"a\", \"rejected\": \"b\"}\n";
    static const struct {
        const char *name;
        int64_t spelled;
    } cases[] = {{NULL, 2}, {"chatml", 2}, {"raw:{prompt}", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct data d;
        struct genarm_error err = {0};
        assert_int_equal(file_write(path, text, sizeof text - 1, NULL), GENARM_OK);
        must(data_read(&d, model, paths, 1, NULL, cases[i].name, 1024, &err), &err);
        assert_int_equal(d.report.kept, 3);
        assert_int_equal(d.report.spelled, cases[i].spelled);
        data_deinit(&d);
    }
}

static void test_spaces_at_the_end_of_a_raw_template_are_trained_on_with_the_responses(void **state) {
    (void)state;
    static const char *const paths[] = {path}, line[] =
        "{\"chosen\": \"\\n\\nHuman: a\\n\\nAssistant: b\\n\\nHuman: c\\n\\nAssistant: d\", \"rejected\": \"\\n\\nHuman: "
        "a\\n\\nAssistant: b\\n\\nHuman: c\\n\\nAssistant: e\"}\n";
    struct data d;
    struct genarm_error err = {0};
    assert_int_equal(file_write(path, line, sizeof line - 1, NULL), GENARM_OK);
    must(data_read(&d, model, paths, 1, NULL, "raw:\\n\\nHuman: {prompt}\\n\\nAssistant: ", 1024, &err), &err);
    const struct pair *p = &d.pairs[0];
    assert_string_equal(spell(data_prompt(&d, p), p->n_prompt),
                        "<|endoftext|>\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:");
    assert_string_equal(spell(data_response(&d, p, CHOSEN), p->n_response[CHOSEN]), " d<|im_end|>");
    assert_string_equal(spell(data_response(&d, p, REJECTED), p->n_response[REJECTED]), " e<|im_end|>");
    data_deinit(&d);
}

static void test_long_prompts_lose_the_beginning_of_the_users_text(void **state) {
    (void)state;
    struct data d;
    struct genarm_error err = {0};
    static const char line[] =
        "{\"prompt\": \"1234567890 \\u00e9\\u00e9\\u00e9 1234567890\", \"chosen\": \"abcd\", \"rejected\": \"efg\"}\n";
    must(read_text(&d, line, 1024, &err), &err);
    const int32_t whole = d.pairs[0].n_prompt + d.pairs[0].n_response[CHOSEN];
    assert_int_equal(d.report.cut, 0);
    data_deinit(&d);
    int32_t before = whole;
    for (int32_t max = whole - 1; max > 0; max--) {
        if (read_text(&d, line, max, &err) != GENARM_OK) {
            assert_int_equal(err.code, GENARM_EFORMAT);
            assert_non_null(strstr(err.what, "1 longer than"));
            break;
        }
        const struct pair *p = &d.pairs[0];
        const char *text = spell(data_prompt(&d, p), p->n_prompt);
        static const char head[] = "<|endoftext|><|im_start|>user\n", tail[] = "<|im_end|>\n<|im_start|>assistant\n";
        const size_t n = strlen(text);
        assert_memory_equal(text, head, sizeof head - 1);
        assert_string_equal(text + n - (sizeof tail - 1), tail);
        assert_true(((unsigned char)text[sizeof head - 1] & 0xC0) != 0x80); /* no half character */
        const int32_t length = p->n_prompt + p->n_response[CHOSEN];
        assert_true(length <= max && length > max - 4 && length <= before);
        assert_int_equal(d.report.cut, 1);
        before = length;
        data_deinit(&d);
    }
    assert_true(before < whole - 20);
}

#define U(text) "{\"role\": \"user\", \"content\": \"" text "\"}"
#define V(text) "{\"role\": \"assistant\", \"content\": \"" text "\"}"
#define S(text) "{\"role\": \"system\", \"content\": \"" text "\"}"

static void test_every_format_becomes_the_same_tokens(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{\"prompt\": [" U("a") ", " V("b") ", " U("c") "], \"chosen\": \"d\", \"rejected\": \"e\"}\n",
        "{\"chosen\": \"\\n\\nHuman: a\\n\\nAssistant: b\\n\\nHuman: c\\n\\nAssistant: d\", \"rejected\": \"\\n\\nHuman: "
        "a\\n\\nAssistant: b\\n\\nHuman: c\\n\\nAssistant: e\"}\n",
        "{\"prompt\": \"\\n\\nHuman: a\\n\\nAssistant: b\\n\\nHuman: c\\n\\nAssistant:\", \"response\": \" d\", "
        "\"chosen\": \" d\", \"rejected\": \" e\"}\n",
        "{\"prompt\": \"a\", \"chosen\": [" U("a") ", " V("b") ", " U("c") ", " V("d") "], \"rejected\": [" U("a") ", " V(
            "b") ", " U("c") ", " V("e") "]}\n",
        "[{\"chosen\": [" U("a") ", " V("b") ", " U("c") ", " V("d") "], \"rejected\": [" U("a") ", " V("b") ", " U(
            "c") ", " V("e") "]}]",
    };
    uint64_t hash = 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct data d;
        struct genarm_error err = {0};
        must(read_text(&d, texts[i], 1024, &err), &err);
        const struct pair *p = &d.pairs[0];
        assert_string_equal(spell(data_prompt(&d, p), p->n_prompt),
                            "<|endoftext|><|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
                            "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n");
        assert_string_equal(spell(data_response(&d, p, CHOSEN), p->n_response[CHOSEN]), "d<|im_end|>");
        assert_true(i == 0 || d.hash == hash);
        hash = d.hash;
        data_deinit(&d);
    }
}

/* The longest ending of the conversation that fits, from a turn of the user on, after the system message. */
static void test_long_conversations_lose_their_earliest_turns(void **state) {
    (void)state;
    static const char line[] = "{\"prompt\": [" S("stay") ", " U("first question") ", " V("first answer") ", " U(
        "second question") ", " V("second answer") ", " U("third question") "], \"chosen\": \"d\", \"rejected\": \"e\"}\n";
    static const char *const users[] = {"first", "second", "third"};
    struct data d;
    struct genarm_error err = {0};
    must(read_text(&d, line, 1024, &err), &err);
    const int32_t whole = d.pairs[0].n_prompt + d.pairs[0].n_response[CHOSEN];
    data_deinit(&d);
    int kept = 0; /* the first turn that is */
    for (int32_t max = whole; read_text(&d, line, max, &err) == GENARM_OK; max--) {
        const struct pair *p = &d.pairs[0];
        const char *text = spell(data_prompt(&d, p), p->n_prompt);
        static const char head[] = "<|endoftext|><|im_start|>system\nstay<|im_end|>\n<|im_start|>user\n";
        assert_memory_equal(text, head, sizeof head - 1);
        assert_true(p->n_prompt + p->n_response[CHOSEN] <= max);
        assert_int_equal(d.report.cut, max < whole);
        while (kept < 2 && !strstr(text, users[kept])) {
            kept++;
        }
        for (int i = 0; i < 3; i++) {
            assert_true(i == 2 || (strstr(text, users[i]) != NULL) == (i >= kept));
        }
        assert_true(strstr(text, "<|im_end|>\n<|im_start|>assistant\n"));
        data_deinit(&d);
    }
    assert_int_equal(kept, 2);
}

static void test_reasons_of_every_format_reach_the_report(void **state) {
    (void)state;
    struct data d;
    struct genarm_error err = {0};
    must(read_text(&d,
                   "{\"chosen\": [" U("a") ", " V("b") "], \"rejected\": [" U("a") ", " V("bc") "]}\n"
                   "{\"chosen\": [" U("a") ", " V("b") "], \"rejected\": [" U("x") ", " V("c") "]}\n"
                   "{\"chosen\": [" U("a") ", " V("b") ", " U("c") ", " V("d") "], \"rejected\": [" U("a") ", " V("c") "]}\n",
                   1024, &err),
         &err);
    assert_int_equal(d.report.read, 3);
    assert_int_equal(d.report.kept, 1);
    assert_int_equal(d.report.dropped_turns, 2);
    assert_int_equal(d.report.prefixes, 1);
    data_deinit(&d);
    assert_int_equal(read_text(&d,
                               "{\"prompt\": \"a\", \"response_0\": \"b\", \"response_1\": \"c\", "
                               "\"better_response_id\": -1}\n",
                               1024, &err),
                     GENARM_EFORMAT);
    assert_non_null(strstr(err.what, "1 without a label"));
}

static void test_unusable_pairs_are_dropped_and_counted(void **state) {
    (void)state;
    struct data d;
    struct genarm_error err = {0};
    must(read_text(
             &d,
             "{\"prompt\": \"a\", \"chosen\": \"same\", \"rejected\": \"same\"}\n"
             "{\"prompt\": \"a\", \"chosen\": \"\", \"rejected\": \"x\"}\n"
             "{\"prompt\": \"a\", \"chosen\": \"x\", \"rejected\": \"\"}\n"
             "{\"prompt\": \"a\", \"chosen\": \"x\", \"rejected\": \"!\\\"#$%&'()*+,-/0123456789:;<=>?@ABCDEFGHIJ\"}\n"
             "{\"prompt\": \"\", \"chosen\": \"x\", \"rejected\": \"y\"}\n",
             48, &err),
         &err);
    assert_int_equal(d.report.read, 5);
    assert_int_equal(d.report.kept, 1);
    assert_int_equal(d.report.dropped_equal, 1);
    assert_int_equal(d.report.dropped_empty, 2);
    assert_int_equal(d.report.dropped_long, 1);
    assert_int_equal(d.n_pairs, 1);
    assert_int_equal(d.pairs[0].line, 5);
    data_deinit(&d);
}

/* What is not trained on neither drops nor cuts: it is left out where it does not fit. */
static void test_the_chosen_response_alone_is_checked_and_sized_where_it_counts_alone(void **state) {
    (void)state;
    static const bool ranked[] = {false, false, false, false, true};
    static const uint32_t all[] = {0, 1, 2, 3, 4};
    static const struct pref_params params = {.use = PREF_CHOSEN};
    static const char text[] =
        "{\"prompt\": \"a\", \"chosen\": \"same\", \"rejected\": \"same\"}\n"
        "{\"prompt\": \"a\", \"chosen\": \"\", \"rejected\": \"x\"}\n"
        "{\"prompt\": \"a\", \"chosen\": \"x\", \"rejected\": \"\"}\n"
        "{\"prompt\": \"a\", \"chosen\": \"x\", \"rejected\": \"!\\\"#$%&'()*+,-/0123456789:;<=>?@ABCDEFGHIJ\"}\n"
        "{\"prompt\": \"a\", \"chosen\": \"x\"}\n"
        "{\"prompt\": \"a\", \"chosen\": \"x\", \"rejected\": \"y\"}\n";
    const char *paths[] = {path};
    struct data d;
    struct pack pack;
    struct genarm_error err = {0};
    assert_int_equal(file_write(path, text, strlen(text), NULL), GENARM_OK);
    must(data_read(&d, model, paths, 1, &params, NULL, 48, &err), &err);
    assert_int_equal(d.report.kept, 5);
    assert_int_equal(d.report.dropped_empty, 1);
    assert_int_equal(d.report.cut, 0);
    must(pack_init(&pack, &d, all, 5, PACK_BOTH, &err), &err);
    int32_t n_rows = 0, n_scored = 0;
    for (int i = 0; i < 5; i++) {
        const struct pair *p = &d.pairs[i];
        const int32_t *tree = pack.trees + 4 * i;
        assert_string_equal(spell(data_prompt(&d, p), p->n_prompt), PROMPT("a"));
        assert_int_equal(p->n_response[REJECTED] > 0, ranked[i]);
        assert_true(tree[0] == n_rows && tree[1] == p->n_prompt && tree[2 + CHOSEN] == p->n_response[CHOSEN] - 1);
        assert_int_equal(tree[2 + REJECTED], ranked[i] ? p->n_response[REJECTED] - 1 : 0);
        n_rows += tree[1] + tree[2] + tree[3];
        n_scored += p->n_response[CHOSEN] + p->n_response[REJECTED];
    }
    assert_true(pack.n_rows == n_rows && pack.n_scored == n_scored);
    pack_deinit(&pack);
    data_deinit(&d);
}

/* n words of one letter, in JSON's quotes */
static void put_words(FILE *f, int n) {
    fputc('"', f);
    for (int i = 0; i < n; i++) {
        fprintf(f, "%c ", 'a' + i % 26);
    }
    fputc('"', f);
}

/* Prompt and both responses are one tree of rows, which has a largest size whatever the maximum length is. */
static void test_a_prompt_is_cut_to_what_one_tree_takes(void **state) {
    (void)state;
    struct data d;
    struct genarm_error err = {0};
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    for (int n = 1500; n <= 6000; n += 4500) {
        fputs("{\"prompt\": ", f);
        put_words(f, 3000);
        fputs(", \"chosen\": ", f);
        put_words(f, n);
        fputs(", \"rejected\": ", f);
        put_words(f, n + 1);
        fputs("}\n", f);
    }
    assert_int_equal(fclose(f), 0);
    must(read_text(&d, text, 1 << 20, &err), &err);
    assert_int_equal(d.n_pairs, 1);
    assert_int_equal(d.report.cut, 1);
    assert_int_equal(d.report.dropped_large, 1);
    assert_in_range(d.pairs[0].n_prompt + d.pairs[0].n_response[CHOSEN] + d.pairs[0].n_response[REJECTED], 8000,
                    ATTENTION_MAX_TREE);
    data_deinit(&d);
    free(text);
}

static void test_broken_files_are_refused_by_line(void **state) {
    (void)state;
    static const struct {
        const char *text, *place, *says;
    } cases[] = {
        {"{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\n{\"prompt\": \"a\", \"chosen\": \n", ":2", ""},
        {"\n\n{\"prompt\": \"a\", \"rejected\": \"c\"}\n", ":3", "chosen"},
        {"{\"prompt\": \"a\", \"chosen\": 7, \"rejected\": \"c\"}\n", ":1", "chosen"},
        {"{\"prompt\": [], \"chosen\": \"b\", \"rejected\": \"c\"}\n", ":1", "prompt"},
        {"{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\", \"system\": 1}\n", ":1", "system"},
        {"{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"\xff\"}\n", ":1", ""},
        {"{\"prompt\": \"a\", \"prompt\": \"d\", \"chosen\": \"b\", \"rejected\": \"c\"}\n", ":1", "prompt"},
        {"[1, 2]\n", ":1", "object"},
        {"17\n", ":1", ""},
        {"", "", "no pairs"},
        {" \n\t\n", "", "no pairs"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct data d;
        struct genarm_error err = {0};
        char where[128];
        assert_int_equal(read_text(&d, cases[i].text, 1024, &err), GENARM_EFORMAT);
        snprintf(where, sizeof where, "%s%s", path, cases[i].place);
        if (strncmp(err.where, where, strlen(where)) != 0 || !strstr(err.what, cases[i].says)) {
            fail_msg("case %zu: %s: %s", i, err.where, err.what);
        }
        assert_int_equal(d.n_pairs, 0);
    }
}

static void test_a_nul_byte_is_refused(void **state) {
    (void)state;
    struct data d;
    struct genarm_error err = {0};
    static const char text[] = "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\n\0\n";
    assert_int_equal(read_bytes(&d, text, sizeof text - 1, 1024, &err), GENARM_EFORMAT);
    static const char inside[] = "{\"prompt\": \"a\\u0000b\", \"chosen\": \"b\", \"rejected\": \"c\"}\n";
    assert_int_equal(read_text(&d, inside, 1024, &err), GENARM_EFORMAT);
}

static void test_missing_files_and_overlong_lines_are_refused(void **state) {
    (void)state;
    struct data d;
    struct genarm_error err = {0};
    const char *missing[] = {"/tmp/genarm-no-such-file.jsonl"};
    assert_int_equal(data_read(&d, model, missing, 1, NULL, NULL, 1024, &err), GENARM_EIO);
    assert_string_equal(err.where, missing[0]);
    assert_int_equal(data_read(&d, model, NULL, 0, NULL, NULL, 1024, &err), GENARM_EINVAL);
    const size_t n = PREF_MAX_BYTES + 64;
    char *line = malloc(n);
    memset(line, 'x', n);
    assert_true(read_bytes(&d, line, n, 1024, &err) < 0);
    assert_non_null(strstr(err.where, ":1"));
    free(line);
}

static void test_the_hash_tells_data_apart(void **state) {
    (void)state;
    static const char *const texts[] = {"{\"prompt\": \"a\", \"chosen\": \"bc\", \"rejected\": \"d\"}\n",
                                        "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"cd\"}\n",
                                        "{\"prompt\": \"a\", \"chosen\": \"d\", \"rejected\": \"bc\"}\n",
                                        "{ \"rejected\" : \"d\", \"chosen\": \"bc\", \"prompt\": \"a\" }"};
    uint64_t hashes[4];
    for (int i = 0; i < 4; i++) {
        struct data d;
        assert_int_equal(read_text(&d, texts[i], 1024, NULL), GENARM_OK);
        hashes[i] = d.hash;
        data_deinit(&d);
    }
    assert_true(hashes[0] != hashes[1] && hashes[0] != hashes[2]);
    assert_true(hashes[0] == hashes[3]); /* only what is trained on counts */
}

/* ---- plan and packing ---- */

/* n pairs, `per_prompt` neighbours with the same prompt. */
static void fake_data(struct data *d, int32_t n, int32_t per_prompt) {
    *d = (struct data){.tokens = calloc((size_t)n * 12, sizeof *d->tokens),
                       .pairs = calloc((size_t)n, sizeof *d->pairs),
                       .n_pairs = (size_t)n};
    for (int32_t i = 0; i < n; i++) {
        d->pairs[i] = (struct pair){.first = (size_t)i * 12,
                                    .n_prompt = 5,
                                    .n_response = {3, 4},
                                    .prompt_hash = (uint64_t)(i / per_prompt) * 7919};
        for (int32_t k = 0; k < 12; k++) {
            d->tokens[i * 12 + k] = 100 * i + k;
        }
    }
}

static void count_use(struct plan *p, int64_t from, int64_t to, int *uses) {
    for (int64_t s = from; s < to; s++) {
        int32_t n;
        const uint32_t *pairs = plan_step(p, s, &n);
        for (int32_t i = 0; i < n; i++) {
            uses[pairs[i]]++;
        }
    }
}

static void test_every_epoch_uses_every_pair_once(void **state) {
    (void)state;
    struct data d;
    struct plan p;
    struct genarm_train_params params = genarm_train_default_params();
    params.batch_size = 7;
    params.epochs = 3;
    params.val_split = 0.1f;
    fake_data(&d, 100, 1);
    assert_int_equal(plan_init(&p, &d, &params, NULL), GENARM_OK);
    assert_int_equal(p.n_val, 10);
    assert_int_equal(p.steps_per_epoch, 13);
    assert_int_equal(p.n_steps, 39);
    for (int64_t e = 0; e < 3; e++) {
        int uses[100] = {0};
        count_use(&p, e * 13, (e + 1) * 13, uses);
        for (int32_t i = 0; i < p.n_val; i++) {
            assert_int_equal(uses[p.val[i]], 0);
            uses[p.val[i]] = 1;
        }
        for (int i = 0; i < 100; i++) {
            assert_int_equal(uses[i], 1);
        }
        assert_int_equal(plan_pairs_before(&p, (e + 1) * 13), (e + 1) * 90);
    }
    plan_deinit(&p);
    data_deinit(&d);
}

static void test_order_depends_on_seed_and_epoch_only(void **state) {
    (void)state;
    struct data d;
    struct plan a, b, other;
    struct genarm_train_params params = genarm_train_default_params();
    int32_t n;
    params.epochs = 2;
    params.batch_size = 50;
    fake_data(&d, 60, 1);
    plan_init(&a, &d, &params, NULL);
    plan_init(&b, &d, &params, NULL);
    params.seed = 1;
    plan_init(&other, &d, &params, NULL);
    plan_step(&a, 0, &n); /* b jumps straight to the second epoch */
    assert_memory_equal(plan_step(&a, 2, &n), plan_step(&b, 2, &n), (size_t)n * sizeof(uint32_t));
    uint32_t second[50];
    memcpy(second, plan_step(&a, 2, &n), sizeof second);
    assert_memory_not_equal(second, plan_step(&a, 0, &n), sizeof second);
    assert_memory_not_equal(second, plan_step(&other, 2, &n), sizeof second);
    plan_deinit(&a);
    plan_deinit(&b);
    plan_deinit(&other);
    params.shuffle = false;
    plan_init(&a, &d, &params, NULL);
    const uint32_t *order = plan_step(&a, 2, &n);
    for (int32_t i = 1; i < n; i++) {
        assert_true(order[i] > order[i - 1]);
    }
    plan_deinit(&a);
    data_deinit(&d);
}

static void test_pairs_of_one_prompt_are_not_split(void **state) {
    (void)state;
    for (int32_t per_prompt = 1; per_prompt <= 5; per_prompt++) {
        struct data d;
        struct plan p;
        struct genarm_train_params params = genarm_train_default_params();
        params.val_split = 0.2f;
        fake_data(&d, 100, per_prompt);
        plan_init(&p, &d, &params, NULL);
        bool held_out[100] = {false};
        for (int32_t i = 0; i < p.n_val; i++) {
            held_out[p.val[i]] = true;
        }
        for (int32_t i = 1; i < 100; i++) {
            assert_true(i / per_prompt != (i - 1) / per_prompt || held_out[i] == held_out[i - 1]);
        }
        assert_in_range(p.n_val, 18, 22);
        plan_deinit(&p);
        data_deinit(&d);
    }
}

static void test_extreme_splits_leave_something_on_both_sides(void **state) {
    (void)state;
    static const struct {
        int32_t n, per_prompt;
        float share;
        int32_t n_val;
    } cases[] = {{100, 100, 0.1f, 10}, {1, 1, 0.5f, 0}, {2, 1, 0.01f, 1}, {100, 1, 0, 0}, {40, 20, 0.05f, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct data d;
        struct plan p;
        struct genarm_train_params params = genarm_train_default_params();
        params.val_split = cases[i].share;
        fake_data(&d, cases[i].n, cases[i].per_prompt);
        plan_init(&p, &d, &params, NULL);
        assert_int_equal(p.n_val, cases[i].n_val);
        assert_int_equal(p.n_train, cases[i].n - cases[i].n_val);
        plan_deinit(&p);
        data_deinit(&d);
    }
}

/* For a head: responses whole, each scored at its last row. */
static void test_rows_and_scores_of_whole_responses(void **state) {
    (void)state;
    struct data d;
    struct pack p;
    fake_data(&d, 2, 1);
    static const uint32_t pairs[] = {1, 0};
    assert_int_equal(pack_init(&p, &d, pairs, 2, PACK_ENDS, NULL), GENARM_OK);
    assert_int_equal(p.n_rows, 2 * (5 + 3 + 4));
    static const int32_t tokens[] = {100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111},
                         positions[] = {0, 1, 2, 3, 4, 5, 6, 7, 5, 6, 7, 8};
    static const int32_t trees[] = {0, 5, 3, 4, 12, 5, 3, 4}, rows[] = {7, 11, 19, 23}, branches[] = {0, 1, 2, 3};
    assert_int_equal(p.n_scored, 4);
    assert_memory_equal(p.tokens, tokens, sizeof tokens);
    assert_memory_equal(p.positions, positions, sizeof positions);
    assert_memory_equal(p.trees, trees, sizeof trees);
    assert_memory_equal(p.scored_rows, rows, sizeof rows);
    assert_memory_equal(p.branches, branches, sizeof branches);
    assert_int_equal(p.targets[0], 107);
    pack_deinit(&p);
    assert_int_equal(pack_count(&d, pairs, 2, PACK_ENDS, 0, 23), 1);
    assert_int_equal(pack_count(&d, pairs, 2, PACK_ENDS, 0, 24), 2);
    data_deinit(&d);
}

static void test_rows_and_scores_of_a_pack(void **state) {
    (void)state;
    struct data d;
    struct pack p;
    fake_data(&d, 2, 1);
    static const uint32_t pairs[] = {1, 0};
    assert_int_equal(pack_init(&p, &d, pairs, 2, PACK_BOTH, NULL), GENARM_OK);
    assert_int_equal(p.n_rows, 2 * (5 + 2 + 3));
    assert_int_equal(p.n_scored, 2 * 7);
    static const int32_t tokens[] = {100, 101, 102, 103, 104, 105, 106, 108, 109, 110},
                         positions[] = {0, 1, 2, 3, 4, 5, 6, 5, 6, 7};
    static const int32_t trees[] = {0, 5, 2, 3, 10, 5, 2, 3}, rows[] = {4, 5, 6, 4, 7, 8, 9};
    static const int32_t targets[] = {105, 106, 107, 108, 109, 110, 111}, branches[] = {0, 0, 0, 1, 1, 1, 1};
    assert_memory_equal(p.tokens, tokens, sizeof tokens);
    assert_memory_equal(p.positions, positions, sizeof positions);
    assert_memory_equal(p.trees, trees, sizeof trees);
    assert_memory_equal(p.scored_rows, rows, sizeof rows);
    assert_memory_equal(p.targets, targets, sizeof targets);
    assert_memory_equal(p.branches, branches, sizeof branches);
    assert_int_equal(p.scored_rows[7], 14);
    assert_int_equal(p.branches[7], 2);
    pack_deinit(&p);
    assert_int_equal(pack_count(&d, pairs, 2, PACK_BOTH, 0, 19), 1);
    assert_int_equal(pack_count(&d, pairs, 2, PACK_BOTH, 0, 20), 2);
    assert_int_equal(pack_count(&d, pairs, 2, PACK_BOTH, 0, 1), 1); /* a pair that is too long goes alone */
    assert_int_equal(pack_count(&d, pairs, 2, PACK_BOTH, 1, 1000), 1);
    data_deinit(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_pair_becomes_what_decoding_sees),
        cmocka_unit_test(test_texts_that_are_in_a_template_already_are_counted),
        cmocka_unit_test(test_spaces_at_the_end_of_a_raw_template_are_trained_on_with_the_responses),
        cmocka_unit_test(test_long_prompts_lose_the_beginning_of_the_users_text),
        cmocka_unit_test(test_every_format_becomes_the_same_tokens),
        cmocka_unit_test(test_long_conversations_lose_their_earliest_turns),
        cmocka_unit_test(test_reasons_of_every_format_reach_the_report),
        cmocka_unit_test(test_unusable_pairs_are_dropped_and_counted),
        cmocka_unit_test(test_the_chosen_response_alone_is_checked_and_sized_where_it_counts_alone),
        cmocka_unit_test(test_a_prompt_is_cut_to_what_one_tree_takes),
        cmocka_unit_test(test_broken_files_are_refused_by_line),
        cmocka_unit_test(test_a_nul_byte_is_refused),
        cmocka_unit_test(test_missing_files_and_overlong_lines_are_refused),
        cmocka_unit_test(test_the_hash_tells_data_apart),
        cmocka_unit_test(test_every_epoch_uses_every_pair_once),
        cmocka_unit_test(test_order_depends_on_seed_and_epoch_only),
        cmocka_unit_test(test_pairs_of_one_prompt_are_not_split),
        cmocka_unit_test(test_extreme_splits_leave_something_on_both_sides),
        cmocka_unit_test(test_rows_and_scores_of_a_pack),
        cmocka_unit_test(test_rows_and_scores_of_whole_responses),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
