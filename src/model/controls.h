/* Control tokens spelled in untrusted text.
 *
 * A prompt is tokenised with its template, whose control tokens are meant. What a user wrote may spell them as well, to end
 * its own turn, say. Such spellings are cut in two by a mark before the template is applied; the text is tokenised piece by
 * piece between marks, so that no piece spells a control token that was not the template's.
 */
#ifndef MODEL_CONTROLS_H
#define MODEL_CONTROLS_H

#include <llama.h>
#include <stdbool.h>

#include "base/buf.h"

struct controls {
    const char **texts;   /* [n] spellings, of the vocabulary */
    size_t n;
    bool begins[256]; /* whether one begins with this byte */
};

/* `vocab` must outlive it. */
int controls_init(struct controls *c, const struct llama_vocab *vocab, struct genarm_error *err);
void controls_deinit(struct controls *c); /* safe on a zeroed struct */

/* Whether the text spells a control token. */
bool controls_spelled(const struct controls *c, const char *text);

/* Appends the text with `mark` after the first character of every spelling. */
int controls_cut(struct buf *out, const struct controls *c, const char *text, const char *mark, struct genarm_error *err);

#endif
