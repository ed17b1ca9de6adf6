/* The words of an item's command, from the options of an experiment. Of items.c. */
#ifndef EVAL_ITEM_WORDS_H
#define EVAL_ITEM_WORDS_H

#include "eval/items.h"
#include "eval/substitute.h"

struct word_list {
    char **items; /* [n + 1], malloc'ed, ended by NULL */
    size_t n;
};

/* Takes over nothing: the word is copied. */
int word_list_add(struct word_list *w, const char *word, struct genarm_error *err);
void word_list_deinit(struct word_list *w);

/* Of a part: the options of its command, those of the experiment's defaults under them. */
struct wording {
    const struct experiment *e;
    const struct eval_vocabulary *vocabulary;
    const struct part *part;
    const char *model;              /* given to the command if it has --model and no other; NULL: none */
    struct substitution substitute; /* refers to the point and the models */
    const struct yaml_value **at;   /* set to the value whose text is substituted */
};

/* Appends command and options: all that is checked is checked, and an error names its line. */
int wording_options(struct word_list *w, const struct wording *wording, struct genarm_error *err);

/* Appends an option that genarm eval sets. Where the command does not have it, this is an error, unless `optional`. value: NULL
 * for a flag. */
int wording_add(struct word_list *w, const struct wording *wording, const char *option, const char *value, bool optional,
                struct genarm_error *err);

/* Whether the words have an option. */
bool word_list_has(const struct word_list *w, const char *option);

/* Whether a word of the command is an option that changes nothing of what comes of it. */
bool word_is_free(const struct eval_vocabulary *vocabulary, const char *command, const char *word);

#endif
