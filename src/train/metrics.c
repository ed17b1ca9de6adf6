#include "train/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"

static int failed(const struct metrics *m, const char *doing, struct genarm_error *err) {
    return error_at(err, error_set(err, GENARM_EIO, "cannot %s the log: %s", doing, strerror(errno)), "%s", m->path);
}

/* Whether the first `size` bytes of a file are lines. */
static bool line_ends(const char *path, int64_t size) {
    char last = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const bool ends = size == 0 || (fd >= 0 && pread(fd, &last, 1, size - 1) == 1 && last == '\n');
    if (fd >= 0) {
        close(fd);
    }
    return ends;
}

/* Cuts the file to what belongs to the steps of the checkpoint. */
static int cut(struct metrics *m, int64_t size, struct genarm_error *err) {
    struct stat st;
    const int fd = fileno(m->stream);
    if (fstat(fd, &st) != 0) {
        return failed(m, "open", err);
    }
    if (!S_ISREG(st.st_mode)) {
        return GENARM_OK; /* a pipe or a terminal */
    }
    if (st.st_size < size) {
        log_line(GENARM_LOG_WARN, "%s: the log is shorter than the checkpoint knows it: earlier lines are lost",
                 m->path);
        size = st.st_size;
    } else if (!line_ends(m->path, size)) {
        const int rc = error_set(err, GENARM_EMISMATCH, "this is not the log that the run began with");
        return error_hint(err, error_at(err, rc, "%s", m->path), "name that one, or one that is not there yet");
    }
    if (ftruncate(fd, size) != 0 || fseek(m->stream, 0, SEEK_END) != 0) {
        return failed(m, "continue", err);
    }
    return GENARM_OK;
}

int metrics_open(struct metrics *m, const char *path, int64_t size, struct genarm_error *err) {
    *m = (struct metrics){.kept = size};
    if (!path) {
        return GENARM_OK;
    }
    m->path = strdup(path);
    if (!m->path) {
        return error_nomem(err, "the log");
    }
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    m->stream = fd < 0 ? NULL : fdopen(fd, "wb");
    int rc = m->stream ? cut(m, size, err) : failed(m, "open", err);
    if (!m->stream && fd >= 0) {
        close(fd);
    }
    if (rc != GENARM_OK) {
        metrics_close(m);
    }
    return rc;
}

void metrics_close(struct metrics *m) {
    if (m->stream) {
        fclose(m->stream);
    }
    free(m->path);
    *m = (struct metrics){0};
}

bool metrics_is_empty(const struct metrics *m) { return m->stream && ftello(m->stream) <= 0; }

int metrics_write(struct metrics *m, json_t *object, struct genarm_error *err) {
    struct buf line;
    if (!m->stream) {
        json_decref(object);
        return GENARM_OK;
    }
    buf_init(&line, 1 << 20);
    int rc = object ? json_dump(&line, object, err) : error_nomem(err, "a line of the log");
    if (rc == GENARM_OK && (fprintf(m->stream, "%s\n", line.data) < 0 || fflush(m->stream) != 0)) {
        rc = failed(m, "write", err);
    }
    json_decref(object);
    buf_deinit(&line);
    return rc;
}

void metrics_number(json_t *object, const char *key, double value) {
    if (isfinite(value)) {
        json_object_set_new(object, key, json_real(value));
    }
}

static json_t *new_object(const struct genarm_train_status *s) {
    return json_pack("{s:I, s:i}", "step", (json_int_t)s->step, "epoch", (int)s->epoch);
}

int metrics_step(struct metrics *m, const struct genarm_train_status *s, struct genarm_error *err) {
    json_t *object = m->stream ? new_object(s) : NULL;
    if (!m->stream) {
        return GENARM_OK;
    }
    metrics_number(object, "loss", s->loss);
    metrics_number(object, "accuracy", s->accuracy);
    metrics_number(object, "margin", s->margin);
    metrics_number(object, "chosen", s->chosen);
    metrics_number(object, "rejected", s->rejected);
    metrics_number(object, "learning_rate", s->learning_rate);
    metrics_number(object, "grad_norm", s->grad_norm);
    json_object_set_new(object, "pairs", json_integer((json_int_t)s->pairs_done));
    metrics_number(object, "pairs_per_second", s->pairs_per_second);
    return metrics_write(m, object, err);
}

int metrics_validation(struct metrics *m, const struct genarm_train_status *s, struct genarm_error *err) {
    json_t *object = m->stream ? new_object(s) : NULL;
    if (!m->stream) {
        return GENARM_OK;
    }
    metrics_number(object, "val_loss", s->val_loss);
    metrics_number(object, "val_accuracy", s->val_accuracy);
    metrics_number(object, "val_margin", s->val_margin);
    metrics_number(object, "val_chosen", s->val_chosen);
    metrics_number(object, "val_rejected", s->val_rejected);
    return metrics_write(m, object, err);
}

int metrics_sync(struct metrics *m, int64_t *size, struct genarm_error *err) {
    *size = m->kept;
    if (!m->stream) {
        return GENARM_OK;
    }
    if (fflush(m->stream) != 0 || (fdatasync(fileno(m->stream)) != 0 && errno != EINVAL && errno != EROFS)) {
        return failed(m, "write", err);
    }
    const off_t at = ftello(m->stream);
    *size = at < 0 ? 0 : (int64_t)at;
    return GENARM_OK;
}
