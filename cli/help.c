/* --help and the man page. See help.h; the completions are in completion.c. */
#include "help.h"

#include <string.h>

#include "terminal.h"

enum { NAMES_COLUMN = 2, HELP_COLUMN = 32, WIDEST = 100 };

/* ---- --help ---- */

/* Writes words from column `at` on, wrapped at `width`, further lines indented by `indent`. */
static void print_wrapped(FILE *out, const char *text, int at, int indent, int width) {
    bool first = true;
    while (*text) {
        int n = (int)strcspn(text, " \n");
        if (n > 0) {
            if (!first && at + 1 + n > width) {
                fprintf(out, "\n%*s", indent, "");
                at = indent;
                first = true;
            }
            at += fprintf(out, "%s%.*s", first ? "" : " ", n, text);
            first = false;
        }
        text += n;
        if (*text == '\n') {
            fprintf(out, "\n%*s", indent, "");
            at = indent;
            first = true;
        }
        if (*text) {
            text++;
        }
    }
    fputc('\n', out);
}

/* "-n, --predict N" */
static void name_line(const struct option *o, char *line, size_t max) {
    const char *cursor = o->names;
    char name[64];
    size_t at = 0;
    line[0] = '\0';
    while (next_name(&cursor, ' ', name, sizeof name) && at < max) {
        at += (size_t)snprintf(line + at, max - at, "%s%s", at ? ", " : "", name);
    }
    if (o->type != OPTION_FLAG && o->names[0] == '-' && at < max) {
        snprintf(line + at, max - at, " %s", o->value);
    }
}

/* Help text with choices, default and environment variable. */
static void help_text(const struct option *o, char *text, size_t max) {
    size_t at = (size_t)snprintf(text, max, "%s", o->help);
    if (o->choices && at < max) {
        char name[64];
        const char *cursor = o->choices, *separator = "; one of ";
        while (next_name(&cursor, '|', name, sizeof name) && at < max) {
            at += (size_t)snprintf(text + at, max - at, "%s%s", separator, name);
            separator = ", ";
        }
    }
    if (o->fallback && at < max) {
        at += (size_t)snprintf(text + at, max - at, " (default %s)", o->fallback);
    }
    if (o->env && at < max) {
        snprintf(text + at, max - at, " [%s]", o->env);
    }
}

static void print_option(FILE *out, const char *names, const char *text, int width) {
    int at = fprintf(out, "%*s%s", NAMES_COLUMN, "", names);
    if (at + 2 > HELP_COLUMN) {
        fprintf(out, "\n");
        at = 0;
    }
    fprintf(out, "%*s", HELP_COLUMN - at, "");
    print_wrapped(out, text, HELP_COLUMN, HELP_COLUMN, width);
}

static int help_width(FILE *out) {
    int width = terminal_width(out);
    return width > WIDEST ? WIDEST : width;
}

void help_command(FILE *out, const struct command *c) {
    int width = help_width(out);
    fprintf(out, "usage: genarm %s %s\n\n", c->name, c->usage);
    print_wrapped(out, c->details, 0, 0, width);
    for (size_t i = 0; i < c->n_options; i++) {
        const struct option *o = &c->options[i];
        if (o->type == OPTION_GROUP) {
            fprintf(out, "\n%s:\n", o->help);
            continue;
        }
        char names[160], text[1024];
        name_line(o, names, sizeof names);
        help_text(o, text, sizeof text);
        print_option(out, names, text, width);
    }
    print_option(out, "-h, --help", "show this", width);
    fprintf(out, "\nExamples:\n");
    for (const char *line = c->examples; *line;) {
        size_t n = strcspn(line, "\n");
        fprintf(out, "  %.*s\n", (int)n, line);
        line += n + (line[n] == '\n');
    }
}

void help_program(FILE *out, const struct command *const *commands, size_t n) {
    fprintf(out, "usage: genarm COMMAND [options]\n\n"
                 "Trains autoregressive reward models and steers a language model with them while it answers.\n\n"
                 "Commands:\n");
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "  %-12s%s\n", commands[i]->name, commands[i]->summary);
    }
    fprintf(out, "\ngenarm COMMAND --help shows the options of a command, genarm --version the version, genarm --man the\n"
                 "manual page, genarm --completion bash|zsh|fish what a shell needs to complete words.\n");
}

/* ---- the man page ---- */

/* Text as roff: backslashes and hyphens kept, no line that looks like a request. */
static void print_roff(FILE *out, const char *text) {
    bool line_start = true;
    for (; *text; text++) {
        if (line_start && (*text == '.' || *text == '\'')) {
            fputs("\\&", out);
        }
        line_start = *text == '\n';
        if (*text == '\\') {
            fputs("\\e", out);
        } else if (*text == '-') {
            fputs("\\-", out);
        } else {
            fputc(*text, out);
        }
    }
}

static void man_options(FILE *out, const struct command *c) {
    for (size_t i = 0; i < c->n_options; i++) {
        const struct option *o = &c->options[i];
        if (o->type == OPTION_GROUP) {
            fprintf(out, ".PP\n%s:\n", o->help);
            continue;
        }
        char text[1024], name[64];
        const char *cursor = o->names, *separator = "";
        fprintf(out, ".TP\n");
        while (next_name(&cursor, ' ', name, sizeof name)) {
            fprintf(out, "%s\\fB", separator);
            print_roff(out, name);
            fprintf(out, "\\fR");
            separator = ", ";
        }
        if (o->type != OPTION_FLAG && o->names[0] == '-') {
            fprintf(out, " \\fI");
            print_roff(out, o->value);
            fprintf(out, "\\fR");
        }
        fputc('\n', out);
        help_text(o, text, sizeof text);
        print_roff(out, text);
        fputc('\n', out);
    }
}

void help_man(FILE *out, const struct command *const *commands, size_t n) {
    fprintf(out, ".TH GENARM 1 \"\" \"genarm %s\" \"User Commands\"\n", GENARM_VERSION);
    fprintf(out, ".SH NAME\ngenarm \\- train reward models and steer a language model with them\n");
    fprintf(out, ".SH SYNOPSIS\n");
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "%s\\fBgenarm %s\\fR ", i ? ".br\n" : "", commands[i]->name);
        print_roff(out, commands[i]->usage);
        fputc('\n', out);
    }
    fprintf(out, ".SH DESCRIPTION\n"
                 "An autoregressive reward model (ARM) is a small language model trained from preference pairs; its\n"
                 "log\\-probabilities, times a weight, are added to those of a frozen base model at every token.\n"
                 "Weights of several ARMs can be chosen for each answer.\n");
    for (size_t i = 0; i < n; i++) {
        fprintf(out, ".SH GENARM %s\n", commands[i]->name);
        print_roff(out, commands[i]->details);
        fputc('\n', out);
        man_options(out, commands[i]);
    }
    fprintf(out, ".SH EXAMPLES\n.nf\n");
    for (size_t i = 0; i < n; i++) {
        print_roff(out, commands[i]->examples);
        fputc('\n', out);
    }
    fprintf(out, ".fi\n.SH ENVIRONMENT\n"
                 "Variables in square brackets above set options; the command line wins.\n"
                 "\\fBNO_COLOR\\fR, when not empty, turns colours off.\n"
                 ".SH EXIT STATUS\n"
                 "0 success, 1 error, 2 wrong use, 130 stopped by Ctrl\\-C, 143 by SIGTERM.\n");
}
