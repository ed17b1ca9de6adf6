/* What is to be answered: one prompt of the command line, or a file of JSON records, as a file of pairs may be:
 *
 *     {"prompt": "…", "system": "…", "id": 7}      a user's message; system and id may be missing
 *     {"messages": [{"role": "user", "content": "…"}], "id": 7}      or the list under the name of prompt
 *
 * or a pair of hh-rlhf, whose prompt is a dialogue; or, in a file whose name ends in .txt, a user's message a line.
 */
#ifndef CLI_PROMPTS_H
#define CLI_PROMPTS_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "genarm/model.h"

struct prompt {
    json_t *shown;                   /* what a record repeats of it: id, prompt or messages, and a system message beside them */
    json_t *source;                  /* owns the messages' strings, when they are from a file, */
    char *text;                      /* or the one from the command line */
    struct genarm_message *messages; /* [n_messages] */
    size_t n_messages;
    char *where; /* "file:line"; NULL: the command line */
};

struct prompt_list {
    struct prompt *items; /* [n] */
    size_t n;
};

/* One user's message after an optional system message; `system` is borrowed as long as the list lives. */
int prompts_single(struct prompt_list *out, const char *text, const char *system, struct genarm_error *err);

/* Reads a file of records ("-": stdin) or of texts; `system` (may be NULL) is for those without their own. Errors name file and
 * line. */
int prompts_read(struct prompt_list *out, const char *path, const char *system, struct genarm_error *err);

/* Keeps the prompts from index `skip` on, `limit` of them at most; 0: all. False, and all are kept: there are none. */
bool prompts_cut(struct prompt_list *list, size_t skip, size_t limit);

/* Sets "--prompts" of an object to a hash of all that is asked and of what records repeat of it. */
int prompts_describe(const struct prompt_list *list, json_t *settings, struct genarm_error *err);

void prompts_free(struct prompt_list *list); /* safe on a zeroed struct */

/* The text that -p gives, or the file of -f ("-": stdin), into *out (malloc'ed). A usage error if none is given. */
int prompt_text(char **out, const char *text, const char *path, struct genarm_error *err);

#endif
