/* What a judge is told, and how its answers are read. A prompt is a text with {NAME} where something is put in; lines
 * "[system]" and "[user]" begin a message of that role; lines at its top that start with '#' are not sent, and one of them may
 * say "range: MIN MAX" (docs/judge.md). */
#ifndef REWARD_CHAT_PROMPT_H
#define REWARD_CHAT_PROMPT_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "genarm/model.h"

/* data/judge/NAME.txt */
extern const char judge_text_score[], judge_text_pairwise[];

struct chat_prompt {
    char *system, *user; /* system: or NULL */
    double min, max;     /* of a score; infinite where the text does not say */
};

/* Reads a file, or `text` where path is NULL. `names` (up to a NULL) are what must be in it, as {NAME}. Errors name the file. */
int chat_prompt_load(struct chat_prompt *p, const char *path, const char *text, const char *const *names,
                     struct genarm_error *err);
void chat_prompt_deinit(struct chat_prompt *p); /* safe on a zeroed struct */

struct chat_field {
    const char *name, *text;
};

/* The messages of a request: every {NAME} replaced once, what is put in is not read again. *messages is a new reference. */
int chat_prompt_fill(json_t **messages, const struct chat_prompt *p, const struct chat_field *fields, size_t n,
                     struct genarm_error *err);

/* Appends a prompt as text: a user's only message as it is, several messages each under its role. */
int chat_prompt_conversation(struct buf *out, const struct genarm_message *messages, size_t n, struct genarm_error *err);

/* Where "[[WORD]]" stands in an answer, WORD being what `accept` takes. False: nowhere, or several that differ. *at: the last
 * WORD without blanks around it, n bytes. */
bool chat_find_mark(const char **at, size_t *n, const char *answer, bool (*accept)(const char *word, size_t n));

/* The number of an answer's "[[NUMBER]]". False: there is none, several differ, or it is not between min and max. */
bool chat_find_score(double *score, const struct chat_prompt *p, const char *answer);

#endif
