#include "base/threads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/cores.h"

enum {
    SPINS_MEETING = 4000, /* about 0.1 ms: much longer than threads with equal shares are apart */
    SPINS_IDLE = 16000    /* as long as what is between two steps of decoding */
};

/* A number that grows, and those who wait for it to. */
struct gate {
    atomic_uint phase, sleepers;
    pthread_mutex_t mutex;
    pthread_cond_t opened;
};

struct threads {
    int32_t n, n_started;
    bool crowded; /* more threads than cores: spinning would keep others from running */
    struct gate start, meeting;
    atomic_int arrived;
    bool stop;
    void (*work)(int ith, void *user);
    void *user;
    struct member {
        struct threads *pool;
        pthread_t thread;
        int ith;
    } members[]; /* [n - 1] */
};

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static void gate_init(struct gate *g) {
    pthread_mutex_init(&g->mutex, NULL);
    pthread_cond_init(&g->opened, NULL);
}

static void gate_deinit(struct gate *g) {
    pthread_mutex_destroy(&g->mutex);
    pthread_cond_destroy(&g->opened);
}

/* Either this sees a sleeper, or the sleeper, who counts itself before it looks, sees the new phase. */
static void gate_open(struct gate *g) {
    atomic_fetch_add(&g->phase, 1);
    if (atomic_load(&g->sleepers) > 0) {
        pthread_mutex_lock(&g->mutex);
        pthread_cond_broadcast(&g->opened);
        pthread_mutex_unlock(&g->mutex);
    }
}

static void gate_wait(struct gate *g, unsigned phase, int spins) {
    for (int i = 0; i < spins; i++) {
        if (atomic_load_explicit(&g->phase, memory_order_acquire) != phase) {
            return;
        }
        pause_briefly();
    }
    pthread_mutex_lock(&g->mutex);
    atomic_fetch_add(&g->sleepers, 1);
    while (atomic_load(&g->phase) == phase) {
        pthread_cond_wait(&g->opened, &g->mutex);
    }
    atomic_fetch_sub(&g->sleepers, 1);
    pthread_mutex_unlock(&g->mutex);
}

void threads_meet(struct threads *t) {
    const unsigned phase = atomic_load_explicit(&t->meeting.phase, memory_order_acquire);
    if (atomic_fetch_add(&t->arrived, 1) + 1 == t->n) {
        atomic_store(&t->arrived, 0);
        gate_open(&t->meeting);
    } else {
        gate_wait(&t->meeting, phase, t->crowded ? 0 : SPINS_MEETING);
    }
}

static void *run_member(void *user) {
    struct member *m = user;
    struct threads *t = m->pool;
    for (unsigned phase = 0;; phase++) {
        gate_wait(&t->start, phase, t->crowded ? 0 : SPINS_IDLE);
        if (t->stop) {
            return NULL;
        }
        t->work(m->ith, t->user);
        threads_meet(t);
    }
}

void threads_run(struct threads *t, void (*work)(int ith, void *user), void *user) {
    t->work = work;
    t->user = user;
    gate_open(&t->start);
    work(0, user);
    threads_meet(t);
}

int threads_new(struct threads **out, int32_t n, struct genarm_error *err) {
    if (n < 1 || n > THREADS_MAX) {
        return error_set(err, GENARM_EINVAL, "%d threads: not in [1, %d]", n, THREADS_MAX);
    }
    struct threads *t = calloc(1, sizeof *t + (size_t)(n - 1) * sizeof *t->members);
    if (!t) {
        return error_nomem(err, "threads");
    }
    t->n = n;
    t->crowded = n > cores_usable();
    gate_init(&t->start);
    gate_init(&t->meeting);
    for (; t->n_started < n - 1; t->n_started++) {
        struct member *m = &t->members[t->n_started];
        *m = (struct member){.pool = t, .ith = t->n_started + 1};
        if (pthread_create(&m->thread, NULL, run_member, m) != 0) {
            threads_free(t);
            return error_set(err, GENARM_EBACKEND, "cannot start %d threads", n);
        }
    }
    *out = t;
    return GENARM_OK;
}

void threads_free(struct threads *t) {
    if (!t) {
        return;
    }
    t->stop = true;
    gate_open(&t->start);
    for (int32_t i = 0; i < t->n_started; i++) {
        pthread_join(t->members[i].thread, NULL);
    }
    gate_deinit(&t->start);
    gate_deinit(&t->meeting);
    free(t);
}
