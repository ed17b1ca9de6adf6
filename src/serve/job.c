/* See job.h. */
#include "serve/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/progress.h"
#include "base/rng.h"
#include "base/utf8.h"

void job_params_deinit(struct job_params *p, size_t n_arms) {
    for (size_t i = 0; i < p->n_prompts && p->prompts; i++) {
        free(p->prompts[i].messages);
        if (p->prompts[i].each) {
            prompt_tokens_deinit(p->prompts[i].each);
            free(p->prompts[i].each);
        }
        free(p->prompts[i].tokens);
    }
    for (size_t i = 0; i < n_arms; i++) {
        free(p->preferences ? p->preferences[i].weights : NULL);
        free(p->schedules ? p->schedules[i].knots : NULL);
    }
    free(p->prompts);
    free(p->weights);
    free(p->preferences);
    free(p->schedules);
    free(p->biases);
    free(p->response);
    genarm_grammar_free(p->grammar);
    genarm_stop_free(p->stop);
    json_decref(p->source);
    *p = (struct job_params){0};
}

static int fit_prompt(struct job_prompt *p, const struct serve_model *m, int32_t *n, struct genarm_error *err) {
    if (!p->messages) {
        *n = (int32_t)p->n_tokens;
        const int rc = p->n_tokens < (size_t)m->n_ctx
                           ? GENARM_OK
                           : error_set(err, GENARM_ECONTEXT, "the prompt has %s%zu tokens, the context %d",
                                       p->tokens ? "" : "at least ", p->n_tokens, m->n_ctx);
        return error_hint(err, rc, "shorten the prompt or raise the context size (-c)");
    }
    p->each = calloc(1, sizeof *p->each);
    if (!p->each) {
        return error_nomem(err, "a prompt");
    }
    const int rc = guide_prompt_tokens(m->guide, p->messages, p->n_messages, p->each, err);
    *n = p->each->longest;
    free(p->messages);
    p->messages = NULL;
    p->n_messages = 0;
    return rc;
}

int job_params_fit(struct job_params *p, const struct serve_model *m, int32_t *n_tokens, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (size_t i = 0; i < p->n_prompts && rc == GENARM_OK; i++) {
        rc = fit_prompt(&p->prompts[i], m, n_tokens, err);
    }
    json_decref(p->source);
    p->source = NULL;
    const int32_t n_left = m->n_ctx - *n_tokens;
    if (rc == GENARM_OK && p->n_response > (size_t)n_left) {
        *n_tokens += (int32_t)p->n_response;
        rc = error_set(err, GENARM_ECONTEXT, "a response of %s%zu tokens does not fit: %d of %d are left",
                       p->response ? "" : "at least ", p->n_response, n_left, m->n_ctx);
        rc = error_hint(err, rc, "shorten it or raise the context size (-c)");
    }
    return rc;
}

/* An id that nobody can guess: who knows it may change the job's weights. */
static int draw_id(char *id, const char *prefix, struct genarm_error *err) {
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) {
        return error_set(err, GENARM_EIO, "no random numbers: %s", strerror(errno));
    }
    size_t at = (size_t)snprintf(id, JOB_ID_LENGTH, "%s", prefix);
    for (size_t i = 0; i < sizeof bytes; i++) {
        at += (size_t)snprintf(id + at, JOB_ID_LENGTH - at, "%02x", bytes[i]);
    }
    return GENARM_OK;
}

int job_new(struct job **out, const char *prefix, const char *client, const char *request, struct job_params *params,
            size_t n_arms, struct genarm_error *err) {
    const size_t n_choices = params->n_prompts * params->n_each;
    struct job *job = calloc(1, sizeof *job);
    struct choice *choices = calloc(n_choices ? n_choices : 1, sizeof *choices);
    if (!job || !choices) {
        free(job);
        free(choices);
        job_params_deinit(params, n_arms);
        return error_nomem(err, "a request");
    }
    *job = (struct job){.params = *params, .n_arms = n_arms, .choices = choices, .n_choices = n_choices, .refs = 1,
                        .submitted = clock_seconds()};
    *params = (struct job_params){0};
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&job->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    snprintf(job->client, sizeof job->client, "%s", client);
    snprintf(job->request, sizeof job->request, "%s", request);
    const uint64_t seed = job->params.sampling.seed;
    for (size_t i = 0; i < n_choices; i++) {
        choices[i] = (struct choice){.job = job, .prompt = &job->params.prompts[i / job->params.n_each], .index = (int32_t)i,
                                     .seed = i == 0 ? seed : rng_hash(seed, i, 0) >> 11};
    }
    const int rc = draw_id(job->id, prefix, err);
    if (rc != GENARM_OK) {
        job_free(job);
        return rc;
    }
    *out = job;
    return GENARM_OK;
}

static void fact_free(struct token_fact *f) {
    if (f) {
        free(f->items);
        free(f->parts);
        free(f);
    }
}

void job_free(struct job *job) {
    if (!job) {
        return;
    }
    for (size_t i = 0; i < job->n_choices; i++) {
        struct choice *c = &job->choices[i];
        answer_deinit(&c->answer);
        for (size_t k = 0; k < c->n_facts; k++) {
            fact_free(c->facts[k]);
        }
        free(c->facts);
    }
    job_params_deinit(&job->params, job->n_arms);
    pthread_cond_destroy(&job->changed);
    free(job->choices);
    free(job->wanted);
    free(job);
}

/* An empty fact of n items with room for n_parts numbers, at the end of the choice's. */
static struct token_fact *add_fact(struct choice *c, size_t n, size_t n_parts, struct genarm_error *err) {
    if ((c->n_facts & (c->n_facts - 1)) == 0) { /* full: the capacity is the next power of two */
        struct token_fact **facts = realloc(c->facts, sizeof(struct token_fact *) * (c->n_facts ? 2 * c->n_facts : 1));
        if (!facts) {
            error_nomem(err, "log-probabilities");
            return NULL;
        }
        c->facts = facts;
    }
    struct token_fact *f = calloc(1, sizeof *f);
    if (f) {
        f->n = n;
        f->items = calloc(n, sizeof *f->items);
        f->parts = calloc(n_parts + 1, sizeof *f->parts);
    }
    if (!f || !f->items || !f->parts) {
        fact_free(f);
        error_nomem(err, "log-probabilities");
        return NULL;
    }
    return c->facts[c->n_facts++] = f;
}

/* Copies n tokens, with their ARMs' log-probabilities, into a fact from item `first` on. */
static void fill_items(struct token_fact *f, size_t first, const struct genarm_token_logprob *from, size_t n, size_t n_arms) {
    for (size_t i = 0; i < n; i++) {
        float *arms = f->parts + (first + i) * n_arms;
        memcpy(arms, from[i].arms, n_arms * sizeof *arms);
        f->items[first + i] = from[i];
        f->items[first + i].arms = arms;
    }
}

int choice_add_kept(struct choice *c, size_t start, struct genarm_error *err) {
    size_t n = 0;
    const size_t n_arms = c->job->n_arms;
    const struct genarm_token_logprob *kept = genarm_session_logprobs(c->session, &n);
    struct token_fact *f = add_fact(c, n, n * n_arms, err);
    if (!f) {
        return GENARM_ENOMEM;
    }
    fill_items(f, 0, kept, n, n_arms);
    const size_t before = start < c->answer.text.len ? start : c->answer.text.len; /* a stop text cuts */
    if (before > c->n_bytes) {
        c->n_characters += utf8_length(c->answer.text.data + c->n_bytes, before - c->n_bytes);
        c->n_bytes = before;
    }
    f->at = c->n_characters;
    f->start = start;
    /* Cut by a stop text, it goes on behind what is shown. */
    f->end = c->answer.text.len + (c->answer.stopped_by < 0 ? c->answer.tail.n : 1);
    return GENARM_OK;
}

int choice_add_score(struct choice *c, const struct genarm_token_score *score, struct genarm_error *err) {
    const size_t n_arms = c->job->n_arms, n = 1 + score->n_top;
    const struct genarm_token_logprob own = {.token = score->token, .guided = score->guided, .base = score->base,
                                             .arms = score->arms};
    struct token_fact *f = add_fact(c, n, (n + 1) * n_arms, err);
    if (!f) {
        return GENARM_ENOMEM;
    }
    fill_items(f, 0, &own, 1, n_arms);
    fill_items(f, 1, score->top, score->n_top, n_arms);
    f->reference = f->parts + n * n_arms;
    memcpy(f->parts + n * n_arms, score->reference, n_arms * sizeof *f->parts);
    f->of_prompt = !c->job->params.response;
    return GENARM_OK;
}

size_t choice_n_told(const struct choice *c, size_t from) {
    const struct answer *a = &c->answer;
    const bool ended = c->state == CHOICE_DONE;
    size_t n = from;
    while (n < c->n_facts) {
        const struct token_fact *f = c->facts[n];
        const bool shown = f->of_prompt || f->end <= a->n_shown || (ended && (a->stopped_by < 0 || f->start < a->n_shown));
        if (!shown) {
            break;
        }
        n++;
    }
    return n;
}
