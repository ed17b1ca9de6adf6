/* See item_record.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* nftw */
#endif
#include "eval/item_record.h"

#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"

enum { RECORD_MAX = 1 << 24 };

static const char *const states[] = {
    [RECORD_NONE] = "none", [RECORD_RUNNING] = "running", [RECORD_DONE] = "done", [RECORD_FAILED] = "failed"};
enum { N_STATES = sizeof states / sizeof *states };

/* Beside a file of genarm generate and of genarm train until it is complete. */
static const char *const beside[] = {".partial", ".ckpt"};
enum { N_BESIDE = sizeof beside / sizeof *beside };

char *item_path(const char *folder, const char *output, const char *ending) {
    const size_t n = strlen(folder) + strlen(output) + strlen(ending) + 2;
    char *path = malloc(n);
    if (path) {
        snprintf(path, n, "%s/%s%s", folder, output, ending);
    }
    return path;
}

static char *record_path(const struct item *item, const char *folder) {
    char items[4096];
    const bool fits = (size_t)snprintf(items, sizeof items, "%s/items", folder) < sizeof items;
    return fits ? item_path(items, item->name, ".json") : NULL;
}

/* A hash as a record has it; false when it is none. */
static bool read_hash(uint64_t *out, const json_t *json, const char *key, const char *fallback) {
    const char *text = NULL;
    char *end = NULL;
    if (json_opt_string(&text, json, key, fallback, "", NULL) || !text) {
        return false;
    }
    *out = strtoull(text, &end, 16);
    return !*end;
}

static int64_t read_limit(const json_t *command) {
    static const char option[] = "--limit=";
    for (size_t i = 0; i < json_array_size(command); i++) {
        const char *word = json_string_value(json_array_get(command, i));
        if (word && strncmp(word, option, sizeof option - 1) == 0) {
            return strtoll(word + sizeof option - 1, NULL, 10);
        }
    }
    return 0;
}

/* The record of a file's JSON; false when it is none. */
static bool read_json(struct item_record *out, const json_t *json) {
    const char *state = NULL, *version = NULL, *machine = NULL;
    double size = 0, status = 0;
    struct item_record r = {0};
    int code = json_get_string(&state, json, "state", "", NULL);
    code = code ? code : json_opt_number(&r.seconds, json, "seconds", 0, "", NULL);
    code = code ? code : json_opt_number(&r.ended, json, "ended", 0, "", NULL);
    code = code ? code : json_opt_number(&size, json, "size", 0, "", NULL);
    code = code ? code : json_opt_number(&status, json, "status", 0, "", NULL);
    code = code ? code : json_opt_string(&version, json, "version", "", "", NULL);
    code = code ? code : json_opt_string(&machine, json, "machine", "", "", NULL);
    if (code || !read_hash(&r.fingerprint, json, "fingerprint", NULL) || !read_hash(&r.content, json, "content", "0") ||
        !read_hash(&r.made_of, json, "made_of", "0")) {
        return false;
    }
    for (int i = 0; i < N_STATES; i++) {
        r.state = strcmp(state, states[i]) == 0 ? (enum record_state)i : r.state;
    }
    if (!(size >= 0 && size < 1e18) || !(status >= -1e6 && status < 1e6)) {
        return false;
    }
    r.size = (int64_t)size;
    r.status = (int)status;
    snprintf(r.origin.version, sizeof r.origin.version, "%s", version);
    snprintf(r.origin.machine, sizeof r.origin.machine, "%s", machine);
    r.limit = read_limit(json_object_get(json, "command"));
    *out = r;
    return true;
}

void item_record_read_at(struct item_record *out, char **output, const char *path) {
    struct buf text;
    json_t *json = NULL;
    const char *name = NULL;
    buf_init(&text, RECORD_MAX);
    *out = (struct item_record){0};
    *output = NULL;
    if (file_exists(path) && file_read(&text, path, NULL) == 0 && text.len > 0 &&
        json_parse(&json, text.data, text.len, path, NULL) == 0 && read_json(out, json) &&
        json_opt_string(&name, json, "output", NULL, "", NULL) == 0 && name) {
        *output = strdup(name);
    }
    json_decref(json);
    buf_deinit(&text);
}

void item_record_read(struct item_record *out, const struct item *item, const char *folder) {
    char *path = record_path(item, folder), *output = NULL;
    *out = (struct item_record){0};
    if (path) {
        item_record_read_at(out, &output, path);
    }
    free(output);
    free(path);
}

static json_t *words_json(const struct item *item) {
    json_t *list = json_array();
    char **words = item_words(item, "OUT");
    for (size_t i = 0; list && words && words[i]; i++) {
        json_array_append_new(list, text_json(words[i]));
    }
    item_words_free(words);
    return list;
}

int item_record_write(const struct item_record *r, const struct item *item, const char *folder, struct genarm_error *err) {
    char fingerprint[20], content[20], made_of[20];
    struct buf text;
    char *path = record_path(item, folder);
    snprintf(fingerprint, sizeof fingerprint, "%016" PRIx64, r->fingerprint);
    snprintf(content, sizeof content, "%016" PRIx64, r->content);
    snprintf(made_of, sizeof made_of, "%016" PRIx64, r->made_of);
    json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:f, s:f, s:I, s:i, s:s, s:o, s:o}", "name", item->name, "output",
                             item->output, "state", states[r->state], "fingerprint", fingerprint, "content", content, "made_of",
                             made_of, "seconds", r->seconds, "ended", r->ended, "size", (json_int_t)r->size, "status", r->status,
                             "version", r->origin.version, "machine", text_json(r->origin.machine), "command",
                             words_json(item));
    buf_init(&text, RECORD_MAX);
    int code = json && path ? json_dump(&text, json, err) : error_nomem(err, "a record");
    code = code ? code : buf_puts(&text, "\n", err);
    code = code ? code : file_write(path, text.data, text.len, err);
    buf_deinit(&text);
    json_decref(json);
    free(path);
    return code;
}

/* Bytes of the file; -1: there is none. */
static int64_t output_size(const struct item *item, const char *folder) {
    char *path = item_path(folder, item->output, "");
    struct stat st;
    const int64_t size = path && stat(path, &st) == 0 && S_ISREG(st.st_mode) ? (int64_t)st.st_size : -1;
    free(path);
    return size;
}

uint64_t item_made_of(const struct item_list *list, const struct item *item, const char *folder) {
    uint64_t hash = HASH_START;
    for (size_t i = 0; i < item->n_needs; i++) {
        struct item_record need;
        item_record_read(&need, &list->items[item->needs[i]], folder);
        hash = hash_u64(hash, need.content);
    }
    return hash;
}

bool item_record_fits(const struct item_record *r, const struct item_list *list, const struct item *item, const char *folder) {
    return r->fingerprint == item->fingerprint && r->made_of == item_made_of(list, item, folder);
}

bool item_is_done(struct item_record *r, const struct item_list *list, const struct item *item, const char *folder) {
    item_record_read(r, item, folder);
    return r->state == RECORD_DONE && r->size == output_size(item, folder) && item_record_fits(r, list, item, folder);
}

bool item_was_finished(const struct item_record *r, const struct item_list *list, const struct item *item, const char *folder) {
    bool whole = r->state == RECORD_RUNNING && output_size(item, folder) >= 0 && item_record_fits(r, list, item, folder);
    for (int i = 0; i < N_BESIDE && whole; i++) {
        char *path = item_path(folder, item->output, beside[i]);
        whole = path && !file_exists(path);
        free(path);
    }
    return whole;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *place) {
    (void)st;
    (void)type;
    (void)place;
    return remove(path) == 0 || errno == ENOENT ? 0 : errno;
}

int item_remove_files(const struct item *item, const char *folder, bool beside_too, struct genarm_error *err) {
    int code = 0;
    for (int i = -1; i < (beside_too ? N_BESIDE : 0) && code == 0; i++) {
        char *path = item_path(folder, item->output, i < 0 ? "" : beside[i]);
        int e = path ? 0 : ENOMEM;
        if (path && file_exists(path)) {
            e = nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
            e = e < 0 ? errno : e;
        }
        if (e) {
            code = error_set(err, GENARM_EIO, "cannot be removed: %s", strerror(e));
            error_at(err, code, "%s", path ? path : item->name);
        }
        free(path);
    }
    return code;
}
