/* The options of the commands that an experiment may use, by their tables. */
#ifndef CLI_EVAL_VOCABULARY_H
#define CLI_EVAL_VOCABULARY_H

#include "eval/vocabulary.h"

extern const struct eval_vocabulary eval_commands;

/* Takes from the environment the variables LLAMA_ARG_* that change what comes of these commands: an experiment is what its file
 * says, wherever it is run. Those of threads, devices and the like stay. */
void eval_commands_forget_variables(void);

#endif
