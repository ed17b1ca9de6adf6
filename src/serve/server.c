/* See server.h. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/progress.h"
#include "base/utf8.h"
#include "serve/api.h"

static const double last_words = 5; /* seconds in which the ends of answers that were cut short reach their clients */

static void observe(const char *route, int status, double seconds, void *user) {
    struct server *s = user;
    counters_request(s->counters, route, status);
    counters_time(s->counters, COUNT_REQUEST, seconds);
}

int server_new(struct server **out, const struct server_params *params, struct genarm_error *err) {
    struct server *s = calloc(1, sizeof *s);
    if (!s) {
        return error_nomem(err, "the server");
    }
    s->p = *params;
    s->started = clock_seconds();
    s->created = (int64_t)time(NULL);
    pthread_rwlock_init(&s->lock, NULL);
    const struct http_params http = {
        .host = params->host, .port = params->port, .max_body = params->max_body, .max_connections = params->max_connections,
        .timeout = params->timeout, .keys = params->keys, .n_keys = params->n_keys, .cors = params->cors, .routes = server_routes,
        .n_routes = n_server_routes, .log = params->log, .user = s};
    int rc = counters_new(&s->counters, err);
    rc = rc == GENARM_OK ? http_server_new(&s->http, &http, err) : rc;
    if (rc != GENARM_OK) {
        server_free(s);
        return rc;
    }
    http_server_observe(s->http, observe, s);
    *out = s;
    return GENARM_OK;
}

int32_t server_port(const struct server *s) { return http_server_port(s->http); }
bool server_is_local(const struct server *s) { return http_server_is_local(s->http); }

/* A file's name without .gguf. */
static char *default_alias(const char *file) {
    const size_t n = strlen(file);
    return strndup(file, n > 5 && strcmp(file + n - 5, ".gguf") == 0 ? n - 5 : n);
}

int server_load(struct server *s, const struct serve_model *model, struct genarm_error *err) {
    const struct worker_params params = {.model = model, .max_queue = s->p.max_queue, .counters = s->counters};
    struct worker *worker = NULL;
    const char **names = calloc(model->n_arms + 1, sizeof *names);
    float *weights = calloc(model->n_arms + 1, sizeof *weights);
    char *alias = s->p.alias ? strdup(s->p.alias) : default_alias(model->file);
    int rc = names && weights && alias ? GENARM_OK : error_nomem(err, "the server");
    utf8_clean(alias ? alias : (char[1]){0}); /* it is said in JSON */
    for (size_t i = 0; i < model->n_arms && rc == GENARM_OK; i++) {
        names[i] = model->arms[i].name;
        if (!utf8_valid(names[i], strlen(names[i]))) {
            rc = error_set(err, GENARM_EINVAL, "the name of ARM %zu is not UTF-8: it cannot be said in JSON", i);
        }
        weights[i] = model->arms[i].weight;
    }
    rc = rc == GENARM_OK ? counters_set_arms(s->counters, names, model->n_arms, err) : rc;
    rc = rc == GENARM_OK ? worker_new(&worker, &params, err) : rc;
    free(names);
    if (rc != GENARM_OK) {
        free(weights);
        free(alias);
        return rc;
    }
    pthread_rwlock_wrlock(&s->lock);
    s->model = model;
    s->worker = worker;
    s->weights = weights;
    s->alias = alias;
    pthread_rwlock_unlock(&s->lock);
    return GENARM_OK;
}

/* libmicrohttpd stops by cutting all connections: what is being answered, or is on its way to its client, comes first. Idle
 * connections are closed meanwhile, so that none are left when all is said. */
static void wait_for_replies(const struct server *s, double seconds) {
    const struct timespec moment = {.tv_nsec = 10 * 1000 * 1000};
    const double until = clock_seconds() + seconds;
    while (http_server_n_connections(s->http) > 0 && clock_seconds() < until) {
        nanosleep(&moment, NULL);
    }
}

void server_stop(struct server *s, double grace) {
    atomic_store(&s->stopping, true);
    http_server_quiesce(s->http);
    if (s->worker) {
        worker_stop(s->worker, grace);
    }
    wait_for_replies(s, grace + last_words);
}

void server_free(struct server *s) {
    if (!s) {
        return;
    }
    if (s->worker) {
        worker_stop(s->worker, 1e9); /* as said before, if it was */
        worker_join(s->worker);      /* answers have come to their end before their connections do */
    }
    http_server_free(s->http); /* when the last reply is sent, nobody uses the worker */
    worker_free(s->worker);
    counters_free(s->counters);
    pthread_rwlock_destroy(&s->lock);
    free(s->weights);
    free(s->alias);
    free(s);
}
