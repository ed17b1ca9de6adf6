/* Completion scripts for bash, zsh and fish from the option tables. See help.h. */
#include "help.h"

#include <string.h>

static bool takes_file(const struct option *o) {
    return o->type == OPTION_FILE || o->type == OPTION_FILES;
}

/* Names of an option that start with a dash, each after `before`. */
static void print_names(FILE *out, const struct option *o, const char *before) {
    const char *cursor = o->names;
    char name[64];
    while (cursor && next_name(&cursor, ' ', name, sizeof name)) {
        if (name[0] == '-') {
            fprintf(out, "%s%s", before, name);
        }
    }
}

static void print_choices(FILE *out, const struct option *o) {
    const char *cursor = o->choices, *separator = "";
    char name[64];
    while (next_name(&cursor, '|', name, sizeof name)) {
        fprintf(out, "%s%s", separator, name);
        separator = " ";
    }
}

/* Text within single quotes of all three shells; what would end them or means something to zsh is dropped. */
static void print_quoted(FILE *out, const char *text, const char *drop) {
    for (; *text; text++) {
        if (*text != '\'' && *text != '\n' && !strchr(drop, *text)) {
            fputc(*text, out);
        }
    }
}

/* ---- bash ---- */

/* One case of the option before the cursor: what its value can be. */
static void bash_value(FILE *out, const struct option *o) {
    if (o->type == OPTION_FLAG || o->type == OPTION_GROUP || o->names[0] != '-') {
        return;
    }
    const char *cursor = o->names, *separator = "    ";
    char name[64];
    while (next_name(&cursor, ' ', name, sizeof name)) {
        fprintf(out, "%s%s", separator, name);
        separator = "|";
    }
    fprintf(out, ") ");
    if (o->choices) {
        fprintf(out, "COMPREPLY=($(compgen -W '");
        print_choices(out, o);
        fprintf(out, "' -- \"$word\"))");
    } else if (takes_file(o) || strcmp(o->names, "--arm") == 0) {
        fprintf(out, "compopt -o default; COMPREPLY=()");
    } else {
        fprintf(out, "COMPREPLY=()");
    }
    fprintf(out, "; return;;\n");
}

static void bash_completion(FILE *out, const struct command *const *commands, size_t n) {
    fprintf(out, "# bash completion for genarm: source it, or put it in bash-completion's folder as \"genarm\".\n"
                 "_genarm() {\n  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
                 "  COMPREPLY=()\n  if [ \"$COMP_CWORD\" = 1 ]; then\n    COMPREPLY=($(compgen -W '");
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "%s ", commands[i]->name);
    }
    fprintf(out, "--help --version' -- \"$word\"))\n    return\n  fi\n  case ${COMP_WORDS[1]} in\n");
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "  %s)\n    case $before in\n", commands[i]->name);
        for (size_t j = 0; j < commands[i]->n_options; j++) {
            bash_value(out, &commands[i]->options[j]);
        }
        fprintf(out, "    esac\n    case $word in\n    -*) COMPREPLY=($(compgen -W '-h --help");
        for (size_t j = 0; j < commands[i]->n_options; j++) {
            print_names(out, &commands[i]->options[j], " ");
        }
        fprintf(out, "' -- \"$word\"));;\n    *) compopt -o default;;\n    esac;;\n");
    }
    fprintf(out, "  esac\n}\ncomplete -F _genarm genarm\n");
}

/* ---- zsh ---- */

static void zsh_option(FILE *out, const struct option *o) {
    const char *cursor = o->names;
    char name[64];
    if (o->names && o->names[0] != '-') {
        fprintf(out, "        '*:%s:_files'\n", o->names);
    }
    while (cursor && next_name(&cursor, ' ', name, sizeof name) && name[0] == '-') {
        bool list = o->type == OPTION_TEXTS || o->type == OPTION_FILES;
        fprintf(out, "        '%s%s[", list ? "*" : "", name);
        print_quoted(out, o->help, "[]:\\");
        fprintf(out, "]");
        if (o->choices) {
            fprintf(out, ":%s:(", o->value);
            print_choices(out, o);
            fprintf(out, ")");
        } else if (o->type != OPTION_FLAG) {
            fprintf(out, ":");
            print_quoted(out, o->value, "[]:\\");
            fprintf(out, ":%s", takes_file(o) || strcmp(name, "--arm") == 0 ? "_files" : " ");
        }
        fprintf(out, "'\n");
    }
}

static void zsh_completion(FILE *out, const struct command *const *commands, size_t n) {
    fprintf(out, "#compdef genarm\n_genarm() {\n  local -a commands specs\n  commands=(\n");
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "    '%s:", commands[i]->name);
        print_quoted(out, commands[i]->summary, ":\\");
        fprintf(out, "'\n");
    }
    fprintf(out, "  )\n  if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  fi\n"
                 "  case $words[2] in\n");
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "    %s)\n      specs=(\n        '-h[show help]'\n        '--help[show help]'\n",
                commands[i]->name);
        for (size_t j = 0; j < commands[i]->n_options; j++) {
            zsh_option(out, &commands[i]->options[j]);
        }
        fprintf(out, "      );;\n");
    }
    fprintf(out, "  esac\n  shift words\n  (( CURRENT-- ))\n  _arguments -S $specs\n}\n"
                 "if [ \"$funcstack[1]\" = _genarm ]; then _genarm \"$@\"; else compdef _genarm genarm; fi\n");
}

/* ---- fish ---- */

static void fish_option(FILE *out, const char *command, const struct option *o) {
    const char *cursor = o->names;
    char name[64];
    if (!cursor || cursor[0] != '-') {
        return;
    }
    fprintf(out, "complete -c genarm -n '__fish_seen_subcommand_from %s'", command);
    while (next_name(&cursor, ' ', name, sizeof name)) {
        if (name[1] == '-') {
            fprintf(out, " -l %s", name + 2);
        } else {
            fprintf(out, " -%c %s", name[2] ? 'o' : 's', name + 1);
        }
    }
    if (o->choices) {
        fprintf(out, " -x -a '");
        print_choices(out, o);
        fprintf(out, "'");
    } else if (takes_file(o) || strcmp(o->names, "--arm") == 0) {
        fprintf(out, " -r -F");
    } else if (o->type != OPTION_FLAG) {
        fprintf(out, " -x");
    }
    fprintf(out, " -d '");
    print_quoted(out, o->help, "\\");
    fprintf(out, "'\n");
}

static void fish_completion(FILE *out, const struct command *const *commands, size_t n) {
    fprintf(out, "# fish completion for genarm\n");
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "complete -c genarm -f -n __fish_use_subcommand -a %s -d '", commands[i]->name);
        print_quoted(out, commands[i]->summary, "\\");
        fprintf(out, "'\n");
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < commands[i]->n_options; j++) {
            fish_option(out, commands[i]->name, &commands[i]->options[j]);
        }
    }
}

bool help_completion(FILE *out, const char *shell, const struct command *const *commands, size_t n) {
    if (strcmp(shell, "bash") == 0) {
        bash_completion(out, commands, n);
    } else if (strcmp(shell, "zsh") == 0) {
        zsh_completion(out, commands, n);
    } else if (strcmp(shell, "fish") == 0) {
        fish_completion(out, commands, n);
    } else {
        return false;
    }
    return true;
}
