/* See transcript.h. */
#include "transcript.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

void transcript_deinit(struct transcript *c) {
    transcript_drop(c, 0);
    free(c->messages);
    *c = (struct transcript){0};
}

static void free_content(struct genarm_message *m) { free((char *)(uintptr_t)m->content); }

int transcript_add(struct transcript *c, const char *role, const char *content, struct genarm_error *err) {
    struct genarm_message *grown = realloc(c->messages, sizeof *grown * (c->n + 1));
    if (grown) {
        c->messages = grown;
    }
    char *copy = strdup(content);
    if (!grown || !copy) {
        free(copy);
        return error_nomem(err, "the conversation");
    }
    c->messages[c->n++] = (struct genarm_message){role, copy};
    return 0;
}

void transcript_drop(struct transcript *c, size_t keep) {
    while (c->n > keep) {
        free_content(&c->messages[--c->n]);
    }
}

static size_t first_question(const struct transcript *c) { return c->n > 0 && strcmp(c->messages[0].role, "system") == 0; }

size_t transcript_n_turns(const struct transcript *c) { return (c->n - first_question(c)) / 2; }

void transcript_forget_oldest(struct transcript *c, size_t n) {
    const size_t first = first_question(c), n_messages = 2 * n;
    for (size_t i = 0; i < n_messages; i++) {
        free_content(&c->messages[first + i]);
    }
    c->n -= n_messages;
    memmove(c->messages + first, c->messages + first + n_messages, (c->n - first) * sizeof *c->messages);
}

int transcript_dump(char **out, const struct transcript *c, struct genarm_error *err) {
    json_t *list = json_array(), *root = json_pack("{s:o*}", "messages", list);
    for (size_t i = 0; i < c->n && root; i++) {
        json_array_append_new(list, json_pack("{s:s, s:o}", "role", c->messages[i].role, "content",
                                              text_json(c->messages[i].content)));
    }
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    const bool whole = root && json_array_size(list) == c->n;
    json_decref(root);
    if (!text || !whole) {
        free(text);
        return error_nomem(err, "the conversation");
    }
    *out = text;
    return 0;
}

static int parse_message(struct transcript *c, const json_t *message, const char *where, struct genarm_error *err) {
    static const char *const roles[] = {"system", "user", "assistant"};
    const char *role, *content;
    int code = json_get_string(&role, message, "role", where, err);
    if (code == 0) {
        code = json_get_string(&content, message, "content", where, err);
    }
    for (size_t i = 0; i < sizeof roles / sizeof *roles && code == 0; i++) {
        if (strcmp(role, roles[i]) == 0) {
            return transcript_add(c, roles[i], content, err);
        }
    }
    return code ? code : error_at(err, error_set(err, GENARM_EFORMAT, "a message has the role \"%s\"", role), "%s", where);
}

int transcript_parse(struct transcript *c, const char *text, const char *where, struct genarm_error *err) {
    struct transcript found = {0};
    json_t *root = NULL;
    if (!text) {
        return error_at(err, error_set(err, GENARM_EFORMAT, "the session was not saved by a chat"), "%s", where);
    }
    int code = json_parse(&root, text, strlen(text), where, err);
    const json_t *list = json_object_get(root, "messages");
    for (size_t i = 0; i < json_array_size(list) && code == 0; i++) {
        code = parse_message(&found, json_array_get(list, i), where, err);
    }
    json_decref(root);
    if (code) {
        transcript_deinit(&found);
        return code;
    }
    transcript_deinit(c);
    *c = found;
    return 0;
}
