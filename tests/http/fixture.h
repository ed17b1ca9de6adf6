/* A server for the tests of the HTTP layer, and a client that says exactly what it is told, byte for byte. */
#ifndef HTTP_FIXTURE_H
#define HTTP_FIXTURE_H

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "serve/http.h"

/* ---- the server ---- */

enum { BIG = 8 << 20 }; /* bytes of /big: more than the systems at both ends of a connection hold */

/* What its handlers saw and what they wait for. */
struct world {
    sem_t go;                       /* /gated streams one piece for each */
    atomic_int running, gone;       /* /block and /quiet: within, and how often they noticed that the client left */
    atomic_int streams_done, calls; /* ended streams; handlers that ran */
    atomic_int observed, last_status;
};

struct fixture {
    struct world world;
    struct http_server *server;
    int port;
};

struct http_params fixture_params(void); /* 127.0.0.1, any port, 64 KiB of body, no keys, a timeout of 20 s */
void fixture_start(struct fixture *f, struct http_params params);
void fixture_stop(struct fixture *f);
int fixture_setup(void **state); /* the same for cmocka: *state is a server with these parameters */
int fixture_teardown(void **state);

/* Waits some seconds for a counter to reach a value. */
bool reaches(atomic_int *counter, int value);

/* ---- the client ---- */

struct raw {
    int fd;
    struct buf in; /* received, not yet taken */
};

struct reply {
    int status; /* 0: none came */
    char *head; /* lines between the status line and the empty line */
    struct buf body;
    bool whole; /* false: the connection ended within the body */
};

void raw_open(struct raw *r, int port);
void raw_close(struct raw *r);
void raw_send(struct raw *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool raw_try_send(struct raw *r, const void *bytes, size_t n); /* false: the other side has gone */
struct reply *raw_reply(struct raw *r, bool to_head);          /* the next reply; to_head: of a request for a head only */
bool raw_more(struct raw *r, int ms);                          /* receives something; false: the end, or nothing in that time */
bool raw_ended(struct raw *r, int ms);                         /* the server closes the connection within that time */
const char *reply_header(const struct reply *p, const char *name); /* NULL: none; one of four buffers of the thread */
void reply_free(struct reply *p);

/* One request on a connection of its own. `headers`: whole lines, or NULL. */
struct reply *ask(int port, const char *method, const char *path, const char *headers, const char *body);

/* Fail the test that calls them. An error has the form that clients of llama-server know. */
void assert_error(struct reply *p, int status, const char *type);
void assert_refused(int port, const char *method, const char *path, const char *headers, const char *body, int status,
                    const char *type);
void assert_status(int port, const char *method, const char *path, const char *headers, const char *body, int status);

int64_t now_ms(void);

#endif
