/* See chat_prompt.h. */
#include "reward/chat_prompt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"

enum { PROMPT_MAX = 1 << 20, FILLED_MAX = 256 << 20 /* bytes */, NUMBER_MAX = 40 };

/* ---- reading ---- */

/* Comments at the top; the rest. */
static const char *read_head(struct chat_prompt *p, const char *text) {
    while (*text == '#') {
        double min, max;
        if (sscanf(text, "# range: %lf %lf", &min, &max) == 2 && min < max) {
            p->min = min;
            p->max = max;
        }
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    return text;
}

/* The text of the line "[ROLE]" and what follows it, up to the next such line or the end; NULL: there is no such line. */
static char *read_section(const char *text, const char *role, const char *other) {
    const char *start = NULL, *end = text + strlen(text);
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        const size_t n = strcspn(line, "\r\n");
        if (!start && n == strlen(role) && memcmp(line, role, n) == 0) {
            start = line + strcspn(line, "\n");
            start += *start == '\n';
        } else if (start && n == strlen(other) && memcmp(line, other, n) == 0) {
            end = line;
            break;
        }
    }
    if (!start) {
        return NULL;
    }
    while (end > start && strchr(" \t\r\n", end[-1])) {
        end--;
    }
    return strndup(start, (size_t)(end - start));
}

static bool has_name(const struct chat_prompt *p, const char *name) {
    char braced[64];
    snprintf(braced, sizeof braced, "{%s}", name);
    return strstr(p->user, braced) || (p->system && strstr(p->system, braced));
}

static int parse(struct chat_prompt *p, const char *text, const char *const *names, struct genarm_error *err) {
    text = read_head(p, text);
    p->system = read_section(text, "[system]", "[user]");
    p->user = read_section(text, "[user]", "[system]");
    if (!p->system && !p->user) {
        p->user = strdup(text);
    }
    if (!p->user) {
        return error_set(err, GENARM_EFORMAT, "the prompt of a judge has no [user] message");
    }
    for (; *names; names++) {
        if (!has_name(p, *names)) {
            const int rc = error_set(err, GENARM_EFORMAT, "the prompt of a judge has no {%s}", *names);
            return error_hint(err, rc, "docs/judge.md says what belongs into it");
        }
    }
    return GENARM_OK;
}

int chat_prompt_load(struct chat_prompt *p, const char *path, const char *text, const char *const *names,
                     struct genarm_error *err) {
    struct chat_prompt made = {.min = -INFINITY, .max = INFINITY};
    struct buf file;
    buf_init(&file, PROMPT_MAX);
    int rc = path ? file_read(&file, path, err) : GENARM_OK;
    if (rc == GENARM_OK && path && (file.len == 0 || !utf8_valid(file.data, file.len) || strlen(file.data) < file.len)) {
        rc = error_set(err, GENARM_EFORMAT, "this is no UTF-8 text");
    }
    rc = rc == GENARM_OK ? parse(&made, path ? file.data : text, names, err) : rc;
    buf_deinit(&file);
    if (rc != GENARM_OK) {
        chat_prompt_deinit(&made);
        return path ? error_at(err, rc, "%s", path) : rc;
    }
    *p = made;
    return GENARM_OK;
}

void chat_prompt_deinit(struct chat_prompt *p) {
    free(p->system);
    free(p->user);
    *p = (struct chat_prompt){0};
}

/* ---- filling ---- */

/* Appends the text with its {NAME}s replaced. */
static int fill(struct buf *out, const char *text, const struct chat_field *fields, size_t n, struct genarm_error *err) {
    int rc = GENARM_OK;
    while (*text && rc == GENARM_OK) {
        const size_t plain = strcspn(text, "{");
        rc = buf_append(out, text, plain, err);
        text += plain;
        if (*text != '{' || rc != GENARM_OK) {
            break;
        }
        size_t i = 0, length = 0;
        for (; i < n; i++) {
            length = strlen(fields[i].name);
            if (strncmp(text + 1, fields[i].name, length) == 0 && text[1 + length] == '}') {
                break;
            }
        }
        rc = i < n ? buf_puts(out, fields[i].text, err) : buf_append(out, "{", 1, err);
        text += i < n ? length + 2 : 1;
    }
    return rc;
}

static int add_message(json_t *messages, const char *role, const char *text, const struct chat_field *fields, size_t n,
                       struct genarm_error *err) {
    struct buf filled;
    buf_init(&filled, FILLED_MAX);
    int rc = fill(&filled, text, fields, n, err);
    if (rc == GENARM_OK) {
        json_t *message = json_pack("{s:s, s:o}", "role", role, "content", text_json(filled.data ? filled.data : ""));
        rc = json_array_append_new(messages, message) == 0 ? GENARM_OK : error_nomem(err, "a request");
    }
    buf_deinit(&filled);
    return rc;
}

int chat_prompt_fill(json_t **messages, const struct chat_prompt *p, const struct chat_field *fields, size_t n,
                     struct genarm_error *err) {
    json_t *list = json_array();
    int rc = list ? GENARM_OK : error_nomem(err, "a request");
    if (rc == GENARM_OK && p->system) {
        rc = add_message(list, "system", p->system, fields, n, err);
    }
    rc = rc == GENARM_OK ? add_message(list, "user", p->user, fields, n, err) : rc;
    if (rc != GENARM_OK) {
        json_decref(list);
        return rc;
    }
    *messages = list;
    return GENARM_OK;
}

int chat_prompt_conversation(struct buf *out, const struct genarm_message *messages, size_t n, struct genarm_error *err) {
    int rc = GENARM_OK;
    if (n == 1 && strcmp(messages[0].role, "user") == 0) {
        return buf_puts(out, messages[0].content, err);
    }
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        rc = buf_printf(out, err, "%s[%s]\n", i ? "\n\n" : "", messages[i].role);
        rc = rc == GENARM_OK ? buf_puts(out, messages[i].content, err) : rc; /* of any length */
    }
    return rc;
}

/* ---- answers ---- */

bool chat_find_mark(const char **at, size_t *n, const char *answer, bool (*accept)(const char *word, size_t n)) {
    const char *found = NULL;
    size_t n_found = 0;
    for (const char *open = strstr(answer, "[["); open; open = strstr(open + 1, "[[")) {
        const char *word = open + 2 + strspn(open + 2, " \t");
        size_t length = strcspn(word, "[]");
        if (strncmp(word + length, "]]", 2) != 0) {
            continue;
        }
        while (length > 0 && strchr(" \t", word[length - 1])) {
            length--;
        }
        if (!accept(word, length)) {
            continue;
        }
        if (found && (n_found != length || memcmp(found, word, length) != 0)) {
            return false;
        }
        found = word;
        n_found = length;
    }
    *at = found;
    *n = n_found;
    return found;
}

/* A decimal number, which strtod reads too; it would also read "inf" and "0x1". */
static bool is_number(const char *word, size_t n) {
    const size_t sign = n > 0 && (word[0] == '-' || word[0] == '+');
    const size_t whole = strspn(word + sign, "0123456789"), end = sign + whole;
    if (n == 0 || n > NUMBER_MAX || whole == 0 || end >= n) {
        return whole > 0 && end == n && n <= NUMBER_MAX;
    }
    const size_t fraction = word[end] == '.' ? strspn(word + end + 1, "0123456789") : 0;
    return fraction > 0 && end + 1 + fraction == n;
}

bool chat_find_score(double *score, const struct chat_prompt *p, const char *answer) {
    const char *at;
    size_t n;
    if (!chat_find_mark(&at, &n, answer, is_number)) {
        return false;
    }
    const double value = strtod(at, NULL);
    if (!(value >= p->min && value <= p->max)) {
        return false;
    }
    *score = value;
    return true;
}
