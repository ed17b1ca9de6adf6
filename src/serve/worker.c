/* See worker.h. The rounds of the worker are in rounds.c; here is what the threads of connections do with it. */
#include "serve/worker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/progress.h"
#include "serve/rounds.h"

/* ---- life ---- */

/* Makes the guide's engines, so that what is wrong shows before anything is served. */
static int warm_up(struct genarm_guide *guide, struct genarm_error *err) {
    struct genarm_session *s;
    const int rc = genarm_session_new(&s, guide, NULL, err);
    if (rc == GENARM_OK) {
        genarm_session_free(s);
    }
    return rc;
}

int worker_new(struct worker **out, const struct worker_params *params, struct genarm_error *err) {
    struct worker *w = calloc(1, sizeof *w);
    int rc = w ? warm_up(params->model->guide, err) : error_nomem(err, "the server");
    if (rc == GENARM_OK) {
        w->p = *params;
        w->slots = calloc((size_t)params->model->n_slots, sizeof(struct choice *));
        rc = w->slots && rounds_reserve(w) ? GENARM_OK : error_nomem(err, "the server");
    }
    if (rc != GENARM_OK) {
        worker_free(w);
        return rc;
    }
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    w->ready = true;
    if (pthread_create(&w->thread, NULL, rounds_run, w) != 0) {
        worker_free(w);
        return error_set(err, GENARM_ENOMEM, "no thread for the worker");
    }
    w->started = true;
    *out = w;
    return GENARM_OK;
}

void worker_stop(struct worker *w, double grace) {
    pthread_mutex_lock(&w->lock);
    const double at = clock_seconds() + grace;
    w->stop_at = w->stopping && w->stop_at < at ? w->stop_at : at;
    w->stopping = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

void worker_join(struct worker *w) {
    if (w->started) {
        pthread_join(w->thread, NULL);
        w->started = false;
    }
}

void worker_free(struct worker *w) {
    if (!w) {
        return;
    }
    worker_join(w);
    if (w->ready) {
        pthread_mutex_destroy(&w->lock);
        pthread_cond_destroy(&w->wake);
    }
    rounds_release(w);
    free(w->slots);
    free(w);
}

/* ---- jobs ---- */

/* About when the next slot is free: what answers took lately, shared out over the slots. */
static int32_t expected_wait(const struct worker *w) {
    const double seconds = w->seconds_each * (w->n_jobs_queued + 1) / w->p.model->n_slots;
    return seconds < 1 ? 1 : seconds > 600 ? 600 : (int32_t)ceil(seconds);
}

static bool waits(const struct worker *w, const char *client) {
    for (const struct choice *c = w->queue; c; c = c->next) {
        if (strcmp(c->job->client, client) == 0) {
            return true;
        }
    }
    return false;
}

/* Who finds a slot free does not wait, although only the worker's next round takes it out of the queue. */
static bool has_room(const struct worker *w, const struct job *job) {
    const int64_t n_waiting = (int64_t)w->n_jobs_queued - (w->p.model->n_slots - w->n_active);
    return n_waiting < w->p.max_queue || (n_waiting < 2 * (int64_t)w->p.max_queue && !waits(w, job->client));
}

bool worker_submit(struct worker *w, struct job *job, int32_t *retry_after) {
    pthread_mutex_lock(&w->lock);
    const bool room = !w->stopping && has_room(w, job);
    *retry_after = expected_wait(w);
    for (size_t i = 0; i < job->n_choices && room; i++) {
        *w->queue_end = &job->choices[i];
        w->queue_end = &job->choices[i].next;
    }
    if (room) {
        w->n_jobs_queued++;
        job->refs++;
        pthread_cond_signal(&w->wake);
    }
    pthread_mutex_unlock(&w->lock);
    if (!room) {
        counters_add(w->p.counters, COUNT_REFUSED, 1);
    }
    return room;
}

void worker_release(struct worker *w, struct job *job) {
    pthread_mutex_lock(&w->lock);
    job->canceled = job->canceled || job->n_done < job->n_choices;
    const bool last = --job->refs == 0;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    if (last) {
        job_free(job);
    }
}

/* ---- waiting ---- */

static struct timespec deadline_in(double seconds) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    const double at = (double)t.tv_sec + (double)t.tv_nsec * 1e-9 + seconds;
    t.tv_sec = (time_t)at;
    t.tv_nsec = (long)((at - (double)t.tv_sec) * 1e9);
    return t;
}

static bool has_begun(const struct job *job, const struct reader *unused) {
    (void)unused;
    for (size_t i = 0; i < job->n_choices; i++) {
        if (job->choices[i].state != CHOICE_WAITING) {
            return true;
        }
    }
    return false;
}

static bool has_ended(const struct job *job, const struct reader *unused) {
    (void)unused;
    return job->n_done == job->n_choices;
}

static bool is_new(const struct choice *c, const struct reader *r) {
    return (c->state == CHOICE_DONE && !r->told_end) || c->answer.n_shown > r->n_text ||
           choice_n_told(c, r->n_facts) > r->n_facts;
}

static bool has_news(const struct job *job, const struct reader *readers) {
    for (size_t i = 0; i < job->n_choices; i++) {
        if (is_new(&job->choices[i], &readers[i])) {
            return true;
        }
    }
    return false;
}

/* Waits until a condition holds, up to `seconds`. */
static bool wait_until(struct worker *w, struct job *job, bool (*holds)(const struct job *job, const struct reader *readers),
                       const struct reader *readers, double seconds) {
    const struct timespec until = deadline_in(seconds);
    pthread_mutex_lock(&w->lock);
    int late = 0;
    while (!holds(job, readers) && late == 0) {
        late = pthread_cond_timedwait(&job->changed, &w->lock, &until);
    }
    const bool held = holds(job, readers);
    pthread_mutex_unlock(&w->lock);
    return held;
}

bool worker_wait_begun(struct worker *w, struct job *job, double seconds) {
    return wait_until(w, job, has_begun, NULL, seconds);
}

bool worker_wait_done(struct worker *w, struct job *job, double seconds) {
    return wait_until(w, job, has_ended, NULL, seconds);
}

int32_t worker_wait_news(struct worker *w, struct job *job, const struct reader *readers, double seconds) {
    int32_t found = -1;
    wait_until(w, job, has_news, readers, seconds);
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < job->n_choices && found < 0; i++) {
        found = is_new(&job->choices[i], &readers[i]) ? (int32_t)i : -1;
    }
    pthread_mutex_unlock(&w->lock);
    return found;
}

void worker_lock(struct worker *w) { pthread_mutex_lock(&w->lock); }
void worker_unlock(struct worker *w) { pthread_mutex_unlock(&w->lock); }

/* ---- what others see and change ---- */

static struct job *find_job(struct worker *w, const char *id) {
    for (int32_t i = 0; i < w->p.model->n_slots; i++) {
        if (w->slots[i] && strcmp(w->slots[i]->job->id, id) == 0) {
            return w->slots[i]->job;
        }
    }
    for (struct choice *c = w->queue; c; c = c->next) {
        if (strcmp(c->job->id, id) == 0) {
            return c->job;
        }
    }
    return NULL;
}

/* A NaN leaves the weight that is wanted or in force. */
static bool want_weights(struct job *job, const float *weights) {
    if (!job->wanted) {
        job->wanted = calloc(job->n_arms + 1, sizeof *job->wanted);
        if (!job->wanted) {
            return false;
        }
        memcpy(job->wanted, job->params.weights, job->n_arms * sizeof *job->wanted);
    }
    for (size_t i = 0; i < job->n_arms; i++) {
        job->wanted[i] = isnan(weights[i]) ? job->wanted[i] : weights[i];
    }
    return true;
}

bool worker_set_weights(struct worker *w, const char *id, float *weights, size_t *n_tokens, size_t max, size_t *n) {
    pthread_mutex_lock(&w->lock);
    struct job *job = find_job(w, id);
    bool found = job && want_weights(job, weights);
    if (found) {
        const size_t before = job->n_changes;
        job->refs++;
        pthread_cond_signal(&w->wake);
        while (job->n_changes == before && job->n_done < job->n_choices) {
            pthread_cond_wait(&job->changed, &w->lock);
        }
        *n = job->n_choices;
        for (size_t i = 0; i < job->n_choices && i < max; i++) {
            n_tokens[i] = job->choices[i].n_before; /* not how many there are: the worker may have gone on */
        }
        memcpy(weights, job->params.weights, job->n_arms * sizeof *weights);
        found = job->n_changes != before; /* else it ended meanwhile, under its old weights */
        if (--job->refs == 0) {
            job_free(job);
        }
    }
    pthread_mutex_unlock(&w->lock);
    return found;
}

void worker_slots(struct worker *w, struct slot_facts *slots, float *weights) {
    const size_t n_arms = w->p.model->n_arms;
    pthread_mutex_lock(&w->lock);
    for (int32_t i = 0; i < w->p.model->n_slots; i++) {
        const struct choice *c = w->slots[i];
        slots[i] = (struct slot_facts){.busy = c != NULL};
        if (c) {
            memcpy(slots[i].id, c->job->id, sizeof slots[i].id);
            memcpy(weights + (size_t)i * n_arms, c->job->params.weights, n_arms * sizeof *weights);
            slots[i].n_prompt = c->n_prompt;
            slots[i].n_decoded = c->answer.n_tokens;
        }
    }
    pthread_mutex_unlock(&w->lock);
}

void worker_load(struct worker *w, int32_t *n_running, int32_t *n_queued, int32_t *n_busy) {
    pthread_mutex_lock(&w->lock);
    *n_running = 0;
    for (int32_t i = 0; i < w->p.model->n_slots; i++) {
        bool counted = !w->slots[i];
        for (int32_t k = 0; k < i && !counted; k++) {
            counted = w->slots[k] && w->slots[k]->job == w->slots[i]->job;
        }
        *n_running += !counted;
    }
    *n_busy = w->n_active;
    *n_queued = w->n_jobs_queued;
    pthread_mutex_unlock(&w->lock);
}
