/* The commands of the program and their options: one table per command feeds the parser, --help, the man page and
 * the shell completions, so that none of them can say what the others do not.
 *
 * An option's value comes from its default, then its environment variable, then the command line; the last wins.
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "base/names.h"

enum option_type {
    OPTION_GROUP,  /* no option: a heading, in `help` */
    OPTION_FLAG,   /* bool; takes no value */
    OPTION_INT,    /* int32_t */
    OPTION_SEED,   /* int64_t */
    OPTION_NUMBER, /* double, finite */
    OPTION_CHOICE, /* int32_t: index of the value in `choices` */
    OPTION_TEXT,   /* const char *, borrowed from the command line, the environment or the table */
    OPTION_FILE,   /* the same, a path */
    OPTION_TEXTS,  /* struct option_list: may be given several times */
    OPTION_FILES,  /* the same, paths */
};

/* What "-" is as the name of a file. */
enum option_dash {
    DASH_NONE,  /* refused */
    DASH_STDIN, /* stdin, and the command knows */
    DASH_STDOUT /* refused: stdout is what there is without the option */
};

struct option_list {
    const char **items; /* [n], strings borrowed */
    size_t n;
};

struct option {
    enum option_type type;
    const char *names;    /* "-n --predict --n-predict"; a name without a dash takes what is no option: "FILE" */
    const char *value;    /* what stands for the value in help, e.g. "N" */
    size_t offset;        /* of the member in the command's arguments */
    double min, max;      /* both ends belong to the range; equal: any number */
    const char *choices;  /* "arm|hinge|", the last bar is optional */
    const char *fallback; /* the default, as it would be typed; NULL: zero, not shown */
    const char *env;      /* environment variable, or NULL */
    const char *also;     /* words in place of a whole number: the first is the default, the second max: "auto|all" */
    const char *like;     /* another number or choice that this one is as, where only that one is given; NULL: none */
    enum option_dash dash;
    const char *help;
    bool free; /* changes how a command goes, its speed first of all, not what comes of it: another run may have it otherwise */
};

struct command {
    const char *name;
    const char *summary;  /* one line */
    const char *usage;    /* what follows "genarm NAME" */
    const char *details;  /* paragraphs for --help and the man page */
    const char *examples; /* lines, each a command */
    const struct option *options;
    size_t n_options;
    size_t args_size; /* bytes of the struct that the options' offsets refer to */
    bool ranks;       /* knows what to do when mpirun starts it several times */

    /* Runs with parsed arguments. Returns 0, a negative code with *err filled (CLI_USAGE: the command line is wrong),
     * or a positive exit status after having said why. */
    int (*run)(const void *args, struct genarm_error *err);
};

enum { CLI_USAGE = -1000 }; /* code of errors that are wrong use: exit status 2 */

/* Fills `args` (zeroed, command->args_size bytes) from the defaults, the environment and argv[0 .. argc).
 * Returns 0, 1 when help is asked for, or CLI_USAGE. Call command_line_deinit in every case. */
int command_line_parse(const struct command *command, int argc, char **argv, void *args, struct genarm_error *err);
void command_line_deinit(const struct command *command, void *args);

#endif
