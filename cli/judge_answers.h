/* The answers that are judged or scored: files of them, and which of two files' belong together. */
#ifndef CLI_JUDGE_ANSWERS_H
#define CLI_JUDGE_ANSWERS_H

#include <jansson.h>

#include "base/error.h"
#include "genarm/model.h"
#include "records.h"

/* An answer and its prompt; strings belong to the records. */
struct judge_answer_record {
    struct genarm_message *messages; /* [n_messages] owned */
    size_t n_messages;
    const char *text;    /* NULL: the prompt has none, */
    const char *failure; /* and this is why */
    int32_t *tokens;     /* [n_tokens] owned: "tokens", where that is a list of them; else NULL */
    size_t n_tokens;
    bool finished;     /* by itself: "finish_reason" is "stop" or missing */
    const json_t *id;  /* or NULL */
    const char *where; /* "file:line", of a JSON array "file, record 3" */
};

struct judge_answers {
    struct record_list records;
    struct judge_answer_record *items; /* [n] */
    size_t n;
};

/* Reads records of genarm generate ({"prompt" or "messages", "response"}, one a line) or outputs of AlpacaEval (a JSON array of
 * {"instruction", "output"}). Errors name the place. */
int judge_answers_read(struct judge_answers *a, const char *path, struct genarm_error *err);
void judge_answers_free(struct judge_answers *a); /* safe on a zeroed struct */

/* match[i]: the answer of b to the prompt of answer i of a, by "id" where all have one, else by their order. GENARM_EMISMATCH
 * names the place: an answer without another, an id twice, prompts that differ. What has no answer belongs together as well.
 * `match` has room for a->n. */
int judge_answers_match(size_t *match, const struct judge_answers *a, const struct judge_answers *b, struct genarm_error *err);

#endif
