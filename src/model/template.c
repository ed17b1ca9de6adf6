/* Prompt templates: libllama's known chat formats by name or recognised in the model's own, and raw ones. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "model/llama_guard.h"
#include "model/model.h"
#include "model/spell.h"

enum { MAX_NAMES = 256 };

static const char raw_prefix[] = "raw:";

/* Appends the names of libllama's list, in their order. */
static int list_names(struct buf *b, struct genarm_error *err) {
    const char *names[MAX_NAMES];
    const int32_t n = llama_chat_builtin_templates(names, MAX_NAMES);
    int rc = GENARM_OK;
    for (int32_t i = 0; rc == GENARM_OK && i < n && i < MAX_NAMES; i++) {
        rc = buf_printf(b, err, "%s%s", i ? ", " : "", names[i]);
    }
    return rc;
}

static bool is_known(const char *name) {
    const char *names[MAX_NAMES];
    const int32_t n = llama_chat_builtin_templates(names, MAX_NAMES);
    for (int32_t i = 0; i < n && i < MAX_NAMES; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* GENARM_EINVAL with the list of names. `what` is the sentence before it. */
static int unknown(const char *what, const char *name, struct genarm_error *err) {
    struct buf names;
    buf_init(&names, 4096);
    int rc = list_names(&names, err);
    if (rc == GENARM_OK) {
        rc = error_set(err, GENARM_EINVAL, "%s%s; known templates: %s", what, name, names.data ? names.data : "");
        rc = error_hint(
            err, rc,
            "give one of these names, or raw:TEXT with {system} and {prompt} (--chat-template, --arm-template)");
    }
    buf_deinit(&names);
    return rc;
}

/* ---- libllama's formats ---- */

static int apply_known(char **out, const char *tmpl, bool own, const struct genarm_message *messages, size_t n,
                       struct genarm_error *err) {
    struct llama_chat_message *chat = calloc(n, sizeof *chat);
    char *text = NULL;
    int rc = chat ? GENARM_OK : error_nomem(err, "a prompt");
    for (size_t i = 0; chat && i < n; i++) {
        chat[i] = (struct llama_chat_message){.role = messages[i].role, .content = messages[i].content};
    }
    const int32_t size = chat ? guard_chat_apply(tmpl, chat, n, NULL, 0) : 0;
    if (size == GUARD_FAILED) {
        rc = error_set(err, GENARM_EINVAL, "libllama cannot apply the chat template: %s", guard_reason());
    } else if (size < 0) {
        rc = own ? unknown("the model's own chat template is not one that libllama knows", "", err)
                 : error_set(err, GENARM_EINVAL, "libllama cannot apply the chat template %s to these messages", tmpl);
    } else if (rc == GENARM_OK) {
        text = calloc((size_t)size + 1, 1);
        rc = text ? GENARM_OK : error_nomem(err, "a prompt");
    }
    if (rc == GENARM_OK && size > 0 && guard_chat_apply(tmpl, chat, n, text, size) != size) {
        rc = error_set(err, GENARM_EINVAL, "libllama cannot apply the chat template: %s", guard_reason());
    }
    free(chat);
    if (rc != GENARM_OK) {
        free(text);
        return rc;
    }
    *out = text;
    return GENARM_OK;
}

/* ---- raw ---- */

static bool is_raw(const char *name) { return name && strncmp(name, raw_prefix, sizeof raw_prefix - 1) == 0; }

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Whether a response is a text that needs white space before it where there is to be some. */
static bool begins_bare(const char *response) { return *response && !is_space(*response); }

/* Where the spaces begin that a text ends in. */
static const char *last_spaces(const char *text) {
    const char *end = text + strlen(text);
    while (end > text && end[-1] == ' ') {
        end--;
    }
    return end;
}

size_t template_lead(const char *name) { return is_raw(name) ? strlen(last_spaces(name)) : 0; }

size_t response_unlead(struct buf *text, size_t lead) {
    size_t n = text->len ? strspn(text->data, " ") : 0;
    n = n < lead ? n : lead;
    text->len -= n;
    if (n > 0) {
        memmove(text->data, text->data + n, text->len + 1);
    }
    return text->len ? 0 : lead - n;
}

/* Appends one turn: the template's text up to `end` with its escapes and its two fields replaced. */
static int apply_turn(struct buf *b, const char *text, const char *end, const char *system, const char *prompt,
                      struct genarm_error *err) {
    int rc = GENARM_OK;
    while (rc == GENARM_OK && text < end) {
        if (strncmp(text, "{system}", 8) == 0) {
            rc = buf_puts(b, system, err);
            text += 8;
        } else if (strncmp(text, "{prompt}", 8) == 0) {
            rc = buf_puts(b, prompt, err);
            text += 8;
        } else if (text[0] == '\\' && text[1] && strchr("nt\\", text[1])) {
            rc = buf_append(b, text[1] == 'n' ? "\n" : text[1] == 't' ? "\t" : "\\", 1, err);
            text += 2;
        } else {
            rc = buf_append(b, text++, 1, err);
        }
    }
    return rc;
}

static bool is_answer(const struct genarm_message *m) {
    return m->role && m->content && strcmp(m->role, "assistant") == 0 && *m->content;
}

/* Appends a turn of the assistant's, behind a mark and the template's spaces. */
static int append_answer(struct buf *b, const char *mark, const char *lead, const struct genarm_message *m,
                         struct genarm_error *err) {
    int rc = buf_puts(b, is_answer(m) ? mark : "", err);
    rc = rc == GENARM_OK ? buf_puts(b, begins_bare(m->content) ? lead : "", err) : rc;
    return rc == GENARM_OK ? buf_puts(b, m->content, err) : rc;
}

static int apply_raw(char **out, const char *text, const char *mark, const struct genarm_message *messages, size_t n,
                     struct genarm_error *err) {
    if (!strstr(text, "{prompt}")) {
        return error_set(err, GENARM_EINVAL, "the template raw:%s has no {prompt}", text);
    }
    struct buf b;
    buf_init(&b, INT32_MAX);
    const char *system = "", *end = last_spaces(text), *lead = ""; /* lead: spaces of a turn that wait for what follows it */
    int rc = buf_puts(&b, "", err);
    for (size_t i = 0; rc == GENARM_OK && i < n; i++) {
        if (strcmp(messages[i].role, "system") == 0) {
            system = messages[i].content;
        } else if (strcmp(messages[i].role, "user") == 0) {
            rc = buf_puts(&b, lead, err);
            rc = rc == GENARM_OK ? apply_turn(&b, text, end, system, messages[i].content, err) : rc;
            system = "";
            lead = end;
        } else if (strcmp(messages[i].role, "assistant") == 0) {
            rc = append_answer(&b, mark, lead, &messages[i], err);
            lead = "";
        } else {
            rc = error_set(err, GENARM_EINVAL, "a raw template has no place for the role \"%s\"", messages[i].role);
        }
    }
    if (rc != GENARM_OK) {
        buf_deinit(&b);
        return rc;
    }
    *out = b.data;
    return GENARM_OK;
}

/* As genarm_template_apply; in a raw template a mark comes before every answer. */
static int apply(char **out, const struct genarm_model *model, const char *name, const char *mark,
                 const struct genarm_message *messages, size_t n_messages, struct genarm_error *err) {
    if (n_messages == 0) {
        return error_set(err, GENARM_EINVAL, "there is no message to apply a template to");
    }
    for (size_t i = 0; i < n_messages; i++) {
        if (!messages[i].role || !messages[i].content) {
            return error_set(err, GENARM_EINVAL, "message %zu has no role or no content", i);
        }
    }
    if (!name || !*name) {
        return model->chat_template ? apply_known(out, model->chat_template, true, messages, n_messages, err)
                                    : apply_raw(out, "{prompt}", mark, messages, n_messages, err);
    }
    if (is_raw(name)) {
        return apply_raw(out, name + sizeof raw_prefix - 1, mark, messages, n_messages, err);
    }
    return is_known(name) ? apply_known(out, name, false, messages, n_messages, err)
                          : unknown("there is no chat template called ", name, err);
}

int genarm_template_apply(char **out, const struct genarm_model *model, const char *name,
                          const struct genarm_message *messages, size_t n_messages, struct genarm_error *err) {
    return apply(out, model, name, "", messages, n_messages, err);
}

/* ---- tokens ---- */

bool template_is_format(const struct genarm_model *model, const char *name) {
    return name && *name ? !is_raw(name) : model->chat_template != NULL;
}

enum { MARK_SIZE = 24 };

/* Notes which of the first n_marks marks a text contains. */
static void find_marks(bool *found, size_t n_marks, const char *text) {
    while ((text = strchr(text, '\x01')) != NULL) {
        char *end = (char *)++text;
        const unsigned long i = *text >= '0' && *text <= '9' ? strtoul(text, &end, 10) : n_marks;
        if (*end == '\x02' && i < n_marks) {
            found[i] = true;
        }
    }
}

/* A mark that no message contains: one goes over the messages once, as they may be full of such. Each takes three bytes or
 * more, so that one of as many as fit into them, and one more, is free. */
static int choose_mark(char mark[MARK_SIZE], const struct genarm_message *messages, size_t n, struct genarm_error *err) {
    size_t n_bytes = 0, i = 0;
    for (size_t m = 0; m < n; m++) {
        n_bytes += strlen(messages[m].content ? messages[m].content : "");
    }
    const size_t n_marks = n_bytes / 3 + 1;
    bool *found = calloc(n_marks, sizeof *found);
    if (!found) {
        return error_nomem(err, "a prompt");
    }
    for (size_t m = 0; m < n; m++) {
        find_marks(found, n_marks, messages[m].content ? messages[m].content : "");
    }
    while (found[i]) {
        i++;
    }
    free(found);
    snprintf(mark, MARK_SIZE, "\x01%zu\x02", i);
    return GENARM_OK;
}

/* As genarm_template_apply with a mark within every control token that a message spells, or, in a raw template and where it
 * matters, before every answer; mark "": there is none. */
static int apply_marked(char **out, char mark[MARK_SIZE], const struct genarm_model *model, const char *name,
                        const struct genarm_message *messages, size_t n, struct genarm_error *err) {
    const bool format = template_is_format(model, name);
    bool marked = false;
    for (size_t i = 0; i < n; i++) {
        marked |= format ? messages[i].content && controls_spelled(&model->controls, messages[i].content)
                         : spell_puts_space(model) && is_answer(&messages[i]);
    }
    mark[0] = '\0';
    int rc = marked ? choose_mark(mark, messages, n, err) : GENARM_OK;
    if (!marked || !format || rc != GENARM_OK) {
        return rc == GENARM_OK ? apply(out, model, name, mark, messages, n, err) : rc;
    }
    struct genarm_message *cut = calloc(n, sizeof *cut);
    struct buf *contents = calloc(n, sizeof *contents);
    rc = cut && contents ? GENARM_OK : error_nomem(err, "a prompt");
    for (size_t i = 0; i < n && rc == GENARM_OK; i++) {
        buf_init(&contents[i], INT32_MAX);
        rc = controls_cut(&contents[i], &model->controls, messages[i].content ? messages[i].content : "", mark, err);
        cut[i] = (struct genarm_message){messages[i].role, contents[i].data};
    }
    if (rc == GENARM_OK) {
        rc = genarm_template_apply(out, model, name, cut, n, err);
    }
    for (size_t i = 0; i < n && contents; i++) {
        buf_deinit(&contents[i]);
    }
    free(contents);
    free(cut);
    return rc;
}

/* A raw template may begin with BOS itself: it does not come twice. */
static void drop_second_bos(int32_t *tokens, int32_t *n, const struct llama_vocab *vocab) {
    const int32_t bos = llama_vocab_bos(vocab);
    if (llama_vocab_get_add_bos(vocab) && *n > 1 && tokens[0] == bos && tokens[1] == bos) {
        memmove(tokens + 1, tokens + 2, (size_t)(--*n - 1) * sizeof *tokens);
    }
}

/* Whether a response goes on from the prompt, in which case the vocabulary puts no space between them. */
static bool is_joined(char last, char first) { return is_space(last) || is_space(first); }

int template_tokens(int32_t **out, int32_t *n, const struct genarm_model *model, const char *name,
                    const struct genarm_message *messages, size_t n_messages, struct genarm_error *err) {
    char *text = NULL, mark[MARK_SIZE];
    int32_t *tokens = NULL, n_tokens = 0;
    int rc = apply_marked(&text, mark, model, name, messages, n_messages, err);
    if (rc != GENARM_OK) {
        return rc;
    }
    enum spell_start start = SPELL_BOS;
    for (const char *piece = text, *end, *next; piece && rc == GENARM_OK; piece = next) {
        end = *mark ? strstr(piece, mark) : NULL;
        next = end ? end + strlen(mark) : NULL;
        const size_t n_piece = end ? (size_t)(end - piece) : strlen(piece);
        rc = spell_append(&tokens, &n_tokens, model, piece, n_piece, start, true, err);
        start = template_is_format(model, name) || (next && is_joined(n_piece ? end[-1] : '\0', *next)) ? SPELL_REST : SPELL_TEXT;
    }
    if (rc == GENARM_OK && n_tokens == 0) {
        rc = error_set(err, GENARM_EINVAL, "the prompt is empty");
    }
    drop_second_bos(tokens, &n_tokens, model->vocab);
    free(text);
    if (rc != GENARM_OK) {
        free(tokens);
        return rc;
    }
    *out = tokens;
    *n = n_tokens;
    return GENARM_OK;
}

/* As is_joined, where that matters; *joined is set on success. */
static int find_joined(bool *joined, const struct genarm_model *model, const char *name, const struct genarm_message *messages,
                     size_t n_messages, const char *response, struct genarm_error *err) {
    char *prompt = NULL;
    *joined = is_joined('\0', response[0]);
    const bool known = *joined || !spell_puts_space(model);
    const int rc = known ? GENARM_OK : genarm_template_apply(&prompt, model, name, messages, n_messages, err);
    const size_t n = prompt ? strlen(prompt) : 0;
    *joined |= n > 0 && is_joined(prompt[n - 1], response[0]);
    free(prompt);
    return rc;
}

int response_tokens(int32_t **out, int32_t *n, const struct genarm_model *model, const char *name,
                    const struct genarm_message *messages, size_t n_messages, const char *response, bool finished,
                    struct genarm_error *err) {
    const int32_t end = genarm_token_eos(model);
    int32_t *tokens = NULL, n_tokens = 0;
    struct buf text;
    bool joined;
    buf_init(&text, INT32_MAX);
    int rc = buf_printf(&text, err, "%*s%s", begins_bare(response) ? (int)template_lead(name) : 0, "", response);
    rc = rc == GENARM_OK ? find_joined(&joined, model, name, messages, n_messages, text.data, err) : rc;
    if (rc == GENARM_OK) {
        rc = spell_append(&tokens, &n_tokens, model, text.data, text.len, joined ? SPELL_REST : SPELL_TEXT, false, err);
    }
    buf_deinit(&text);
    if (rc != GENARM_OK) {
        free(tokens);
        return rc;
    }
    if (finished && end >= 0) {
        tokens[n_tokens++] = end;
    }
    *out = tokens;
    *n = n_tokens;
    return GENARM_OK;
}
