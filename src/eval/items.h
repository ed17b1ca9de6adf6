/* What an experiment comes down to: files, each written by one command of the program, some of which need others. They are
 * known before anything runs, and so is, by a fingerprint, what each depends on: the words of its command and what the files
 * hold that these name.
 */
#ifndef EVAL_ITEMS_H
#define EVAL_ITEMS_H

#include <jansson.h>

#include "eval/experiment.h"
#include "eval/vocabulary.h"

enum item_kind { ITEM_MODEL, ITEM_ANSWERS, ITEM_REWARDS, ITEM_VERDICTS, ITEM_PAIRS };

/* Begins paths in words: stands for the experiment's folder, which may be moved. */
#define ITEM_FOLDER "\001"

struct item {
    enum item_kind kind;
    const struct part *part;   /* that it belongs to */
    const struct part *method; /* of rewards and verdicts: the method whose answers these are; else NULL */
    const struct point *point;
    char *name;   /* of its log and its record, "answers.genarm@h=0.5,s=0.5" */
    char *title;  /* for people, "answers of genarm, h=0.5,s=0.5" */
    char *output; /* below the folder, "answers/genarm@h=0.5,s=0.5.jsonl" */
    char **words; /* [n_words + 1] the command, its options and operands, NULL */
    size_t n_words;
    size_t *needs; /* [n_needs] items before this one */
    size_t n_needs;
    uint64_t fingerprint;
    bool wanted;
};

struct item_list {
    struct item *items; /* [n], each after those that it needs */
    size_t n;
};

struct items_params {
    const char *model; /* takes the place of the experiment's; NULL: does not */
    int64_t limit;     /* prompts; 0: all */
    const char *only;  /* names of parts, with commas: what does not belong to one of them is not wanted; NULL: all is */
};

/* Makes the items and checks the options of all. The experiment must outlive them. */
int items_new(struct item_list *out, const struct experiment *e, const struct items_params *params,
              const struct eval_vocabulary *vocabulary, struct genarm_error *err);
void items_free(struct item_list *list); /* safe on a zeroed struct */

/* The words with `folder` in place of ITEM_FOLDER: malloc'ed, as is each, ended by NULL; NULL when out of memory. */
char **item_words(const struct item *item, const char *folder);
void item_words_free(char **words); /* NULL is fine */

/* The folder of the item's output, "answers". */
const char *item_folder(const struct item *item);

/* The options of the command, but for where it writes, by name, without dashes, as
 * {"loss": "arm", "reward": ["…", "…"], "bf16": true}. NULL when out of memory. */
json_t *item_options(const struct item *item);

/* The answers of a method at a point, or of its only point that lies within it; NULL: there are none. */
const struct item *items_answers(const struct item_list *list, const struct part *method, const struct point *point);

#endif
