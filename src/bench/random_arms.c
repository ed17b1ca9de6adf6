#include "bench/random_arms.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/random_adapter.h"

enum { FOLDER_MAX = 4000 };

/* Adapters come from files, which libllama reads again when the guide is started: then they can go. */
static int make_folder(char *folder, size_t max, struct genarm_error *err) {
    const char *parent = getenv("TMPDIR");
    const int n = snprintf(folder, max, "%s/genarm-bench-XXXXXX", parent && *parent ? parent : "/tmp");
    if (n < 0 || (size_t)n >= max) {
        return error_set(err, GENARM_EINVAL, "TMPDIR is too long a path");
    }
    if (!mkdtemp(folder)) {
        return error_at(err, error_set(err, GENARM_EIO, "cannot make a folder: %s", strerror(errno)), "%s", folder);
    }
    return GENARM_OK;
}

static void adapter_path(char *path, size_t max, const char *folder, int32_t i) {
    snprintf(path, max, "%s/random%d.gguf", folder, i + 1);
}

static int add_one(struct genarm_guide *guide, struct genarm_adapter **adapter, int32_t i, const char *folder,
                   struct genarm_error *err) {
    const unsigned targets = 1u << LINEAR_Q | 1u << LINEAR_K | 1u << LINEAR_V;
    const struct genarm_model *base = guide->policies[0].model;
    char name[32], path[FOLDER_MAX + 32];
    snprintf(name, sizeof name, "random%d", i + 1);
    adapter_path(path, sizeof path, folder, i);
    int rc = random_adapter_write(path, base, RANDOM_ARMS_RANK, targets, 0.01f, (uint64_t)i, err);
    if (rc == GENARM_OK) {
        rc = genarm_adapter_load(adapter, base, path, err);
    }
    const struct genarm_arm_params arm = {.name = name, .model = base, .adapter = *adapter, .weight = 1};
    return rc == GENARM_OK ? genarm_guide_add_arm(guide, &arm, err) : rc;
}

int random_arms_add(struct genarm_guide *guide, struct genarm_adapter **adapters, int32_t n, struct genarm_error *err) {
    char folder[FOLDER_MAX], path[FOLDER_MAX + 32];
    int rc = make_folder(folder, sizeof folder, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    for (int32_t i = 0; i < n && rc == GENARM_OK; i++) {
        rc = add_one(guide, &adapters[i], i, folder, err);
    }
    rc = rc == GENARM_OK ? guide_start(guide, err) : rc;
    for (int32_t i = 0; i < n; i++) {
        adapter_path(path, sizeof path, folder, i);
        unlink(path);
    }
    rmdir(folder);
    return rc;
}
