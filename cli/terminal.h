/* What the program knows about the terminal it writes to. */
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include <stdbool.h>
#include <stdio.h>

/* Columns of the terminal behind a stream; 80 when it is none. */
int terminal_width(FILE *stream);

/* Whether to use colours: a terminal that has them, and NO_COLOR (no-color.org) not set. */
bool terminal_colors(FILE *stream);

/* The first SIGINT or SIGTERM asks for a clean stop and is remembered; a second one kills the program. */
void interrupt_catch(void);
void interrupt_catch_also(int number); /* another signal that asks for the same, after interrupt_catch */
int interrupt_signal(void); /* the signal that asked for a stop, 0 for none */

#endif
