/* See counters.h. */
#include "serve/counters.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_BOUNDS = 14, ROUTE_LENGTH = 48, MAX_ROUTES = 256 };

/* Upper ends of the histograms' buckets, in seconds. */
static const double bounds[N_BOUNDS] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300};

struct histogram {
    uint64_t counts[N_BOUNDS + 1];
    double sum;
};

struct route_count {
    char route[ROUTE_LENGTH];
    int status;
    uint64_t n;
};

struct counters {
    pthread_mutex_t lock;
    double sums[COUNT_N_SUMS];
    struct histogram times[COUNT_N_TIMES];
    struct route_count routes[MAX_ROUTES]; /* [n_routes] there are few: routes are those of the table */
    size_t n_routes;
    const char **arms; /* [n_arms] */
    double *arm_tokens;
    size_t n_arms;
};

static const struct {
    const char *name, *help;
} sums[COUNT_N_SUMS] = {
    [COUNT_PROMPT_TOKENS] = {"genarm_prompt_tokens_total", "Tokens of prompts."},
    [COUNT_PROMPT_REUSED] = {"genarm_prompt_tokens_reused_total", "Tokens of prompts that were known from an earlier one."},
    [COUNT_TOKENS] = {"genarm_tokens_total", "Tokens of answers."},
    [COUNT_DRAFTED] = {"genarm_draft_tokens_total", "Tokens that were drafted."},
    [COUNT_ACCEPTED] = {"genarm_draft_accepted_total", "Drafted tokens that were accepted."},
    [COUNT_SCORED] = {"genarm_scored_tokens_total", "Tokens of given texts that were scored."},
    [COUNT_CANCELED] = {"genarm_canceled_total", "Answers whose client had gone."},
    [COUNT_REFUSED] = {"genarm_refused_total", "Requests that found the queue full."},
}, times[COUNT_N_TIMES] = {
    [COUNT_STEP] = {"genarm_step_seconds", "One step of all answers that run."},
    [COUNT_FIRST_TOKEN] = {"genarm_time_to_first_token_seconds", "From a request's arrival to its first token."},
    [COUNT_REQUEST] = {"genarm_request_seconds", "Requests, from head to reply."},
    [COUNT_QUEUE] = {"genarm_queue_seconds", "Waiting for a slot."},
};

int counters_new(struct counters **out, struct genarm_error *err) {
    struct counters *m = calloc(1, sizeof *m);
    if (!m) {
        return error_nomem(err, "metrics");
    }
    pthread_mutex_init(&m->lock, NULL);
    *out = m;
    return GENARM_OK;
}

void counters_free(struct counters *m) {
    if (m) {
        pthread_mutex_destroy(&m->lock);
        free(m->arms);
        free(m->arm_tokens);
        free(m);
    }
}

int counters_set_arms(struct counters *m, const char *const *names, size_t n, struct genarm_error *err) {
    const char **arms = calloc(n + 1, sizeof *arms);
    double *tokens = calloc(n + 1, sizeof *tokens);
    if (!arms || !tokens) {
        free(arms);
        free(tokens);
        return error_nomem(err, "metrics");
    }
    memcpy(arms, names, n * sizeof *arms);
    pthread_mutex_lock(&m->lock);
    m->arms = arms;
    m->arm_tokens = tokens;
    m->n_arms = n;
    pthread_mutex_unlock(&m->lock);
    return GENARM_OK;
}

void counters_add(struct counters *m, enum counters_sum which, double n) {
    pthread_mutex_lock(&m->lock);
    m->sums[which] += n;
    pthread_mutex_unlock(&m->lock);
}

void counters_arm_tokens(struct counters *m, size_t arm, double n) {
    pthread_mutex_lock(&m->lock);
    m->arm_tokens[arm] += n;
    pthread_mutex_unlock(&m->lock);
}

void counters_time(struct counters *m, enum counters_time which, double seconds) {
    size_t i = 0;
    while (i < N_BOUNDS && seconds > bounds[i]) {
        i++;
    }
    pthread_mutex_lock(&m->lock);
    m->times[which].counts[i]++;
    m->times[which].sum += seconds;
    pthread_mutex_unlock(&m->lock);
}

void counters_request(struct counters *m, const char *route, int status) {
    size_t i = 0;
    pthread_mutex_lock(&m->lock);
    while (i < m->n_routes && (m->routes[i].status != status || strcmp(m->routes[i].route, route) != 0)) {
        i++;
    }
    if (i == m->n_routes && i < MAX_ROUTES) {
        snprintf(m->routes[i].route, ROUTE_LENGTH, "%s", route);
        m->routes[i].status = status;
        m->n_routes++;
    }
    if (i < m->n_routes) {
        m->routes[i].n++;
    }
    pthread_mutex_unlock(&m->lock);
}

/* ---- as text ---- */

static int begin(struct buf *out, const char *name, const char *help, const char *type, struct genarm_error *err) {
    return buf_printf(out, err, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static int write_value(struct buf *out, const char *name, const char *help, const char *type, double value,
                       struct genarm_error *err) {
    const int rc = begin(out, name, help, type, err);
    return rc == GENARM_OK ? buf_printf(out, err, "%s %.15g\n", name, value) : rc;
}

/* A label's value: backslashes, quotes and line ends are escaped. */
static int write_label(struct buf *out, const char *value, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (const char *p = value; *p && rc == GENARM_OK; p++) {
        rc = *p == '\n'                ? buf_puts(out, "\\n", err)
             : *p == '"' || *p == '\\' ? buf_printf(out, err, "\\%c", *p)
                                       : buf_append(out, p, 1, err);
    }
    return rc;
}

static int write_histogram(struct buf *out, const struct histogram *h, const char *name, const char *help,
                           struct genarm_error *err) {
    uint64_t n = 0;
    int rc = begin(out, name, help, "histogram", err);
    for (size_t i = 0; i < N_BOUNDS && rc == GENARM_OK; i++) {
        n += h->counts[i];
        rc = buf_printf(out, err, "%s_bucket{le=\"%g\"} %llu\n", name, bounds[i], (unsigned long long)n);
    }
    n += h->counts[N_BOUNDS];
    return rc == GENARM_OK ? buf_printf(out, err, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9g\n%s_count %llu\n", name,
                                        (unsigned long long)n, name, h->sum, name, (unsigned long long)n)
                           : rc;
}

static int write_routes(struct buf *out, const struct counters *m, struct genarm_error *err) {
    int rc = begin(out, "genarm_requests_total", "Requests by route and status.", "counter", err);
    for (size_t i = 0; i < m->n_routes && rc == GENARM_OK; i++) {
        rc = buf_puts(out, "genarm_requests_total{route=\"", err);
        rc = rc == GENARM_OK ? write_label(out, m->routes[i].route, err) : rc;
        rc = rc == GENARM_OK
                 ? buf_printf(out, err, "\",status=\"%d\"} %llu\n", m->routes[i].status, (unsigned long long)m->routes[i].n)
                 : rc;
    }
    return rc;
}

static int write_arms(struct buf *out, const struct counters *m, struct genarm_error *err) {
    int rc = begin(out, "genarm_arm_tokens_total", "Tokens of answers that an ARM steered.", "counter", err);
    for (size_t i = 0; i < m->n_arms && rc == GENARM_OK; i++) {
        rc = buf_puts(out, "genarm_arm_tokens_total{arm=\"", err);
        rc = rc == GENARM_OK ? write_label(out, m->arms[i], err) : rc;
        rc = rc == GENARM_OK ? buf_printf(out, err, "\"} %.15g\n", m->arm_tokens[i]) : rc;
    }
    return rc;
}

static int write_state(struct buf *out, const struct counters_state *s, struct genarm_error *err) {
    int rc = write_value(out, "genarm_requests_running", "Requests that are being answered.", "gauge", s->n_running, err);
    rc = rc == GENARM_OK ? write_value(out, "genarm_requests_queued", "Requests that wait for a slot.", "gauge", s->n_queued, err)
                         : rc;
    rc = rc == GENARM_OK ? write_value(out, "genarm_slots", "Answers that can be given at once.", "gauge", s->n_slots, err) : rc;
    rc = rc == GENARM_OK ? write_value(out, "genarm_slots_busy", "Answers that are being given.", "gauge", s->n_busy, err) : rc;
    rc = rc == GENARM_OK ? write_value(out, "genarm_connections", "Open connections.", "gauge", s->n_connections, err) : rc;
    rc = rc == GENARM_OK ? write_value(out, "genarm_uptime_seconds", "Since the start.", "gauge", s->uptime, err) : rc;
    rc = rc == GENARM_OK ? begin(out, "genarm_build_info", "The program's version.", "gauge", err) : rc;
    return rc == GENARM_OK ? buf_puts(out, "genarm_build_info{version=\"" GENARM_VERSION "\"} 1\n", err) : rc;
}

int counters_write(struct counters *m, const struct counters_state *state, struct buf *out, struct genarm_error *err) {
    pthread_mutex_lock(&m->lock);
    int rc = write_routes(out, m, err);
    for (size_t i = 0; i < COUNT_N_SUMS && rc == GENARM_OK; i++) {
        rc = write_value(out, sums[i].name, sums[i].help, "counter", m->sums[i], err);
    }
    rc = rc == GENARM_OK ? write_arms(out, m, err) : rc;
    for (size_t i = 0; i < COUNT_N_TIMES && rc == GENARM_OK; i++) {
        rc = write_histogram(out, &m->times[i], times[i].name, times[i].help, err);
    }
    pthread_mutex_unlock(&m->lock);
    return rc == GENARM_OK ? write_state(out, state, err) : rc;
}
