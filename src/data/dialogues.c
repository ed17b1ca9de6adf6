/* Formats whose texts are dialogues, "\n\nHuman: …\n\nAssistant: …": hh-rlhf and full-hh-rlhf. See formats.h.
 *
 * What a turn says is trimmed: the space after "Assistant:" belongs to the notation, and templates bring their own, as
 * "raw:\n\nHuman: {prompt}\n\nAssistant: " does. */
#include <string.h>

#include "data/formats.h"

static const char human[] = "Human:", assistant[] = "Assistant:";
enum { N_HUMAN = sizeof human - 1, N_ASSISTANT = sizeof assistant - 1 };

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static const char *skip_space(const char *text) { return text + strspn(text, " \t\r\n"); }

/* The next "\n\nHuman:" or "\n\nAssistant:" from `text` on, or NULL; *content: behind it. */
static const char *next_turn(const char *text, bool *of_human, const char **content) {
    for (const char *at = text; (at = strstr(at, "\n\n")); at++) {
        *of_human = strncmp(at + 2, human, N_HUMAN) == 0;
        if (*of_human || strncmp(at + 2, assistant, N_ASSISTANT) == 0) {
            *content = at + 2 + (*of_human ? N_HUMAN : N_ASSISTANT);
            return at;
        }
    }
    return NULL;
}

static bool begins(const char *text) { return strncmp(skip_space(text), human, N_HUMAN) == 0; }

bool dialogue_is(const char *text) { return begins(text) && strstr(text, "\n\nAssistant:"); }

bool dialogue_is_prompt(const char *text) {
    size_t n = strlen(text);
    while (n > 0 && is_space(text[n - 1])) {
        n--;
    }
    return dialogue_is(text) && n >= N_ASSISTANT && strncmp(text + n - N_ASSISTANT, assistant, N_ASSISTANT) == 0;
}

static int no_dialogue(struct conversion *c, const char *key, const char *end, struct genarm_error *err) {
    const int rc = error_set(err, GENARM_EFORMAT, "\"%s\" is no dialogue \"\\n\\nHuman: …\\n\\nAssistant:%s\"", key, end);
    return error_at(err, rc, "%s", c->where);
}

/* Copies text without the white space around it. */
static int copy_trimmed(struct preference *p, const char **out, const char *text, const char *end,
                        struct genarm_error *err) {
    char *copy = NULL;
    text = skip_space(text);
    while (end > text && is_space(end[-1])) {
        end--;
    }
    const int rc = preference_copy(p, &copy, text, end > text ? (size_t)(end - text) : 0, err);
    *out = copy;
    return rc;
}

/* Takes the messages of a dialogue that ends where an answer begins, from n bytes of text. */
static int add_turns(struct conversion *c, const char *text, size_t n, struct genarm_error *err) {
    char *copy = NULL;
    int rc = preference_copy(c->out, &copy, text, n, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    bool of_human = true, next_of_human = false;
    const char *content = skip_space(copy) + N_HUMAN, *next_content = NULL, *next;
    while (rc == GENARM_OK && (next = next_turn(content, &next_of_human, &next_content))) {
        char *end = copy + (next - copy);
        while (end > content && is_space(end[-1])) {
            end--;
        }
        *end = '\0';
        rc = preference_add(c->out, of_human ? "user" : "assistant", skip_space(content), err);
        content = next_content;
        of_human = next_of_human;
    }
    return rc;
}

/* What follows the prompt, if it is one turn. */
static int set_responses(struct conversion *c, const char *chosen, const char *rejected, struct genarm_error *err) {
    bool of_human;
    const char *content;
    if (next_turn(chosen, &of_human, &content) || next_turn(rejected, &of_human, &content)) {
        c->drop = PREF_TURNS;
    }
    const int rc = copy_trimmed(c->out, &c->out->chosen, chosen, chosen + strlen(chosen), err);
    return rc == GENARM_OK
               ? copy_trimmed(c->out, &c->out->rejected, rejected, rejected + strlen(rejected), err)
               : rc;
}

/* Bytes up to the end of the last "\n\nAssistant:" that both texts begin with; 0: there is none. */
static size_t common_turns(const char *a, const char *b) {
    size_t common = 0, end = 0;
    while (a[common] && a[common] == b[common]) {
        common++;
    }
    bool of_human;
    const char *content;
    for (const char *at = a; (at = next_turn(at, &of_human, &content)) && content <= a + common; at = content) {
        end = of_human ? end : (size_t)(content - a);
    }
    return end;
}

/* {chosen, rejected}: whole dialogues that differ in their last turn. */
int convert_hh_rlhf(struct conversion *c, struct genarm_error *err) {
    const char *chosen, *rejected;
    int rc = json_get_string(&chosen, c->out->source, "chosen", c->where, err);
    if (rc == GENARM_OK) {
        rc = json_get_string(&rejected, c->out->source, rejected_member(c), c->where, err);
    }
    if (rc == GENARM_OK && (!begins(chosen) || !begins(rejected))) {
        return no_dialogue(c, begins(chosen) ? "rejected" : "chosen", " …", err);
    }
    if (rc != GENARM_OK) {
        return rc;
    }
    const size_t n = common_turns(chosen, rejected);
    if (n == 0) {
        c->drop = PREF_TURNS;
        return GENARM_OK;
    }
    rc = add_turns(c, chosen, n, err);
    return rc == GENARM_OK ? set_responses(c, chosen + n, rejected + n, err) : rc;
}

/* {prompt, response, chosen, rejected}: the prompt is a dialogue that ends in "\n\nAssistant:"; `response` is chosen once
 * more. */
int convert_full_hh_rlhf(struct conversion *c, struct genarm_error *err) {
    const char *prompt, *chosen, *rejected;
    int rc = json_get_string(&prompt, c->out->source, "prompt", c->where, err);
    if (rc == GENARM_OK) {
        rc = json_get_string(&chosen, c->out->source, "chosen", c->where, err);
    }
    if (rc == GENARM_OK) {
        rc = json_get_string(&rejected, c->out->source, rejected_member(c), c->where, err);
    }
    if (rc == GENARM_OK && !dialogue_is_prompt(prompt)) {
        return no_dialogue(c, "prompt", "", err);
    }
    if (rc == GENARM_OK) {
        rc = add_turns(c, prompt, strlen(prompt), err);
    }
    if (rc != GENARM_OK) {
        return rc;
    }
    const size_t n = strlen(prompt);
    const bool repeated = strncmp(chosen, prompt, n) == 0 && strncmp(rejected, prompt, n) == 0;
    return set_responses(c, chosen + (repeated ? n : 0), rejected + (repeated ? n : 0), err);
}

int dialogue_question(struct conversion *c, struct genarm_error *err) {
    const char *prompt = json_string_value(json_object_get(c->out->source, "prompt"));
    if (prompt && dialogue_is_prompt(prompt)) {
        return add_turns(c, prompt, strlen(prompt), err);
    }
    return format_detect(c->out->source) == GENARM_DATA_HH_RLHF ? convert_hh_rlhf(c, err) : GENARM_OK;
}
