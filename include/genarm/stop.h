/* Texts that end an answer, found across token boundaries while it grows.
 *
 *     genarm_stop_new(&stop, (const char *[]){"\nUser:", "###"}, 2, &err);
 *     ... text grows from `before` to `n` bytes ...
 *     shown = genarm_stop_find(stop, text, n, before, &which);
 *     if (which >= 0) the answer is text[0, shown); else text[0, shown) may be shown, the rest may become a stop text
 *
 * What is found does not depend on how the text is cut into tokens: the stop text that is complete first, byte by byte, and of
 * several that end together the longest.
 */
#ifndef GENARM_STOP_H
#define GENARM_STOP_H

#include <stddef.h>
#include <stdint.h>

#include "genarm/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct genarm_stop;

/* Copies n texts, which are not empty and valid UTF-8, else GENARM_EINVAL. n may be 0. Immutable, any number of threads. */
int genarm_stop_new(struct genarm_stop **out, const char *const *texts, size_t n, struct genarm_error *err);
void genarm_stop_free(struct genarm_stop *stop); /* NULL is fine */

/* text[0, n) of which text[0, before) was looked at already. *which: index of the stop text that was found, -1 for none.
 * Returns where it begins, or, with none, how much of the text is no beginning of one. `stop` may be NULL: nothing stops. */
size_t genarm_stop_find(const struct genarm_stop *stop, const char *text, size_t n, size_t before, int32_t *which);

const char *genarm_stop_text(const struct genarm_stop *stop, int32_t which);

#ifdef __cplusplus
}
#endif
#endif
