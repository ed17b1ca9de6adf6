/* Figures as PNG, by rsvg-convert of librsvg (Debian librsvg2-bin). */
#include <dirent.h>
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/file.h"
#include "eval/report.h"

enum { MAX_PATH = 4096 };

extern char **environ;

/* Runs the program with its output in a file. ENOENT: it is not installed; -1: it failed. */
static int convert(const char *svg, FILE *png) {
    char program[] = "rsvg-convert", format[] = "--format=png", zoom[] = "--zoom=2", path[MAX_PATH];
    char *const argv[] = {program, format, zoom, path, NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;
    int status = 0;
    snprintf(path, sizeof path, "%s", svg);
    if (posix_spawn_file_actions_init(&actions) != 0) {
        return -1;
    }
    int rc = posix_spawn_file_actions_adddup2(&actions, fileno(png), 1);
    rc = rc ? rc : posix_spawnp(&child, program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (rc) {
        return rc;
    }
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) {
            return -1;
        }
    }
    /* A spawn that could not execute may say so only now. */
    return WIFEXITED(status) && WEXITSTATUS(status) == 127 ? ENOENT : WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

/* 1: made; 0: the program is not installed. */
static int make_png(const char *folder, const char *name, struct genarm_error *err) {
    char svg[MAX_PATH], png[MAX_PATH];
    struct file_writer w;
    const int n = snprintf(svg, sizeof svg, "%s/%s", folder, name);
    if (n < 0 || n >= MAX_PATH) {
        return error_set(err, GENARM_EINVAL, "the name of the folder is too long");
    }
    snprintf(png, sizeof png, "%.*s.png", n - (int)strlen(".svg"), svg);
    int rc = file_open(&w, png, err);
    if (rc) {
        return rc;
    }
    const int failed = convert(svg, w.stream);
    if (failed) {
        file_abort(&w);
        return failed == ENOENT ? 0
                                : error_at(err, error_set(err, GENARM_EIO, "rsvg-convert cannot make a PNG of it"), "%s", svg);
    }
    rc = file_commit(&w, err);
    return rc ? rc : 1;
}

int eval_report_png(int *made, const char *folder, struct genarm_error *err) {
    char path[MAX_PATH];
    const int n = snprintf(path, sizeof path, "%s/figures", folder);
    DIR *dir = n > 0 && n < MAX_PATH ? opendir(path) : NULL;
    int count = 0, got = 1;
    if (!dir) {
        return error_at(err, error_set(err, GENARM_EIO, "cannot open the folder: %s", strerror(errno)), "%s", path);
    }
    for (struct dirent *e = readdir(dir); e && got > 0; e = readdir(dir)) {
        const size_t length = strlen(e->d_name);
        if (length > 4 && strcmp(e->d_name + length - 4, ".svg") == 0) {
            got = make_png(path, e->d_name, err);
            count += got > 0;
        }
    }
    closedir(dir);
    if (got == 0) {
        log_line(GENARM_LOG_WARN, "no figures as PNG: rsvg-convert is not installed (Debian package librsvg2-bin)");
    }
    if (got >= 0) {
        *made = count;
    }
    return got < 0 ? got : GENARM_OK;
}
