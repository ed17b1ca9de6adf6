/* What is sent to a judge behind a server, what its replies mean, and what the cache keeps: nothing is guessed, and no two
 * requests share a reply. */
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
#include "reward/chat_cache.h"
#include "reward/chat_prompt.h"
#include "reward/chat_wire.h"
#include "support/golden.h"
#include "support/temp.h"

/* ---- prompts ---- */

static void fills_to(const char *text, const char *const *names, const char *expected) {
    static const struct chat_field fields[] = {{"prompt", "Why {response}?"}, {"response", "So {prompt}."}};
    struct chat_prompt p = {0};
    struct genarm_error err = {0};
    json_t *messages = NULL;
    must(chat_prompt_load(&p, NULL, text, names, &err), &err);
    must(chat_prompt_fill(&messages, &p, fields, 2, &err), &err);
    char *is = json_dumps(messages, JSON_COMPACT);
    assert_string_equal(is, expected);
    free(is);
    json_decref(messages);
    chat_prompt_deinit(&p);
}

static void test_names_are_replaced_once(void **state) {
    (void)state;
    static const char *const names[] = {"prompt", "response", NULL}, *const none[] = {NULL};
    fills_to("{prompt}{response} {other} {{prompt}", names,
             "[{\"role\":\"user\",\"content\":\"Why {response}?So {prompt}. {other} {Why {response}?\"}]");
    fills_to("# note\n[system]\nBe {response}\n\n[user]\nx\n[user]\n", none,
             "[{\"role\":\"system\",\"content\":\"Be So {prompt}.\"},{\"role\":\"user\",\"content\":\"x\\n[user]\"}]");
    struct chat_prompt p;
    assert_int_equal(chat_prompt_load(&p, NULL, "{prompt}", names, NULL), GENARM_EFORMAT);
    assert_int_equal(chat_prompt_load(&p, NULL, "[system]\n{prompt} {response}", names, NULL), GENARM_EFORMAT);
}

static void test_the_built_in_prompts_can_be_used(void **state) {
    (void)state;
    static const char *const score[] = {"prompt", "response", NULL}, *const pairwise[] = {"prompt", "a", "b", NULL};
    struct chat_prompt p = {0};
    struct genarm_error err = {0};
    must(chat_prompt_load(&p, NULL, judge_text_score, score, &err), &err);
    assert_true(p.min == 1 && p.max == 10 && p.system);
    double x;
    assert_false(chat_find_score(&x, &p, p.user)); /* a model that repeats it gives no rating */
    chat_prompt_deinit(&p);
    must(chat_prompt_load(&p, NULL, judge_text_pairwise, pairwise, &err), &err);
    assert_true(p.system && strstr(p.user, "[[C]]"));
    chat_prompt_deinit(&p);
}

static void test_a_score_is_one_number_in_the_range(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double score; /* 0: none */
    } cases[] = {{"[[7]]", 7},         {"I say [[ 7.5 ]], so [[7.5]].", 7.5}, {"[[1]]", 1},    {"[[10]]", 10},
                 {"[[11]]", 0},        {"[[0]]", 0},                          {"[[7]] [[8]]", 0}, {"7", 0},
                 {"[7]", 0},           {"[[seven]]", 0},                      {"[[N]]", 0},    {"", 0},
                 {"[[1,2],[3]]", 0},   {"[[]]", 0},                           {"[[7", 0},      {"[[inf]]", 0},
                 {"[[nan]]", 0},       {"[[0x7]]", 0},                        {"[[7e0]]", 0},  {"[[7/10]]", 0},
                 {"[[note]] [[4]]", 4}, {"[[[5]]]", 5},                       {"[[7.]]", 0},   {"[[+3]]", 3}};
    const struct chat_prompt p = {.min = 1, .max = 10};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double score = 0;
        assert_int_equal(chat_find_score(&score, &p, cases[i].text), cases[i].score > 0);
        assert_true(score == cases[i].score);
    }
}

/* ---- the wire ---- */

static void test_base_urls_get_the_path_of_the_api(void **state) {
    (void)state;
    static const char *const right[][2] = {
        {"http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/chat/completions"},
        {"http://h/", "http://h/v1/chat/completions"},
        {"https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"},
        {"https://h/api/v3//", "https://h/api/v3/chat/completions"},
    };
    static const char *const wrong[] = {"ftp://h/v1", "h/v1", "http://me@h/v1", "http://me:x@h", "http://h/v1?key=1",
                                        "http://h/#x", "http://", "http://a b/"};
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        char *url = NULL;
        assert_int_equal(chat_wire_url(&url, right[i][0], NULL), GENARM_OK);
        assert_string_equal(url, right[i][1]);
        free(url);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *url = NULL;
        assert_int_equal(chat_wire_url(&url, wrong[i], NULL), GENARM_EINVAL);
        assert_null(url);
    }
    assert_true(chat_wire_in_clear("http://example.org/v1"));
    assert_true(chat_wire_in_clear("http://localhost.example.org/v1"));
    assert_false(chat_wire_in_clear("http://localhost:80/v1"));
    assert_false(chat_wire_in_clear("https://example.org/v1"));
}

static void test_a_secret_is_blotted_out(void **state) {
    (void)state;
    char text[] = "key=abcd1234abcd1234, abcd, abcd1234", stars[] = "a********b*********", common[] = "null";
    chat_wire_blot(text, strlen(text), "abcd1234");
    assert_string_equal(text, "key=****************, abcd, ********");
    chat_wire_blot(stars, strlen(stars), "********");
    assert_string_equal(stars, "a********b*********");
    chat_wire_blot(common, strlen(common), "null"); /* no secret */
    assert_string_equal(common, "null");
    chat_wire_blot(text, strlen(text), NULL);
    chat_wire_blot(NULL, 0, "abcd1234");
}

/* In whatever form the server writes it. */
static void test_a_secret_is_in_nothing_that_is_read_of_a_reply(void **state) {
    (void)state;
    static const char *const bodies[] = {
        "{\"choices\":[{\"message\":{\"content\":\"it is abcd\\/123\"},\"logprobs\":{\"content\":["
        "{\"token\":\"it is ab\",\"logprob\":-1},{\"token\":\"cd/123\",\"logprob\":-1}]}}]}",
        "{\"choices\":[{\"message\":{\"content\":\"it is \\u0061bcd/123\"},\"finish_reason\":\"abcd/123\"}]}",
        "{\"choices\":[{\"message\":{\"content\":\"it is ********\"},\"logprobs\":{\"content\":[{\"token\":\"it\","
        "\"logprob\":-1,\"top_logprobs\":[{\"token\":\"abcd\\/123\",\"logprob\":-2}]}]}}]}"};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        json_t *json = json_loads(bodies[i], 0, NULL), *reply = NULL;
        char why[100];
        assert_non_null(json);
        assert_true(chat_wire_reply(&reply, json, "abcd/123", why, sizeof why));
        assert_string_equal(json_string_value(json_object_get(reply, "text")), "it is ********");
        char *all = json_dumps(reply, 0);
        assert_null(strstr(all, "abcd"));
        assert_null(strstr(all, "cd/123"));
        free(all);
        json_decref(reply);
        json_decref(json);
    }
    static const char *const errors[] = {"{\"error\":{\"message\":\"wrong: abcd\\/123\"}}", "{\"wrong\":\"abcd\\/123\"}",
                                         "wrong: abcd/123"};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        char text[24] = "";
        chat_wire_message(text, i < 2 ? sizeof text : sizeof "wrong: abcd", errors[i], strlen(errors[i]), "abcd/123");
        assert_non_null(strstr(text, "***"));
        assert_null(strstr(text, "abcd"));
    }
}

/* The text of a reply; the caller frees it. */
static char *text_in(const char *body) {
    json_t *json = NULL;
    const bool read = chat_wire_parse(&json, body, strlen(body), NULL) == GENARM_OK;
    char *text = read ? strdup(json_string_value(json_object_get(json, "a"))) : NULL;
    json_decref(json);
    return text;
}

static void test_replies_may_hold_what_is_no_text(void **state) {
    (void)state;
    static const char *const bodies[][2] = {
        {"{\"a\": \"x\\u0000y\"}", "x\xef\xbf\xbdy"},
        {"{\"a\": \"x\\ud800\"}", "x\xef\xbf\xbd"},
        {"{\"a\": \"\\uD83D\\uDE00\\udc00\\ud800\\ud83d\\ude00\"}",
         "\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbd\xf0\x9f\x98\x80"},
        {"{\"a\": \"\\\\ud800\\ud800\"}", "\\ud800\xef\xbf\xbd"},
        {"{\"a\": \"x\xff\"}", "x\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        char *text = text_in(bodies[i][0]);
        assert_non_null(text);
        assert_string_equal(text, bodies[i][1]);
        free(text);
    }
    assert_null(text_in("{\"a\": \"\\ud80"));
    assert_null(text_in("{\"a\": \"x"));
}

/* Whether the body is a completion; its text must be `text`. */
static void completes(const char *body, const char *text, bool logprobs) {
    json_t *json = json_loads(body, 0, NULL), *reply = NULL;
    struct chat_reply read;
    char why[100];
    assert_non_null(json);
    const bool ok = chat_wire_reply(&reply, json, NULL, why, sizeof why);
    assert_int_equal(ok, text != NULL);
    if (ok) {
        chat_wire_read(&read, reply);
        assert_string_equal(read.text, text);
        assert_int_equal(read.logprobs != NULL, logprobs);
    }
    json_decref(reply);
    json_decref(json);
}

static void test_completions_are_told_from_other_json(void **state) {
    (void)state;
    completes("{\"choices\":[{\"message\":{\"content\":\"x\"}}]}", "x", false);
    completes("{\"choices\":[{\"message\":{\"content\":null,\"refusal\":\"no\"},\"finish_reason\":null}],\"usage\":null}", "",
              false);
    completes("{\"choices\":[{\"message\":{\"content\":\"x\"},\"logprobs\":{\"content\":[{\"token\":\"x\",\"logprob\":-1}]}}]}", "x",
              true);
    completes("{\"choices\":[{\"message\":{\"content\":\"x\"},\"logprobs\":{\"content\":[{\"token\":\"x\"}]}}]}", "x", false);
    completes("{\"choices\":[{\"message\":{\"content\":\"x\"},\"logprobs\":{\"tokens\":[]}}]}", "x", false);
    completes("{\"choices\":[]}", NULL, false);
    completes("{\"choices\":[{\"text\":\"x\"}]}", NULL, false);
    completes("{\"choices\":[{\"message\":{\"content\":[{\"text\":\"x\"}]}}]}", NULL, false);
    completes("[1]", NULL, false);
    completes("{\"error\":{\"message\":\"x\"}}", NULL, false);
}

static void fails(const char *body, const char *reason) {
    json_t *json = json_loads(body, 0, NULL), *reply = NULL;
    char why[100];
    assert_non_null(json);
    assert_false(chat_wire_reply(&reply, json, "abcd/123", why, sizeof why));
    assert_null(reply);
    assert_string_equal(why, reason);
    json_decref(json);
}

static void test_replies_may_say_that_they_failed(void **state) {
    (void)state;
    fails("{\"error\":{\"message\":\"Overloaded, abcd\\/123\",\"code\":502}}", "Overloaded, ********");
    fails("{\"error\":\"Overloaded\",\"choices\":[{\"message\":{\"content\":\"[[A]]\"}}]}", "Overloaded");
    fails("{\"choices\":[{\"message\":{\"content\":\"[[\"},\"finish_reason\":\"error\",\"error\":{\"message\":\"Lost\"}}]}",
          "Lost");
    fails("{\"choices\":[{\"message\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}",
          "{\"message\":{\"content\":\"\"},\"finish_reason\":\"error\"}");
    completes("{\"error\":null,\"choices\":[{\"message\":{\"content\":\"x\"}}]}", "x", false);
}

static void test_errors_of_servers_are_read(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"{\"error\":{\"message\":\"a\\nb\"}}", "a b"}, {"{\"error\":\"a\"}", "a"},
                                           {"{\"detail\":\"a\"}", "a"},                  {"<html>\x1b", "<html>?"},
                                           {"{\"error\":{\"code\":1}}", "{\"error\":{\"code\":1}}"}, {"", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[100];
        chat_wire_message(text, sizeof text, cases[i][0], strlen(cases[i][0]), NULL);
        assert_string_equal(text, cases[i][1]);
    }
}

/* ---- the cache ---- */

static void test_the_cache_keeps_replies_of_whole_requests(void **state) {
    (void)state;
    struct genarm_error err = {0};
    const char *folder = temp_path("replies");
    char *path, *other_path;
    json_t *request = json_loads("{\"url\":\"u\",\"body\":{\"model\":\"m\",\"x\":[1,\"\xC3\xA9\"]}}", 0, NULL);
    json_t *same = json_loads("{\"body\":{\"x\":[1,\"\xC3\xA9\"],\"model\":\"m\"},\"url\":\"u\"}", 0, NULL);
    json_t *other = json_loads("{\"url\":\"v\",\"body\":{\"model\":\"m\",\"x\":[1,\"\xC3\xA9\"]}}", 0, NULL);
    json_t *reply = json_loads("{\"text\":\"[[A]]\"}", 0, NULL), *found = NULL;
    must(chat_cache_get(&found, folder, request, &err), &err);
    assert_null(found);
    must(chat_cache_put(folder, request, reply, &err), &err);
    must(chat_cache_get(&found, folder, same, &err), &err);
    assert_true(json_equal(found, reply));
    json_decref(found);
    must(chat_cache_get(&found, folder, other, &err), &err);
    assert_null(found);
    /* The file of one request under the name of another, as if their hashes were the same. */
    path = chat_cache_path(folder, request);
    other_path = chat_cache_path(folder, other);
    must(chat_cache_put(folder, other, reply, &err), &err);
    assert_int_equal(rename(path, other_path), 0);
    must(chat_cache_get(&found, folder, other, &err), &err);
    assert_null(found);
    must(file_write(other_path, "{\"genarm", 8, &err), &err);
    must(chat_cache_get(&found, folder, other, &err), &err);
    assert_null(found);
    must(file_write(other_path, "", 0, &err), &err);
    must(chat_cache_get(&found, folder, other, &err), &err);
    assert_null(found);
    free(path);
    free(other_path);
    json_decref(request);
    json_decref(same);
    json_decref(other);
    json_decref(reply);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_replaced_once),
        cmocka_unit_test(test_the_built_in_prompts_can_be_used),
        cmocka_unit_test(test_a_score_is_one_number_in_the_range),
        cmocka_unit_test(test_base_urls_get_the_path_of_the_api),
        cmocka_unit_test(test_a_secret_is_blotted_out),
        cmocka_unit_test(test_a_secret_is_in_nothing_that_is_read_of_a_reply),
        cmocka_unit_test(test_completions_are_told_from_other_json),
        cmocka_unit_test(test_replies_may_say_that_they_failed),
        cmocka_unit_test(test_errors_of_servers_are_read),
        cmocka_unit_test(test_the_cache_keeps_replies_of_whole_requests),
        cmocka_unit_test(test_replies_may_hold_what_is_no_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
