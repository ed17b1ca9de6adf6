/* See values.h. */
#include "data/values.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "data/foreign.h"

enum { CHUNK = 1 << 16, END = -1, FAILED = -2 };

struct values {
    struct input *input;
    const char *path;
    char *chunk; /* [CHUNK]; [at, n) is not taken yet */
    size_t at, n;
    bool array, started, ended;
    int64_t next_line;    /* of the byte at `at` */
    int64_t line, record; /* of the object last returned */
    struct buf text;      /* of the object */
    char where[320];
};

/* ---- bytes; err is never NULL from here on ---- */

static void set_where(struct values *v) {
    const int n = snprintf(v->where, sizeof v->where, "%s:%" PRId64, v->path, v->line);
    if (v->array && n > 0 && (size_t)n < sizeof v->where) {
        snprintf(v->where + n, sizeof v->where - (size_t)n, ", record %" PRId64, v->record);
    }
}

static int fault(struct values *v, struct genarm_error *err, const char *what) {
    return error_at(err, error_set(err, GENARM_EFORMAT, "%s", what), "%s", v->where);
}

/* The next byte, not taken; END; or FAILED with *err filled. */
static int peek(struct values *v, struct genarm_error *err) {
    if (v->at == v->n) {
        const int64_t n = input_read(v->input, v->chunk, CHUNK, err);
        if (n < 0) {
            v->line = v->next_line;
            set_where(v);
            error_at(err, (int)n, "%s", v->where);
            return FAILED;
        }
        v->at = 0;
        v->n = (size_t)n;
        if (n == 0) {
            return END;
        }
    }
    return (unsigned char)v->chunk[v->at];
}

static bool is_space(int c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/* The byte after white space, not taken. */
static int skip_space(struct values *v, struct genarm_error *err) {
    int c;
    while (is_space(c = peek(v, err))) {
        v->next_line += c == '\n';
        v->at++;
    }
    return c;
}

/* Takes n bytes of the chunk into the text. */
static int take(struct values *v, size_t n, struct genarm_error *err) {
    const int rc = buf_append(&v->text, v->chunk + v->at, n, err);
    if (rc == GENARM_EINVAL) {
        return fault(v, err, "the record is longer than the maximum of 16 MiB");
    }
    v->at += n;
    return rc;
}

/* ---- JSON lines ---- */

/* The rest of a line that is not blank. */
static int take_line(struct values *v, struct genarm_error *err) {
    const char *end = NULL;
    while (!end) {
        const int c = peek(v, err);
        if (c < 0) {
            return c == END ? GENARM_OK : err->code;
        }
        end = memchr(v->chunk + v->at, '\n', v->n - v->at);
        const int rc = take(v, end ? (size_t)(end - (v->chunk + v->at)) : v->n - v->at, err);
        if (rc != GENARM_OK) {
            return rc;
        }
    }
    v->at++;
    v->next_line++;
    return GENARM_OK;
}

/* ---- an array ---- */

/* How far an object's text has come. */
struct scan {
    int depth;
    bool in_string, escaped;
};

/* Bytes of [s, s + n) that belong to the object, which begins with '{'; *lines grows by the line ends among them. */
static size_t scan_object(struct scan *scan, const char *s, size_t n, int64_t *lines) {
    for (size_t i = 0; i < n; i++) {
        const char c = s[i];
        *lines += c == '\n';
        if (scan->in_string) {
            scan->in_string = scan->escaped || c != '"';
            scan->escaped = c == '\\' && !scan->escaped;
        } else if (c == '"') {
            scan->in_string = true;
        } else if (c == '{' || c == '[') {
            scan->depth++;
        } else if ((c == '}' || c == ']') && --scan->depth == 0) {
            return i + 1;
        }
    }
    return n;
}

static int take_object(struct values *v, struct genarm_error *err) {
    struct scan scan = {0};
    do {
        const int c = peek(v, err);
        if (c == FAILED) {
            return err->code;
        }
        if (c == END) {
            return fault(v, err, "the file ends in the middle of this record: it is cut short");
        }
        const size_t n = scan_object(&scan, v->chunk + v->at, v->n - v->at, &v->next_line);
        const int rc = take(v, n, err);
        if (rc != GENARM_OK) {
            return rc;
        }
    } while (scan.depth > 0);
    return GENARM_OK;
}

/* Goes to the next element. 1: there is one; 0: the array has ended, and the file with it. */
static int find_element(struct values *v, struct genarm_error *err) {
    int c = skip_space(v, err);
    const bool first = v->record == 0;
    v->line = v->next_line;
    set_where(v);
    if (c == ',' && !first) {
        v->at++;
        c = skip_space(v, err);
        v->line = v->next_line;
        set_where(v);
    } else if (c == ']') {
        v->at++;
        v->ended = true;
        c = skip_space(v, err);
        return c == FAILED ? err->code
               : c == END  ? 0
                           : fault(v, err, "there is more text after the end of the array");
    } else if (c >= 0 && !first) {
        return fault(v, err, "after this record there must be a comma or the end of the array");
    }
    if (c == FAILED) {
        return err->code;
    }
    if (c == END) {
        return fault(v, err, "the file ends before its array does: it is cut short");
    }
    v->record++;
    set_where(v);
    return c == '{' ? 1 : fault(v, err, "a record must be a JSON object");
}

/* ---- objects ---- */

/* The way out of numbers that some programs write and JSON does not have, if that is what is broken. */
static int number_hint(const struct values *v, int rc, struct genarm_error *err) {
    const bool minus = strstr(err->what, "near '-'") && strstr(v->text.data, "-Infinity");
    if (minus || strstr(err->what, "near 'NaN'") || strstr(err->what, "near 'Infinity'")) {
        static const char way[] = ": python3 -c \"import json,sys;[print(json.dumps(json.loads(l,parse_constant=lambda c:None))) "
                                  "for l in open(sys.argv[1])]\" FILE > FILE.jsonl";
        return error_hint(err, rc, "JSON has no NaN and no Infinity, write null%s", v->array ? "" : way);
    }
    if (strstr(err->what, "too big ") || strstr(err->what, "real number overflow")) {
        return error_hint(err, rc, "a number is beyond 64 bits: write it as a string, or leave it out");
    }
    return rc;
}

static int parse(struct values *v, json_t **out, struct genarm_error *err) {
    json_t *value = NULL;
    struct buf *text = &v->text;
    if (!utf8_valid(text->data, text->len)) {
        size_t at = 0, n;
        while ((n = utf8_char(text->data + at, text->len - at)) > 0) {
            at += n;
        }
        const int rc = error_set(err, GENARM_EFORMAT, "broken JSON: byte %zu of the record is not UTF-8", at + 1);
        return error_at(err, rc, "%s", v->where);
    }
    int rc = json_parse(&value, text->data, text->len, v->where, err);
    if (rc == GENARM_EFORMAT && !v->array && strchr("{[", *text->data) && strstr(err->what, "near end of file")) {
        return error_hint(err, rc, "a record is on one line, and this seems to be one over several: jq -c . FILE joins them");
    }
    if (rc == GENARM_EFORMAT) {
        return number_hint(v, rc, err);
    }
    if (rc == GENARM_OK && !json_is_object(value)) {
        rc = fault(v, err, "a record must be a JSON object");
    }
    if (rc != GENARM_OK) {
        json_decref(value);
        return rc;
    }
    *out = value;
    return GENARM_OK;
}

/* Skips a byte order mark and sees whether the file is an array. */
static int start(struct values *v, struct genarm_error *err) {
    v->started = true;
    int c = peek(v, err);
    if (c == 0xEF && v->n - v->at >= 3 && memcmp(v->chunk + v->at, "\xEF\xBB\xBF", 3) == 0) {
        v->at += 3;
    }
    c = skip_space(v, err);
    v->array = c == '[';
    v->at += v->array;
    if (c >= 0 && c != '[' && c != '{') {
        const bool packed = strcmp(input_codec(v->input), "plain") != 0;
        return foreign_check_text(v->chunk + v->at, v->n - v->at, v->path, packed, err);
    }
    return c == FAILED ? err->code : GENARM_OK;
}

int values_next(struct values *v, json_t **out, struct genarm_error *err) {
    struct genarm_error own; /* so that a failure always has its code */
    err = err ? err : &own;
    int rc = v->started ? GENARM_OK : start(v, err);
    if (rc != GENARM_OK || v->ended) {
        return rc;
    }
    buf_clear(&v->text);
    if (v->array) {
        rc = find_element(v, err);
        if (rc <= 0) {
            return rc;
        }
        rc = take_object(v, err);
    } else {
        const int c = skip_space(v, err);
        if (c < 0) {
            v->ended = true;
            return c == END ? 0 : err->code;
        }
        v->line = v->next_line;
        v->record++;
        set_where(v);
        rc = take_line(v, err);
    }
    if (rc == GENARM_OK) {
        rc = parse(v, out, err);
    }
    return rc == GENARM_OK ? 1 : rc;
}

/* ---- the file ---- */

int values_open(struct values **out, const char *path, struct genarm_error *err) {
    struct values *v = calloc(1, sizeof *v);
    char *chunk = malloc(CHUNK);
    if (!v || !chunk) {
        free(v);
        free(chunk);
        return error_nomem(err, "a file");
    }
    *v = (struct values){.path = path, .chunk = chunk, .next_line = 1};
    buf_init(&v->text, VALUES_MAX_BYTES);
    const int rc = input_open(&v->input, path, err);
    if (rc != GENARM_OK) {
        values_close(v);
        return rc;
    }
    *out = v;
    return GENARM_OK;
}

void values_close(struct values *v) {
    if (v) {
        input_close(v->input);
        buf_deinit(&v->text);
        free(v->chunk);
        free(v);
    }
}

const char *values_where(const struct values *v) { return v->where; }
int64_t values_line(const struct values *v) { return v->line; }
int64_t values_record(const struct values *v) { return v->record; }
const char *values_path(const struct values *v) { return v->path; }
bool values_in_array(const struct values *v) { return v->array; }
const struct input *values_input(const struct values *v) { return v->input; }
