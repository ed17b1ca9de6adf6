/* An answer of a command: the answer (guide/answer.h) with what its record says beside it. */
#ifndef CLI_ANSWER_RECORD_H
#define CLI_ANSWER_RECORD_H

#include <jansson.h>

#include "genarm/value.h"
#include "guide/answer.h"
#include "setup.h"

struct answer_record {
    struct answer r;
    const struct setup *setup; /* borrowed */
    json_t *logprobs;          /* of each token, if they are kept */
    int32_t n_prompt;
    double seconds;              /* its share of the time computed for it and for others, kept by who steps it */
    struct genarm_error failure; /* what ended it with FINISH_FAILED */
};

/* Begins an answer to the messages. Call answer_record_deinit in every case. */
int answer_record_start(struct answer_record *a, const struct setup *s, struct genarm_session *session,
                        const struct genarm_message *messages, size_t n_messages, int32_t n_predict, struct genarm_error *err);
void answer_record_deinit(struct answer_record *a); /* safe on a zeroed struct */

/* When the context is full: as the options say; without it the answer ends. */
void answer_record_shifts(struct answer_record *a, const struct shift_args *args);

/* One more token for each of the answers, which all run; some may end by it. What fails with one of them ends that one. */
int answer_records_step(struct answer_record **answers, size_t n, struct genarm_error *err);

/* {"response", "tokens", "arms", "preferences", "seed", "finish_reason", "stop", "logprobs", "logprob", "evaluated", "seconds",
 * "model", "timings"}; preferences only where an ARM has objectives, stop where a stop text ended the answer, logprobs where they
 * are kept. NULL without memory. */
json_t *answer_record_json(const struct answer_record *a, const struct setup *s, uint64_t seed);

/* Tokens that went through models, {"base", "arms", "value", "rollout"}, and seconds, as records have them. */
json_t *work_json(const struct genarm_work *work);
json_t *seconds_json(double seconds);

#endif
