/* See child.h. */
#include "eval/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

extern char **environ;

/* By which processes know that they are ranks (cli/ranks.c), and libraries of MPI that a launcher is there. */
static const char *const launcher_variables[] = {
    "OMPI_",       "PMIX_",       "PMI_",         "PMI2_",         "PMIX",          "HYDRA_",          "HYDI_", "MPI_LOCAL",
    "SLURM_STEP_", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_PMI", "PRTE_", "PRRTE_",
};

static bool of_launcher(const char *variable) {
    for (size_t i = 0; i < sizeof launcher_variables / sizeof *launcher_variables; i++) {
        if (strncmp(variable, launcher_variables[i], strlen(launcher_variables[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* The environment without a launcher's variables: malloc'ed, the strings borrowed. */
static char **make_environment(void) {
    size_t n = 0, kept = 0;
    while (environ[n]) {
        n++;
    }
    char **copy = malloc((n + 1) * sizeof *copy);
    for (size_t i = 0; i < n && copy; i++) {
        if (!of_launcher(environ[i])) {
            copy[kept++] = environ[i];
        }
    }
    if (copy) {
        copy[kept] = NULL;
    }
    return copy;
}

static char **make_words(char *const *words) {
    size_t n = 0;
    static char name[] = "genarm";
    while (words[n]) {
        n++;
    }
    char **argv = malloc((n + 2) * sizeof *argv);
    if (argv) {
        argv[0] = name;
        memcpy(argv + 1, words, (n + 1) * sizeof *argv);
    }
    return argv;
}

/* In the child, where only what is safe after fork() may be called. */
static void become(const char *program, char *const *argv, char *const *environment, int log, int fd, pid_t parent) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGXFSZ, SIGUSR1};
    sigset_t none;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        signal(numbers[i], SIG_DFL);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) {
        _exit(127);
    }
#else
    (void)parent;
#endif
    const int in = open("/dev/null", O_RDONLY);
    if (in < 0 || dup2(in, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0 || (fd >= 0 && fcntl(fd, F_SETFD, 0) < 0)) {
        _exit(127);
    }
    if (in > 2) {
        close(in);
    }
    execve(program, argv, environment);
    _exit(127);
}

int child_start(struct child *c, const char *program, char *const *words, const char *log, int fd, struct genarm_error *err) {
    char **environment = make_environment(), **argv = make_words(words);
    const int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    const pid_t parent = getpid();
    int code = environment && argv ? 0 : error_nomem(err, "a command");
    if (code == 0 && out < 0) {
        code = error_at(err, error_set(err, GENARM_EIO, "cannot open the file: %s", strerror(errno)), "%s", log);
    }
    pid_t pid = code ? -1 : fork();
    if (pid == 0) {
        become(program, argv, environment, out, fd, parent);
    }
    if (code == 0 && pid < 0) {
        code = error_set(err, GENARM_EIO, "a command cannot be started: %s", strerror(errno));
    }
    if (out >= 0) {
        close(out);
    }
    free(environment);
    free(argv);
    if (code == 0) {
        c->pid = pid;
    }
    return code;
}

bool child_ended(struct child *c, int *status) {
    int s = 0;
    pid_t pid;
    do {
        pid = waitpid(c->pid, &s, WNOHANG);
    } while (pid < 0 && errno == EINTR);
    if (pid == 0) {
        return false;
    }
    c->pid = 0;
    *status = pid < 0 ? 127 : WIFEXITED(s) ? WEXITSTATUS(s) : WIFSIGNALED(s) ? 128 + WTERMSIG(s) : 127;
    return true;
}

void child_signal(const struct child *c, int number) {
    if (c->pid > 0) {
        kill(c->pid, number);
    }
}
