/* See partial.h. */
#include "partial.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "tell.h"
#include "train/run.h"

#define GENERATE "genarm generate --prompts"
#define BEGIN_RECORD "{\"index\":%zu,\"record\":"
#define END_RECORD "}\n"

enum { LINE_MAX_BYTES = 1 << 29, VERSION = 1 };

char *partial_path(const char *output) {
    const size_t size = strlen(output) + sizeof ".partial";
    char *path = malloc(size);
    if (path) {
        snprintf(path, size, "%s.partial", output);
    }
    return path;
}

static const char *whose(const struct partial_run *run) { return run->command ? run->command : GENERATE; }

/* ---- a new file ---- */

static int begin(struct partial *p, const struct partial_run *run, uint64_t seed, struct genarm_error *err) {
    struct buf line;
    buf_init(&line, LINE_MAX_BYTES);
    json_t *head = json_pack("{s:i, s:I, s:O}", whose(run), VERSION, "seed", (json_int_t)seed, "settings",
                             run->settings);
    int code = head ? json_dump(&line, head, err) : error_nomem(err, "a record");
    json_decref(head);
    code = code ? code : buf_puts(&line, "\n", err);
    code = code ? code : journal_cut(&p->journal, 0, err);
    code = code ? code : journal_append(&p->journal, line.data, line.len, err);
    buf_deinit(&line);
    return code;
}

/* ---- one that is there ---- */

static int differs(const struct partial *p, const char *name, const char *was, const char *is, struct genarm_error *err) {
    const char *kind = strncmp(name, "--", 2) == 0 || strncmp(name, "the ", 4) == 0 ? "" : "the ";
    int code = error_set(err, GENARM_EMISMATCH, "these answers were begun with other settings: %s%s was %s, not %s", kind, name,
                         was, is);
    code = error_at(err, code, "%s", p->journal.path);
    return error_hint(err, code, "go on with what they were begun with, or begin anew: --restart");
}

static int foreign(const struct partial *p, const struct partial_run *run, struct genarm_error *err) {
    const int n = run->command ? (int)strlen(run->command) : (int)strlen("genarm generate");
    const int code = error_set(err, GENARM_EFORMAT, "this is not what %.*s keeps of answers on their way", n, whose(run));
    return error_hint(err, error_at(err, code, "%s", p->journal.path), "remove it, or begin anew: --restart");
}

static int check_head(const struct partial *p, const struct partial_run *run, const json_t *head, uint64_t *seed,
                      struct genarm_error *err) {
    int version;
    json_int_t saved;
    json_t *settings;
    if (json_unpack((json_t *)(uintptr_t)head, "{s:i, s:I, s:o}", whose(run), &version, "seed", &saved,
                    "settings", &settings) != 0 ||
        version != VERSION || saved < 0) {
        return foreign(p, run, err);
    }
    struct run_difference d;
    if (!run_same(settings, run->settings, &d)) {
        return differs(p, d.name, d.found, d.wanted, err);
    }
    if (!run->any_seed && (uint64_t)saved != *seed) {
        snprintf(d.found, sizeof d.found, "%lld", (long long)saved);
        snprintf(d.wanted, sizeof d.wanted, "%llu", (unsigned long long)*seed);
        return differs(p, "--seed", d.found, d.wanted, err);
    }
    *seed = (uint64_t)saved;
    return 0;
}

/* One value, or NULL. What a model samples may hold zero characters, which json_parse refuses. */
static json_t *parse(const char *text, size_t n) { return json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL); }

/* Reads a record's line, without its newline, which is at `at` of the file. False: it is damaged. */
static bool read_record(struct partial *p, const char *member, const char *line, size_t n, int64_t at) {
    char prefix[64];
    json_t *value = parse(line, n), *told = NULL;
    json_int_t index = -1;
    bool ok = value && json_unpack(value, "{s:I, s:{s:o}}", "index", &index, "record", member, &told) == 0 && index >= 0 &&
              (size_t)index < p->n;
    if (ok) {
        const size_t n_prefix = (size_t)snprintf(prefix, sizeof prefix, BEGIN_RECORD, (size_t)index);
        ok = n > n_prefix + 1 && memcmp(line, prefix, n_prefix) == 0;
        if (ok && !(json_is_string(told) && strcmp(json_string_value(told), "error") == 0)) {
            p->records[index] = (struct extent){.at = at + (int64_t)n_prefix, .length = n - n_prefix - 1};
        }
    }
    json_decref(value);
    return ok;
}

/* Whether text without a newline may be a head that was cut short: only such a file is begun anew unasked. */
static bool is_cut_head(const struct partial_run *run, const char *text, size_t size) {
    char head[64];
    const size_t length = (size_t)snprintf(head, sizeof head, "{\"%s\":", whose(run));
    return memcmp(text, head, length < size ? length : size) == 0;
}

/* Where the whole and readable lines end. 0: there is not even a head. */
static int read_lines(struct partial *p, const struct partial_run *run, uint64_t *seed, int64_t *end, struct genarm_error *err) {
    const uint8_t *map = NULL;
    size_t size = 0;
    int code = file_map(&map, &size, p->journal.path, err);
    if (code) {
        return code;
    }
    const char *text = (const char *)map;
    const char *newline = memchr(text, '\n', size);
    size_t at = newline ? (size_t)(newline - text) + 1 : 0;
    if (at > 0) {
        json_t *head = NULL;
        code = json_parse(&head, text, at - 1, p->journal.path, err);
        code = code ? error_hint(err, code, "remove it, or begin anew: --restart") : check_head(p, run, head, seed, err);
        json_decref(head);
    } else if (!is_cut_head(run, text, size)) {
        code = foreign(p, run, err);
    }
    while (code == 0 && at > 0 && at < size && (newline = memchr(text + at, '\n', size - at))) {
        const size_t n = (size_t)(newline - text) - at;
        if (!read_record(p, run->member ? run->member : "finish_reason", text + at, n, (int64_t)at)) {
            note("%s: damaged behind byte %zu: what is there is computed again", p->journal.path, at);
            break;
        }
        at += n + 1;
    }
    *end = (int64_t)at;
    file_unmap(map, size);
    return code;
}

int partial_open(struct partial *p, const struct partial_run *run, uint64_t *seed, struct genarm_error *err) {
    struct partial made = {.n = run->n, .records = calloc(run->n + 1, sizeof *made.records)};
    char *path = partial_path(run->output);
    int64_t end = 0;
    int code = path && made.records ? 0 : error_nomem(err, "records");
    if (code == 0) {
        code = journal_open(&made.journal, path, err);
    }
    if (code == 0 && made.journal.size > 0 && !run->anew) {
        code = read_lines(&made, run, seed, &end, err);
    }
    if (code == 0) {
        code = end > 0 ? journal_cut(&made.journal, end, err) : begin(&made, run, *seed, err);
    }
    free(path);
    if (code) {
        partial_close(&made);
        return code;
    }
    *p = made;
    return 0;
}

/* ---- records ---- */

int partial_add(struct partial *p, size_t i, const char *record, struct genarm_error *err) {
    struct buf line;
    const int64_t start = p->journal.size;
    buf_init(&line, LINE_MAX_BYTES);
    int code = buf_printf(&line, err, BEGIN_RECORD, i);
    const size_t n_prefix = line.len;
    code = code ? code : buf_puts(&line, record, err);
    const size_t length = line.len - n_prefix;
    code = code ? code : buf_puts(&line, END_RECORD, err);
    code = code ? code : journal_append(&p->journal, line.data, line.len, err);
    if (code == 0) {
        p->records[i] = (struct extent){.at = start + (int64_t)n_prefix, .length = length};
    }
    buf_deinit(&line);
    return code;
}

int partial_read(const struct partial *p, size_t i, json_t **out, struct genarm_error *err) {
    struct buf text;
    buf_init(&text, LINE_MAX_BYTES);
    int code = journal_read(&p->journal, &text, p->records[i].at, p->records[i].length, err);
    json_t *value = code ? NULL : parse(text.data, text.len);
    buf_deinit(&text);
    if (code == 0 && !value) {
        code = error_at(err, error_set(err, GENARM_EFORMAT, "a record that was whole is damaged"), "%s", p->journal.path);
    }
    if (code == 0) {
        *out = value;
    }
    return code;
}

int partial_print(const struct partial *p, size_t i, FILE *out, struct genarm_error *err) {
    struct buf text;
    buf_init(&text, LINE_MAX_BYTES);
    int code = journal_read(&p->journal, &text, p->records[i].at, p->records[i].length, err);
    if (code == 0) {
        fwrite(text.data, 1, text.len, out); /* failures are found when the file is committed */
        fputc('\n', out);
    }
    buf_deinit(&text);
    return code;
}

void partial_close(struct partial *p) {
    journal_close(&p->journal);
    free(p->records);
    *p = (struct partial){0};
}

int partial_remove(struct partial *p, struct genarm_error *err) {
    const int code = journal_remove(&p->journal, err);
    partial_close(p);
    return code;
}
