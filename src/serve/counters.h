/* What the server counts, as Prometheus reads it. Thread-safe. */
#ifndef SERVE_COUNTERS_H
#define SERVE_COUNTERS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct counters;

/* `arms`: [n_arms] names, borrowed. */
int counters_new(struct counters **out, struct genarm_error *err);
void counters_free(struct counters *m); /* NULL is fine */
/* Which ARMs there are, once they are known; names are borrowed. */
int counters_set_arms(struct counters *m, const char *const *names, size_t n, struct genarm_error *err);

enum counters_sum {
    COUNT_PROMPT_TOKENS, /* of prompts that were given */
    COUNT_PROMPT_REUSED, /* of those, known before */
    COUNT_TOKENS,        /* of answers */
    COUNT_DRAFTED,
    COUNT_ACCEPTED,
    COUNT_SCORED,
    COUNT_CANCELED, /* choices whose client was gone */
    COUNT_REFUSED,  /* requests that found the queue full */
    COUNT_N_SUMS
};
void counters_add(struct counters *m, enum counters_sum which, double n);

enum counters_time { COUNT_STEP, COUNT_FIRST_TOKEN, COUNT_REQUEST, COUNT_QUEUE, COUNT_N_TIMES };
void counters_time(struct counters *m, enum counters_time which, double seconds);

void counters_arm_tokens(struct counters *m, size_t arm, double n); /* steered by it with a weight other than 0 */
void counters_request(struct counters *m, const char *route, int status);

/* What is as it is now, for a scrape. */
struct counters_state {
    int32_t n_running, n_queued, n_slots, n_connections;
    double uptime;
};
int counters_write(struct counters *m, const struct counters_state *state, struct buf *out, struct genarm_error *err);

#endif
