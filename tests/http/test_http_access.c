/* The HTTP layer: who may ask. Keys, hosts, origins, CORS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"
#include "serve/http_internal.h"

/* ---- keys ---- */

static const char *const two_keys[] = {"sk-first-key", "sk-second"};

static void test_keys(void **state) {
    (void)state;
    struct fixture f;
    struct http_params params = fixture_params();
    params.keys = two_keys;
    params.n_keys = 2;
    fixture_start(&f, params);
    static const char *const wrong[] = {NULL,
                                        "Authorization: Bearer sk-first-ke\r\n",
                                        "Authorization: Bearer sk-first-keyy\r\n",
                                        "Authorization: Bearer \r\n",
                                        "Authorization: Basic sk-first-key\r\n",
                                        "Authorization: sk-first-key\r\n",
                                        "X-Api-Key: \r\n",
                                        "Authorization: Bearer SK-FIRST-KEY\r\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct reply *p = ask(f.port, "POST", "/echo", wrong[i], "{}");
        assert_error(p, 401, "authentication_error");
        assert_string_equal(reply_header(p, "WWW-Authenticate"), "Bearer");
        reply_free(p);
    }
    static const struct {
        const char *header, *client;
    } right[] = {{"Authorization: Bearer sk-first-key\r\n", "key-1"},
                 {"authorization: bearer  sk-second\r\n", "key-2"},
                 {"X-API-Key: sk-second\r\n", "key-2"}};
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        struct reply *p = ask(f.port, "POST", "/echo", right[i].header, "{}");
        assert_int_equal(p->status, 200);
        assert_string_equal(reply_header(p, "X-Client"), right[i].client);
        reply_free(p);
    }
    assert_status(f.port, "GET", "/open", NULL, NULL, 200);
    struct raw r; /* a small body is read, and the connection goes on */
    raw_open(&r, f.port);
    raw_send(&r, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
                 "GET /open HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for (int i = 0; i < 2; i++) {
        struct reply *p = raw_reply(&r, false);
        assert_int_equal(p->status, i == 0 ? 401 : 200);
        reply_free(p);
    }
    raw_close(&r);
    fixture_stop(&f);
}

static void test_a_key_is_found_only_whole(void **state) {
    (void)state;
    struct http_keys k;
    struct genarm_error err;
    char longest[HTTP_KEY_MAX + 2];
    memset(longest, 'k', sizeof longest);
    longest[HTTP_KEY_MAX] = '\0';
    const char *const keys[] = {"a", longest, "ab"};
    assert_int_equal(http_keys_init(&k, keys, 3, &err), GENARM_OK);
    assert_int_equal(http_keys_find(&k, "a", 1), 0);
    assert_int_equal(http_keys_find(&k, longest, HTTP_KEY_MAX), 1);
    assert_int_equal(http_keys_find(&k, "ab", 2), 2);
    assert_int_equal(http_keys_find(&k, "ac", 2), -1);
    assert_int_equal(http_keys_find(&k, "", 0), -1);
    assert_int_equal(http_keys_find(&k, longest, HTTP_KEY_MAX - 1), -1);
    longest[HTTP_KEY_MAX] = 'k';
    assert_int_equal(http_keys_find(&k, longest, HTTP_KEY_MAX + 1), -1);
    http_keys_deinit(&k);
    assert_int_equal(http_keys_init(&k, (const char *const[]){""}, 1, &err), GENARM_EINVAL);
    assert_int_equal(http_keys_init(&k, (const char *const[]){"a b"}, 1, &err), GENARM_EINVAL);
}

/* ---- origins ---- */

static int status_with(int port, const char *method, const char *host, const char *origin) {
    struct raw r;
    raw_open(&r, port);
    raw_send(&r, "%s /echo HTTP/1.1\r\nHost: %s\r\n%s%s%s\r\n", method, host, origin ? "Origin: " : "", origin ? origin : "",
             origin ? "\r\n" : "");
    struct reply *p = raw_reply(&r, false);
    const int status = p->status;
    reply_free(p);
    raw_close(&r);
    return status;
}

static void test_pages_of_other_sites_get_nowhere(void **state) {
    struct fixture *f = *state;
    static const char *const ours[] = {"localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:80", "[::1]"};
    static const char *const others[] = {"evil.example",
                                         "localhost.evil.example",
                                         "127.0.0.1.evil.example:80",
                                         "localhost:80@evil",
                                         "[::1",
                                         "",
                                         "127.0.0.2",
                                         "[::2]",
                                         "localhost:",
                                         "localhost:x"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        assert_int_equal(status_with(f->port, "GET", ours[i], NULL), 200);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const int status = status_with(f->port, "GET", others[i], NULL);
        assert_int_equal(status, strcmp(others[i], "localhost:") == 0 ? 200 : 403); /* an empty port is one */
    }
    assert_int_equal(status_with(f->port, "POST", "localhost:80", "http://localhost:80"), 200);
    assert_int_equal(status_with(f->port, "POST", "localhost:80", "http://localhost:81"), 403);
    assert_int_equal(status_with(f->port, "POST", "localhost:80", "https://evil.example"), 403);
    assert_int_equal(status_with(f->port, "POST", "localhost:80", "null"), 403);
    assert_int_equal(status_with(f->port, "GET", "localhost:80", "https://evil.example"), 200);
    assert_int_equal(status_with(f->port, "OPTIONS", "localhost:80", "https://evil.example"), 405);
}

static void test_cors(void **state) {
    (void)state;
    struct fixture f;
    struct http_params params = fixture_params();
    params.cors = "https://app.example";
    params.keys = two_keys;
    params.n_keys = 2;
    fixture_start(&f, params);
    struct reply *p = ask(f.port, "OPTIONS", "/echo",
                          "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n"
                          "Access-Control-Request-Headers: authorization, content-type\r\n",
                          NULL);
    assert_int_equal(p->status, 204);
    assert_string_equal(reply_header(p, "Access-Control-Allow-Origin"), "https://app.example");
    assert_string_equal(reply_header(p, "Access-Control-Allow-Methods"), "POST, GET, HEAD, OPTIONS");
    assert_string_equal(reply_header(p, "Access-Control-Allow-Headers"), "authorization, content-type");
    assert_int_equal(atoi(reply_header(p, "Access-Control-Max-Age")), 86400);
    reply_free(p);
    p = ask(f.port, "POST", "/echo", "Origin: https://app.example\r\nX-Api-Key: sk-second\r\n", "x");
    assert_int_equal(p->status, 200);
    assert_string_equal(reply_header(p, "Access-Control-Allow-Origin"), "https://app.example");
    assert_non_null(strstr(reply_header(p, "Access-Control-Expose-Headers"), "X-Request-Id"));
    assert_string_equal(reply_header(p, "Vary"), "Origin");
    reply_free(p);
    p = ask(f.port, "POST", "/echo", "Origin: https://app.example\r\n", "x"); /* the page has to be able to read why */
    assert_int_equal(p->status, 401);
    assert_string_equal(reply_header(p, "Access-Control-Allow-Origin"), "https://app.example");
    reply_free(p);
    assert_refused(f.port, "POST", "/echo", "Origin: https://evil.example\r\nX-Api-Key: sk-second\r\n", "x", 403,
                   "permission_error");
    assert_refused(f.port, "OPTIONS", "/absent", "Origin: https://app.example\r\n", NULL, 404, "not_found_error");
    /* A proxy may be before it, under the name of the origin. */
    assert_int_equal(status_with(f.port, "OPTIONS", "app.example", NULL), 204);
    assert_int_equal(status_with(f.port, "OPTIONS", "App.example:8443", NULL), 204);
    assert_int_equal(status_with(f.port, "OPTIONS", "localhost:80", NULL), 204);
    static const char *const others[] = {"any.example",   "app.example.evil.example", "app.exampl",
                                         "app.example:x", "app.example:1@x",          ""};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_int_equal(status_with(f.port, "OPTIONS", others[i], NULL), 403);
    }
    fixture_stop(&f);
    params.cors = "*";
    fixture_start(&f, params);
    assert_int_equal(status_with(f.port, "OPTIONS", "any.example", NULL), 204);
    fixture_stop(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_a_key_is_found_only_whole),
        cmocka_unit_test_setup_teardown(test_pages_of_other_sites_get_nowhere, fixture_setup, fixture_teardown),
        cmocka_unit_test(test_cors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
