/* See fingerprint.h. */
#include "eval/fingerprint.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/hash.h"

static int known_file(struct fingerprints *f, uint64_t *out, const char *path, struct genarm_error *err) {
    for (size_t i = 0; i < f->n; i++) {
        if (strcmp(f->files[i].path, path) == 0) {
            *out = f->files[i].hash;
            return 0;
        }
    }
    int code = file_hash(out, path, err);
    struct fingerprint_file *files = code ? NULL : realloc(f->files, (f->n + 1) * sizeof *files);
    char *copy = strdup(path);
    if (files) {
        f->files = files;
    }
    if (code == 0 && (!files || !copy)) {
        code = error_nomem(err, "the hashes of files");
    }
    if (code) {
        free(copy);
        return code;
    }
    files[f->n++] = (struct fingerprint_file){copy, *out};
    return 0;
}

static bool is_file(const char *text) {
    struct stat st;
    return *text && stat(text, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0;
}

/* A text between separators, or a whole one. */
static int add_piece(struct fingerprints *f, uint64_t *hash, const char *text, struct genarm_error *err) {
    uint64_t file = 0;
    const int code = is_file(text) ? known_file(f, &file, text, err) : GENARM_EIO;
    if (code == GENARM_ENOMEM) {
        return code;
    }
    /* one that cannot be read counts by its name */
    *hash = code ? hash_bytes(*hash, text, strlen(text)) : hash_u64(hash_u64(*hash, 1), file);
    return 0;
}

int fingerprint_text(struct fingerprints *f, uint64_t *hash, const char *text, struct genarm_error *err) {
    static const char separators[] = " \t\n\"':=+#,;";
    int code = 0;
    if (is_file(text)) {
        return add_piece(f, hash, text, err);
    }
    char *copy = strdup(text);
    if (!copy) {
        return error_nomem(err, "the hash of a text");
    }
    for (char *piece = copy; *piece && code == 0;) {
        const size_t n = strcspn(piece, separators);
        const char end = piece[n];
        piece[n] = '\0';
        code = add_piece(f, hash, piece, err);
        *hash = hash_bytes(*hash, &end, 1);
        piece += n + (end != '\0');
    }
    free(copy);
    return code;
}

void fingerprints_deinit(struct fingerprints *f) {
    for (size_t i = 0; i < f->n; i++) {
        free(f->files[i].path);
    }
    free(f->files);
    *f = (struct fingerprints){0};
}
