/* Formats whose responses are lists of {role, content}: ultrafeedback and trl-conversational, and those of one answer,
 * prompt-completion and messages. See formats.h.
 *
 * Two lists are either the answers alone or the whole conversation again; what both begin with is the prompt. */
#include <string.h>

#include "data/formats.h"

/* Message i of a list that has been checked. */
static struct preference_message message_at(const json_t *list, size_t i) {
    const json_t *message = json_array_get(list, i);
    return (struct preference_message){.role = json_string_value(json_object_get(message, "role")),
                                       .content = json_string_value(json_object_get(message, "content"))};
}

static int check_message(const json_t *message, const char *place, const char *where, struct genarm_error *err) {
    const char *role = NULL, *content = NULL;
    if (!json_is_object(message)) {
        const int rc = error_set(err, GENARM_EFORMAT, "%s must be an object {role, content}", place);
        return error_at(err, rc, "%s", where);
    }
    int rc = json_get_string(&role, message, "role", place, err);
    if (rc == GENARM_OK) {
        rc = json_get_string(&content, message, "content", place, err);
    }
    if (rc == GENARM_OK && !preference_role(role)) {
        rc = error_set(err, GENARM_EFORMAT, "role \"%.40s\" is none of system, user, assistant", role);
    }
    if (rc != GENARM_OK && err) { /* the place in the file is the place; that in the record belongs to what is wrong */
        char what[256];
        snprintf(what, sizeof what, "%.200s", err->what);
        rc = error_at(err, error_set(err, rc, "%s: %s", place, what), "%s", where);
    }
    return rc;
}

static int check_list(const json_t *list, const char *key, const char *where, struct genarm_error *err) {
    if (!json_is_array(list)) {
        const int rc = error_set(err, GENARM_EFORMAT, "\"%s\" %s", key,
                                 list && !json_is_null(list) ? "must be a list of messages" : "is missing");
        return error_at(err, rc, "%s", where);
    }
    int rc = GENARM_OK;
    for (size_t i = 0; i < json_array_size(list) && rc == GENARM_OK; i++) {
        char place[64];
        snprintf(place, sizeof place, "%s[%zu]", key, i);
        rc = check_message(json_array_get(list, i), place, where, err);
    }
    return rc;
}

static int add_range(struct conversion *c, const json_t *list, size_t n, struct genarm_error *err) {
    int rc = GENARM_OK;
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        const struct preference_message m = message_at(list, i);
        rc = preference_add(c->out, m.role, m.content, err);
    }
    return rc;
}

int conversation_add(struct conversion *c, const json_t *list, const char *key, struct genarm_error *err) {
    int rc = check_list(list, key, c->where, err);
    if (rc == GENARM_OK && json_array_size(list) == 0) {
        rc = error_at(err, error_set(err, GENARM_EFORMAT, "\"%s\" has no messages", key), "%s", c->where);
    }
    return rc == GENARM_OK ? add_range(c, list, json_array_size(list), err) : rc;
}

int conversion_system(const char **system, const struct conversion *c, struct genarm_error *err) {
    *system = NULL;
    const int rc = json_opt_string(system, c->out->source, "system", NULL, c->where, err);
    *system = *system && **system ? *system : NULL;
    return rc;
}

/* The record's own "system", unless the messages begin with one. The list may be NULL, and need not be checked yet. */
static int add_system(struct conversion *c, const json_t *list, struct genarm_error *err) {
    const char *role = message_at(list, 0).role, *system = NULL;
    const int rc = conversion_system(&system, c, err);
    return system && !(role && strcmp(role, "system") == 0) ? preference_add(c->out, "system", system, err) : rc;
}

static bool same_message(const json_t *a, const json_t *b, size_t i) {
    const struct preference_message x = message_at(a, i), y = message_at(b, i);
    return strcmp(x.role, y.role) == 0 && strcmp(x.content, y.content) == 0;
}

/* Messages that both lists begin with, at most n. */
static size_t common_messages(const json_t *a, const json_t *b, size_t n) {
    size_t common = 0;
    while (common < n && common < json_array_size(a) && common < json_array_size(b) && same_message(a, b, common)) {
        common++;
    }
    return common;
}

/* What the lists hold from message `from` on: one answer each, or a reason to drop the record. */
static void set_responses(struct conversion *c, const json_t *chosen, const json_t *rejected, size_t from) {
    const json_t *const lists[] = {chosen, rejected};
    const char **const texts[] = {&c->out->chosen, &c->out->rejected};
    for (int side = 0; side < 2; side++) {
        const size_t n = json_array_size(lists[side]);
        if (n <= from) {
            c->drop = PREF_EMPTY;
        } else if (n > from + 1 || strcmp(message_at(lists[side], from).role, "assistant") != 0) {
            c->drop = c->drop == PREF_NONE ? PREF_TURNS : c->drop;
        } else {
            *texts[side] = message_at(lists[side], from).content;
        }
    }
}

/* The answers differ at the latest in the last message of the shorter list. */
static size_t common_prompt(const json_t *chosen, const json_t *rejected) {
    const size_t a = json_array_size(chosen), b = json_array_size(rejected), shorter = a < b ? a : b;
    return shorter ? common_messages(chosen, rejected, shorter - 1) : 0;
}

static const char *trimmed(const char *text, size_t *n) {
    text += strspn(text, " \t\r\n");
    *n = strlen(text);
    while (*n > 0 && strchr(" \t\r\n", text[*n - 1])) {
        --*n;
    }
    return text;
}

/* Whether one of the first n messages is the user's and says `text`. */
static bool has_user_text(const json_t *list, size_t n, const char *text) {
    size_t n_text, n_content;
    text = trimmed(text, &n_text);
    for (size_t i = 0; i < n; i++) {
        const struct preference_message m = message_at(list, i);
        const char *content = trimmed(m.content, &n_content);
        if (strcmp(m.role, "user") == 0 && n_content == n_text && memcmp(content, text, n_text) == 0) {
            return true;
        }
    }
    return false;
}

/* The prompt is inside the lists. `text`: one turn of it, or NULL. */
static int convert_whole(struct conversion *c, const char *text, const json_t *chosen, const json_t *rejected,
                         struct genarm_error *err) {
    const size_t n = common_prompt(chosen, rejected);
    if (json_array_size(chosen) == 0 || json_array_size(rejected) == 0) {
        c->drop = PREF_EMPTY;
    } else if (n == 0) {
        c->drop = PREF_NO_PROMPT;
    } else if (text && !has_user_text(chosen, n, text)) {
        c->drop = PREF_OTHER_PROMPT;
    } else {
        set_responses(c, chosen, rejected, n);
    }
    const int rc = add_system(c, chosen, err);
    return rc == GENARM_OK ? add_range(c, chosen, n, err) : rc;
}

static bool answers_at_once(const json_t *list) {
    return json_array_size(list) == 0 || strcmp(message_at(list, 0).role, "assistant") == 0;
}

static int get_lists(struct conversion *c, const json_t **chosen, const json_t **rejected, struct genarm_error *err) {
    *chosen = json_object_get(c->out->source, "chosen");
    *rejected = json_object_get(c->out->source, rejected_member(c));
    const int rc = check_list(*chosen, "chosen", c->where, err);
    return rc == GENARM_OK ? check_list(*rejected, rejected_member(c), c->where, err) : rc;
}

/* {prompt, chosen[], rejected[]}: the prompt is a string, and the lists begin with it as the user's turn. Where they are
 * the answers alone it is the only turn. */
int convert_ultrafeedback(struct conversion *c, struct genarm_error *err) {
    const json_t *chosen, *rejected;
    const char *prompt = NULL;
    int rc = json_get_string(&prompt, c->out->source, "prompt", c->where, err);
    if (rc == GENARM_OK) {
        rc = get_lists(c, &chosen, &rejected, err);
    }
    if (rc != GENARM_OK) {
        return rc;
    }
    if (!answers_at_once(chosen) || !answers_at_once(rejected)) {
        return convert_whole(c, prompt, chosen, rejected, err);
    }
    set_responses(c, chosen, rejected, 0);
    rc = add_system(c, NULL, err);
    return rc == GENARM_OK ? preference_add(c->out, "user", prompt, err) : rc;
}

/* {prompt[]?, chosen[], rejected[]}: without a prompt the lists are whole conversations, and with one they may be. */
int convert_trl_conversational(struct conversion *c, struct genarm_error *err) {
    const json_t *prompt = json_object_get(c->out->source, "prompt"), *chosen, *rejected;
    int rc = get_lists(c, &chosen, &rejected, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    if (!prompt || json_is_null(prompt)) {
        return convert_whole(c, NULL, chosen, rejected, err);
    }
    rc = add_system(c, prompt, err);
    if (rc == GENARM_OK) {
        rc = conversation_add(c, prompt, "prompt", err);
    }
    if (rc == GENARM_OK) {
        const size_t n = json_array_size(prompt);
        const bool repeated = common_messages(prompt, chosen, n) == n && common_messages(prompt, rejected, n) == n;
        set_responses(c, chosen, rejected, repeated ? n : 0);
    }
    return rc;
}

/* ---- one answer ---- */

/* The last turn of the assistant is the answer, what is before it the prompt. */
static void take_answer(struct conversion *c) {
    struct preference *p = c->out;
    while (p->n_messages > 0) {
        const struct preference_message *last = &p->messages[--p->n_messages];
        if (strcmp(last->role, "assistant") == 0) {
            p->chosen = last->content;
            return;
        }
    }
    c->drop = PREF_EMPTY;
}

/* {messages[]} */
int convert_messages(struct conversion *c, struct genarm_error *err) {
    const json_t *messages = json_object_get(c->out->source, "messages");
    int rc = add_system(c, messages, err);
    rc = rc == GENARM_OK ? conversation_add(c, messages, "messages", err) : rc;
    take_answer(c);
    return rc;
}

/* {prompt, completion}, either of them a string or a list of messages. */
int convert_prompt_completion(struct conversion *c, struct genarm_error *err) {
    const json_t *prompt = json_object_get(c->out->source, "prompt"), *completion = json_object_get(c->out->source, "completion");
    const char *text = NULL;
    int rc = add_system(c, prompt, err);
    if (rc == GENARM_OK && json_is_array(prompt)) {
        rc = conversation_add(c, prompt, "prompt", err);
    } else if (rc == GENARM_OK) {
        rc = json_get_string(&text, c->out->source, "prompt", c->where, err);
        rc = rc == GENARM_OK ? preference_add(c->out, "user", text, err) : rc;
    }
    if (rc == GENARM_OK && !json_is_array(completion)) {
        return json_get_string(&c->out->chosen, c->out->source, "completion", c->where, err);
    }
    rc = rc == GENARM_OK ? conversation_add(c, completion, "completion", err) : rc;
    take_answer(c);
    return rc;
}
