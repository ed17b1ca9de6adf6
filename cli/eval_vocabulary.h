/* The options of the commands that an experiment may use, by their tables. */
#ifndef CLI_EVAL_VOCABULARY_H
#define CLI_EVAL_VOCABULARY_H

#include "eval/vocabulary.h"

extern const struct eval_vocabulary eval_commands;

#endif
