/* Drafts without a model: what followed the last time that the text read as it does now (prompt look-up, Saxena 2023). */
#ifndef GUIDE_LOOKUP_H
#define GUIDE_LOOKUP_H

#include <stdint.h>

/* Finds where the last tokens of tokens [n], at least `least` of them, occurred before: the place with the most in common, the
 * latest of several. Writes up to `max` tokens that followed there to out, beyond the end of the text by repeating what it
 * drafts. Returns how many: 0 or max. */
int32_t lookup_draft(const int32_t *tokens, int32_t n, int32_t least, int32_t *out, int32_t max);

#endif
