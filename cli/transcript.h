/* The messages of a chat: what is said, in order, and as the text that is saved with a session. */
#ifndef CLI_TRANSCRIPT_H
#define CLI_TRANSCRIPT_H

#include <stdbool.h>

#include "genarm/genarm.h"

struct transcript {
    struct genarm_message *messages; /* [n] roles are literals, contents owned */
    size_t n;
};

void transcript_deinit(struct transcript *c); /* safe on a zeroed struct */

/* role: "system", "user" or "assistant" */
int transcript_add(struct transcript *c, const char *role, const char *content, struct genarm_error *err);
void transcript_drop(struct transcript *c, size_t keep); /* the first `keep` stay */

size_t transcript_n_turns(const struct transcript *c); /* questions with an answer */

/* Forgets the first n turns, of transcript_n_turns; a system message stays. */
void transcript_forget_oldest(struct transcript *c, size_t n);

/* {"messages":[{"role","content"}]}: *out is malloc'ed. */
int transcript_dump(char **out, const struct transcript *c, struct genarm_error *err);
/* Changes *c only on success. text NULL, as of a session that no chat saved, is an error. */
int transcript_parse(struct transcript *c, const char *text, const char *where, struct genarm_error *err);

#endif
