/* Clients of a server that speaks OpenAI's chat API: several streams at once, and small requests beside them. */
#ifndef BENCH_CHAT_LOAD_H
#define BENCH_CHAT_LOAD_H

#include <stddef.h>
#include <stdint.h>

/* One chat request with "stream" and "include_usage" in its body, and what came of it. */
struct chat_request {
    char *body;             /* JSON, owned by the caller */
    double first;           /* seconds from sending it to its first text; -1: none came */
    int64_t n_prompt, n_answer; /* tokens, as the server counts them; -1: it did not say */
    char problem[256];      /* "" when it was answered */
};

/* Sends all of them to `url`/v1/chat/completions, n_streams at once: when one is done the next is sent. Returns the seconds
 * from the first one sent to the last one done. */
double chat_load_run(const char *url, struct chat_request *requests, size_t n_requests, size_t n_streams);

/* The body of GET url+path (malloc'ed, NUL-terminated); NULL when the server cannot be reached. */
char *chat_load_get(const char *url, const char *path, long *status);

/* Someone who asks for small things again and again while a server is busy, over a new connection each time. */
struct prober;
struct prober *prober_start(const char *url, const char *const *paths, size_t n_paths); /* strings are borrowed */

/* Ends it. seconds[i] (malloc'ed) gets the times of path i, n[i] how many there are, n_failed[i] how many answers were
 * not 200. */
void prober_stop(struct prober *p, double **seconds, size_t *n, size_t *n_failed);

#endif
