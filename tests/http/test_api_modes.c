/* Servers that were started otherwise: with drafts, with contexts that forget, with names that are no plain words. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api_fixture.h"
#include "support/golden.h"

/* Greedy, with a text that repeats itself, so that drafts are accepted now and then. */
static json_t *repeated(const struct api *a, int n) {
    return json_pack("{s:s, s:i, s:i, s:o, s:b, s:i}", "prompt", "one two one two one two one", "n_predict", n, "temperature", 0,
                     "logit_bias", no_end(a), "return_tokens", 1, "n_probs", 2);
}

static void test_drafts_change_nothing_but_the_time(void **state) {
    struct api plain, drafting;
    struct genarm_draft_params draft = genarm_draft_default_params();
    (void)state;
    draft.n_min = draft.n_max = 4;
    draft.n_lookup = 1;
    api_start(&plain, &(struct api_options){.n_slots = 2, .n_ctx = 512, .max_queue = 4});
    struct got *x = ask_api(&plain, "/completion", repeated(&plain, 200));
    api_stop(&plain);
    api_start(&drafting, &(struct api_options){.n_slots = 2, .n_ctx = 512, .max_queue = 4, .draft = &draft});
    struct got *y = ask_api(&drafting, "/completion", repeated(&drafting, 200));
    json_t *body = repeated(&drafting, 200);
    json_object_set_new(body, "stream", json_true());
    struct got *stream = ask_api(&drafting, "/completion", body);
    assert_int_equal(x->status, 200);
    assert_int_equal(y->status, 200);
    assert_true(json_equal(at(x->json, "tokens"), at(y->json, "tokens")));
    assert_int_equal(json_array_size(at(y->json, "tokens")), 200);
    assert_true(number_at(y->json, "timings.draft_n_accepted") > 0);
    assert_true(number_at(y->json, "timings.draft_n_accepted") <= number_at(y->json, "timings.draft_n"));
    json_t *tokens = json_array(), *told = json_array(), *event;
    size_t i;
    json_array_foreach(stream->events, i, event) {
        json_array_extend(tokens, at(event, "tokens"));
        json_array_extend(told, at(event, "completion_probabilities"));
    }
    assert_true(json_equal(tokens, at(y->json, "tokens")));
    assert_int_equal(json_array_size(told), json_array_size(at(x->json, "completion_probabilities")));
    for (i = 0; i < json_array_size(told); i++) {
        const json_t *other = json_array_get(at(x->json, "completion_probabilities"), i);
        assert_true(fabs(number_at(json_array_get(told, i), "logprob") - number_at(other, "logprob")) < 2e-4);
        assert_true(fabs(number_at(json_array_get(told, i), "parts.arms.helpful") - number_at(other, "parts.arms.helpful")) <
                    2e-4);
    }
    json_decref(tokens);
    json_decref(told);
    got_free(x);
    got_free(y);
    got_free(stream);
    api_stop(&drafting);
}

struct change {
    const struct api *a;
    int after;
    size_t n_tokens;
};

static bool change_weight(json_t *event, void *user) {
    struct change *c = user;
    char path[128];
    if (--c->after == 0) {
        snprintf(path, sizeof path, "/v1/requests/%s/arms", json_string_value(at(event, "id")));
        struct got *g = ask_api(c->a, path, json_pack("{s:f}", "helpful", -0.3));
        c->n_tokens = g->status == 200 ? (size_t)number_at(g->json, "n_tokens.0") : 0;
        got_free(g);
    }
    return true;
}

/* Tokens that were drafted under the old weights are no longer handed out. */
static void test_weights_change_between_drafted_tokens(void **state) {
    struct api a;
    struct genarm_error err;
    struct genarm_draft_params draft = genarm_draft_default_params();
    (void)state;
    draft.n_min = draft.n_max = 8;
    draft.n_lookup = 1;
    api_start(&a, &(struct api_options){.n_slots = 1, .n_ctx = 1024, .max_queue = 4, .draft = &draft});
    struct genarm_guide *g = api_guide(&a, API_ARMS, 1);
    struct genarm_session *s = api_session(&a, g, "Hi");
    struct got *prompt = ask_api(&a, "/apply-template", chat("Hi", "{}"));
    json_t *body = json_pack("{s:s, s:i, s:i, s:o, s:b}", "prompt", text_at(prompt->json, "prompt"), "n_predict", 900,
                             "temperature", 0, "logit_bias", no_end(&a), "stream", 1);
    struct change change = {&a, 7, 0};
    struct got *stream = ask_hooked(&a, "/completion", body, change_weight, &change);
    json_t *tokens = json_array(), *event;
    size_t i;
    json_array_foreach(stream->events, i, event) {
        json_array_extend(tokens, at(event, "tokens"));
    }
    assert_in_range(change.n_tokens, 1, 899);
    assert_int_equal(json_array_size(tokens), 900);
    for (i = 0; i < 900; i++) {
        int32_t token;
        if (i == change.n_tokens) {
            must(genarm_session_set_weight(s, 0, -0.3f, &err), &err);
        }
        must(genarm_session_step(s, &token, &err), &err);
        assert_int_equal(json_integer_value(json_array_get(tokens, i)), token);
    }
    json_decref(tokens);
    got_free(stream);
    got_free(prompt);
    genarm_session_free(s);
    genarm_guide_free(g);
    api_stop(&a);
}

static void test_a_context_that_forgets_lets_answers_be_longer(void **state) {
    struct api a;
    (void)state;
    api_start(&a, &(struct api_options){.n_slots = 2, .n_ctx = 64, .max_queue = 4, .shift = true});
    struct got *g =
        ask_api(&a, "/v1/chat/completions",
                chat("Hi", "{s:i, s:i, s:o, s:b}", "max_tokens", 300, "n", 3, "logit_bias", no_end(&a), "logprobs", 1));
    assert_int_equal(g->status, 200);
    assert_int_equal(number_at(g->json, "usage.completion_tokens"), 900);
    assert_int_equal(json_array_size(at(g->json, "choices.2.logprobs.content")), 300);
    got_free(g);
    api_stop(&a);
}

static void test_log_probabilities_of_an_endless_answer_end_it(void **state) {
    struct api a;
    (void)state;
    api_start(&a, &(struct api_options){.n_slots = 1, .n_ctx = 64, .max_queue = 4, .shift = true});
    json_t *body =
        json_pack("{s:s, s:i, s:o, s:b}", "prompt", "Hi", "n_probs", 1000, "logit_bias", no_end(&a), "return_tokens", 1);
    struct got *g = ask_api(&a, "/completion", body);
    assert_int_equal(g->status, 200);
    assert_int_equal(json_array_size(at(g->json, "tokens")), (1 << 19) / 1001);
    assert_string_equal(text_at(g->json, "stop_type"), "limit");
    got_free(g);
    api_stop(&a);
}

static void test_an_answer_that_nothing_can_be_forgotten_for_ends_with_a_length(void **state) {
    struct api a;
    json_t *prompt = json_array();
    (void)state;
    for (int i = 0; i < 63; i++) {
        json_array_append_new(prompt, json_integer('a' + i % 26));
    }
    api_start(&a, &(struct api_options){.n_slots = 1, .n_ctx = 64, .max_queue = 4, .shift = true}); /* it keeps prompts */
    struct got *g = ask_api(&a, "/v1/completions",
                            json_pack("{s:o, s:i, s:o}", "prompt", prompt, "max_tokens", 5, "logit_bias", no_end(&a)));
    assert_int_equal(g->status, 200);
    assert_string_equal(text_at(g->json, "choices.0.finish_reason"), "length");
    assert_int_equal(number_at(g->json, "usage.completion_tokens"), 1);
    got_free(g);
    api_stop(&a);
}

static void test_names_are_said_as_they_are(void **state) {
    struct api a;
    struct got *g;
    struct genarm_error err;
    struct server *other;
    const struct server_params params = {.host = "127.0.0.1",
                                         .max_body = 4096,
                                         .max_connections = 4,
                                         .timeout = 5,
                                         .metrics = true,
                                         .alias = "org/caf\xe9\n\"x\""};
    (void)state;
    api_start(&a, &(struct api_options){.n_slots = 1, .n_ctx = 128, .max_queue = 4});
    server_stop(a.server, 0);
    server_free(a.server);
    a.arms[0].name = "say \"hi\"\\\n\xc3\xa9";
    a.arms[0].file = "caf\xe9.gguf";
    must(server_new(&a.server, &params, &err), &err);
    a.port = server_port(a.server);
    must(server_load(a.server, &a.served, &err), &err);
    static const char *const paths[] = {"/v1/models", "/arms", "/props", "/slots", "/metrics"};
    for (size_t i = 0; i < 5; i++) {
        g = ask_api(&a, paths[i], NULL);
        assert_int_equal(g->status, i == 3 ? 501 : 200);
        assert_true(i == 4 || g->json);
        assert_true(i != 4 || strstr(g->body.data, "{arm=\"say \\\"hi\\\"\\\\\\n\xc3\xa9\"}"));
        got_free(g);
    }
    g = ask_api(&a, "/v1/models/org/caf%3F%20%22x%22", NULL);
    assert_int_equal(g->status, 200);
    assert_string_equal(text_at(g->json, "id"), "org/caf? \"x\"");
    got_free(g);
    g = ask_api(&a, "/v1/chat/completions", chat("Hi", "{s:i, s:b}", "max_tokens", 2, "logprobs", 1));
    assert_int_equal(g->status, 200);
    assert_true(json_is_real(json_object_get(at(g->json, "arms"), a.arms[0].name)));
    got_free(g);
    server_stop(a.server, 0);
    server_free(a.server);
    a.arms[0].name = "caf\xe9"; /* cannot be said: found before anybody asks */
    must(server_new(&other, &params, &err), &err);
    assert_int_equal(server_load(other, &a.served, &err), GENARM_EINVAL);
    a.server = other;
    api_stop(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drafts_change_nothing_but_the_time),
        cmocka_unit_test(test_weights_change_between_drafted_tokens),
        cmocka_unit_test(test_a_context_that_forgets_lets_answers_be_longer),
        cmocka_unit_test(test_log_probabilities_of_an_endless_answer_end_it),
        cmocka_unit_test(test_an_answer_that_nothing_can_be_forgotten_for_ends_with_a_length),
        cmocka_unit_test(test_names_are_said_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
