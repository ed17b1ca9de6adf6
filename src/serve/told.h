/* An answer as JSON: what the kinds of the API have in common. */
#ifndef SERVE_TOLD_H
#define SERVE_TOLD_H

#include "serve/api.h"

/* Every function returns a new reference, NULL without memory. */

/* {"token", "logprob", "bytes", "parts", "top_logprobs"} of a token; the last only if `top`. */
json_t *told_token(const struct serve_model *m, const struct token_fact *f, bool top);
/* The text of an answer. */
json_t *told_text(const struct choice *c);
/* {"base", "arms"} */
json_t *told_parts(const struct serve_model *m, const struct genarm_token_logprob *t);
/* A log-probability; -9999 stands for minus infinity. */
json_t *told_number(float logp);
json_t *told_bytes(const struct serve_model *m, int32_t token);

/* Of a job that has ended, or as far as it got: take the worker's lock. */
json_t *told_usage(const struct job *job);
json_t *told_timings(const struct choice *c);
const char *told_finish(const struct choice *c); /* "stop" or "length" */

#endif
