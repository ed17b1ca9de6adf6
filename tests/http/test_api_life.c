/* Requests that wait, are given up, take too long or are overtaken by the server's end. */
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "api_fixture.h"
#include "base/file.h"
#include "base/progress.h"
#include "fixture.h"
#include "support/golden.h"
#include "support/temp.h"

/* ---- somebody who holds a slot ---- */

struct holder {
    const struct api *a;
    const char *key;
    json_t *body;
    pthread_t thread;
    atomic_bool release; /* hangs up */
    atomic_bool ended;
    atomic_int n_events;
    char id[64];         /* of the request, once there is an event */
    struct got *got;
};

static bool hold(json_t *event, void *user) {
    struct holder *h = user;
    if (atomic_load(&h->n_events) == 0 && at(event, "id")) {
        snprintf(h->id, sizeof h->id, "%s", json_string_value(at(event, "id")));
    }
    atomic_fetch_add(&h->n_events, 1);
    return !atomic_load(&h->release);
}

static void *holding(void *user) {
    struct holder *h = user;
    char *text = json_dumps(h->body, 0);
    h->got = ask_text(h->a, "/v1/chat/completions", text, h->key, hold, h);
    atomic_store(&h->ended, true);
    free(text);
    return NULL;
}

/* Many answers one after the other: seconds of work. Returns when the first event is there. */
static void holder_start(struct holder *h, const struct api *a, const char *key, int n) {
    *h = (struct holder){.a = a, .key = key};
    h->body = chat("Hold on.", "{s:b, s:i, s:i, s:o}", "stream", 1, "n", n, "max_tokens", 400, "logit_bias", no_end(a));
    assert_int_equal(pthread_create(&h->thread, NULL, holding, h), 0);
    for (int i = 0; i < 1000 && atomic_load(&h->n_events) == 0; i++) {
        usleep(5000);
    }
    assert_true(atomic_load(&h->n_events) > 0);
}

static void holder_end(struct holder *h) {
    atomic_store(&h->release, true);
    pthread_join(h->thread, NULL);
    json_decref(h->body);
    got_free(h->got);
}

/* ---- somebody who asks and waits ---- */

struct asker {
    const struct api *a;
    const char *key;
    int n, n_tokens; /* answers, and tokens of each */
    pthread_t thread;
    struct got *got;
    int place; /* in which it was answered */
};

static atomic_int n_answered;

static void *asking(void *user) {
    struct asker *k = user;
    json_t *body = chat("Hi", "{s:i, s:i, s:o}", "n", k->n, "max_tokens", k->n_tokens, "logit_bias", no_end(k->a));
    char *text = json_dumps(body, 0);
    k->got = ask_text(k->a, "/v1/chat/completions", text, k->key, NULL, NULL);
    k->place = atomic_fetch_add(&n_answered, 1);
    free(text);
    json_decref(body);
    return NULL;
}

static void asker_start_n(struct asker *k, const struct api *a, const char *key, int n, int n_tokens) {
    *k = (struct asker){.a = a, .key = key, .n = n, .n_tokens = n_tokens};
    assert_int_equal(pthread_create(&k->thread, NULL, asking, k), 0);
}

static void asker_start(struct asker *k, const struct api *a, const char *key, int n_tokens) {
    asker_start_n(k, a, key, 1, n_tokens);
}

static void asker_end(struct asker *k) {
    pthread_join(k->thread, NULL);
}

/* A number of /metrics; -1: it is not there. */
static double metric(const struct api *a, const char *name, const char *key) {
    struct got *g = ask_text(a, "/metrics", NULL, key, NULL, NULL);
    const char *line = g->body.data ? strstr(g->body.data, name) : NULL;
    while (line && line != g->body.data && line[-1] != '\n') { /* within its description */
        line = strstr(line + 1, name);
    }
    const double value = line ? strtod(line + strlen(name), NULL) : -1;
    got_free(g);
    return value;
}

static bool metric_reaches(const struct api *a, const char *name, double value, const char *key) {
    for (int i = 0; i < 500; i++) {
        if (metric(a, name, key) == value) {
            return true;
        }
        usleep(10000);
    }
    return false;
}

/* ---- giving up ---- */

static void test_a_stream_that_is_left_frees_its_slots(void **state) {
    struct api a;
    struct holder h;
    (void)state;
    api_start(&a, &(struct api_options){.n_slots = 2, .n_ctx = 512, .max_queue = 4});
    holder_start(&h, &a, NULL, 64);
    assert_true(metric(&a, "genarm_requests_running ", NULL) == 1);
    assert_true(slots_reach(&a, 2));
    assert_true(metric(&a, "genarm_slots_busy ", NULL) == 2);
    holder_end(&h);
    assert_true(slots_reach(&a, 0));
    assert_true(metric(&a, "genarm_requests_running ", NULL) == 0);
    assert_true(metric(&a, "genarm_canceled_total ", NULL) > 0);
    struct got *g = ask_api(&a, "/v1/chat/completions", chat("Hi", "{s:i}", "max_tokens", 4));
    assert_int_equal(g->status, 200);
    got_free(g);
    api_stop(&a);
}

static bool hang_up(json_t *event, void *user) {
    (void)event;
    (void)user;
    return false;
}

static void test_who_leaves_within_a_long_prompt_or_score_frees_its_slot(void **state) {
    struct api a;
    (void)state;
    char *text = calloc(1, 1801);
    memset(text, 'x', 1800);
    api_start(&a, &(struct api_options){.n_slots = 1, .n_ctx = 2048, .max_queue = 4});
    for (int echo = 0; echo < 2; echo++) {
        json_t *body =
            json_pack("{s:s, s:i, s:b, s:b, s:i}", "prompt", text, "max_tokens", 100, "stream", 1, "echo", echo, "logprobs", 2);
        got_free(ask_hooked(&a, "/v1/completions", body, hang_up, NULL));
        assert_true(slots_reach(&a, 0));
    }
    free(text);
    api_stop(&a);
}

/* Of the file, once it is there: the log is written when the reply is over. */
static bool log_has(const char *path, const char *text) {
    bool found = false;
    for (int i = 0; i < 500 && !found; i++) {
        struct genarm_error err;
        struct buf b;
        buf_init(&b, 1 << 20);
        must(file_read(&b, path, &err), &err);
        found = b.data && strstr(b.data, text);
        buf_deinit(&b);
        usleep(10000);
    }
    return found;
}

/* Asks for a whole reply of two answers, and gives up in the queue. */
static void leave(const struct api *a) {
    static const char body[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"n\": 2, "
                               "\"grammar\": \"root ::= [a-z]{400}\"}";
    struct raw r;
    raw_open(&r, a->port);
    raw_send(&r, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: left\r\nContent-Length: %zu\r\n\r\n%s",
             sizeof body - 1, body);
    assert_true(metric_reaches(a, "genarm_requests_queued ", 1, NULL));
    raw_close(&r);
}

static void test_who_leaves_before_the_reply_is_logged_and_counted_so(void **state) {
    struct api a;
    struct holder h;
    struct genarm_error err;
    struct serve_log *log;
    const char *path = temp_path("left.log");
    (void)state;
    must(serve_log_new(&log, &(struct serve_log_params){.path = path}, &err), &err);
    api_start(&a, &(struct api_options){.n_slots = 1, .n_ctx = 512, .max_queue = 4, .log = log});
    holder_start(&h, &a, NULL, 64);
    leave(&a);
    assert_true(metric_reaches(&a, "genarm_requests_total{route=\"/v1/chat/completions\",status=\"499\"} ", 1, NULL));
    assert_true(metric_reaches(&a, "genarm_canceled_total ", 2, NULL));
    assert_true(log_has(path, " left chatcmpl-"));
    assert_true(log_has(path, "answer of 0 (the client left)"));
    assert_true(log_has(path, " 499 "));
    holder_end(&h);
    api_stop(&a);
    serve_log_free(log);
}

/* Some of its answers begin with "a", which nothing may follow, the others would be long. */
static void test_an_answer_that_fails_takes_the_others_of_its_request_along(void **state) {
    struct api a;
    int32_t b;
    char id[16];
    (void)state;
    api_start(&a, &(struct api_options){.n_slots = 4, .n_ctx = 512, .max_queue = 4});
    assert_int_equal(genarm_tokenize(a.model, "b", 1, false, false, &b, 1), 1);
    snprintf(id, sizeof id, "%d", b);
    json_t *body = chat("Hi", "{s:s, s:{s:i}, s:i, s:i, s:i}", "grammar", "root ::= \"a\" \"b\" | \"c\"{400}", "logit_bias", id,
                        -100, "n", 16, "temperature", 100, "seed", 1);
    struct got *g = ask_api(&a, "/v1/chat/completions", body);
    assert_int_equal(g->status, 400);
    assert_non_null(strstr(text_at(g->json, "error.message"), "the grammar allows no token"));
    got_free(g);
    assert_true(slots_reach(&a, 0));
    assert_true(metric(&a, "genarm_tokens_total ", NULL) < 400);
    assert_true(metric(&a, "genarm_canceled_total ", NULL) == 0);
    api_stop(&a);
}

/* Whether its reply has begun or not; the status of one that has is 200. */
static void test_what_came_of_an_answer_is_logged_without_what_was_said(void **state) {
    struct api a;
    struct genarm_error err;
    struct serve_log *log;
    const char *path = temp_path("failed.log");
    int32_t b;
    char id[16];
    (void)state;
    must(serve_log_new(&log, &(struct serve_log_params){.path = path}, &err), &err);
    api_start(&a, &(struct api_options){.n_slots = 1, .n_ctx = 512, .max_queue = 4, .log = log});
    assert_int_equal(genarm_tokenize(a.model, "b", 1, false, false, &b, 1), 1);
    snprintf(id, sizeof id, "%d", b);
    for (int stream = 0; stream < 2; stream++) {
        json_t *body = chat("quixotic", "{s:s, s:{s:i}, s:b}", "grammar", "root ::= \"vwxyz\" [0-9]{300} \"b\"", "logit_bias", id,
                            -100, "stream", stream);
        struct got *g = ask_api(&a, "/v1/chat/completions", body);
        assert_true(g->status == 400 || (stream && g->status == 200));
        got_free(g);
    }
    got_free(ask_api(&a, "/v1/score", json_pack("{s:s, s:s}", "prompt", "quixotic", "response", "uvwxyz")));
    api_stop(&a);
    serve_log_free(log);
    struct buf text;
    buf_init(&text, 1 << 20);
    must(file_read(&text, path, &err), &err);
    int n = 0;
    for (const char *line = text.data; (line = strstr(line, " warn ")) != NULL; n++) {
        line = strstr(line, " (error: token ");
        assert_non_null(line);
        assert_non_null(strstr(line, "the grammar allows no token that the model can give), the first after "));
    }
    assert_int_equal(n, 2);
    const char *score = strstr(text.data, " score-");
    int n_scored = 0, n_response = 0;
    assert_non_null(score);
    assert_int_equal(sscanf(strstr(score, " known), "), " known), %d of a response's %d (scored)", &n_scored, &n_response), 2);
    assert_true(n_scored > 1 && n_scored == n_response);
    assert_null(strstr(text.data, "quixotic"));
    assert_null(strstr(text.data, "wxy"));
    buf_deinit(&text);
}

/* ---- the queue ---- */

static void test_a_full_queue_says_when_to_come_back(void **state) {
    struct api a;
    struct holder h;
    struct asker waits;
    (void)state;
    api_start(&a, &(struct api_options){.n_slots = 1, .n_ctx = 512, .max_queue = 1});
    holder_start(&h, &a, NULL, 64);
    asker_start(&waits, &a, NULL, 2);
    assert_true(metric_reaches(&a, "genarm_requests_queued ", 1, NULL)); /* the holder has begun: it does not count */
    struct got *g = ask_api(&a, "/v1/chat/completions", chat("Hi", "{s:i}", "max_tokens", 2));
    assert_int_equal(g->status, 503);
    assert_string_equal(text_at(g->json, "error.type"), "unavailable_error");
    assert_in_range(atoi(g->retry_after), 1, 600);
    assert_true(metric(&a, "genarm_refused_total ", NULL) == 1);
    got_free(g);
    holder_end(&h);
    asker_end(&waits);
    assert_int_equal(waits.got->status, 200);
    got_free(waits.got);
    api_stop(&a);
}

static void test_without_a_queue_free_slots_are_given(void **state) {
    struct api a;
    struct holder h;
    (void)state;
    api_start(&a, &(struct api_options){.n_slots = 1, .n_ctx = 512, .max_queue = 0});
    struct got *g = ask_api(&a, "/v1/chat/completions", chat("Hi", "{s:i}", "max_tokens", 2));
    assert_int_equal(g->status, 200);
    got_free(g);
    holder_start(&h, &a, NULL, 1);
    g = ask_api(&a, "/v1/chat/completions", chat("Hi", "{s:i}", "max_tokens", 2));
    assert_true(g->status == 503 || atomic_load(&h.n_events) > 400);
    got_free(g);
    holder_end(&h);
    api_stop(&a);
}

static void test_who_asks_much_does_not_keep_others_waiting(void **state) {
    struct api a;
    struct holder h;
    struct asker many[6], other;
    (void)state;
    api_start(&a, &(struct api_options){.n_slots = 1, .n_ctx = 512, .max_queue = 7, .keys = {"one", "two"}, .n_keys = 2});
    struct got *g = ask_api(&a, "/v1/models", NULL);
    assert_int_equal(g->status, 401);
    got_free(g);
    holder_start(&h, &a, "one", 1 << 6);
    for (int i = 0; i < 6; i++) {
        asker_start(&many[i], &a, "one", 100);
    }
    assert_true(metric_reaches(&a, "genarm_requests_queued ", 6, "one"));
    asker_start(&other, &a, "two", 2);
    assert_true(metric_reaches(&a, "genarm_requests_queued ", 7, "one"));
    atomic_store(&n_answered, 0);
    holder_end(&h);
    asker_end(&other);
    for (int i = 0; i < 6; i++) {
        asker_end(&many[i]);
        assert_int_equal(many[i].got->status, 200);
        got_free(many[i].got);
    }
    assert_int_equal(other.got->status, 200);
    assert_in_range(other.place, 0, 1); /* one of the others may have been faster to say so */
    got_free(other.got);
    api_stop(&a);
}

static void test_who_fills_the_queue_does_not_shut_others_out(void **state) {
    struct api a;
    struct holder h;
    struct asker waits, other;
    (void)state;
    api_start(&a, &(struct api_options){.n_slots = 1, .n_ctx = 512, .max_queue = 1, .keys = {"one", "two"}, .n_keys = 2});
    holder_start(&h, &a, "one", 64);
    asker_start(&waits, &a, "one", 2);
    assert_true(metric_reaches(&a, "genarm_requests_queued ", 1, "one"));
    struct asker again;
    asker_start(&again, &a, "one", 2);
    asker_end(&again);
    assert_int_equal(again.got->status, 503);
    got_free(again.got);
    asker_start(&other, &a, "two", 2);
    asker_end(&other); /* while the holder goes on: clients take turns */
    assert_int_equal(other.got->status, 200);
    got_free(other.got);
    holder_end(&h);
    asker_end(&waits);
    got_free(waits.got);
    api_stop(&a);
}

/* Tokens that a holder had when another's first two came. */
struct race {
    struct holder *h;
    int n_seen, at[2];
};

static bool look_at_holder(json_t *event, void *user) {
    struct race *r = user;
    if (json_string_length(at(event, "content")) > 0 && r->n_seen < 2) {
        r->at[r->n_seen++] = atomic_load(&r->h->n_events);
    }
    return true;
}

/* The ARM has not seen the prompt when the schedule turns it on. */
static void test_an_arm_that_a_schedule_turns_on_does_not_hold_others_up(void **state) {
    struct api a;
    struct holder h;
    struct race race = {.h = &h};
    (void)state;
    char *text = calloc(1, 3801);
    memset(text, 'x', 3800);
    api_start(&a, &(struct api_options){.n_slots = 2, .n_ctx = 4096, .max_queue = 4, .keys = {"one", "two"}, .n_keys = 2});
    holder_start(&h, &a, "one", 64);
    json_t *body = json_pack("{s:s, s:i, s:b, s:s, s:{s:i, s:i}, s:{s:[[i, i], [i, i]]}}", "prompt", text, "n_predict", 3,
                             "stream", 1, "grammar", "root ::= [a-z]{9}", "arms", "helpful", 1, "harmless", 0, "arm_schedules",
                             "helpful", 0, 0, 1, 1);
    char *request = json_dumps(body, 0);
    struct got *g = ask_text(&a, "/completion", request, "two", look_at_holder, &race);
    assert_int_equal(g->status, 200);
    assert_int_equal(race.n_seen, 2);
    assert_true(race.at[1] - race.at[0] > 2); /* one for each piece, but not all of them end a character */
    got_free(g);
    holder_end(&h);
    json_decref(body);
    free(request);
    free(text);
    api_stop(&a);
}

/* ---- time ---- */

static void test_an_answer_ends_when_its_time_is_over(void **state) {
    struct api a;
    struct holder h;
    (void)state;
    api_start(&a, &(struct api_options){.n_slots = 1, .n_ctx = 512, .max_queue = 4, .time_limit = 0.8});
    holder_start(&h, &a, NULL, 128);
    struct got *g = ask_api(&a, "/v1/chat/completions", chat("Hi", "{s:i}", "max_tokens", 2));
    assert_true(g->status == 200 || g->status == 503);
    got_free(g);
    pthread_join(h.thread, NULL);
    /* Some of its answers had no slot in time: that is an error, within a stream that ends as streams do. */
    const json_t *last = json_array_get(h.got->events, json_array_size(h.got->events) - 1);
    assert_int_equal(number_at(last, "error.code"), 503);
    assert_true(h.got->done);
    assert_true(slots_reach(&a, 0));
    json_decref(h.body);
    got_free(h.got);
    api_stop(&a);
}

static void test_a_lone_answer_whose_time_is_over_has_a_length(void **state) {
    struct api a;
    (void)state;
    api_start(&a, &(struct api_options){.n_slots = 1, .n_ctx = 16384, .max_queue = 4, .time_limit = 1});
    const double start = clock_seconds();
    struct got *g = ask_api(&a, "/v1/chat/completions", chat("Hi", "{s:i, s:o}", "max_tokens", 16000, "logit_bias", no_end(&a)));
    assert_int_equal(g->status, 200);
    assert_string_equal(text_at(g->json, "choices.0.finish_reason"), "length");
    assert_true(number_at(g->json, "usage.completion_tokens") < 16000);
    assert_true(clock_seconds() - start < 20);
    got_free(g);
    api_stop(&a);
}

/* ---- weights of who waits, and of who is gone ---- */

static void test_weights_of_a_request_that_waits_can_be_changed(void **state) {
    struct api a;
    struct holder h;
    char path[128];
    (void)state;
    api_start(&a, &(struct api_options){.n_slots = 1, .n_ctx = 512, .max_queue = 4});
    holder_start(&h, &a, NULL, 8);
    snprintf(path, sizeof path, "/v1/requests/%s/arms", h.id);
    struct got *g = ask_api(&a, path, json_pack("{s:f}", "helpful", -0.5));
    assert_int_equal(g->status, 200);
    assert_int_equal(json_array_size(at(g->json, "n_tokens")), 8); /* the later ones have not begun */
    assert_int_equal(number_at(g->json, "n_tokens.7"), 0);
    assert_true(number_at(g->json, "arms.helpful") == -0.5 && number_at(g->json, "arms.harmless") == 0.5);
    got_free(g);
    holder_end(&h);
    assert_true(slots_reach(&a, 0));
    g = ask_api(&a, path, json_pack("{s:f}", "helpful", -0.5));
    assert_int_equal(g->status, 404);
    got_free(g);
    g = ask_api(&a, "/v1/requests/chatcmpl-0/arms", json_pack("{s:f}", "nobody", 1.0));
    assert_int_equal(g->status, 400);
    got_free(g);
    api_stop(&a);
}

/* Bytes that are in use in this process: the server's and its clients'. */
static size_t in_use(void) {
    const struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

static void test_a_request_that_waits_holds_little_memory(void **state) {
    struct api a;
    struct holder h;
    struct raw r;
    struct buf body;
    (void)state;
    api_start(&a, &(struct api_options){.n_slots = 1, .n_ctx = 512, .max_queue = 4});
    holder_start(&h, &a, NULL, 64);
    buf_init(&body, 4 << 20);
    buf_puts(&body, "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"max_tokens\": 1, \"metadata\": [0", NULL);
    for (int i = 0; i < 1000000; i++) { /* 32 bytes each as a value */
        buf_puts(&body, ",1", NULL);
    }
    buf_puts(&body, "]}", NULL);
    const size_t before = in_use();
    raw_open(&r, a.port);
    raw_send(&r, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n", body.len);
    assert_true(raw_try_send(&r, body.data, body.len));
    assert_true(metric_reaches(&a, "genarm_requests_queued ", 1, NULL));
    assert_true(in_use() < before + (20 << 20)); /* and what the holder was told meanwhile */
    raw_close(&r);
    buf_deinit(&body);
    holder_end(&h);
    api_stop(&a);
}

/* ---- the end ---- */

static void *stop_server(void *user) {
    struct api *a = user;
    a->stopped = true;
    server_stop(a->server, 0.2);
    return NULL;
}

static void *stop_with_patience(void *user) {
    struct api *a = user;
    a->stopped = true;
    server_stop(a->server, 60);
    return NULL;
}

static void test_at_the_end_streams_say_so_and_who_waits_is_refused(void **state) {
    struct api a;
    struct holder h;
    struct asker waits;
    (void)state;
    api_start(&a, &(struct api_options){.n_slots = 1, .n_ctx = 512, .max_queue = 4});
    holder_start(&h, &a, NULL, 128);
    asker_start(&waits, &a, NULL, 2);
    assert_true(metric_reaches(&a, "genarm_requests_queued ", 1, NULL));
    stop_server(&a);
    asker_end(&waits);
    assert_int_equal(waits.got->status, 503);
    pthread_join(h.thread, NULL);
    const json_t *last = json_array_get(h.got->events, json_array_size(h.got->events) - 1);
    assert_int_equal(number_at(last, "error.code"), 503);
    assert_string_equal(text_at(last, "error.type"), "unavailable_error");
    assert_true(h.got->done);
    got_free(waits.got);
    json_decref(h.body);
    got_free(h.got);
    api_stop(&a);
}

static void test_a_request_for_several_answers_that_waits_at_the_end_is_refused_at_once(void **state) {
    struct api a;
    struct holder h;
    struct asker waits;
    pthread_t stopping;
    (void)state;
    api_start(&a, &(struct api_options){.n_slots = 1, .n_ctx = 512, .max_queue = 4});
    holder_start(&h, &a, NULL, 8);
    asker_start_n(&waits, &a, NULL, 3, 400);
    assert_true(metric_reaches(&a, "genarm_requests_queued ", 1, NULL));
    assert_int_equal(pthread_create(&stopping, NULL, stop_with_patience, &a), 0);
    asker_end(&waits);
    assert_int_equal(waits.got->status, 503);
    assert_false(atomic_load(&h.ended));
    got_free(waits.got);
    holder_end(&h);
    pthread_join(stopping, NULL);
    api_stop(&a);
}

/* Its connection is not cut while it is still answered. */
static void test_what_runs_at_the_end_may_come_to_its_own(void **state) {
    struct api a;
    struct holder h;
    (void)state;
    api_start(&a, &(struct api_options){.n_slots = 1, .n_ctx = 512, .max_queue = 4});
    holder_start(&h, &a, NULL, 6);
    a.stopped = true;
    server_stop(a.server, 60);
    api_stop(&a); /* waits */
    pthread_join(h.thread, NULL);
    assert_int_equal(h.got->status, 200);
    assert_true(h.got->done);
    const json_t *last = json_array_get(h.got->events, json_array_size(h.got->events) - 1);
    assert_string_equal(text_at(last, "choices.0.finish_reason"), "length");
    assert_int_equal(number_at(last, "choices.0.index"), 5);
    json_decref(h.body);
    got_free(h.got);
}

static void test_before_a_model_is_there_requests_are_told_to_wait(void **state) {
    struct genarm_error err;
    struct api a = {0};
    const struct server_params params = {.host = "127.0.0.1",
                                         .max_body = 4096,
                                         .max_connections = 4,
                                         .timeout = 5,
                                         .metrics = true};
    (void)state;
    assert_int_equal(server_new(&a.server, &params, &err), GENARM_OK);
    a.port = server_port(a.server);
    static const char *const paths[] = {"/health", "/v1/models", "/slots", "/arms", "/props", "/metrics"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct got *g = ask_api(&a, paths[i], NULL);
        assert_int_equal(g->status, i == 2 ? 501 : 503); /* it shows no slots */
        got_free(g);
    }
    struct got *g = ask_api(&a, "/v1/chat/completions", chat("Hi", "{}"));
    assert_int_equal(g->status, 503);
    assert_string_equal(text_at(g->json, "error.message"), "Loading model");
    got_free(g);
    server_free(a.server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stream_that_is_left_frees_its_slots),
        cmocka_unit_test(test_who_leaves_within_a_long_prompt_or_score_frees_its_slot),
        cmocka_unit_test(test_who_leaves_before_the_reply_is_logged_and_counted_so),
        cmocka_unit_test(test_an_answer_that_fails_takes_the_others_of_its_request_along),
        cmocka_unit_test(test_what_came_of_an_answer_is_logged_without_what_was_said),
        cmocka_unit_test(test_a_full_queue_says_when_to_come_back),
        cmocka_unit_test(test_without_a_queue_free_slots_are_given),
        cmocka_unit_test(test_who_asks_much_does_not_keep_others_waiting),
        cmocka_unit_test(test_who_fills_the_queue_does_not_shut_others_out),
        cmocka_unit_test(test_an_arm_that_a_schedule_turns_on_does_not_hold_others_up),
        cmocka_unit_test(test_an_answer_ends_when_its_time_is_over),
        cmocka_unit_test(test_a_lone_answer_whose_time_is_over_has_a_length),
        cmocka_unit_test(test_weights_of_a_request_that_waits_can_be_changed),
        cmocka_unit_test(test_a_request_that_waits_holds_little_memory),
        cmocka_unit_test(test_at_the_end_streams_say_so_and_who_waits_is_refused),
        cmocka_unit_test(test_a_request_for_several_answers_that_waits_at_the_end_is_refused_at_once),
        cmocka_unit_test(test_what_runs_at_the_end_may_come_to_its_own),
        cmocka_unit_test(test_before_a_model_is_there_requests_are_told_to_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
