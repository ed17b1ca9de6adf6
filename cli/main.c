/* genarm: trains autoregressive reward models and steers a language model with them. Here commands are looked up, their
 * options parsed, and what went wrong becomes a message and an exit status: 0, 1 (error), 2 (wrong use). */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "help.h"
#include "ranks.h"
#include "tell.h"

static const struct command *const commands[] = {
    &command_generate, &command_chat,  &command_serve,   &command_score, &command_judge,  &command_train, &command_rl,
    &command_data,     &command_merge, &command_convert, &command_info,  &command_report, &command_bench, &command_rpc_server,
    &command_eval,
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static int wrong_use(const struct genarm_error *err, const char *command) {
    report_error(err);
    fprintf(stderr, "see genarm %s%s--help\n", command, *command ? " " : "");
    return 2;
}

static int unknown_command(const char *name) {
    struct genarm_error err;
    const char *names[N_COMMANDS];
    char near[64];
    for (size_t i = 0; i < N_COMMANDS; i++) {
        names[i] = commands[i]->name;
    }
    if (nearest_name(name, names, N_COMMANDS, near, sizeof near)) {
        usage_error(&err, name, "unknown command; did you mean %s?", near);
    } else {
        usage_error(&err, name, "unknown command");
    }
    return wrong_use(&err, "");
}

/* Copies of a command would do the same work and write the same files. */
static int check_ranks(const struct command *command, struct genarm_error *err) {
    const int32_t n = ranks_launched();
    if (n == 1 || command->ranks) {
        return 0;
    }
    return error_hint(err, usage_error(err, command->name, "cannot be shared by the %d processes that mpirun started", n),
                      "start it without mpirun; genarm train is what many machines can do together");
}

static int run_command(const struct command *command, int argc, char **argv) {
    struct genarm_error err = {0};
    void *args = calloc(1, command->args_size);
    if (!args) {
        error_nomem(&err, "arguments");
        report_error(&err);
        return 1;
    }
    int code = command_line_parse(command, argc, argv, args, &err), status = 0;
    if (code == 1) {
        help_command(stdout, command);
        code = flush_output(stdout, &err);
    } else if (code == 0) {
        code = check_ranks(command, &err);
        status = code = code == 0 ? command->run(args, &err) : code;
    }
    command_line_deinit(command, args);
    free(args);
    if (code == CLI_USAGE) {
        return wrong_use(&err, command->name);
    }
    if (code < 0) {
        report_error(&err);
        return 1;
    }
    return status;
}

static const struct command *find_command(const char *name) {
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(name, commands[i]->name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static bool is_any(const char *word, const char *a, const char *b) { return strcmp(word, a) == 0 || strcmp(word, b) == 0; }

/* What the program says about itself; false when the word is none of these options. */
static bool about(const char *word, const char *value) {
    static const char completion[] = "--completion=";
    if (strncmp(word, completion, strlen(completion)) == 0) {
        value = word + strlen(completion);
        word = "--completion";
    }
    if (is_any(word, "--version", "version")) {
        printf("genarm %s\n", GENARM_VERSION);
    } else if (is_any(word, "--help", "help") || strcmp(word, "-h") == 0) {
        help_program(stdout, commands, N_COMMANDS);
    } else if (strcmp(word, "--man") == 0) {
        help_man(stdout, commands, N_COMMANDS);
    } else if (strcmp(word, "--completion") == 0 && value) {
        return help_completion(stdout, value, commands, N_COMMANDS);
    } else {
        return false;
    }
    return true;
}

/* Files get the lowest free number: with stderr closed, a log would get stderr's and our messages among its lines. A closed
 * stream is held by a file in which its use fails as before. */
static void hold_closed_streams(void) {
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) {
            return;
        }
    }
}

int main(int argc, char **argv) {
    struct genarm_error err;
    hold_closed_streams();
    report_as_rank(ranks_launched_rank());
    signal(SIGXFSZ, SIG_IGN); /* a limit on files is an error of the write */
    if (argc < 2) {
        help_program(stderr, commands, N_COMMANDS);
        return 2;
    }
    const struct command *command = find_command(argv[1]);
    if (command) {
        return run_command(command, argc - 2, argv + 2);
    }
    if (strcmp(argv[1], "help") == 0 && argc > 2) { /* genarm help train */
        char help[] = "--help", *const words[] = {help, NULL};
        command = find_command(argv[2]);
        return command ? run_command(command, 1, (char **)(uintptr_t)words) : unknown_command(argv[2]);
    }
    if (about(argv[1], argc > 2 ? argv[2] : NULL)) {
        if (flush_output(stdout, &err) == 0) {
            return 0;
        }
        report_error(&err);
        return 1;
    }
    if (argv[1][0] != '-') {
        return unknown_command(argv[1]);
    }
    if (strncmp(argv[1], "--completion", strlen("--completion")) == 0) {
        usage_error(&err, "--completion", "takes the name of a shell: bash, zsh or fish");
    } else {
        usage_error(&err, argv[1], "unknown option; a command comes first");
    }
    return wrong_use(&err, "");
}
