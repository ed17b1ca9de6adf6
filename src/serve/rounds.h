/* The inside of the worker: its state, and the rounds that its thread makes. */
#ifndef SERVE_ROUNDS_H
#define SERVE_ROUNDS_H

#include "serve/worker.h"

struct worker {
    struct worker_params p;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool ready, started; /* lock and wake are made; the thread runs */
    /* Under the lock: */
    struct choice *queue, **queue_end; /* choices without a slot, in the order in which they came */
    struct choice **slots;             /* [n_slots] NULL: free */
    int32_t n_active, n_jobs_queued;   /* slots in use; jobs none of whose choices has had one */
    bool stopping;
    double stop_at;      /* what runs then is ended */
    double seconds_each; /* that a choice took lately */
    /* The thread's own: */
    struct genarm_session **sessions; /* [n_slots] scratch of a step, with */
    struct choice **stepped;
    int32_t *tokens;
    struct genarm_error *errors;
    int32_t turn;           /* slot whose prompt was last worked on */
    double rows_per_second; /* of prompts, lately; 0: not known */
};

bool rounds_reserve(struct worker *w); /* false: no memory */
void rounds_release(struct worker *w);
void *rounds_run(void *worker); /* until the worker is stopping and nothing runs any longer */

#endif
