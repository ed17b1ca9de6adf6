/* See chat_cache.h. */
#include "reward/chat_cache.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"

enum { FILE_MAX = 64 << 20 /* bytes */, VERSION = 1 };
static const uint64_t second_start = UINT64_C(0x9E3779B97F4A7C15); /* of another hash beside the first */

/* Members in a fixed order: equal requests are equal texts. */
static char *canonical(const json_t *request) { return json_dumps(request, JSON_COMPACT | JSON_SORT_KEYS); }

char *chat_cache_path(const char *folder, const json_t *request) {
    char *text = canonical(request), *path = NULL;
    if (text) {
        const size_t n = strlen(text);
        const uint64_t a = hash_bytes(HASH_START, text, n), b = hash_bytes(second_start, text, n);
        if (asprintf(&path, "%s/%02x/%016" PRIx64 "%016" PRIx64 ".json", folder, (unsigned)(a >> 56), a, b) < 0) {
            path = NULL;
        }
    }
    free(text);
    return path;
}

int chat_cache_get(json_t **reply, const char *folder, const json_t *request, struct genarm_error *err) {
    struct buf text;
    json_t *entry = NULL;
    char *path = chat_cache_path(folder, request);
    if (!path) {
        return error_nomem(err, "a file name");
    }
    *reply = NULL;
    buf_init(&text, FILE_MAX);
    int rc = file_exists(path) ? file_read(&text, path, err) : GENARM_EIO;
    rc = rc == GENARM_OK && text.len > 0 ? json_parse(&entry, text.data, text.len, path, err) : rc;
    if (rc == GENARM_OK && json_integer_value(json_object_get(entry, "genarm chat cache")) == VERSION &&
        json_equal(json_object_get(entry, "request"), request) && json_is_object(json_object_get(entry, "reply"))) {
        *reply = json_incref(json_object_get(entry, "reply"));
    }
    json_decref(entry);
    buf_deinit(&text);
    free(path);
    return rc == GENARM_ENOMEM ? rc : GENARM_OK;
}

int chat_cache_put(const char *folder, const json_t *request, const json_t *reply, struct genarm_error *err) {
    struct buf text;
    char *path = chat_cache_path(folder, request);
    json_t *entry = json_pack("{s:i, s:O, s:O}", "genarm chat cache", VERSION, "request", request, "reply", reply);
    int rc = path && entry ? GENARM_OK : error_nomem(err, "a reply");
    buf_init(&text, FILE_MAX);
    rc = rc == GENARM_OK ? json_dump(&text, entry, err) : rc;
    rc = rc == GENARM_OK ? buf_append(&text, "\n", 1, err) : rc;
    if (rc == GENARM_OK) {
        char *slash = strrchr(path, '/');
        *slash = '\0';
        rc = file_make_folder(path, err);
        *slash = '/';
    }
    rc = rc == GENARM_OK ? file_write(path, text.data, text.len, err) : rc;
    json_decref(entry);
    buf_deinit(&text);
    free(path);
    return rc;
}
