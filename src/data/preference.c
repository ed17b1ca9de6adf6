/* See preference.h. */
#include "data/preference.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

static const char *const roles[] = {"system", "user", "assistant"};

void preference_clear(struct preference *p) {
    json_decref(p->source);
    for (size_t i = 0; i < p->n_copies; i++) {
        free(p->copies[i]);
    }
    *p = (struct preference){.messages = p->messages, .cap_messages = p->cap_messages};
}

void preference_deinit(struct preference *p) {
    preference_clear(p);
    free(p->messages);
    *p = (struct preference){0};
}

int preference_add(struct preference *p, const char *role, const char *content, struct genarm_error *err) {
    if (p->n_messages == p->cap_messages) {
        const size_t cap = 4 + 2 * p->cap_messages;
        struct preference_message *grown = realloc(p->messages, cap * sizeof *grown);
        if (!grown) {
            return error_nomem(err, "a prompt");
        }
        p->messages = grown;
        p->cap_messages = cap;
    }
    p->messages[p->n_messages++] = (struct preference_message){.role = preference_role(role), .content = content};
    return GENARM_OK;
}

int preference_copy(struct preference *p, char **out, const char *text, size_t n, struct genarm_error *err) {
    char *copy = p->n_copies < sizeof p->copies / sizeof *p->copies ? malloc(n + 1) : NULL;
    if (!copy) {
        return error_nomem(err, "a record");
    }
    memcpy(copy, text, n);
    copy[n] = '\0';
    *out = p->copies[p->n_copies++] = copy;
    return GENARM_OK;
}

const char *preference_role(const char *role) {
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (strcmp(role, roles[i]) == 0) {
            return roles[i];
        }
    }
    return NULL;
}

/* ---- fingerprints ---- */

/* A string and its end, so that neighbours cannot flow into each other. */
static uint64_t hash_text(uint64_t hash, const char *text) { return hash_bytes(hash, text, strlen(text) + 1); }

uint64_t preference_prompt_hash(const struct preference *p) {
    uint64_t hash = HASH_START;
    for (size_t i = 0; i < p->n_messages; i++) {
        if (strcmp(p->messages[i].role, "system") != 0) {
            hash = hash_text(hash_text(hash, p->messages[i].role), p->messages[i].content);
        }
    }
    return hash;
}

uint64_t preference_hash(const struct preference *p, bool swapped) {
    uint64_t hash = HASH_START;
    for (size_t i = 0; i < p->n_messages; i++) {
        hash = hash_text(hash_text(hash, p->messages[i].role), p->messages[i].content);
    }
    hash = hash_text(hash, swapped ? p->rejected : p->chosen);
    return hash_text(hash, swapped ? p->chosen : p->rejected);
}

/* ---- writing ---- */

json_t *preference_prompt(const struct preference *p) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < p->n_messages; i++) {
        json_t *message =
            json_pack("{s:s, s:s}", "role", p->messages[i].role, "content", p->messages[i].content);
        if (!message || json_array_append_new(list, message) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

int preference_write(struct buf *line, const struct preference *p, struct genarm_error *err) {
    const bool has_system = p->n_messages == 2 && strcmp(p->messages[0].role, "system") == 0;
    const bool one_turn = p->n_messages == 1 || has_system;
    json_t *prompt = one_turn ? json_string(p->messages[p->n_messages - 1].content) : preference_prompt(p);
    const char *rejected = *p->rejected ? p->rejected : NULL;
    json_t *record = prompt ? json_pack("{s:o, s:s, s:s*}", "prompt", prompt, rejected ? "chosen" : "completion", p->chosen,
                                        "rejected", rejected)
                            : NULL;
    bool ok = record;
    if (ok && has_system) {
        ok = json_object_set_new(record, "system", json_string(p->messages[0].content)) == 0;
    }
    int rc = ok ? json_dump(line, record, err) : error_nomem(err, "a record");
    if (rc == GENARM_OK) {
        rc = buf_append(line, "\n", 1, err);
    }
    json_decref(record);
    return rc;
}
