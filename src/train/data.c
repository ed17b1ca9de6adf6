#include "train/data.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"

enum { NAMED_DROPS = 5 }; /* dropped pairs of one kind that are named in the log; the rest is only counted */

/* One pair file being read. */
struct reader {
    struct data *data;
    const struct genarm_model *model;
    const char *template_name;
    int32_t max_length;
    int32_t file;
    char where[320]; /* "path:line" */
};

/* Tokens of one text. */
struct tokens {
    int32_t *ids;
    int32_t n, cap;
};

/* The strings of one line, borrowed from its JSON value. */
struct record {
    const char *system, *prompt, *response[SIDES];
};

/* ---- tokens ---- */

static int reserve_tokens(struct tokens *t, int32_t n, struct genarm_error *err) {
    if (n > t->cap) {
        int32_t *grown = realloc(t->ids, (size_t)n * sizeof *grown);
        if (!grown) {
            return error_nomem(err, "tokens");
        }
        t->ids = grown;
        t->cap = n;
    }
    return GENARM_OK;
}

static int tokenize(struct tokens *t, const struct genarm_model *model, const char *text, bool control,
                    struct genarm_error *err) {
    const size_t n_text = strlen(text);
    int32_t n = genarm_tokenize(model, text, n_text, control, control, t->ids, t->cap);
    if (n < 0 && n != INT32_MIN) {
        int rc = reserve_tokens(t, -n, err);
        if (rc != GENARM_OK) {
            return rc;
        }
        n = genarm_tokenize(model, text, n_text, control, control, t->ids, t->cap);
    }
    if (n < 0) {
        return error_set(err, GENARM_EFORMAT, "a text of %zu bytes cannot be tokenised", n_text);
    }
    t->n = n;
    return GENARM_OK;
}

static int tokenize_response(struct tokens *t, const struct genarm_model *model, const char *text,
                             struct genarm_error *err) {
    int rc = tokenize(t, model, text, false, err);
    if (rc == GENARM_OK) {
        rc = reserve_tokens(t, t->n + 1, err);
    }
    if (rc == GENARM_OK) {
        t->ids[t->n++] = genarm_token_eos(model);
    }
    return rc;
}

/* The prompt as a policy sees it, with the user's text given. */
static int tokenize_prompt(struct tokens *t, const struct reader *r, const char *system, const char *user,
                           struct genarm_error *err) {
    struct genarm_message messages[2];
    size_t n = 0;
    if (system) {
        messages[n++] = (struct genarm_message){.role = "system", .content = system};
    }
    messages[n++] = (struct genarm_message){.role = "user", .content = user};
    char *text = NULL;
    int rc = genarm_template_apply(&text, r->model, r->template_name, messages, n, err);
    if (rc == GENARM_OK) {
        rc = tokenize(t, r->model, text, true, err);
    }
    free(text);
    return rc;
}

/* ---- cutting ---- */

/* Bytes of `text` that its first n tokens take, moved on to the start of a character. `ids` are the text's tokens. */
static size_t bytes_of(const struct genarm_model *model, const char *text, const struct tokens *ids, int32_t n) {
    size_t bytes = 0;
    for (int32_t i = 0; i < n && i < ids->n; i++) {
        const int32_t length = genarm_token_bytes(model, ids->ids[i], true, NULL, 0);
        bytes += (size_t)(length < 0 ? -length : length);
    }
    const size_t n_text = strlen(text);
    if (n >= ids->n || bytes > n_text) {
        return n_text;
    }
    while (((unsigned char)text[bytes] & 0xC0) == 0x80) {
        bytes++;
    }
    return bytes;
}

/* Shortens the user's text from the left until the prompt has at most `budget` tokens. *fits: whether it now does. */
static int cut_prompt(struct tokens *prompt, const struct reader *r, const struct record *record, int32_t budget,
                      bool *fits, struct genarm_error *err) {
    struct tokens user = {0};
    int rc = tokenize(&user, r->model, record->prompt, false, err);
    for (int32_t skip = 0; rc == GENARM_OK && prompt->n > budget && skip < user.n;) {
        const int32_t excess = prompt->n - budget;
        skip = excess < user.n - skip ? skip + excess : user.n;
        rc = tokenize_prompt(prompt, r, record->system,
                             record->prompt + bytes_of(r->model, record->prompt, &user, skip), err);
    }
    *fits = prompt->n <= budget;
    free(user.ids);
    return rc;
}

/* ---- pairs ---- */

static int append_tokens(struct data *d, const struct tokens *t, struct genarm_error *err) {
    const size_t needed = d->n_tokens + (size_t)t->n;
    if (needed > d->cap_tokens) {
        const size_t cap = needed + needed / 2;
        int32_t *grown = realloc(d->tokens, cap * sizeof *grown);
        if (!grown) {
            return error_nomem(err, "the training data");
        }
        d->tokens = grown;
        d->cap_tokens = cap;
    }
    memcpy(d->tokens + d->n_tokens, t->ids, (size_t)t->n * sizeof *t->ids);
    d->n_tokens = needed;
    return GENARM_OK;
}

static int append_pair(struct data *d, const struct pair *pair, const struct tokens *prompt,
                       const struct tokens *responses, struct genarm_error *err) {
    if (d->n_pairs == d->cap_pairs) {
        const size_t cap = 64 + 2 * d->cap_pairs;
        struct pair *grown = realloc(d->pairs, cap * sizeof *grown);
        if (!grown) {
            return error_nomem(err, "the training data");
        }
        d->pairs = grown;
        d->cap_pairs = cap;
    }
    struct pair p = *pair;
    p.first = d->n_tokens;
    p.n_prompt = prompt->n;
    int rc = append_tokens(d, prompt, err);
    for (int side = 0; side < SIDES && rc == GENARM_OK; side++) {
        p.n_response[side] = responses[side].n;
        rc = append_tokens(d, &responses[side], err);
    }
    if (rc == GENARM_OK) {
        const int32_t lengths[] = {p.n_prompt, p.n_response[CHOSEN], p.n_response[REJECTED]};
        d->hash = hash_bytes(d->hash, lengths, sizeof lengths);
        d->hash = hash_bytes(d->hash, d->tokens + p.first, (d->n_tokens - p.first) * sizeof *d->tokens);
        d->pairs[d->n_pairs++] = p;
    }
    return rc;
}

/* Counts a pair that cannot be used. */
static void drop(const struct reader *r, int64_t *counter, const char *why) {
    log_line(++*counter <= NAMED_DROPS ? GENARM_LOG_INFO : GENARM_LOG_DEBUG, "%s: dropped: %s", r->where, why);
}

static bool equal_tokens(const struct tokens *a, const struct tokens *b) {
    return a->n == b->n && memcmp(a->ids, b->ids, (size_t)a->n * sizeof *a->ids) == 0;
}

/* Tokenises a record and keeps it or drops it. */
static int take_record(struct reader *r, const struct record *record, int64_t line, struct genarm_error *err) {
    struct genarm_data_report *report = &r->data->report;
    struct tokens prompt = {0}, responses[SIDES] = {{0}, {0}};
    struct pair pair = {.file = r->file, .line = line};
    int rc = tokenize_prompt(&prompt, r, record->system, record->prompt, err);
    for (int side = 0; side < SIDES && rc == GENARM_OK; side++) {
        rc = tokenize_response(&responses[side], r->model, record->response[side], err);
    }
    if (rc != GENARM_OK) {
        goto done;
    }
    if (responses[CHOSEN].n < 2 || responses[REJECTED].n < 2) {
        drop(r, &report->dropped_empty, "a response is empty");
        goto done;
    }
    if (equal_tokens(&responses[CHOSEN], &responses[REJECTED])) {
        drop(r, &report->dropped_equal, "chosen equals rejected");
        goto done;
    }
    pair.prompt_hash = hash_bytes(HASH_START, prompt.ids, (size_t)prompt.n * sizeof *prompt.ids);
    const int32_t longer = responses[CHOSEN].n > responses[REJECTED].n ? responses[CHOSEN].n : responses[REJECTED].n;
    if (prompt.n > r->max_length - longer) {
        bool fits;
        rc = cut_prompt(&prompt, r, record, r->max_length - longer, &fits, err);
        if (rc != GENARM_OK) {
            goto done;
        }
        if (!fits) {
            drop(r, &report->dropped_long, "the responses leave no room for a prompt");
            goto done;
        }
        report->cut++;
    }
    rc = append_pair(r->data, &pair, &prompt, responses, err);
    report->kept += rc == GENARM_OK;
done:
    free(prompt.ids);
    free(responses[CHOSEN].ids);
    free(responses[REJECTED].ids);
    return rc;
}

/* ---- files ---- */

static int read_line(struct reader *r, const struct file_lines *lines, struct genarm_error *err) {
    json_t *object = NULL;
    struct record record = {0};
    int rc = json_parse(&object, lines->text.data, lines->text.len, r->where, err);
    if (rc == GENARM_OK && !json_is_object(object)) {
        rc = error_at(err, error_set(err, GENARM_EFORMAT, "a pair is an object with prompt, chosen and rejected"), "%s",
                      r->where);
    }
    if (rc == GENARM_OK) {
        rc = json_get_string(&record.prompt, object, "prompt", r->where, err);
    }
    if (rc == GENARM_OK) {
        rc = json_get_string(&record.response[CHOSEN], object, "chosen", r->where, err);
    }
    if (rc == GENARM_OK) {
        rc = json_get_string(&record.response[REJECTED], object, "rejected", r->where, err);
    }
    if (rc == GENARM_OK) {
        rc = json_opt_string(&record.system, object, "system", NULL, r->where, err);
    }
    if (rc == GENARM_OK) {
        r->data->report.read++;
        rc = error_at(err, take_record(r, &record, lines->line, err), "%s", r->where);
    }
    json_decref(object);
    return rc;
}

static bool blank(const char *text) { return text[strspn(text, " \t\r")] == '\0'; }

static int read_file(struct reader *r, const char *path, struct genarm_error *err) {
    const int64_t before = r->data->report.read;
    struct file_lines lines;
    int rc = file_lines_open(&lines, path, DATA_MAX_LINE, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    int more;
    while ((more = file_lines_next(&lines, err)) > 0) {
        snprintf(r->where, sizeof r->where, "%s:%ld", path, lines.line);
        /* a NUL byte is no blank line but broken JSON */
        if (strlen(lines.text.data) == lines.text.len && blank(lines.text.data)) {
            continue;
        }
        rc = read_line(r, &lines, err);
        if (rc != GENARM_OK) {
            break;
        }
    }
    rc = more < 0 ? more : rc;
    file_lines_close(&lines);
    if (rc == GENARM_OK && r->data->report.read == before) {
        rc = error_at(err, error_set(err, GENARM_EFORMAT, "the file holds no pairs"), "%s", path);
    }
    return rc;
}

static int copy_paths(struct data *d, const char *const *paths, size_t n_paths, struct genarm_error *err) {
    d->paths = calloc(n_paths ? n_paths : 1, sizeof *d->paths);
    if (!d->paths) {
        return error_nomem(err, "the names of pair files");
    }
    for (; d->n_paths < n_paths; d->n_paths++) {
        d->paths[d->n_paths] = strdup(paths[d->n_paths]);
        if (!d->paths[d->n_paths]) {
            return error_nomem(err, "the names of pair files");
        }
    }
    return GENARM_OK;
}

static int check_some_left(const struct data *d, int32_t max_length, struct genarm_error *err) {
    const struct genarm_data_report *r = &d->report;
    if (d->n_pairs > 0) {
        return GENARM_OK;
    }
    return error_hint(
        err,
        error_set(err, GENARM_EFORMAT,
                  "none of %lld pairs can be used: %lld with an empty response, %lld with equal responses, %lld longer "
                  "than %d tokens",
                  (long long)r->read, (long long)r->dropped_empty, (long long)r->dropped_equal,
                  (long long)r->dropped_long, max_length),
        "look at the data, or raise the maximum length");
}

int data_read(struct data *d, const struct genarm_model *model, const char *const *paths, size_t n_paths,
              const char *template_name, int32_t max_length, struct genarm_error *err) {
    *d = (struct data){.hash = HASH_START};
    if (n_paths == 0) {
        return error_set(err, GENARM_EINVAL, "no file of pairs is given");
    }
    if (genarm_token_eos(model) < 0) {
        return error_set(err, GENARM_EUNSUPPORTED, "the model has no token that ends a turn");
    }
    struct reader r = {.data = d, .model = model, .template_name = template_name, .max_length = max_length};
    int rc = copy_paths(d, paths, n_paths, err);
    for (size_t i = 0; i < n_paths && rc == GENARM_OK; i++) {
        r.file = (int32_t)i;
        rc = read_file(&r, paths[i], err);
    }
    if (rc == GENARM_OK) {
        rc = check_some_left(d, max_length, err);
    }
    if (rc != GENARM_OK) {
        data_deinit(d);
    }
    return rc;
}

void data_deinit(struct data *d) {
    for (size_t i = 0; i < d->n_paths; i++) {
        free(d->paths[i]);
    }
    free(d->paths);
    free(d->tokens);
    free(d->pairs);
    *d = (struct data){0};
}
