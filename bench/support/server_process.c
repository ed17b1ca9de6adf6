#include "server_process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/progress.h"
#include "chat_load.h"
#include "support/ports.h"
#include "support/temp.h"

enum { MAX_ARGS = 64, START_S = 180, STOP_S = 20, LOG_TAIL = 2000 };

static void run_child(const char *const *argv, const char *port, const char *log, pid_t parent) {
    const char *args[MAX_ARGS + 5];
    size_t n = 0;
    for (; n < MAX_ARGS && argv[n]; n++) {
        args[n] = argv[n];
    }
    args[n++] = "--host";
    args[n++] = "127.0.0.1";
    args[n++] = "--port";
    args[n++] = port;
    args[n] = NULL;
    const int in = open("/dev/null", O_RDONLY), out = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (in >= 0 && out >= 0 && getppid() == parent) {
        dup2(in, 0);
        dup2(out, 1);
        dup2(out, 2);
        execv(args[0], (char *const *)args);
        perror(args[0]);
    }
    _exit(127);
}

static void print_log(const struct server_process *s) {
    char tail[LOG_TAIL + 1];
    FILE *f = fopen(s->log, "r");
    if (!f) {
        return;
    }
    if (fseek(f, -LOG_TAIL, SEEK_END) != 0) {
        rewind(f);
    }
    tail[fread(tail, 1, LOG_TAIL, f)] = '\0';
    fclose(f);
    fprintf(stderr, "%s\n", tail);
}

/* Whether it answers; gives up when it has ended, and after START_S. */
static bool wait_until_ready(struct server_process *s) {
    for (const double start = clock_seconds(); clock_seconds() - start < START_S; usleep(50000)) {
        long status = 0;
        free(chat_load_get(s->url, "/health", &status));
        if (waitpid(s->pid, NULL, WNOHANG) != 0) {
            s->pid = 0;
            return false;
        }
        if (status == 200) {
            return true;
        }
    }
    return false;
}

bool server_process_start(struct server_process *s, const char *const *argv) {
    char port[16], name[32];
    const pid_t parent = getpid();
    snprintf(port, sizeof port, "%d", free_port());
    snprintf(name, sizeof name, "server-%s.log", port);
    snprintf(s->url, sizeof s->url, "http://127.0.0.1:%s", port);
    snprintf(s->log, sizeof s->log, "%s", temp_path(name));
    fflush(NULL);
    s->pid = fork();
    if (s->pid == 0) {
        run_child(argv, port, s->log, parent);
    }
    if (s->pid > 0 && wait_until_ready(s)) {
        return true;
    }
    fprintf(stderr, "bench: %s %s\n", argv[0], s->pid ? "does not say that it is ready" : "ended instead of serving");
    print_log(s);
    server_process_stop(s);
    return false;
}

int server_process_stop(struct server_process *s) {
    int status = 0;
    if (s->pid <= 0) {
        return 0;
    }
    kill(s->pid, SIGTERM);
    for (const double start = clock_seconds(); waitpid(s->pid, &status, WNOHANG) == 0; usleep(20000)) {
        if (clock_seconds() - start > STOP_S) {
            kill(s->pid, SIGKILL);
        }
    }
    s->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
