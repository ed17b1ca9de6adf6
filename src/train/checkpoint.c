#include "train/checkpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "train/options.h"
#include "train/run.h"

#define FILE_NAME "checkpoint"
#define MAGIC "GENARMCK"

enum { VERSION = 2, MAX_HEAD = 1 << 20 /* bytes */, N_ARRAYS = 3 };

/* Layout: magic[8], u32 version, u32 bytes of the head, head (JSON), theta, m, v (f32), u64 hash of all before.
 * Numbers are in the machine's order: a checkpoint goes on where it was made. */
struct prefix {
    char magic[8];
    uint32_t version, n_head;
};

char *checkpoint_folder(const char *output) {
    const size_t size = strlen(output) + sizeof ".ckpt";
    char *folder = malloc(size);
    if (folder) {
        snprintf(folder, size, "%s.ckpt", output);
    }
    return folder;
}

static int file_of(char **path, const char *folder, struct genarm_error *err) {
    const size_t size = strlen(folder) + sizeof "/" FILE_NAME;
    *path = malloc(size);
    if (!*path) {
        return error_nomem(err, "a file name");
    }
    snprintf(*path, size, "%s/%s", folder, FILE_NAME);
    return GENARM_OK;
}

bool checkpoint_exists(const char *folder) {
    char *path = NULL;
    const bool exists = file_of(&path, folder, NULL) == GENARM_OK && file_exists(path);
    free(path);
    return exists;
}

/* ---- writing ---- */

static uint64_t put(FILE *stream, uint64_t hash, const void *bytes, size_t n) {
    fwrite(bytes, 1, n, stream); /* failures are collected by file_commit */
    return hash_bytes(hash, bytes, n);
}

static int make_head(struct buf *text, const struct checkpoint *c, struct genarm_error *err) {
    json_t *head =
        json_pack("{s:O, s:I, s:I, s:I, s:I}", "run", c->run, "step", (json_int_t)c->step, "validated",
                  (json_int_t)c->validated, "log_size", (json_int_t)c->log_size, "numbers", (json_int_t)c->n);
    int rc = head ? json_dump(text, head, err) : error_nomem(err, "a checkpoint");
    json_decref(head);
    return rc;
}

int checkpoint_write(const char *folder, const struct checkpoint *c, struct genarm_error *err) {
    struct file_writer w = {0};
    struct buf head;
    char *path = NULL;
    buf_init(&head, MAX_HEAD);
    int rc = file_make_folder(folder, err);
    if (rc == GENARM_OK) {
        rc = make_head(&head, c, err);
    }
    if (rc == GENARM_OK) {
        rc = file_of(&path, folder, err);
    }
    if (rc == GENARM_OK) {
        rc = file_open(&w, path, err);
    }
    if (rc == GENARM_OK) {
        const struct prefix prefix = {.magic = MAGIC, .version = VERSION, .n_head = (uint32_t)head.len};
        const float *const arrays[N_ARRAYS] = {c->theta, c->m, c->v};
        uint64_t hash = put(w.stream, HASH_START, &prefix, sizeof prefix);
        hash = put(w.stream, hash, head.data, head.len);
        for (int i = 0; i < N_ARRAYS; i++) {
            hash = put(w.stream, hash, arrays[i], c->n * sizeof(float));
        }
        put(w.stream, 0, &hash, sizeof hash);
        rc = file_commit(&w, err);
    }
    free(path);
    buf_deinit(&head);
    return rc;
}

/* ---- reading ---- */

static int damaged(struct genarm_error *err, const char *path, const char *what) {
    const int rc = error_at(err, error_set(err, GENARM_EFORMAT, "the checkpoint is damaged: %s", what), "%s", path);
    return error_hint(err, rc, "remove it to start the run anew");
}

/* The file as a whole, its checksum verified: *prefix and the head's text are inside `bytes`. */
static int check_bytes(const struct buf *bytes, const char *path, struct prefix *prefix, struct genarm_error *err) {
    uint64_t hash;
    if (bytes->len < sizeof *prefix + sizeof hash) {
        return damaged(err, path, "the file is too short");
    }
    memcpy(prefix, bytes->data, sizeof *prefix);
    if (memcmp(prefix->magic, MAGIC, sizeof prefix->magic) != 0) {
        return damaged(err, path, "wrong magic");
    }
    if (prefix->version != VERSION) {
        const int rc = error_set(err, GENARM_EUNSUPPORTED, "the checkpoint has version %u, this program writes %d",
                                 prefix->version, VERSION);
        error_at(err, rc, "%s", path);
        return error_hint(err, rc, "go on with the program that wrote it, or start anew without resuming");
    }
    const size_t n_hashed = bytes->len - sizeof hash;
    memcpy(&hash, bytes->data + n_hashed, sizeof hash);
    if (hash_bytes(HASH_START, bytes->data, n_hashed) != hash) {
        return damaged(err, path, "truncated, or its checksum is wrong");
    }
    return prefix->n_head <= n_hashed - sizeof *prefix ? GENARM_OK : damaged(err, path, "its head is too long");
}

static bool key_is_in(const char *const *names, const char *key) {
    for (const char *const *name = names; name && *name; name++) {
        if (strcmp(*name, key) == 0) {
            return true;
        }
    }
    return false;
}

static int differs(const struct checkpoint *c, const char *key, const json_t *was, const json_t *is, const char *path,
                   struct genarm_error *err) {
    char before[96], now[96];
    run_print(before, sizeof before, was);
    run_print(now, sizeof now, is);
    if (key_is_in(c->may_change, key)) {
        log_line(GENARM_LOG_WARN, "%s: goes on with another %s: %s, not %s", path, key, now, before);
        return GENARM_OK;
    }
    int rc = error_set(err, GENARM_EMISMATCH, "the checkpoint is of another run: its %s is %s, not %s", key, before, now);
    rc = error_at(err, rc, "%s", path);
    return error_hint(err, rc, "resume with what the run was started with, or %s",
                      key_is_in(options_that_may_change, key) ? "change it from here on: --resume-changed"
                                                              : "start anew without resuming");
}

/* *changed: a new object of what differs and may, NULL for none. */
static int compare_runs(json_t **changed, const json_t *saved, const struct checkpoint *c, const char *path,
                        struct genarm_error *err) {
    const json_t *const sides[] = {c->run, saved}; /* what only the latter has differs too */
    const char *key;
    json_t *value, *found = json_object();
    int rc = found ? GENARM_OK : error_nomem(err, "a checkpoint");
    for (int side = 0; side < 2; side++) {
        json_object_foreach((json_t *)(uintptr_t)sides[side], key, value) {
            json_t *was = json_object_get(saved, key), *is = json_object_get(c->run, key);
            if (rc == GENARM_OK && !json_equal(was, is)) {
                rc = differs(c, key, was, is, path, err);
                json_object_set_new(found, key, json_pack("[O?, O?]", was, is));
            }
        }
    }
    if (rc == GENARM_OK && json_object_size(found) > 0) {
        *changed = json_incref(found);
    }
    json_decref(found);
    return rc;
}

/* Checks the head against *c and takes step and log_size out of it. */
static int read_head(json_t *head, const struct checkpoint *c, size_t n_payload, const char *path,
                     struct checkpoint *found, struct genarm_error *err) {
    json_int_t step, validated, log_size, n;
    json_t *run;
    if (json_unpack(head, "{s:o, s:I, s:I, s:I, s:I}", "run", &run, "step", &step, "validated", &validated, "log_size",
                    &log_size, "numbers", &n) != 0) {
        return damaged(err, path, "its head lacks a member");
    }
    json_t *changed = NULL;
    const int rc = compare_runs(&changed, run, c, path, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    found->changed = changed;
    if (n < 0 || (size_t)n != c->n || n_payload != N_ARRAYS * c->n * sizeof(float)) {
        return damaged(err, path, "it holds another number of parameters");
    }
    if (step < 0 || step > c->n_steps || validated < -1 || validated > step || log_size < 0) {
        return damaged(err, path, "its place in the run is impossible");
    }
    found->step = step;
    found->validated = validated;
    found->log_size = log_size;
    return GENARM_OK;
}

static int parse(const struct buf *bytes, const char *path, struct checkpoint *c, struct genarm_error *err) {
    struct prefix prefix;
    struct checkpoint found = *c;
    json_t *head = NULL;
    found.changed = NULL;
    int rc = check_bytes(bytes, path, &prefix, err);
    if (rc == GENARM_OK) {
        rc = json_parse(&head, bytes->data + sizeof prefix, prefix.n_head, path, err);
    }
    if (rc == GENARM_OK) {
        const size_t n_payload = bytes->len - sizeof(uint64_t) - sizeof prefix - prefix.n_head;
        rc = read_head(head, c, n_payload, path, &found, err);
    }
    if (rc == GENARM_OK) {
        const char *at = bytes->data + sizeof prefix + prefix.n_head;
        float *const arrays[N_ARRAYS] = {c->theta, c->m, c->v};
        for (int i = 0; i < N_ARRAYS; i++, at += c->n * sizeof(float)) {
            memcpy(arrays[i], at, c->n * sizeof(float));
        }
        *c = found;
    } else {
        json_decref(found.changed);
    }
    json_decref(head);
    return rc;
}

int checkpoint_read(const char *folder, struct checkpoint *c, struct genarm_error *err) {
    struct buf bytes;
    char *path = NULL;
    buf_init(&bytes, (size_t)1 << 36); /* also of another run with more parameters: which option differs is named */
    int rc = file_of(&path, folder, err);
    if (rc == GENARM_OK) {
        rc = file_read(&bytes, path, err);
    }
    if (rc == GENARM_OK) {
        rc = parse(&bytes, path, c, err);
    }
    free(path);
    buf_deinit(&bytes);
    return rc;
}

int checkpoint_remove(const char *folder, struct genarm_error *err) {
    char *path = NULL;
    int rc = file_of(&path, folder, err);
    if (rc == GENARM_OK) {
        file_remove_leftovers(path);
        const bool file_stays = unlink(path) != 0 && errno != ENOENT;
        const bool folder_stays = rmdir(folder) != 0 && errno != ENOENT && errno != ENOTEMPTY && errno != EEXIST;
        if (file_stays || folder_stays) {
            rc = error_at(err, error_set(err, GENARM_EIO, "cannot remove the checkpoint: %s", strerror(errno)), "%s",
                          folder);
        }
    }
    free(path);
    return rc;
}
