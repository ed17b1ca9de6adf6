/* The worker: one thread that owns the guide and runs the jobs of all connections.
 *
 * Continuous batching: each round evaluates a piece of one waiting prompt, then makes one step of all answers that run, in one
 * batch. A choice that waits gets the next free slot; among clients the one with the fewest choices in slots goes first, then
 * the one that got a slot the longest ago, then the one that asked first.
 */
#ifndef SERVE_WORKER_H
#define SERVE_WORKER_H

#include "serve/job.h"
#include "serve/counters.h"

struct worker;

struct worker_params {
    const struct serve_model *model;
    int32_t max_queue; /* jobs that wait for a slot, at most */
    struct counters *counters;
};

/* Starts the thread; the guide is then its own, until worker_free. */
int worker_new(struct worker **out, const struct worker_params *params, struct genarm_error *err);
/* Accepts nothing more. Jobs that wait end with an error; those that have begun may go on for so many seconds, then end so too.
 */
void worker_stop(struct worker *w, double grace);
void worker_join(struct worker *w); /* waits until it has stopped, see worker_stop: jobs then have ended */
void worker_free(struct worker *w); /* joins it; NULL is fine */

/* Queues a job. False when the queue is full or the worker is stopping; *retry_after becomes seconds. A client of whom nothing
 * waits yet finds room in a queue that others have filled, up to once more as many. */
bool worker_submit(struct worker *w, struct job *job, int32_t *retry_after);

/* Lets go of the caller's reference. A job that still runs is canceled. */
void worker_release(struct worker *w, struct job *job);

/* What was read of a choice so far, and what is new of it: copied out under the lock. */
struct reader {
    size_t n_text, n_facts, n_tokens;
    bool told_end;
};

/* Whether a choice has got a slot or ended: from then on there is a reply to begin. Waits up to `seconds`. */
bool worker_wait_begun(struct worker *w, struct job *job, double seconds);
/* Whether all choices have ended. Waits up to `seconds`. */
bool worker_wait_done(struct worker *w, struct job *job, double seconds);
/* Waits up to `seconds` until a choice has something that its reader [n_choices] has not read. Its index, or -1. */
int32_t worker_wait_news(struct worker *w, struct job *job, const struct reader *readers, double seconds);

/* Under the lock a job can be read. */
void worker_lock(struct worker *w);
void worker_unlock(struct worker *w);

/* New weights [n_arms] of a job that runs or waits, NaN: as it is; in force when it returns. `n_tokens` [max]: how many tokens
 * each choice had by then; *n: how many choices. `weights` becomes what is in force. False: there is no such job. */
bool worker_set_weights(struct worker *w, const char *id, float *weights, size_t *n_tokens, size_t max, size_t *n);

/* What a slot does, for /slots. */
struct slot_facts {
    bool busy;
    char id[JOB_ID_LENGTH];
    int32_t n_prompt;
    size_t n_decoded;
};
/* Jobs that run, jobs that wait, and slots in use. */
void worker_load(struct worker *w, int32_t *n_running, int32_t *n_queued, int32_t *n_busy);

void worker_slots(struct worker *w, struct slot_facts *slots /* [n_slots] */, float *weights /* [n_slots, n_arms] */);

#endif
