/* What an experiment knows of the program's commands. Their tables of options lie above this layer (cli/options.h), which
 * gives these functions to it. */
#ifndef EVAL_VOCABULARY_H
#define EVAL_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum eval_form { EVAL_FLAG, EVAL_VALUE, EVAL_LIST /* may be given several times */ };

/* What values have paths in them (reward/spec.h). */
enum eval_spec { EVAL_NO_SPEC, EVAL_PART /* of an ARM or an adapter */, EVAL_SOURCE /* of a reward */, EVAL_JUDGE };

struct eval_option {
    char name[64]; /* with its dashes, "--predict" */
    enum eval_form form;
    bool file; /* values are paths */
    bool free; /* changes how a command goes, its speed first of all, not what comes of it */
    enum eval_spec spec;
};

struct eval_vocabulary {
    /* Finds an option by a key, which is one of its names without dashes or with them. An unknown one is GENARM_EINVAL, and
     * the error says what is near. */
    int (*find)(struct eval_option *out, const char *command, const char *key, struct genarm_error *err);

    /* Whether the command would take these words behind its name. */
    int (*check)(const char *command, char **words, size_t n, struct genarm_error *err);
};

#endif
