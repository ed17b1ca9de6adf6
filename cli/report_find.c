/* Which log belongs to an adapter: the one in its folder whose first line names it, else the one called like it. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json.h"
#include "report_log.h"

enum { MAX_FIRST_LINE = 4 << 20 };

static bool has_end(const char *text, const char *end) {
    const size_t n = strlen(text), n_end = strlen(end);
    return n > n_end && strcmp(text + n - n_end, end) == 0;
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The first record of a file, or NULL where it is none: a new reference. */
static json_t *first_record(const char *path) {
    struct file_lines lines;
    json_t *record = NULL;
    if (file_lines_open(&lines, path, MAX_FIRST_LINE, NULL)) {
        return NULL;
    }
    if (file_lines_next(&lines, NULL) > 0) {
        json_parse(&record, lines.text.data, lines.text.len, path, NULL);
    }
    file_lines_close(&lines);
    if (record && !json_is_object(record)) {
        json_decref(record);
        record = NULL;
    }
    return record;
}

/* How well a file fits the adapter: 2 when it says so, 1 by its name, 0 not at all. */
static int fit(const char *path, const char *adapter) {
    const char *name = base_name(path), *wanted = base_name(adapter);
    const size_t stem = strlen(wanted) - (has_end(wanted, ".gguf") ? 5 : 0);
    json_t *record = first_record(path);
    const char *output = json_string_value(json_object_get(json_object_get(record, "run"), "output"));
    const bool is_log = output || json_object_get(record, "step");
    const bool says_so = output && strcmp(base_name(output), wanted) == 0;
    json_decref(record);
    if (says_so) {
        return 2;
    }
    const bool called_so = strncmp(name, wanted, stem) == 0 &&
                           (strcmp(name + stem, ".jsonl") == 0 || strcmp(name + stem, ".log.jsonl") == 0);
    return is_log && !output && called_so;
}

/* *log: the best of the folder's files, the newest of equal ones; NULL when none fits. */
static int search(char **log, const char *adapter, struct genarm_error *err) {
    const size_t n = (size_t)(base_name(adapter) - adapter);
    char *folder = n ? strndup(adapter, n) : strdup("./");
    DIR *dir = folder ? opendir(folder) : NULL;
    int code = folder ? 0 : error_nomem(err, "a file name"), best = 0;
    time_t newest = 0;
    *log = NULL;
    for (struct dirent *entry; dir && code == 0 && (entry = readdir(dir));) {
        struct stat st;
        const size_t size = strlen(adapter) + strlen(entry->d_name) + 3;
        if (!has_end(entry->d_name, ".jsonl")) {
            continue;
        }
        char *path = malloc(size);
        if (!path) {
            code = error_nomem(err, "a file name");
            break;
        }
        snprintf(path, size, "%.*s%s", (int)n, adapter, entry->d_name);
        const int fits = stat(path, &st) == 0 && S_ISREG(st.st_mode) ? fit(path, adapter) : 0;
        if (fits > best || (fits > 0 && fits == best && st.st_mtime > newest)) {
            free(*log);
            *log = path;
            path = NULL;
            best = fits;
            newest = st.st_mtime;
        }
        free(path);
    }
    if (dir) {
        closedir(dir);
    }
    free(folder);
    return code;
}

static bool begins_as_gguf(const char *path) {
    char magic[4] = "";
    FILE *f = fopen(path, "rbe");
    const bool is = f && fread(magic, 1, sizeof magic, f) == sizeof magic && memcmp(magic, "GGUF", 4) == 0;
    if (f) {
        fclose(f);
    }
    return is;
}

int report_find_log(char **log, const char *path, struct genarm_error *err) {
    struct stat st = {0};
    char *adapter = strdup(path);
    if (!adapter) {
        return error_nomem(err, "a file name");
    }
    const bool is_there = stat(path, &st) == 0, is_folder = is_there && S_ISDIR(st.st_mode);
    while (is_folder && has_end(adapter, "/")) {
        adapter[strlen(adapter) - 1] = '\0';
    }
    if (!is_folder && (!is_there || !S_ISREG(st.st_mode) || !begins_as_gguf(path))) {
        *log = adapter;
        return 0;
    }
    int code = 0;
    if (is_folder && !has_end(adapter, ".ckpt")) {
        code = error_at(err, error_set(err, GENARM_EINVAL, "this folder is no checkpoint (FILE.gguf.ckpt)"), "%s", path);
        code = error_hint(err, code, "name the log, the adapter or the checkpoint folder of a run");
    } else if (is_folder) {
        adapter[strlen(adapter) - 5] = '\0';
    }
    code = code ? code : search(log, adapter, err);
    if (code == 0 && !*log) {
        code = error_at(err, error_set(err, GENARM_EINVAL, "no log beside it says that it is of this run"), "%s", path);
        code = error_hint(err, code, "name the file that genarm train --log wrote");
    }
    free(adapter);
    return code;
}
