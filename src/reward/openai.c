/* openai: a model behind an OpenAI-compatible server, asked to rate a response. What is no rating in the form that its prompt
 * asks for is no reward: the source abstains. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reward/chat_client.h"
#include "reward/chat_prompt.h"
#include "reward/source.h"

enum { TEXT_MAX = 256 << 20, SHOWN = 120 /* bytes */ };

struct openai {
    struct chat_client *client;
    struct chat_prompt prompt;
    const char *name; /* borrowed */
    int64_t n_abstained;
};

/* One call of score. */
struct round {
    struct openai *o;
    const struct genarm_sample *samples;
    double *values;
};

static int ask(json_t **messages, size_t i, void *user, struct genarm_error *err) {
    const struct round *r = user;
    const struct genarm_sample *s = &r->samples[i];
    struct buf prompt;
    buf_init(&prompt, TEXT_MAX);
    int rc = chat_prompt_conversation(&prompt, s->messages, s->n_messages, err);
    if (rc == GENARM_OK) {
        const struct chat_field fields[] = {{"prompt", prompt.data ? prompt.data : ""}, {"response", s->response}};
        rc = chat_prompt_fill(messages, &r->o->prompt, fields, 2, err);
    }
    buf_deinit(&prompt);
    return rc;
}

static int take(size_t i, const struct chat_reply *reply, void *user, struct genarm_error *err) {
    const struct round *r = user;
    (void)err;
    if (!reply->text || !chat_find_score(&r->values[i], &r->o->prompt, reply->text)) {
        r->values[i] = NAN;
        if (r->o->n_abstained++ == 0) {
            log_line(GENARM_LOG_WARN, "reward %s: no rating, which may happen again: \"%.*s\"", r->o->name, SHOWN,
                     reply->text ? reply->text : reply->refusal);
        }
    }
    return GENARM_OK;
}

static int openai_score(void *self, const struct genarm_sample *samples, size_t n, double *values, size_t *at,
                        struct genarm_error *err) {
    struct round r = {self, samples, values};
    const struct chat_batch batch = {.n = n, .ask = ask, .take = take, .user = &r};
    return chat_client_ask(r.o->client, &batch, at, err);
}

static struct genarm_judge_stats openai_stats(const void *self) {
    const struct openai *o = self;
    struct genarm_judge_stats stats = chat_client_stats(o->client);
    stats.n_abstained = o->n_abstained;
    return stats;
}

static void openai_free(void *self) {
    struct openai *o = self;
    if (o) {
        chat_client_free(o->client);
        chat_prompt_deinit(&o->prompt);
        free(o);
    }
}

static const struct source_vtable openai_vtable = {.score = openai_score, .free = openai_free, .stats = openai_stats};

void openai_chat_params(struct chat_params *out, const struct source_spec *spec, const struct genarm_source_params *params) {
    *out = (struct chat_params){.model = spec->part.path,
                                .base_url = spec->part.adapter,
                                .key_env = params->judge.key_env,
                                .cache = params->judge.cache,
                                .n_parallel = params->judge.n_parallel,
                                .n_retries = params->judge.n_retries,
                                .timeout = params->timeout,
                                .max_tokens = params->judge.max_tokens,
                                .body = params->judge.body,
                                .answered = params->judge.answered,
                                .stop = params->stop,
                                .stop_user = params->stop_user};
}

int openai_new(const struct source_vtable **vtable, void **self, const struct source_spec *spec,
               const struct genarm_model *base, const struct genarm_source_params *params, struct genarm_error *err) {
    static const char *const names[] = {"prompt", "response", NULL};
    struct chat_params chat;
    (void)base;
    struct openai *o = calloc(1, sizeof *o);
    if (!o) {
        return error_nomem(err, "a reward source");
    }
    o->name = spec->part.name;
    int rc = chat_prompt_load(&o->prompt, params->judge.prompt, judge_text_score, names, err);
    if (rc == GENARM_OK) {
        openai_chat_params(&chat, spec, params);
        rc = chat_client_new(&o->client, &chat, err);
    }
    if (rc != GENARM_OK) {
        openai_free(o);
        return rc;
    }
    *vtable = &openai_vtable;
    *self = o;
    return GENARM_OK;
}
