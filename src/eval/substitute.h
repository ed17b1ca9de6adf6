/* Texts of an experiment with what they refer to put in:
 *
 *     {h}       the value of the variable h at this point
 *     $name     what `resolve` says; also ${name}
 *     {{h}} $$  a brace, a dollar
 *
 * {system} and {prompt}, which templates have, stay, as do braces around what is no name and dollars before what is none.
 */
#ifndef EVAL_SUBSTITUTE_H
#define EVAL_SUBSTITUTE_H

#include "eval/sweep.h"

struct substitution {
    const struct point *point;
    /* Appends what a name stands for. */
    int (*resolve)(struct buf *out, const char *name, void *user, struct genarm_error *err);
    void *user;
};

/* Appends the text. Errors are GENARM_EFORMAT without a place. */
int substitute(struct buf *out, const char *text, const struct substitution *s, struct genarm_error *err);

#endif
