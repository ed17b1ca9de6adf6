/* What the option tables say to people and shells: --help, the man page, completions. See options.h. */
#ifndef CLI_HELP_H
#define CLI_HELP_H

#include "options.h"

void help_program(FILE *out, const struct command *const *commands, size_t n);
void help_command(FILE *out, const struct command *command);
void help_man(FILE *out, const struct command *const *commands, size_t n);

/* Writes a completion script for "bash", "zsh" or "fish"; false for any other shell. */
bool help_completion(FILE *out, const char *shell, const struct command *const *commands, size_t n);

#endif
