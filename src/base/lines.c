/* A text file line by line. */
#include <errno.h>
#include <string.h>

#include "base/file.h"

int file_lines_open(struct file_lines *l, const char *path, size_t max_line, struct genarm_error *err) {
    FILE *stream = fopen(path, "rbe");
    if (!stream) {
        const int number = errno;
        const int rc = error_at(err, error_set(err, GENARM_EIO, "cannot open the file: %s", strerror(number)), "%s", path);
        return number == ENOENT ? error_hint(err, rc, "is the path right?") : rc;
    }
    *l = (struct file_lines){.stream = stream, .path = path};
    buf_init(&l->text, max_line);
    return GENARM_OK;
}

/* Appends up to and without the next "\n". 1: there was something to read, 0: end of file. */
static int read_line(struct file_lines *l, struct genarm_error *err) {
    char chunk[4096];
    bool any = false;
    for (;;) {
        size_t n = 0;
        int c = EOF;
        while (n < sizeof chunk && (c = getc_unlocked(l->stream)) != EOF && c != '\n') {
            chunk[n++] = (char)c;
        }
        any |= n > 0 || c == '\n';
        const int rc = buf_append(&l->text, chunk, n, err);
        if (rc != GENARM_OK) {
            return rc;
        }
        if (n < sizeof chunk) {
            return any;
        }
    }
}

int file_lines_next(struct file_lines *l, struct genarm_error *err) {
    buf_clear(&l->text);
    l->line++;
    const int got = read_line(l, err);
    if (got < 0) {
        return error_at(err, got, "%s:%ld", l->path, l->line);
    }
    if (ferror(l->stream)) {
        return error_at(err, error_set(err, GENARM_EIO, "cannot read the file: %s", strerror(errno)), "%s:%ld", l->path,
                        l->line);
    }
    struct buf *text = &l->text;
    if (text->len > 0 && text->data[text->len - 1] == '\r') {
        text->data[--text->len] = '\0';
    }
    if (l->line == 1 && text->len >= 3 && memcmp(text->data, "\xEF\xBB\xBF", 3) == 0) { /* byte order mark */
        text->len -= 3;
        memmove(text->data, text->data + 3, text->len + 1);
    }
    return got;
}

void file_lines_close(struct file_lines *l) {
    if (l->stream) {
        fclose(l->stream);
    }
    buf_deinit(&l->text);
    l->stream = NULL;
}
