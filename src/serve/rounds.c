/* The rounds of the worker's thread: let in, take changes over, work on one prompt, step all that answer, let out. */
#include "serve/rounds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/progress.h"

/* While others answer, a piece of a prompt may hold them up for about so long. */
static const double piece_seconds = 0.06;
enum { PIECE_MIN = 16, SCORED_AT_ONCE = 64 };

bool rounds_reserve(struct worker *w) {
    const size_t n = (size_t)w->p.model->n_slots;
    w->queue_end = &w->queue;
    w->seconds_each = 1;
    w->sessions = calloc(n, sizeof(struct genarm_session *));
    w->stepped = calloc(n, sizeof(struct choice *));
    w->tokens = calloc(n, sizeof *w->tokens);
    w->errors = calloc(n, sizeof *w->errors);
    w->served = calloc(SERVED_KEPT, sizeof *w->served);
    return w->sessions && w->stepped && w->tokens && w->errors && w->served;
}

void rounds_release(struct worker *w) {
    free(w->sessions);
    free(w->stepped);
    free(w->tokens);
    free(w->errors);
    free(w->served);
}

static void tell(struct job *job) { pthread_cond_broadcast(&job->changed); }

/* ---- letting out: under the lock ---- */

/* The tokens since the last change of the weights. */
static void count_steered(struct worker *w, const struct choice *c) {
    const size_t n = c->answer.n_tokens - c->n_before;
    for (size_t i = 0; i < c->job->n_arms && n > 0; i++) {
        counters_arm_tokens(w->p.counters, i, c->job->params.weights[i] != 0.0f ? (double)n : 0);
    }
}

/* What of its prompt was known before; what it scored itself was not. */
static void note_reused(struct choice *c) {
    c->n_reused = c->job->params.score_prompt ? 0 : genarm_session_n_reused(c->session);
}

static void count_end(struct worker *w, const struct choice *c) {
    const double seconds = clock_seconds() - c->began;
    w->seconds_each += 0.2 * (seconds - w->seconds_each);
    counters_add(w->p.counters, COUNT_PROMPT_TOKENS, c->n_prompt);
    counters_add(w->p.counters, COUNT_PROMPT_REUSED, c->n_reused);
    counters_add(w->p.counters, COUNT_TOKENS, (double)c->answer.n_tokens);
    counters_add(w->p.counters, COUNT_SCORED, (double)c->n_scored);
    counters_add(w->p.counters, COUNT_DRAFTED, (double)c->drafts.n_drafted);
    counters_add(w->p.counters, COUNT_ACCEPTED, (double)c->drafts.n_accepted);
    count_steered(w, c);
}

/* A choice is over, by `error` if its code is not 0. Its slot is free. */
static void end_choice(struct worker *w, struct choice *c, const struct genarm_error *error) {
    if (error && error->code != GENARM_OK) {
        c->error = *error;
        c->job->error = c->job->error.code == GENARM_OK ? *error : c->job->error;
    }
    if (c->session) {
        note_reused(c);
        genarm_session_get_draft_stats(c->session, &c->drafts);
        genarm_session_free(c->session);
        c->session = NULL;
        w->slots[c->slot] = NULL;
        w->n_active--;
        count_end(w, c);
    }
    counters_add(w->p.counters, COUNT_CANCELED, c->job->canceled);
    c->state = CHOICE_DONE;
    c->job->n_done++;
    tell(c->job);
}

/* The worker's reference goes when all choices are done. */
static void drop_if_over(struct job *job) {
    if (job->n_done == job->n_choices && --job->refs == 0) {
        job_free(job);
    }
}

static bool is_waiting(const struct job *job) {
    for (size_t i = 0; i < job->n_choices; i++) {
        if (job->choices[i].state != CHOICE_WAITING) {
            return false;
        }
    }
    return true;
}

/* Takes a choice out of the queue. */
static void unlink_choice(struct worker *w, struct choice *c) {
    struct choice **at = &w->queue;
    w->n_jobs_queued -= is_waiting(c->job);
    while (*at != c) {
        at = &(*at)->next;
    }
    *at = c->next;
    if (w->queue_end == &c->next) {
        w->queue_end = at;
    }
    c->next = NULL;
}

/* Why a choice should go on no longer; false: it should. An error without a code: it has answered as far as it got. */
static bool is_over(const struct worker *w, const struct choice *c, double now, struct genarm_error *why) {
    const bool waits = c->state == CHOICE_WAITING;
    *why = (struct genarm_error){0};
    if (c->job->canceled) {
        error_set(why, GENARM_ECANCELED, "the client has gone");
        return true;
    }
    if (c->job->error.code != GENARM_OK) { /* of another choice: that is the reply */
        *why = c->job->error;
        return true;
    }
    if (w->stopping && (now >= w->stop_at || is_waiting(c->job))) { /* all of a request that has begun may go on */
        error_set(why, GENARM_ECANCELED, "the server is shutting down");
        return true;
    }
    if (c->job->deadline > 0 && now >= c->job->deadline) {
        if (c->state != CHOICE_RUNNING && c->answer.n_tokens == 0) {
            error_set(why, GENARM_ECANCELED, waits ? "no slot was free in time" : "the prompt was not evaluated in time");
        }
        return true;
    }
    return false;
}

static void end_in_slot(struct worker *w, struct choice *c, struct genarm_error *why) {
    struct job *job = c->job;
    if (why->code == GENARM_OK && c->answer.finish == FINISH_RUNNING) {
        answer_end(&c->answer, FINISH_LENGTH, why);
    }
    end_choice(w, c, why);
    drop_if_over(job);
}

static void let_out(struct worker *w) {
    const double now = clock_seconds();
    struct genarm_error why;
    for (int32_t i = 0; i < w->p.model->n_slots; i++) {
        if (w->slots[i] && is_over(w, w->slots[i], now, &why)) {
            end_in_slot(w, w->slots[i], &why);
        }
    }
    for (struct choice *c = w->queue, *next; c; c = next) {
        next = c->next;
        if (is_over(w, c, now, &why)) {
            struct job *job = c->job;
            unlink_choice(w, c);
            end_choice(w, c, &why);
            drop_if_over(job);
        }
    }
}

/* ---- letting in ---- */

static int32_t n_running_of(const struct worker *w, const char *client) {
    int32_t n = 0;
    for (int32_t i = 0; i < w->p.model->n_slots; i++) {
        n += w->slots[i] && strcmp(w->slots[i]->job->client, client) == 0;
    }
    return n;
}

/* When a client got a slot last, as the number of those that got one before; 0: not lately. */
static uint64_t served_at(const struct worker *w, const char *client) {
    for (uint64_t n = w->n_served; n > 0 && n + SERVED_KEPT > w->n_served; n--) {
        if (strcmp(w->served[(n - 1) % SERVED_KEPT], client) == 0) {
            return n;
        }
    }
    return 0;
}

/* Who is next: of the client with the fewest choices in slots, and of several such of the one who waits longest since its last,
 * the choice that came first. */
static struct choice *next_choice(const struct worker *w) {
    struct choice *best = NULL;
    int32_t fewest = 0;
    uint64_t earliest = 0;
    const char *before = "";
    for (struct choice *c = w->queue; c; c = c->next) {
        if (strcmp(c->job->client, before) == 0) { /* comes after one of the same client */
            continue;
        }
        before = c->job->client;
        const int32_t n = n_running_of(w, before);
        const uint64_t at = served_at(w, before);
        if (!best || n < fewest || (n == fewest && at < earliest)) {
            best = c;
            fewest = n;
            earliest = at;
        }
    }
    return best;
}

/* `all`: ARMs of weight 0 get another one, so that the prompt is evaluated for them too. */
static int set_weights(const struct choice *c, bool all, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (size_t i = 0; i < c->job->n_arms && rc == GENARM_OK; i++) {
        const float weight = c->job->params.weights[i];
        rc = genarm_session_set_weight(c->session, (int32_t)i, all && weight == 0.0f ? 1.0f : weight, err);
    }
    return rc;
}

static int set_steering(const struct choice *c, struct genarm_error *err) {
    const struct job_params *p = &c->job->params;
    struct genarm_session *s = c->session;
    int rc = set_weights(c, p->response != NULL, err);
    for (size_t i = 0; i < c->job->n_arms && rc == GENARM_OK; i++) {
        if (p->preferences[i].n > 0) {
            rc = genarm_session_set_preference(s, (int32_t)i, p->preferences[i].weights, p->preferences[i].n, err);
        }
        if (rc == GENARM_OK && p->schedules[i].n > 0) {
            rc = genarm_session_set_schedule(s, (int32_t)i, p->schedules[i].knots, p->schedules[i].n, err);
        }
    }
    rc = rc == GENARM_OK ? genarm_session_set_min_entropy(s, p->min_entropy, err) : rc;
    rc = rc == GENARM_OK ? genarm_session_set_bias(s, p->biases, p->n_biases, err) : rc;
    return rc == GENARM_OK ? genarm_session_keep_logprobs(s, p->n_logprobs, err) : rc;
}

/* The whole prompt as what is to be continued, or the first token of it where the others are to be scored. */
static int set_prompt(struct choice *c, bool to_score, struct genarm_error *err) {
    const struct job_prompt *p = c->prompt;
    if (p->each) {
        return session_prompt_each(c->session, p->each, err);
    }
    return genarm_session_prompt_tokens(c->session, p->tokens, to_score ? 1 : p->n_tokens, err);
}

/* Begins the answer to a prompt that is set. */
static int begin_answer(const struct worker *w, struct choice *c, struct genarm_error *err) {
    const struct job_params *p = &c->job->params;
    const int rc = genarm_session_set_grammar(c->session, p->grammar, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    c->answer.shift = w->p.model->shift;
    c->answer.keep = w->p.model->keep;
    c->answer.started = clock_seconds();
    c->state = CHOICE_PREFILLING;
    return w->p.model->draft ? genarm_session_set_draft(c->session, w->p.model->draft, err) : GENARM_OK;
}

/* What a choice does first in its slot. Under the lock: its answer is read by others. */
static int begin_choice(const struct worker *w, struct choice *c, struct genarm_error *err) {
    const struct job_params *p = &c->job->params;
    const bool to_score = p->response || p->score_prompt;
    struct genarm_sampling sampling = p->sampling;
    sampling.seed = c->seed;
    int rc = genarm_session_new(&c->session, w->p.model->guide, &sampling, err);
    rc = rc == GENARM_OK ? set_steering(c, err) : rc;
    rc = rc == GENARM_OK ? set_prompt(c, p->score_prompt, err) : rc;
    rc = rc == GENARM_OK ? answer_start(&c->answer, w->p.model->base, c->session, p->stop, p->n_predict, err) : rc;
    if (rc != GENARM_OK) {
        return rc;
    }
    c->n_prompt = p->score_prompt ? (int32_t)c->prompt->n_tokens : genarm_session_n_prompt(c->session);
    if (to_score) {
        c->state = p->response ? CHOICE_PREFILLING : CHOICE_SCORING;
        return GENARM_OK;
    }
    return begin_answer(w, c, err);
}

static void let_in(struct worker *w) {
    for (int32_t slot = 0; slot < w->p.model->n_slots && w->queue; slot++) {
        while (!w->slots[slot] && w->queue) {
            struct genarm_error error = {0};
            struct choice *c = next_choice(w);
            struct job *job = c->job;
            unlink_choice(w, c);
            memcpy(w->served[w->n_served++ % SERVED_KEPT], job->client, CLIENT_LENGTH);
            c->began = clock_seconds();
            c->slot = slot;
            w->slots[slot] = c;
            w->n_active++;
            counters_time(w->p.counters, COUNT_QUEUE, c->began - job->submitted);
            const int rc = begin_choice(w, c, &error);
            if (!c->session) {
                w->slots[slot] = NULL;
                w->n_active--;
            }
            if (rc != GENARM_OK ||
                (c->answer.finish != FINISH_RUNNING && c->state != CHOICE_SCORING)) { /* no token is asked for */
                end_choice(w, c, &error);
                drop_if_over(job);
            } else {
                tell(job);
            }
        }
    }
}

/* ---- changed weights ---- */

static void take_weights(struct worker *w, struct job *job) {
    if (!job->wanted) {
        return;
    }
    bool wakes = false; /* an ARM that has seen nothing of it so far */
    for (size_t i = 0; i < job->n_arms; i++) {
        wakes = wakes || (job->params.weights[i] == 0.0f && job->wanted[i] != 0.0f);
    }
    for (size_t k = 0; k < job->n_choices; k++) {
        struct choice *c = &job->choices[k];
        if (c->session) {
            count_steered(w, c);
        }
        for (size_t i = 0; i < job->n_arms && c->session; i++) {
            genarm_session_set_weight(c->session, (int32_t)i, job->wanted[i], NULL); /* was checked */
        }
        c->n_before = c->answer.n_tokens;
        c->state = wakes && c->state == CHOICE_RUNNING ? CHOICE_PREFILLING : c->state; /* it reads what it missed in pieces */
    }
    memcpy(job->params.weights, job->wanted, job->n_arms * sizeof *job->wanted);
    free(job->wanted);
    job->wanted = NULL;
    job->n_changes++;
    tell(job);
}

static void take_changes(struct worker *w) {
    for (int32_t i = 0; i < w->p.model->n_slots; i++) {
        if (w->slots[i]) {
            take_weights(w, w->slots[i]->job);
        }
    }
    for (struct choice *c = w->queue; c; c = c->next) {
        take_weights(w, c->job);
    }
}

/* ---- working ---- */

/* Rows of a piece of a prompt: many when nobody waits for it to end. */
static int32_t piece_rows(const struct worker *w, bool others_run) {
    const int32_t most = w->p.model->n_batch;
    const double rows = w->rows_per_second * piece_seconds;
    if (!others_run) {
        return most;
    }
    return rows < PIECE_MIN ? PIECE_MIN : rows > most ? most : (int32_t)rows;
}

/* Rows are evaluated before a choice's next step, which is one row for each policy; error->code is not 0: it fails. */
static int32_t rows_left(const struct choice *c, struct genarm_error *error) {
    int32_t left = 0;
    genarm_session_prefill(c->session, 0, &left, error);
    return left;
}

/* A choice whose prompt is known but for what the next step can take along. Under the lock. */
static void end_prefill(struct choice *c) {
    if (c->job->params.response) {
        c->state = CHOICE_SCORING;
        set_weights(c, false, NULL); /* were checked */
    } else {
        c->state = CHOICE_RUNNING;
    }
}

/* Evaluates n_rows of a prompt. */
static void prefill_piece(struct worker *w, struct choice *c, int32_t n_rows) {
    struct genarm_error error = {0};
    int32_t left = 0;
    const double start = clock_seconds();
    genarm_session_prefill(c->session, n_rows, &left, &error);
    const double seconds = clock_seconds() - start, each = n_rows / seconds;
    w->rows_per_second = w->rows_per_second > 0 ? 0.7 * w->rows_per_second + 0.3 * each : each;
    pthread_mutex_lock(&w->lock);
    if (error.code != GENARM_OK) {
        end_in_slot(w, c, &error);
    } else if (left == 0) {
        end_prefill(c);
    }
    pthread_mutex_unlock(&w->lock);
}

static bool has_schedule(const struct choice *c) {
    bool found = false;
    for (size_t i = 0; i < c->job->n_arms; i++) {
        found = found || c->job->params.schedules[i].n > 0;
    }
    return found;
}

/* An ARM that a schedule turns on has not seen the text so far: what it missed is evaluated in pieces, as a prompt is. */
static void find_woken(struct worker *w) {
    struct genarm_error ignored; /* the step finds it again */
    for (int32_t i = 0; i < w->p.model->n_slots; i++) {
        struct choice *c = w->slots[i];
        if (c && c->state == CHOICE_RUNNING && has_schedule(c) && rows_left(c, &ignored) > 0) {
            pthread_mutex_lock(&w->lock);
            c->state = CHOICE_PREFILLING;
            pthread_mutex_unlock(&w->lock);
        }
    }
}

/* Works on prompts, those of the slots in turn. What is left of them goes along with the next step, in one batch, as long as
 * it is no more than a piece; of a longer one a piece is evaluated by itself. */
static void prefill(struct worker *w) {
    const int32_t n_slots = w->p.model->n_slots, turn = w->turn;
    bool others_run = false;
    find_woken(w);
    for (int32_t i = 0; i < n_slots; i++) {
        others_run = others_run || (w->slots[i] && w->slots[i]->state == CHOICE_RUNNING);
    }
    const int32_t piece = piece_rows(w, others_run);
    int32_t room = piece;
    for (int32_t i = 1; i <= n_slots && room > 0; i++) {
        const int32_t slot = (turn + i) % n_slots;
        struct choice *c = w->slots[slot];
        struct genarm_error error = {0};
        if (!c || c->state != CHOICE_PREFILLING) {
            continue;
        }
        const int32_t left = rows_left(c, &error);
        const bool alone = left > room || (left > 0 && c->job->params.response); /* what is scored is not stepped */
        if (alone && room < piece) {
            return; /* the next round begins with it */
        }
        w->turn = slot;
        if (alone) {
            prefill_piece(w, c, left < room ? left : room);
            return;
        }
        room -= left;
        pthread_mutex_lock(&w->lock);
        if (error.code != GENARM_OK) {
            end_in_slot(w, c, &error);
        } else {
            end_prefill(c);
        }
        pthread_mutex_unlock(&w->lock);
    }
}

struct scoring {
    struct worker *w;
    struct choice *c;
    struct genarm_error *err;
};

static int take_score(const struct genarm_token_score *score, void *user) {
    const struct scoring *s = user;
    pthread_mutex_lock(&s->w->lock);
    const int rc = choice_add_score(s->c, score, s->err);
    pthread_mutex_unlock(&s->w->lock);
    return rc;
}

/* How many tokens are scored before others have their turn: where the sequence is computed anew each time as many as before, so
 * that it is only twice the work. */
static size_t scored_at_once(const struct choice *c, bool references) {
    const bool more = references && c->n_scored > SCORED_AT_ONCE && session_scores_apart(c->session);
    return more ? c->n_scored : SCORED_AT_ONCE;
}

/* Scores some tokens of a choice. Then it is over, or answers the prompt that was scored. */
static void score_some(struct worker *w, struct choice *c) {
    const struct job_params *p = &c->job->params;
    const int32_t *tokens = p->response ? p->response : c->prompt->tokens + 1;
    const size_t n = p->response ? p->n_response : c->prompt->n_tokens - 1, left = n - c->n_scored;
    const bool references = p->response != NULL; /* those of a prompt are not told */
    const size_t most = scored_at_once(c, references), n_now = left < most ? left : most;
    struct genarm_error error = {0};
    struct scoring s = {w, c, &error};
    int rc = n_now ? session_score(c->session, tokens + c->n_scored, n_now, references, take_score, &s, &error) : GENARM_OK;
    pthread_mutex_lock(&w->lock);
    c->n_scored += rc == GENARM_OK ? n_now : 0;
    const bool scored = rc == GENARM_OK && c->n_scored == n;
    if (scored && p->score_prompt) {
        c->answer.first = c->answer.last = clock_seconds(); /* where no token follows, this is when the prompt was done */
        rc = set_prompt(c, false, &error);
        rc = rc == GENARM_OK ? begin_answer(w, c, &error) : rc;
    }
    if (rc != GENARM_OK || (scored && (p->response || c->answer.finish != FINISH_RUNNING))) {
        end_in_slot(w, c, &error);
    }
    pthread_mutex_unlock(&w->lock);
}

static void score(struct worker *w) {
    for (int32_t i = 0; i < w->p.model->n_slots; i++) {
        if (w->slots[i] && w->slots[i]->state == CHOICE_SCORING) {
            score_some(w, w->slots[i]);
        }
    }
}

/* A choice's new token. Under the lock. */
static void take_token(struct worker *w, struct choice *c, int32_t token, double now) {
    struct genarm_error error = {0};
    struct answer *a = &c->answer;
    const size_t start = a->text.len;
    int rc = answer_push(a, token, now, &error);
    if (a->n_tokens == 1) {
        note_reused(c);
        counters_time(w->p.counters, COUNT_FIRST_TOKEN, now - c->job->arrived);
    }
    if (rc == GENARM_OK && c->job->params.n_logprobs >= 0) {
        rc = choice_add_kept(c, start, &error);
    }
    if (rc != GENARM_OK || a->finish != FINISH_RUNNING) {
        end_in_slot(w, c, &error);
    } else {
        tell(c->job);
    }
}

/* One more token for all that answer. */
static void step(struct worker *w) {
    struct genarm_error error = {0};
    size_t n = 0;
    for (int32_t i = 0; i < w->p.model->n_slots; i++) {
        if (w->slots[i] && w->slots[i]->state == CHOICE_RUNNING) {
            w->stepped[n] = w->slots[i];
            w->sessions[n++] = w->slots[i]->session;
        }
    }
    if (n == 0) {
        return;
    }
    const double start = clock_seconds();
    const int rc = genarm_sessions_step_each(w->sessions, n, w->tokens, w->errors, &error);
    const double now = clock_seconds();
    counters_time(w->p.counters, COUNT_STEP, now - start);
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < n; i++) {
        struct genarm_error *failure = rc == GENARM_OK ? &w->errors[i] : &error;
        if (failure->code != GENARM_OK) {
            end_in_slot(w, w->stepped[i], failure);
        } else {
            take_token(w, w->stepped[i], w->tokens[i], now);
        }
    }
    pthread_mutex_unlock(&w->lock);
}

void *rounds_run(void *worker) {
    struct worker *w = worker;
    pthread_mutex_lock(&w->lock);
    while (!w->stopping || w->n_active > 0 || w->queue) {
        let_out(w);
        take_changes(w);
        let_in(w);
        if (w->n_active == 0) {
            if (!w->stopping && !w->queue) {
                pthread_cond_wait(&w->wake, &w->lock);
            }
            continue;
        }
        pthread_mutex_unlock(&w->lock);
        prefill(w);
        score(w);
        step(w);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}
