/* See converse.h. */
#include "serve/converse.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/progress.h"

static const double look_around = 0.1; /* seconds after which one looks whether the client is still there */

/* ---- the job ---- */

/* The error of a job; code 0: there is none. What is wrong with a file of ours is no mistake of who asks, and where it lies is not
 * told. */
static struct genarm_error error_of(struct worker *w, const struct job *job) {
    worker_lock(w);
    struct genarm_error error = job->error;
    worker_unlock(w);
    if (error.code == GENARM_EFORMAT) {
        error.code = GENARM_EIO;
        error.where[0] = '\0';
    }
    return error;
}

static bool wait_for(struct http_call *call, struct worker *w, struct job *job, bool until_done) {
    while (!(until_done ? worker_wait_done(w, job, look_around) : worker_wait_begun(w, job, look_around))) {
        if (http_call_gone(call)) {
            http_reply_gone(call);
            return false;
        }
    }
    return true;
}

static void refuse(struct http_call *call, struct server *s, int32_t retry_after) {
    char seconds[16];
    if (atomic_load(&s->stopping)) {
        http_reply_error(call, 503, "unavailable_error", NULL, "the server is shutting down");
        return;
    }
    snprintf(seconds, sizeof seconds, "%d", retry_after);
    http_header(call, "Retry-After", seconds);
    http_reply_error(call, 503, "unavailable_error", NULL, "the queue is full: try again in %d seconds", retry_after);
}

/* A prompt that does not fit: its length goes beside an error's members, as llama-server has it. */
static void reply_too_long(struct http_call *call, const struct serve_model *m, int32_t n_tokens,
                           const struct genarm_error *err) {
    json_t *error = api_error_json(err), *body = error ? json_pack("{s:O}", "error", error) : NULL;
    char *text = NULL;
    if (body && json_object_set_new(error, "n_prompt_tokens", json_integer(n_tokens)) == 0 &&
        json_object_set_new(error, "n_ctx", json_integer(m->n_ctx)) == 0) {
        text = json_dumps(body, JSON_COMPACT);
    }
    if (text) {
        http_reply(call, 400, "application/json; charset=utf-8", text, strlen(text));
    } else {
        http_reply_error(call, 500, NULL, NULL, "out of memory");
    }
    free(text);
    json_decref(body);
    json_decref(error);
}

/* Takes over *params also on failure; the call is then answered. */
static struct job *make_job(struct http_call *call, struct server *s, const char *prefix, struct job_params *params) {
    const struct serve_model *m = s->model;
    struct genarm_error err;
    struct job *job = NULL;
    int32_t n_tokens = 0;
    int rc = job_params_fit(params, m, &n_tokens, &err);
    if (rc == GENARM_ECONTEXT) {
        reply_too_long(call, m, n_tokens, &err);
        job_params_deinit(params, m->n_arms);
        return NULL;
    }
    if (rc == GENARM_OK) {
        rc = job_new(&job, prefix, http_call_client(call), http_call_id(call), params, m->n_arms, &err);
    }
    if (rc != GENARM_OK) {
        api_error(call, &err);
        job_params_deinit(params, m->n_arms);
    }
    return job;
}

/* What came of a job, and why it failed. Here and not in the worker, which a log that is slow to be written must not hold up. */
static void log_job(struct server *s, const struct job *job) {
    const struct choice *first = &job->choices[0];
    size_t n_tokens = 0;
    worker_lock(s->worker);
    for (size_t i = 0; i < job->n_choices; i++) {
        n_tokens += job->choices[i].answer.n_tokens;
    }
    const double rate = answer_rate(&first->answer), waited = first->answer.first - job->arrived;
    const int n_prompt = first->n_prompt, n_known = first->n_reused;
    const struct genarm_error error = job->error;
    const bool scores = job->params.response != NULL;
    const size_t n_scored = first->n_facts;
    const char *end = job->n_done < job->n_choices ? "the client left" : scores ? "scored" : told_finish(first);
    worker_unlock(s->worker);
    const bool failed = error.code != GENARM_OK, warns = failed && error.code != GENARM_ECANCELED;
    const enum genarm_log_level level = warns ? GENARM_LOG_WARN : GENARM_LOG_INFO;
    const char *start = failed ? "error: " : "";
    end = failed ? error.what : end;
    if (scores) {
        serve_log_line(s->p.log, level, job->request, "%s: prompt of %d tokens (%d known), %zu of a response's %zu (%s%s)",
                       job->id, n_prompt, n_known, n_scored, job->params.n_response, start, end);
        return;
    }
    char speed[64] = "";
    if (n_tokens > 0) {
        snprintf(speed, sizeof speed, ", the first after %.3f s, %.1f a second", waited > 0 ? waited : 0, rate);
    }
    serve_log_line(s->p.log, level, job->request, "%s: prompt of %d tokens (%d known), answer of %zu (%s%s)%s", job->id, n_prompt,
                   n_known, n_tokens, start, end, speed);
}

void converse_end(struct server *s, struct job *job) {
    log_job(s, job);
    worker_release(s->worker, job);
}

struct job *converse_run(struct http_call *call, struct server *s, const char *prefix, struct job_params *params,
                         bool until_done) {
    struct job *job = make_job(call, s, prefix, params);
    int32_t retry_after;
    if (!job) {
        return NULL;
    }
    job->arrived = http_call_arrived(call);
    job->deadline = s->p.time_limit > 0 ? job->arrived + s->p.time_limit : 0;
    if (!worker_submit(s->worker, job, &retry_after)) {
        refuse(call, s, retry_after);
        worker_release(s->worker, job);
        return NULL;
    }
    if (!wait_for(call, s->worker, job, until_done)) {
        converse_end(s, job);
        return NULL;
    }
    const struct genarm_error error = error_of(s->worker, job);
    if (error.code != GENARM_OK) {
        api_error(call, &error);
        converse_end(s, job);
        return NULL;
    }
    return job;
}

/* ---- streams ---- */

static void conversation_free(void *user) {
    struct conversation *c = user;
    converse_end(c->server, c->job);
    buf_deinit(&c->text);
    free(c->readers);
    free(c);
}

/* Takes over `value`. */
static int put_event(struct buf *out, json_t *value) {
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    int rc = text ? buf_puts(out, "data: ", NULL) : GENARM_ENOMEM;
    rc = rc == GENARM_OK ? buf_puts(out, text, NULL) : rc;
    rc = rc == GENARM_OK ? buf_puts(out, "\n\n", NULL) : rc;
    json_decref(value);
    free(text);
    return rc;
}

/* What is new of a choice, and with its end one more event. */
static int put_piece(struct conversation *c, struct choice *choice, struct buf *out) {
    struct reader *r = &c->readers[choice->index];
    struct piece piece = {.choice = choice, .facts_at = r->n_facts, .tokens_at = r->n_tokens};
    worker_lock(c->server->worker);
    const struct answer *a = &choice->answer;
    const size_t n_facts = choice_n_told(choice, r->n_facts);
    const bool ended = choice->state == CHOICE_DONE && choice->error.code == GENARM_OK;
    buf_clear(&c->text);
    int rc = buf_append(&c->text, a->n_shown > r->n_text ? a->text.data + r->n_text : "", a->n_shown - r->n_text, NULL);
    struct token_fact **facts = calloc(n_facts - r->n_facts + 1, sizeof(struct token_fact *));
    int32_t *tokens = calloc(a->n_tokens - r->n_tokens + 1, sizeof *tokens);
    if (rc == GENARM_OK && facts && tokens) {
        for (size_t i = r->n_facts; i < n_facts; i++) {
            facts[i - r->n_facts] = choice->facts[i];
        }
        for (size_t i = r->n_tokens; i < a->n_tokens; i++) {
            tokens[i - r->n_tokens] = a->tokens[i];
        }
        piece.text = c->text.data ? c->text.data : "";
        piece.n_text = c->text.len;
        piece.facts = facts;
        piece.n_facts = n_facts - r->n_facts;
        piece.tokens = tokens;
        piece.n_tokens = a->n_tokens - r->n_tokens;
        r->n_text = a->n_shown;
        r->n_facts = n_facts;
        r->n_tokens = a->n_tokens;
    } else {
        rc = GENARM_ENOMEM;
    }
    worker_unlock(c->server->worker);
    if (rc == GENARM_OK && (piece.n_text > 0 || piece.n_facts > 0)) {
        rc = put_event(out, c->dialect->event(c, &piece));
        piece.tokens_at += piece.n_tokens;
        piece.n_tokens = 0;
    }
    if (rc == GENARM_OK && ended) {
        r->told_end = true;
        c->n_ended++;
        rc = put_event(out, c->dialect->event(c, &(struct piece){.choice = choice,
                                                                 .text = "",
                                                                 .last = true,
                                                                 .tokens = tokens,
                                                                 .tokens_at = piece.tokens_at,
                                                                 .n_tokens = piece.n_tokens}));
    }
    free(facts);
    free(tokens);
    return rc;
}

static int put_error(struct conversation *c, struct buf *out) {
    const struct genarm_error error = error_of(c->server->worker, c->job);
    if (error.code == GENARM_OK) {
        return GENARM_OK;
    }
    c->over = true;
    return put_event(out, json_pack("{s:o}", "error", api_error_json(&error)));
}

static int put_end(struct conversation *c, struct buf *out) {
    int rc = GENARM_OK;
    json_t *usage = c->over || !c->dialect->usage ? NULL : c->dialect->usage(c);
    c->over = true;
    if (usage) {
        rc = put_event(out, usage);
    }
    return rc == GENARM_OK && c->dialect->done ? buf_puts(out, "data: [DONE]\n\n", NULL) : rc;
}

static int next_events(struct http_call *call, struct buf *out, void *user) {
    struct conversation *c = user;
    if (c->over) {
        return 0;
    }
    int32_t i;
    while ((i = worker_wait_news(c->server->worker, c->job, c->readers, look_around)) < 0) {
        if (http_call_gone(call)) {
            return -1;
        }
    }
    int rc = put_piece(c, &c->job->choices[i], out);
    rc = rc == GENARM_OK ? put_error(c, out) : rc; /* one that fails ends the stream */
    if (rc == GENARM_OK && (c->over || c->n_ended == c->job->n_choices)) {
        rc = put_end(c, out);
    }
    return rc == GENARM_OK ? 1 : -1;
}

/* The first event of each choice goes out at once: it says the id. */
static int first_events(struct http_call *call, struct buf *out, void *user) {
    struct conversation *c = user;
    (void)call;
    for (size_t i = 0; i < c->job->n_choices; i++) {
        json_t *event = c->dialect->event(c, &(struct piece){.choice = &c->job->choices[i], .text = "", .first = true});
        if (event && put_event(out, event) != GENARM_OK) {
            return -1;
        }
    }
    return out->len > 0 ? 1 : next_events(call, out, user);
}

static int stream_next(struct http_call *call, struct buf *out, void *user) {
    struct conversation *c = user;
    if (!c->begun) {
        c->begun = true;
        return first_events(call, out, user);
    }
    return next_events(call, out, user);
}

/* ---- what dialects add ---- */

void converse_add_facts(json_t *reply, const struct conversation *c, const struct choice *choice) {
    json_object_set_new(reply, "timings", told_timings(choice));
    json_object_set_new(reply, "arms", api_weights_json(c->model, c->job->params.weights));
    json_object_set_new(reply, "seed", json_integer((json_int_t)choice->seed));
}

void converse_add_to_event(json_t *event, struct conversation *c, const struct piece *piece) {
    if (c->request.include_usage) {
        json_object_set_new(event, "usage", json_null());
    }
    worker_lock(c->server->worker);
    if (piece->last && c->n_ended == c->job->n_choices) {
        converse_add_facts(event, c, &c->job->choices[0]);
    } else if (c->request.timings_per_token && !piece->first) {
        json_object_set_new(event, "timings", told_timings(piece->choice));
    }
    worker_unlock(c->server->worker);
}

json_t *converse_usage_event(struct conversation *c, json_t *head) {
    if (!c->request.include_usage) {
        json_decref(head);
        return NULL;
    }
    worker_lock(c->server->worker);
    if (head) {
        json_object_set_new(head, "choices", json_array());
        json_object_set_new(head, "usage", told_usage(c->job));
    }
    worker_unlock(c->server->worker);
    return head;
}

json_t *converse_event(struct conversation *c, const struct piece *piece, json_t *head, const char *what, json_t *news,
                       json_t *logprobs) {
    json_t *choice = json_pack("{s:i, s:o, s:o, s:s?}", "index", (int)piece->choice->index, what, news, "logprobs", logprobs,
                               "finish_reason", piece->last ? told_finish(piece->choice) : NULL);
    if (!head || json_object_set_new(head, "choices", json_pack("[o]", choice)) != 0) {
        json_decref(head);
        return NULL;
    }
    converse_add_to_event(head, c, piece);
    return head;
}

json_t *converse_whole(const struct conversation *c, json_t *head, json_t *choices) {
    if (head) {
        json_object_set_new(head, "choices", choices);
        json_object_set_new(head, "usage", told_usage(c->job));
        converse_add_facts(head, c, &c->job->choices[0]);
    }
    return head;
}

/* ---- the call ---- */

/* Takes over *params. */
static void reply(struct http_call *call, struct server *s, const struct dialect *dialect, const struct request *r,
                  struct job_params *params) {
    const struct serve_model *m = s->model;
    struct conversation *c = calloc(1, sizeof *c);
    struct reader *readers = calloc(params->n_prompts * params->n_each + 1, sizeof *readers);
    struct job *job = NULL;
    if (c && readers) {
        job = converse_run(call, s, dialect->prefix, params, !r->stream);
    } else {
        http_reply_error(call, 500, NULL, NULL, "out of memory");
        job_params_deinit(params, m->n_arms);
    }
    if (!job) {
        free(c);
        free(readers);
        return;
    }
    *c = (struct conversation){.server = s, .model = m, .dialect = dialect, .request = *r, .job = job, .readers = readers,
                               .created = (int64_t)time(NULL)};
    buf_init(&c->text, 1 << 28);
    if (r->stream) {
        http_reply_stream(call, 200, "text/event-stream; charset=utf-8",
                          &(struct http_stream){.next = stream_next, .done = conversation_free, .user = c});
    } else {
        api_reply(call, dialect->whole(c));
        conversation_free(c);
    }
}

void converse(struct http_call *call, struct server *s, const struct dialect *dialect) {
    struct genarm_error err;
    const struct serve_model *m = api_model_of(s, call);
    struct request r = m ? request_default(m) : (struct request){0};
    struct job_params params = {0};
    json_t *root = m ? api_body(call, dialect->fields, dialect->n_fields, &r) : NULL;
    if (!root) {
        return;
    }
    params.source = root;
    int rc = request_stream_options(&r, &err);
    rc = rc == GENARM_OK ? dialect->read(&params, m, &r, &err) : rc;
    rc = rc == GENARM_OK ? request_params(&params, s, m, &r, &err) : rc;
    rc = rc == GENARM_OK ? request_logprobs_fit(&params, m, dialect->logprobs, &err) : rc;
    if (rc == GENARM_OK) {
        reply(call, s, dialect, &r, &params);
    } else {
        api_error(call, &err);
        job_params_deinit(&params, m->n_arms);
    }
}
