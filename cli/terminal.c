/* See terminal.h. */
#include "terminal.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int terminal_width(FILE *stream) {
    struct winsize size;
    if (ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col >= 40) {
        return size.ws_col;
    }
    return 80;
}

bool terminal_colors(FILE *stream) {
    const char *term = getenv("TERM"), *off = getenv("NO_COLOR");
    return isatty(fileno(stream)) && term && strcmp(term, "dumb") != 0 && !(off && *off);
}

static volatile sig_atomic_t caught;

static void on_signal(int number) {
    caught = number;
}

/* A signal that is ignored from the start, as in a shell's background jobs, stays ignored. */
static void catch_signal(int number) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND}, before;
    sigemptyset(&action.sa_mask);
    if (sigaction(number, NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
        sigaction(number, &action, NULL); /* no SA_RESTART: a read that waits for the user returns */
    }
}

void interrupt_catch(void) {
    caught = 0;
    catch_signal(SIGINT);
    catch_signal(SIGTERM);
}

void interrupt_catch_also(int number) {
    catch_signal(number);
}

int interrupt_signal(void) {
    return caught;
}
