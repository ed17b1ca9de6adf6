/* The log-probabilities of the tokens of an answer, as records show them. */
#ifndef CLI_LOGPROBS_H
#define CLI_LOGPROBS_H

#include <jansson.h>

#include "setup.h"

/* Appends those of the token that the last step gave: {"id", "text", "guided", "base", "arms", "top"}, where "top" lists the
 * likeliest tokens with the same members, and is missing when none are kept. A token without probability has null. */
int logprobs_append(json_t *list, const struct setup *s, const struct genarm_session *session, struct genarm_error *err);

#endif
