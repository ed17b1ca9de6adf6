/* From a request for answers to its reply: queue the job, wait for it, and tell it whole or as server-sent events while it grows.
 * What differs between the kinds of the API is a dialect. */
#ifndef SERVE_CONVERSE_H
#define SERVE_CONVERSE_H

#include "serve/request.h"
#include "serve/told.h"

/* Something new of one choice. */
struct piece {
    const struct choice *choice; /* read only what does not change, or under the worker's lock */
    const char *text;            /* what its text has grown by; "" */
    size_t n_text;
    struct token_fact *const *facts; /* [n_facts] with log-probabilities */
    size_t n_facts, facts_at;    /* facts_at: those before */
    const int32_t *tokens;       /* [n_tokens] */
    size_t n_tokens, tokens_at;  /* tokens_at: those before */
    bool first, last;            /* of the choice; the last one comes by itself, without text */
};

struct conversation;

struct dialect {
    const char *prefix; /* of ids */
    const char *logprobs; /* the field that says how many log-probabilities a token has */
    bool done;          /* a stream ends in [DONE] */
    const struct field *fields; /* [n_fields] of struct request */
    size_t n_fields;
    /* Sets the prompts of a job, and checks what is this dialect's alone. Before request_params. */
    int (*read)(struct job_params *out, const struct serve_model *m, struct request *r, struct genarm_error *err);
    /* The whole reply, of a job that has ended: nobody changes it any longer. */
    json_t *(*whole)(struct conversation *c);
    /* One event. */
    json_t *(*event)(struct conversation *c, const struct piece *piece);
    /* One more event behind the last one with what the request was in sum, if it is asked for; may be NULL. */
    json_t *(*usage)(struct conversation *c);
};

struct conversation {
    struct server *server;
    const struct serve_model *model;
    const struct dialect *dialect;
    struct request request; /* its JSON and its texts are gone */
    struct job *job;
    struct reader *readers; /* [n_choices] */
    int64_t created;
    struct buf text;        /* scratch */
    size_t n_ended;         /* choices whose last piece was told */
    bool begun, over;       /* the first events were told; the last */
};

/* Answers a call. */
void converse(struct http_call *call, struct server *s, const struct dialect *dialect);

/* What dialects add: "arms", and "timings" and "seed" of a choice, to a whole reply; to an event "usage": null where it comes last,
 * and to the last one of all the same as to a whole reply; the event with the usage, NULL where it is not asked for. Takes over
 * `head`. */
void converse_add_facts(json_t *reply, const struct conversation *c, const struct choice *choice);
void converse_add_to_event(json_t *event, struct conversation *c, const struct piece *piece);
json_t *converse_usage_event(struct conversation *c, json_t *head);

/* The two forms that OpenAI's kinds share: an event of one choice, whose news is the member `what`, and the whole reply. All
 * values are taken over; NULL without memory. */
json_t *converse_event(struct conversation *c, const struct piece *piece, json_t *head, const char *what, json_t *news,
                       json_t *logprobs);
json_t *converse_whole(const struct conversation *c, json_t *head, json_t *choices);

/* Waits until the job is done, its client gone, or it could not be queued: then it was answered and NULL is returned. For
 * converse_end. */
struct job *converse_run(struct http_call *call, struct server *s, const char *prefix, struct job_params *params,
                         bool until_done);

/* Logs what came of a job and releases it, when its reply is over. */
void converse_end(struct server *s, struct job *job);

#endif
