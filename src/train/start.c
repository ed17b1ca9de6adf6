#include "train/start.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/rng.h"
#include "model/model.h"
#include "train/options.h"

enum { STREAM_INIT = 3 }; /* of the seed, beside those of plan.c and trainer.c */

/* ---- adapters ---- */

/* Puts what the adapter adapts in place of what the options say. */
static int set_targets(struct genarm_train_params *p, const char *targets, struct genarm_error *err) {
    char *copy = strdup(targets);
    if (!copy) {
        return error_nomem(err, "the options");
    }
    free((char *)(uintptr_t)p->lora_targets);
    p->lora_targets = copy;
    return GENARM_OK;
}

/* Continues an adapter: with its own rank, alpha and targets. */
static int take_adapter(struct trainable *t, struct genarm_train_params *p, const struct genarm_model *model, bool head,
                        struct genarm_error *err) {
    struct genarm_adapter *adapter = NULL;
    int rc = genarm_adapter_load(&adapter, model, p->init_adapter, err);
    if (rc == GENARM_OK && adapter->info.objectives.n > 0) {
        rc = error_set(err, GENARM_EUNSUPPORTED, "an adapter with objectives cannot be trained further");
        error_at(err, rc, "%s", p->init_adapter);
        error_hint(err, rc, "genarm merge --into adapter --preference makes a plain one of it");
    }
    if (rc == GENARM_OK) {
        rc = trainable_init_from(t, &model->hp, adapter, head, ggml_backend_cpu_buffer_type(), err);
    }
    if (rc == GENARM_OK) {
        p->lora_rank = adapter->rank;
        p->lora_alpha = t->alpha;
        rc = set_targets(p, adapter->targets, err);
    }
    genarm_adapter_free(adapter);
    return rc;
}

int start_adapter(struct trainable *t, struct genarm_train_params *p, const struct genarm_model *model, bool head,
                  struct genarm_error *err) {
    if (p->init_adapter) {
        return take_adapter(t, p, model, head, err);
    }
    uint32_t targets;
    char names[64];
    int rc = targets_parse(&targets, p->lora_targets, err);
    const uint64_t seed = rng_hash(p->seed, STREAM_INIT, 0);
    const struct conditioning conditioning = {.n_objectives = (int32_t)p->n_objectives, .rank = p->preference_rank};
    if (rc == GENARM_OK && conditioning.n_objectives > 0) {
        rc = trainable_init_conditioned(t, &model->hp, targets, p->lora_rank, p->lora_alpha, &conditioning, seed,
                                        ggml_backend_cpu_buffer_type(), err);
    } else if (rc == GENARM_OK) {
        rc = trainable_init(t, &model->hp, targets, p->lora_rank, p->lora_alpha, head, seed, ggml_backend_cpu_buffer_type(),
                            err);
    }
    if (rc == GENARM_OK) {
        targets_print(names, sizeof names, targets);
        rc = set_targets(p, names, err);
    }
    return rc;
}

int start_reference(struct trainable *t, const struct genarm_train_params *p, const struct genarm_model *model,
                    struct genarm_error *err) {
    struct genarm_adapter *adapter = NULL;
    if (!p->reference_adapter) {
        return GENARM_OK;
    }
    int rc = genarm_adapter_load(&adapter, model, p->reference_adapter, err);
    if (rc == GENARM_OK) {
        rc = trainable_init_from(t, &model->hp, adapter, false, ggml_backend_cpu_buffer_type(), err);
    }
    genarm_adapter_free(adapter);
    return rc;
}

void start_max_length(struct genarm_train_params *p, const struct genarm_model *model) {
    if (p->max_length > model->hp.n_ctx_train) {
        const bool asked_for = p->max_length != genarm_train_default_params().max_length;
        log_line(asked_for ? GENARM_LOG_WARN : GENARM_LOG_INFO, "maximum length %d is cut to the model's context of %d tokens",
                 p->max_length, model->hp.n_ctx_train);
        p->max_length = model->hp.n_ctx_train;
    }
}

void start_warmup(const struct genarm_train_params *p, int64_t n_updates) {
    if (p->warmup >= n_updates) {
        log_line(GENARM_LOG_WARN, "the warm-up of %d updates is not shorter than the run, which has %" PRId64
                                  ": the learning rate does not get to %g",
                 p->warmup, n_updates, options_decimal(p->learning_rate));
    }
}

/* ---- where the result goes ---- */

int start_check_output(const char *output, struct genarm_error *err) {
    struct stat st;
    if (output[0] == '\0' || (stat(output, &st) == 0 && !S_ISREG(st.st_mode))) {
        return error_at(err, error_set(err, GENARM_EINVAL, "the adapter cannot be written there: not a file"), "%s",
                        output);
    }
    return GENARM_OK;
}

static int lock_folder(int *lock, const char *output, const char *folder, struct genarm_error *err) {
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return error_at(err, error_set(err, GENARM_EIO, "cannot open the folder: %s", strerror(errno)), "%s", folder);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) { /* some file systems know no locks */
        const int rc = error_at(err, error_set(err, GENARM_EIO, "another process is writing this file"), "%s", output);
        close(fd);
        return error_hint(err, rc, "wait for it, or name another output");
    }
    *lock = fd;
    return GENARM_OK;
}

char *start_epoch_output(const char *output, int32_t epoch) {
    static const char end[] = ".gguf";
    size_t n = strlen(output);
    if (n >= sizeof end && strcmp(output + n - (sizeof end - 1), end) == 0) {
        n -= sizeof end - 1;
    }
    const size_t size = n + sizeof ".epoch-2147483648.gguf";
    char *path = malloc(size);
    if (path) {
        snprintf(path, size, "%.*s.epoch%d%s", (int)n, output, epoch, end);
    }
    return path;
}

int start_try_output(const char *path, struct genarm_error *err) {
    struct file_writer w;
    const int rc = file_open(&w, path, err);
    if (rc == GENARM_OK) {
        file_abort(&w);
    }
    return rc;
}

int start_output(int *lock, const char *output, const char *folder, struct genarm_error *err) {
    int rc = start_try_output(output, err); /* first: a folder that is not there may be a slip */
    if (rc == GENARM_OK) {
        rc = file_make_folder(folder, err);
    }
    return rc == GENARM_OK ? lock_folder(lock, output, folder, err) : rc;
}

void start_release(int lock, const char *folder) {
    struct stat locked, there;
    if (lock >= 0) { /* the folder is another run's, else, also where that has begun since the checkpoint went */
        if (fstat(lock, &locked) == 0 && stat(folder, &there) == 0 && locked.st_ino == there.st_ino) {
            rmdir(folder); /* only where no checkpoint came about */
        }
        close(lock);
    }
}
