/* See records.h. */
#include "records.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "data/values.h"

enum { LINE_MAX_BYTES = 64 << 20 };

/* Takes over `value`, also on failure. */
static int append(struct record_list *list, json_t *value, const char *where, struct genarm_error *err) {
    char *copy = strdup(where);
    struct record *items = list->items;
    if ((list->n & (list->n - 1)) == 0) { /* full: the capacity is the next power of two */
        items = realloc(items, sizeof *items * (list->n ? 2 * list->n : 1));
    }
    if (items) {
        list->items = items;
    }
    if (!copy || !items) {
        free(copy);
        json_decref(value);
        return error_nomem(err, "records");
    }
    list->items[list->n++] = (struct record){value, copy};
    return 0;
}

static int read_line(struct record_list *list, const struct file_lines *lines, const char *path, struct genarm_error *err) {
    char where[300];
    json_t *value = NULL;
    if (strspn(lines->text.data, " \t") == lines->text.len) {
        return 0;
    }
    snprintf(where, sizeof where, "%s:%ld", path, lines->line);
    int code = json_parse_sampled(&value, lines->text.data, lines->text.len, where, err);
    if (code) {
        return code;
    }
    if (!json_is_object(value)) {
        json_decref(value);
        return error_at(err, error_set(err, GENARM_EFORMAT, "the line is not a JSON object"), "%s", where);
    }
    return append(list, value, where, err);
}

static int none_found(const char *path, struct genarm_error *err) {
    return error_at(err, error_set(err, GENARM_EFORMAT, "the file has no records"), "%s", path);
}

int records_read(struct record_list *list, const char *path, struct genarm_error *err) {
    struct values *values;
    json_t *value;
    const size_t before = list->n;
    int code = values_open(&values, path, err);
    if (code) {
        return code;
    }
    while ((code = values_next(values, &value, err)) > 0) {
        code = append(list, value, values_where(values), err);
        if (code) {
            break;
        }
    }
    values_close(values);
    return code == 0 && list->n == before ? none_found(path, err) : code;
}

int records_read_sampled(struct record_list *list, const char *path, struct genarm_error *err) {
    struct file_lines lines;
    const size_t before = list->n;
    int code = file_lines_open(&lines, path, LINE_MAX_BYTES, err);
    if (code) {
        return code;
    }
    while ((code = file_lines_next(&lines, err)) > 0) {
        code = read_line(list, &lines, path, err);
        if (code) {
            break;
        }
    }
    file_lines_close(&lines);
    return code == 0 && list->n == before ? none_found(path, err) : code;
}

void records_free(struct record_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        json_decref(list->items[i].value);
        free(list->items[i].where);
    }
    free(list->items);
    *list = (struct record_list){0};
}

int record_tokens(int32_t **out, size_t *n, const json_t *record, struct genarm_error *err) {
    const json_t *list = json_object_get(record, "tokens");
    const size_t n_tokens = json_array_size(list);
    int32_t *tokens = n_tokens ? malloc(n_tokens * sizeof *tokens) : NULL;
    *out = NULL;
    *n = 0;
    if (n_tokens && !tokens) {
        return error_nomem(err, "tokens");
    }
    for (size_t i = 0; i < n_tokens; i++) {
        const json_t *item = json_array_get(list, i);
        const json_int_t token = json_integer_value(item);
        if (!json_is_integer(item) || token < 0 || token > INT32_MAX) {
            free(tokens);
            return 0;
        }
        tokens[i] = (int32_t)token;
    }
    *out = tokens;
    *n = n_tokens;
    return 0;
}
