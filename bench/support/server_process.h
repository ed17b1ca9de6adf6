/* A server that a benchmark starts on a free port of this machine, and ends. */
#ifndef BENCH_SERVER_PROCESS_H
#define BENCH_SERVER_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

struct server_process {
    pid_t pid;
    char url[64];   /* "http://127.0.0.1:40123" */
    char log[256];  /* the file that holds what it printed */
};

/* Runs argv, NULL-terminated, with "--host 127.0.0.1 --port PORT" added, and waits until GET /health says 200. When it ends
 * or stays silent instead, prints why and the end of its log, and returns false. It ends with its parent. */
bool server_process_start(struct server_process *s, const char *const *argv);

/* SIGTERM; what does not end within some seconds is killed. Returns its exit status, or -1 when it was killed or crashed.
 * A server that was not started is fine. */
int server_process_stop(struct server_process *s);

#endif
