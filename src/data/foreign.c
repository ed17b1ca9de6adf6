/* See foreign.h. */
#include "data/foreign.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { MAX_NAME = 28 }; /* twice in a hint, beside the longest command */

/* A hint in which every FILE is the file's name. */
#define ROWS "[print(json.dumps(r,default=str)) for "

static const struct {
    const char *magic;
    size_t n_magic;
    const char *what, *hint;
} others[] = {
    {"PAR1", 4, "this is a Parquet file, which is not read here",
     "needs pyarrow: python3 -c \"import json,sys,pyarrow.parquet as p;" ROWS
     "b in p.ParquetFile(sys.argv[1]).iter_batches() for r in b.to_pylist()]\" FILE > FILE.jsonl"},
    {"ARROW1", 6, "this is an Arrow file, which is not read here",
     "needs pyarrow: python3 -c \"import json,sys,pyarrow.ipc as p;" ROWS
     "r in p.open_file(open(sys.argv[1],'rb')).read_all().to_pylist()]\" FILE > FILE.jsonl"},
    {"\xFF\xFF\xFF\xFF", 4, "this is an Arrow stream, which is not read here",
     "needs pyarrow: python3 -c \"import json,sys,pyarrow.ipc as p;" ROWS
     "b in p.open_stream(open(sys.argv[1],'rb')) for r in b.to_pylist()]\" FILE > FILE.jsonl"},
    {"BZh", 3, "this is a bzip2 file, which is not read here", "unpack it with bunzip2"},
    {"PK\x03\x04", 4, "this is a zip file, which is not read here", "unpack it with unzip"},
    {"GGUF", 4, "this is a GGUF model, not text", "models are named with -m and --arm"},
    {"\xFF\xFE", 2, "this is text in UTF-16, UTF-8 is needed", "convert it: iconv -f UTF-16 -t UTF-8 FILE > FILE.utf8"},
    {"\xFE\xFF", 2, "this is text in UTF-16, UTF-8 is needed", "convert it: iconv -f UTF-16 -t UTF-8 FILE > FILE.utf8"},
};

/* Whether a shell takes the name as it is, and a message has room for it. */
static bool is_plain_name(const char *path) {
    return strlen(path) <= MAX_NAME && *path != '-' && strncmp(path, "/dev/", 5) != 0 &&
           strspn(path, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/+=-") == strlen(path);
}

static int refuse(const char *what, const char *hint, const char *path, bool packed, struct genarm_error *err) {
    const char *name = !packed && is_plain_name(path) ? path : "FILE";
    char text[sizeof err->hint] = "";
    size_t n = 0;
    for (const char *at = hint; *at && n + 1 < sizeof text;) {
        if (strncmp(at, "FILE", 4) == 0) {
            n += (size_t)snprintf(text + n, sizeof text - n, "%s", name);
            at += 4;
        } else {
            text[n++] = *at++;
            text[n] = '\0';
        }
    }
    const int rc = error_at(err, error_set(err, GENARM_EUNSUPPORTED, "%s", what), "%s", path);
    return error_hint(err, rc, "%s%s", packed ? "unpack it; " : "", text);
}

int foreign_check_bytes(const void *bytes, size_t n, const char *path, struct genarm_error *err) {
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (n >= others[i].n_magic && memcmp(bytes, others[i].magic, others[i].n_magic) == 0) {
            return refuse(others[i].what, others[i].hint, path, false, err);
        }
    }
    return GENARM_OK;
}

/* Whether one of the names in the first line is one that preference data has. */
static bool names_preferences(const char *line, size_t n, char separator) {
    static const char *const names[] = {"prompt", "chosen", "rejected", "response_0", "response_1", "instruction",
                                        "completion"};
    for (size_t from = 0; from < n;) {
        const char *end = memchr(line + from, separator, n - from);
        size_t to = end ? (size_t)(end - line) : n, next = to + 1;
        while (from < to && (isspace((unsigned char)line[from]) || line[from] == '"')) {
            from++;
        }
        while (to > from && (isspace((unsigned char)line[to - 1]) || line[to - 1] == '"')) {
            to--;
        }
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            if (to - from == strlen(names[i]) && strncasecmp(line + from, names[i], to - from) == 0) {
                return true;
            }
        }
        from = next;
    }
    return false;
}

int foreign_check_text(const char *text, size_t n, const char *path, bool packed, struct genarm_error *err) {
    const char *end = memchr(text, '\n', n);
    const size_t n_line = end ? (size_t)(end - text) : n;
    if (memchr(text, '\t', n_line) && names_preferences(text, n_line, '\t')) {
        return refuse("this is a table with tabs (TSV), which is not read here",
                      "python3 -c \"import csv,json,sys;csv.field_size_limit(1<<30);[print(json.dumps(r)) for r in "
                      "csv.DictReader(open(sys.argv[1],newline='',encoding='utf-8-sig'),delimiter='\\t')]\" FILE > "
                      "FILE.jsonl",
                      path, packed, err);
    }
    if (memchr(text, ',', n_line) && names_preferences(text, n_line, ',')) {
        return refuse("this is a table with commas (CSV), which is not read here",
                      "python3 -c \"import csv,json,sys;csv.field_size_limit(1<<30);[print(json.dumps(r)) for r in "
                      "csv.DictReader(open(sys.argv[1],newline='',encoding='utf-8-sig'))]\" FILE > FILE.jsonl",
                      path, packed, err);
    }
    return GENARM_OK;
}

int foreign_check_folder(const char *path, struct genarm_error *err) {
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        return GENARM_OK;
    }
    const int rc = error_at(err, error_set(err, GENARM_EIO, "this is a folder, not a file"), "%s", path);
    return error_hint(err, rc, "name the files in it, one by one; what Hugging Face datasets saves there are .arrow files");
}
