/* See fingerprint.h. */
#include "eval/fingerprint.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/hash.h"

/* Between names of files; and what may stand behind one beside these. Few ends of a name are tried: texts may be long. */
static const char separators[] = " \t\n\"':=+#,;", separators_and_at[] = " \t\n\"':=+#,;@";
enum { MOST_ENDS = 16 };

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

/* A file's name, or a text that has none. */
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

/* Length of the longest path of a file that a text begins with; 0: there is none. Names of files may hold separators
 * themselves, as "x@h=0.5.gguf" does, and a path may have "@LABEL" behind it. */
static size_t path_at(char *text) {
    size_t ends[MOST_ENDS], n = 0;
    for (size_t end = strcspn(text, separators_and_at); n < MOST_ENDS; end += 1 + strcspn(text + end + 1, separators_and_at)) {
        ends[n++] = end;
        if (!text[end]) {
            break;
        }
    }
    while (n-- > 0) {
        const char kept = text[ends[n]];
        text[ends[n]] = '\0';
        const bool found = is_file(text);
        text[ends[n]] = kept;
        if (found) {
            return ends[n];
        }
    }
    return 0;
}

/* What begins a text: the name of a file, or a piece up to a separator, and that separator. *length: how much that is. */
static int add_next(struct fingerprints *f, uint64_t *hash, char *text, size_t *length, struct genarm_error *err) {
    const size_t n_path = path_at(text), n = n_path + strcspn(text + n_path, separators);
    const size_t first = n_path ? n_path : n;
    const char kept = text[first];
    text[first] = '\0';
    const int code = add_piece(f, hash, text, err);
    text[first] = kept;
    *hash = hash_bytes(*hash, text + first, n - first + 1);
    *length = n + (text[n] != '\0');
    return code;
}

int fingerprint_text(struct fingerprints *f, uint64_t *hash, const char *text, struct genarm_error *err) {
    int code = 0;
    if (is_file(text)) {
        return add_piece(f, hash, text, err);
    }
    char *copy = strdup(text);
    if (!copy) {
        return error_nomem(err, "the hash of a text");
    }
    for (size_t at = 0, length = 0; copy[at] && code == 0; at += length) {
        code = add_next(f, hash, copy + at, &length, err);
    }
    free(copy);
    return code;
}

int fingerprint_file(struct fingerprints *f, uint64_t *hash, const char *path, struct genarm_error *err) {
    uint64_t file = 0;
    const int code = known_file(f, &file, path, err);
    *hash = code ? *hash : hash_u64(*hash, file);
    return code;
}

void fingerprints_deinit(struct fingerprints *f) {
    for (size_t i = 0; i < f->n; i++) {
        free(f->files[i].path);
    }
    free(f->files);
    *f = (struct fingerprints){0};
}
