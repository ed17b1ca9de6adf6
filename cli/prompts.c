/* See prompts.h. */
#include "prompts.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/utf8.h"
#include "data/formats.h"
#include "records.h"
#include "tell.h"
#include "train/run.h"

enum { PROMPT_MAX_BYTES = 64 << 20 };

static void prompt_deinit(struct prompt *p) {
    json_decref(p->shown);
    json_decref(p->source);
    free(p->messages);
    free(p->text);
    free(p->where);
}

void prompts_free(struct prompt_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        prompt_deinit(&list->items[i]);
    }
    free(list->items);
    *list = (struct prompt_list){0};
}

/* Takes over *p, also on failure. */
static int append(struct prompt_list *list, struct prompt *p, struct genarm_error *err) {
    if ((list->n & (list->n - 1)) == 0) { /* full: the capacity is the next power of two */
        struct prompt *items = realloc(list->items, sizeof *items * (list->n ? 2 * list->n : 1));
        if (!items) {
            prompt_deinit(p);
            return error_nomem(err, "prompts");
        }
        list->items = items;
    }
    list->items[list->n++] = *p;
    return 0;
}

/* A system message that the prompt has not itself, if any; the record of the answer names it. There is room for it. */
static int push_system(struct prompt *p, const char *system, struct genarm_error *err) {
    if (system && *system) {
        p->messages[p->n_messages++] = (struct genarm_message){"system", system};
        return json_object_set_new(p->shown, "system", text_json(system)) == 0 ? 0 : error_nomem(err, "a prompt");
    }
    return 0;
}

/* messages = [system,] user, from strings that p->source owns. */
static int set_user_message(struct prompt *p, const char *text, const char *system, struct genarm_error *err) {
    p->messages = calloc(2, sizeof *p->messages);
    if (!p->messages) {
        return error_nomem(err, "a prompt");
    }
    const int code = push_system(p, system, err);
    p->messages[p->n_messages++] = (struct genarm_message){"user", text};
    return code;
}

/* `key`: the list's name in the record */
static int set_messages(struct prompt *p, const json_t *array, const char *key, const char *system, const char *where,
                        struct genarm_error *err) {
    size_t n = json_array_size(array);
    if (n == 0) {
        return error_at(err, error_set(err, GENARM_EFORMAT, "\"%s\" is not a list of messages", key), "%s", where);
    }
    p->messages = calloc(n + 1, sizeof *p->messages);
    if (!p->messages) {
        return error_nomem(err, "a prompt");
    }
    for (size_t i = 0; i < n; i++) {
        struct genarm_message m;
        int code = json_get_string(&m.role, json_array_get(array, i), "role", where, err);
        if (code == 0) {
            code = json_get_string(&m.content, json_array_get(array, i), "content", where, err);
        }
        if (code) {
            return code;
        }
        if (strcmp(m.role, "system") != 0 && strcmp(m.role, "user") != 0 && strcmp(m.role, "assistant") != 0) {
            return error_at(err,
                            error_set(err, GENARM_EFORMAT, "role \"%.40s\" is none of system, user, assistant", m.role),
                            "%s", where);
        }
        code = i == 0 && strcmp(m.role, "system") != 0 ? push_system(p, system, err) : 0;
        if (code) {
            return code;
        }
        p->messages[p->n_messages++] = m;
    }
    if (strcmp(p->messages[p->n_messages - 1].role, "user") != 0) {
        return error_at(err, error_set(err, GENARM_EFORMAT, "the last message is not the user's"), "%s", where);
    }
    return 0;
}

/* *out: the list of messages of a record whose prompt is a dialogue, as training reads it, or NULL: it has none. */
static int read_dialogue(json_t **out, json_t *record, const char *where, struct genarm_error *err) {
    struct preference dialogue = {.source = json_incref(record)};
    struct conversion c = {.out = &dialogue, .drop = PREF_NONE, .where = where};
    int code = dialogue_question(&c, err);
    *out = NULL;
    if (code == 0 && dialogue.n_messages > 0) {
        *out = preference_prompt(&dialogue);
        code = *out ? 0 : error_nomem(err, "a prompt");
    }
    preference_deinit(&dialogue);
    return code;
}

/* As set_messages, and the record repeats them. */
static int take_messages(struct prompt *p, json_t *messages, const char *key, const char *system, const char *where,
                         struct genarm_error *err) {
    return json_object_set(p->shown, "messages", messages) == 0 ? set_messages(p, messages, key, system, where, err)
                                                                : error_nomem(err, "a prompt");
}

static int parse_record(struct prompt *p, json_t *record, const char *system, const char *where, struct genarm_error *err) {
    json_t *messages = json_object_get(record, "messages"), *prompt = json_object_get(record, "prompt"), *dialogue = NULL;
    const char *text, *own_system, *key = "messages";
    p->shown = json_object();
    if (!p->shown) {
        return error_nomem(err, "a prompt");
    }
    if (!messages && json_is_array(prompt)) { /* as pairs have a prompt of several turns */
        messages = prompt;
        key = "prompt";
    }
    int code = json_opt_string(&own_system, record, "system", system, where, err);
    if (json_object_get(record, "id")) {
        json_object_set(p->shown, "id", json_object_get(record, "id"));
    }
    code = code || messages ? code : read_dialogue(&dialogue, record, where, err);
    if (code == 0 && (messages || dialogue)) {
        code = take_messages(p, messages ? messages : dialogue, key, own_system, where, err);
        json_decref(dialogue);
        return code;
    }
    code = code ? code : json_get_string(&text, record, "prompt", where, err);
    if (code) {
        return prompt || format_detect(record) == GENARM_DATA_AUTO
                   ? code
                   : error_hint(err, code, "pairs have it in their texts; to take it out: genarm data FILE -o OUT.jsonl");
    }
    json_object_set(p->shown, "prompt", prompt);
    return set_user_message(p, text, own_system, err);
}

int prompts_single(struct prompt_list *out, const char *text, const char *system, struct genarm_error *err) {
    struct prompt p = {.shown = json_object(), .text = strdup(text)};
    if (!p.shown || !p.text || json_object_set_new(p.shown, "prompt", text_json(text)) != 0) {
        prompt_deinit(&p);
        return error_nomem(err, "a prompt");
    }
    int code = set_user_message(&p, p.text, system, err);
    if (code) {
        prompt_deinit(&p);
        return code;
    }
    return append(out, &p, err);
}

/* A line of a file of texts; empty ones are skipped. */
static int append_line(struct prompt_list *list, const struct file_lines *lines, const char *path, const char *system,
                       struct genarm_error *err) {
    char where[300];
    const struct buf *text = &lines->text;
    if (strspn(text->data, " \t") == text->len) {
        return 0;
    }
    snprintf(where, sizeof where, "%s:%ld", path, lines->line);
    if (!utf8_valid(text->data, text->len) || strlen(text->data) < text->len) {
        return error_at(err, error_set(err, GENARM_EFORMAT, "this is not UTF-8 text"), "%s", where);
    }
    int code = prompts_single(list, text->data, system, err);
    struct prompt *added = code ? NULL : &list->items[list->n - 1];
    if (added && !(added->where = strdup(where))) {
        code = error_nomem(err, "prompts");
    }
    return code;
}

static int read_lines(struct prompt_list *out, const char *path, const char *system, struct genarm_error *err) {
    struct prompt_list list = {0};
    struct file_lines lines;
    int code = file_lines_open(&lines, path, PROMPT_MAX_BYTES, err);
    if (code) {
        return code;
    }
    while ((code = file_lines_next(&lines, err)) > 0) {
        code = append_line(&list, &lines, path, system, err);
        if (code) {
            break;
        }
    }
    file_lines_close(&lines);
    if (code == 0 && list.n == 0) {
        code = error_at(err, error_set(err, GENARM_EFORMAT, "there is no prompt in this file"), "%s", path);
    }
    if (code) {
        prompts_free(&list);
    } else {
        *out = list;
    }
    return code;
}

static const char *file_or_stdin(const char *path) { return strcmp(path, "-") == 0 ? "/dev/stdin" : path; }

static bool is_text(const char *path) {
    const size_t n = strlen(path);
    return n > 4 && strcmp(path + n - 4, ".txt") == 0;
}

int prompts_read(struct prompt_list *out, const char *path, const char *system, struct genarm_error *err) {
    struct prompt_list list = {0};
    struct record_list records = {0};
    if (is_text(path)) {
        return read_lines(out, path, system, err);
    }
    int code = records_read(&records, file_or_stdin(path), err);
    for (size_t i = 0; i < records.n && code == 0; i++) {
        struct prompt p = {.source = json_incref(records.items[i].value)};
        code = parse_record(&p, p.source, system, records.items[i].where, err);
        p.where = code ? NULL : strdup(records.items[i].where);
        if (code == 0 && !p.where) {
            code = error_nomem(err, "prompts");
        }
        if (code) {
            prompt_deinit(&p);
        } else {
            code = append(&list, &p, err);
        }
    }
    records_free(&records);
    if (code) {
        prompts_free(&list);
    } else {
        *out = list;
    }
    return code;
}

bool prompts_cut(struct prompt_list *list, size_t skip, size_t limit) {
    if (skip >= list->n) {
        return false;
    }
    const size_t end = limit && limit < list->n - skip ? skip + limit : list->n;
    for (size_t i = 0; i < list->n; i++) {
        if (i < skip || i >= end) {
            prompt_deinit(&list->items[i]);
        }
    }
    memmove(list->items, list->items + skip, (end - skip) * sizeof *list->items);
    list->n = end - skip;
    return true;
}

int prompts_describe(const struct prompt_list *list, json_t *settings, struct genarm_error *err) {
    uint64_t hash = hash_u64(HASH_START, list->n);
    struct buf shown;
    char text[17];
    int code = 0;
    buf_init(&shown, 2 * (size_t)PROMPT_MAX_BYTES);
    for (size_t i = 0; i < list->n && code == 0; i++) {
        const struct prompt *p = &list->items[i];
        buf_clear(&shown);
        code = json_dump(&shown, p->shown, err);
        hash = hash_bytes(hash, shown.data, shown.len);
        for (size_t m = 0; m < p->n_messages; m++) { /* with their ends */
            hash = hash_bytes(hash, p->messages[m].role, strlen(p->messages[m].role) + 1);
            hash = hash_bytes(hash, p->messages[m].content, strlen(p->messages[m].content) + 1);
        }
    }
    buf_deinit(&shown);
    run_hex(text, hash);
    return code == 0 && json_object_set_new(settings, "--prompts", json_string(text)) != 0 ? error_nomem(err, "settings") : code;
}

/* The text without what editors begin a file with, and what ends its last line. */
static const char *trim_file(struct buf *content) {
    static const char mark[] = "\xEF\xBB\xBF";
    char *text = content->data;
    size_t n = content->len;
    while (n > 0 && text[n - 1] == '\n') {
        n -= n > 1 && text[n - 2] == '\r' ? 2 : 1;
        text[n] = '\0';
    }
    return !text ? "" : strncmp(text, mark, strlen(mark)) == 0 ? text + strlen(mark) : text;
}

int prompt_text(char **out, const char *text, const char *path, struct genarm_error *err) {
    struct buf content;
    if (text && path) {
        return usage_error(err, "-f", "-p gives the prompt already");
    }
    if (!text && !path) {
        return usage_error(err, "-p", "a prompt is missing: -p TEXT or -f FILE");
    }
    if (text && !utf8_valid(text, strlen(text))) {
        return usage_error(err, "-p", "this is not UTF-8 text");
    }
    if (text) {
        *out = strdup(text);
        return *out ? 0 : error_nomem(err, "a prompt");
    }
    buf_init(&content, PROMPT_MAX_BYTES);
    int code = file_read(&content, file_or_stdin(path), err);
    if (code == 0 && content.len > 0 && strlen(content.data) < content.len) {
        code = error_at(err, error_set(err, GENARM_EFORMAT, "this is not text: there is a zero byte"), "%s", path);
    }
    if (code == 0 && !utf8_valid(content.data, content.len)) {
        code = error_at(err, error_set(err, GENARM_EFORMAT, "this is not UTF-8 text"), "%s", path);
    }
    if (code == 0) {
        *out = strdup(trim_file(&content));
        code = *out ? 0 : error_nomem(err, "a prompt");
    }
    buf_deinit(&content);
    return code;
}
