/* The HTTP layer: what reaches a handler, what is malformed, what a reply carries. */
#include <curl/curl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "fixture.h"
#include "support/temp.h"

/* ---- requests ---- */

static size_t collect(char *bytes, size_t size, size_t n, void *user) {
    return buf_append(user, bytes, size * n, NULL) == GENARM_OK ? size * n : 0;
}

static void test_a_body_comes_back_and_the_connection_is_kept(void **state) {
    struct fixture *f = *state;
    char url[64], *sent = malloc(60000);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/echo", f->port);
    for (int i = 0; i < 60000; i++) {
        sent[i] = (char)(i * 31);
    }
    struct buf got;
    buf_init(&got, 1 << 20);
    CURL *curl = curl_easy_init();
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, sent);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &got);
    for (int i = 0; i < 3; i++) {
        long connects = -1, status = 0;
        buf_clear(&got);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)(i == 1 ? 0 : 60000));
        assert_int_equal(curl_easy_perform(curl), CURLE_OK);
        curl_easy_getinfo(curl, CURLINFO_NUM_CONNECTS, &connects);
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        assert_int_equal(connects, i == 0);
        assert_int_equal(status, 200);
        assert_int_equal(got.len, i == 1 ? 0 : 60000);
        assert_memory_equal(got.data ? got.data : "", sent, got.len);
    }
    curl_easy_cleanup(curl);
    buf_deinit(&got);
    free(sent);
}

static void test_a_chunked_body_arrives(void **state) {
    struct fixture *f = *state;
    struct raw r;
    raw_open(&r, f->port);
    raw_send(&r, "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    raw_send(&r, "7;x=y\r\n, world\r\n0\r\n\r\n");
    struct reply *p = raw_reply(&r, false);
    assert_int_equal(p->status, 200);
    assert_string_equal(p->body.data, "hello, world");
    reply_free(p);
    raw_close(&r);
}

static void test_a_compressed_body_is_refused(void **state) {
    const struct fixture *f = *state;
    assert_refused(f->port, "POST", "/echo", "Content-Encoding: gzip\r\n", "\x1f\x8b", 415, "invalid_request_error");
    assert_status(f->port, "POST", "/echo", "Content-Encoding: identity\r\n", "plain", 200);
}

static void test_requests_in_a_row_are_answered_in_order(void **state) {
    struct fixture *f = *state;
    struct raw r;
    raw_open(&r, f->port);
    for (int i = 0; i < 20; i++) {
        raw_send(&r, "POST /v1/requests/n%d/arms HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n%02d", i, i);
    }
    for (int i = 0; i < 20; i++) {
        char body[16], param[16];
        snprintf(body, sizeof body, "%02d", i);
        snprintf(param, sizeof param, "n%d", i);
        struct reply *p = raw_reply(&r, false);
        assert_int_equal(p->status, 200);
        assert_string_equal(p->body.data, body);
        assert_string_equal(reply_header(p, "X-Param"), param);
        reply_free(p);
    }
    raw_close(&r);
}

static void test_a_head_is_a_get_without_its_body(void **state) {
    struct fixture *f = *state;
    struct raw r;
    raw_open(&r, f->port);
    static const char *const paths[] = {"/hello", "/static", "/absent"};
    for (int i = 0; i < 3; i++) {
        raw_send(&r, "HEAD %s HTTP/1.1\r\nHost: localhost\r\n\r\n", paths[i]);
        struct reply *p = raw_reply(&r, true);
        assert_int_equal(p->status, i == 2 ? 404 : 200);
        assert_true(i == 2 || atoi(reply_header(p, "Content-Length")) == (i == 0 ? 5 : 3));
        reply_free(p);
    }
    raw_send(&r, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"); /* nothing of a body came in between */
    struct reply *p = raw_reply(&r, false);
    assert_string_equal(p->body.data, "hello");
    reply_free(p);
    raw_send(&r, "HEAD /short HTTP/1.1\r\nHost: localhost\r\n\r\n");
    p = raw_reply(&r, true);
    assert_int_equal(p->status, 200);
    assert_false(raw_more(&r, 10000));
    assert_int_equal(r.in.len, 0);
    assert_int_equal(atomic_load(&f->world.calls), 0); /* no piece was made */
    assert_true(reaches(&f->world.streams_done, 1));
    reply_free(p);
    raw_close(&r);
}

static void test_paths_and_methods_that_no_route_has(void **state) {
    struct fixture *f = *state;
    static const char *const absent[] = {
        "/",         "/nothing",      "/hello/",       "/hello/x",  "//hello", "/./hello", "/x/../hello",
        "/hello%00", "/hello%00.css", "/%2e%2e/hello", "/v1/..",    "/v1/",    "/v1/a/b",  "/v1/%2e%2e",
        "/v1/a%2fb", "/v1/%ff",       "/v1/a%0ab",     "/v1/a%5cb", "/HELLO",  "/v1/a%00",
    };
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        assert_refused(f->port, "GET", absent[i], NULL, NULL, 404, "not_found_error");
    }
    static const struct {
        const char *method, *path, *allow;
    } others[] = {{"POST", "/hello", "GET, HEAD"},         {"GET", "/only-post", "POST"},
                  {"HEAD", "/only-post", "POST"},          {"DELETE", "/echo", "POST, GET, HEAD"},
                  {"OPTIONS", "/echo", "POST, GET, HEAD"}, {"BREW", "/hello", "GET, HEAD"},
                  {"get", "/hello", "GET, HEAD"},          {"TRACE", "/hello", "GET, HEAD"},
                  {"GET", "/v1/posted", "POST"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct reply *p = ask(f->port, others[i].method, others[i].path, NULL, NULL);
        assert_int_equal(p->status, 405);
        assert_string_equal(reply_header(p, "Allow"), others[i].allow);
        reply_free(p);
    }
    assert_int_equal(atomic_load(&f->world.calls), 0);
}

static void test_exact_paths_come_before_those_with_a_star(void **state) {
    struct fixture *f = *state;
    struct reply *p = ask(f->port, "GET", "/v1/exact", NULL, NULL), *q = ask(f->port, "GET", "/v1/%65x%C3%A4ct", NULL, NULL);
    assert_string_equal(p->body.data, "hello");
    assert_int_equal(q->status, 200);
    assert_string_equal(reply_header(q, "X-Param"), "ex\xC3\xA4"
                                                    "ct");
    reply_free(p);
    reply_free(q);
}

static void test_two_stars_are_all_that_is_left(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *path, *param;
        int status;
    } cases[] = {{"/deep/one", "one", 200},           {"/deep/one/two/three", "one/two/three", 200},
                 {"/deep/one%2Ftwo", "one/two", 200}, {"/deep", NULL, 404},
                 {"/deep/one/../two", NULL, 404},     {"/v1/one/two", NULL, 404}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct reply *p = ask(f->port, "GET", cases[i].path, NULL, NULL);
        assert_int_equal(p->status, cases[i].status);
        if (cases[i].param) {
            assert_string_equal(reply_header(p, "X-Param"), cases[i].param);
        }
        reply_free(p);
    }
}

static void test_targets_are_well_formed(void **state) {
    struct fixture *f = *state;
    static const char *const fine[] = {"/hello?q=1", "/hello?", "/hello?%26=b+c%2B", "/hello?&&=&q=/../?"};
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        assert_status(f->port, "GET", fine[i], NULL, NULL, 200);
    }
    static const char *const malformed[] = {"/%",        "/%4",       "/%zz",
                                            "/hello%",   "/echo?q=%", "/echo?q=%1g",
                                            "/echo?%=1", "/%u0041",   "hello",
                                            "*",         "http://",   "http://localhost",
                                            "/hello#x",  "/h\x80llo", "ftp://localhost/hello"};
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        assert_refused(f->port, "GET", malformed[i], NULL, NULL, 400, "invalid_request_error");
    }
    assert_status(f->port, "GET", "http://localhost/hello?x", NULL, NULL, 200);
    assert_refused(f->port, "GET", "http://evil.example/hello", NULL, NULL, 403, "permission_error");
}

static void test_malformed_requests_are_refused_and_closed(void **state) {
    struct fixture *f = *state;
    static const char *const heads[] = {
        "GET /hello HTTP/1.1\r\n\r\n",                                       /* no Host */
        "GET /hello HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", /* two */
        "GET /hello HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: localhost\r\nA b: c\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: localhost\r\nA: \x01\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\nxx",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1x\r\n\r\nab",
        "GET /he llo HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /hello HTTP/0.3\r\nHost: localhost\r\n\r\n",
        "GET /hello FTP/1.1\r\nHost: localhost\r\n\r\n",
        "rubbish\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        struct raw r;
        raw_open(&r, f->port);
        raw_send(&r, "%s", heads[i]);
        struct reply *p = raw_reply(&r, false);
        if (p->status != 0 && p->status != 400 && p->status != 505) { /* 0: closed without a word, which is as good */
            fail_msg("%s: %d", heads[i], p->status);
        }
        reply_free(p);
        raw_close(&r);
    }
    assert_int_equal(atomic_load(&f->world.calls), 0);
    assert_status(f->port, "GET", "/hello", NULL, NULL, 200);
}

/* ---- replies ---- */

static void test_ids_of_requests(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *header;
        bool kept;
    } cases[] = {{"X-Request-Id: My.id_1-2\r\n", true},
                 {"x-request-id: 0123456789012345678901234567890123456789012345678901234567890123\r\n", true},
                 {"X-Request-Id: 01234567890123456789012345678901234567890123456789012345678901234\r\n", false},
                 {"X-Request-Id: a b\r\n", false},
                 {"X-Request-Id: \r\n", false},
                 {"X-Request-Id: \xC3\xA4\r\n", false},
                 {"", false}};
    char last[65] = "";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct reply *p = ask(f->port, "GET", "/hello", cases[i].header, NULL);
        const char *id = reply_header(p, "X-Request-Id");
        assert_int_equal(p->status, 200);
        if (cases[i].kept) {
            assert_memory_equal(id, cases[i].header + 14, strlen(cases[i].header) - 16);
        } else {
            assert_int_equal(strlen(id), 32);
            assert_int_equal(strspn(id, "0123456789abcdef"), 32);
            assert_string_not_equal(id, last);
            snprintf(last, sizeof last, "%s", id);
        }
        reply_free(p);
    }
}

static void test_headers_of_replies(void **state) {
    struct fixture *f = *state;
    struct reply *p = ask(f->port, "GET", "/hello", NULL, NULL), *q = ask(f->port, "GET", "/static", NULL, NULL);
    assert_string_equal(reply_header(p, "Content-Type"), "text/plain");
    assert_string_equal(reply_header(p, "Cache-Control"), "no-store");
    assert_string_equal(reply_header(p, "X-Content-Type-Options"), "nosniff");
    assert_null(reply_header(p, "Access-Control-Allow-Origin"));
    assert_string_equal(reply_header(q, "Content-Type"), "text/css");
    assert_string_equal(reply_header(q, "Cache-Control"), "max-age=60");
    assert_string_equal(q->body.data, "p{}");
    reply_free(p);
    reply_free(q);
    p = ask(f->port, "GET", "/echo", NULL, NULL);
    assert_null(reply_header(p, "X-Split"));
    assert_null(reply_header(p, "X-Evil"));
    reply_free(p);
}

static void test_every_request_gets_one_answer(void **state) {
    struct fixture *f = *state;
    assert_refused(f->port, "GET", "/silent", NULL, NULL, 500, "server_error");
    struct reply *p = ask(f->port, "GET", "/twice", NULL, NULL);
    assert_int_equal(p->status, 200);
    assert_string_equal(p->body.data, "first");
    reply_free(p);
    p = ask(f->port, "GET", "/failing", NULL, NULL);
    assert_error(p, 503, "unavailable_error");
    assert_non_null(strstr(p->body.data, "the queue is \\\"full\\\"\\n"));
    assert_non_null(strstr(p->body.data, "\"param\":\"model\""));
    assert_string_equal(reply_header(p, "Retry-After"), "1");
    reply_free(p);
    assert_true(reaches(&f->world.observed, 3));
}

static void test_pieces_of_a_stream_leave_at_once(void **state) {
    struct fixture *f = *state;
    struct raw r;
    int64_t quickest = INT64_MAX;
    raw_open(&r, f->port);
    raw_send(&r, "GET /gated HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for (int i = 1; i <= 20; i++) { /* the next is made only once this one has arrived */
        const int64_t began = now_ms();
        sem_post(&f->world.go);
        for (int n = 0; n < i;) {
            n = 0;
            for (const char *p = r.in.data; p && (p = strstr(p, "data: piece\n\n")); p++) {
                n++;
            }
            assert_true(n >= i || raw_more(&r, 10000));
        }
        const int64_t took = now_ms() - began;
        quickest = took < quickest ? took : quickest;
    }
    assert_true(quickest < 30); /* what waits for more to come waits 40 ms */
    raw_close(&r);
    assert_true(reaches(&f->world.streams_done, 1));
}

static void test_ends_of_streams(void **state) {
    struct fixture *f = *state;
    struct reply *p = ask(f->port, "GET", "/short", NULL, NULL);
    assert_true(p->whole);
    assert_string_equal(reply_header(p, "Transfer-Encoding"), "chunked");
    assert_string_equal(p->body.data, "piece 0\npiece 1\npiece 2\n");
    reply_free(p);
    p = ask(f->port, "GET", "/short", "X-Cut: yes\r\n", NULL);
    assert_int_equal(p->status, 200);
    assert_false(p->whole);
    reply_free(p);
    struct raw r;
    raw_open(&r, f->port);
    raw_send(&r, "GET /short HTTP/1.0\r\n\r\n"); /* of old, without chunks: the end of the connection is the end */
    p = raw_reply(&r, false);
    assert_null(reply_header(p, "Transfer-Encoding"));
    assert_string_equal(p->body.data, "piece 0\npiece 1\npiece 2\n");
    reply_free(p);
    raw_close(&r);
    assert_true(reaches(&f->world.streams_done, 3));
    usleep(20000);
    assert_int_equal(atomic_load(&f->world.streams_done), 3);
}

/* ---- the server ---- */

static void test_what_cannot_be_listened_on_is_said(void **state) {
    struct fixture *f = *state;
    struct http_server *s = NULL;
    struct genarm_error err;
    struct http_params params = fixture_params();
    params.port = f->port;
    assert_int_equal(http_server_new(&s, &params, &err), GENARM_EIO);
    assert_non_null(strstr(err.what, "in use"));
    assert_non_null(strstr(err.where, "127.0.0.1:"));
    params.port = 0;
    params.host = "nowhere.invalid";
    assert_int_equal(http_server_new(&s, &params, &err), GENARM_EIO);
    assert_string_equal(err.where, "nowhere.invalid");
    params.host = "127.0.0.1";
    params.port = 65536;
    assert_int_equal(http_server_new(&s, &params, &err), GENARM_EINVAL);
    params.port = 0;
    params.timeout = 0;
    assert_int_equal(http_server_new(&s, &params, &err), GENARM_EINVAL);
    assert_null(s);
}

static void test_ipv6(void **state) {
    (void)state;
    struct http_server *s = NULL;
    struct genarm_error err;
    struct world world = {0};
    struct http_params params = fixture_params();
    params.host = "[::1]";
    params.user = &world;
    if (http_server_new(&s, &params, &err) != GENARM_OK) {
        skip(); /* a machine without it */
    }
    char url[64];
    snprintf(url, sizeof url, "http://[::1]:%d/echo", http_server_port(s));
    struct buf got;
    buf_init(&got, 1 << 20);
    CURL *curl = curl_easy_init();
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "six");
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &got);
    assert_int_equal(curl_easy_perform(curl), CURLE_OK);
    assert_string_equal(got.data, "six");
    curl_easy_cleanup(curl);
    buf_deinit(&got);
    http_server_free(s);
}

static void test_requests_are_logged_without_their_secrets(void **state) {
    (void)state;
    struct fixture f;
    struct serve_log *log = NULL;
    struct genarm_error err;
    struct http_params params = fixture_params();
    const char *path = temp_path("access.log");
    assert_int_equal(serve_log_new(&log, &(struct serve_log_params){.path = path}, &err), GENARM_OK);
    params.log = log;
    fixture_start(&f, params);
    reply_free(ask(f.port, "GET", "/hello?key=sk-secret", "X-Request-Id: mine\r\nAuthorization: Bearer sk-secret\r\n", NULL));
    reply_free(ask(f.port, "POST", "/v1/%0a%22x?sk-secret", NULL, "x"));
    reply_free(ask(f.port, "GET", "/%zz?sk-secret", NULL, NULL));
    reply_free(ask(f.port, "GET", "/short", NULL, NULL));
    assert_true(reaches(&f.world.observed, 4));
    fixture_stop(&f);
    serve_log_free(log);
    struct buf text;
    buf_init(&text, 1 << 20);
    assert_int_equal(file_read(&text, path, &err), GENARM_OK);
    assert_null(strstr(text.data, "sk-secret"));
    assert_non_null(strstr(text.data, " mine 127.0.0.1 \"GET /hello\" 200 "));
    assert_non_null(strstr(text.data, "\"POST /v1/\\x0a\\\"x\" 404 "));
    assert_non_null(strstr(text.data, "\"GET /%zz\" 400 "));
    assert_non_null(strstr(text.data, "s 24\n")); /* bytes of the stream */
    buf_deinit(&text);
}

int main(void) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
#define SERVED(t) cmocka_unit_test_setup_teardown(t, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        SERVED(test_a_body_comes_back_and_the_connection_is_kept),
        SERVED(test_a_chunked_body_arrives),
        SERVED(test_requests_in_a_row_are_answered_in_order),
        SERVED(test_a_compressed_body_is_refused),
        SERVED(test_a_head_is_a_get_without_its_body),
        SERVED(test_paths_and_methods_that_no_route_has),
        SERVED(test_exact_paths_come_before_those_with_a_star),
        SERVED(test_two_stars_are_all_that_is_left),
        SERVED(test_targets_are_well_formed),
        SERVED(test_malformed_requests_are_refused_and_closed),
        SERVED(test_ids_of_requests),
        SERVED(test_headers_of_replies),
        SERVED(test_every_request_gets_one_answer),
        SERVED(test_pieces_of_a_stream_leave_at_once),
        SERVED(test_ends_of_streams),
        SERVED(test_what_cannot_be_listened_on_is_said),
        cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_requests_are_logged_without_their_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
