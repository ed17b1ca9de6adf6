/* What a request asks of the model, and what comes of it: made by the thread of a connection, run by the worker, read by the
 * thread again while it grows.
 *
 * A job has one choice or several: answers to the same prompt, or to several. The two threads share a job under the worker's
 * lock; each holds a reference, and the last one frees it.
 */
#ifndef SERVE_JOB_H
#define SERVE_JOB_H

#include <jansson.h>
#include <pthread.h>

#include "guide/answer.h"
#include "guide/session.h"
#include "serve/model.h"

enum { JOB_ID_LENGTH = 48, CLIENT_LENGTH = 64 };

struct job_prompt {
    struct genarm_message *messages; /* [n_messages] their strings are the request's; NULL once they are tokens */
    size_t n_messages;
    struct prompt_tokens *each; /* what the messages are to each policy; NULL: there were none */
    int32_t *tokens; /* [n_tokens] seen by every policy without a template; NULL: at least so many, which do not fit */
    size_t n_tokens;
};

struct job_preference {
    float *weights; /* [n] */
    size_t n;       /* 0: by default */
};

struct job_schedule {
    struct genarm_knot *knots; /* [n] */
    size_t n;                  /* 0: none */
};

/* All of it is owned by the job. */
struct job_params {
    json_t *source;             /* the request, whose strings messages are; NULL once they are tokens */
    struct job_prompt *prompts; /* [n_prompts] */
    size_t n_prompts, n_each;   /* choices of each prompt */
    int32_t n_predict;          /* -1: no limit */
    struct genarm_sampling sampling; /* the seed of the first choice; others draw from theirs */
    float *weights;                  /* [n_arms] */
    struct job_preference *preferences; /* [n_arms] */
    struct job_schedule *schedules;     /* [n_arms] */
    struct genarm_token_bias *biases;   /* [n_biases] */
    size_t n_biases;
    float min_entropy;
    struct genarm_grammar *grammar; /* NULL: none */
    struct genarm_stop *stop;       /* NULL: none */
    int32_t n_logprobs;             /* likeliest tokens that are kept; -1: no log-probabilities */
    bool score_prompt;              /* the prompt's tokens too have log-probabilities: only of prompts given as tokens */
    int32_t *response;              /* [n_response] is scored, nothing is generated; NULL: an answer is generated */
    size_t n_response;              /* without a response: what one has at least that is too long to be counted */
};
void job_params_deinit(struct job_params *p, size_t n_arms); /* safe on a zeroed struct */

/* Turns messages into tokens, here rather than in the worker's thread, lets go of the request, which may be large, and sees
 * whether all fits in the context: GENARM_ECONTEXT, and *n_tokens says what did not. */
int job_params_fit(struct job_params *p, const struct serve_model *m, int32_t *n_tokens, struct genarm_error *err);

/* A token of an answer with its log-probabilities. Does not change once it is published. */
struct token_fact {
    struct genarm_token_logprob *items; /* [n] itself, then the likeliest ones, best first */
    size_t n;
    float *parts;           /* what the items' arms, and `reference`, point into */
    const float *reference; /* [n_arms] of a scored token, as in genarm_token_score; else NULL */
    size_t at;              /* characters of the answer's text before it */
    size_t start, end;      /* of its text, in bytes of the answer's; a character that is not complete yet counts in `end` */
    bool of_prompt;
};

enum choice_state { CHOICE_WAITING, CHOICE_SCORING, CHOICE_PREFILLING, CHOICE_RUNNING, CHOICE_DONE };

struct choice {
    struct job *job;
    const struct job_prompt *prompt;
    int32_t index; /* in the job */
    struct choice *next; /* in the queue */
    struct genarm_session *session; /* the worker's; NULL when not in a slot */
    int32_t slot;
    size_t n_scored;         /* tokens of what is to be scored */
    /* What follows is shared. */
    enum choice_state state;
    struct answer answer;
    struct token_fact **facts; /* [n_facts] where log-probabilities are kept */
    size_t n_facts;
    size_t n_characters, n_bytes; /* of the text's first n_bytes, as far as they were counted for the facts */
    int32_t n_prompt, n_reused; /* tokens of the base's prompt */
    uint64_t seed;
    double began;            /* when it got its slot */
    size_t n_before;         /* tokens that it had when the weights were changed last */
    struct genarm_draft_stats drafts;
    struct genarm_error error; /* code 0: none */
};

struct job {
    struct job_params params;
    size_t n_arms;
    char id[JOB_ID_LENGTH];
    char client[CLIENT_LENGTH];
    char request[72];  /* the HTTP request's id, for the log */
    double arrived, submitted, deadline; /* of clock_seconds: its request, itself; 0: no deadline */
    struct choice *choices; /* [n_choices] */
    size_t n_choices;
    /* Shared: */
    size_t n_done;
    struct genarm_error error; /* of the first choice that failed; code 0: none has */
    bool canceled;
    float *wanted;   /* [n_arms] weights that the worker is to set; NULL: no change */
    size_t n_changes; /* that it has made */
    int32_t refs;
    pthread_cond_t changed;
};

/* Takes over *params, also on failure. `prefix`: of the id, such as "chatcmpl-". One reference is the caller's. */
int job_new(struct job **out, const char *prefix, const char *client, const char *request, struct job_params *params,
            size_t n_arms, struct genarm_error *err);
void job_free(struct job *job); /* when nobody holds it any longer; NULL is fine */

/* Adds the log-probabilities that the session kept of the answer's last token, whose text begins at `start`. */
int choice_add_kept(struct choice *c, size_t start, struct genarm_error *err);
/* Adds those of a scored token. */
int choice_add_score(struct choice *c, const struct genarm_token_score *score, struct genarm_error *err);

/* How many of the facts may be told, the first `from` of which were: those whose text is shown. It never becomes less. */
size_t choice_n_told(const struct choice *c, size_t from);

#endif
