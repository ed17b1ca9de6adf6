/* Prefixes that are evaluated once. What two sequences of a policy have in common at their start, seen under the same
 * preference, has the same keys and values: it is copied instead of evaluated again. Slots keep what their sequences hold
 * when a session ends, so that the next one may find its prompt's beginning there. */
#ifndef GUIDE_SHARE_H
#define GUIDE_SHARE_H

#include "guide/session.h"

/* Takes a free slot for a new session, whose timelines are then without tokens. GENARM_EINVAL when all are taken. */
int slot_take(struct genarm_session *s, struct genarm_error *err);
void slot_leave(struct genarm_session *s); /* safe without a slot */

/* Moves a session to the free slot that is worth most for a prompt of n[p] tokens under policy p: it holds much of the prompt
 * and loses little else. A session's own slot is as good as a free one. On failure it stays. */
int slot_choose(struct genarm_session *s, const int32_t *const *tokens, const int32_t *n, struct genarm_error *err);

void slots_forget(struct genarm_guide *g); /* what sequences hold was computed with other weights */
void slots_free(struct genarm_guide *g);

/* Copies what a session has not cached and other sequences hold, of the policies that the pass that is planned runs. */
int session_take_over(struct genarm_session *s, struct genarm_error *err);

/* Before the rows of a step: what its sessions have not cached and other sequences hold is copied, and what several of them
 * are about to evaluate alike is evaluated for the first of them and copied to the others. */
int sessions_share(struct genarm_session **sessions, size_t n, struct genarm_error *err);

#endif
