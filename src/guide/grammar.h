/* Constrained output: a grammar (GBNF) as an automaton over bytes that is built as far as it is visited, and which tokens of a
 * vocabulary it allows in a state.
 *
 * A state is a number, so that a session keeps it, copies it and moves it on by tokens that are only drafted. It stands for
 * the set of stacks that the pushdown automaton may be in, and for the bytes of a character that is not complete. Masks of
 * tokens are computed once a state, by walking the sorted vocabulary: what tokens have in common at the start is walked once.
 */
#ifndef GUIDE_GRAMMAR_H
#define GUIDE_GRAMMAR_H

#include "genarm/steer.h"

enum { GRAMMAR_DEAD = 0, GRAMMAR_START = 1 }; /* states: nothing follows; nothing was given yet */

/* A grammar grows while it is used. Threads that mix for sessions which share one hold its lock meanwhile; the thread that owns
 * the sessions needs none where no others run. */
void grammar_lock(struct genarm_grammar *g);
void grammar_unlock(struct genarm_grammar *g);

/* What follows returns this where there is no room for another state, and sets no error: after grammar_restart there is, but then
 * states of before mean nothing, other than the two above. Each restart begins a generation of states. */
enum { GRAMMAR_FULL = -1000 };
void grammar_restart(struct genarm_grammar *g);
uint32_t grammar_generation(const struct genarm_grammar *g);
int grammar_is_full(struct genarm_error *err); /* the error where that does not help */

/* The state after a token, GENARM_EINVAL if the grammar does not allow it; *state is then as before. */
int grammar_advance(struct genarm_grammar *g, int32_t *state, int32_t token, struct genarm_error *err);

/* Tokens that may come next, one bit each (the least significant one first), among them those that end the answer where the
 * grammar is complete. Valid until the next call. */
int grammar_allowed(struct genarm_grammar *g, int32_t state, const uint8_t **allowed, struct genarm_error *err);

const struct genarm_model *grammar_model(const struct genarm_grammar *g);

#endif
