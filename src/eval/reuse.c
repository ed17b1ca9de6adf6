/* See reuse.h. */
#include "eval/reuse.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/hash.h"

static bool has_size(const char *path, int64_t size) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && (int64_t)st.st_size == size;
}

static void free_file(struct reuse_file *file) {
    free(file->path);
    free(file->record_path);
    free(file->log_path);
}

/* FOLDER/logs/NAME.jsonl of FOLDER/items/NAME.json. NULL when out of memory. */
static char *log_path(const char *folder, const char *record_path) {
    const char *name = strrchr(record_path, '/') + 1;
    char *logs = item_path(folder, "logs", ""), *path = logs ? item_path(logs, name, "l") : NULL;
    free(logs);
    return path;
}

/* Adds the file of a record if it is there, whole. */
static int add_record(struct reuse *r, const char *folder, const char *path, struct genarm_error *err) {
    struct reuse_file file;
    char *output = NULL;
    item_record_read_at(&file.record, &output, path);
    file.path = output ? item_path(folder, output, "") : NULL;
    file.record_path = strdup(path);
    file.log_path = log_path(folder, path);
    free(output);
    if (file.record.state != RECORD_DONE || !file.path || !file.record_path || !file.log_path ||
        !has_size(file.path, file.record.size)) {
        free_file(&file);
        return 0;
    }
    struct reuse_file *files = realloc(r->files, (r->n + 1) * sizeof *files);
    if (!files) {
        free_file(&file);
        return error_nomem(err, "files of another experiment");
    }
    r->files = files;
    files[r->n++] = file;
    return 0;
}

int reuse_add(struct reuse *r, const char *folder, struct genarm_error *err) {
    glob_t found = {0};
    char *pattern = item_path(folder, "items/*", ".json");
    int code = pattern ? 0 : error_nomem(err, "a path");
    if (code == 0 && glob(pattern, 0, NULL, &found) == GLOB_NOSPACE) {
        code = error_nomem(err, "files of another experiment");
    }
    for (size_t i = 0; i < found.gl_pathc && code == 0; i++) {
        code = add_record(r, folder, found.gl_pathv[i], err);
    }
    globfree(&found);
    free(pattern);
    return code;
}

void reuse_deinit(struct reuse *r) {
    for (size_t i = 0; i < r->n; i++) {
        free_file(&r->files[i]);
    }
    free(r->files);
    *r = (struct reuse){0};
}

bool reuse_holds(const struct reuse_file *file) {
    struct item_record now;
    char *output = NULL;
    item_record_read_at(&now, &output, file->record_path);
    free(output);
    return now.state == RECORD_DONE && now.fingerprint == file->record.fingerprint && now.size == file->record.size &&
           now.content == file->record.content && now.made_of == file->record.made_of && has_size(file->path, now.size);
}

const struct reuse_file *reuse_find(const struct reuse *r, const struct item_list *list, const struct item *item,
                                    const char *folder) {
    uint64_t made_of = HASH_START;
    for (size_t i = 0; r && i < item->n_needs; i++) {
        const struct item *need = &list->items[item->needs[i]];
        struct item_record record;
        if (!item_is_done(&record, list, need, folder)) {
            const struct reuse_file *elsewhere = reuse_find(r, list, need, folder);
            record.content = elsewhere ? elsewhere->record.content : 0;
        }
        made_of = hash_u64(made_of, record.content);
    }
    for (size_t i = 0; r && i < r->n; i++) {
        const struct item_record *record = &r->files[i].record;
        if (record->fingerprint == item->fingerprint && record->made_of == made_of && reuse_holds(&r->files[i])) {
            return &r->files[i];
        }
    }
    return NULL;
}
