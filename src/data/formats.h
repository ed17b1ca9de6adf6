/* The formats of records: which one a record is of, and what it says. One table; formats.c recognises, texts.c,
 * dialogues.c and conversations.c convert. Called by reader.c. */
#ifndef DATA_FORMATS_H
#define DATA_FORMATS_H

#include "data/preference.h"
#include "genarm/data.h"

/* What becomes of a record that is no error: why it is dropped, or what is worth knowing about one that is kept. */
#define PREF_REASONS(X)                                                                                                \
    X(PREF_EMPTY, "empty", "a response is empty")                                                                      \
    X(PREF_EQUAL, "equal", "chosen equals rejected")                                                                   \
    X(PREF_UNLABELLED, "unlabelled", "no response is labelled as the better one")                                      \
    X(PREF_TURNS, "turns", "the dialogues part before their last turn")                                                \
    X(PREF_NO_QUESTION, "no_question", "the prompt does not end with the user's turn")                                 \
    X(PREF_NO_PROMPT, "no_prompt", "chosen and rejected have no beginning in common")                                  \
    X(PREF_OTHER_PROMPT, "other_prompt", "the prompt is no turn of the conversation")                                 \
    X(PREF_PREFIX, "prefix", "one response is the beginning of the other")                                             \
    X(PREF_REPEATS, "repeats", "both responses begin with the prompt")

enum pref_reason {
#define PREF_REASON_ENUM(id, name, text) id,
    PREF_REASONS(PREF_REASON_ENUM)
#undef PREF_REASON_ENUM
    PREF_N_REASONS,
    PREF_N_DROPS = PREF_PREFIX, /* those before it drop the record, the others only count it */
    PREF_NONE = PREF_N_REASONS
};

/* One record on its way. */
struct conversion {
    struct preference *out; /* cleared; its source is the record */
    enum genarm_data_label label;
    bool alone;             /* the rejected response does not count, if there is one */
    enum pref_reason drop; /* PREF_NONE, or why `out` is to be dropped */
    const char *where;
};

/* The format that an object's members make it, GENARM_DATA_AUTO when it is none. */
enum genarm_data_format format_detect(const json_t *record);
/* The same of one whose chosen response alone counts, where the rejected one is missing. */
enum genarm_data_format format_detect_alone(const json_t *record);
bool format_is_alone(enum genarm_data_format format); /* its records have no rejected response */
const char *format_name(enum genarm_data_format format);
const char *label_name(enum genarm_data_label label);

/* GENARM_EFORMAT that lists what is there, the nearest format, and all formats. */
int format_unknown(const json_t *record, const char *where, struct genarm_error *err);

/* Fills c->out or c->drop; what cannot be a record of the format is an error. */
int format_convert(struct conversion *c, enum genarm_data_format format, struct genarm_error *err);

/* The member that is read as the rejected response. Of a chosen one alone that is itself: the prompt is told by it. */
static inline const char *rejected_member(const struct conversion *c) { return c->alone ? "chosen" : "rejected"; }

/* ---- the converters, by the files they are in ---- */

/* texts.c */
int convert_genarm(struct conversion *c, struct genarm_error *err);
int convert_pku_saferlhf(struct conversion *c, struct genarm_error *err);
int convert_trl_standard(struct conversion *c, struct genarm_error *err);

/* dialogues.c: text with turns that begin "\n\nHuman:" and "\n\nAssistant:" */
int convert_hh_rlhf(struct conversion *c, struct genarm_error *err);
int convert_full_hh_rlhf(struct conversion *c, struct genarm_error *err);
bool dialogue_is(const char *text);        /* begins with the Human's turn and has one of the Assistant's */
bool dialogue_is_prompt(const char *text); /* the same, and ends where the Assistant's answer begins */

/* The messages of a prompt to be answered, where the record has one that is a dialogue, or two dialogues that begin with it;
 * otherwise none. */
int dialogue_question(struct conversion *c, struct genarm_error *err);

/* conversations.c: lists of {role, content} */
int convert_ultrafeedback(struct conversion *c, struct genarm_error *err);
int convert_trl_conversational(struct conversion *c, struct genarm_error *err);
int convert_prompt_completion(struct conversion *c, struct genarm_error *err);
int convert_messages(struct conversion *c, struct genarm_error *err);
int conversation_add(struct conversion *c, const json_t *list, const char *key, struct genarm_error *err);
int conversion_system(const char **system, const struct conversion *c, struct genarm_error *err); /* NULL: none, or empty */

#endif
