/* Long prompts are evaluated in pieces, so that Ctrl-C does not have to wait for all of them. */
#ifndef CLI_PREFILL_H
#define CLI_PREFILL_H

#include "setup.h"

/* Until the session's next step has at most `rest` rows left to evaluate before its last tokens, or a signal asks for a stop.
 * *left: how many it has then. */
int prefill_prompt(struct genarm_session *session, const struct guide_args *args, int32_t rest, int32_t *left,
                   struct genarm_error *err);

#endif
