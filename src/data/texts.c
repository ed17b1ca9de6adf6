/* Formats whose prompts and responses are strings: genarm, pku-saferlhf, trl-standard. See formats.h. */
#include <string.h>

#include "data/formats.h"

static int get_responses(struct conversion *c, const char *chosen, const char *rejected, struct genarm_error *err) {
    const int rc = json_get_string(&c->out->chosen, c->out->source, chosen, c->where, err);
    return rc == GENARM_OK ? json_get_string(&c->out->rejected, c->out->source, rejected, c->where, err) : rc;
}

/* ---- genarm ---- */

/* {prompt, chosen, rejected, system?}; a prompt of several turns is a list of messages. */
int convert_genarm(struct conversion *c, struct genarm_error *err) {
    const json_t *prompt = json_object_get(c->out->source, "prompt");
    const char *system = NULL, *text = NULL;
    int rc = conversion_system(&system, c, err);
    if (rc == GENARM_OK && system) {
        rc = preference_add(c->out, "system", system, err);
    }
    if (rc == GENARM_OK && json_is_array(prompt)) {
        rc = conversation_add(c, prompt, "prompt", err);
        if (rc == GENARM_OK && system && c->out->n_messages > 1 && strcmp(c->out->messages[1].role, "system") == 0) {
            rc = error_set(err, GENARM_EFORMAT, "\"system\" is given, and \"prompt\" has a system message as well");
            return error_at(err, rc, "%s", c->where);
        }
    } else if (rc == GENARM_OK) {
        rc = json_get_string(&text, c->out->source, "prompt", c->where, err);
        if (rc == GENARM_OK) {
            rc = preference_add(c->out, "user", text, err);
        }
    }
    return rc == GENARM_OK ? get_responses(c, "chosen", rejected_member(c), err) : rc;
}

/* ---- pku-saferlhf ---- */

/* {prompt, response_0, response_1, better_response_id, safer_response_id}: which label counts is the caller's choice. */
int convert_pku_saferlhf(struct conversion *c, struct genarm_error *err) {
#define LABEL_MEMBER(id, name, member) member,
    static const char *const members[] = {GENARM_DATA_LABELS(LABEL_MEMBER)};
    const char *member = members[c->label], *prompt = NULL;
    const json_t *label = json_object_get(c->out->source, member);
    int rc = json_get_string(&prompt, c->out->source, "prompt", c->where, err);
    if (rc == GENARM_OK) {
        rc = preference_add(c->out, "user", prompt, err);
    }
    if (rc == GENARM_OK && !label) {
        rc = error_at(err, error_set(err, GENARM_EFORMAT, "\"%s\" is missing", member), "%s", c->where);
        rc = error_hint(err, rc, "choose the other label: --label %s",
                        label_name(c->label == GENARM_LABEL_BETTER ? GENARM_LABEL_SAFER : GENARM_LABEL_BETTER));
    } else if (rc == GENARM_OK && !json_is_null(label) && !json_is_integer(label)) {
        rc = error_at(err, error_set(err, GENARM_EFORMAT, "\"%s\" must be 0 or 1", member), "%s", c->where);
    }
    if (rc != GENARM_OK) {
        return rc;
    }
    const json_int_t better = json_is_null(label) ? -1 : json_integer_value(label);
    if (better != 0 && better != 1) {
        c->drop = PREF_UNLABELLED;
    }
    const char *const responses[] = {"response_0", "response_1"};
    return get_responses(c, responses[better == 1], responses[(better == 1) == c->alone], err);
}

/* ---- trl-standard ---- */

static bool alphanumeric(unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Letters with accents and the like have two bytes; scripts without spaces between words have three or more. */
static bool word_before(const char *text, size_t at) {
    const unsigned char *t = (const unsigned char *)text;
    return alphanumeric(t[at - 1]) || (at > 1 && (t[at - 1] & 0xC0) == 0x80 && (t[at - 2] & 0xE0) == 0xC0);
}

static bool word_at(const char *text, size_t at) {
    const unsigned char c = (unsigned char)text[at];
    return alphanumeric(c) || (c & 0xE0) == 0xC0;
}

static bool inside_character(const char *text, size_t at) { return ((unsigned char)text[at] & 0xC0) == 0x80; }

/* Bytes that two texts have in common, up to the end of a word and without the space behind it: the prompt that both
 * begin with. */
static size_t common_prompt(const char *a, const char *b) {
    size_t n = 0;
    while (a[n] && a[n] == b[n]) {
        n++;
    }
    while (n > 0 && (inside_character(a, n) || inside_character(b, n) ||
                     (word_before(a, n) && (word_at(a, n) || word_at(b, n))))) {
        n--;
    }
    return n > 0 && a[n - 1] == ' ' ? n - 1 : n;
}

/* {prompt?, chosen, rejected}: without a prompt both texts begin with it, and with one they may as well. Without one the rejected
 * text is needed in any case. */
int convert_trl_standard(struct conversion *c, struct genarm_error *err) {
    struct preference *p = c->out;
    const char *prompt = NULL;
    char *copy = NULL;
    int rc = json_opt_string(&prompt, p->source, "prompt", NULL, c->where, err);
    if (rc == GENARM_OK) {
        rc = get_responses(c, "chosen", prompt ? rejected_member(c) : "rejected", err);
    }
    if (rc != GENARM_OK) {
        return rc;
    }
    size_t n = 0;
    if (prompt) {
        const size_t n_prompt = strlen(prompt);
        const bool repeated = strncmp(p->chosen, prompt, n_prompt) == 0 && strncmp(p->rejected, prompt, n_prompt) == 0;
        n = repeated ? n_prompt : 0;
    } else {
        n = strcmp(p->chosen, p->rejected) == 0 ? 0 : common_prompt(p->chosen, p->rejected);
        c->drop = n > 0 ? PREF_NONE : *p->chosen && strcmp(p->chosen, p->rejected) == 0 ? PREF_EQUAL : PREF_NO_PROMPT;
        rc = preference_copy(p, &copy, p->chosen, n, err);
        prompt = copy;
    }
    p->chosen += n;
    p->rejected += n;
    return rc == GENARM_OK ? preference_add(p, "user", prompt, err) : rc;
}
