/* Answers of the server, held against what cannot be tuned to: itself asked otherwise, and sessions that are driven by hand. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api_fixture.h"
#include "support/golden.h"

static int setup(void **state) {
    static struct api a;
    api_start(&a, &(struct api_options){.n_slots = 4, .n_ctx = 512, .max_queue = 100});
    *state = &a;
    return 0;
}

static int teardown(void **state) {
    api_stop(*state);
    return 0;
}

/* Of /completion, which tells tokens. The end of a turn is forbidden, so that answers have the length that is asked for. */
static json_t *endless_completion(const struct api *a, const char *prompt, int n) {
    struct got *g = ask_api(a, "/apply-template", chat(prompt, "{}"));
    json_t *body = json_pack("{s:s, s:i, s:i, s:o, s:b}", "prompt", text_at(g->json, "prompt"), "n_predict", n, "temperature", 0,
                             "logit_bias", no_end(a), "return_tokens", 1);
    got_free(g);
    return body;
}

static struct got *good(struct got *g) {
    if (g->status != 200) {
        print_error("%ld: %.*s\n", g->status, (int)g->body.len, g->body.data ? g->body.data : "");
    }
    assert_int_equal(g->status, 200);
    return g;
}

/* ---- what a stream tells in sum ---- */

struct told {
    struct buf text;
    json_t *tokens, *logprobs; /* concatenated lists */
    char finish[16];
};

static void append(json_t *to, const json_t *list) {
    if (json_is_array(list)) {
        json_array_extend(to, (json_t *)list); /* only read */
    }
}

/* Of a chat's choice. */
static struct told told_chat(const struct got *g, int index) {
    struct told t = {.tokens = json_array(), .logprobs = json_array()};
    size_t i;
    json_t *event;
    buf_init(&t.text, 1 << 24);
    buf_puts(&t.text, "", NULL);
    json_array_foreach(g->events, i, event) {
        const json_t *choice = at(event, "choices.0"), *content = at(choice, "delta.content");
        if (choice && number_at(choice, "index") == index) {
            buf_append(&t.text, content ? json_string_value(content) : "", content ? json_string_length(content) : 0, NULL);
            append(t.logprobs, at(choice, "logprobs.content"));
            snprintf(t.finish, sizeof t.finish, "%s",
                     json_is_string(at(choice, "finish_reason")) ? text_at(choice, "finish_reason") : t.finish);
        }
    }
    return t;
}

static struct told told_completion(const struct got *g) {
    struct told t = {.tokens = json_array(), .logprobs = json_array()};
    size_t i;
    json_t *event;
    buf_init(&t.text, 1 << 24);
    buf_puts(&t.text, "", NULL);
    json_array_foreach(g->events, i, event) {
        buf_append(&t.text, text_at(event, "content"), json_string_length(at(event, "content")),
                   NULL); /* it may hold a zero byte */
        append(t.tokens, at(event, "tokens"));
        append(t.logprobs, at(event, "completion_probabilities"));
    }
    return t;
}

static void told_free(struct told *t) {
    buf_deinit(&t->text);
    json_decref(t->tokens);
    json_decref(t->logprobs);
}

static void assert_text(const struct buf *text, const json_t *value) {
    assert_true(json_is_string(value));
    assert_int_equal(text->len, json_string_length(value));
    assert_memory_equal(text->data, json_string_value(value), text->len);
}

/* Numbers may differ by what rows in other batches round otherwise: whether a prompt was known decides which those are. */
static bool close_json(const json_t *a, const json_t *b) {
    const char *key;
    json_t *value;
    bool close = json_typeof(a) == json_typeof(b);
    if (json_is_real(a)) {
        return close && fabs(json_real_value(a) - json_real_value(b)) < 1e-3;
    }
    if (json_is_array(a)) {
        close = close && json_array_size(a) == json_array_size(b);
        for (size_t i = 0; i < json_array_size(a) && close; i++) {
            close = close_json(json_array_get(a, i), json_array_get(b, i));
        }
        return close;
    }
    if (json_is_object(a)) {
        close = close && json_object_size(a) == json_object_size(b);
        json_object_foreach((json_t *)a, key, value) { /* only read */
            close = close && json_object_get(b, key) && close_json(value, json_object_get(b, key));
        }
        return close;
    }
    return json_equal(a, b);
}

static void assert_same_json(const json_t *a, const json_t *b) {
    if (!close_json(a, b)) {
        char *first = json_dumps(a, JSON_ENCODE_ANY), *second = json_dumps(b, JSON_ENCODE_ANY);
        print_error("%.2000s\n%.2000s\n", first ? first : "nothing", second ? second : "nothing");
        free(first);
        free(second);
    }
    assert_true(close_json(a, b));
}

/* ---- identities ---- */

static void test_all_weights_zero_is_the_base_alone(void **state) {
    const struct api *a = *state;
    struct genarm_error err;
    struct genarm_guide *g = api_guide(a, 0, 1);
    struct genarm_session *s = api_session(a, g, "Tell me more.");
    json_t *body = endless_completion(a, "Tell me more.", 60);
    json_object_set_new(body, "arms", json_pack("{s:i, s:i}", "helpful", 0, "harmless", 0));
    struct got *got = good(ask_api(a, "/completion", body));
    assert_int_equal(json_array_size(at(got->json, "tokens")), 60);
    for (size_t i = 0; i < 60; i++) {
        int32_t token;
        must(genarm_session_step(s, &token, &err), &err);
        assert_int_equal(json_integer_value(json_array_get(at(got->json, "tokens"), i)), token);
    }
    got_free(got);
    genarm_session_free(s);
    genarm_guide_free(g);
}

static void test_default_weights_are_those_of_the_guide(void **state) {
    const struct api *a = *state;
    struct genarm_error err;
    struct genarm_guide *g = api_guide(a, API_ARMS, 1);
    struct genarm_session *s = api_session(a, g, "Tell me more.");
    struct got *got = good(ask_api(a, "/completion", endless_completion(a, "Tell me more.", 60)));
    for (size_t i = 0; i < 60; i++) {
        int32_t token;
        must(genarm_session_step(s, &token, &err), &err);
        assert_int_equal(json_integer_value(json_array_get(at(got->json, "tokens"), i)), token);
    }
    got_free(got);
    genarm_session_free(s);
    genarm_guide_free(g);
}

static void test_streamed_is_what_is_not(void **state) {
    const struct api *a = *state;
    for (int seed = 1; seed <= 4; seed++) {
        json_t *body =
            chat("Say something.", "{s:i, s:i, s:b, s:i}", "seed", seed, "max_tokens", 50, "logprobs", 1, "top_logprobs", 3);
        struct got *whole = good(ask_api(a, "/v1/chat/completions", json_deep_copy(body)));
        json_object_set_new(body, "stream", json_true());
        struct got *stream = good(ask_api(a, "/v1/chat/completions", body));
        struct told t = told_chat(stream, 0);
        assert_true(stream->done);
        assert_text(&t.text, at(whole->json, "choices.0.message.content"));
        assert_same_json(t.logprobs, at(whole->json, "choices.0.logprobs.content"));
        assert_string_equal(t.finish, text_at(whole->json, "choices.0.finish_reason"));
        assert_int_equal(number_at(whole->json, "seed"), seed);
        told_free(&t);
        got_free(whole);
        got_free(stream);
    }
}

static void test_streamed_completion_tells_all_tokens(void **state) {
    const struct api *a = *state;
    for (int seed = 1; seed <= 8; seed++) {
        json_t *body = json_pack("{s:s, s:i, s:i, s:i, s:b}", "prompt", "once upon", "seed", seed, "n_predict", 60, "n_probs", 2,
                                 "return_tokens", 1);
        struct got *whole = good(ask_api(a, "/completion", json_deep_copy(body)));
        json_object_set_new(body, "stream", json_true());
        struct got *stream = good(ask_api(a, "/completion", body));
        struct told t = told_completion(stream);
        assert_text(&t.text, at(whole->json, "content"));
        assert_same_json(t.tokens, at(whole->json, "tokens"));
        assert_same_json(t.logprobs, at(whole->json, "completion_probabilities"));
        const json_t *last = json_array_get(stream->events, json_array_size(stream->events) - 1);
        assert_string_equal(text_at(last, "stop_type"), text_at(whole->json, "stop_type"));
        assert_int_equal(number_at(last, "tokens_predicted"), json_array_size(t.tokens));
        told_free(&t);
        got_free(whole);
        got_free(stream);
    }
}

struct parallel {
    const struct api *a;
    json_t *body;
    struct got *got;
};

static void *ask_parallel(void *user) {
    struct parallel *p = user;
    p->got = ask_api(p->a, "/completion", json_deep_copy(p->body));
    return NULL;
}

static void test_eight_at_once_get_what_each_gets_alone(void **state) {
    const struct api *a = *state;
    static const char *const prompts[] = {"Hello there", "What is the time?", "x", "Count to ten, please, and then on."};
    struct parallel each[8];
    struct got *alone[8];
    pthread_t threads[8];
    for (int i = 0; i < 8; i++) {
        json_t *body = endless_completion(a, prompts[i % 4], 30 + 5 * i);
        json_object_set_new(body, "arms", json_pack("{s:f, s:f}", "helpful", 0.25 * i, "harmless", 1.0 - 0.25 * i));
        each[i] = (struct parallel){a, body, NULL};
        alone[i] = good(ask_api(a, "/completion", json_deep_copy(body)));
    }
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, ask_parallel, &each[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < 8; i++) {
        good(each[i].got);
        assert_same_json(at(each[i].got->json, "tokens"), at(alone[i]->json, "tokens"));
        assert_same_json(at(each[i].got->json, "arms"), at(alone[i]->json, "arms"));
        got_free(each[i].got);
        got_free(alone[i]);
        json_decref(each[i].body);
    }
}

/* ---- weights that change ---- */

struct change {
    const struct api *a;
    int after;          /* events */
    struct got *answer; /* of the change */
};

static bool change_weights(json_t *event, void *user) {
    struct change *c = user;
    char path[128];
    if (--c->after == 0) {
        snprintf(path, sizeof path, "/v1/requests/%s/arms", text_at(event, "id"));
        c->answer = ask_api(c->a, path, json_pack("{s:i, s:f}", "helpful", 0, "harmless", 1.2));
    }
    return true;
}

static void test_changed_weights_count_from_the_token_that_is_told(void **state) {
    const struct api *a = *state;
    struct genarm_error err;
    struct genarm_guide *g = api_guide(a, API_ARMS, 1);
    struct genarm_session *s = api_session(a, g, "And then?");
    struct change change = {a, 5, NULL};
    json_t *body = endless_completion(a, "And then?", 400);
    json_object_set_new(body, "stream", json_true());
    struct got *stream = good(ask_hooked(a, "/completion", body, change_weights, &change));
    struct told t = told_completion(stream);
    good(change.answer);
    const size_t n = (size_t)number_at(change.answer->json, "n_tokens.0");
    assert_in_range(n, 5, 399);
    assert_true(number_at(change.answer->json, "arms.harmless") == 1.2);
    assert_int_equal(json_array_size(t.tokens), 400);
    for (size_t i = 0; i < 400; i++) {
        int32_t token;
        if (i == n) {
            must(genarm_session_set_weight(s, 0, 0, &err), &err);
            must(genarm_session_set_weight(s, 1, 1.2f, &err), &err);
        }
        must(genarm_session_step(s, &token, &err), &err);
        assert_int_equal(json_integer_value(json_array_get(t.tokens, i)), token);
    }
    told_free(&t);
    got_free(change.answer);
    got_free(stream);
    genarm_session_free(s);
    genarm_guide_free(g);
}

static void test_an_arm_that_wakes_up_has_seen_everything(void **state) {
    const struct api *a = *state;
    struct genarm_error err;
    struct genarm_guide *g = api_guide(a, API_ARMS, 1);
    struct genarm_session *s = api_session(a, g, "And then?");
    struct change change = {a, 5, NULL};
    json_t *body = endless_completion(a, "And then?", 400);
    json_object_set_new(body, "stream", json_true());
    json_object_set_new(body, "arms", json_pack("{s:i, s:i}", "helpful", 1, "harmless", 0));
    must(genarm_session_set_weight(s, 1, 0, &err), &err);
    struct got *stream = good(ask_hooked(a, "/completion", body, change_weights, &change));
    struct told t = told_completion(stream);
    const size_t n = (size_t)number_at(good(change.answer)->json, "n_tokens.0");
    for (size_t i = 0; i < 400; i++) {
        int32_t token;
        if (i == n) {
            must(genarm_session_set_weight(s, 0, 0, &err), &err);
            must(genarm_session_set_weight(s, 1, 1.2f, &err), &err);
        }
        must(genarm_session_step(s, &token, &err), &err);
        assert_int_equal(json_integer_value(json_array_get(t.tokens, i)), token);
    }
    told_free(&t);
    got_free(change.answer);
    got_free(stream);
    genarm_session_free(s);
    genarm_guide_free(g);
}

static void test_default_weights_change_for_later_requests(void **state) {
    const struct api *a = *state;
    struct got *before = good(ask_api(a, "/arms", NULL));
    got_free(good(
        ask_api(a, "/arms", json_pack("[{s:i, s:f}, {s:s, s:f}]", "id", 0, "weight", 0.3, "name", "harmless", "weight", -0.7))));
    struct got *answer = good(ask_api(a, "/v1/chat/completions", chat("Hi", "{s:i}", "max_tokens", 1)));
    assert_true(number_at(answer->json, "arms.helpful") == 0.3 && number_at(answer->json, "arms.harmless") == -0.7);
    got_free(answer);
    got_free(good(ask_api(a, "/arms", json_pack("{s:i, s:f}", "helpful", 1, "harmless", 0.5))));
    struct got *after = good(ask_api(a, "/arms", NULL));
    assert_same_json(before->json, after->json);
    got_free(before);
    got_free(after);
}

/* ---- scores ---- */

static void assert_close(double x, double y) {
    if (fabs(x - y) > 2e-4) {
        print_error("%.9g is not %.9g\n", x, y);
    }
    assert_true(fabs(x - y) <= 2e-4);
}

/* Asks for digits, which are tokens by themselves: a text of them becomes the tokens that were drawn. */
static void test_scores_are_the_log_probabilities_that_were_told(void **state) {
    const struct api *a = *state;
    json_t *body = chat("Count.", "{s:s, s:b, s:i, s:{s:f}}", "grammar", "root ::= [0-9]{80}", "logprobs", 1, "seed", 5, "arms",
                        "helpful", 0.7);
    struct got *answer = good(ask_api(a, "/v1/chat/completions", body));
    const char *content = text_at(answer->json, "choices.0.message.content");
    const json_t *told = at(answer->json, "choices.0.logprobs.content");
    body = json_pack("{s:s, s:s, s:b, s:{s:f}}", "prompt", "Count.", "response", content, "complete", 0, "arms", "helpful", 0.7);
    struct got *score = good(ask_api(a, "/v1/score", body));
    const json_t *scored = at(score->json, "tokens");
    double sum = 0;
    assert_int_equal(strlen(content), 80);
    assert_int_equal(json_array_size(told), 80);
    assert_int_equal(json_array_size(scored), 80);
    for (size_t i = 0; i < 80; i++) {
        const json_t *x = json_array_get(told, i), *y = json_array_get(scored, i);
        assert_string_equal(text_at(x, "token"), text_at(y, "text"));
        assert_close(number_at(x, "parts.base"), number_at(y, "base"));
        assert_close(number_at(x, "parts.arms.helpful"), number_at(y, "arms.helpful"));
        assert_close(number_at(x, "parts.arms.harmless"), number_at(y, "arms.harmless"));
        sum += number_at(y, "arms.helpful");
    }
    assert_close(number_at(score->json, "rewards.helpful"), sum);
    got_free(answer);
    got_free(score);
}

/* Of the mixture too: a prompt that is echoed is the answer that was given to its beginning. */
static void test_an_echoed_answer_has_the_log_probabilities_that_it_was_drawn_with(void **state) {
    const struct api *a = *state;
    json_t *prompt = json_array(), *body;
    for (int i = 0; i < 70; i++) {
        json_array_append_new(prompt, json_integer('A' + i % 26));
    }
    body =
        json_pack("{s:O, s:i, s:i, s:i, s:b}", "prompt", prompt, "n_predict", 100, "seed", 3, "n_probs", 1, "return_tokens", 1);
    struct got *answer = good(ask_api(a, "/completion", body));
    json_t *both = json_copy(prompt);
    json_array_extend(both, at(answer->json, "tokens"));
    body = json_pack("{s:O, s:i, s:i, s:b}", "prompt", both, "max_tokens", 0, "logprobs", 3, "echo", 1);
    struct got *whole = good(ask_api(a, "/v1/completions", json_deep_copy(body)));
    json_object_set_new(body, "stream", json_true());
    struct got *stream = good(ask_api(a, "/v1/completions", body));
    const json_t *told = at(answer->json, "completion_probabilities"),
                 *echoed = at(whole->json, "choices.0.logprobs.token_logprobs");
    assert_int_equal(json_array_size(echoed), json_array_size(both));
    assert_true(json_is_null(json_array_get(echoed, 0)));
    for (size_t i = 0; i < json_array_size(told); i++) {
        assert_close(number_at(json_array_get(told, i), "logprob"), json_number_value(json_array_get(echoed, 70 + i)));
    }
    static const char *const lists[] = {"tokens", "token_logprobs", "top_logprobs", "text_offset", "parts"};
    for (size_t k = 0; k < 5; k++) {
        json_t *joined = json_array(), *event;
        char path[64];
        size_t i;
        snprintf(path, sizeof path, "choices.0.logprobs.%s", lists[k]);
        json_array_foreach(stream->events, i, event) {
            append(joined, at(event, path));
        }
        assert_same_json(joined, at(whole->json, path));
        json_decref(joined);
    }
    const json_t *offsets = at(whole->json, "choices.0.logprobs.text_offset");
    for (size_t i = 1; i < 70; i++) {
        assert_int_equal(json_integer_value(json_array_get(offsets, i)), i); /* one byte each */
    }
    assert_int_equal(number_at(whole->json, "usage.completion_tokens"), 0);
    assert_int_equal(number_at(whole->json, "usage.prompt_tokens"), json_array_size(both));
    assert_int_equal(number_at(whole->json, "usage.prompt_tokens_details.cached_tokens"), 0);
    json_decref(prompt);
    json_decref(both);
    got_free(answer);
    got_free(whole);
    got_free(stream);
}

static double highest(const json_t *top) {
    const char *text;
    json_t *value;
    double most = -INFINITY;
    json_object_foreach((json_t *)top, text, value) { /* only read */
        most = fmax(most, json_number_value(value));
    }
    return most;
}

/* So a harness finds out whether a text is what the model would have said: by the highest of each token's alternatives. */
/* So a harness finds out whether a text is what the model would have said: by the highest of each token's alternatives. */
static void test_every_token_of_a_prompt_but_the_first_has_alternatives(void **state) {
    const struct api *a = *state;
    json_t *prompt = json_pack("[i]", 'a');
    json_t *body = json_pack("{s:O, s:i, s:i, s:o, s:b}", "prompt", prompt, "n_predict", 90, "temperature", 0, "logit_bias",
                             no_end(a), "return_tokens", 1);
    struct got *greedy = good(ask_api(a, "/completion", body));
    json_array_extend(prompt, at(greedy->json, "tokens"));
    body = json_pack("{s:o, s:i, s:i, s:b, s:o}", "prompt", prompt, "max_tokens", 1, "logprobs", 3, "echo", 1, "logit_bias",
                     no_end(a));
    struct got *g = good(ask_api(a, "/v1/completions", body));
    const json_t *tops = at(g->json, "choices.0.logprobs.top_logprobs"),
                 *logprobs = at(g->json, "choices.0.logprobs.token_logprobs");
    assert_int_equal(json_array_size(tops), 92);
    assert_true(json_is_null(json_array_get(tops, 0)));
    for (size_t i = 1; i < 92; i++) {
        const json_t *top = json_array_get(tops, i);
        assert_int_equal(json_object_size(top), 3);
        assert_true(i == 91 || fabs(json_number_value(json_array_get(logprobs, i)) - highest(top)) < 1e-3);
    }
    got_free(greedy);
    got_free(g);
}

/* Each token that usage counts has a place in the lists: who cuts the last one off an echoed prompt cuts what was generated. */
static void test_the_end_of_a_turn_is_among_the_tokens_of_completions(void **state) {
    const struct api *a = *state;
    char id[16];
    snprintf(id, sizeof id, "%d", genarm_token_eos(a->model));
    json_t *ends = json_pack("{s:i}", id, 100);
    json_t *body = json_pack("{s:s, s:i, s:i, s:i, s:b, s:O}", "prompt", "abc", "temperature", 0, "max_tokens", 1, "logprobs", 2,
                             "echo", 1, "logit_bias", ends);
    struct got *g = good(ask_api(a, "/v1/completions", json_deep_copy(body)));
    const json_t *lists = at(g->json, "choices.0.logprobs");
    const size_t n = (size_t)number_at(g->json, "usage.total_tokens");
    assert_string_equal(text_at(g->json, "choices.0.text"), "abc");
    assert_string_equal(text_at(g->json, "choices.0.finish_reason"), "stop");
    assert_int_equal(number_at(g->json, "usage.completion_tokens"), 1);
    assert_int_equal(json_array_size(at(lists, "tokens")), n);
    assert_int_equal(json_array_size(at(lists, "top_logprobs")), n);
    assert_int_equal(json_integer_value(json_array_get(at(lists, "text_offset"), n - 1)), 3);
    json_object_set_new(body, "stream", json_true());
    struct got *stream = good(ask_api(a, "/v1/completions", body));
    size_t n_streamed = 0, i;
    json_t *event;
    json_array_foreach(stream->events, i, event) {
        n_streamed += json_array_size(at(event, "choices.0.logprobs.tokens"));
    }
    assert_int_equal(n_streamed, n);
    got_free(stream);
    got_free(g);
    body = json_pack("{s:s, s:i, s:i, s:b, s:O}", "prompt", "abc", "n_predict", 4, "n_probs", 1, "return_tokens", 1, "logit_bias",
                     ends);
    g = good(ask_api(a, "/completion", body));
    assert_int_equal(json_array_size(at(g->json, "tokens")), 1);
    assert_true(json_equal(at(g->json, "completion_probabilities.0.id"), at(g->json, "tokens.0")));
    got_free(g);
    body = chat("Hi", "{s:i, s:b, s:o}", "temperature", 0, "logprobs", 1, "logit_bias", ends);
    g = good(ask_api(a, "/v1/chat/completions", body)); /* these spell the content */
    assert_int_equal(json_array_size(at(g->json, "choices.0.logprobs.content")), 0);
    assert_int_equal(number_at(g->json, "usage.completion_tokens"), 1);
    got_free(g);
}

static void test_one_token_is_a_prompt_that_can_be_echoed(void **state) {
    const struct api *a = *state;
    int32_t token = -1;
    assert_int_equal(genarm_tokenize(a->model, "A", 1, false, false, &token, 1), 1);
    json_t *body =
        json_pack("{s:[i], s:i, s:i, s:b, s:b}", "prompt", token, "max_tokens", 0, "logprobs", 2, "echo", 1, "stream", 1);
    struct got *g = good(ask_api(a, "/v1/completions", body));
    assert_string_equal(text_at(g->events, "0.choices.0.text"), "A");
    assert_string_equal(text_at(g->events, "0.choices.0.logprobs.tokens.0"), "A");
    assert_true(json_is_null(at(g->events, "0.choices.0.logprobs.token_logprobs.0")));
    got_free(g);
}

/* As Python counts them. */
static void test_offsets_count_characters(void **state) {
    const struct api *a = *state;
    json_t *body = json_pack("{s:s, s:s, s:i, s:b, s:i}", "prompt", "a€é", "grammar", "root ::= \"é€x€y\"", "logprobs", 0,
                             "echo", 1, "seed", 2);
    struct got *g = good(ask_api(a, "/v1/completions", body));
    const json_t *tokens = at(g->json, "choices.0.logprobs.tokens"), *offsets = at(g->json, "choices.0.logprobs.text_offset");
    assert_string_equal(text_at(g->json, "choices.0.text"), "a€éé€x€y");
    const size_t n = json_array_size(tokens);
    assert_int_equal(json_array_size(offsets), n);
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_array_get(tokens, i));
        const json_int_t offset = json_integer_value(json_array_get(offsets, i));
        assert_in_range(offset, 0, 8);
        assert_true(i == 0 || offset >= json_integer_value(json_array_get(offsets, i - 1)));
        assert_true(strcmp(text, "x") != 0 || offset == 5);
        assert_true(strcmp(text, "y") != 0 || offset == 7);
    }
    got_free(g);
}

static void test_tokens_that_are_parts_of_characters_have_names_of_their_own(void **state) {
    const struct api *a = *state;
    int32_t parts[3]; /* bytes by themselves */
    assert_int_equal(genarm_tokenize(a->model, "€", 3, false, false, parts, 3), 3);
    json_t *body = json_pack("{s:[i, i, i], s:i, s:i, s:b, s:{s:i}}", "prompt", parts[0], parts[1], parts[2], "max_tokens", 3,
                             "logprobs", 20, "echo", 1, "arms", "helpful", 0);
    struct got *g = good(ask_api(a, "/v1/completions", body));
    const json_t *logprobs = at(g->json, "choices.0.logprobs"), *top;
    size_t i;
    assert_string_equal(text_at(logprobs, "tokens.0"), "bytes:\\xe2");
    assert_string_equal(text_at(logprobs, "tokens.2"), "bytes:\\xac");
    assert_memory_equal(text_at(g->json, "choices.0.text"), "€", 3);
    json_array_foreach(at(logprobs, "top_logprobs"), i, top) {
        assert_true(json_is_null(top) || json_object_size(top) == 20);
    }
    got_free(g);
}

static void test_what_an_arm_rules_out_has_a_reward(void **state) { /* -inf is no JSON */
    const struct api *a = *state;
    struct got *g = good(ask_api(a, "/v1/score", json_pack("{s:s, s:s}", "prompt", "Hi", "response", "ok")));
    assert_true(isfinite(number_at(g->json, "rewards.helpful")));
    assert_int_equal(json_array_size(at(g->json, "tokens")), number_at(g->json, "usage.response_tokens"));
    got_free(g);
}

/* ---- several choices ---- */

static void test_choices_are_drawn_from_seeds_of_their_own(void **state) {
    const struct api *a = *state;
    json_t *body = chat("Say something.", "{s:i, s:i, s:i, s:i}", "seed", 11, "max_tokens", 30, "n", 1, "temperature", 2);
    struct got *one = good(ask_api(a, "/v1/chat/completions", json_deep_copy(body)));
    json_object_set_new(body, "n", json_integer(6));
    struct got *many = good(ask_api(a, "/v1/chat/completions", json_deep_copy(body)));
    json_object_set_new(body, "stream", json_true());
    struct got *stream = good(ask_api(a, "/v1/chat/completions", body));
    assert_same_json(at(one->json, "choices.0.message"), at(many->json, "choices.0.message"));
    for (int i = 0; i < 6; i++) {
        char path[64];
        struct told t = told_chat(stream, i);
        snprintf(path, sizeof path, "choices.%d.message.content", i);
        assert_text(&t.text, at(many->json, path));
        for (int k = 0; k < i; k++) {
            char other[64];
            snprintf(other, sizeof other, "choices.%d.message.content", k);
            assert_false(json_equal(at(many->json, path), at(many->json, other)));
        }
        told_free(&t);
    }
    assert_int_equal(number_at(many->json, "usage.prompt_tokens"), number_at(one->json, "usage.prompt_tokens"));
    got_free(one);
    got_free(many);
    got_free(stream);
}

static void test_as_many_choices_as_may_be(void **state) {
    const struct api *a = *state;
    struct got *g = good(ask_api(a, "/v1/chat/completions", chat("Hi", "{s:i, s:i}", "n", 128, "max_tokens", 2)));
    assert_int_equal(json_array_size(at(g->json, "choices")), 128);
    got_free(g);
    json_t *prompts = json_array();
    for (int i = 0; i < 64; i++) {
        json_array_append_new(prompts, json_pack("[i]", 'a' + i % 26));
    }
    g = good(ask_api(a, "/v1/completions", json_pack("{s:o, s:i, s:i}", "prompt", prompts, "n", 2, "max_tokens", 0)));
    assert_int_equal(json_array_size(at(g->json, "choices")), 128);
    assert_int_equal(number_at(g->json, "usage.prompt_tokens"), 64);
    got_free(g);
}

/* ---- what ends an answer ---- */

static void check_stop(const struct api *a, const char *text, const char *stop, const char *expected) {
    char grammar[128];
    snprintf(grammar, sizeof grammar, "root ::= \"%s\"", text);
    for (int seed = 0; seed < 8; seed++) {
        json_t *body = chat("Hi", "{s:s, s:[s, s], s:b, s:i, s:i}", "grammar", grammar, "stop", stop, "never", "logprobs", 1,
                            "top_logprobs", 1, "seed", seed);
        struct got *whole = good(ask_api(a, "/v1/chat/completions", json_deep_copy(body)));
        json_object_set_new(body, "stream", json_true());
        struct got *stream = good(ask_api(a, "/v1/chat/completions", body));
        struct told t = told_chat(stream, 0);
        struct buf spelled;
        size_t i, k;
        json_t *token, *byte;
        buf_init(&spelled, 1 << 20);
        buf_puts(&spelled, "", NULL);
        json_array_foreach(t.logprobs, i, token) {
            json_array_foreach(at(token, "bytes"), k, byte) {
                const char c = (char)json_integer_value(byte);
                buf_append(&spelled, &c, 1, NULL);
            }
        }
        assert_string_equal(text_at(whole->json, "choices.0.message.content"), expected);
        assert_string_equal(t.text.data, expected);
        assert_same_json(t.logprobs, at(whole->json, "choices.0.logprobs.content"));
        assert_memory_equal(spelled.data, expected, strlen(expected)); /* a token that is cut spells more */
        assert_true(spelled.len < strlen(expected) + 8);
        assert_string_equal(t.finish, "stop");
        buf_deinit(&spelled);
        told_free(&t);
        got_free(whole);
        got_free(stream);
    }
}

static void test_stop_texts_across_tokens_and_characters(void **state) {
    const struct api *a = *state;
    check_stop(a, "one €two and three", "never", "one €two and three");
    check_stop(a, "one €two and three", "€", "one ");
    check_stop(a, "€two and three", "€", "");
    check_stop(a, "ab€x€y", "€y", "ab€x");
    check_stop(a, "one €two and three", " and", "one €two");
    check_stop(a, "one €two and three", "nd th", "one €two a");
    check_stop(a, "nevneveland", "neva", "nevneveland");
    check_stop(a, "xxxxxy", "xxy", "xxx");
}

static void test_zero_bytes_are_text(void **state) {
    const struct api *a = *state;
    int32_t zero = -1;
    char id[16];
    assert_int_equal(genarm_tokenize(a->model, "\0", 1, false, false, &zero, 1), 1);
    snprintf(id, sizeof id, "%d", zero);
    json_t *biases = no_end(a);
    json_object_set_new(biases, id, json_integer(100));
    json_t *body = chat("Hi", "{s:i, s:o, s:b}", "max_tokens", 3, "logit_bias", biases, "logprobs", 1);
    struct got *whole = good(ask_api(a, "/v1/chat/completions", json_deep_copy(body)));
    json_object_set_new(body, "stream", json_true());
    struct got *stream = good(ask_api(a, "/v1/chat/completions", body));
    struct told t = told_chat(stream, 0);
    const json_t *content = at(whole->json, "choices.0.message.content"),
                 *token = at(whole->json, "choices.0.logprobs.content.0.token");
    assert_int_equal(json_string_length(content), 3);
    assert_memory_equal(json_string_value(content), "\0\0\0", 3);
    assert_int_equal(json_string_length(token), 1);
    assert_int_equal(t.text.len, 3);
    told_free(&t);
    got_free(whole);
    got_free(stream);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_weights_zero_is_the_base_alone),
        cmocka_unit_test(test_default_weights_are_those_of_the_guide),
        cmocka_unit_test(test_streamed_is_what_is_not),
        cmocka_unit_test(test_streamed_completion_tells_all_tokens),
        cmocka_unit_test(test_eight_at_once_get_what_each_gets_alone),
        cmocka_unit_test(test_changed_weights_count_from_the_token_that_is_told),
        cmocka_unit_test(test_an_arm_that_wakes_up_has_seen_everything),
        cmocka_unit_test(test_default_weights_change_for_later_requests),
        cmocka_unit_test(test_scores_are_the_log_probabilities_that_were_told),
        cmocka_unit_test(test_an_echoed_answer_has_the_log_probabilities_that_it_was_drawn_with),
        cmocka_unit_test(test_every_token_of_a_prompt_but_the_first_has_alternatives),
        cmocka_unit_test(test_the_end_of_a_turn_is_among_the_tokens_of_completions),
        cmocka_unit_test(test_one_token_is_a_prompt_that_can_be_echoed),
        cmocka_unit_test(test_offsets_count_characters),
        cmocka_unit_test(test_tokens_that_are_parts_of_characters_have_names_of_their_own),
        cmocka_unit_test(test_what_an_arm_rules_out_has_a_reward),
        cmocka_unit_test(test_choices_are_drawn_from_seeds_of_their_own),
        cmocka_unit_test(test_as_many_choices_as_may_be),
        cmocka_unit_test(test_stop_texts_across_tokens_and_characters),
        cmocka_unit_test(test_zero_bytes_are_text),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
