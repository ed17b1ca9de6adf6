/* The messages of a chat: what is said, in order, and as the text that is saved with a session. */
#ifndef CLI_TRANSCRIPT_H
#define CLI_TRANSCRIPT_H

#include "common.h"

struct transcript {
    struct genarm_message *messages; /* [n] roles are literals, contents owned */
    size_t n;
};

void transcript_deinit(struct transcript *c); /* safe on a zeroed struct */

/* role: "system", "user" or "assistant" */
int transcript_add(struct transcript *c, const char *role, const char *content, struct genarm_error *err);
void transcript_drop(struct transcript *c, size_t keep); /* the first `keep` stay */

/* Forgets the first question and its answer; a system message stays. False: there is only the last question. */
bool transcript_forget_oldest(struct transcript *c);

/* {"messages":[{"role","content"}]}: *out is malloc'ed. */
int transcript_dump(char **out, const struct transcript *c, struct genarm_error *err);
/* Changes *c only on success. text NULL, as of a session that no chat saved, is an error. */
int transcript_parse(struct transcript *c, const char *text, const char *where, struct genarm_error *err);

#endif
