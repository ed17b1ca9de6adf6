/* UTF-8 that comes from outside: checked before it is stored, made harmless before it is shown. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* Bytes of the character at s, of which n bytes are left: 1 to 4; 0: not UTF-8 (also overlong forms and surrogates) or
 * n is 0. */
size_t utf8_char(const char *s, size_t n);

bool utf8_valid(const char *s, size_t n);

size_t utf8_length(const char *s, size_t n); /* characters that begin in the n bytes, which are UTF-8 */

/* For one line on a terminal: control characters and bytes that are not UTF-8 become '?', line ends and tabs spaces. */
void utf8_clean(char *s);

/* Bytes of a character that is not complete yet. Zero-initialise. */
struct text_tail {
    unsigned char held[4];
    size_t n;
};

/* Appends the complete characters among the held and the new bytes to `out`; what can be no character becomes U+FFFD,
 * and the start of one is held. */
int text_push(struct text_tail *u, const char *bytes, size_t n, struct buf *out, struct genarm_error *err);
int text_end(struct text_tail *u, struct buf *out, struct genarm_error *err); /* a held start becomes U+FFFD */

#endif
