/* An RPC server is asked before ggml talks to it: what would abort the process there is an error here, in bounded time. */
#include <arpa/inet.h>
#include <ggml-rpc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/progress.h"
#include "model/rpc.h"
#include "support/golden.h"

enum { TIMEOUT_MS = 300, N_ANSWER = 36 };

/* ---- addresses ---- */

static void test_addresses_are_taken_apart(void **state) {
    (void)state;
    char host[256], port[8];
    struct genarm_error err = {0};
    must(rpc_parse_endpoint(host, port, "localhost:00080", &err), &err);
    assert_string_equal(host, "localhost");
    assert_string_equal(port, "80");
    must(rpc_parse_endpoint(host, port, "10.0.0.1:65535", &err), &err);
    static const char *const bad[] = {"",       "host",     "host:",    ":50052",     "host:0",    "host:65536", "host:x",
                                      "h:12x",  "h:-1",     "h: 1",     "::1:50052",  "h:1:2",     "h:999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(rpc_parse_endpoint(host, port, bad[i], &err), GENARM_EINVAL);
        assert_non_null(strstr(err.hint, "HOST:PORT"));
    }
    char longest[400];
    memset(longest, 'a', sizeof longest);
    snprintf(longest + 300, 100, ":1");
    assert_int_equal(rpc_parse_endpoint(host, port, longest, &err), GENARM_EINVAL);
}

/* ---- servers that are none, or others ---- */

/* Listens, and gives each of `n_clients` the same answer, then closes; without an answer it does nothing at all. */
struct listener {
    int fd, n_clients;
    char endpoint[32];
    uint8_t answer[N_ANSWER];
    size_t n_answer;
    pthread_t thread;
};

static void *answer_clients(void *user) {
    struct listener *l = user;
    for (int i = 0; i < l->n_clients; i++) {
        const int client = accept(l->fd, NULL, NULL);
        char request[33];
        assert_true(client >= 0);
        for (size_t got = 0; got < sizeof request;) {
            const ssize_t n = recv(client, request + got, sizeof request - got, 0);
            assert_true(n > 0);
            got += (size_t)n;
        }
        assert_int_equal(request[0], 14); /* the greeting, and the length of what follows */
        assert_int_equal(request[1], 24);
        assert_true(send(client, l->answer, l->n_answer, MSG_NOSIGNAL) == (ssize_t)l->n_answer);
        close(client);
    }
    return NULL;
}

static void listen_with(struct listener *l, const void *answer, size_t n_answer, bool serve) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    *l = (struct listener){.n_clients = serve, .n_answer = n_answer};
    if (n_answer) {
        memcpy(l->answer, answer, n_answer);
    }
    l->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(l->fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(l->fd, 4), 0);
    assert_int_equal(getsockname(l->fd, (struct sockaddr *)&address, &size), 0);
    snprintf(l->endpoint, sizeof l->endpoint, "127.0.0.1:%d", ntohs(address.sin_port));
    if (serve) {
        assert_int_equal(pthread_create(&l->thread, NULL, answer_clients, l), 0);
    }
}

static void listener_close(struct listener *l) {
    if (l->n_clients) {
        pthread_join(l->thread, NULL);
    }
    close(l->fd);
}

/* What the check says of a server with this answer. */
static int ask(const void *answer, size_t n, struct genarm_error *err) {
    struct listener l;
    listen_with(&l, answer, n, true);
    const int rc = rpc_check_server(l.endpoint, 10 * TIMEOUT_MS, err);
    listener_close(&l);
    return rc;
}

static void test_a_port_where_nothing_listens_is_an_error(void **state) {
    (void)state;
    struct listener l;
    struct genarm_error err = {0};
    listen_with(&l, NULL, 0, false);
    listener_close(&l);
    assert_int_equal(rpc_check_server(l.endpoint, TIMEOUT_MS, &err), GENARM_EIO);
    assert_string_equal(err.where, l.endpoint);
    assert_non_null(strstr(err.what, "cannot be reached"));
    assert_non_null(strstr(err.hint, "rpc-server"));
}

static void test_a_server_that_does_not_answer_is_an_error_in_time(void **state) {
    (void)state;
    struct listener l;
    struct genarm_error err = {0};
    listen_with(&l, NULL, 0, false);
    const double before = clock_seconds();
    assert_int_equal(rpc_check_server(l.endpoint, TIMEOUT_MS, &err), GENARM_EIO);
    assert_true(clock_seconds() - before < 20 * TIMEOUT_MS * 1e-3);
    assert_non_null(strstr(err.what, "does not answer within 0.3 s"));
    assert_non_null(strstr(err.hint, "one program at a time"));
    listener_close(&l);
}

static void test_what_is_no_rpc_server_is_an_error(void **state) {
    (void)state;
    struct genarm_error err = {0};
    static const char *const answers[] = {"", "HTTP/1.1 400 Bad Request\r\n\r\n", "short"};
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        assert_int_equal(ask(answers[i], strlen(answers[i]), &err), GENARM_EIO);
        assert_non_null(strstr(err.what, "is no RPC server"));
        assert_non_null(strstr(err.hint, "port"));
    }
}

static void test_another_version_of_the_protocol_is_an_error(void **state) {
    (void)state;
    struct genarm_error err = {0};
    uint8_t answer[N_ANSWER] = {28, 0, 0, 0, 0, 0, 0, 0, RPC_PROTO_MAJOR_VERSION, RPC_PROTO_MINOR_VERSION, 9};
    must(ask(answer, sizeof answer, &err), &err);
    answer[8]--;
    assert_int_equal(ask(answer, sizeof answer, &err), GENARM_EMISMATCH);
    assert_non_null(strstr(err.what, "version"));
    answer[8]++;
    answer[9]++;
    assert_int_equal(ask(answer, sizeof answer, &err), GENARM_EMISMATCH);
    /* An older server answers less, but its version comes first. */
    answer[0] = 3;
    assert_int_equal(ask(answer, 11, &err), GENARM_EMISMATCH);
}

static void test_a_host_that_is_not_known_is_an_error(void **state) {
    (void)state;
    struct genarm_error err = {0};
    assert_int_equal(rpc_check_server("no such host:50052", TIMEOUT_MS, &err), GENARM_EIO);
    assert_non_null(strstr(err.what, "not known"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses_are_taken_apart),
        cmocka_unit_test(test_a_port_where_nothing_listens_is_an_error),
        cmocka_unit_test(test_a_server_that_does_not_answer_is_an_error_in_time),
        cmocka_unit_test(test_what_is_no_rpc_server_is_an_error),
        cmocka_unit_test(test_another_version_of_the_protocol_is_an_error),
        cmocka_unit_test(test_a_host_that_is_not_known_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
