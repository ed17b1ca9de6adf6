/* A pool of threads that compute together and meet often.
 *
 * Waiting threads spin for a while, because a decoding step meets over a hundred times and a step follows another; then they
 * sleep, so that an idle pool costs nothing and a pool on busy cores does not keep the thread it waits for from running.
 * One run at a time; the caller's thread is one of the pool.
 */
#ifndef BASE_THREADS_H
#define BASE_THREADS_H

#include <stdint.h>

#include "base/error.h"

enum { THREADS_MAX = 512 };

struct threads;

/* n in [1, THREADS_MAX], the caller's included. */
int threads_new(struct threads **out, int32_t n, struct genarm_error *err);
void threads_free(struct threads *t); /* NULL is fine */

/* Calls work(ith, user) once on each of the n threads and returns when all are done. */
void threads_run(struct threads *t, void (*work)(int ith, void *user), void *user);

/* Called by all threads of a run, from within it: none returns before all have called. What they wrote before is seen after. */
void threads_meet(struct threads *t);

#endif
