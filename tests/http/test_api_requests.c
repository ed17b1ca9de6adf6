/* What the server does not take, and how it says so. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api_fixture.h"

static int setup(void **state) {
    static struct api a;
    api_start(&a, &(struct api_options){.n_slots = 2, .n_ctx = 256, .max_queue = 10});
    *state = &a;
    return 0;
}

static int teardown(void **state) {
    api_stop(*state);
    return 0;
}

/* ---- bad requests ---- */

struct bad {
    const char *path, *body;
    const char *param; /* NULL: none */
    const char *says;  /* within the message; NULL: anything */
};

#define CHAT "/v1/chat/completions"
#define COMPLETIONS "/v1/completions"
#define HI "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], "

static const struct bad table[] = {
    /* no JSON, or not what it has to be */
    {CHAT, "", NULL, "broken JSON"},
    {CHAT, "{", NULL, "broken JSON"},
    {CHAT, "[]", NULL, "must be a JSON object"},
    {CHAT, "\"text\"", NULL, "must be a JSON object"},
    {CHAT, "{} {}", NULL, "broken JSON"},
    {CHAT, "{\"messages\": \"\\ud800\"}", NULL, "broken JSON"},
    {CHAT, "{\"messages\": \"\xff\"}", NULL, "broken JSON"},
    {CHAT, HI "\"user\": \"\\u0000\"}", NULL, "zero character"},
    {CHAT, HI "\"a\\u0000b\": 1}", NULL, "broken JSON"},
    {CHAT, HI "\"seed\": 1, \"seed\": 2}", NULL, "duplicate"},
    {CHAT, HI "\"seed\": 1e999}", NULL, "broken JSON"},
    {CHAT, HI "\"seed\": 99999999999999999999}", "seed", "must be an integer"},
    {CHAT, HI "\"temperature\": NaN}", NULL, "broken JSON"},
    /* fields */
    {CHAT, HI "\"temprature\": 1}", "temprature", "did you mean 'temperature'"},
    {CHAT, HI "\"\\n\\\"\\u00e9\": 1}", "??", "unknown field"},
    {CHAT, HI "\"temperature\": \"hot\"}", "temperature", "must be a number, not a string"},
    {CHAT, HI "\"temperature\": -0.1}", "temperature", "must be from 0"},
    {CHAT, HI "\"temperature\": 101}", "temperature", NULL},
    {CHAT, HI "\"top_p\": -0.1}", "top_p", NULL},
    {CHAT, HI "\"top_p\": 1.01}", "top_p", NULL},
    {CHAT, HI "\"min_p\": 1}", "min_p", NULL},
    {CHAT, HI "\"top_k\": 1.5}", "top_k", "must be an integer"},
    {CHAT, HI "\"top_k\": 1e300}", "top_k", "must be an integer"},
    {CHAT, HI "\"seed\": 9223372036854775808}", "seed", NULL},
    {CHAT, HI "\"n\": 0}", "n", NULL},
    {CHAT, HI "\"n\": 129}", "n", NULL},
    {CHAT, HI "\"n\": true}", "n", NULL},
    {CHAT, HI "\"max_tokens\": -2}", "max_tokens", NULL},
    {CHAT, HI "\"max_completion_tokens\": 1e12}", "max_completion_tokens", NULL},
    {CHAT, HI "\"stream\": 1}", "stream", "must be true or false"},
    {CHAT, HI "\"stream_options\": {}}", "stream_options", NULL},
    {CHAT, HI "\"stream\": true, \"stream_options\": {\"usage\": true}}", "usage", NULL},
    {CHAT, HI "\"logprobs\": 1}", "logprobs", NULL},
    {CHAT, HI "\"top_logprobs\": 1}", "top_logprobs", "needs"},
    {CHAT, HI "\"logprobs\": true, \"top_logprobs\": 21}", "top_logprobs", NULL},
    {CHAT, HI "\"stop\": \"\"}", "stop", NULL},
    {CHAT, HI "\"stop\": [1]}", "stop", NULL},
    {CHAT,
     HI "\"stop\": [\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\"]}",
     "stop", "17"},
    {CHAT, HI "\"logit_bias\": {\"x\": 1}}", "logit_bias", NULL},
    {CHAT, HI "\"logit_bias\": {\"301\": 1}}", "logit_bias", "from 0 to 300"},
    {CHAT, HI "\"logit_bias\": {\"-1\": 1}}", "logit_bias", NULL},
    {CHAT, HI "\"logit_bias\": {\"99999999999999999999999\": 1}}", "logit_bias", NULL},
    {CHAT, HI "\"logit_bias\": {\"1\": 101}}", "logit_bias", NULL},
    {CHAT, HI "\"logit_bias\": {\"1\": true}}", "logit_bias", NULL},
    {CHAT, HI "\"logit_bias\": [[1]]}", "logit_bias", NULL},
    {CHAT, HI "\"logit_bias\": 1}", "logit_bias", NULL},
    {CHAT, HI "\"frequency_penalty\": 0.5}", "frequency_penalty", "not supported"},
    {CHAT, HI "\"tools\": [{}]}", "tools", NULL},
    {CHAT, HI "\"tools\": 0}", "tools", NULL},
    {CHAT, HI "\"tool_choice\": \"required\"}", "tool_choice", NULL},
    {CHAT, HI "\"modalities\": [\"audio\"]}", "modalities", NULL},
    {CHAT, HI "\"dry_multiplier\": 0.8, \"dry_base\": 1.75}", "dry_multiplier", "not supported"},
    {CHAT, HI "\"typ_p\": 0.9}", "typ_p", "not supported"},
    {CHAT, HI "\"chat_template_kwargs\": {\"enable_thinking\": false}}", "chat_template_kwargs", "not supported"},
    {CHAT, HI "\"n_probs\": 1}", "n_probs", "not supported"},
    {CHAT, HI "\"grammar\": \"root := x\"}", "grammar", NULL},
    {CHAT, HI "\"grammar\": \"root ::= root\"}", "grammar", NULL},
    {CHAT, HI "\"grammar\": \"root ::= \\\"a\\\"\", \"json_schema\": {}}", "grammar", "as well"},
    {CHAT, HI "\"json_schema\": {\"type\": \"nothing\"}}", "json_schema", NULL},
    {CHAT, HI "\"response_format\": {}}", "response_format", NULL},
    {CHAT, HI "\"response_format\": {\"type\": \"xml\"}}", "response_format", NULL},
    {CHAT, HI "\"response_format\": {\"type\": \"json_schema\"}}", "response_format", NULL},
    {CHAT, HI "\"response_format\": {\"type\": \"json_schema\", \"json_schema\": {\"schema\": null}}}", "response_format",
     "must be"},
    {CHAT, HI "\"json_schema\": {}, \"response_format\": {\"type\": \"nonsense\"}}", "response_format", NULL},
    {CHAT, HI "\"json_schema\": {}, \"response_format\": {\"type\": \"json_object\"}}", "json_schema", "as well"},
    /* messages */
    {CHAT, "{}", "messages", NULL},
    {CHAT, "{\"messages\": []}", "messages", NULL},
    {CHAT, "{\"messages\": {}}", "messages", NULL},
    {CHAT, "{\"messages\": [1]}", "messages", NULL},
    {CHAT, "{\"messages\": [{\"role\": \"user\"}]}", "messages", NULL},
    {CHAT, "{\"messages\": [{\"role\": \"tool\", \"content\": \"\"}]}", "messages", NULL},
    {CHAT, "{\"messages\": [{\"role\": \"assistant\", \"content\": \"\"}]}", "messages", "last message"},
    {CHAT, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]}", "messages", NULL},
    {CHAT, "{\"messages\": [{\"role\": \"user\", \"content\": \"\", \"x\": 1}]}", "messages", NULL},
    {CHAT, "{\"messages\": [{\"role\": \"user\", \"content\": null, \"refusal\": \"No.\"}]}", "messages", "content must be"},
    {CHAT, "{\"messages\": [{\"role\": \"assistant\", \"content\": null}, {\"role\": \"user\", \"content\": \"\"}]}", "messages",
     "messages[0].content must be"},
    {CHAT, "{\"messages\": [{\"role\": \"user\", \"content\": \"\", \"tool_calls\": [{}]}]}", "messages", "not supported"},
    {CHAT, "{\"messages\": [{\"role\": \"user\", \"content\": \"\", \"type\": \"image\"}]}", "messages", "not supported"},
    {CHAT, "{\"messages\": [{\"role\": \"user\", \"content\": \"\", \"audio\": {}}]}", "messages", "not supported"},
    /* ARMs */
    {CHAT, HI "\"arms\": []}", "arms", NULL},
    {CHAT, HI "\"arms\": {\"helpfull\": 1}}", "arms", "did you mean 'helpful'"},
    {CHAT, HI "\"arms\": {\"helpful\": \"1\"}}", "arms", NULL},
    {CHAT, HI "\"arms\": {\"helpful\": null}}", "arms", NULL},
    {CHAT, HI "\"arms\": {\"helpful\": 1000.5}}", "arms", NULL},
    {CHAT, HI "\"preferences\": {\"helpful\": {\"x\": 1}}}", "preferences", "no objectives"},
    {CHAT, HI "\"preferences\": {\"x\": {}}}", "preferences", NULL},
    {CHAT, HI "\"arm_schedules\": {\"helpful\": []}}", "arm_schedules", NULL},
    {CHAT, HI "\"arm_schedules\": {\"helpful\": [[3, 1], [2, 1]]}}", "arm_schedules", NULL},
    {CHAT, HI "\"arm_schedules\": {\"helpful\": [[0, \"1\"]]}}", "arm_schedules", NULL},
    {CHAT, HI "\"min_entropy\": -1}", "min_entropy", NULL},
    /* completions */
    {COMPLETIONS, "{}", "prompt", "missing"},
    {COMPLETIONS, "{\"prompt\": 1}", "prompt", NULL},
    {COMPLETIONS, "{\"prompt\": [1.5]}", "prompt", NULL},
    {COMPLETIONS, "{\"prompt\": [301]}", "prompt", NULL},
    {COMPLETIONS, "{\"prompt\": [-1]}", "prompt", NULL},
    {COMPLETIONS, "{\"prompt\": [\"a\", 1]}", "prompt", NULL},
    {COMPLETIONS, "{\"prompt\": [[1], [[1]]]}", "prompt", NULL},
    {COMPLETIONS, "{\"prompt\": [\"a\", \"b\"], \"n\": 65}", "n", "128"},
    {COMPLETIONS, "{\"prompt\": \"a\", \"suffix\": \"b\"}", "suffix", NULL},
    {COMPLETIONS, "{\"prompt\": \"a\", \"best_of\": 2}", "best_of", NULL},
    {COMPLETIONS, "{\"prompt\": \"a\", \"messages\": []}", "messages", "unknown field"},
    {"/completion", "{\"prompt\": \"a\", \"n_probs\": 1001}", "n_probs", NULL},
    {"/completion", "{\"prompt\": [\"a\", \"b\", \"c\", \"d\", \"e\"], \"n_probs\": 1000}", "n_probs", "too many"},
    {"/completion", "{\"prompt\": [\"a\", \"b\", \"c\"], \"n_probs\": 1000, \"n_predict\": 200}", "n_probs", "600 tokens"},
    {CHAT, HI "\"n\": 128, \"logprobs\": true, \"top_logprobs\": 20}", "top_logprobs", "too many"},
    {COMPLETIONS, "{\"prompt\": \"a\", \"n\": 128, \"logprobs\": 20, \"max_tokens\": 100000}", "logprobs", "32768 tokens"},
    {COMPLETIONS, "{\"prompt\": \"a\", \"t_max_predict_ms\": 100}", "t_max_predict_ms", "not supported"},
    {"/completion", "{\"prompt\": \"a\", \"n\": 2}", "n", "not supported"},
    {"/completion", "{\"prompt\": \"a\", \"n_cmpl\": 2}", "n_cmpl", "not supported"},
    {"/completion", "{\"prompt\": \"a\", \"repeat_penalty\": 1.1}", "repeat_penalty", NULL},
    {"/completion", "{\"prompt\": \"a\", \"response_fields\": [\"content\"]}", "response_fields", "not supported"},
    /* the rest */
    {"/v1/score", "{\"prompt\": \"a\"}", "response", "missing"},
    {"/v1/score", "{\"response\": \"a\"}", "prompt", NULL},
    {"/v1/score", "{\"prompt\": \"a\", \"messages\": [], \"response\": \"a\"}", "prompt", NULL},
    {"/v1/score", "{\"prompt\": \"a\", \"response\": \"\", \"complete\": false}", "response", "empty"},
    {"/arms", "[{\"id\": 2, \"weight\": 1}]", "id", NULL},
    {"/arms", "[{\"name\": \"helpful\"}]", "weight", NULL},
    {"/arms", "[{\"name\": \"helpful\", \"id\": 0, \"weight\": 1}]", "weight", NULL},
    {"/arms", "[1]", "arms", NULL},
    {"/arms", "1", "arms", NULL},
    {"/arms", "{\"helpful\": 1e9}", "arms", NULL},
    {"/tokenize", "{\"content\": 1}", "content", NULL},
    {"/detokenize", "{}", "tokens", NULL},
    {"/detokenize", "{\"tokens\": [1e3]}", "tokens", NULL},
    {"/apply-template", "{}", "messages", NULL},
};

static void test_bad_requests_are_named(void **state) {
    const struct api *a = *state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const struct bad *b = &table[i];
        struct got *g = ask_text(a, b->path, b->body, NULL, NULL, NULL);
        const json_t *param = at(g->json, "error.param");
        const char *named = json_string_value(param);
        const bool as_wanted = g->status == 400 &&
                               (b->param ? named && (b->param[0] == '?' || strcmp(named, b->param) == 0) : json_is_null(param)) &&
                               (!b->says || strstr(text_at(g->json, "error.message"), b->says)) &&
                               number_at(g->json, "error.code") == 400 &&
                               strcmp(text_at(g->json, "error.type"), "invalid_request_error") == 0;
        if (!as_wanted) {
            print_error("%s %s: %ld %.*s\n", b->path, b->body, g->status, (int)g->body.len, g->body.data ? g->body.data : "");
        }
        assert_true(as_wanted);
        got_free(g);
    }
}

/* Deeper than any request has reason to be, in a field that is not looked at. */
static void test_deep_nesting_is_refused(void **state) {
    const struct api *a = *state;
    const size_t depth = 100000;
    struct buf body;
    buf_init(&body, 1 << 24);
    buf_puts(&body, HI "\"metadata\": ", NULL);
    for (size_t i = 0; i < depth; i++) {
        buf_puts(&body, "[", NULL);
    }
    struct got *g = ask_text(a, CHAT, body.data, NULL, NULL, NULL);
    assert_int_equal(g->status, 400);
    got_free(g);
    buf_deinit(&body);
}

static void test_a_stop_text_has_a_limit(void **state) {
    const struct api *a = *state;
    char text[2000] = {0};
    memset(text, 'x', sizeof text - 1);
    struct got *g = ask_api(a, CHAT, chat("Hi", "{s:s}", "stop", text));
    assert_int_equal(g->status, 400);
    assert_string_equal(text_at(g->json, "error.param"), "stop");
    got_free(g);
}

/* ---- what is taken although it is odd ---- */

static void test_a_full_context_is_told(void **state) {
    const struct api *a = *state;
    struct got *g = ask_api(a, CHAT, chat("Hi", "{s:i, s:o}", "max_tokens", 100000, "logit_bias", no_end(a)));
    assert_int_equal(g->status, 200);
    assert_string_equal(text_at(g->json, "choices.0.finish_reason"), "length");
    assert_int_equal(number_at(g->json, "usage.total_tokens"), 256);
    got_free(g);
    char *text = calloc(1, 3001);
    memset(text, 'x', 3000);
    g = ask_api(a, CHAT, chat(text, "{}"));
    assert_int_equal(g->status, 400);
    assert_string_equal(text_at(g->json, "error.type"), "exceed_context_size_error");
    assert_int_equal(number_at(g->json, "error.n_ctx"), 256);
    assert_true(number_at(g->json, "error.n_prompt_tokens") > 256);
    got_free(g);
    g = ask_api(a, COMPLETIONS, json_pack("{s:s, s:i, s:b}", "prompt", text, "logprobs", 0, "echo", 1));
    assert_string_equal(text_at(g->json, "error.type"), "exceed_context_size_error");
    got_free(g);
    g = ask_api(a, "/v1/score", json_pack("{s:s, s:s}", "prompt", "Hi", "response", text));
    assert_string_equal(text_at(g->json, "error.type"), "exceed_context_size_error");
    got_free(g);
    free(text);
}

static char *repeated(const char *piece, size_t n) {
    char *text = calloc(n, strlen(piece) + 1);
    for (size_t i = 0; i < n; i++) {
        strcat(text + i * strlen(piece), piece);
    }
    return text;
}

/* OpenAI's seeds have 64 bits. */
static void test_large_seeds_are_told_as_they_are(void **state) {
    const json_int_t seed = 1234567890123456789;
    struct got *g = ask_api(*state, CHAT, chat("Hi", "{s:I, s:i}", "seed", seed, "max_tokens", 1));
    assert_int_equal(g->status, 200);
    assert_true(json_integer_value(json_object_get(g->json, "seed")) == seed);
    got_free(g);
}

/* Each element of several has the facts of its own choice: asked alone with its seed, it is the same. */
static void test_answers_to_several_prompts_tell_their_own_facts(void **state) {
    const struct api *a = *state;
    json_t *body = json_pack("{s:[s, s], s:i, s:i, s:b}", "prompt", "Hello", "quixotic lead waxes xyz", "n_predict", 6, "seed", 77,
                             "return_tokens", 1);
    struct got *g = ask_api(a, "/completion", body);
    const json_t *second = json_array_get(g->json, 1);
    const json_t *timings = json_object_get(second, "timings");
    assert_int_equal(g->status, 200);
    assert_int_equal(json_integer_value(json_object_get(timings, "prompt_n")) + json_integer_value(json_object_get(timings, "cache_n")),
                     json_integer_value(json_object_get(second, "tokens_evaluated")));
    const json_int_t seed = json_integer_value(json_object_get(second, "seed"));
    assert_true(seed != 77);
    body = json_pack("{s:s, s:i, s:I, s:b}", "prompt", "quixotic lead waxes xyz", "n_predict", 6, "seed", seed, "return_tokens", 1);
    struct got *alone = ask_api(a, "/completion", body);
    assert_true(json_equal(json_object_get(alone->json, "tokens"), json_object_get(second, "tokens")));
    got_free(alone);
    got_free(g);
}

static void test_a_path_that_nobody_has_is_not_found(void **state) {
    struct got *g = ask_api(*state, "/embeddings", json_object());
    assert_int_equal(g->status, 404);
    got_free(g);
}

/* Nobody counts it to its end. */
static void test_a_long_response_is_refused_at_once(void **state) {
    char *text = repeated("x", 200000);
    struct got *g = ask_api(*state, "/v1/score", json_pack("{s:s, s:s}", "prompt", "Hi", "response", text));
    assert_int_equal(g->status, 400);
    assert_string_equal(text_at(g->json, "error.type"), "exceed_context_size_error");
    assert_non_null(strstr(text_at(g->json, "error.message"), "a response of at least "));
    assert_int_equal(number_at(g->json, "error.n_ctx"), 256);
    got_free(g);
    free(text);
}

/* What the server says of a prompt of n pieces: it fits, or has so many tokens, or at least so many. */
static void expect_length(const struct api *a, const char *path, const char *piece, size_t n, const char *says) {
    char *text = repeated(piece, n);
    const bool chats = strcmp(path, CHAT) == 0;
    struct got *g = ask_api(a, path, chats ? chat(text, "{}") : json_pack("{s:s, s:i}", "prompt", text, "max_tokens", 1));
    assert_int_equal(g->status, says ? 400 : 200);
    if (says) {
        assert_string_equal(text_at(g->json, "error.type"), "exceed_context_size_error");
        assert_non_null(strstr(text_at(g->json, "error.message"), says));
        assert_true(number_at(g->json, "error.n_prompt_tokens") >= 256);
    }
    got_free(g);
    free(text);
}

static void test_a_prompt_far_beyond_the_context_is_not_tokenised_to_be_refused(void **state) {
    const struct api *a = *state;
    static const char longest[] = "<|endoftext|>"; /* piece of the vocabulary: a token, where prompts may spell those */
    static const char *const paths[] = {CHAT, COMPLETIONS, "/completion"};
    for (size_t i = 0; i < 3; i++) {
        expect_length(a, paths[i], "a few words ", 1 << 17, "the prompt has at least ");
        expect_length(a, paths[i], " ", 3000, "the prompt has 3"); /* tokens may swallow spaces: they are not counted */
    }
    expect_length(a, COMPLETIONS, longest, 254, NULL); /* and BOS */
    expect_length(a, COMPLETIONS, longest, 255, "has 256 tokens");
    expect_length(a, COMPLETIONS, longest, 256, "has at least 256 tokens");
}

static void test_what_is_null_or_neutral_is_not_given(void **state) {
    const struct api *a = *state;
    static const char *const more[] = {
        "\"temperature\": null, \"arms\": null, \"stop\": null, \"grammar\": null, \"n\": null}",
        "\"frequency_penalty\": 0.0, \"presence_penalty\": 0, \"tools\": [], \"tool_choice\": \"auto\", \"modalities\": "
        "[\"text\"]}",
        "\"model\": [\"anything\"], \"user\": 1, \"metadata\": {\"a\": {}}, \"store\": true, \"reasoning_effort\": \"high\"}",
        "\"response_format\": {\"type\": \"text\"}, \"stop\": [], \"logit_bias\": {}, \"arms\": {}, \"grammar\": \"\"}",
        "\"top_k\": -1, \"seed\": -9007199254740991, \"temperature\": 1e-40, \"n\": 1.0}",
        "\"temperature\": 1e-30, \"top_p\": 1e-30, \"min_p\": 0.999999, \"top_k\": 2147483647}",
        "\"min_entropy\": 1000, \"arm_schedules\": {\"helpful\": [[0, 1], [2, 0]]}, \"arms\": {\"helpful\": -1000, \"harmless\": "
        "1000}}",
        "\"max_completion_tokens\": 0}",
        "\"json_schema\": {\"const\": 1}, \"response_format\": {\"type\": \"text\"}}",
        "\"response_format\": {\"type\": \"json_object\", \"schema\": null}}",
        "\"json_schema\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 18446744073709551615}}",
        "\"stop\": \"x\", \"logprobs\": true, \"top_logprobs\": 20, \"logit_bias\": [[5, 100], [5, 100], [6, false]]}",
    };
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        char body[512];
        snprintf(body, sizeof body, HI "\"max_tokens\": 3, %s", more[i]);
        struct got *g = ask_text(a, CHAT, body, NULL, NULL, NULL);
        if (g->status != 200) {
            print_error("%s: %.*s\n", body, (int)g->body.len, g->body.data);
        }
        assert_int_equal(g->status, 200);
        got_free(g);
    }
}

/* As clients of llama-server send them: with the values that change nothing, and parameters of samplers that are off. */
static const char neutral[] =
    ", \"max_tokens\": -1, \"max_completion_tokens\": -1, \"id_slot\": -1, \"cache_prompt\": true, \"n_keep\": 0, "
    "\"n_discard\": 0, \"n_cache_reuse\": 0, \"n_indent\": 0, \"n_probs\": 0, \"min_keep\": 0, \"t_max_predict_ms\": 0, "
    "\"response_fields\": [], \"return_tokens\": false, \"return_progress\": true, \"post_sampling_probs\": false, "
    "\"timings_per_token\": false, \"samplers\": [\"top_k\", \"top_p\", \"temperature\"], \"repeat_penalty\": 1.0, "
    "\"repeat_last_n\": 64, \"presence_penalty\": 0.0, \"frequency_penalty\": 0.0, \"dry_multiplier\": 0.0, "
    "\"dry_base\": 1.75, \"dry_allowed_length\": 2, \"dry_penalty_last_n\": -1, \"dry_sequence_breakers\": [\"\\n\"], "
    "\"xtc_probability\": 0, \"xtc_threshold\": 0.1, \"typical_p\": 1, \"typ_p\": 1.0, \"top_n_sigma\": -1.0, \"mirostat\": 0, "
    "\"mirostat_tau\": 5.0, \"mirostat_eta\": 0.1, \"dynatemp_range\": 0.0, \"dynatemp_exponent\": 1.0, "
    "\"adaptive_target\": -1.0, \"adaptive_decay\": 0.9, \"ignore_eos\": false, \"lora\": [], \"metadata\": {\"a\": 1}, "
    "\"reasoning_format\": \"auto\", \"backend_sampling\": false, \"chat_template_kwargs\": {}, \"n\": 1, "
    "\"store\": true, \"tools\": [], \"tool_choice\": \"auto\"}";

static void test_all_kinds_take_the_fields_of_both_apis_that_change_nothing(void **state) {
    const struct api *a = *state;
    static const struct {
        const char *path, *head, *text;
    } kinds[] = {{CHAT, HI, "choices.0.message.content"},
                 {COMPLETIONS, "{\"prompt\": \"a\", ", "choices.0.text"},
                 {"/completion", "{\"prompt\": \"a\", ", "content"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char body[2048];
        struct got *g[2];
        for (size_t k = 0; k < 2; k++) {
            snprintf(body, sizeof body, "%s\"n_predict\": 5, \"temperature\": 0, \"grammar\": \"root ::= [a-z]{40}\"%s",
                     kinds[i].head, k == 0 ? "}" : neutral);
            g[k] = ask_text(a, kinds[i].path, body, NULL, NULL, NULL);
            if (g[k]->status != 200) {
                print_error("%s: %.*s\n", kinds[i].path, (int)g[k]->body.len, g[k]->body.data);
            }
            assert_int_equal(g[k]->status, 200);
        }
        assert_in_range(strlen(text_at(g[0]->json, kinds[i].text)), 5, 39); /* n_predict ended it */
        assert_string_equal(text_at(g[0]->json, kinds[i].text), text_at(g[1]->json, kinds[i].text));
        got_free(g[0]);
        got_free(g[1]);
    }
}

static void test_an_empty_prompt_is_one(void **state) {
    const struct api *a = *state;
    static const char *const bodies[] = {"{\"prompt\": \"\", \"max_tokens\": 2}", "{\"prompt\": [], \"max_tokens\": 2}",
                                         "{\"prompt\": [\"\", \"\"], \"max_tokens\": 0, \"echo\": true, \"logprobs\": 1}"};
    for (size_t i = 0; i < 3; i++) {
        struct got *g = ask_text(a, COMPLETIONS, bodies[i], NULL, NULL, NULL);
        assert_int_equal(g->status, 200);
        got_free(g);
    }
}

static void test_an_answer_that_no_token_is_allowed_in_fails_alone(void **state) {
    const struct api *a = *state;
    json_t *none = json_object();
    for (int i = 0; i < 301; i++) {
        char id[16];
        snprintf(id, sizeof id, "%d", i);
        json_object_set_new(none, id, json_integer(-100));
    }
    json_t *body = chat("Hi", "{s:o, s:i}", "logit_bias", none, "max_tokens", 4);
    struct got *g = ask_api(a, CHAT, json_deep_copy(body));
    assert_true(g->status >= 400);
    assert_true(json_is_string(at(g->json, "error.message")));
    got_free(g);
    json_object_set_new(body, "stream", json_true());
    g = ask_api(a, CHAT, body);
    const json_t *failed =
        g->status == 200 ? json_array_get(g->events, json_array_size(g->events) - 1) : g->json; /* as soon as it was known */
    assert_true(json_is_string(at(failed, "error.message")));
    assert_true(g->status != 200 || g->done);
    got_free(g);
    g = ask_api(a, CHAT, chat("Hi", "{s:i}", "max_tokens", 4));
    assert_int_equal(g->status, 200);
    got_free(g);
}

static void test_texts_of_several_parts_are_joined(void **state) {
    const struct api *a = *state;
    struct got *one =
        ask_text(a, "/apply-template", "{\"messages\": [{\"role\": \"user\", \"content\": \"a b\"}]}", NULL, NULL, NULL);
    struct got *two = ask_text(a, "/apply-template",
                               "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a \"}, "
                               "{\"type\": \"text\", \"text\": \"b\"}]}]}",
                               NULL, NULL, NULL);
    assert_string_equal(text_at(one->json, "prompt"), text_at(two->json, "prompt"));
    got_free(one);
    got_free(two);
}

static void assert_same_prompt(const struct api *a, const char *messages, const char *plain) {
    char body[2][1024];
    struct got *g[2];
    for (int i = 0; i < 2; i++) {
        snprintf(body[i], sizeof body[i], "{\"messages\": [%s, {\"role\": \"user\", \"content\": \"Why?\"}]}",
                 i ? plain : messages);
        g[i] = ask_text(a, "/apply-template", body[i], NULL, NULL, NULL);
        if (g[i]->status != 200) {
            print_error("%s: %.*s\n", body[i], (int)g[i]->body.len, g[i]->body.data);
        }
        assert_int_equal(g[i]->status, 200);
    }
    assert_string_equal(text_at(g[0]->json, "prompt"), text_at(g[1]->json, "prompt"));
    got_free(g[0]);
    got_free(g[1]);
}

/* As clients keep a history of what they were told, with all that an answer might have had. */
static void test_what_a_message_has_not_is_not_given(void **state) {
    const struct api *a = *state;
    static const char all[] = "\"annotations\": null, \"audio\": null, \"function_call\": null, \"tool_calls\": null";
    char messages[512];
    snprintf(messages, sizeof messages, "{\"role\": \"assistant\", \"content\": \"So.\", \"refusal\": null, %s}", all);
    assert_same_prompt(a, messages, "{\"role\": \"assistant\", \"content\": \"So.\"}");
    assert_same_prompt(a, "{\"role\": \"user\", \"content\": \"So.\", \"annotations\": [], \"name\": \"Ann\"}",
                       "{\"role\": \"user\", \"content\": \"So.\"}");
    assert_same_prompt(a, "{\"type\": \"text\", \"role\": \"system\", \"content\": \"So.\"}",
                       "{\"role\": \"system\", \"content\": \"So.\"}");
    snprintf(messages, sizeof messages, "{\"role\": \"assistant\", \"content\": null, \"refusal\": \"No.\", %s}", all);
    assert_same_prompt(a, messages, "{\"role\": \"assistant\", \"content\": \"\"}");
    assert_same_prompt(a, "{\"role\": \"assistant\", \"refusal\": \"No.\"}", "{\"role\": \"assistant\", \"content\": \"\"}");
}

static void test_a_chat_may_end_with_a_system_message(void **state) {
    const struct api *a = *state;
    static const char *const messages[] = {
        "{\"role\": \"system\", \"content\": \"Tell a story.\"}",
        "{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"developer\", \"content\": \"Be brief.\"}",
    };
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        char body[256];
        snprintf(body, sizeof body, "{\"messages\": [%s], \"max_tokens\": 2}", messages[i]);
        struct got *g = ask_text(a, CHAT, body, NULL, NULL, NULL);
        assert_int_equal(g->status, 200);
        got_free(g);
    }
}

/* ---- many at once, of all kinds ---- */

struct mixed {
    const struct api *a;
    unsigned seed;
    int n_bad;
};

static bool maybe_leave(json_t *event, void *user) {
    struct mixed *m = user;
    char path[128];
    const int what = rand_r(&m->seed) % 8;
    if (what == 0 && at(event, "id")) {
        snprintf(path, sizeof path, "/v1/requests/%s/arms", json_string_value(at(event, "id")));
        struct got *g =
            ask_api(m->a, path, json_pack("{s:f, s:f}", "helpful", (double)(rand_r(&m->seed) % 3) - 1, "harmless", 0.0));
        m->n_bad += g->status != 200 && g->status != 404;
        got_free(g);
    }
    return what != 1;
}

static void *ask_mixed(void *user) {
    struct mixed *m = user;
    static const char *const paths[] = {"/slots", "/metrics", "/arms", "/props"};
    for (int i = 0; i < 12; i++) {
        const int kind = rand_r(&m->seed) % 5, stream = rand_r(&m->seed) % 2;
        struct got *g;
        if (kind == 0) {
            g = ask_api(m->a, paths[rand_r(&m->seed) % 4], NULL);
        } else if (kind == 1) {
            g = ask_api(m->a, "/v1/score",
                        json_pack("{s:s, s:s}", "prompt", "Hi", "response", "a response of some length, to be scored"));
        } else if (kind == 2) {
            json_t *body = json_pack("{s:[s, s], s:i, s:b, s:i, s:b}", "prompt", "some text that is echoed", "and more",
                                     "max_tokens", 20, "echo", 1, "logprobs", 2, "stream", stream);
            g = ask_hooked(m->a, COMPLETIONS, body, maybe_leave, m);
        } else {
            json_t *body = chat("Hi", "{s:i, s:i, s:b, s:b, s:s}", "max_tokens", 40, "n", 1 + rand_r(&m->seed) % 4, "stream",
                                stream, "logprobs", kind == 3, "stop", "e");
            g = ask_hooked(m->a, CHAT, body, maybe_leave, m);
        }
        m->n_bad += g->status != 200 && g->status != 503;
        got_free(g);
    }
    return NULL;
}

static void test_requests_of_all_kinds_at_once(void **state) {
    const struct api *a = *state;
    struct mixed each[8];
    pthread_t threads[8];
    for (unsigned i = 0; i < 8; i++) {
        each[i] = (struct mixed){a, i + 1, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, ask_mixed, &each[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(each[i].n_bad, 0);
    }
    assert_true(slots_reach(a, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_requests_are_named),
        cmocka_unit_test(test_deep_nesting_is_refused),
        cmocka_unit_test(test_a_stop_text_has_a_limit),
        cmocka_unit_test(test_a_full_context_is_told),
        cmocka_unit_test(test_a_long_response_is_refused_at_once),
        cmocka_unit_test(test_large_seeds_are_told_as_they_are),
        cmocka_unit_test(test_answers_to_several_prompts_tell_their_own_facts),
        cmocka_unit_test(test_a_path_that_nobody_has_is_not_found),
        cmocka_unit_test(test_a_prompt_far_beyond_the_context_is_not_tokenised_to_be_refused),
        cmocka_unit_test(test_what_is_null_or_neutral_is_not_given),
        cmocka_unit_test(test_all_kinds_take_the_fields_of_both_apis_that_change_nothing),
        cmocka_unit_test(test_an_empty_prompt_is_one),
        cmocka_unit_test(test_an_answer_that_no_token_is_allowed_in_fails_alone),
        cmocka_unit_test(test_texts_of_several_parts_are_joined),
        cmocka_unit_test(test_what_a_message_has_not_is_not_given),
        cmocka_unit_test(test_a_chat_may_end_with_a_system_message),
        cmocka_unit_test(test_requests_of_all_kinds_at_once),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
