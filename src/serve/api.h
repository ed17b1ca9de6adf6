/* What the handlers share. A handler is called api_*; routes.c lists them. */
#ifndef SERVE_API_H
#define SERVE_API_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>

#include "serve/server.h"

struct server {
    struct server_params p;
    struct http_server *http;
    struct counters *counters;
    double started;    /* clock_seconds */
    int64_t created;   /* seconds since 1970 */
    char *alias;       /* NULL before a model is loaded */
    atomic_bool stopping;
    pthread_rwlock_t lock;
    /* Under the lock: */
    const struct serve_model *model; /* NULL: still loading */
    struct worker *worker;
    float *weights;    /* [n_arms] by default */
};

extern const struct http_route server_routes[];
extern const size_t n_server_routes;

http_handler api_health, api_metrics, api_props, api_models, api_model, api_slots, api_arms, api_set_arms, api_set_request_arms,
    api_chat, api_completions, api_completion, api_score, api_tokenize, api_detokenize, api_apply_template, api_openapi, api_ui;

/* The model, or NULL when it is not loaded yet: then the call was answered. */
const struct serve_model *api_model_of(struct server *s, struct http_call *call);

/* Copies the default weights. */
void api_weights(struct server *s, float *weights);

/* The body as an object of these fields, read into `out`; NULL: the call was answered. New reference, which strings in `out`
 * need. */
struct field;
json_t *api_body(struct http_call *call, const struct field *fields, size_t n, void *out);

/* Replies with what went wrong; the status follows from the code. */
void api_error(struct http_call *call, const struct genarm_error *err);
/* Status and type that an error has. */
int api_status(const struct genarm_error *err, const char **type);
/* {"code", "message", "type", "param"} */
json_t *api_error_json(const struct genarm_error *err);

/* Replies with JSON; takes over `value`, NULL means that there was no memory to make it. */
void api_reply(struct http_call *call, json_t *value);

enum { API_WEIGHT_MAX = 1000 };

int32_t api_find_arm(const struct serve_model *m, const char *name); /* -1: there is none */

json_t *api_arms_json(struct server *s); /* as GET /arms; once a model is loaded */

/* With no more digits than it takes: 1.2, not 1.20000005. New reference. */
json_t *api_float(float x);
/* Weights by the ARMs' names. New references; NULL without memory. */
json_t *api_weights_json(const struct serve_model *m, const float *weights);
/* Reads {"NAME": weight} over `weights` [n_arms]. `where`: the field. */
int api_read_weights(const struct serve_model *m, const json_t *object, const char *where, float *weights,
                     struct genarm_error *err);

#endif
