/* See judge_answers.h. */
#include "judge_answers.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/strset.h"

enum { ARRAY_MAX = 1 << 30 /* bytes */ };

void judge_answers_free(struct judge_answers *a) {
    for (size_t i = 0; i < a->n; i++) {
        free(a->items[i].messages);
        free(a->items[i].tokens);
    }
    free(a->items);
    records_free(&a->records);
    *a = (struct judge_answers){0};
}

/* ---- files ---- */

/* Whether the first character that is no blank begins an array. */
static bool is_array(const char *path) {
    FILE *f = fopen(path, "rb");
    int c = f ? getc(f) : EOF;
    while (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
        c = getc(f);
    }
    if (f) {
        fclose(f);
    }
    return c == '[';
}

static int read_array(struct record_list *list, const char *path, struct genarm_error *err) {
    struct buf text;
    json_t *array = NULL;
    buf_init(&text, ARRAY_MAX);
    int code = file_read(&text, path, err);
    code = code ? code : json_parse_sampled(&array, text.data, text.len, path, err);
    const size_t n = json_array_size(array);
    if (code == 0 && n == 0) {
        code = error_at(err, error_set(err, GENARM_EFORMAT, "the file has no records"), "%s", path);
    }
    list->items = code ? NULL : calloc(n, sizeof *list->items);
    if (code == 0 && !list->items) {
        code = error_nomem(err, "records");
    }
    for (size_t i = 0; i < n && code == 0; i++) {
        struct record *r = &list->items[i];
        if (asprintf(&r->where, "%s, record %zu", path, i + 1) < 0) {
            r->where = NULL;
            code = error_nomem(err, "records");
        }
        r->value = json_incref(json_array_get(array, i));
        list->n++;
    }
    json_decref(array);
    buf_deinit(&text);
    return code;
}

/* ---- records ---- */

/* messages = [system,] user */
static int single_prompt(struct judge_answer_record *a, const char *text, const char *system, struct genarm_error *err) {
    a->messages = calloc(2, sizeof *a->messages);
    if (!a->messages) {
        return error_nomem(err, "a prompt");
    }
    if (system && *system) {
        a->messages[a->n_messages++] = (struct genarm_message){"system", system};
    }
    a->messages[a->n_messages++] = (struct genarm_message){"user", text};
    return 0;
}

/* messages, with `system` before them where they have none */
static int many_messages(struct judge_answer_record *a, const json_t *array, const char *system, struct genarm_error *err) {
    const size_t n = json_array_size(array);
    if (n == 0) {
        return error_set(err, GENARM_EFORMAT, "\"messages\" is not a list of messages");
    }
    a->messages = calloc(n + 1, sizeof *a->messages);
    int code = a->messages ? 0 : error_nomem(err, "a prompt");
    for (size_t i = 0; i < n && code == 0; i++) {
        struct genarm_message m = {0};
        code = json_get_string(&m.role, json_array_get(array, i), "role", a->where, err);
        code = code ? code : json_get_string(&m.content, json_array_get(array, i), "content", a->where, err);
        if (code == 0 && i == 0 && system && *system && strcmp(m.role, "system") != 0) {
            a->messages[a->n_messages++] = (struct genarm_message){"system", system};
        }
        a->messages[a->n_messages++] = m;
    }
    return code;
}

static int read_answer(struct judge_answer_record *a, const json_t *record, struct genarm_error *err) {
    const char *text, *system, *instruction, *finish;
    const json_t *messages = json_object_get(record, "messages");
    int code = json_opt_string(&instruction, record, "instruction", NULL, a->where, err);
    code = code ? code : json_opt_string(&system, record, "system", NULL, a->where, err);
    code = code ? code : json_opt_string(&finish, record, "finish_reason", "stop", a->where, err);
    if (code == 0 && strcmp(finish, "error") == 0) {
        code = json_opt_string(&a->failure, record, "error", "", a->where, err);
    }
    a->id = json_is_null(json_object_get(record, "id")) ? NULL : json_object_get(record, "id");
    if (code == 0 && messages) {
        code = many_messages(a, messages, system, err);
    } else if (code == 0) {
        code = instruction ? 0 : json_get_string(&text, record, "prompt", a->where, err);
        code = code ? code : single_prompt(a, instruction ? instruction : text, system, err);
    }
    const char *key = json_object_get(record, "response") || !json_object_get(record, "output") ? "response" : "output";
    code = code || a->failure ? code : json_get_string(&a->text, record, key, a->where, err);
    a->finished = code == 0 && strcmp(finish, "stop") == 0;
    return code ? code : record_tokens(&a->tokens, &a->n_tokens, record, err);
}

int judge_answers_read(struct judge_answers *a, const char *path, struct genarm_error *err) {
    int code = is_array(path) ? read_array(&a->records, path, err) : records_read_sampled(&a->records, path, err);
    a->items = code ? NULL : calloc(a->records.n, sizeof *a->items);
    if (code == 0 && !a->items) {
        code = error_nomem(err, "answers");
    }
    for (size_t i = 0; i < a->records.n && code == 0; i++) {
        struct judge_answer_record *item = &a->items[a->n++];
        item->where = a->records.items[i].where;
        code = error_at(err, read_answer(item, a->records.items[i].value, err), "%s", item->where);
    }
    return code;
}

/* ---- which belong together ---- */

static bool all_have_ids(const struct judge_answers *a) {
    for (size_t i = 0; i < a->n; i++) {
        if (!a->items[i].id) {
            return false;
        }
    }
    return true;
}

static int twice(const struct judge_answer_record *a, const char *id, struct genarm_error *err) {
    return error_at(err, error_set(err, GENARM_EMISMATCH, "the id %.100s was there before", id), "%s", a->where);
}

static int alone(const struct judge_answer_record *a, const char *other, struct genarm_error *err) {
    const int code = error_set(err, GENARM_EMISMATCH, "there is no answer to the same prompt in the other file, %s", other);
    return error_at(err, code, "%s", a->where);
}

static const char *file_of(const struct judge_answers *a, char *name, size_t size) {
    snprintf(name, size, "%s", a->n ? a->items[0].where : "");
    name[strcspn(name, ",")] = '\0';
    char *colon = strrchr(name, ':');
    if (colon) {
        *colon = '\0';
    }
    return name;
}

/* texts: [a->n + b->n] room for ids as text, those of b first. */
static int match_ids(size_t *match, char **texts, const struct judge_answers *a, const struct judge_answers *b,
                     struct strset *ids, struct genarm_error *err) {
    char name[300];
    bool *used = calloc(b->n, sizeof *used);
    int code = used ? 0 : error_nomem(err, "ids");
    for (size_t i = 0; i < a->n + b->n && code == 0; i++) {
        const struct judge_answer_record *r = i < b->n ? &b->items[i] : &a->items[i - b->n];
        size_t first = 0;
        texts[i] = json_dumps(r->id, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
        const int added = texts[i] ? strset_add(ids, texts[i], strlen(texts[i]), &first, err) : error_nomem(err, "ids");
        if (added < 0) {
            code = added;
        } else if (i < b->n) {
            code = added ? 0 : twice(r, texts[i], err);
        } else if (added || used[first]) {
            code = added ? alone(r, file_of(b, name, sizeof name), err) : twice(r, texts[i], err);
        } else {
            used[first] = true;
            match[i - b->n] = first;
        }
    }
    for (size_t i = 0; i < b->n && code == 0; i++) {
        code = used[i] ? 0 : alone(&b->items[i], file_of(a, name, sizeof name), err);
    }
    free(used);
    return code;
}

static int match_order(size_t *match, const struct judge_answers *a, const struct judge_answers *b, struct genarm_error *err) {
    char name[300];
    if (a->n != b->n) {
        const struct judge_answers *longer = a->n > b->n ? a : b, *shorter = a->n > b->n ? b : a;
        return alone(&longer->items[shorter->n], file_of(shorter, name, sizeof name), err);
    }
    for (size_t i = 0; i < a->n; i++) {
        match[i] = i;
    }
    return 0;
}

static bool same_prompt(const struct judge_answer_record *a, const struct judge_answer_record *b) {
    bool same = a->n_messages == b->n_messages;
    for (size_t i = 0; i < a->n_messages && same; i++) {
        const struct genarm_message *m = &a->messages[i], *o = &b->messages[i];
        same = strcmp(m->role, o->role) == 0 && strcmp(m->content, o->content) == 0;
    }
    return same;
}

int judge_answers_match(size_t *match, const struct judge_answers *a, const struct judge_answers *b, struct genarm_error *err) {
    const bool by_id = all_have_ids(a) && all_have_ids(b);
    struct strset ids = {0};
    char **texts = calloc(a->n + b->n + 1, sizeof *texts);
    int code = texts ? 0 : error_nomem(err, "ids");
    if (code == 0) {
        code = by_id ? match_ids(match, texts, a, b, &ids, err) : match_order(match, a, b, err);
    }
    for (size_t i = 0; i < a->n && code == 0; i++) {
        const struct judge_answer_record *other = &b->items[match[i]];
        if (!same_prompt(&a->items[i], other)) {
            code = error_set(err, GENARM_EMISMATCH, "the prompt is not that of %s, which would be judged with it", other->where);
            code = error_at(err, code, "%s", a->items[i].where);
        }
    }
    strset_deinit(&ids);
    for (size_t i = 0; i < a->n + b->n && texts; i++) {
        free(texts[i]);
    }
    free(texts);
    return code;
}
