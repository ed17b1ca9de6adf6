/* A client of OpenAI-compatible chat-completion servers, for models that judge: many requests, several in flight, retries,
 * a cache on disk (docs/judge.md).
 *
 * The key comes from an environment variable and goes nowhere but into the Authorization header: where a server's reply
 * repeats it, it is blotted out of all that is read of the reply.
 *
 * chat_client.c is the loop of requests, chat_wire.c what is sent and what replies mean, chat_cache.c the files. One thread
 * uses a client.
 */
#ifndef REWARD_CHAT_CLIENT_H
#define REWARD_CHAT_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "genarm/source.h"

struct chat_client;

struct chat_params {
    const char *model;
    const char *base_url; /* http(s)://HOST[:PORT][/PATH], without a path /v1; "/chat/completions" is added */
    const char *key_env;  /* variable that has the key and must be set; NULL: OPENAI_API_KEY, if it is set */
    const char *cache;    /* folder, made if missing; NULL: none */
    int32_t n_parallel;   /* requests in flight, >= 1 */
    int32_t n_retries;    /* of one request, on 429, 5xx, no connection and replies that are no JSON */
    double timeout;       /* seconds of one attempt */
    int32_t max_tokens;   /* of a reply */
    const char *body;     /* JSON object: members of the body besides, null: without that one; NULL: none */
    bool answered;        /* requests like these were answered before: refusals do not blame the settings */
    int32_t n_logprobs;   /* likeliest tokens to tell at each place of a reply; 0: none */
    int (*stop)(void *user); /* asked several times a second; not 0 stops with GENARM_ECANCELED; NULL: never */
    void *stop_user;
};

/* Strings are copied. GENARM_EINVAL: the URL, the key or the body cannot be used; errors never show the key. */
int chat_client_new(struct chat_client **out, const struct chat_params *params, struct genarm_error *err);
void chat_client_free(struct chat_client *c); /* NULL is fine */

struct chat_reply {
    const char *text;          /* what the model said, "" if nothing; NULL: the server refused the request */
    const char *finish_reason; /* "" if it is not told */
    const json_t *logprobs;    /* [{"token", "logprob", "top_logprobs": [{"token", "logprob"}]}], or NULL */
    int64_t prompt_tokens, completion_tokens; /* 0 where the server does not tell */
    const char *refusal; /* why `text` is NULL */
};

/* Requests 0 .. n. The callbacks are called by chat_client_ask alone; a code that is not 0 ends it. */
struct chat_batch {
    size_t n;
    int (*ask)(json_t **messages, size_t i, void *user, struct genarm_error *err); /* *messages: a new reference */
    int (*take)(size_t i, const struct chat_reply *reply, void *user, struct genarm_error *err); /* in any order */
    void *user;
};

/* Asks all of them. A request that the server refuses for what it asks (a status 4xx but for 401, 402, 404, 405, 408 and 429)
 * has a reply without text. Those before the first answer are held back until there is one or the call ends; when eight of all
 * calls have come and no answer, the settings are at fault, and that is GENARM_EIO, as is everything that retries did not help.
 * Whether fewer were all of a run, its end knows. On failure *at is the request at fault. */
int chat_client_ask(struct chat_client *c, const struct chat_batch *batch, size_t *at, struct genarm_error *err);

/* Since the client was made; who reads the replies knows n_abstained, which is 0. Tokens are those of requests that were sent,
 * not of the cache. */
struct genarm_judge_stats chat_client_stats(const struct chat_client *c);

#endif
