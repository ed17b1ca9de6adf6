/* UTF-8 that comes from outside: checked before it is stored, made harmless before it is shown. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the character at s, of which n bytes are left: 1 to 4; 0: not UTF-8 (also overlong forms and surrogates) or
 * n is 0. */
size_t utf8_char(const char *s, size_t n);

bool utf8_valid(const char *s, size_t n);

/* For one line on a terminal: control characters and bytes that are not UTF-8 become '?', line ends and tabs spaces. */
void utf8_clean(char *s);

#endif
