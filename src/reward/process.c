/* See process.h. */
#include "reward/process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* ---- pipes ---- */

static void close_both(int fds[2]) {
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
}

/* A pipe whose ends are closed on exec and are not 0, 1 or 2, so that no dup2 of the child overwrites one of them. */
static int make_pipe(int fds[2]) {
    if (pipe2(fds, O_CLOEXEC) != 0) {
        fds[0] = fds[1] = -1;
        return -1;
    }
    for (int i = 0; i < 2; i++) {
        if (fds[i] <= STDERR_FILENO) {
            const int moved = fcntl(fds[i], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
            if (moved < 0) {
                close_both(fds);
                fds[0] = fds[1] = -1;
                return -1;
            }
            close(fds[i]);
            fds[i] = moved;
        }
    }
    return 0;
}

static int set_nonblocking(int fd) {
    const int flags = fcntl(fd, F_GETFL);
    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

/* ---- start ---- */

/* In the child: default signals, none blocked, a group of its own. Returns an errno. */
static int set_attributes(posix_spawnattr_t *attr) {
    sigset_t none, reset;
    sigemptyset(&none);
    sigemptyset(&reset);
    sigaddset(&reset, SIGPIPE);
    int e = posix_spawnattr_setsigmask(attr, &none);
    e = e ? e : posix_spawnattr_setsigdefault(attr, &reset);
    e = e ? e : posix_spawnattr_setpgroup(attr, 0);
    return e ? e
             : posix_spawnattr_setflags(attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

static int spawn(pid_t *pid, const char *command, int in, int out) {
    char copy[] = "sh", option[] = "-c";
    char *const argv[] = {copy, option, (char *)(uintptr_t)command, NULL}; /* posix_spawn does not change them */
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    int e = posix_spawn_file_actions_init(&actions);
    if (e) {
        return e;
    }
    e = posix_spawnattr_init(&attr);
    if (e == 0) {
        e = set_attributes(&attr);
        e = e ? e : posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
        e = e ? e : posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
        e = e ? e : posix_spawn(pid, "/bin/sh", &actions, &attr, argv, environ);
        posix_spawnattr_destroy(&attr);
    }
    posix_spawn_file_actions_destroy(&actions);
    return e;
}

int process_start(struct process *p, const char *command, struct genarm_error *err) {
    int in[2] = {-1, -1}, out[2] = {-1, -1}, e = 0;
    struct process started = {.pid = 0};
    if (make_pipe(in) != 0 || make_pipe(out) != 0 || set_nonblocking(in[1]) != 0 || set_nonblocking(out[0]) != 0) {
        e = errno;
    }
    e = e ? e : spawn(&started.pid, command, in[0], out[1]);
    if (e) {
        close_both(in);
        close_both(out);
        return error_set(err, GENARM_EIO, "a program cannot be started: %s", strerror(e));
    }
    close(in[0]);
    close(out[1]);
    started.in = in[1];
    started.out = out[0];
    *p = started;
    return GENARM_OK;
}

/* ---- use ---- */

ssize_t process_write(struct process *p, const void *bytes, size_t n) {
    sigset_t sigpipe, before, pending;
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    sigemptyset(&pending);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &sigpipe, &before);
    const ssize_t done = write(p->in, bytes, n);
    const int e = errno;
    if (done < 0 && e == EPIPE && !sigismember(&pending, SIGPIPE)) {
        const struct timespec now = {0}; /* takes the signal that the write left pending */
        while (sigtimedwait(&sigpipe, NULL, &now) < 0 && errno == EINTR) {
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = e;
    return done < 0 && (e == EAGAIN || e == EINTR) ? 0 : done;
}

/* Whether the process has exited; it stays a zombie, so that its group keeps its number. */
static bool wait_exit(pid_t pid, double seconds, siginfo_t *info) {
    const struct timespec nap = {.tv_nsec = 5000000};
    for (double waited = 0;; waited += 0.005) {
        memset(info, 0, sizeof *info);
        const int rc = waitid(P_PID, (id_t)pid, info, WEXITED | WNOHANG | WNOWAIT);
        if ((rc == 0 && info->si_pid == pid) || (rc != 0 && errno == ECHILD)) { /* ECHILD: somebody else waited */
            return true;
        }
        if (waited >= seconds) {
            return false;
        }
        nanosleep(&nap, NULL);
    }
}

bool process_exited(const struct process *p, double seconds, char *how, size_t n_how) {
    siginfo_t info;
    if (!wait_exit(p->pid, seconds, &info)) {
        return false;
    }
    if (info.si_pid != p->pid) {
        snprintf(how, n_how, "exited");
    } else if (info.si_code == CLD_EXITED) {
        snprintf(how, n_how, "exited with status %d", info.si_status);
    } else {
        snprintf(how, n_how, "was killed by signal %d", info.si_status);
    }
    return true;
}

void process_close_input(struct process *p) {
    if (p->in >= 0) {
        close(p->in);
        p->in = -1;
    }
}

void process_end(struct process *p, double patience) {
    siginfo_t info;
    if (p->pid == 0) {
        return;
    }
    process_close_input(p);
    close(p->out);
    const bool reaped = wait_exit(p->pid, patience, &info) && info.si_pid != p->pid;
    if (!reaped) { /* else its number may be another group's by now */
        kill(p->pid, SIGKILL); /* it may have left its group */
        kill(-p->pid, SIGKILL); /* what it started and left behind as well */
    }
    while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    *p = (struct process){.pid = 0};
}
