/* What the server counts, as Prometheus reads it. Thread-safe. */
#ifndef SERVE_METRICS_H
#define SERVE_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct metrics;

/* `arms`: [n_arms] names, borrowed. */
int metrics_new(struct metrics **out, struct genarm_error *err);
void metrics_free(struct metrics *m); /* NULL is fine */
/* Which ARMs there are, once they are known; names are borrowed. */
int metrics_set_arms(struct metrics *m, const char *const *names, size_t n, struct genarm_error *err);

enum metrics_sum {
    METRICS_PROMPT_TOKENS, /* of prompts that were given */
    METRICS_PROMPT_REUSED, /* of those, known before */
    METRICS_TOKENS,        /* of answers */
    METRICS_DRAFTED,
    METRICS_ACCEPTED,
    METRICS_SCORED,
    METRICS_CANCELED, /* choices whose client was gone */
    METRICS_REFUSED,  /* requests that found the queue full */
    METRICS_N_SUMS
};
void metrics_add(struct metrics *m, enum metrics_sum which, double n);

enum metrics_time { METRICS_STEP, METRICS_FIRST_TOKEN, METRICS_REQUEST, METRICS_QUEUE, METRICS_N_TIMES };
void metrics_time(struct metrics *m, enum metrics_time which, double seconds);

void metrics_arm_tokens(struct metrics *m, size_t arm, double n); /* steered by it with a weight other than 0 */
void metrics_request(struct metrics *m, const char *route, int status);

/* What is as it is now, for a scrape. */
struct metrics_state {
    int32_t n_running, n_queued, n_slots, n_connections;
    double uptime;
};
int metrics_write(struct metrics *m, const struct metrics_state *state, struct buf *out, struct genarm_error *err);

#endif
