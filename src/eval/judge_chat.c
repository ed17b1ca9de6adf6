/* openai: a model behind an OpenAI-compatible server, shown two answers and asked for [[A]], [[B]] or [[C]] (docs/judge.md). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "eval/judge_kinds.h"
#include "reward/chat_client.h"
#include "reward/chat_prompt.h"

enum { PROMPT_MAX = 256 << 20 /* bytes */, TOKEN_MAX = 64 /* bytes */ };

struct judge_chat {
    struct chat_client *client;
    struct chat_prompt prompt;
};

struct judge_chat_round {
    struct judge_chat *j;
    struct judge_round *r;
};

static int judge_chat_ask(json_t **messages, size_t question, void *user, struct genarm_error *err) {
    const struct judge_chat_round *c = user;
    int first;
    const struct judge_pair *pair = judge_question(c->r, question, &first);
    struct buf prompt;
    buf_init(&prompt, PROMPT_MAX);
    int rc = chat_prompt_conversation(&prompt, pair->messages, pair->n_messages, err);
    if (rc == GENARM_OK) {
        const struct chat_field fields[] = {
            {"prompt", prompt.data ? prompt.data : ""}, {"a", pair->texts[first]}, {"b", pair->texts[!first]}};
        rc = chat_prompt_fill(messages, &c->j->prompt, fields, 3, err);
    }
    buf_deinit(&prompt);
    return rc;
}

/* ---- replies ---- */

static bool is_verdict(const char *word, size_t n) { return n == 1 && *word >= 'A' && *word <= 'C'; }

/* exp of the log-probability of a token among the likeliest at its place; 0 where it is none of them. */
static double probability(const json_t *place, const char *token) {
    size_t i;
    const json_t *top = json_object_get(place, "top_logprobs"), *item;
    if (strcmp(json_string_value(json_object_get(place, "token")), token) == 0) {
        return exp(json_number_value(json_object_get(place, "logprob")));
    }
    json_array_foreach(top, i, item) {
        const char *other = json_string_value(json_object_get(item, "token"));
        const json_t *logprob = json_object_get(item, "logprob");
        if (other && json_is_number(logprob) && strcmp(other, token) == 0) {
            return exp(json_number_value(logprob));
        }
    }
    return 0;
}

/* How likely A is better, a tie counting half: (P(A) + P(C) / 2) / (P(A) + P(B) + P(C)) where the byte `at` of the reply was
 * drawn, from the log-probabilities of its tokens; a verdict that is not among the likeliest has none. NaN: they are not told. */
static double judge_chat_p_first(const struct chat_reply *reply, size_t at) {
    size_t i, start = 0;
    const json_t *place;
    json_array_foreach(reply->logprobs, i, place) {
        const char *token = json_string_value(json_object_get(place, "token"));
        const size_t n = strlen(token);
        if (at >= start + n) {
            start += n;
            continue;
        }
        if (n >= TOKEN_MAX || strncmp(reply->text + start, token, n) != 0) {
            return NAN; /* tokens that do not spell the reply */
        }
        char other[TOKEN_MAX];
        double p[3], sum = 0;
        memcpy(other, token, n + 1);
        for (int k = 0; k < 3; k++) {
            other[at - start] = (char)('A' + k);
            sum += p[k] = probability(place, other);
        }
        return sum > 0 ? (p[0] + p[2] / 2) / sum : NAN;
    }
    return NAN;
}

static int judge_chat_take(size_t question, const struct chat_reply *reply, void *user, struct genarm_error *err) {
    struct judge_chat_round *c = user;
    struct judge_answer answer = {.reply = reply->text,
                                  .refusal = reply->refusal,
                                  .p_first = NAN,
                                  .prompt_tokens = reply->prompt_tokens,
                                  .completion_tokens = reply->completion_tokens};
    const char *at;
    size_t n;
    if (reply->text && chat_find_mark(&at, &n, reply->text, is_verdict)) {
        answer.said = *at == 'A' ? SAID_FIRST : *at == 'B' ? SAID_SECOND : SAID_EQUAL;
        answer.p_first = judge_chat_p_first(reply, (size_t)(at - reply->text));
    }
    return judge_answered(c->r, question, &answer, err);
}

/* ---- the kind ---- */

static int judge_chat_run(void *self, struct judge_round *r, size_t *at, struct genarm_error *err) {
    struct judge_chat_round c = {self, r};
    const struct chat_batch batch = {.n = r->n_questions, .ask = judge_chat_ask, .take = judge_chat_take, .user = &c};
    const int rc = chat_client_ask(c.j->client, &batch, at, err);
    *at /= r->per_pair;
    return rc;
}

static struct genarm_judge_stats judge_chat_stats(const void *self) {
    const struct judge_chat *j = self;
    return chat_client_stats(j->client);
}

static void judge_chat_free(void *self) {
    struct judge_chat *j = self;
    if (j) {
        chat_client_free(j->client);
        chat_prompt_deinit(&j->prompt);
        free(j);
    }
}

static const struct judge_vtable judge_chat_vtable = {
    .run = judge_chat_run, .stats = judge_chat_stats, .free = judge_chat_free};

int judge_chat_new(const struct judge_vtable **vtable, void **self, const struct source_spec *spec,
                   const struct judge_params *params, struct genarm_error *err) {
    static const char *const names[] = {"prompt", "a", "b", NULL};
    struct chat_params chat;
    struct judge_chat *j = calloc(1, sizeof *j);
    int rc = j ? chat_prompt_load(&j->prompt, params->source.judge.prompt, judge_text_pairwise, names, err)
               : error_nomem(err, "a judge");
    if (rc == GENARM_OK) {
        openai_chat_params(&chat, spec, &params->source);
        chat.n_logprobs = params->n_logprobs;
        rc = chat_client_new(&j->client, &chat, err);
    }
    if (rc != GENARM_OK) {
        judge_chat_free(j);
        return rc;
    }
    *vtable = &judge_chat_vtable;
    *self = j;
    return GENARM_OK;
}
