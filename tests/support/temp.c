#include "support/temp.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/genarm-test-XXXXXX";
static pid_t owner;

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at) {
    (void)st, (void)type, (void)at;
    return remove(path);
}

static void remove_folder(void) {
    if (getpid() == owner) { /* not in a child that a test forked */
        nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    }
}

const char *temp_path(const char *name) {
    static char paths[8][256];
    static unsigned turn;
    if (!owner) {
        if (!mkdtemp(folder)) {
            perror(folder);
            abort();
        }
        owner = getpid();
        atexit(remove_folder);
    }
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}
