/* See prefill.h. */
#include "prefill.h"

#include "terminal.h"

int prefill_prompt(struct genarm_session *session, const struct guide_args *args, int32_t rest, int32_t *left,
                   struct genarm_error *err) {
    int code = genarm_session_prefill(session, 0, left, err);
    while (code == 0 && *left > rest && !interrupt_signal()) {
        code = genarm_session_prefill(session, args->n_batch, left, err);
    }
    return code;
}
