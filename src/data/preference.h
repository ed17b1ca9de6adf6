/* One preference: what was asked, the better and the worse answer, or a good one alone. Made by the formats, read by training,
 * scoring and the data command. */
#ifndef DATA_PREFERENCE_H
#define DATA_PREFERENCE_H

#include <stdbool.h>

#include "base/json.h"

struct preference_message {
    const char *role; /* "system", "user" or "assistant"; static storage */
    const char *content;
};

struct preference {
    struct preference_message *messages; /* [n_messages] the prompt; its last message is the user's */
    size_t n_messages, cap_messages;
    const char *chosen, *rejected; /* rejected: "" where there is none */
    int64_t line;   /* where it begins in its file, from 1 */
    int64_t record; /* which one of the file it is, from 1 */

    /* What the strings above are part of; owned. */
    json_t *source;
    char *copies[3];
    size_t n_copies;
};

/* A preference starts as a zeroed struct; clearing it leaves one, the memory of its list of messages kept. */
void preference_clear(struct preference *p);
void preference_deinit(struct preference *p);

/* Appends a message. `role` is static or one of the names above; `content` must live as long as the preference. */
int preference_add(struct preference *p, const char *role, const char *content, struct genarm_error *err);

/* A copy of n bytes that the preference owns, NUL-terminated and free to be cut; at most three for one preference. */
int preference_copy(struct preference *p, char **out, const char *text, size_t n, struct genarm_error *err);

/* The one of "system", "user", "assistant" that equals `role`, or NULL. */
const char *preference_role(const char *role);

/* Fingerprints, equal for equal texts. A prompt's leaves system messages out: the same question under two of them is one
 * prompt. */
uint64_t preference_prompt_hash(const struct preference *p);

/* Of everything; `swapped`: as if chosen and rejected had changed places. */
uint64_t preference_hash(const struct preference *p, bool swapped);

/* The prompt as a list of {role, content}. New reference; NULL without memory. */
json_t *preference_prompt(const struct preference *p);

/* Appends the preference as one JSON line of the format genarm, or prompt-completion where nothing is rejected: the prompt is a
 * string, with "system" beside it, or, when it has several turns, a list of messages. */
int preference_write(struct buf *line, const struct preference *p, struct genarm_error *err);

#endif
